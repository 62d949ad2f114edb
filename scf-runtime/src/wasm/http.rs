//! Components that handle HTTP requests.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::future;
use http::{HeaderName, Response};
use http_body_util::BodyExt;
use scf_core::{
    BoxError, Call, InvokeError, Isolate, LimitKind, MediaType, Payload, Prepared, Reply, Reuse, Timestamp, Usage,
};
use wasmtime::{
    Engine, Store,
    component::{Component, types::ComponentItem},
};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
    p2::bindings::{Proxy, ProxyPre, http::types::Scheme},
};

use super::isolate::{Guest, Program};
use crate::{
    cpu::CpuMeter,
    escape::escape,
    http::{BodyError, Exchange, HANDLER, Progress, Relay, pack_response},
};

/// Bytes that a guest's headers have at most, as the host keeps them.
const FIELDS: usize = 64 << 10;
/// Bytes that a guest can write to a body at once; twice as much waits to be sent.
const WRITE: usize = 64 << 10;

/// The full name of the handler that a component exports, when `export` asks for it.
pub(super) fn handler(component: &Component, engine: &Engine, export: &str) -> Option<String> {
    let (wanted, version) = export.split_once('@').unwrap_or((export, ""));
    if wanted != HANDLER {
        return None;
    }
    let world = component.component_type();
    let found = world.exports(engine).find(|(name, found)| {
        let (name, given) = name.split_once('@').unwrap_or((name, ""));
        let is_asked_for = name == HANDLER && given.starts_with("0.2.") && (version.is_empty() || version == given);
        is_asked_for && matches!(found.ty, ComponentItem::ComponentInstance(_))
    });
    found.map(|(name, _)| name.to_owned())
}

/// Whether handlers may import the interface.
pub(super) fn provides(import: &str) -> bool {
    let version = import.rsplit_once('@').map_or("", |(_, version)| version);
    version.starts_with("0.2.") && import.starts_with("wasi:http/")
}

/// What a guest has of `wasi:http`.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    pub(super) fn new() -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS);
        Self { ctx, hooks: Hooks }
    }
}

struct Hooks;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE
    }

    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> SendRequest {
        Box::new(future::ready(Err(Error::HttpRequestDenied)))
    }
}

/// A response, and what goes on until its body has come.
type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);
type SendRequest = Box<dyn Future<Output = Result<Sent, Error>> + Send>;

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("whoever handles requests imports WASI and is linked to it");
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut wasi.table, ctx: &mut self.http.ctx }
    }
}

/// A function that handles requests, linked and ready.
#[derive(Debug)]
pub(super) struct HttpPrepared(Arc<Ready>);

struct Ready {
    program: Arc<Program>,
    pre: ProxyPre<Guest>,
    reuse: Reuse,
    /// Instances that wait for a request, the one used last at the back.
    idle: Mutex<VecDeque<Kept>>,
}

/// An instance that can serve another request.
struct Kept {
    store: Store<Guest>,
    proxy: Proxy,
    /// Requests that it has served.
    served: u32,
    since: Timestamp,
}

impl HttpPrepared {
    pub(super) fn new(program: Program, reuse: Reuse) -> wasmtime::Result<Self> {
        let pre = ProxyPre::new(program.pre.clone())?;
        Ok(Self(Arc::new(Ready { program: Arc::new(program), pre, reuse, idle: Mutex::default() })))
    }
}

#[async_trait]
impl Prepared for HttpPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(HttpIsolate(Arc::clone(&self.0))))
    }

    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        let mut idle = self.0.idle();
        let kept = idle.len().min(isolates as usize);
        let surplus = idle.len() - kept;
        let retired: Vec<_> = idle.drain(..surplus).collect();
        drop(idle);
        drop(retired);
        Ok(u32::try_from(kept).unwrap_or(u32::MAX))
    }
}

#[derive(Debug)]
struct HttpIsolate(Arc<Ready>);

#[async_trait]
impl Isolate for HttpIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let ready = &self.0;
        if let Some(exchange) = call.attachment.get::<Exchange>() {
            return ready.serve(call, exchange).await;
        }
        let (exchange, response) = Exchange::unpack(&ready.program.function, ready.program.limits.payload, &input)?;
        let response = async {
            let (parts, body) = response.await.ok()?.into_parts();
            // Why a body breaks off, the call itself says.
            Some(pack_response(&parts, body.collect().await.ok()?))
        };
        let (reply, response) = futures::join!(ready.serve(call, &exchange), response);
        let (reply, response) = (reply?, response.ok_or_else(|| ready.trapped("its response broke off"))?);
        Ok(Reply { payload: Payload::new(response).with_media(MediaType::HTTP), ..reply })
    }
}

/// A response that is broken off when its call is given up.
struct Unfinished<'a>(&'a Progress);

impl Unfinished<'_> {
    fn end(self, broken: Option<BodyError>) {
        if let Some(relay) = self.0.relay() {
            relay.end(broken);
        }
        mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(relay) = self.0.relay() {
            relay.end(Some(BodyError::BrokenOff));
        }
    }
}

impl Ready {
    /// Runs one request in an instance: one that was kept, or a fresh one.
    async fn serve(&self, call: &Call, exchange: &Exchange) -> Result<Reply, InvokeError> {
        let program = &self.program;
        let now = call.host.now();
        let meter = Arc::new(CpuMeter::default());
        let kept = self.take(now);
        let reused = kept.is_some();
        let (mut store, kept) = match kept {
            Some(Kept { mut store, proxy, served, since }) => {
                store.data_mut().renew(Arc::clone(&meter));
                (store, Some((proxy, served, since)))
            }
            None => (program.store(Arc::clone(&meter)), None),
        };
        // Declared after the store, and so dropped before it: what is cut off must not look complete.
        let unfinished = Unfinished(exchange.progress());
        let work = async {
            let (proxy, served, since) = match kept {
                Some(kept) => kept,
                None => (self.pre.instantiate_async(&mut store).await?, 0, now),
            };
            handle(&mut store, &proxy, exchange).await?;
            wasmtime::Result::Ok((proxy, served + 1, since))
        };
        let result = meter.run(program.machine.ticker.during(work)).await;
        let result = result.map_err(|error| program.explain(&error, store.data(), call));
        let (memory, refused_memory) = (store.data().ledger.memory(), store.data().ledger.has_refused());
        let (result, is_settled) = match (result, self.end(exchange.progress())) {
            (Ok(kept), Ok(is_settled)) => (Ok(kept), is_settled),
            // A body that was too long is why a guest fails that does not expect one.
            (_, Err(error @ InvokeError::Limit { .. })) | (Err(error), _) | (Ok(_), Err(error)) => (Err(error), false),
        };
        unfinished.end(result.is_err().then_some(BodyError::BrokenOff));
        let result = match result {
            Ok((proxy, served, since)) if is_settled && !refused_memory => {
                self.put(Kept { store, proxy, served, since }, now);
                Ok(())
            }
            result => {
                drop(store);
                result.map(drop)
            }
        };
        let cpu = meter.used();
        call.host.pace(cpu).await;
        result?;
        Ok(Reply { reused, ..Reply::new(Payload::default(), Usage { cpu, memory, ..Usage::default() }) })
    }

    /// Takes over what the guest has written. `true` when it had finished its response; an error where there
    /// is none, or a body went over its limit.
    fn end(&self, progress: &Progress) -> Result<bool, InvokeError> {
        drop(progress.close());
        if progress.is_input_too_long() {
            return Err(self.program.limit(LimitKind::Input));
        }
        match progress.answer() {
            Some(Ok(relay)) => {
                let is_settled = relay.settle();
                if relay.is_too_long() { Err(self.program.limit(LimitKind::Output)) } else { Ok(is_settled) }
            }
            Some(Err(code)) => Err(self.trapped(&format!("its response is {code}"))),
            None => Err(self.trapped("it ended without a response")),
        }
    }

    fn trapped(&self, message: &str) -> InvokeError {
        InvokeError::Trapped { function: self.program.function.clone(), message: escape(message) }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance that may serve another request.
    fn take(&self, now: Timestamp) -> Option<Kept> {
        let Reuse::Warm { max_age, .. } = self.reuse else { return None };
        loop {
            // Those that are too old are dropped outside the lock.
            let kept = self.idle().pop_back()?;
            if now.since(kept.since) < max_age {
                return Some(kept);
            }
        }
    }

    /// Keeps an instance, if it may serve another request and there is room.
    fn put(&self, kept: Kept, now: Timestamp) {
        let Reuse::Warm { max_idle, max_calls, max_age } = self.reuse else { return };
        let is_young = |kept: &Kept| now.since(kept.since) < max_age;
        if kept.served >= max_calls || !is_young(&kept) {
            return;
        }
        let mut idle = self.idle();
        // The one used longest ago goes where it is too old, or there is one too many.
        let old = idle.pop_front_if(|first| !is_young(first));
        let surplus = if idle.len() < max_idle as usize {
            idle.push_back(kept);
            None
        } else {
            Some(kept)
        };
        drop(idle);
        drop((old, surplus));
    }
}

/// Gives the request to the guest and waits until it returns.
async fn handle(store: &mut Store<Guest>, proxy: &Proxy, exchange: &Exchange) -> wasmtime::Result<()> {
    let request = exchange.take().ok_or_else(|| wasmtime::format_err!("the request was taken before"))?;
    let scheme = if request.uri().scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let request = request.map(|body| body.map_err(|error| explain_input(&error)));
    let (limit, progress) = (exchange.limit(), Arc::clone(exchange.progress()));
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let out = http.new_response_outparam_from_callback(move |response| {
        progress.respond(match response {
            Ok(response) => Ok(response.map(|body| {
                let body = body.map_err(BoxError::from).boxed_unsync();
                Relay::new(body, limit, Arc::clone(&progress))
            })),
            Err(code) => Err(format!("{code:?}")),
        });
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// What a guest is told about a request's body that breaks off.
fn explain_input(error: &BoxError) -> Error {
    match error.downcast_ref() {
        Some(BodyError::TooLong) => Error::HttpRequestBodySize(None),
        _ => Error::ConnectionTerminated,
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("program", &self.program).field("reuse", &self.reuse).finish_non_exhaustive()
    }
}
