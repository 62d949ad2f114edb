//! Whether what one function gives is what another takes, before either is called.

#[cfg(feature = "check")]
mod structure;

use scf_core::{Function, FunctionName};
use thiserror::Error;

/// Why what a function gives cannot be given to another, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// No function of that name is deployed.
    #[error("function {function} is not deployed")]
    NotDeployed {
        /// The function.
        function: FunctionName,
    },
    /// Only components have types that can be compared, and signed artefacts do not carry them.
    #[error("function {function} is a {kind}, which does not say what it takes and gives")]
    NotTyped {
        /// The function.
        function: FunctionName,
        /// Its [`Code::kind`](scf_core::Code::kind), or `signed artefact`.
        kind: &'static str,
    },
    /// The component's types cannot be read.
    #[error("function {function}: its types cannot be read: {problem}")]
    Types {
        /// The function.
        function: FunctionName,
        /// Why.
        problem: String,
    },
    /// A part of the value does not fit.
    #[error("{to} does not take what {from} gives: {problem}")]
    Mismatch {
        /// Who gives the value.
        from: FunctionName,
        /// Who is given it.
        to: FunctionName,
        /// Which part, and what is expected and found.
        problem: String,
    },
    /// This build does not compare types.
    #[error("types of functions are compared only with the feature \"check\" of scf-runtime")]
    NotBuiltIn,
}

/// Whether the result of `from` is, by its structure, what `to` takes as its single parameter.
#[cfg(feature = "check")]
pub(crate) fn check(from: &Function, to: &Function) -> Result<(), CheckError> {
    structure::Signature::of(from)?.fits(&structure::Signature::of(to)?)
}

/// Whether the result of `from` is, by its structure, what `to` takes as its single parameter.
#[cfg(not(feature = "check"))]
pub(crate) fn check(_: &Function, _: &Function) -> Result<(), CheckError> {
    Err(CheckError::NotBuiltIn)
}

/// What speaks against an edge of a workflow: nothing where the types of one side are not known, or are bytes,
/// which the media types stand for.
#[cfg(feature = "check")]
pub(crate) fn objection(from: &Function, to: &Function) -> Option<String> {
    let (from, to) = (structure::Signature::of(from).ok()?, structure::Signature::of(to).ok()?);
    if from.is_on_bytes() || to.is_on_bytes() {
        return None;
    }
    match from.fits(&to) {
        Err(CheckError::Mismatch { problem, .. }) => Some(problem),
        _ => None,
    }
}

/// Nothing speaks against an edge of which nothing is known.
#[cfg(not(feature = "check"))]
pub(crate) fn objection(_: &Function, _: &Function) -> Option<String> {
    None
}
