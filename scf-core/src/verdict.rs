//! Why a node was or was not chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterView, Health, NodeId, PlacementRequest};

/// What a scheduler says about one node for one request: it is chosen, or refused, or another one costs less.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "schedulers of integrators write it as a literal")]
pub struct Verdict {
    /// The node.
    pub node: NodeId,
    /// Every need or filter that it does not satisfy, by name; nothing when it will do.
    pub refused: Vec<String>,
    /// What the call is expected to cost there, in seconds as the scheduler compares nodes; none where it does not say.
    pub seconds: Option<f64>,
    /// Whether the call is placed there.
    pub is_chosen: bool,
}

impl Verdict {
    /// What refuses the node at `position` of `view` by the contract of [`Scheduler`](crate::Scheduler): `health`,
    /// `needs` (what a node is), `resources` (what is free of it), `reach` (the way from the caller).
    ///
    /// # Panics
    /// When there is no such position.
    #[must_use]
    pub fn by_needs(request: &PlacementRequest<'_>, view: &ClusterView, position: usize) -> Self {
        let (status, needs) = (&view.nodes()[position], &request.function.needs);
        let path = view.position(request.from).and_then(|from| view.path(from, position));
        let kept = [
            ("health", status.health == Health::Ready),
            ("needs", needs.allow(&status.node)),
            ("resources", status.free.fits(&needs.resources)),
            ("reach", path.is_some_and(|path| needs.within.is_none_or(|within| path.latency <= within))),
        ];
        let refused = kept.iter().filter(|(_, is_kept)| !is_kept).map(|(name, _)| (*name).to_owned()).collect();
        Self { node: status.node.id.clone(), refused, seconds: None, is_chosen: false }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        match (self.is_chosen, self.refused.is_empty()) {
            (true, _) => f.write_str("chosen")?,
            (false, true) => f.write_str("will do")?,
            (false, false) => write!(f, "refused by {}", self.refused.join(", "))?,
        }
        self.seconds.map_or(Ok(()), |seconds| write!(f, ", {seconds:.6} s"))
    }
}
