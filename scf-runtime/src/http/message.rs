//! Requests and responses as one message, of the type [`MediaType::HTTP`](scf_core::MediaType::HTTP): four bytes
//! of the head's length, the head, the body.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, request, response};
use http_body_util::Collected;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of the length of the head.
const LENGTH: usize = 4;

/// Names and values.
type Fields = Vec<(String, Vec<u8>)>;

#[derive(Debug, Serialize, Deserialize)]
struct RequestHead {
    method: String,
    uri: String,
    fields: Fields,
}

#[derive(Debug, Serialize, Deserialize)]
struct ResponseHead {
    status: u16,
    fields: Fields,
}

/// A request as one message. Trailers are left out.
pub(crate) fn request(parts: &request::Parts, body: Collected<Bytes>) -> Bytes {
    let (method, uri) = (parts.method.to_string(), parts.uri.to_string());
    write(&RequestHead { method, uri, fields: list(&parts.headers) }, &body.to_bytes())
}

/// The request that a message is; none if it is not one.
pub(crate) fn read_request(message: &Bytes) -> Option<Request<Bytes>> {
    let (head, body) = read::<RequestHead>(message)?;
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = head.uri.parse::<Uri>().ok()?;
    *request.headers_mut() = map(head.fields)?;
    Some(request)
}

/// A response as one message. Trailers are left out.
pub(crate) fn response(parts: &response::Parts, body: Collected<Bytes>) -> Bytes {
    write(&ResponseHead { status: parts.status.as_u16(), fields: list(&parts.headers) }, &body.to_bytes())
}

/// The response that a message is; none if it is not one.
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only an ingress reads one"))]
pub(crate) fn read_response(message: &Bytes) -> Option<Response<Bytes>> {
    let (head, body) = read::<ResponseHead>(message)?;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    *response.headers_mut() = map(head.fields)?;
    Some(response)
}

fn list(fields: &HeaderMap) -> Fields {
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn map(fields: Fields) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        map.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    Some(map)
}

fn write(head: &impl Serialize, body: &[u8]) -> Bytes {
    // Heads hold no map with unknown length and no non-UTF-8 text, the two things postcard refuses.
    let head = postcard::to_stdvec(head).expect("heads are always encodable");
    let mut message = BytesMut::with_capacity(LENGTH + head.len() + body.len());
    message.put_u32_le(u32::try_from(head.len()).expect("a head is bounded by the server's limit on headers"));
    message.put_slice(&head);
    message.put_slice(body);
    message.freeze()
}

fn read<H: DeserializeOwned>(message: &Bytes) -> Option<(H, Bytes)> {
    let (length, rest) = message.split_first_chunk::<LENGTH>()?;
    let (head, _) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((postcard::from_bytes(head).ok()?, message.slice(LENGTH + head.len()..)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http_body_util::{BodyExt, Full};
    use proptest::prelude::*;

    use super::*;

    fn collected(bytes: &[u8]) -> Collected<Bytes> {
        Full::new(Bytes::copy_from_slice(bytes)).collect().now_or_never().unwrap().unwrap()
    }

    #[test]
    fn a_request_and_a_response_cross_whole() {
        let build = Request::post("http://a.example/x?y=1").header("x-a", "1").header("x-a", "2");
        let (parts, ()) = build.body(()).unwrap().into_parts();
        let read = read_request(&request(&parts, collected(b"body"))).unwrap();
        assert_eq!((read.method(), read.uri(), read.headers()), (&parts.method, &parts.uri, &parts.headers));
        assert_eq!(read.body(), "body");

        let (parts, ()) = Response::builder().status(418).header("x-b", "\u{fc}").body(()).unwrap().into_parts();
        let read = read_response(&response(&parts, collected(b"tea"))).unwrap();
        assert_eq!((read.status(), read.headers(), &read.body()[..]), (parts.status, &parts.headers, &b"tea"[..]));
    }

    proptest! {
        #[test]
        fn bytes_of_somebody_else_do_no_harm(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Some(read) = read_request(&bytes) {
                prop_assert!(read.body().len() <= bytes.len());
            }
            if let Some(read) = read_response(&bytes) {
                prop_assert!(read.body().len() <= bytes.len());
            }
        }
    }
}
