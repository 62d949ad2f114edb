//! What simulated platforms are asked to do.

mod azure;
mod llm;
mod pipelines;

use thiserror::Error;

pub use azure::{AzureTrace, azure_functions};
pub use llm::{TokenTimes, llm_requests};
pub use pipelines::{ml_pipelines, published_invocations};

/// An hour of requests to a coding assistant (Azure LLM inference traces 2023, CC BY 4.0).
pub const LLM_CODE: &str = include_str!("../../../data/azure/llm_code.csv");
/// An hour of requests to a chat service (the same).
pub const LLM_CONVERSATION: &str = include_str!("../../../data/azure/llm_conv.csv");
/// Four functions over a day (vHive's sample in the format of the Azure Functions trace, MIT).
pub const AZURE_SAMPLE: AzureTrace<'static> = AzureTrace {
    invocations: include_str!("../../../data/azure/functions_invocations.csv"),
    durations: include_str!("../../../data/azure/functions_durations.csv"),
    memory: include_str!("../../../data/azure/functions_memory.csv"),
};

/// A line of a trace that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {field} is no number: {found:?}")]
#[non_exhaustive]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What should be there.
    pub field: &'static str,
    /// What is there.
    pub found: String,
}

impl TraceError {
    /// The number in a field of a line, by its position.
    pub(crate) fn number(text: &str, at: usize, line: usize, field: &'static str) -> Result<f64, Self> {
        let found = text.split(',').nth(at).unwrap_or_default().trim();
        let number = found.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| Self { line, field, found: found.into() })
    }
}
