//! The broker's subjects that a fabric uses.

use scf_core::{Name, NodeId};

use super::frame::CallId;

/// Subjects under one prefix, which keeps fabrics apart that share an account of a broker.
///
/// They are made of names alone, whose alphabet leaves out what a subject gives a meaning to.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    prefix: Name,
}

impl Subjects {
    pub(super) const fn new(prefix: Name) -> Self {
        Self { prefix }
    }

    /// Where a node takes messages.
    pub(super) fn node(&self, node: &NodeId) -> String {
        format!("{}.node.{node}", self.prefix)
    }

    /// Where all nodes tell all others of themselves.
    pub(super) fn beats(&self) -> String {
        format!("{}.beat", self.prefix)
    }

    /// Where the answers to the messages of one process go.
    pub(super) fn answers(&self, session: u64) -> String {
        format!("{}.answer.{session:016x}.*", self.prefix)
    }

    /// Where the answer to one message of a process goes.
    pub(super) fn answer(&self, session: u64, call: u64) -> String {
        format!("{}.answer.{session:016x}.{call}", self.prefix)
    }

    /// Which message of a process is answered there.
    pub(super) fn call(subject: &str) -> Option<u64> {
        subject.rsplit('.').next()?.parse().ok()
    }

    /// Which message of which process is answered there; `None` when it is no place for answers.
    pub(super) fn call_id(&self, subject: &str) -> Option<CallId> {
        let place = subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".answer.")?;
        let (session, call) = place.split_once('.')?;
        Some(CallId { session: u64::from_str_radix(session, 16).ok()?, call: call.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_the_call_that_it_is_of() {
        let subjects = Subjects::new(Name::new("site-1").unwrap());
        assert_eq!(subjects.answers(10), "site-1.answer.000000000000000a.*");
        assert_eq!(Subjects::call(&subjects.answer(10, 77)), Some(77));
        assert_eq!(subjects.call_id(&subjects.answer(10, 77)), Some(CallId { session: 10, call: 77 }));
        assert_eq!(subjects.call_id("site-2.answer.000000000000000a.77"), None);
        assert_eq!(subjects.node(&NodeId::new("edge-1").unwrap()), "site-1.node.edge-1");
    }
}
