//! Language models out of GGUF files: hostile files, sequences that are stored and go on, and the published model.

mod allocated;
mod composed;
#[path = "../../../examples/assets/fetched.rs"]
mod fetched;
mod file;
mod generation;
mod hostile;
mod published;
mod store;
