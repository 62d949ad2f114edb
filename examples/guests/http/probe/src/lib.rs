//! Does what the path says: what a well-behaved handler does, and what a bad one does.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::{OutputStream, StreamError},
};

/// Bytes of a piece of an echo or of a large response.
const PIECE: u64 = 4096;

/// Requests that this instance has seen.
static SEEN: AtomicU32 = AtomicU32::new(0);

struct Probe;

wasip2::http::proxy::export!(Probe);

impl wasip2::exports::http::incoming_handler::Guest for Probe {
    fn handle(request: IncomingRequest, response: ResponseOutparam) {
        let seen = SEEN.fetch_add(1, Relaxed) + 1;
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/seen" => send(response, 200, |out| write(out, seen.to_string().as_bytes())),
            "/echo" => echo(&request, response),
            "/length" => {
                let length = read(&request, |_| true);
                send(response, 200, |out| write(out, length.to_string().as_bytes()));
            }
            "/header" => {
                let values = request.headers().get(query);
                send(response, 200, |out| write(out, &values.concat()));
            }
            "/large" => {
                let bytes = query.parse::<u64>().unwrap_or(0);
                send(response, 200, |out| {
                    (0..bytes.div_ceil(PIECE))
                        .all(|piece| write(out, &vec![b'x'; (bytes - piece * PIECE).min(PIECE) as usize]))
                });
            }
            "/late" => late(response, query.parse().unwrap_or(0)),
            "/hoard" => {
                let hoarded = hoard(query.parse().unwrap_or(0));
                send(response, 200, |out| write(out, hoarded.to_string().as_bytes()));
            }
            "/drip" => send(response, 200, |out| {
                loop {
                    if !write(out, b"drip\n") {
                        return false;
                    }
                    monotonic_clock::subscribe_duration(1_000_000).block();
                }
            }),
            "/wait" => loop {
                monotonic_clock::subscribe_duration(1_000_000_000).block();
            },
            "/spin" => loop {
                black_box(seen);
            },
            "/grow" => {
                let all: Vec<Vec<u8>> = (0..4096).map(|_| black_box(vec![1; 1 << 20])).collect();
                send(response, 200, |out| write(out, &all[0]));
            }
            "/trap" => core::arch::wasm32::unreachable(),
            "/trap-later" => send(response, 200, |out| {
                write(out, b"so far so good\n");
                core::arch::wasm32::unreachable()
            }),
            "/nothing" => {}
            "/error" => {
                let error = wasip2::http::types::ErrorCode::InternalError(Some("out of \x1b[31mpaint".into()));
                ResponseOutparam::set(response, Err(error));
            }
            "/status" => send(response, query.parse().unwrap_or(200), |_| true),
            _ => send(response, 404, |out| write(out, b"not found\n")),
        }
    }
}

/// Sends what the request's body brings while it arrives.
fn echo(request: &IncomingRequest, response: ResponseOutparam) {
    send(response, 200, |out| {
        read(request, |piece| write(out, piece));
        true
    });
}

/// Answers with `bytes` bytes that are all written before there is a response, as engines of languages do.
fn late(response: ResponseOutparam, bytes: usize) {
    let answer = OutgoingResponse::new(Fields::new());
    let body = answer.body().expect("the body is taken once");
    let stream = body.write().expect("the stream is taken once");
    let mut left = bytes;
    while left > 0 {
        let room = stream.check_write().expect("nobody has closed it");
        if room == 0 {
            stream.subscribe().block();
        }
        let piece = left.min(room as usize);
        stream.write(&vec![b'x'; piece]).expect("there is room");
        left -= piece;
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was promised");
    ResponseOutparam::set(response, Ok(answer));
}

/// Fills the bodies of so many responses that it never sends. Gives the bytes that the host has taken.
fn hoard(responses: usize) -> u64 {
    let mut hoarded = 0;
    let fill = |_| {
        let answer = OutgoingResponse::new(Fields::new());
        let body = answer.body().expect("the body is taken once");
        let stream = body.write().expect("the stream is taken once");
        while let Ok(room @ 1..) = stream.check_write() {
            stream.write(&vec![b'x'; room as usize]).expect("there is room");
            hoarded += room;
        }
        answer
    };
    let kept: Vec<OutgoingResponse> = (0..responses).map(fill).collect();
    drop(black_box(kept));
    hoarded
}

/// Reads the request's body until it ends or `take` wants no more. Gives its length.
fn read(request: &IncomingRequest, mut take: impl FnMut(&[u8]) -> bool) -> usize {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    let mut length = 0;
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => {
                length += piece.len();
                if !take(&piece) {
                    return length;
                }
            }
            Err(StreamError::Closed) => return length,
            Err(StreamError::LastOperationFailed(_)) => return length,
        }
    }
}

fn write(out: &OutputStream, bytes: &[u8]) -> bool {
    out.blocking_write_and_flush(bytes).is_ok()
}

/// Answers with `status` and the body that `fill` writes; cuts it off when that says no.
fn send(response: ResponseOutparam, status: u16, fill: impl FnOnce(&OutputStream) -> bool) {
    let answer = OutgoingResponse::new(Fields::new());
    answer.set_status_code(status).expect("the status is one");
    let body = answer.body().expect("the body is taken once");
    ResponseOutparam::set(response, Ok(answer));
    let stream = body.write().expect("the stream is taken once");
    let is_whole = fill(&stream);
    drop(stream);
    if is_whole {
        OutgoingBody::finish(body, None).expect("no length was promised");
    }
}
