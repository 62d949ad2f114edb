//! The results of past invocations of one scope, held in memory.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use scf_core::InvocationId;

use crate::quota::result_size;

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

    /// Keeps `result`, and `limit` results at most. Answers the sizes of what went for it.
    pub(crate) fn keep(&mut self, invocation: InvocationId, result: Bytes, limit: usize) -> u64 {
        let mut gone = match self.by_invocation.insert(invocation, result) {
            Some(replaced) => result_size(replaced.len()),
            None => {
                self.by_age.push_back(invocation);
                0
            }
        };
        while self.by_age.len() > limit {
            if let Some(oldest) = self.by_age.pop_front()
                && let Some(result) = self.by_invocation.remove(&oldest)
            {
                gone += result_size(result.len());
            }
        }
        gone
    }

    /// All of them, oldest first.
    pub(crate) fn to_vec(&self) -> Vec<(InvocationId, Bytes)> {
        self.by_age.iter().filter_map(|id| self.by_invocation.get(id).map(|result| (*id, result.clone()))).collect()
    }
}
