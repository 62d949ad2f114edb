//! Models as functions: every call runs the blocks placed here and calls the next placement.
//!
//! An isolate of a model plans, runs its segment of blocks on a blocking thread, and calls the same function on
//! the node of the next segment with what the blocks left still take and the set of those that are done (`wire`);
//! there the same happens again. A node that was handed a run runs at least one block of it, so that the number of
//! hops is bounded by the number of blocks.

mod isolate;
mod members;
mod model;
mod situation;
mod stretch;
mod trace;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use scf_core::{
    BlockGraph, BlockSet, Clock, Code, Function, FunctionName, Host, InvokeError, Isolate, IsolateFactory, Limits,
    ModelName, Node, PlanError, PrepareError, Prepared, SplitPlan, SplitPlanner, SplitSpent,
};

use self::{
    isolate::ModelIsolate,
    members::Members,
    model::Model,
    situation::{Planned, Standing},
};
use crate::profile::BlockProfiler;

pub use model::SplitModel;
pub use trace::{SplitTrace, Stretch};

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

impl ModelFactory {
    /// A factory without models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `graph` under its own name, its runs split by `planner`.
    pub fn with(self, graph: &BlockGraph, planner: impl SplitPlanner) -> Self {
        self.register(SplitModel::new(graph, planner))
    }

    /// Registers `graph` under `name`, its runs split by `planner`; in place of an earlier one of that name.
    /// Functions over one graph share its profiler, whatever they are registered as.
    pub fn with_as(self, name: ModelName, graph: &BlockGraph, planner: impl SplitPlanner) -> Self {
        self.register(SplitModel::new(graph, planner).named(name))
    }

    /// Registers `model` under its name; in place of an earlier one of that name.
    pub fn register(mut self, model: SplitModel) -> Self {
        let known = self.profilers.get(&model.graph.model).filter(|profiler| profiler.fits(&model.graph));
        let profiler = known.map_or_else(|| Arc::new(BlockProfiler::new(&model.graph)), Arc::clone);
        self.profilers.insert(model.graph.model.clone(), profiler.clone());
        self.models.insert(model.name.clone(), Arc::new(Model::new(model, profiler)));
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
        let done = BlockSet::new();
        let standing = Standing {
            function,
            done: &done,
            now: host.now(),
            pinned: false,
            spent: SplitSpent::NOTHING,
            excluded: &[],
        };
        let planned = model.plan(host, &Members::default(), standing);
        Some(planned.map(|Planned { plan, nodes, .. }| SplitPreview { plan, nodes: nodes.to_vec() }))
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
        Ok(Arc::new(PreparedModel {
            model: found.clone(),
            members: Arc::default(),
            limits: function.limits,
            clock: self.clock.clone(),
        }))
    }
}

#[derive(Debug)]
struct PreparedModel {
    model: Arc<Model>,
    members: Arc<Members>,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
}

#[async_trait]
impl Prepared for PreparedModel {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(ModelIsolate {
            model: self.model.clone(),
            members: self.members.clone(),
            limits: self.limits,
            clock: self.clock.clone(),
        }))
    }
}

#[cfg(test)]
mod tests;
