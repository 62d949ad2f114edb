//! Divides what a workflow has promised between its steps.

mod front;
mod run;
mod split;

pub use self::run::BudgetRun;
pub use self::split::{BudgetStep, Split, SplitError, longest, split};
