//! The cut of a network that is no chain.

use std::{cmp::Ordering, time::Duration};

use scf_core::PlanError;

use super::flow::{INFINITE, Network};

/// Most blocks of a network that is cut; of so many, no sum of finite times overflows.
const MAX_BLOCKS: usize = 4096;
/// Longest time that still counts as one, three days in nanoseconds; what takes longer is never done.
const LONGEST: u64 = 1 << 48;

/// A network of blocks in an order in which they can run, and two machines: the one where the input is, and a
/// far one.
///
/// [`Duration::MAX`] is the time of a block where it cannot run and of a tensor that must not travel: infinite
/// uploads are how privacy is said. What a time is weighed with, energy or money, the caller adds to it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct DagProblem<'a> {
    /// The blocks, each behind those whose outputs it takes; the last one's output is the result.
    pub blocks: &'a [DagBlock<'a>],
    /// Time of sending the input itself to the far machine.
    pub upload: Duration,
    /// Time of bringing the result back when it arises on the far machine.
    pub download: Duration,
}

/// A block and what it costs on either side.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct DagBlock<'a> {
    /// The blocks whose outputs it takes, by index; none for a block that takes the network's input.
    pub inputs: &'a [usize],
    /// Its time where the input is.
    pub here: Duration,
    /// Its time on the far machine.
    pub there: Duration,
    /// Time of sending its output to the far machine, once, however many blocks take it there.
    pub upload: Duration,
}

/// Which blocks run on the far machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a cut is")]
pub struct DagCut {
    /// Of each block, whether it runs on the far machine.
    pub there: Vec<bool>,
    /// Sum of the times of blocks and transfers.
    pub predicted: Duration,
}

/// Finds the cut of a network with the least sum of block and transfer times.
///
/// DADS (Hu et al., INFOCOM 2019, the case of light load) as a minimum s-t cut: the edges of a block from the
/// source and to the sink are its times; an auxiliary node behind it carries its upload, so that a tensor which
/// several blocks take is sent once; infinite edges from the takers back to it keep on the far machine what
/// follows from what ran there. Of equally good cuts it takes the one with the fewest blocks on the far machine.
///
/// A decision tool of its own, which [`MinCutSplit`](super::MinCutSplit) asks for each node. Keeps its memory between
/// decisions: of networks no larger than one before, it allocates the answer alone. Networks have at most 4096 blocks;
/// times over three days count as infinite.
#[derive(Debug, Default)]
pub struct MinCut {
    network: Network,
    far: Vec<bool>,
}

impl MinCut {
    /// A planner that has decided nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The best cut of `problem`.
    ///
    /// # Errors
    /// [`PlanError::Malformed`] for no blocks, too many, or one that takes what comes behind it;
    /// [`PlanError::Impossible`] when every cut needs something infinite.
    pub fn cut(&mut self, problem: &DagProblem<'_>) -> Result<DagCut, PlanError> {
        let n = problem.blocks.len();
        let ordered = |(i, block): (usize, &DagBlock<'_>)| block.inputs.iter().all(|&input| input < i);
        if n == 0 || n > MAX_BLOCKS || !problem.blocks.iter().enumerate().all(ordered) {
            return Err(PlanError::Malformed { table: "blocks" });
        }
        // The blocks, the auxiliary node of each, that of the input. The source's side is here.
        let (input, source, sink) = (2 * n, 2 * n + 1, 2 * n + 2);
        let net = &mut self.network;
        net.reset(2 * n + 3);
        net.edge(source, input, capacity(problem.upload));
        // What a block takes on either side flows past the network and is not searched for.
        let mut either: u64 = 0;
        for (i, block) in problem.blocks.iter().enumerate() {
            let back = if i + 1 == n { capacity(problem.download) } else { 0 };
            let (here, there) = (capacity(block.here), (capacity(block.there) + back).min(INFINITE));
            let both = here.min(there);
            either = (either + both).min(INFINITE);
            let rest = |time| if time == INFINITE { INFINITE } else { time - both };
            match here.cmp(&there) {
                Ordering::Less => net.edge(source, i, rest(there)),
                Ordering::Equal => {}
                Ordering::Greater => net.edge(i, sink, rest(here)),
            }
            net.edge(i, n + i, capacity(block.upload));
            if block.inputs.is_empty() {
                net.edge(input, i, INFINITE);
            }
            for &producer in block.inputs {
                net.edge(n + producer, i, INFINITE);
                net.edge(i, producer, INFINITE);
            }
        }
        let predicted = either + net.flow(source, sink);
        if predicted >= INFINITE {
            return Err(PlanError::Impossible { block: stuck(problem) });
        }
        net.reaching(sink, &mut self.far);
        Ok(DagCut { there: self.far[..n].to_vec(), predicted: Duration::from_nanos(predicted) })
    }
}

/// Nanoseconds, or that it cannot be had.
fn capacity(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).ok().filter(|&nanos| nanos <= LONGEST).unwrap_or(INFINITE)
}

/// The first block that runs nowhere; the last one when it is a way that is missing.
fn stuck(problem: &DagProblem<'_>) -> usize {
    let nowhere = |block: &DagBlock<'_>| capacity(block.here.min(block.there)) == INFINITE;
    problem.blocks.iter().position(nowhere).unwrap_or(problem.blocks.len() - 1)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use scf_core::{
        Bandwidth, ByteSize, EdgeCost, FormCost, NodeId, Path, Slowdown, SplitPlanner, SplitProblem, SplitSpent,
        Timestamp, WireForm,
    };

    use super::*;
    use crate::LatencyOptimal;

    #[derive(Clone, Debug)]
    struct Dag {
        /// Inputs, here, there, upload.
        blocks: Vec<(Vec<usize>, Duration, Duration, Duration)>,
        upload: Duration,
        download: Duration,
    }

    impl Dag {
        fn with<'a, T>(&'a self, f: impl FnOnce(&DagProblem<'_>) -> T) -> T {
            let block = |b: &'a (Vec<usize>, Duration, Duration, Duration)| DagBlock {
                inputs: &b.0,
                here: b.1,
                there: b.2,
                upload: b.3,
            };
            let blocks: Vec<_> = self.blocks.iter().map(block).collect();
            f(&DagProblem { blocks: &blocks, upload: self.upload, download: self.download })
        }

        /// What an assignment comes to; `None` when it needs what cannot be had.
        fn price(&self, there: &[bool]) -> Option<Duration> {
            let mut total = Duration::ZERO;
            let mut add = |time: Duration| {
                total = total.saturating_add(time);
            };
            let last = self.blocks.len() - 1;
            for (i, (inputs, on_this, on_far, upload)) in self.blocks.iter().enumerate() {
                add(if there[i] { *on_far } else { *on_this });
                if !there[i] && inputs.iter().any(|&producer| there[producer]) {
                    return None;
                }
                let takers = self.blocks.iter().zip(there).filter(|((inputs, ..), _)| inputs.contains(&i));
                if !there[i] && takers.into_iter().any(|(_, &far)| far) {
                    add(*upload);
                }
            }
            if self.blocks.iter().zip(there).any(|((inputs, ..), &far)| far && inputs.is_empty()) {
                add(self.upload);
            }
            if there[last] {
                add(self.download);
            }
            (total < Duration::from_hours(72)).then_some(total)
        }

        fn brute_force(&self) -> Option<Duration> {
            let n = self.blocks.len();
            (0..1usize << n)
                .filter_map(|code| self.price(&(0..n).map(|i| code >> i & 1 == 1).collect::<Vec<_>>()))
                .min()
        }
    }

    fn time() -> impl Strategy<Value = Duration> {
        prop_oneof![8 => (0u64..50).prop_map(Duration::from_micros), 1 => Just(Duration::MAX)]
    }

    fn dag() -> impl Strategy<Value = Dag> {
        let blocks = vec((any::<u32>(), time(), time(), time()), 1..9);
        (blocks, time(), time()).prop_map(|(blocks, upload, download)| {
            let inputs = |i: usize, bits: u32| (0..i).filter(|&producer| bits >> producer & 1 == 1).collect();
            let blocks =
                blocks.into_iter().enumerate().map(|(i, (bits, a, b, c))| (inputs(i, bits), a, b, c)).collect();
            Dag { blocks, upload, download }
        })
    }

    fn chain(blocks: &[(u64, u64, u64)]) -> Dag {
        let us = Duration::from_micros;
        let block = |(i, &(here, there, up)): (usize, &(u64, u64, u64))| {
            (if i == 0 { vec![] } else { vec![i - 1] }, us(here), us(there), us(up))
        };
        Dag { blocks: blocks.iter().enumerate().map(block).collect(), upload: us(40), download: us(3) }
    }

    proptest! {
        #[test]
        fn no_assignment_is_better(dag in dag()) {
            match (dag.with(|problem| MinCut::new().cut(problem)), dag.brute_force()) {
                (Ok(cut), best) => {
                    prop_assert_eq!(Some(cut.predicted), best);
                    prop_assert_eq!(dag.price(&cut.there), best, "the cut is not what it predicts");
                }
                (Err(error), best) => {
                    let impossible = matches!(error, PlanError::Impossible { .. });
                    prop_assert!(impossible, "{error}");
                    prop_assert_eq!(best, None);
                }
            }
        }

        #[test]
        fn of_a_chain_it_is_the_plan_of_the_chain_planner_unless_that_comes_back(
            blocks in vec((1u64..500, 1u64..50, 0u64..400), 1..20),
        ) {
            // A way of 1 byte per microsecond without delay, so that sizes are times.
            let path = Path { latency: Duration::ZERO, bandwidth: Bandwidth::from_bits_per_s(8_000_000), measured: Timestamp::default() };
            let form = |micros| [FormCost { form: WireForm::Exact, size: ByteSize::from_bytes(micros), codec: Duration::ZERO }];
            let forms: Vec<_> = std::iter::once(40).chain(blocks.iter().map(|b| b.2)).take(blocks.len()).map(form).collect();
            let edges: Vec<_> = forms.iter().map(|forms| EdgeCost { forms }).collect();
            let dag = chain(&blocks);
            let times: Vec<_> = dag.blocks.iter().map(|b| b.1).chain(dag.blocks.iter().map(|b| b.2)).collect();
            let (cam, cloud) = (NodeId::new("cam").unwrap(), NodeId::new("cloud").unwrap());
            let plan = LatencyOptimal.plan(&SplitProblem {
                nodes: 2,
                names: &[&cam, &cloud],
                slowdowns: &[Slowdown::NONE; 2],
                blocks: blocks.len(),
                first: 0,
                times: &times,
                waits: &[Duration::ZERO; 2],
                paths: &[Some(path); 4],
                edges: &edges,
                result: ByteSize::from_bytes(3),
                draws: &[],
                spent: SplitSpent::NOTHING,
            }).unwrap();
            let cut = dag.with(|problem| MinCut::new().cut(problem)).unwrap();
            prop_assert!(cut.predicted >= plan.predicted);
            // The chain planner may also bring an activation back and go on here.
            if plan.segments.iter().skip_while(|segment| segment.node == 0).all(|segment| segment.node == 1) {
                prop_assert_eq!(cut.predicted.as_micros(), plan.predicted.as_micros());
            }
        }
    }

    #[test]
    fn a_tensor_that_two_blocks_take_is_sent_once() {
        let us = Duration::from_micros;
        let far = |input| (vec![input], us(100), us(1), us(0));
        // Sent twice, the 30 of the stem's output would cost more than the join saves here.
        let blocks = vec![(vec![], us(5), us(1), us(30)), far(0), far(0), (vec![1, 2], us(1), us(1), us(0))];
        let dag = Dag { blocks, upload: us(500), download: us(2) };
        let cut = dag.with(|problem| MinCut::new().cut(problem)).unwrap();
        assert_eq!(cut, DagCut { there: vec![false, true, true, true], predicted: us(5 + 30 + 3 + 2) });
    }

    #[test]
    fn an_input_that_must_not_travel_stays_with_what_would_give_it_away() {
        let mut dag = chain(&[(50, 1, 4), (50, 1, 1), (50, 1, 1)]);
        let there = |dag: &Dag| dag.with(|problem| MinCut::new().cut(problem)).unwrap().there;
        assert_eq!(there(&dag), [true, true, true]);
        dag.upload = Duration::MAX;
        assert_eq!(there(&dag), [false, true, true]);
        dag.blocks[0].3 = Duration::MAX;
        assert_eq!(there(&dag), [false, false, true]);
    }

    #[test]
    fn a_block_that_runs_nowhere_is_named_and_one_that_takes_what_comes_later_refused() {
        let mut dag = chain(&[(1, 1, 1), (1, 1, 1), (1, 1, 1)]);
        dag.blocks[1].0 = vec![2];
        assert_eq!(dag.with(|p| MinCut::new().cut(p)), Err(PlanError::Malformed { table: "blocks" }));
        dag.blocks[1] = (vec![0], Duration::MAX, Duration::MAX, Duration::ZERO);
        assert_eq!(dag.with(|p| MinCut::new().cut(p)), Err(PlanError::Impossible { block: 1 }));
    }
}
