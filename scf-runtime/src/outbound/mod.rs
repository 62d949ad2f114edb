//! HTTP requests of functions to the world outside, as far as their manifests allow.
//!
//! Every request is checked on its own, also one that a guest makes because it was redirected: the host follows no
//! redirect. Its origin is brought into one form and held against the grants; its name is resolved once, addresses
//! that are not public are left out unless the grant says otherwise, and the connection goes to one of the
//! addresses that were checked.

mod address;
mod allow;
mod body;
mod client;
mod origin;
mod resolve;

pub(crate) use allow::Allow;
pub use client::{HttpClient, TrustError};
pub(crate) use client::{Sent, Terms};
pub use resolve::{Resolver, SystemResolver};
