//! What goes with a call as long as the call stays in its process.

use std::{
    any::Any,
    fmt::{self, Debug},
    sync::Arc,
};

use async_trait::async_trait;

use crate::{ByteSize, InvokeError, Payload};

/// Input and output of a call that are streams, such as the bodies of an HTTP exchange.
///
/// A trigger attaches it to its invocation; an isolate that knows the type takes it from the call. It cannot
/// leave the process: for another node the router has it turned into a payload. [`Streams`](crate::Streams) alone go
/// with the call wherever it goes.
#[async_trait]
pub trait Attached: Any + Debug + Send + Sync {
    /// All of the input as a payload of at most `limit`, waiting until it is there. Called by the router before
    /// the call leaves the process, again where that is tried again; gives the same every time. The output then
    /// is the outcome's payload.
    ///
    /// # Errors
    /// Why there is no payload: the input is too long, or it broke off.
    async fn pack(&self, limit: ByteSize) -> Result<Payload, InvokeError>;

    /// Bytes of input and of output that went through it so far; the controller adds them to the receipt.
    fn carried(&self) -> (ByteSize, ByteSize);

    /// Whether some of it went through that can not be had again, so that the call is not tried anywhere else. Default:
    /// never.
    fn is_begun(&self) -> bool {
        false
    }
}

/// What is attached to a call: nothing, or something that stays in the process. It is neither serialised nor
/// compared: two calls that differ only in it are equal.
#[derive(Clone, Default)]
pub struct Attachment(Option<Arc<dyn Attached>>);

impl Attachment {
    /// Nothing attached.
    pub const NONE: Self = Self(None);

    /// Attaches something.
    #[must_use]
    pub fn new(attached: Arc<dyn Attached>) -> Self {
        Self(Some(attached))
    }

    /// What is attached, whatever its type.
    #[must_use]
    pub fn attached(&self) -> Option<&dyn Attached> {
        self.0.as_deref()
    }

    /// What is attached, if it is a `T`.
    #[must_use]
    pub fn get<T: Attached>(&self) -> Option<&T> {
        let attached: &dyn Any = self.0.as_deref()?;
        attached.downcast_ref()
    }
}

impl Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(attached) => Debug::fmt(attached, f),
            None => f.write_str("none"),
        }
    }
}

impl PartialEq for Attachment {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Attachment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Text(&'static str);

    #[derive(Debug)]
    struct Other;

    #[async_trait]
    impl Attached for Text {
        async fn pack(&self, _: ByteSize) -> Result<Payload, InvokeError> {
            Ok(Payload::new(self.0.as_bytes()))
        }

        fn carried(&self) -> (ByteSize, ByteSize) {
            (ByteSize::from_bytes(self.0.len() as u64), ByteSize::ZERO)
        }
    }

    #[async_trait]
    impl Attached for Other {
        async fn pack(&self, _: ByteSize) -> Result<Payload, InvokeError> {
            Ok(Payload::default())
        }

        fn carried(&self) -> (ByteSize, ByteSize) {
            (ByteSize::ZERO, ByteSize::ZERO)
        }
    }

    #[test]
    fn what_is_attached_is_had_back_by_its_type_only() {
        let attachment = Attachment::new(Arc::new(Text("abc")));
        assert_eq!(attachment.get::<Text>().map(|text| text.0), Some("abc"));
        assert!(attachment.get::<Other>().is_none());
        assert!(Attachment::NONE.attached().is_none());
    }
}
