//! On whose behalf functions run.

use serde::{Deserialize, Serialize};

use crate::{ByteSize, TenantName};

/// Who shares a node with others, and how much of it is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tenant {
    /// The name, from the caller's credential, never from a payload.
    pub name: TenantName,
    /// Share of the node beside the other tenants' weights; at least 1.
    pub weight: u32,
    /// Memory of all of its isolates on one node.
    pub memory: ByteSize,
    /// Calls that run at the same time on one node, over all of its functions.
    pub concurrency: u32,
    /// Calls that wait on one node, over all of its functions; more are refused.
    pub queue: u32,
}

impl Tenant {
    /// A tenant of weight 1 that is bounded only by what the node has: 4 GiB of memory, 1024 calls at once,
    /// 4096 waiting.
    #[must_use]
    pub const fn new(name: TenantName) -> Self {
        Self { name, weight: 1, memory: ByteSize::from_mib(4096), concurrency: 1024, queue: 4096 }
    }

    /// Its share beside the others; default 1. Zero counts as 1.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = if weight == 0 { 1 } else { weight };
        self
    }

    /// Memory of all of its isolates on one node; default 4 GiB.
    #[must_use]
    pub const fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// Calls at the same time on one node; default 1024.
    #[must_use]
    pub const fn concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Calls that wait on one node; default 4096.
    #[must_use]
    pub const fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }
}
