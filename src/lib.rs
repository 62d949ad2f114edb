//! Serverless Computing Fabric.
#![forbid(unsafe_code)]

#[doc(inline)]
pub use scf_ai as ai;
#[doc(inline)]
pub use scf_core as core;
#[doc(inline)]
pub use scf_runtime as runtime;
#[doc(inline)]
pub use scf_sched as sched;
#[doc(inline)]
pub use scf_state as state;
