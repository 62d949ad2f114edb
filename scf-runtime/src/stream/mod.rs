//! Calls whose items travel while they run.
//!
//! The node that sends a call elsewhere keeps the caller's ends of its streams (`lent`), and the node that runs it asks
//! for what is sent and brings what the function sends (`carry`), in messages of any [`Transport`](scf_core::Transport)
//! (`message`): what is on its way is bounded by the room that the caller gave the streams. Each side hears that the
//! other is gone, the one from its call and the other from what it asks.

mod carry;
mod lent;
mod message;
mod open;

pub(crate) use self::{
    carry::{Carriage, Way},
    lent::{Lent, Loan, StreamServer},
    message::Lending,
};
pub use open::{Answer, Streaming};
