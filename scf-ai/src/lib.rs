//! Infers: model blocks, split planning and split execution.
