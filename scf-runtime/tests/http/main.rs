//! HTTP requests through an ingress to functions.

mod hostile;
mod limits;
mod nodes;
mod peers;
mod serve;
mod status;
mod streams;
mod support;
mod trace;
mod warm;
