//! Skippy, a scheduler for data at the edge.

use std::collections::HashMap;

use scf_core::Tier;

use super::{
    Policy,
    kube::enough,
    points::{Field, MOST},
};
use crate::{
    Decision, Request, Source,
    fleet::{Caps, ClassIx, DataIx, Fleet, FunctionIx, HotView, NodeIx, Spot, Way},
};

/// Skippy (Rausch, Rashed, Dustdar: Optimized container scheduling for data-intensive serverless edge computing, FGCS 114,
/// 2021, section 4): five priorities of 0 to 10 points each, whole ones, times their weights; of nodes with equal points the
/// first takes the call.
///
/// It knows nothing of execution times, counts whole seconds, and takes the slowest of several copies of an input, as the
/// published implementation (skippy-core 0.1.1) does. Looks at every node.
#[derive(Debug)]
pub struct Skippy {
    weights: Weights,
    percent: u8,
    registry: Option<NodeIx>,
    /// Bytes of images where they differ by the kind of hardware.
    images: HashMap<(DataIx, ClassIx), f32>,
    wishes: HashMap<FunctionIx, Caps>,
    field: Field,
}

/// What each of the priorities counts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by who tunes them")]
pub struct Weights {
    /// Processor and memory taken alike.
    pub balanced: f32,
    /// A short pull of the image.
    pub image: f32,
    /// Being at the edge.
    pub edge: f32,
    /// Little time to read and write data.
    pub data: f32,
    /// Having what the function would like.
    pub capability: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { balanced: 1.0, image: 1.0, edge: 1.0, data: 1.0, capability: 1.0 }
    }
}

impl Weights {
    /// Those that the authors' multi-objective search (NSGA-II) found for sensing in a city.
    pub const URBAN_SENSING: Self =
        Self { balanced: 6.661_09, image: 2.776_57, edge: 6.691_14, data: 8.473_06, capability: 1.067_14 };
    /// For industrial premises.
    pub const INDUSTRIAL_IOT: Self =
        Self { balanced: 8.296_46, image: 1.545_38, edge: 0.621_21, data: 9.679_83, capability: 6.961_52 };
    /// For regions of a cloud.
    pub const CLOUD_REGIONS: Self =
        Self { balanced: 0.659_92, image: 6.927_33, edge: 0.735_02, data: 5.819_42, capability: 0.671_1 };

    const fn sum(&self) -> f32 {
        self.balanced + self.image + self.edge + self.data + self.capability
    }
}

impl Default for Skippy {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            percent: 100,
            registry: None,
            images: HashMap::new(),
            wishes: HashMap::new(),
            field: Field::default(),
        }
    }
}

impl Skippy {
    /// What the priorities count; default 1 each.
    #[must_use]
    pub const fn weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    /// What share of the nodes is scored at most, in per cent; 0: adaptive, as kube-scheduler does. Default 100.
    #[must_use]
    pub fn percent(mut self, percent: u8) -> Self {
        self.percent = percent.min(100);
        self
    }

    /// Where images are pulled from; default nowhere, and pulls do not count.
    #[must_use]
    pub const fn registry(mut self, registry: NodeIx) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Says how large an image is for a kind of hardware; default what the fleet says.
    #[must_use]
    pub fn image(mut self, image: DataIx, class: ClassIx, bytes: f32) -> Self {
        self.images.insert((image, class), bytes);
        self
    }

    /// Says what a function would like a node to have, without refusing others; default nothing.
    #[must_use]
    pub fn wish(mut self, function: FunctionIx, caps: Caps) -> Self {
        self.wishes.insert(function, caps);
        self
    }

    fn image_points(&mut self, fleet: &Fleet, image: DataIx, registry: NodeIx) {
        let Some(from) = fleet.spot(registry) else { return };
        let field = &mut self.field;
        field.raw.clear();
        for (node, hot) in &field.nodes {
            let seconds = if fleet.is_holder(image, *node) {
                0.0
            } else {
                let all = || fleet.data_bytes(image) as f32;
                let bytes = self.images.get(&(image, hot.class())).copied().unwrap_or_else(all);
                let way = fleet.network().way(&from, &Spot::of(*node, hot));
                way.map_or(f32::INFINITY, |way| (bytes / way.rate).floor())
            };
            field.raw.push(seconds);
        }
        let (least, most) = bounds(&field.raw);
        if most > 0.0 {
            for (seconds, points) in field.raw.iter().zip(&mut field.points) {
                *points += self.weights.image * whole(MOST * (most - seconds + least) / most);
            }
        }
    }

    fn data_points(&mut self, fleet: &Fleet, request: &Request<'_>) {
        let field = &mut self.field;
        field.raw.clear();
        field.raw.resize(field.nodes.len(), 0.0);
        for input in request.inputs {
            for ((node, hot), sum) in field.nodes.iter().zip(&mut field.raw) {
                let here = Spot::of(*node, hot);
                let (mut into, mut out) = (0.0f32, 0.0f32);
                let mut look = |source: NodeIx| {
                    if source == *node {
                        return;
                    }
                    let Some(there) = fleet.spot(source) else { return };
                    let seconds = |bytes: f32, way: Option<Way>| {
                        if bytes == 0.0 { 0.0 } else { way.map_or(f32::INFINITY, |way| (bytes / way.rate).floor()) }
                    };
                    into = into.max(seconds(input.read, fleet.network().way(&there, &here)));
                    out = out.max(seconds(input.written, fleet.network().way(&here, &there)));
                };
                match input.source {
                    Source::Node(source) => look(source),
                    Source::Data(data) if fleet.is_holder(data, *node) => {}
                    Source::Data(data) => fleet.holders(data, 0, 16, look),
                }
                *sum += into + out;
            }
        }
        let (least, most) = bounds(&field.raw);
        if most > least {
            for (seconds, points) in field.raw.iter().zip(&mut field.points) {
                *points += self.weights.data * whole(MOST * (most - seconds) / (most - least));
            }
        }
    }

    fn capability_points(&mut self, wish: Caps) {
        let has = |hot: &HotView| hot.caps().has(wish);
        let any = self.field.nodes.iter().any(|(_, hot)| has(hot));
        let all = self.field.nodes.iter().all(|(_, hot)| has(hot));
        if any && !all {
            for ((_, hot), points) in self.field.nodes.iter().zip(&mut self.field.points) {
                if has(hot) {
                    *points += self.weights.capability * MOST;
                }
            }
        }
    }
}

fn bounds(values: &[f32]) -> (f32, f32) {
    let finite = values.iter().copied().filter(|value| value.is_finite());
    finite.fold((f32::INFINITY, 0.0), |(least, most), value| (least.min(value), most.max(value)))
}

/// Whole points; none for what cannot be reached.
fn whole(points: f32) -> f32 {
    points.floor().max(0.0)
}

impl Policy for Skippy {
    fn name(&self) -> &'static str {
        if self.weights == Weights::default() { "skippy" } else { "skippy tuned" }
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.field.gather(fleet, request, enough(fleet.len(), self.percent), decision);
        self.field.balanced(request, self.weights.balanced);
        if let (Some(image), Some(registry)) = (request.demand.artefact, self.registry) {
            self.image_points(fleet, image, registry);
        }
        let cloud = Caps::tier(Tier::Cloud);
        for ((_, hot), points) in self.field.nodes.iter().zip(&mut self.field.points) {
            if !hot.caps().has(cloud) {
                *points += self.weights.edge * MOST;
            }
        }
        if !request.inputs.is_empty() {
            self.data_points(fleet, request);
        }
        if let Some(wish) = self.wishes.get(&request.demand.function).copied() {
            self.capability_points(wish);
        }
        self.field.offer(self.weights.sum() * MOST, 3, decision);
    }
}
