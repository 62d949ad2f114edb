//! The interfaces that guests may import.

use super::{sockets, wasi};

/// A group of interfaces that is linked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interface {
    /// One of WASI 0.2: cli, clocks, filesystem, io and random.
    Wasi(&'static str),
    /// One of `wasi:sockets`.
    Sockets(&'static str),
    /// Outgoing HTTP.
    Http,
    /// `wasi:keyvalue`, as wasmtime and wasmCloud have it.
    KeyValueDraft,
    /// `wasi:keyvalue`, as Spin has it.
    KeyValueDraft2,
    /// `wasi:config`, as wasmtime and wasmCloud have it.
    ConfigRc1,
    /// `wasi:config`, as Spin has it.
    ConfigDraft,
    /// `wasi:logging`.
    Logging,
    /// `wasi:blobstore`, as wasmCloud has it.
    Blobstore,
    /// What the fabric tells a function about itself.
    Context,
    /// The same in version 0.1.
    Context01,
    /// Calling other functions.
    Functions,
    /// Timers and calls that come about with the state.
    Actor,
    /// Models that are resident in the host.
    Nn,
}

impl Interface {
    /// The group of an import; none: it is not provided.
    pub(super) fn of(import: &str) -> Option<Self> {
        let (name, version) = import.rsplit_once('@')?;
        let is_stable = version.strip_prefix("0.2.").is_some_and(|patch| patch.bytes().all(|b| b.is_ascii_digit()));
        if is_stable && let Some(interface) = wasi::find(name) {
            return Some(Self::Wasi(interface));
        }
        if is_stable && let Some(interface) = sockets::find(name) {
            return Some(Self::Sockets(interface));
        }
        Some(match (name, version) {
            ("wasi:http/types" | "wasi:http/outgoing-handler" | "wasi:http/incoming-handler", _) if is_stable => {
                Self::Http
            }
            ("wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch", "0.2.0-draft") => {
                Self::KeyValueDraft
            }
            ("wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch", "0.2.0-draft2") => {
                Self::KeyValueDraft2
            }
            ("wasi:config/store", "0.2.0-rc.1") => Self::ConfigRc1,
            ("wasi:config/store", "0.2.0-draft-2024-09-27") => Self::ConfigDraft,
            ("wasi:logging/logging", "0.1.0-draft") => Self::Logging,
            ("wasi:blobstore/types" | "wasi:blobstore/container" | "wasi:blobstore/blobstore", "0.2.0-draft") => {
                Self::Blobstore
            }
            ("scf:function/context", "0.2.0") => Self::Context,
            ("scf:function/context", "0.1.0") => Self::Context01,
            ("scf:function/functions", "0.1.0") => Self::Functions,
            ("scf:function/actor", "0.1.0") => Self::Actor,
            ("wasi:nn/tensor" | "wasi:nn/graph" | "wasi:nn/inference" | "wasi:nn/errors", "0.2.0-rc-2024-10-28") => {
                Self::Nn
            }
            _ => return None,
        })
    }

    /// The feature that it comes with, where this build lacks that.
    pub(super) const fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Wasi(_) | Self::Sockets(_) => None,
            Self::Http if cfg!(feature = "wasi-http") => None,
            Self::Http => Some("wasi-http"),
            Self::Nn if cfg!(feature = "wasi-nn") => None,
            Self::Nn => Some("wasi-nn"),
            _ if cfg!(feature = "services") => None,
            _ => Some("services"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provides_the_versions_that_are_in_the_field_and_nothing_else() {
        for (import, interface) in [
            ("wasi:cli/stdout@0.2.6", Interface::Wasi("wasi:cli/stdout")),
            ("wasi:sockets/tcp@0.2.0", Interface::Sockets("wasi:sockets/tcp")),
            ("wasi:http/outgoing-handler@0.2.12", Interface::Http),
            ("wasi:keyvalue/batch@0.2.0-draft", Interface::KeyValueDraft),
            ("wasi:keyvalue/batch@0.2.0-draft2", Interface::KeyValueDraft2),
            ("wasi:blobstore/container@0.2.0-draft", Interface::Blobstore),
            ("scf:function/context@0.2.0", Interface::Context),
            ("scf:function/context@0.1.0", Interface::Context01),
        ] {
            assert_eq!(Interface::of(import), Some(interface), "{import}");
        }
        for import in [
            "wasi:cli/stdout@0.3.0",
            "wasi:cli/stdout@0.2.0-rc-2023-12-05",
            "wasi:cli/x",
            "wasi:cli/x@0.2.0",
            "wasi:keyvalue/watcher@0.2.0-draft",
            "wasi:keyvalue/store@0.2.0",
            "scf:function/context@0.3.0",
            "scf:function/functions@0.2.0",
            "evil",
            "evil:cli/stdout@0.2.0",
        ] {
            assert_eq!(Interface::of(import), None, "{import}");
        }
    }
}
