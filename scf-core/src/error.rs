//! What several areas share about errors.

/// A foreign cause, kept as the source of a typed error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
