//! Decides where, when and how many.
