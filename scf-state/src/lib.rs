//! Remembers: backends and phases of a stateful function.
