//! The trace that a message belongs to, in its headers (W3C Trace Context).

#[cfg(feature = "wasi-http")]
use http::HeaderValue;
use http::{HeaderMap, HeaderName};
use scf_core::TraceContext;
#[cfg(feature = "http")]
use scf_core::TraceState;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace that a request belongs to; none where it says none or several, or nothing readable, as the standard wants
/// it. What its `tracestate` says counts only beside that, and is nothing where it is not readable.
#[cfg(feature = "http")]
pub(super) fn read(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let only = given.next().filter(|_| given.next().is_none())?;
    let context: TraceContext = only.to_str().ok()?.trim().parse().ok()?;
    let lines: Result<Vec<&str>, _> = headers.get_all(TRACESTATE).iter().map(|line| line.to_str()).collect();
    Some(context.with_state(lines.map(TraceState::of).unwrap_or_default()))
}

/// Says that a request belongs to `context`, unless it says itself what it belongs to.
#[cfg(feature = "wasi-http")]
pub(crate) fn write(context: &TraceContext, headers: &mut HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    let value = |text: &str| HeaderValue::from_str(text).expect("both headers are of visible ASCII and spaces");
    headers.insert(TRACEPARENT, value(&context.to_string()));
    // Without a parent it is of no trace.
    headers.remove(TRACESTATE);
    if !context.state().is_empty() {
        headers.insert(TRACESTATE, value(context.state().as_str()));
    }
}

#[cfg(test)]
#[cfg(all(feature = "http", feature = "wasi-http"))]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(fields: &[(HeaderName, &[u8])]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn state_of(lines: &[&[u8]]) -> String {
        let mut all = headers(&[(TRACEPARENT, PARENT.as_bytes())]);
        for line in lines {
            all.append(TRACESTATE, HeaderValue::from_bytes(line).unwrap());
        }
        read(&all).unwrap().state().to_string()
    }

    #[test]
    fn what_systems_say_is_one_list_of_all_lines_and_nothing_where_it_is_not_readable() {
        assert_eq!(state_of(&[]), "");
        assert_eq!(state_of(&[b"a=1, b=2", b"c=3"]), "a=1,b=2,c=3");
        assert_eq!(state_of(&[b"a=1", b"\xff=2"]), "");
        assert_eq!(state_of(&[b"a=1", b"a=2"]), "");
        assert!(read(&headers(&[(TRACESTATE, b"a=1")])).is_none(), "of no trace");
    }

    #[test]
    fn what_is_written_is_read_again_and_what_a_request_says_itself_stays() {
        let context = read(&headers(&[(TRACEPARENT, PARENT.as_bytes()), (TRACESTATE, b"a=1")])).unwrap();
        let mut all = headers(&[(TRACESTATE, b"of=nobody")]);
        write(&context, &mut all);
        assert_eq!((all.len(), read(&all).unwrap()), (2, context.clone()));
        let other = PARENT.replace('4', "5");
        let mut all = headers(&[(TRACEPARENT, other.as_bytes()), (TRACESTATE, b"b=2")]);
        write(&context, &mut all);
        assert_eq!(all, headers(&[(TRACEPARENT, other.as_bytes()), (TRACESTATE, b"b=2")]));
        let mut all = headers(&[(TRACESTATE, b"of=nobody")]);
        write(&context.with_state(TraceState::EMPTY), &mut all);
        assert_eq!(all, headers(&[(TRACEPARENT, PARENT.as_bytes())]));
    }
}
