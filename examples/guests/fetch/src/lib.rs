//! Sends the HTTP request that it is told to, for tests of what a guest may reach.

use wasip2::http::{
    outgoing_handler,
    types::{ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme},
};
use wasip2::io::streams::StreamError;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "fetch" });
}

/// Bytes written or read at once.
const CHUNK: usize = 4096;

struct Fetch;

impl bindings::Guest for Fetch {
    fn fetch(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let input = str::from_utf8(&input).map_err(|error| error.to_string())?;
        let (head, body) = input.split_once('\n').unwrap_or((input, ""));
        let mut words = head.split(' ');
        let mut word = || words.next().ok_or("METHOD SCHEME AUTHORITY PATH [NAME=VALUE ...]");
        let (method, scheme, authority, path) = (word()?, word()?, word()?, word()?);
        let headers = Fields::new();
        for header in words {
            let (name, value) = header.split_once('=').ok_or("a header is NAME=VALUE")?;
            headers.append(name, value.as_bytes()).map_err(|error| format!("header {error:?}"))?;
        }
        let (status, body) = send(method, scheme, authority, path, headers, body.as_bytes())?;
        let mut answer = format!("{status} ").into_bytes();
        answer.extend(body);
        Ok(answer)
    }
}

fn send(
    method: &str,
    scheme: &str,
    authority: &str,
    path: &str,
    headers: Fields,
    body: &[u8],
) -> Result<(u16, Vec<u8>), String> {
    let request = OutgoingRequest::new(headers);
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.into()),
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    request.set_method(&method).map_err(|()| "method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "path")?;
    let sent = (!body.is_empty()).then(|| request.body()).transpose().map_err(|()| "body")?;
    let pending = outgoing_handler::handle(request, None).map_err(|error| described(&error))?;
    let written = sent.map_or(Ok(()), |out| write(out, body));
    pending.subscribe().block();
    let response = pending.get().ok_or("no response")?.map_err(|()| "taken")?.map_err(|error| described(&error))?;
    // A peer that answers before it has read everything is no error.
    drop(written);
    read(&response)
}

fn write(out: OutgoingBody, body: &[u8]) -> Result<(), String> {
    let stream = out.write().map_err(|()| "stream")?;
    for chunk in body.chunks(CHUNK) {
        stream.blocking_write_and_flush(chunk).map_err(|error| format!("{error:?}"))?;
    }
    drop(stream);
    OutgoingBody::finish(out, None).map_err(|error| described(&error))
}

fn read(response: &IncomingResponse) -> Result<(u16, Vec<u8>), String> {
    let body = response.consume().map_err(|()| "consume")?;
    let stream = body.stream().map_err(|()| "stream")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK as u64) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok((response.status(), bytes)),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = wasip2::http::types::http_error_code(&error);
                return Err(code.map_or_else(|| error.to_debug_string(), |code| described(&code)));
            }
        }
    }
}

fn described(error: &ErrorCode) -> String {
    format!("{error:?}")
}

bindings::export!(Fetch with_types_in bindings);
