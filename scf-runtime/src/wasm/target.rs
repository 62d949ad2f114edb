//! The machine that machine code is for.

use std::env::consts;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Architecture, operating system and the extensions of the CPU that machine code may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) arch: String,
    pub(super) os: String,
    /// As Rust names them for the architecture.
    pub(super) extensions: Vec<String>,
}

/// Why machine code for a target cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum TargetError {
    #[error("it was compiled for {arch} on {os}, this is {} on {}", consts::ARCH, consts::OS)]
    Machine { arch: String, os: String },
    #[error("it was compiled for a CPU with {0}, which this one does not have")]
    Extension(String),
}

impl Target {
    /// This machine, with every extension that a compiler which looks at the CPU would use.
    #[cfg(feature = "wasm")]
    pub(super) fn host() -> Self {
        let has = |name: &&str| detected(name) == Some(true);
        Self::with(EXTENSIONS.iter().copied().filter(has).map(Into::into).collect())
    }

    /// Every machine of this architecture and system.
    #[cfg(feature = "wasm")]
    pub(super) fn baseline() -> Self {
        Self::with(Vec::new())
    }

    #[cfg(feature = "wasm")]
    fn with(extensions: Vec<String>) -> Self {
        Self { arch: consts::ARCH.into(), os: consts::OS.into(), extensions }
    }

    /// Whether this machine is one.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        if self.arch != consts::ARCH || self.os != consts::OS {
            return Err(TargetError::Machine { arch: self.arch.clone(), os: self.os.clone() });
        }
        let missing = self.extensions.iter().find(|name| detected(name) != Some(true));
        missing.map_or(Ok(()), |name| Err(TargetError::Extension(name.clone())))
    }
}

/// Lists extensions, and asks the CPU for one of them by name.
macro_rules! extensions {
    ($detect:ident: $($name:tt)*) => {
        /// What the compiler looks for.
        #[cfg(feature = "wasm")]
        const EXTENSIONS: &[&str] = &[$($name),*];

        /// Whether this CPU has the extension; `None` for one that is not known.
        fn detected(name: &str) -> Option<bool> {
            match name {
                $($name => Some(std::arch::$detect!($name)),)*
                _ => None,
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
extensions!(is_x86_feature_detected:
    "cmpxchg16b" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "avxvnni" "bmi1" "bmi2" "lzcnt"
    "avx512bitalg" "avx512dq" "avx512f" "avx512vl" "avx512vbmi" "avx512vnni");

#[cfg(target_arch = "aarch64")]
extensions!(is_aarch64_feature_detected: "lse" "paca" "fp16" "dotprod" "i8mm");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
extensions!(none:);

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "wasm")]
    #[test]
    fn this_machine_is_its_own_target() {
        assert_eq!(Target::host().check(), Ok(()));
        assert_eq!(Target::baseline().check(), Ok(()));
    }

    #[test]
    fn what_another_machine_needs_is_named() {
        let here = |extensions: &[&str]| Target {
            arch: consts::ARCH.into(),
            os: consts::OS.into(),
            extensions: extensions.iter().map(|&name| name.into()).collect(),
        };
        assert_eq!(here(&["mmx9"]).check(), Err(TargetError::Extension("mmx9".into())));
        let other = Target { arch: "pdp11".into(), ..here(&[]) };
        assert_eq!(other.check(), Err(TargetError::Machine { arch: "pdp11".into(), os: consts::OS.into() }));
    }
}
