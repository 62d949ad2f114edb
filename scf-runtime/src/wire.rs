//! Invocations as messages between nodes.

use std::time::Duration;

use bytes::Bytes;
use scf_core::{
    Envelope, FunctionName, Invocation, InvocationId, InvokeError, MediaType, Outcome, Payload, Qualifier, Receipt,
    Revision, TenantName, TraceContext,
};
use serde::{Deserialize, Serialize};

use crate::{claim::Digest, stream::Lending};

/// The head of a request; the payload's bytes are the message's body.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    id: InvocationId,
    function: FunctionName,
    qualifier: Qualifier,
    /// What the sender decided that to be.
    decided: Decided,
    tenant: Option<TenantName>,
    key: Option<String>,
    media: MediaType,
    patience: Duration,
    attempt: u32,
    trace: Option<TraceContext>,
    streams: Option<Lending>,
}

/// What is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Decided {
    /// A revision, between nodes of one process.
    Revision(Revision),
    /// The function of this definition, whatever another process calls it.
    Definition(Digest),
}

/// The head of an answer; the outcome's bytes are the message's body.
#[derive(Debug, Serialize, Deserialize)]
struct Answer(Result<(MediaType, Receipt), InvokeError>);

pub(crate) fn request(
    invocation: &Invocation,
    decided: Decided,
    patience: Duration,
    streams: Option<Lending>,
) -> Envelope {
    let head = Request {
        id: invocation.id,
        function: invocation.function.clone(),
        qualifier: invocation.qualifier.clone(),
        decided,
        tenant: invocation.tenant.clone(),
        key: invocation.key.clone(),
        media: invocation.payload.media.clone(),
        patience,
        attempt: invocation.attempt,
        trace: invocation.trace.clone(),
        streams,
    };
    Envelope { head: encode(&head), body: invocation.payload.bytes.clone() }
}

/// The invocation, what it is for, the caller's patience and the streams that go with it; `None` when the head is not one
/// of ours.
pub(crate) fn read_request(envelope: Envelope) -> Option<(Invocation, Decided, Duration, Option<Lending>)> {
    let head: Request = postcard::from_bytes(&envelope.head).ok()?;
    let payload = Payload { bytes: envelope.body, media: head.media };
    let mut invocation = Invocation::new(head.id, head.function, payload);
    invocation.qualifier = head.qualifier;
    invocation.tenant = head.tenant;
    invocation.key = head.key;
    (invocation.attempt, invocation.trace) = (head.attempt, head.trace);
    Some((invocation, head.decided, head.patience, head.streams))
}

pub(crate) fn answer(result: Result<Outcome, InvokeError>) -> Envelope {
    match result {
        Ok(Outcome { payload, receipt }) => {
            Envelope { head: encode(&Answer(Ok((payload.media, receipt)))), body: payload.bytes }
        }
        Err(error) => Envelope { head: encode(&Answer(Err(error))), body: Bytes::new() },
    }
}

pub(crate) fn read_answer(envelope: Envelope, function: &FunctionName) -> Result<Outcome, InvokeError> {
    let answer: Answer = postcard::from_bytes(&envelope.head).map_err(|error| InvokeError::Host {
        function: function.clone(),
        message: format!("the answer's head is not readable: {error}"),
    })?;
    answer.0.map(|(media, receipt)| Outcome { payload: Payload { bytes: envelope.body, media }, receipt })
}

fn encode(head: &impl Serialize) -> Bytes {
    // Heads hold no map with unknown length and no non-UTF-8 text, the two things postcard refuses.
    postcard::to_stdvec(head).expect("heads are always encodable").into()
}

#[cfg(test)]
mod tests {
    use scf_core::NodeId;

    use super::*;

    #[test]
    fn a_typed_error_crosses_whole() {
        let function = FunctionName::new("decode").unwrap();
        let error = InvokeError::Unreachable { function: function.clone(), node: NodeId::new("cloud").unwrap() };
        assert_eq!(read_answer(answer(Err(error.clone())), &function), Err(error));
    }

    #[test]
    fn a_request_crosses_whole_and_its_body_is_not_copied() {
        let payload = Payload::new(vec![7u8; 1000]).with_media(MediaType::JSON);
        let invocation = Invocation::new(InvocationId::new(9), FunctionName::new("f").unwrap(), payload)
            .key("k")
            .tenant(TenantName::default())
            .attempt(2)
            .trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap())
            .qualifier(Qualifier::Alias(scf_core::Name::new("canary").unwrap()));
        let (decided, patience) = (Decided::Revision(Revision::new(3)), Duration::from_millis(5));
        let streams = Some(Lending { key: InvocationId::new(10), room: 1 });
        let read = read_request(request(&invocation, decided, patience, streams)).unwrap();
        assert_eq!(read.0.payload.bytes.as_ptr(), invocation.payload.bytes.as_ptr());
        assert_eq!(read, (invocation, decided, patience, streams));
    }

    #[test]
    fn a_head_of_somebody_else_is_not_a_request() {
        assert!(read_request(Envelope { head: Bytes::from_static(&[0xff; 9]), body: Bytes::new() }).is_none());
    }
}
