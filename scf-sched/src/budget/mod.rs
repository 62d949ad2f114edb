//! Divides what a workflow has promised between its steps.

mod front;
mod split;

pub use self::split::{BudgetStep, Split, SplitError, longest, split};
