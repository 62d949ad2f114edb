//! Who gets how much of the links.

use scf_core::Timestamp;
use smallvec::SmallVec;

use crate::sim::engine::later;

/// When a flow is done, if nothing changes before; to be given back to [`Flows::finish`] at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowDue {
    flow: u32,
    generation: u32,
}

impl FlowDue {
    /// For the digest of the event that carries it.
    #[must_use]
    pub const fn digest(self) -> u64 {
        (self.flow as u64) << 32 | self.generation as u64
    }
}

/// A flow under way, to [`cancel`](Flows::cancel) it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId {
    flow: u32,
    serial: u32,
}

#[derive(Clone, Debug)]
struct Flow<T> {
    /// Which of the flows that had this place it is.
    serial: u32,
    route: SmallVec<[u32; 8]>,
    remaining: f64,
    /// Bytes per second.
    rate: f64,
    since: Timestamp,
    generation: u32,
    tag: Option<T>,
    mark: u32,
}

#[derive(Clone, Debug)]
struct Wire {
    capacity: f64,
    /// Bytes of all flows that ended here.
    carried: f64,
    flows: Vec<u32>,
    mark: u32,
    /// During filling: what is left, and for how many.
    left: f64,
    open: u32,
}

/// Flows that share links max-min fairly: no flow can be given more without taking from one that has no more than it.
///
/// When a flow starts or ends, rates are computed again by progressive filling (Bertsekas and Gallager, Data Networks,
/// section 6.5.2) for the flows that share a link with it, directly or through others, and for no other.
#[derive(Debug)]
pub struct Flows<T> {
    wires: Vec<Wire>,
    flows: Vec<Flow<T>>,
    free: Vec<u32>,
    mark: u32,
    /// What a link gives of its bandwidth (headers, acknowledgements).
    goodput: f64,
    touched_wires: Vec<u32>,
    touched_flows: Vec<u32>,
    due: Vec<(Timestamp, FlowDue)>,
    running: usize,
    started: u32,
}

impl<T: Copy> Flows<T> {
    /// Links by bandwidth in bytes per second, of which flows get the share `goodput` (0 to 1).
    pub fn new(bandwidths: impl IntoIterator<Item = f64>, goodput: f64) -> Self {
        let wire = |capacity| Wire { capacity, carried: 0.0, flows: Vec::new(), mark: 0, left: 0.0, open: 0 };
        Self {
            wires: bandwidths.into_iter().map(wire).collect(),
            flows: Vec::new(),
            free: Vec::new(),
            mark: 0,
            goodput,
            touched_wires: Vec::new(),
            touched_flows: Vec::new(),
            due: Vec::new(),
            running: 0,
            started: 0,
        }
    }

    /// Starts sending `bytes` over the links of `route`, which is not empty. `tag` comes back when it is done. Take the
    /// changes from [`due`](Self::due) afterwards.
    pub fn start(&mut self, now: Timestamp, route: &[u32], bytes: f64, tag: T) -> FlowId {
        self.started = self.started.wrapping_add(1);
        let serial = self.started;
        let flow = Flow {
            serial,
            route: SmallVec::from_slice(route),
            remaining: bytes,
            rate: 0.0,
            since: now,
            generation: 0,
            tag: Some(tag),
            mark: 0,
        };
        let id = if let Some(id) = self.free.pop() {
            let generation = self.flows[id as usize].generation;
            self.flows[id as usize] = Flow { generation, ..flow };
            id
        } else {
            self.flows.push(flow);
            self.flows.len() as u32 - 1
        };
        for &link in route {
            self.wires[link as usize].flows.push(id);
        }
        self.running += 1;
        self.share(now, route);
        FlowId { flow: id, serial }
    }

    /// Ends a flow that is due; `None` when its end has moved since.
    pub fn finish(&mut self, now: Timestamp, due: FlowDue) -> Option<T> {
        if self.flows[due.flow as usize].generation != due.generation {
            return None;
        }
        self.end(now, due.flow)
    }

    /// Ends a flow before it is done, as when one of its hosts is gone; `None` when it has ended already.
    pub fn cancel(&mut self, now: Timestamp, flow: FlowId) -> Option<T> {
        if self.flows[flow.flow as usize].serial != flow.serial {
            return None;
        }
        self.end(now, flow.flow)
    }

    fn end(&mut self, now: Timestamp, id: u32) -> Option<T> {
        let flow = &mut self.flows[id as usize];
        let tag = flow.tag.take()?;
        flow.generation += 1;
        let route = std::mem::take(&mut flow.route);
        for &link in &route {
            self.wires[link as usize].flows.retain(|on| *on != id);
        }
        self.free.push(id);
        self.running -= 1;
        self.share(now, &route);
        Some(tag)
    }

    /// Changes what a link has; with 0 its flows stand still until it has something again.
    pub fn set_bandwidth(&mut self, now: Timestamp, link: usize, bytes_per_s: f64) {
        self.wires[link].capacity = bytes_per_s;
        self.share(now, &[link as u32]);
    }

    /// Ends of flows that are new since the last time this was asked.
    pub fn due(&mut self) -> std::vec::Drain<'_, (Timestamp, FlowDue)> {
        self.due.drain(..)
    }

    /// Flows under way.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Flows under way on a link.
    #[must_use]
    pub fn on(&self, link: usize) -> usize {
        self.wires[link].flows.len()
    }

    fn share(&mut self, now: Timestamp, from: &[u32]) {
        self.gather(from);
        self.fill(now);
    }

    /// Finds the flows that share a link with one on the links given, directly or through others.
    fn gather(&mut self, from: &[u32]) {
        self.mark += 1;
        let mark = self.mark;
        self.touched_wires.clear();
        self.touched_flows.clear();
        let touch = |wires: &mut [Wire], touched: &mut Vec<u32>, link: u32| {
            let wire = &mut wires[link as usize];
            if wire.mark != mark {
                wire.mark = mark;
                wire.left = wire.capacity * self.goodput;
                wire.open = wire.flows.len() as u32;
                touched.push(link);
            }
        };
        for &link in from {
            touch(&mut self.wires, &mut self.touched_wires, link);
        }
        let mut at = 0;
        while at < self.touched_wires.len() {
            let link = self.touched_wires[at] as usize;
            at += 1;
            for position in 0..self.wires[link].flows.len() {
                let id = self.wires[link].flows[position];
                let flow = &mut self.flows[id as usize];
                if flow.mark == mark {
                    continue;
                }
                flow.mark = mark;
                self.touched_flows.push(id);
                for &other in &flow.route {
                    touch(&mut self.wires, &mut self.touched_wires, other);
                }
            }
        }
    }

    /// Progressive filling: the link whose flows get least fixes their rates, the others share what is left.
    fn fill(&mut self, now: Timestamp) {
        let mut wires = std::mem::take(&mut self.touched_wires);
        // A flow that has its rate carries this mark.
        self.mark += 1;
        let fixed = self.mark;
        let mut open = self.touched_flows.len();
        while open > 0 {
            wires.retain(|link| self.wires[*link as usize].open > 0);
            let share = |link: &u32| {
                let wire = &self.wires[*link as usize];
                wire.left.max(0.0) / f64::from(wire.open)
            };
            let Some(narrowest) = wires.iter().copied().min_by(|a, b| share(a).total_cmp(&share(b))) else { break };
            let rate = share(&narrowest);
            for position in 0..self.wires[narrowest as usize].flows.len() {
                let id = self.wires[narrowest as usize].flows[position];
                let flow = &mut self.flows[id as usize];
                if flow.mark == fixed {
                    continue;
                }
                flow.mark = fixed;
                open -= 1;
                for &link in &flow.route {
                    let wire = &mut self.wires[link as usize];
                    wire.left -= rate;
                    wire.open -= 1;
                }
                if (flow.rate - rate).abs() <= rate * 1e-9 && flow.rate > 0.0 {
                    continue;
                }
                let passed = now.since(flow.since).as_secs_f64();
                flow.remaining = (flow.remaining - flow.rate * passed).max(0.0);
                flow.since = now;
                flow.rate = rate;
                flow.generation += 1;
                if rate > 0.0 {
                    let due = FlowDue { flow: id, generation: flow.generation };
                    self.due.push((later(now, flow.remaining / rate), due));
                }
            }
        }
        self.touched_wires = wires;
    }

    /// Says that `bytes` were carried over all links of a route.
    pub fn book(&mut self, route: &[u32], bytes: f64) {
        for &link in route {
            self.wires[link as usize].carried += bytes;
        }
    }

    /// Bytes that were booked on a link.
    #[must_use]
    pub fn carried(&self, link: usize) -> f64 {
        self.wires[link].carried
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Rng;

    fn rates(flows: &Flows<u32>) -> Vec<f64> {
        flows.flows.iter().map(|flow| flow.rate).collect()
    }

    /// The example of Bertsekas and Gallager's figure 6.11: what one flow leaves on the second link goes to others.
    #[test]
    fn a_flow_gets_what_those_that_are_held_back_elsewhere_leave() {
        let mut flows = Flows::new([1.0, 1.0], 1.0);
        for route in [&[0][..], &[0], &[0, 1], &[1]] {
            flows.start(Timestamp::default(), route, 1.0, 0);
        }
        let third = 1.0 / 3.0;
        for (rate, expected) in rates(&flows).into_iter().zip([third, third, third, 2.0 * third]) {
            assert!((rate - expected).abs() < 1e-12, "{rate} instead of {expected}");
        }
    }

    #[test]
    fn two_flows_on_one_link_take_as_long_as_their_bytes_together() {
        let mut flows = Flows::new([100.0], 1.0);
        let mut engine: Vec<(Timestamp, FlowDue)> = Vec::new();
        flows.start(Timestamp::default(), &[0], 100.0, 1);
        flows.start(Timestamp::from_nanos(500_000_000), &[0], 100.0, 2);
        engine.extend(flows.due());
        let mut ended = Vec::new();
        while !engine.is_empty() {
            engine.sort_by_key(|(at, _)| *at);
            let (at, due) = engine.remove(0);
            ended.extend(flows.finish(at, due).map(|tag| (tag, at.nanos())));
            engine.extend(flows.due());
        }
        // Alone for half a second, then by halves; the second is alone for its last half.
        assert_eq!(ended, [(1, 1_500_000_000), (2, 2_000_000_000)]);
    }

    #[test]
    fn a_cut_link_holds_its_flows_until_it_is_back() {
        let mut flows = Flows::new([100.0], 1.0);
        flows.start(Timestamp::default(), &[0], 100.0, 1);
        let first = flows.due().next().unwrap().1;
        let half = Timestamp::from_nanos(500_000_000);
        flows.set_bandwidth(half, 0, 0.0);
        assert_eq!(flows.due().count(), 0);
        assert_eq!(flows.finish(Timestamp::from_nanos(1_000_000_000), first), None);
        flows.set_bandwidth(Timestamp::from_nanos(9_000_000_000), 0, 50.0);
        let (at, due) = flows.due().next().unwrap();
        assert_eq!(at.nanos(), 10_000_000_000);
        assert_eq!(flows.finish(at, due), Some(1));
    }

    /// Max-min fairness has one test: every flow has a link that is full and on which nobody gets more.
    #[test]
    fn every_flow_is_held_back_by_a_full_link_on_which_nobody_gets_more() {
        let mut rng = Rng::of(5, 0, 0);
        for _ in 0..200 {
            let capacities: Vec<f64> = (0..8).map(|_| 1.0 + 9.0 * rng.unit()).collect();
            let mut flows = Flows::new(capacities.iter().copied(), 1.0);
            for tag in 0..12 {
                let mut route: Vec<u32> = (0..8).collect();
                rng.shuffle(&mut route);
                route.truncate(1 + rng.below(3));
                flows.start(Timestamp::default(), &route, 1.0, tag);
            }
            for flow in &flows.flows {
                let held = flow.route.iter().any(|&link| {
                    let on: Vec<f64> =
                        flows.wires[link as usize].flows.iter().map(|id| flows.flows[*id as usize].rate).collect();
                    let full = (on.iter().sum::<f64>() - capacities[link as usize]).abs() < 1e-9;
                    full && on.iter().all(|rate| *rate <= flow.rate + 1e-9)
                });
                assert!(held, "{:?} has {}", flow.route, flow.rate);
            }
            for (wire, capacity) in flows.wires.iter().zip(&capacities) {
                let sum: f64 = wire.flows.iter().map(|id| flows.flows[*id as usize].rate).sum();
                assert!(sum <= capacity + 1e-9);
            }
        }
    }
}
