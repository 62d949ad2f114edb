//! Components that handle HTTP requests.

use std::sync::Arc;

use http_body_util::BodyExt;
use scf_core::{Attachment, BoxError, Call, InvokeError, LimitKind, MediaType, Payload, Reply};
use tokio::task;
use wasmtime::{
    Engine, Store,
    component::{Component, types::ComponentItem},
};
use wasmtime_wasi_http::{
    Error, WasiHttpView,
    p2::bindings::{Proxy, http::types::Scheme},
};

use super::{
    live::{Guest, Task},
    made::Made,
    program::Program,
};
use crate::{
    escape::escape,
    http::{BodyError, Exchange, HANDLER, Progress, Relay, pack_response},
};

/// How often the executor is let go on to the tasks that bring the end of a response.
const SETTLING: u32 = 64;

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

/// Serves a call with the request that goes with it, or that it has as its input where it came from another node.
pub(super) async fn serve(made: &Made, part: usize, call: &Call, input: &Payload) -> Result<Reply, InvokeError> {
    if call.attachment.get::<Exchange>().is_some() {
        return exchange(made, part, call, call.attachment.clone()).await;
    }
    let program = &made.program;
    let (unpacked, response) = Exchange::unpack(&program.function, program.limits.payload, input)?;
    let response = async {
        let (parts, body) = response.await.ok()?.into_parts();
        // Why a body breaks off, the call itself says.
        Some(pack_response(&parts, body.collect().await.ok()?))
    };
    let (reply, response) = futures::join!(exchange(made, part, call, Attachment::new(unpacked)), response);
    let (reply, response) = (reply?, response.ok_or_else(|| trapped(program, "its response broke off"))?);
    Ok(Reply { payload: Payload::new(response).with_media(MediaType::HTTP), ..reply })
}

async fn exchange(made: &Made, part: usize, call: &Call, attachment: Attachment) -> Result<Reply, InvokeError> {
    let program = &made.program;
    let progress = match attachment.get::<Exchange>() {
        Some(exchange) => Arc::clone(exchange.progress()),
        None => return Err(trapped(program, "it was called without a request")),
    };
    let task = Task::Request(attachment);
    let mut live = match &call.state {
        #[cfg(feature = "services")]
        Some(session) => Box::pin(made.run_stateful(part, call, &**session, task)).await?,
        _ => made.run(part, call, task).await?,
    };
    let (usage, reused, calls) = (live.usage(), live.reused, live.take_receipts());
    settled(&progress).await;
    let written = end(program, &progress);
    let may_keep = live.refused().is_none() && matches!(written, Ok(true));
    // Before the instance goes: what is cut off must not look complete.
    let is_broken = written.is_err() || live.has_failed();
    if let Some(relay) = progress.relay() {
        relay.end(is_broken.then_some(BodyError::BrokenOff));
    }
    let result = match (made.settle(live, call, may_keep), written) {
        // A body that was too long is why a guest fails that does not expect one.
        (_, Err(error @ InvokeError::Limit { .. })) | (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(_), Ok(_)) => Ok(()),
    };
    if call.host.paces() {
        call.host.pace(usage.cpu).await;
    }
    result?;
    Ok(Reply { reused, calls, ..Reply::new(Payload::default(), usage) })
}

/// Waits a little for the tasks that bring what the guest has written: it has returned, so that is all there will be.
async fn settled(progress: &Progress) {
    for _ in 0..SETTLING {
        match progress.relay() {
            Some(relay) if !relay.settle() => task::yield_now().await,
            _ => return,
        }
    }
}

/// Takes over what the guest has written. `true` when it had finished its response; an error where there is none, or
/// a body went over its limit.
fn end(program: &Program, progress: &Progress) -> Result<bool, InvokeError> {
    drop(progress.close());
    if progress.is_input_too_long() {
        return Err(program.limit(LimitKind::Input));
    }
    match progress.answer() {
        Some(Ok(relay)) => {
            let is_settled = relay.settle();
            if relay.is_too_long() { Err(program.limit(LimitKind::Output)) } else { Ok(is_settled) }
        }
        Some(Err(code)) => Err(trapped(program, &format!("its response is {code}"))),
        None => Err(trapped(program, "it ended without a response")),
    }
}

fn trapped(program: &Program, message: &str) -> InvokeError {
    InvokeError::Trapped { function: program.function.clone(), message: escape(message) }
}

/// Gives the request to the guest and waits until it returns.
pub(super) async fn handle(store: &mut Store<Guest>, proxy: &Proxy, request: &Attachment) -> wasmtime::Result<()> {
    let exchange = request.get::<Exchange>().ok_or_else(|| wasmtime::format_err!("there is no request"))?;
    let request = exchange.take().ok_or_else(|| wasmtime::format_err!("the request was taken before"))?;
    let scheme = if request.uri().scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let request = request.map(|body| body.map_err(|error| explain_input(&error)));
    let (limit, progress) = (exchange.limit(), Arc::clone(exchange.progress()));
    // Inside of what has the instance, and so dropped before it where the call is given up.
    let mut unfinished = Unfinished(Some(Arc::clone(&progress)));
    let unsent = store.data_mut().world().unsent();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let out = http.new_response_outparam_from_callback(move |response| {
        if let Ok(response) = &response {
            unsent.sent(response.body());
        }
        progress.respond(match response {
            Ok(response) => Ok(response.map(|body| {
                let body = body.map_err(BoxError::from).boxed_unsync();
                Relay::new(body, limit)
            })),
            Err(code) => Err(format!("{code:?}")),
        });
    })?;
    let handled = proxy.wasi_http_incoming_handler().call_handle(store, request, out).await;
    unfinished.0 = None;
    handled
}

/// A response that is broken off when its call is given up.
struct Unfinished(Option<Arc<Progress>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(relay) = self.0.as_ref().and_then(|progress| progress.relay()) {
            relay.end(Some(BodyError::BrokenOff));
        }
    }
}

/// What a guest is told about a request's body that breaks off.
fn explain_input(error: &BoxError) -> Error {
    match error.downcast_ref() {
        Some(BodyError::TooLong) => Error::HttpRequestBodySize(None),
        _ => Error::ConnectionTerminated,
    }
}
