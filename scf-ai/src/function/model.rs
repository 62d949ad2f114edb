//! A model as it is split.

use std::{sync::Arc, time::Duration};

use scf_core::{
    BlockGraph, BlockSet, ByteSize, DType, Draw, Envelope, FormCost, Frontier, ModelName, Node, NodeId, Payload,
    SplitPlanner, SplitSpent, TensorSpec, WireForm, Zone,
};
use smallvec::SmallVec;

use crate::{
    codec::{CodecError, codec_cost},
    profile::BlockProfiler,
    split::spent,
    wire::{self, Agreement, Fingerprint, Sending},
};

/// The forms in which a tensor may travel.
type Forms = SmallVec<[WireForm; 4]>;
/// What each form costs.
pub(super) type Costs = SmallVec<[FormCost; 2]>;

/// A graph, the planner that splits its runs, and what it may do: given to
/// [`ModelFactory::register`](super::ModelFactory::register).
#[derive(Debug)]
#[must_use]
pub struct SplitModel {
    pub(super) name: ModelName,
    pub(super) graph: BlockGraph,
    pub(super) planner: Arc<dyn SplitPlanner>,
    forms: Vec<Forms>,
    compress: bool,
    hosts: Vec<(NodeId, BlockSet)>,
    kept: Option<(Zone, usize)>,
}

impl SplitModel {
    /// `graph` under its own name, its runs split by `planner`. Tensors travel in the forms that the blocks say.
    pub fn new(graph: &BlockGraph, planner: impl SplitPlanner) -> Self {
        let forms = (0..graph.edges().len()).map(|tensor| graph.wire_forms(tensor).iter().copied().collect());
        Self {
            name: graph.model.clone(),
            graph: graph.clone(),
            planner: Arc::new(planner),
            forms: forms.collect(),
            compress: false,
            hosts: Vec::new(),
            kept: None,
        }
    }

    /// The name that functions give; default that of the graph.
    pub fn named(mut self, name: ModelName) -> Self {
        self.name = name;
        self
    }

    /// Offers, beside what the blocks say, each form at each tensor where it was measured to keep at least `guard` of
    /// the answers, 0 to 1; and leaves out, of what the blocks say, what was measured to keep fewer.
    pub fn forms(mut self, agreement: &Agreement, guard: f64) -> Self {
        let measured = agreement.offered(&self.graph, guard);
        for (forms, measured) in self.forms.iter_mut().zip(measured) {
            forms.retain(|form| *form == WireForm::Exact || !agreement.has(*form) || measured.contains(form));
            forms.extend(measured.into_iter().filter(|form| *form != WireForm::Exact));
            let mut seen = Forms::new();
            forms.retain(|form| {
                let new = !seen.contains(form);
                seen.push(*form);
                new
            });
        }
        self
    }

    /// Compresses what travels with LZ4 where that makes it at least a sixteenth smaller; default not. Worth it on slow
    /// links. Planners count the time it takes, and no gain.
    pub fn compressed(mut self) -> Self {
        self.compress = true;
        self
    }

    /// Says that `node` has those `blocks` alone; default that every node has all. Runs are planned so that no other
    /// block is asked of it. What it does not have, its own graph need not have weights of
    /// ([`BlockGraph::hosting`]).
    pub fn hosted(mut self, node: NodeId, blocks: impl IntoIterator<Item = usize>) -> Self {
        self.hosts.retain(|(known, _)| *known != node);
        self.hosts.push((node, blocks.into_iter().collect()));
        self
    }

    /// Never sends the network's input to a node that is not of `zone`, nor what the first `blocks` blocks give, out of
    /// which it could be guessed; default that everything may go everywhere.
    pub fn kept_in(mut self, zone: Zone, blocks: usize) -> Self {
        self.kept = Some((zone, blocks));
        self
    }
}

/// A registered model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) graph: BlockGraph,
    pub(super) planner: Arc<dyn SplitPlanner>,
    pub(super) profiler: Arc<BlockProfiler>,
    pub(super) fingerprint: Fingerprint,
    pub(super) forms: Vec<Forms>,
    pub(super) compress: bool,
    /// What sending each tensor costs, the message's head left out.
    pub(super) tensors: Vec<Costs>,
    /// What sending all that is alive before each block costs, in the order of the blocks.
    pub(super) edges: Vec<Costs>,
    pub(super) result: ByteSize,
    /// The most that is alive beside a block's output.
    pub(super) memory: ByteSize,
    hosts: Vec<(NodeId, BlockSet)>,
    kept: Option<(Zone, usize)>,
}

impl Model {
    pub(super) fn new(split: SplitModel, profiler: Arc<BlockProfiler>) -> Self {
        let SplitModel { graph, planner, forms, compress, hosts, kept, .. } = split;
        let size = |spec: &TensorSpec| spec.size().unwrap_or(ByteSize::from_bytes(u64::MAX));
        let specs = graph.edges();
        let sendable = |(mut forms, spec): (Forms, &TensorSpec)| {
            forms.retain(|form| *form == WireForm::Exact || spec.dtype == DType::F32);
            forms
        };
        let forms: Vec<Forms> = forms.into_iter().zip(specs).map(sendable).collect();
        let costs =
            |(spec, forms): (&TensorSpec, &Forms)| forms.iter().map(|&form| cost(spec, form, compress)).collect();
        let tensors: Vec<Costs> = specs.iter().zip(&forms).map(costs).collect();
        let blocks = graph.blocks().len();
        let alive = |block| graph.alive(&BlockSet::first(block));
        let held = |block: usize| {
            let inputs = alive(block).iter().fold(ByteSize::ZERO, |sum, &tensor| sum + size(&specs[tensor]));
            inputs + size(&specs[block + 1])
        };
        Self {
            edges: (0..blocks).map(|block| together(&tensors, &alive(block))).collect(),
            result: size(&specs[blocks]) + ByteSize::from_bytes(wire::HEAD) + Envelope::OVERHEAD,
            memory: (0..blocks).map(held).max().unwrap_or_default(),
            fingerprint: Fingerprint::of(&graph),
            graph,
            planner,
            profiler,
            forms,
            compress,
            tensors,
            hosts,
            kept,
        }
    }

    /// The message of a run that goes on elsewhere.
    pub(super) fn message(
        &self,
        frontier: &Frontier,
        form: WireForm,
        spent: SplitSpent,
    ) -> Result<Payload, CodecError> {
        let sending = Sending { form, offered: &self.forms, compress: self.compress, spent };
        wire::write(&self.graph, self.fingerprint, frontier, sending)
    }

    /// What a hop from a node to another spends behind `done`, the result's way back included.
    pub(super) fn hop_spends(&self, done: &BlockSet, form: WireForm, [from, to]: [&Draw; 2]) -> SplitSpent {
        if *from == Draw::default() && *to == Draw::default() {
            return SplitSpent::NOTHING;
        }
        let costs = together(&self.tensors, &self.graph.alive(done));
        let Some(cost) = in_form(&costs, form) else { return SplitSpent::NOTHING };
        spent(from, Duration::ZERO, cost.size, self.result) + spent(to, Duration::ZERO, self.result, cost.size)
    }

    /// Whether anything is not allowed anywhere.
    pub(super) fn is_bound(&self) -> bool {
        !self.hosts.is_empty() || self.kept.is_some()
    }

    /// Whether `node` has `block`.
    pub(super) fn hosts(&self, node: &NodeId, block: usize) -> bool {
        self.hosts.iter().find(|(known, _)| known == node).is_none_or(|(_, blocks)| blocks.contains(block))
    }

    /// Whether a run that goes on behind `done` may be sent to `node`.
    pub(super) fn may_reach(&self, node: &Node, done: &BlockSet) -> bool {
        let Some((zone, blocks)) = &self.kept else { return true };
        node.zone.as_ref() == Some(zone) || self.graph.alive(done).iter().all(|tensor| tensor > blocks)
    }
}

/// What sending a tensor in a form costs.
fn cost(spec: &TensorSpec, form: WireForm, compress: bool) -> FormCost {
    let size = form.size(spec).unwrap_or(ByteSize::from_bytes(u64::MAX));
    let compressing = if compress { wire::compression_cost(size) } else { Duration::ZERO };
    FormCost { form, size, codec: codec_cost(spec, form).saturating_add(compressing) }
}

/// What sending `alive` of `tensors` in one message costs, in each form that one of them offers; one that does not travels
/// exactly.
pub(super) fn together(tensors: &[Costs], alive: &[usize]) -> Costs {
    let head = ByteSize::from_bytes(wire::HEAD) + Envelope::OVERHEAD;
    let mut sums = Costs::new();
    for &FormCost { form, .. } in alive.iter().flat_map(|&tensor| &tensors[tensor]) {
        if sums.iter().any(|known| known.form == form) {
            continue;
        }
        let none = FormCost { form, size: head, codec: Duration::ZERO };
        sums.push(alive.iter().filter_map(|&tensor| in_form(&tensors[tensor], form)).fold(none, |sum, part| {
            FormCost { form, size: sum.size + part.size, codec: sum.codec.saturating_add(part.codec) }
        }));
    }
    sums
}

/// What a tensor costs in a form, or exactly where it does not offer that.
fn in_form(costs: &[FormCost], form: WireForm) -> Option<&FormCost> {
    costs.iter().find(|cost| cost.form == form).or_else(|| costs.iter().find(|cost| cost.form == WireForm::Exact))
}
