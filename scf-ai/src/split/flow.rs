//! Maximum flow, and with it minimum cuts.

/// A capacity that no cut may contain. Finite capacities of a network have to sum up to less.
pub(super) const INFINITE: u64 = 1 << 62;
/// No edge, and no level.
const NONE: u32 = u32::MAX;

/// A directed network with capacities; Dinic's algorithm (Soviet Math. Doklady 11, 1970) over edges in flat lists
/// that keep their memory.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// The first edge of each node.
    first: Vec<u32>,
    /// Edges in pairs: at an even index one that was added, behind it its reverse.
    to: Vec<u32>,
    next: Vec<u32>,
    residual: Vec<u64>,
    level: Vec<u32>,
    /// The edge of each node that is tried next.
    current: Vec<u32>,
    queue: Vec<u32>,
    path: Vec<u32>,
}

impl Network {
    /// Forgets all edges; there are `nodes` nodes from now on.
    pub(super) fn reset(&mut self, nodes: usize) {
        self.first.clear();
        self.first.resize(nodes, NONE);
        self.to.clear();
        self.next.clear();
        self.residual.clear();
    }

    /// Adds an edge.
    pub(super) fn edge(&mut self, from: usize, to: usize, capacity: u64) {
        for (from, to, capacity) in [(from, to, capacity), (to, from, 0)] {
            self.next.push(self.first[from]);
            self.first[from] = self.to.len() as u32;
            self.to.push(to as u32);
            self.residual.push(capacity);
        }
    }

    /// The value of a maximum flow, [`INFINITE`] if there is no finite one.
    pub(super) fn flow(&mut self, source: usize, sink: usize) -> u64 {
        let mut total = 0;
        while self.levels(source, sink) {
            self.current.clone_from(&self.first);
            self.path.clear();
            let mut at = source;
            loop {
                if at == sink {
                    total += self.push();
                    if total >= INFINITE {
                        return INFINITE;
                    }
                    at = self.retreat(source);
                } else if let Some(edge) = self.advance(at) {
                    self.path.push(edge);
                    at = self.to[edge as usize] as usize;
                } else if let Some(edge) = self.path.pop() {
                    self.level[at] = NONE;
                    at = self.to[edge as usize ^ 1] as usize;
                } else {
                    break;
                }
            }
        }
        total
    }

    /// Writes to `reaches` which nodes still reach `sink` after [`Network::flow`]: the sink's side of the minimum
    /// cut in which it is smallest.
    pub(super) fn reaching(&mut self, sink: usize, reaches: &mut Vec<bool>) {
        reaches.clear();
        reaches.resize(self.first.len(), false);
        reaches[sink] = true;
        self.queue.clear();
        self.queue.push(sink as u32);
        while let Some(node) = self.queue.pop() {
            let mut edge = self.first[node as usize];
            while edge != NONE {
                let from = self.to[edge as usize];
                if self.residual[edge as usize ^ 1] > 0 && !reaches[from as usize] {
                    reaches[from as usize] = true;
                    self.queue.push(from);
                }
                edge = self.next[edge as usize];
            }
        }
    }

    /// Numbers the nodes by their distance from `source`; whether `sink` can be reached.
    fn levels(&mut self, source: usize, sink: usize) -> bool {
        self.level.clear();
        self.level.resize(self.first.len(), NONE);
        self.level[source] = 0;
        self.queue.clear();
        self.queue.push(source as u32);
        let mut done = 0;
        while let Some(&node) = self.queue.get(done).filter(|_| self.level[sink] == NONE) {
            done += 1;
            let mut edge = self.first[node as usize];
            while edge != NONE {
                let to = self.to[edge as usize];
                if self.residual[edge as usize] > 0 && self.level[to as usize] == NONE {
                    self.level[to as usize] = self.level[node as usize] + 1;
                    self.queue.push(to);
                }
                edge = self.next[edge as usize];
            }
        }
        self.level[sink] != NONE
    }

    /// The next edge of `node` that leads one level on and has room.
    fn advance(&mut self, node: usize) -> Option<u32> {
        loop {
            let edge = self.current[node];
            if edge == NONE {
                return None;
            }
            let to = self.to[edge as usize] as usize;
            // A dead end has no level any more and NONE is never one more than a level.
            if self.residual[edge as usize] > 0 && self.level[to] == self.level[node] + 1 {
                return Some(edge);
            }
            self.current[node] = self.next[edge as usize];
        }
    }

    /// Sends as much as fits along the path.
    fn push(&mut self) -> u64 {
        let room = self.path.iter().map(|&edge| self.residual[edge as usize]).min().unwrap_or(0);
        for &edge in &self.path {
            self.residual[edge as usize] -= room;
            self.residual[edge as usize ^ 1] += room;
        }
        room
    }

    /// Shortens the path to before its first full edge and gives the node where it ends now.
    fn retreat(&mut self, source: usize) -> usize {
        let full = self.path.iter().position(|&edge| self.residual[edge as usize] == 0).unwrap_or(0);
        self.path.truncate(full);
        self.path.last().map_or(source, |&edge| self.to[edge as usize] as usize)
    }
}
