//! `wasi:http`: requests that a guest sends.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use http::{HeaderName, Request};
use http_body::Body;
use scf_core::{Call, Function, PrepareError};
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::{Services, World};
use crate::{
    http::write_trace,
    outbound::{Allow, Sent, Terms},
    wasm::live::Guest,
};

/// Bytes that a guest's headers have at most, as the host keeps them.
const FIELDS: usize = 64 << 10;
/// Bytes that a guest can write to a body at once, and how many writes wait to be sent: 2 MiB, what `wasmtime serve`
/// takes. Engines of languages write a whole response before they say that there is one, and wait for ever where it
/// is not taken.
const WRITE: usize = 64 << 10;
const WRITES: usize = 32;
/// Bodies that take so much at the same time without having been sent.
const LARGE: u32 = 8;
/// The same of all further ones: together with those not more than 24 MiB for all that a guest has handles for.
const SMALL_WRITE: usize = 4 << 10;
const SMALL_WRITES: usize = 2;
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
    call: Option<Arc<Call>>,
    connections: Arc<Semaphore>,
    unsent: Unsent,
}

/// Counts the bodies that a guest has made and not sent: what it writes to them waits at the host.
///
/// One that is dropped unsent stays counted, which only makes those after it smaller.
#[derive(Clone, Debug, Default)]
pub(in crate::wasm) struct Unsent(Arc<AtomicU32>);

impl Unsent {
    fn has_room(&self) -> bool {
        self.0.load(Relaxed) < LARGE
    }

    fn made(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The host takes from `body` from now on.
    pub(in crate::wasm) fn sent(&self, body: &impl Body) {
        // A message whose body was not asked for has one that is empty, and was not counted.
        if !body.is_end_stream() {
            let _ = self.0.fetch_update(Relaxed, Relaxed, |unsent| unsent.checked_sub(1));
        }
    }
}

impl Http {
    fn new(terms: &Terms, call: Option<&Arc<Call>>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let (terms, unsent) = (terms.clone(), Unsent::default());
        Self { ctx, hooks: Hooks { terms, call: call.cloned(), connections, unsent } }
    }

    /// Serves another call of the same guest, which may have kept bodies of the one before, unless it `has_nothing`.
    pub(super) fn renew(&mut self, call: &Arc<Call>, has_nothing: bool) {
        if has_nothing {
            self.hooks.unsent.0.store(0, Relaxed);
        }
        self.hooks.call = Some(Arc::clone(call));
        // Connections of the call before may still be open.
        if self.hooks.connections.available_permits() < CONNECTIONS {
            self.hooks.connections = Arc::new(Semaphore::new(CONNECTIONS));
        }
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

    /// Asked for each body that a guest makes, before its size; one more waits.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        if self.unsent.has_room() { WRITES - 1 } else { SMALL_WRITES - 1 }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        let is_large = self.unsent.has_room();
        self.unsent.made();
        if is_large { WRITE } else { SMALL_WRITE }
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        self.unsent.sent(request.body());
        let slot = Arc::clone(&self.connections).try_acquire_owned();
        let patience = self.call.as_ref().map(|call| call.deadline.since(call.host.now()));
        let output = self.call.as_ref().and_then(|call| call.output.clone());
        if let Some(trace) = self.call.as_ref().and_then(|call| call.trace.as_ref()) {
            write_trace(trace, request.headers_mut());
        }
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
    fn http(&mut self) -> (&mut Http, &mut ResourceTable) {
        let Self { http, plan, call, table, .. } = self;
        let http = http.get_or_insert_with(|| {
            let terms = plan.http.as_ref().expect("only components that import it are linked to it");
            Box::new(Http::new(terms, call.as_ref()))
        });
        (http, table)
    }

    /// What counts the bodies of its guest.
    pub(in crate::wasm) fn unsent(&mut self) -> Unsent {
        self.http().0.hooks.unsent.clone()
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (Http { ctx, hooks }, table) = self.world().http();
        WasiHttpCtxView { hooks, table, ctx }
    }
}
