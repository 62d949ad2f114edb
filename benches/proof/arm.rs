//! One way to split, on a fabric of its own: what one arm learns of its link and its nodes, no other one knows.

use std::{sync::Arc, time::Duration};

use scf::{
    ai::{ModelFactory, SplitTrace},
    core::{
        Activation, Bandwidth, BlockGraph, BoxError, Clock, Function, FunctionName, Invocation, Limits, Link, Node,
        NodeId, Receipt, Slowdown, SplitPlanner, Tier,
    },
    runtime::{
        Fabric,
        transport::{InProcess, LinkState},
    },
    sched::Pipeline,
};

use crate::{
    clock::{LeapingClock, Stage},
    crowd::Crowd,
    regime::Moment,
};

/// How many times slower than the cloud, this CPU, the edge is when nothing else runs there.
pub(crate) const EDGE: f64 = 10.0;
/// What the link is like before the first input.
const AT_FIRST: Link = Link { latency: Duration::from_millis(5), bandwidth: Bandwidth::from_mbit_per_s(20) };

pub(crate) fn edge() -> NodeId {
    NodeId::new("edge").expect("the literal is a name")
}

pub(crate) fn cloud() -> NodeId {
    NodeId::new("cloud").expect("the literal is a name")
}

/// Two nodes, a link, and a network that is split between them by one planner.
pub(crate) struct Arm {
    pub(crate) clock: Arc<LeapingClock>,
    pub(crate) links: Arc<InProcess>,
    stage: Stage,
    fabric: Fabric,
    crowd: Arc<Crowd>,
    function: FunctionName,
    blocks: usize,
}

/// What came of one input.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) took: Duration,
    /// Blocks that the edge ran before it handed over; all of them if it did not.
    pub(crate) cut: usize,
    /// The class with the highest score.
    pub(crate) class: usize,
    pub(crate) receipt: Receipt,
}

impl Arm {
    /// Nodes, link, the network that `graph` makes for the arm's clock, and neighbours, once the link has been measured.
    pub(crate) async fn assemble(
        stage: &Stage,
        graph: impl FnOnce(&Arc<LeapingClock>) -> BlockGraph,
        planner: impl SplitPlanner,
    ) -> Result<Self, BoxError> {
        let clock = LeapingClock::new();
        let graph = graph(&clock);
        let turn = stage.turn(&clock);
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let links = Arc::new(InProcess::builder().link(edge(), cloud(), AT_FIRST).build(Arc::clone(&time))?);
        let crowd = Arc::new(Crowd::new(Arc::clone(&links), cloud()));
        let models = ModelFactory::new().clock(Arc::clone(&time)).with(&graph, planner);
        let fabric = Fabric::builder()
            .node(Node::new(edge(), Tier::Device).slowdown(Slowdown::new(EDGE as f32)))
            .node(Node::new(cloud(), Tier::Cloud))
            .concurrency(1)
            .transport(Arc::clone(&crowd) as _)
            .clock(Arc::clone(&time))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(models))
            .isolates(Arc::new(crowd.function(time)?))
            .build()?;
        let function = FunctionName::new("classify")?;
        let limits = Limits { wall: Duration::from_secs(120), ..Limits::default() };
        fabric.deploy(Function::model(function.clone(), graph.model.clone()).limits(limits)).await?;
        crowd.arrive(&fabric).await?;
        fabric.ready().await;
        drop(turn);
        let (stage, blocks) = (stage.clone(), graph.blocks().len());
        Ok(Self { clock, links, stage, fabric, crowd, function, blocks })
    }

    /// Makes link, queue and load be as `moment` says.
    pub(crate) fn meet(&self, moment: &Moment) -> Result<(), BoxError> {
        self.links.set_link(&edge(), &cloud(), LinkState::Shaped(moment.link))?;
        self.crowd.set(moment.wait);
        Ok(self.fabric.set_slowdown(&edge(), Slowdown::new((EDGE * moment.load) as f32))?)
    }

    /// Lets time pass in which nothing is asked.
    pub(crate) async fn rest(&self, wait: Duration) {
        let _turn = self.stage.turn(&self.clock);
        self.clock.sleep(wait).await;
    }

    /// Classifies `input`, which the edge has, in the time of this arm.
    pub(crate) async fn classify(&self, input: &Activation) -> Result<Answer, BoxError> {
        let _turn = self.stage.turn(&self.clock);
        let call = Invocation::new(self.fabric.new_id(), self.function.clone(), input.encode()?);
        let began = self.clock.now();
        let outcome = self.fabric.invoke_from(&edge(), call.on(edge())).await?;
        let took = self.clock.now().since(began);
        let trace = SplitTrace::of(&outcome.receipt);
        let here = trace.stretches.iter().filter(|stretch| stretch.node == edge()).map(|stretch| stretch.blocks.len());
        let cut = here.sum::<usize>().min(self.blocks);
        let class = best(&Activation::decode(&outcome.payload)?)?;
        Ok(Answer { took, cut, class, receipt: outcome.receipt })
    }
}

/// The index of the highest score.
pub(crate) fn best(scores: &Activation) -> Result<usize, BoxError> {
    let bytes = scores.bytes()?;
    let scores = bytes.as_chunks().0.iter().map(|&score| f32::from_le_bytes(score)).enumerate();
    scores.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(class, _)| class).ok_or_else(|| "no scores".into())
}
