//! The results of past invocations of one scope, held in memory.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use scf_core::InvocationId;

/// Results by invocation, the oldest forgotten at the bound.
#[derive(Debug, Default)]
pub(crate) struct Results {
    by_invocation: HashMap<InvocationId, Bytes>,
    by_age: VecDeque<InvocationId>,
}

impl Results {
    pub(crate) fn get(&self, invocation: InvocationId) -> Option<&Bytes> {
        self.by_invocation.get(&invocation)
    }

    /// Keeps `result`, and `limit` results at most.
    pub(crate) fn keep(&mut self, invocation: InvocationId, result: Bytes, limit: usize) {
        if self.by_invocation.insert(invocation, result).is_none() {
            self.by_age.push_back(invocation);
        }
        while self.by_age.len() > limit {
            if let Some(oldest) = self.by_age.pop_front() {
                self.by_invocation.remove(&oldest);
            }
        }
    }

    /// All of them, oldest first.
    pub(crate) fn to_vec(&self) -> Vec<(InvocationId, Bytes)> {
        self.by_age.iter().filter_map(|id| self.by_invocation.get(id).map(|result| (*id, result.clone()))).collect()
    }
}
