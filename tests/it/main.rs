//! Stories that cross the crates.

/// What is let in, what waits and what is ended.
mod admission;
/// Buckets of the key-value store, and who shares them.
mod buckets;
/// Sequences of a language model that move between nodes.
mod generation;
/// Guests that ask for models resident in the host.
mod inference;
/// The life of a model: trained on three nodes, served, drifted away from, trained again and swapped.
mod lifecycle;
/// Nodes that are cut off while a frame is on its way.
mod partition;
/// A photo from JPEG to label, split at every place.
mod photo;
/// Where functions run, and what refuses them.
mod placement;
/// Code that nodes of other processes pull, over a real NATS server; skipped, visibly, where none can be had.
mod pull;
/// State that two nodes work on.
mod stateful;
/// Input that no function can work with.
mod wrong_input;

#[path = "../support/nats_server.rs"]
mod nats_server;
/// The fabric of the stories: the three nodes and four functions of the quickstart, without slowdowns.
mod support;
