//! Nodes of different processes over a real NATS server. Skipped, visibly, where none can be had.

#[path = "../../../tests/support/nats_server.rs"]
mod nats_server;

mod data_plane;
mod fleet;
mod late;
mod outbox;
mod silence;
#[path = "../support/silent.rs"]
mod silent;
#[path = "../support/streamed.rs"]
mod streamed;
mod streams;
mod support;
mod transport;
