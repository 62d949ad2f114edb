//! The steps of a decision: sample, filter, score, reserve, bind. Each is a small trait, composed without dynamic
//! dispatch: a tuple of filters refuses what any of them refuses, a tuple of scores costs their sum.

mod bind;
mod candidate;
mod context;
mod cost;
mod explain;
mod filter;
mod gang;
mod placer;
mod sample;
mod scf;
mod score;

pub(crate) use self::context::is_carried;
pub use self::{
    bind::{Bind, BindError, multi_bind},
    candidate::{Candidate, Scene, Sources},
    cost::{Cost, Exchange, Parts},
    explain::Explanation,
    filter::{Filter, Needs},
    placer::{Placer, Unplaced},
    sample::{Locality, Quality, Sample, Sampler, Uniform},
    scf::Scf,
    score::{CompletionTime, Score},
};
