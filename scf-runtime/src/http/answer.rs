//! One request on its way.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use scf_core::{
    Attachment, BoxError, Code, Function, Invocation, InvokeError, LimitKind, MediaType, Outcome, Payload, Receipt,
};
use tokio::{task::AbortHandle, time::timeout};

use super::{
    HANDLER,
    body::Relay,
    exchange::Exchange,
    ingress::{Options, Shared},
    message,
    problem::Problem,
    serve::Busy,
    trace,
    traffic::{Passage, Turned},
};

/// When an ingress that is full may have room again.
const RETRY: Duration = Duration::from_secs(1);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The body of a response. Dropping it before its end gives up the call that makes it.
#[derive(Debug)]
pub struct AnswerBody {
    content: Content,
    /// Bytes that are still to come, where the response says how many it has.
    left: Option<u64>,
    /// The call, if it still runs.
    call: Option<AbortHandle>,
    passage: Option<Passage>,
    busy: Option<Busy>,
}

enum Content {
    Whole(Bytes),
    Streamed(Relay),
}

/// What the head of a request says.
struct Asked {
    invocation: Invocation,
    patience: Duration,
}

/// Answers one request.
pub(super) async fn answer<B>(shared: &Shared, request: Request<B>) -> Response<AnswerBody>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let passage = match shared.traffic.enter(shared.options.requests) {
        Ok(passage) => passage,
        Err(turned) => return turn_away(turned).map(AnswerBody::whole),
    };
    let mut response = match serve(shared, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response().map(AnswerBody::whole),
    };
    response.body_mut().passage = Some(passage);
    response
}

fn turn_away(turned: Turned) -> Response<Bytes> {
    let problem = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    match turned {
        Turned::Full => problem("too many requests are being answered").retry_after(RETRY).into_response(),
        Turned::Closed => {
            let mut response = problem("the server shuts down").into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

async fn serve<B>(shared: &Shared, request: Request<B>) -> Result<Response<AnswerBody>, Problem>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let Options { headers, .. } = &shared.options;
    if size(&parts.headers) > headers.bytes() {
        let detail = format_args!("the headers are longer than {headers}");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail).field("headers"));
    }
    let path = parts.uri.path();
    let no_function = || Problem::new(StatusCode::NOT_FOUND, format_args!("no function answers {path}"));
    let name = shared.find(host(&parts), path).ok_or_else(no_function)?;
    let function = shared.fabric.function(name);
    let function = function.ok_or_else(|| Problem::failed(name, &InvokeError::NotFound { function: name.clone() }))?;
    let limit = function.limits.payload;
    if length(&parts.headers).or_else(|| body.size_hint().exact()).is_some_and(|length| length > limit.bytes()) {
        return Err(too_long(&function));
    }
    let asked = ask(&shared.options, &function, &parts, shared.fabric.new_id())?;
    if handles_requests(&function) {
        return stream(shared, asked, Request::from_parts(parts, body), &function).await;
    }
    if !matches!(parts.method, Method::POST | Method::PUT | Method::GET) {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "functions are called by POST, PUT or GET")
            .of(name)
            .field("method"));
    }
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time").of(name).field("body");
    let most = usize::try_from(limit.bytes()).unwrap_or(usize::MAX);
    let body = timeout(asked.patience, Limited::new(body, most).collect()).await.map_err(|_| late())?;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_long(&function)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, format_args!("the body broke off: {error}")).of(name).field("body")
        }
    })?;
    let media = media(&parts.headers, &function.input)?;
    let mut invocation = asked.invocation;
    invocation.payload = Payload { bytes: body.to_bytes(), media };
    let Outcome { payload, receipt } =
        shared.fabric.invoke(invocation).await.map_err(|error| Problem::failed(name, &error))?;
    let mut response = Response::new(AnswerBody::whole(payload.bytes));
    if let Ok(media) = HeaderValue::from_str(payload.media.as_str()) {
        response.headers_mut().insert(header::CONTENT_TYPE, media);
    }
    Ok(finish(shared, response, Some(&receipt)))
}

/// Gives the request itself to the function, and answers as soon as that does.
async fn stream<B>(
    shared: &Shared,
    asked: Asked,
    request: Request<B>,
    function: &Function,
) -> Result<Response<AnswerBody>, Problem>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let name = &function.name;
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the request names no host").of(name).field("host"));
    }
    let (exchange, mut response) = Exchange::new(name.clone(), function.limits.payload, request);
    let mut invocation = asked.invocation.attach(Attachment::new(exchange));
    invocation.payload.media = MediaType::HTTP;
    let fabric = shared.fabric.clone();
    let mut call = Box::pin(async move { fabric.invoke(invocation).await });
    let outcome = tokio::select! {
        biased;
        outcome = &mut call => outcome,
        Ok(response) = &mut response => {
            // The call goes on by itself: a caller that reads slowly does not keep it from its deadline.
            let call = tokio::spawn(async move {
                if let Err(error) = call.await {
                    tracing::debug!(%error, "a call failed after its response had begun");
                }
            });
            let left = length(response.headers());
            let body = |relay| {
                let mut body = AnswerBody::new(Content::Streamed(relay));
                (body.left, body.call) = (left, Some(call.abort_handle()));
                body
            };
            return Ok(finish(shared, response.map(body), None));
        }
    };
    let Outcome { payload, receipt } = outcome.map_err(|error| Problem::failed(name, &error))?;
    let response = match response.try_recv() {
        Ok(response) => response.map(|relay| AnswerBody::new(Content::Streamed(relay))),
        // It ran on another node.
        Err(_) => {
            let unreadable = || {
                let message = "the response is not readable".into();
                Problem::failed(name, &InvokeError::Host { function: name.clone(), message })
            };
            message::read_response(&payload.bytes).ok_or_else(unreadable)?.map(AnswerBody::whole)
        }
    };
    Ok(finish(shared, response, Some(&receipt)))
}

/// The invocation that the head of a request asks for, without what it is given.
fn ask(options: &Options, function: &Function, parts: &Parts, id: scf_core::InvocationId) -> Result<Asked, Problem> {
    let patience = options.patience.map_or(function.limits.wall, |patience| patience.min(function.limits.wall));
    let mut invocation = Invocation::new(id, function.name.clone(), Payload::default()).patience(patience);
    if let Some(tenant_of) = &options.tenant_of {
        let refused = |status| Problem::new(status, "the credential is not accepted").of(&function.name);
        invocation.tenant = tenant_of(parts).map_err(refused)?;
    }
    invocation.key = options.key_of.as_ref().and_then(|key_of| key_of(parts));
    invocation.trace = trace::read(&parts.headers);
    Ok(Asked { invocation, patience })
}

fn finish(shared: &Shared, mut response: Response<AnswerBody>, receipt: Option<&Receipt>) -> Response<AnswerBody> {
    if let Some(receipt) = receipt.filter(|_| shared.options.server_timing)
        && let Ok(timing) = HeaderValue::try_from(timing(receipt))
    {
        response.headers_mut().insert(SERVER_TIMING, timing);
    }
    response
}

fn timing(receipt: &Receipt) -> String {
    // Milliseconds, to the microsecond. In whole numbers, which are written several times as fast as fractions.
    let ms = |time: Duration| (time.as_millis(), time.subsec_micros() % 1000);
    let ((cpu, c), (queue, q), (wall, w)) = (ms(receipt.total_cpu()), ms(receipt.queued), ms(receipt.wall));
    let start = if receipt.cold { "cold" } else { "warm" };
    format!("cpu;dur={cpu}.{c:03}, queue;dur={queue}.{q:03}, wall;dur={wall}.{w:03}, {start}")
}

fn handles_requests(function: &Function) -> bool {
    match &function.code {
        Code::Component { export, .. } => export.split('@').next() == Some(HANDLER),
        _ => false,
    }
}

fn too_long(function: &Function) -> Problem {
    let name = &function.name;
    Problem::failed(name, &InvokeError::Limit { function: name.clone(), limit: LimitKind::Input })
}

/// The host that a request is for, without the port.
fn host(parts: &Parts) -> Option<&str> {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(header::HOST)?.to_str().ok()?,
    };
    match authority.rsplit_once(':') {
        // The colons of an address of IPv6 stand in brackets.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(host),
        _ => Some(authority),
    }
}

/// How long the headers say that the body is.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Names and values in all.
fn size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// What the body is; `takes` itself where it is that but for the parameters.
fn media(headers: &HeaderMap, takes: &MediaType) -> Result<MediaType, Problem> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(MediaType::OCTETS) };
    let unreadable = |_| Problem::new(StatusCode::BAD_REQUEST, "the type is not readable").field("content-type");
    let given = given.to_str().map_err(unreadable)?;
    let essence = |media: &str| media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence(given) == essence(takes.as_str()) {
        return Ok(takes.clone());
    }
    Ok(MediaType::new(given.to_owned()))
}

impl AnswerBody {
    const fn new(content: Content) -> Self {
        Self { content, left: None, call: None, passage: None, busy: None }
    }

    const fn whole(bytes: Bytes) -> Self {
        Self::new(Content::Whole(bytes))
    }

    /// Keeps its connection busy until its end.
    pub(super) fn hold(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Streamed(relay) => {
                let polled = Pin::new(relay).poll_frame(cx);
                if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&polled, &mut self.left) {
                    *left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Streamed(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Streamed(relay) => relay.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let (Some(call), Content::Streamed(relay)) = (&self.call, &self.content) else { return };
        // A call whose response was sent to its end may do what it has left to do.
        relay.settle();
        if self.left != Some(0) && !relay.is_end_stream() {
            call.abort();
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "whole",
            Self::Streamed(_) => "streamed",
        })
    }
}
