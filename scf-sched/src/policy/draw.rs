//! Nodes drawn evenly, each once per decision.

use crate::{
    Decision, Request,
    fleet::{Fleet, HotView, NodeIx},
    place::{Candidate, Filter, Needs, Scene},
    random::Random,
};

/// What is drawn at random is drawn so often per node that is wanted before all are looked at in turn.
const PATIENCE: usize = 4;

/// Whether a node satisfies every need of the scene's request; counts that it was looked at and why it was refused.
pub(super) fn admits(scene: &Scene<'_>, node: NodeIx, decision: &mut Decision) -> Option<HotView> {
    let hot = scene.fleet.look(node)?;
    decision.evaluated += 1;
    let refused = Needs.glance(scene.request, &hot).or_else(|| Needs.refuses(scene, &Candidate::new(scene, node, hot)));
    match refused {
        Some(reason) => {
            decision.refuse(reason);
            None
        }
        None => Some(hot),
    }
}

/// Draws nodes that satisfy a request, without putting any back.
#[derive(Debug, Default)]
pub(super) struct Draw {
    /// What was drawn, with the records as they were read.
    pub(super) nodes: Vec<(NodeIx, HotView)>,
    /// The turn in which each node was drawn last.
    drawn: Vec<u32>,
    turn: u32,
}

impl Draw {
    /// Draws `wanted` nodes, or as many as satisfy the request: when they are few all are looked at, so that none is
    /// missed.
    pub(super) fn draw(&mut self, fleet: &Fleet, request: &Request<'_>, wanted: usize, decision: &mut Decision) {
        self.nodes.clear();
        self.drawn.resize(fleet.len(), 0);
        self.turn = self.turn.wrapping_add(1);
        if self.turn == 0 {
            self.drawn.fill(0);
            self.turn = 1;
        }
        let scene = Scene::new(fleet, request);
        let pool = fleet.pool(request.demand);
        let mut random = Random::new(request.seed);
        if wanted < pool.len() {
            for _ in 0..wanted * PATIENCE {
                if self.nodes.len() == wanted {
                    return;
                }
                if let Some(node) = pool.draw(&mut random) {
                    self.consider(&scene, node, decision);
                }
            }
        }
        for node in pool.every(random.next() as usize) {
            if self.nodes.len() == wanted {
                return;
            }
            self.consider(&scene, node, decision);
        }
    }

    fn consider(&mut self, scene: &Scene<'_>, node: NodeIx, decision: &mut Decision) {
        // A node that joined since is drawn another time.
        let Some(drawn) = self.drawn.get_mut(node.index()).filter(|drawn| **drawn != self.turn) else { return };
        *drawn = self.turn;
        if let Some(hot) = admits(scene, node, decision) {
            self.nodes.push((node, hot));
        }
    }
}
