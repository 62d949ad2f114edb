//! Models as functions: every call runs the blocks placed here and calls the next placement.
//!
//! An isolate of a model plans, runs its segment of blocks on a blocking thread, and calls the same function on
//! the node of the next segment with the activation, marked with the block that it resumes at
//! ([`Activation::resume`](scf_core::Activation)); there the same happens again. A node that was handed an
//! activation runs at least one block of it, so that the number of hops is bounded by the number of blocks.

mod isolate;
mod situation;
mod stretch;
mod trace;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use scf_core::{
    BlockGraph, ByteSize, Clock, Code, Envelope, FormCost, Function, FunctionName, Host, InvokeError, Isolate,
    IsolateFactory, Limits, ModelName, Node, PlanError, PrepareError, Prepared, SplitPlan, SplitPlanner, TensorSpec,
    WireForm,
};
use smallvec::SmallVec;

use self::{
    isolate::ModelIsolate,
    situation::{Planned, Standing},
};
use crate::{codec::codec_cost, profile::BlockProfiler};

pub use trace::{SplitTrace, Stretch};

/// Size of the head of an activation message and what it travels in, as planners count it.
const MESSAGE: ByteSize = ByteSize::from_bytes(32);

/// Makes isolates of [`Code::Model`].
///
/// A function names a model, and a model's name stands for a graph and the planner that splits its runs.
/// One graph may be registered under several names, each with a planner of its own; they share one
/// [`BlockProfiler`].
#[derive(Debug, Default)]
#[must_use]
pub struct ModelFactory {
    models: HashMap<ModelName, Arc<Model>>,
    profilers: HashMap<ModelName, Arc<BlockProfiler>>,
    clock: Option<Arc<dyn Clock>>,
}

/// A registered model.
#[derive(Debug)]
struct Model {
    graph: BlockGraph,
    planner: Arc<dyn SplitPlanner>,
    profiler: Arc<BlockProfiler>,
    /// What the activation before each block costs to send.
    edges: Vec<SmallVec<[FormCost; 2]>>,
    result: ByteSize,
    /// The most that two neighbouring activations take.
    memory: ByteSize,
}

impl Model {
    fn new(graph: &BlockGraph, planner: Arc<dyn SplitPlanner>, profiler: Arc<BlockProfiler>) -> Self {
        let size = |spec: &TensorSpec| spec.size().unwrap_or(ByteSize::from_bytes(u64::MAX));
        let forms = |(block, spec): (usize, &TensorSpec)| {
            let cost = |&form| {
                let elements = WireForm::size(form, spec).unwrap_or(ByteSize::from_bytes(u64::MAX));
                FormCost { form, size: elements + MESSAGE + Envelope::OVERHEAD, codec: codec_cost(spec, form) }
            };
            graph.wire_forms(block).iter().map(cost).collect()
        };
        let edges = graph.edges();
        Self {
            graph: graph.clone(),
            planner,
            profiler,
            edges: edges[..graph.blocks().len()].iter().enumerate().map(forms).collect(),
            result: size(&edges[edges.len() - 1]) + MESSAGE + Envelope::OVERHEAD,
            memory: edges.windows(2).map(|pair| size(&pair[0]) + size(&pair[1])).max().unwrap_or_default(),
        }
    }
}

impl ModelFactory {
    /// A factory without models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `graph` under its own name, its runs split by `planner`.
    pub fn with(self, graph: &BlockGraph, planner: impl SplitPlanner) -> Self {
        let name = graph.model.clone();
        self.with_as(name, graph, planner)
    }

    /// Registers `graph` under `name`, its runs split by `planner`; in place of an earlier one of that name.
    /// Functions over one graph share its profiler, whatever they are registered as.
    pub fn with_as(mut self, name: ModelName, graph: &BlockGraph, planner: impl SplitPlanner) -> Self {
        let known = self.profilers.get(&graph.model).filter(|profiler| profiler.fits(graph));
        let profiler = known.map_or_else(|| Arc::new(BlockProfiler::new(graph)), Arc::clone);
        self.profilers.insert(graph.model.clone(), profiler.clone());
        self.models.insert(name, Arc::new(Model::new(graph, Arc::new(planner), profiler)));
        self
    }

    /// Lets a call end its wait for another node by itself, once the answer is four times later than predicted and
    /// the rest could have been done here meanwhile (but at least 200 ms), or so late that finishing here just meets
    /// the deadline; not where the planner has no plan without that node. The node counts as that busy then, and is
    /// tried again as that fades. Default none: then only the fabric's transport says that a node does
    /// not answer.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What a call of `function`, a function of `model`, would do if it came to the node of `host` now: for
    /// tables and dashboards. `None` when no model of that name is registered.
    ///
    /// # Errors
    /// The planner's [`PlanError`].
    pub fn preview(
        &self,
        model: &ModelName,
        host: &dyn Host,
        function: &FunctionName,
    ) -> Option<Result<SplitPreview, PlanError>> {
        let model = self.models.get(model)?;
        let planned = model.plan(host, Standing { function, at: 0, pinned: false, excluded: &[] });
        Some(planned.map(|Planned { plan, nodes, .. }| SplitPreview { plan, nodes: nodes.into_vec() }))
    }

    /// The measured block times of the graph of that name.
    #[must_use]
    pub fn profiler(&self, graph: &ModelName) -> Option<&Arc<BlockProfiler>> {
        self.profilers.get(graph)
    }
}

/// A plan before it is carried out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SplitPreview {
    /// The plan.
    pub plan: SplitPlan,
    /// The nodes that its segments name by index.
    pub nodes: Vec<Arc<Node>>,
}

#[async_trait]
impl IsolateFactory for ModelFactory {
    fn name(&self) -> &'static str {
        "model"
    }

    fn accepts(&self, code: &Code) -> bool {
        matches!(code, Code::Model { .. })
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let hint = "scf-ai runs the code of models";
        let Code::Model { model } = &function.code else {
            return Err(PrepareError::NoFactory { function: function.name.clone(), kind: function.code.kind(), hint });
        };
        let Some(found) = self.models.get(model) else {
            let name = model.as_str().into();
            return Err(PrepareError::NotRegistered { function: function.name.clone(), kind: "model", name });
        };
        Ok(Arc::new(PreparedModel { model: found.clone(), limits: function.limits, clock: self.clock.clone() }))
    }
}

#[derive(Debug)]
struct PreparedModel {
    model: Arc<Model>,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
}

#[async_trait]
impl Prepared for PreparedModel {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(ModelIsolate { model: self.model.clone(), limits: self.limits, clock: self.clock.clone() }))
    }
}

#[cfg(test)]
mod tests;
