//! Asking the nodes themselves.

use std::fmt::Debug;

use scf_core::Timestamp;
use thiserror::Error;

use crate::{
    Choice, Request,
    fleet::{Claim, Fleet, Hold, HoldError},
};

/// Why a node did not take what it was held for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The node knows better: it no longer has what is needed.
    #[error("the node refused")]
    Refused,
    /// It did not answer.
    #[error("the node did not answer")]
    Unreachable,
    /// The hold was over before the node had answered.
    #[error("the hold was over before the node answered")]
    Lapsed(#[from] HoldError),
    /// Every one of the chosen nodes was taken or refused.
    #[error("none of {tried} nodes took it")]
    NoneLeft {
        /// Nodes that were asked.
        tried: u32,
    },
}

/// Makes a hold a placement on its node: starts an isolate, sends the call, writes a manifest.
///
/// The last step of a decision and the only one that waits. Never boxed: an implementation is chosen when the program
/// is built.
pub trait Bind: Debug + Send + Sync {
    /// What a node gives that took it.
    type Placed: Send;

    /// Asks the node of `hold`, which looks at what it really has. Dropping the future leaves the node undecided; the
    /// hold then lapses on both sides.
    fn bind(&self, hold: &Hold, request: &Request<'_>) -> impl Future<Output = Result<Self::Placed, BindError>> + Send;
}

/// Holds and asks the chosen nodes one after the other until one takes the call: MultiBind (Pusztai et al.: Vela,
/// IC2E 2023, section IV.C), with a hold in the place of a phantom reservation.
///
/// `now` is asked again after the node has answered: a hold that lapsed meanwhile is not a placement.
///
/// # Errors
/// [`BindError::NoneLeft`] when none of them took it; nothing is held then.
pub async fn multi_bind<B: Bind>(
    fleet: &Fleet,
    bind: &B,
    request: &Request<'_>,
    choices: &[Choice],
    until: Timestamp,
    now: impl Fn() -> Timestamp,
    mut cursor: u32,
) -> Result<(Claim, B::Placed), BindError> {
    let mut tried = 0;
    for choice in choices {
        let Ok(hold) = fleet.hold(choice.node, request.demand.need, until, &mut cursor) else { continue };
        tried += 1;
        match bind.bind(&hold, request).await {
            Ok(placed) => return Ok((fleet.commit(hold, now())?, placed)),
            Err(_) => fleet.abort(hold),
        }
    }
    Err(BindError::NoneLeft { tried })
}
