//! One call of a model.

use std::{
    borrow::Cow,
    error::Error,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use scf_core::{
    Activation, BlockSet, Call, Callee, Clock, DType, Draw, FunctionName, InvokeError, Isolate, LimitKind, Limits,
    MediaType, ModelError, Node, NodeId, Outcome, Payload, PlanError, Receipt, Reply, Segment, Span, Usage,
};

use super::{
    members::Members,
    model::Model,
    situation::{Order, Planned, Standing},
    stretch::{self, CancelOnDrop, Done, Input, Spending, Stopped, Then, Work},
    trace::{DECODE, ENCODE, PLAN},
};
use crate::{causes::with_causes, wire};

/// The least that a hop is waited for.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);
/// How many times longer than predicted a hop is waited for.
const PATIENCE: u32 = 4;
/// Longest message of an error in bytes.
const MAX_MESSAGE: usize = 1024;

/// One instance of a model, for one call.
#[derive(Debug)]
pub(super) struct ModelIsolate {
    pub(super) model: Arc<Model>,
    pub(super) members: Arc<Members>,
    pub(super) limits: Limits,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

#[async_trait]
impl Isolate for ModelIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let model = &self.model;
        if model.memory > self.limits.memory {
            return Err(InvokeError::Limit { function: call.function.clone(), limit: LimitKind::Memory });
        }
        let (mut input, mut handed_over) = accept(model, &call.function, &input)?;
        let mut bill = Bill { usage: Usage { memory: model.memory, ..Usage::default() }, spans: Vec::new() };
        let mut step = 0;
        let (mut excluded, mut failure) = (Vec::new(), None);
        loop {
            // The call before this one counted on it.
            let pinned = std::mem::take(&mut handed_over);
            let (function, now) = (&call.function, call.host.now());
            let spent = input.spent();
            let standing = Standing { function, done: input.done(), now, pinned, spent, excluded: &excluded };
            let asked = Instant::now();
            let planned = model.plan(&*call.host, &self.members, standing);
            bill.spans.push(Span { name: PLAN.into(), took: asked.elapsed() });
            let planned = match (planned, failure) {
                (Ok(planned), _) => planned,
                (Err(_), Some(failure)) => return Err(failure),
                (Err(error), None) => return Err(no_plan(call, &error)),
            };
            let (blocks, next) = first_move(&planned, input.done().len());
            tracing::debug!(faas.name = %call.function, node = %call.host.node().id, ?blocks, ?next, "split");

            let then = next.map_or(Then::Finish, |segment| Then::Send(segment.form));
            let late = planned.plan.predicted > call.deadline.since(now);
            let cpu = self.limits.cpu.saturating_sub(bill.usage.cpu);
            let draw_of = |node: usize| Draw::of(&planned.nodes[node]);
            let next_draws = next.map_or_else(Draw::default, |segment| draw_of(segment.node));
            let slowdown = planned.nodes[0].slowdown;
            let spending = Spending { before: spent, here: draw_of(0), slowdown, next: next_draws };
            let work = Work { model: model.clone(), input, blocks: blocks.clone(), then, late, spending, cpu };
            let done = compute(call, work).await?;
            bill.enter(call, model, &blocks, &done).await;

            let Some(next) = next.filter(|_| !done.exited) else {
                return Ok(bill.reply(done.message, Vec::new()));
            };
            let (kept, spent) = (done.frontier, done.spent);
            let node = &planned.nodes[next.node];
            let callee = Callee {
                function: call.function.clone(),
                node: Some(node.id.clone()),
                key: call.key.clone(),
                payload: done.message,
            };
            let without = || {
                let excluded: Vec<NodeId> = excluded.iter().chain([&node.id]).cloned().collect();
                let now = call.host.now();
                let standing = Standing { function, done: kept.done(), now, pinned: false, spent, excluded: &excluded };
                model.plan(&*call.host, &self.members, standing).is_ok()
            };
            match self.hop(call, step, callee, &planned, without).await {
                Ok(outcome) => {
                    learn(model, call, &planned.nodes, &outcome.receipt);
                    return Ok(bill.reply(outcome.payload, vec![outcome.receipt]));
                }
                Err(error) if may_succeed_elsewhere(&error) => {
                    tracing::warn!(faas.name = %call.function, node = %node.id, %error, "split: hop failed");
                    excluded.push(node.id.clone());
                    failure = Some(error);
                    step += 1;
                    input = Input::Kept(kept, spent);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl ModelIsolate {
    /// Calls the next node; not longer than there is patience, if the rest can be done `without` it.
    async fn hop(
        &self,
        call: &Call,
        step: u64,
        callee: Callee,
        planned: &Planned,
        without: impl Fn() -> bool + Send,
    ) -> Result<Outcome, InvokeError> {
        let function = callee.function.clone();
        let node = callee.node.clone().unwrap_or_else(|| call.host.node().id.clone());
        let asked = call.host.invoke(call, step, callee);
        let outcome = match &self.clock {
            None => asked.await?,
            Some(clock) => {
                let patience = self.patience(call, planned);
                let mut asked = pin!(asked);
                tokio::select! {
                    biased;
                    outcome = &mut asked => outcome?,
                    () = clock.sleep(patience) => {
                        if without() {
                            if let Some(silent) = planned.nodes.iter().find(|known| known.id == node) {
                                self.model.profiler.observe_wait(silent, patience, call.host.now());
                            }
                            return Err(InvokeError::Unreachable { function, node });
                        }
                        asked.await?
                    }
                }
            }
        };
        if outcome.payload.media != MediaType::ACTIVATION {
            let given = outcome.payload.media.to_string();
            return Err(InvokeError::Media { function, takes: MediaType::ACTIVATION.to_string(), given });
        }
        Ok(outcome)
    }

    /// How long to wait for a hop: some times the prediction, and no shorter beyond it than the rest would take here,
    /// so that giving up costs at most as much again as what it gives up (ski rental: Karlin et al., Algorithmica 11,
    /// 1994). But not so long that the rest, done here, is late.
    fn patience(&self, call: &Call, planned: &Planned) -> Duration {
        let left = call.deadline.since(call.host.now());
        let rest = planned.here.mul_f64(1.5);
        let predicted = planned.plan.predicted;
        let patience =
            predicted.saturating_mul(PATIENCE).max(predicted.saturating_add(planned.here)).max(LEAST_PATIENCE);
        left.checked_sub(rest).map_or(left, |room| room.min(patience))
    }
}

/// What a message has, and whether it is of a run that was begun elsewhere.
fn accept(model: &Model, function: &FunctionName, input: &Payload) -> Result<(Input, bool), InvokeError> {
    let refused = |message: String| InvokeError::Refused { function: function.clone(), message };
    if wire::is_run(input) {
        let run = wire::Run::read(input, &model.graph, model.fingerprint).map_err(|error| refused(told(&error)))?;
        return Ok((Input::Run(run), true));
    }
    let activation = Activation::decode(input).map_err(|error| refused(told(&error)))?;
    let block = activation.resume.unwrap_or(0) as usize;
    if block >= model.graph.blocks().len() {
        return Err(refused(format!("there is no block {block}")));
    }
    let done = BlockSet::first(block);
    let alive = model.graph.alive(&done);
    let [tensor] = alive[..] else {
        return Err(refused(format!("block {block} does not go on from one tensor")));
    };
    let takes = &model.graph.edges()[tensor];
    let same_elements = match activation.quantisation {
        None => activation.spec.dtype == takes.dtype,
        Some(_) => activation.spec.dtype == DType::I8 && takes.dtype == DType::F32,
    };
    if activation.spec.shape != takes.shape || !same_elements {
        return Err(refused(format!("block {block} takes {takes:?}, not {:?}", activation.spec)));
    }
    let handed_over = activation.resume.is_some();
    Ok((Input::Activation(activation, done), handed_over))
}

/// The blocks that this node runs when so many are done, and who goes on.
fn first_move(planned: &Planned, done: usize) -> (Order, Option<Segment>) {
    let segments = &planned.plan.segments;
    match segments.first() {
        Some(first) if first.node == 0 => (planned.order[..first.to - done].into(), segments.get(1).copied()),
        first => (Order::new(), first.copied()),
    }
}

/// Runs `work` on a blocking thread; ends it when this future is dropped.
async fn compute(call: &Call, work: Work) -> Result<Done, InvokeError> {
    let function = call.function.clone();
    let cancel = CancelOnDrop::default();
    let cancelled = cancel.0.clone();
    let done = tokio::task::spawn_blocking(move || stretch::run(work, &cancelled)).await;
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Stopped::OverCpu)) => Err(InvokeError::Limit { function, limit: LimitKind::Cpu }),
        Ok(Err(Stopped::Model(error @ ModelError::Shape { .. }))) => {
            Err(InvokeError::Refused { function, message: told(&error) })
        }
        Ok(Err(Stopped::Model(error))) => Err(InvokeError::Host { function, message: told(&error) }),
        Ok(Err(Stopped::Codec(error))) => Err(InvokeError::Refused { function, message: told(&error) }),
        Ok(Err(Stopped::Cancelled)) => Err(InvokeError::Host { function, message: "the call was dropped".into() }),
        Err(error) if error.is_panic() => {
            Err(InvokeError::Trapped { function, message: "a block of the model panicked".into() })
        }
        Err(_) => Err(InvokeError::Host { function, message: "the runtime is shutting down".into() }),
    }
}

/// What a call has come to so far.
struct Bill {
    usage: Usage,
    spans: Vec<Span>,
}

impl Bill {
    /// Enters what `done` took with the first of `blocks`, and lets the node's emulated time pass.
    async fn enter(&mut self, call: &Call, model: &Model, blocks: &[usize], done: &Done) {
        let cpu = done.cpu();
        self.usage.cpu += cpu;
        self.usage.accelerator += done.used.accelerator;
        call.meter.add_cpu(cpu);
        call.meter.add_accelerator(done.used.accelerator);
        // Once for all of it: every wait of an emulated node ends a little late.
        let took = call.host.pace(cpu).await;
        let stretch = if cpu.is_zero() { 1.0 } else { took.as_secs_f64() / cpu.as_secs_f64() };
        let mut span = |name: Cow<'static, str>, cpu: Duration| {
            let took = cpu.mul_f64(stretch);
            self.spans.push(Span { name, took });
        };
        if let Some(decode) = done.decode {
            span(DECODE.into(), decode);
        }
        for (&block, &cpu) in blocks.iter().zip(&done.blocks) {
            span(model.graph.blocks()[block].name().to_owned().into(), cpu);
        }
        let blocks = blocks.iter().zip(&done.blocks).map(|(&block, cpu)| (block, cpu.mul_f64(stretch)));
        model.profiler.observe_run(call.host.node(), blocks, call.host.now());
        span(ENCODE.into(), done.encode);
    }

    fn reply(self, payload: Payload, calls: Vec<Receipt>) -> Reply {
        Reply { payload, usage: self.usage, reused: false, spans: self.spans, calls }
    }
}

/// Takes down what the bills of other nodes say about their blocks and queues.
fn learn(model: &Model, call: &Call, nodes: &[Arc<Node>], receipt: &Receipt) {
    if let Some(node) = nodes.iter().find(|node| node.id == receipt.node) {
        let now = call.host.now();
        model.profiler.observe_wait(node, receipt.queued, now);
        let ran = receipt.spans.iter().filter_map(|span| {
            let named = |block: &Arc<dyn scf_core::ModelBlock>| block.name() == span.name;
            model.graph.blocks().iter().position(named).map(|block| (block, span.took))
        });
        model.profiler.observe_run(node, ran, now);
    }
    for callee in &receipt.calls {
        learn(model, call, nodes, callee);
    }
}

/// Whether what failed there may be done without that node: not where the input was at fault.
fn may_succeed_elsewhere(error: &InvokeError) -> bool {
    let lost = matches!(
        error,
        InvokeError::NotFound { .. } | InvokeError::Host { .. } | InvokeError::Limit { limit: LimitKind::Wall, .. }
    );
    lost || error.is_retryable()
}

fn no_plan(call: &Call, error: &PlanError) -> InvokeError {
    let function = call.function.clone();
    match error {
        PlanError::NoNode { node } | PlanError::NoWay { to: node, .. } => unreachable_node(function, node),
        other => InvokeError::Host { function, message: told(other) },
    }
}

fn unreachable_node(function: FunctionName, node: &NodeId) -> InvokeError {
    InvokeError::Unreachable { function, node: node.clone() }
}

/// An error and its causes in one line, not longer than a message may be.
fn told(error: &dyn Error) -> String {
    let mut text: String = with_causes(error).escape_debug().collect();
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}
