//! `wasi:http`: requests that a guest sends.

use std::sync::Arc;

use http::{HeaderName, Request};
use scf_core::{Call, Function, PrepareError};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::{Services, World};
use crate::{
    outbound::{Allow, Sent, Terms},
    wasm::live::Guest,
};

/// Bytes that a guest's headers have at most, as the host keeps them.
const FIELDS: usize = 64 << 10;
/// Bytes that a guest can write to a body at once; twice as much waits to be sent.
const WRITE: usize = 64 << 10;
/// Connections that one call has open at the same time.
const CONNECTIONS: usize = 16;

/// The terms on which a function's requests are sent, if its component imports what sends them.
pub(super) fn terms(
    function: &Function,
    services: &Services,
    is_imported: bool,
) -> Result<Option<Terms>, PrepareError> {
    let allow = Allow::of(&function.grants.http).map_err(|(grant, problem)| PrepareError::Grant {
        function: function.name.clone(),
        grant: format!("http {:?}", grant.host),
        problem: problem.into(),
    })?;
    if !is_imported {
        return Ok(None);
    }
    let client = services.http.clone().unwrap_or_default();
    let tls = client.tls();
    let tls = tls.map_err(|error| PrepareError::Host { function: function.name.clone(), source: error.into() })?;
    Ok(Some(Terms { client, tls, allow: Arc::new(allow), limit: function.limits.payload.bytes() }))
}

/// What a guest has of `wasi:http` during a call.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    terms: Terms,
    /// None before the first call; nothing is sent until then.
    call: Option<Call>,
    connections: Arc<Semaphore>,
}

impl Http {
    fn new(terms: &Terms, call: Option<&Call>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        Self { ctx, hooks: Hooks { terms: terms.clone(), call: call.map(super::copy), connections } }
    }
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    /// It is set to what was checked when the request is sent.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let slot = Arc::clone(&self.connections).try_acquire_owned();
        let patience = self.call.as_ref().map(|call| call.deadline.since(call.host.now()));
        let output = self.call.as_ref().and_then(|call| call.output.clone());
        let terms = self.terms.clone();
        Box::new(async move {
            let patience = patience.ok_or(Error::HttpRequestDenied)?;
            let slot = slot.map_err(|_| Error::ConnectionLimitReached)?;
            if let Some(output) = output {
                let failed = |error: scf_core::StateError| Error::InternalError(Some(error.to_string()));
                output.open().await.map_err(failed)?;
            }
            terms.send(request, options.unwrap_or_default(), patience, slot).await
        })
    }
}

impl World {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Self { http, plan, call, table, .. } = self;
        let Http { ctx, hooks } = &mut **http.get_or_insert_with(|| {
            let terms = plan.http.as_ref().expect("only components that import it are linked to it");
            Box::new(Http::new(terms, call.as_ref()))
        });
        WasiHttpCtxView { hooks, table, ctx }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.world().http()
    }
}
