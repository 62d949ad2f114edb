//! How long blocks take, as measured.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scf_core::{BlockGraph, Node, NodeId, Slowdown, Timestamp};

/// Measured times of a block on a node that are kept. Ten, as Clockwork keeps (Gujarati et al., OSDI 2020,
/// section 5.3); the planner takes their median where Clockwork, for admission, takes the 99th percentile.
const WINDOW: usize = 10;
/// Measured times from which on they count.
const ENOUGH: usize = 3;
/// Nodes that are kept; the one that is known longest makes room.
const MAX_NODES: usize = 64;
/// Floating-point operations per second that are assumed before anything was measured anywhere.
const ASSUMED_RATE: f64 = 20e9;
/// Weight of the newest wait and of the newest load in their means.
const WEIGHT: f64 = 0.3;
/// A wait this many times over or under the mean, and by more than [`WAIT_NOISE`], replaces it: the queue is another.
const WAIT_CHANGED: f64 = 2.0;
/// Differences between waits below this are none, in seconds.
const WAIT_NOISE: f64 = 2e-3;
/// Time in which a wait that was seen loses half its weight: what nobody uses is not known to be busy.
const WAIT_HALF_LIFE: Duration = Duration::from_secs(1);
/// A load this many times over or under the mean replaces it.
const LOAD_CHANGED: f64 = 1.4;
/// Time in which a load that was seen loses half its weight. Longer than that of waits: to find out costs a call the
/// time of its blocks there.
const LOAD_HALF_LIFE: Duration = Duration::from_secs(5);
/// Below this share of what it was, the time without load is taken for lower than was known.
const LIGHTER: f64 = 0.95;
/// In the place of a block's median before there is one.
const UNKNOWN: u64 = u64::MAX;

/// Times of the blocks of one model on every node, shared by all functions over that model.
///
/// A block's time on a node is the median of the last ten measured there, times the node's load: how many times
/// longer than without it the blocks of the last runs took, so that a run of some blocks tells of all (the load
/// factor of Neurosurgeon, Kang et al., ASPLOS 2017, section 5.3, for every node). Until there are three, it is
/// estimated: by its operations at the rate of the blocks that were measured on that node; where none was, by
/// another node's times and the ratio of both nodes' [`Slowdown`]s; before anything was measured, at 20
/// GFLOP/s. Keeps at most 64 nodes.
#[derive(Debug)]
pub struct BlockProfiler {
    flops: Box<[u64]>,
    nodes: Mutex<Vec<Profile>>,
}

#[derive(Debug)]
struct Profile {
    node: NodeId,
    slowdown: Slowdown,
    /// Without load.
    blocks: Box<[Times]>,
    /// Of each block in nanoseconds, [`UNKNOWN`] before [`ENOUGH`] were measured. Apart from what they are of: a decision
    /// reads these alone, in a few cache lines that the network's weights have pushed out since the last one.
    medians: Box<[u64]>,
    load: f64,
    loaded: Timestamp,
    /// Sums over the blocks that were measured often enough.
    measured: usize,
    nanos: f64,
    flops: f64,
    wait: f64,
    waited: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    last: [u64; WINDOW],
    seen: usize,
}

impl Times {
    fn add(&mut self, nanos: u64) {
        self.last[self.seen % WINDOW] = nanos;
        // Wraps from a full window to a full window.
        self.seen = if self.seen + 1 == 2 * WINDOW { WINDOW } else { self.seen + 1 };
    }

    fn scale(&mut self, factor: f64) {
        self.last.iter_mut().for_each(|nanos| *nanos = (*nanos as f64 * factor) as u64);
    }

    /// In nanoseconds, [`UNKNOWN`] before there are enough.
    fn median(&self) -> u64 {
        if self.seen < ENOUGH {
            return UNKNOWN;
        }
        let mut sorted = self.last;
        let sorted = &mut sorted[..self.seen.min(WINDOW)];
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) / 2].min(UNKNOWN - 1)
    }
}

impl Profile {
    fn new(node: &Node, blocks: usize) -> Self {
        Self {
            node: node.id.clone(),
            slowdown: node.slowdown,
            blocks: vec![Times::default(); blocks].into(),
            medians: vec![UNKNOWN; blocks].into(),
            load: 1.0,
            loaded: Timestamp::default(),
            measured: 0,
            nanos: 0.0,
            flops: 0.0,
            wait: 0.0,
            waited: Timestamp::default(),
        }
    }

    fn add(&mut self, block: usize, nanos: u64, flops: u64) {
        let before = self.known(block);
        self.blocks[block].add(nanos);
        self.medians[block] = self.blocks[block].median();
        let Some(now) = self.known(block) else { return };
        self.nanos += now as f64 - before.map_or(0.0, |b| b as f64);
        if before.is_none() {
            self.measured += 1;
            self.flops += flops as f64;
        }
    }

    /// Takes down that all of a run's blocks together took `ratio` times what they take without load.
    fn add_load(&mut self, ratio: f64, now: Timestamp) {
        let before = self.load(now);
        let changed = ratio > before * LOAD_CHANGED || ratio < before / LOAD_CHANGED;
        self.load = if changed { ratio } else { before + WEIGHT * (ratio - before) };
        self.loaded = now;
        if self.load < LIGHTER {
            let factor = self.load;
            for (times, median) in self.blocks.iter_mut().zip(&mut self.medians) {
                times.scale(factor);
                *median = times.median();
            }
            self.nanos = (0..self.blocks.len()).filter_map(|block| self.known(block)).map(|nanos| nanos as f64).sum();
            self.load = 1.0;
        }
    }

    /// The load, nearer to none by half for each half-life since it was last seen.
    fn load(&self, now: Timestamp) -> f64 {
        if self.load == 1.0 {
            return 1.0;
        }
        1.0 + (self.load - 1.0) * faded(now.since(self.loaded), LOAD_HALF_LIFE)
    }

    /// The median of a block that was measured often enough, in nanoseconds.
    fn known(&self, block: usize) -> Option<u64> {
        self.medians.get(block).copied().filter(|&nanos| nanos != UNKNOWN)
    }

    /// Time of a block without load in nanoseconds, if anything was measured here.
    fn time(&self, block: usize, flops: u64) -> Option<f64> {
        if let Some(known) = self.known(block) {
            return Some(known as f64);
        }
        (self.measured > 0 && self.flops > 0.0).then(|| flops as f64 * self.nanos / self.flops)
    }
}

impl BlockProfiler {
    /// A profiler of the blocks of `graph` that has measured nothing.
    #[must_use]
    pub fn new(graph: &BlockGraph) -> Self {
        Self {
            flops: (0..graph.blocks().len()).map(|block| graph.cost(block).flops).collect(),
            nodes: Mutex::default(),
        }
    }

    /// Whether it is for blocks like those of `graph`.
    pub(crate) fn fits(&self, graph: &BlockGraph) -> bool {
        *self.flops == *Self::new(graph).flops
    }

    /// Takes down that consecutive blocks took so long on `node`, an emulated node's slowdown included. Called by the
    /// split runtime for the blocks that ran here and for those that a receipt from elsewhere lists.
    pub fn observe_run(&self, node: &Node, blocks: impl Iterator<Item = (usize, Duration)> + Clone, now: Timestamp) {
        let mut nodes = self.lock();
        let at = self.entry(&mut nodes, node);
        let profile = &mut nodes[at];
        profile.slowdown = node.slowdown;
        let (mut took, mut usual) = (0.0, 0.0);
        for (block, time) in blocks.clone() {
            if let Some(known) = profile.known(block) {
                took += time.as_nanos() as f64;
                usual += known as f64;
            }
        }
        let ratio = if took > 0.0 && usual > 0.0 { took / usual } else { profile.load(now) };
        for (block, time) in blocks {
            if let Some(&flops) = self.flops.get(block) {
                profile.add(block, (time.as_nanos() as f64 / ratio) as u64, flops);
            }
        }
        if took > 0.0 && usual > 0.0 {
            profile.add_load(ratio, now);
        }
    }

    /// Takes down that `block` took `took` on `node` without load, an emulated node's slowdown included: for who
    /// measures nodes before they are used.
    pub fn observe(&self, node: &Node, block: usize, took: Duration) {
        let Some(&flops) = self.flops.get(block) else { return };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut nodes = self.lock();
        let at = self.entry(&mut nodes, node);
        nodes[at].slowdown = node.slowdown;
        nodes[at].add(block, nanos, flops);
    }

    /// Takes down that a call waited `queued` on `node` before it started, or was given up after that.
    pub fn observe_wait(&self, node: &Node, queued: Duration, now: Timestamp) {
        let mut nodes = self.lock();
        let at = self.entry(&mut nodes, node);
        let (profile, seconds) = (&mut nodes[at], queued.as_secs_f64());
        let before = profile.wait(now);
        let changed = seconds > before * WAIT_CHANGED + WAIT_NOISE || seconds < before / WAIT_CHANGED - WAIT_NOISE;
        profile.wait = if changed { seconds } else { before + WEIGHT * (seconds - before) };
        profile.waited = now;
    }

    /// The time that `block` takes on `node` without load; [`Duration::MAX`] for a block that the model does not have.
    #[must_use]
    pub fn estimate(&self, node: &Node, block: usize) -> Duration {
        let mut times = Vec::with_capacity(1);
        self.estimates(&self.lock(), node, block..block + 1, None, &mut times);
        times.first().copied().unwrap_or(Duration::MAX)
    }

    /// Appends for each of `nodes` the times of `blocks` there, each [`BlockProfiler::estimate`] times the
    /// load that is expected `now`; and to `waits`, [`BlockProfiler::wait`].
    pub(crate) fn expected<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Node>,
        blocks: &[usize],
        now: Timestamp,
        times: &mut impl Extend<Duration>,
        waits: &mut impl Extend<Duration>,
    ) {
        let known = self.lock();
        waits.extend(nodes.map(|node| {
            self.estimates(&known, node, blocks.iter().copied(), Some(now), times);
            known.iter().find(|p| p.node == node.id).map_or(Duration::ZERO, |p| p.expected_wait(now))
        }));
    }

    fn estimates(
        &self,
        known: &[Profile],
        node: &Node,
        blocks: impl Iterator<Item = usize>,
        now: Option<Timestamp>,
        times: &mut impl Extend<Duration>,
    ) {
        let own = known.iter().find(|p| p.node == node.id).filter(|p| p.measured > 0);
        let other = || known.iter().max_by_key(|p| p.measured).filter(|p| p.measured > 0);
        let (profile, ratio) = match own.or_else(other) {
            Some(own) if own.node == node.id => (Some(own), now.map_or(1.0, |now| own.load(now))),
            Some(other) => (Some(other), f64::from(node.slowdown.factor()) / f64::from(other.slowdown.factor())),
            None => (None, f64::from(node.slowdown.factor())),
        };
        times.extend(blocks.map(|block| {
            let Some(&flops) = self.flops.get(block) else { return Duration::MAX };
            let measured = profile.and_then(|p| p.time(block, flops));
            let nanos = measured.unwrap_or_else(|| flops as f64 / ASSUMED_RATE * 1e9) * ratio;
            Duration::from_nanos(nanos as u64)
        }));
    }

    /// The time that a call will wait on `node`, by what calls waited there lately.
    #[must_use]
    pub fn wait(&self, node: &NodeId, now: Timestamp) -> Duration {
        self.lock().iter().find(|p| p.node == *node).map_or(Duration::ZERO, |p| p.expected_wait(now))
    }

    /// Where `node` is among `nodes`, put there if it was not.
    fn entry(&self, nodes: &mut Vec<Profile>, node: &Node) -> usize {
        if let Some(at) = nodes.iter().position(|p| p.node == node.id) {
            return at;
        }
        if nodes.len() == MAX_NODES {
            // One that is still used is seen again and comes back.
            nodes.remove(0);
        }
        nodes.push(Profile::new(node, self.flops.len()));
        nodes.len() - 1
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Profile>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Profile {
    fn expected_wait(&self, now: Timestamp) -> Duration {
        Duration::from_secs_f64(self.wait(now))
    }

    /// The mean wait in seconds, halved for each half-life since it was last seen.
    fn wait(&self, now: Timestamp) -> f64 {
        if self.wait == 0.0 {
            return 0.0;
        }
        self.wait * faded(now.since(self.waited), WAIT_HALF_LIFE)
    }
}

/// What is left of 1 after `age`.
fn faded(age: Duration, half_life: Duration) -> f64 {
    (-age.as_secs_f64() / half_life.as_secs_f64()).exp2()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scf_core::{Activation, BlockCost, DType, ModelBlock, ModelError, ModelName, TensorSpec, Tier, WireForm};

    use super::*;

    /// A block that gives what it takes and counts as so many operations.
    #[derive(Debug)]
    struct Counted(u64);

    impl ModelBlock for Counted {
        fn name(&self) -> &str {
            "counted"
        }
        fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
            Ok(input.clone())
        }
        fn cost(&self, _: &TensorSpec) -> BlockCost {
            BlockCost { flops: self.0, ..BlockCost::default() }
        }
        fn wire_forms(&self) -> &[WireForm] {
            &[WireForm::Exact]
        }
        fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
            Ok(input)
        }
    }

    fn profiler(flops: &[u64]) -> BlockProfiler {
        let blocks = flops.iter().map(|&f| Arc::new(Counted(f)) as Arc<dyn ModelBlock>).collect();
        let input = TensorSpec::new(DType::F32, &[1]);
        BlockProfiler::new(&BlockGraph::chain(ModelName::new("m").unwrap(), input, blocks).unwrap())
    }

    fn node(name: &str, slowdown: f32) -> Node {
        Node::new(NodeId::new(name).unwrap(), Tier::Device).slowdown(Slowdown::new(slowdown))
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_median_of_the_last_ten_counts_and_an_outlier_does_not() {
        let (profiler, cam) = (profiler(&[1000]), node("cam", 1.0));
        for ms in [500, 4, 4, 4, 5, 900, 4, 4, 4, 4, 4] {
            profiler.observe(&cam, 0, MS * ms);
        }
        assert_eq!(profiler.estimate(&cam, 0), 4 * MS);
        for _ in 0..6 {
            profiler.observe(&cam, 0, 9 * MS);
        }
        assert_eq!(profiler.estimate(&cam, 0), 9 * MS);
    }

    #[test]
    fn a_block_not_measured_here_goes_by_the_rate_of_those_that_were() {
        let (profiler, cam) = (profiler(&[1000, 3000]), node("cam", 8.0));
        for _ in 0..3 {
            profiler.observe(&cam, 0, 2 * MS);
        }
        assert_eq!(profiler.estimate(&cam, 1), 6 * MS);
    }

    #[test]
    fn a_node_never_measured_goes_by_another_and_the_ratio_of_their_slowdowns() {
        let (profiler, cam, cloud) = (profiler(&[1000, 1000]), node("cam", 8.0), node("cloud", 2.0));
        for _ in 0..3 {
            profiler.observe(&cam, 0, 8 * MS);
            profiler.observe(&cam, 1, 4 * MS);
        }
        assert_eq!([0, 1].map(|b| profiler.estimate(&cloud, b)), [2 * MS, MS]);
        // Two samples are not enough to take their place.
        profiler.observe(&cloud, 0, 50 * MS);
        profiler.observe(&cloud, 0, 50 * MS);
        assert_eq!(profiler.estimate(&cloud, 0), 2 * MS);
        profiler.observe(&cloud, 0, 50 * MS);
        assert_eq!(profiler.estimate(&cloud, 0), 50 * MS);
    }

    #[test]
    fn before_anything_was_measured_operations_and_slowdown_count() {
        let profiler = profiler(&[20_000_000, 0]);
        assert_eq!(profiler.estimate(&node("cam", 4.0), 0), 4 * MS);
        assert_eq!(profiler.estimate(&node("cam", 4.0), 1), Duration::ZERO);
        assert_eq!(profiler.estimate(&node("cam", 4.0), 2), Duration::MAX);
    }

    #[test]
    fn a_wait_fades_by_half_each_second() {
        let (profiler, cloud) = (profiler(&[1]), node("cloud", 1.0));
        let at = |s| Timestamp::default() + Duration::from_secs(s);
        profiler.observe_wait(&cloud, 100 * MS, at(5));
        assert_eq!(profiler.wait(&cloud.id, at(5)).as_micros(), 100_000);
        assert_eq!(profiler.wait(&cloud.id, at(7)).as_micros(), 25_000);
        assert_eq!(profiler.wait(&node("gw", 1.0).id, at(7)), Duration::ZERO);
    }

    #[test]
    fn a_wait_like_the_others_is_averaged_and_one_unlike_them_replaces_them() {
        let (profiler, cloud, now) = (profiler(&[1]), node("cloud", 1.0), Timestamp::default());
        let waits = [(20, 20.0), (30, 23.0), (90, 90.0), (60, 81.0), (3, 3.0), (2, 2.7)];
        for (waited, expected) in waits {
            profiler.observe_wait(&cloud, MS * waited, now);
            let wait = profiler.wait(&cloud.id, now).as_secs_f64() * 1e3;
            assert!((wait - expected).abs() < 1e-3, "{wait} ms after {waited} ms, not {expected}");
        }
    }

    /// What `node` is expected to take for each block at `now`.
    fn expected(profiler: &BlockProfiler, node: &Node, now: Timestamp) -> Vec<Duration> {
        let mut times = Vec::new();
        let blocks: Vec<usize> = (0..profiler.flops.len()).collect();
        profiler.expected(std::iter::once(node), &blocks, now, &mut times, &mut Vec::new());
        times
    }

    fn near(times: &[Duration], ms: &[f64]) {
        assert_eq!(times.len(), ms.len());
        for (time, ms) in times.iter().zip(ms) {
            assert!((time.as_secs_f64() * 1e3 - ms).abs() < 0.01 * ms, "{times:?} are not {ms:?} ms");
        }
    }

    #[test]
    fn a_run_of_some_blocks_under_load_tells_of_all_and_is_forgotten_by_half_in_five_seconds() {
        let (profiler, cam) = (profiler(&[1000, 1000, 1000]), node("cam", 8.0));
        let start = Timestamp::default();
        for _ in 0..3 {
            profiler.observe_run(&cam, [(0, 2 * MS), (1, 4 * MS), (2, 6 * MS)].into_iter(), start);
        }
        near(&expected(&profiler, &cam, start), &[2.0, 4.0, 6.0]);
        for _ in 0..20 {
            profiler.observe_run(&cam, [(0, 6 * MS)].into_iter(), start);
            near(&expected(&profiler, &cam, start), &[6.0, 12.0, 18.0]);
        }
        near(&expected(&profiler, &cam, start + Duration::from_secs(5)), &[4.0, 8.0, 12.0]);
        near(&[profiler.estimate(&cam, 2)], &[6.0]);
        profiler.observe_run(&cam, [(0, 2 * MS)].into_iter(), start);
        near(&expected(&profiler, &cam, start), &[2.0, 4.0, 6.0]);
    }

    #[test]
    fn a_node_first_met_under_load_is_known_to_be_faster_once_the_load_is_gone() {
        let (profiler, cam, now) = (profiler(&[1000, 1000]), node("cam", 8.0), Timestamp::default());
        for ms in [6, 6, 6, 2] {
            profiler.observe_run(&cam, [(0, ms * MS), (1, 2 * ms * MS)].into_iter(), now);
        }
        near(&expected(&profiler, &cam, now), &[2.0, 4.0]);
        near(&expected(&profiler, &cam, now + Duration::from_secs(3600)), &[2.0, 4.0]);
    }

    #[test]
    fn keeps_no_more_nodes_than_its_bound() {
        let profiler = profiler(&[1000]);
        for i in 0..2 * MAX_NODES {
            profiler.observe(&node(&format!("n{i}"), 1.0), 0, MS);
        }
        assert_eq!(profiler.lock().len(), MAX_NODES);
    }
}
