//! Greets whoever asks: what `wasi:http` 0.2 needs and nothing else.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(_: IncomingRequest, response: ResponseOutparam) {
        let headers = Fields::new();
        headers.set("content-type", &[b"text/plain".to_vec()]).expect("the name and the value are allowed");
        let hello = OutgoingResponse::new(headers);
        let body = hello.body().expect("the body is taken once");
        ResponseOutparam::set(response, Ok(hello));
        let stream = body.write().expect("the stream is taken once");
        stream.blocking_write_and_flush(b"Hello, world!\n").expect("the caller reads it");
        drop(stream);
        OutgoingBody::finish(body, None).expect("no length was promised");
    }
}
