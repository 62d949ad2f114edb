//! Whose state, at which version, and who owns it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{FunctionName, NodeId};

/// Whose state: one key of one function. Everything in a scope commits together and has one writer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a scope is")]
pub struct Scope {
    /// The function.
    pub function: FunctionName,
    /// The key of its invocations.
    pub key: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.key)
    }
}

/// Counts the commits of a scope; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version after `commits` commits.
    #[must_use]
    pub const fn new(commits: u64) -> Self {
        Self(commits)
    }

    /// How many commits led to it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version after one more commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Proof of ownership of a scope. Every commit of an owned scope carries it, and the backend compares it
/// with the scope's head record in the same transaction; a take-over rewrites that record, so a commit of
/// the former owner fails however late it arrives. A lease says only how long others wait before they try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Fence {
    /// Counts the acquisitions of the scope.
    pub epoch: u64,
    /// Unique per acquisition, in case a store forgets an epoch.
    pub nonce: u128,
}

/// Where a scope stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Head {
    /// The scope's version; 0 when nothing was ever committed.
    pub version: Version,
    /// Who owns it, if anybody does.
    pub owner: Option<Ownership>,
}

/// Who owns a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Ownership {
    /// The owner.
    pub node: NodeId,
    /// The epoch of its fence.
    pub epoch: u64,
    /// How long its lease lasts; zero when it has run out and the scope may be taken over.
    pub remaining: Duration,
}
