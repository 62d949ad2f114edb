//! Model blocks.
