//! The invocation queue: calls that are kept until they are done.

mod ask;
mod batch;
mod board;
mod book;
mod budget;
mod config;
mod handover;
#[cfg(test)]
mod handover_tests;
mod lane;
mod memory;
mod origins;
mod outbox;
mod page;
mod pending;
mod record;
mod restore;
mod settled;
#[cfg(test)]
mod tests;
mod time;

pub(crate) use self::{
    ask::{Answer, Ask},
    batch::calls_of,
    book::Book,
    record::{BEHIND, REGION, Records},
    restore::Found,
};
pub use self::{config::QueueConfig, memory::MemoryQueue};
