//! What came of a run.

use scf_core::Timestamp;

use super::FunctionSpec;
use crate::sim::{EventLog, Summary};

/// The mean of an amount over virtual time, in at most 240 stretches of equal length.
#[derive(Clone, Debug)]
pub struct Timeline {
    width: f64,
    bins: Vec<(u64, f64)>,
}

const BINS: usize = 240;

impl Default for Timeline {
    fn default() -> Self {
        Self { width: 60.0, bins: Vec::new() }
    }
}

impl Timeline {
    fn add(&mut self, at: f64, value: f64) {
        while at / self.width >= BINS as f64 {
            // Neighbours become one, and each is twice as long.
            self.bins =
                self.bins.chunks(2).map(|pair| pair.iter().fold((0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))).collect();
            self.width *= 2.0;
        }
        let bin = (at / self.width) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, (0, 0.0));
        }
        self.bins[bin].0 += 1;
        self.bins[bin].1 += value;
    }

    /// Middle of each stretch in seconds, and the mean in it; stretches without values are left out.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let bins = self.bins.iter().enumerate().filter(|(_, (count, _))| *count > 0);
        bins.map(|(bin, (count, sum))| ((bin as f64 + 0.5) * self.width, sum / *count as f64))
    }
}

/// What came of a run of a [`Platform`](super::Platform).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The policy.
    pub policy: String,
    /// Seconds per request on its replica: reading, executing, writing.
    pub took: Summary,
    /// Seconds that requests waited for a replica.
    pub waited: Summary,
    /// Seconds from the decision to a replica that serves.
    pub started: Summary,
    /// Requests done in the cloud.
    pub in_cloud: u64,
    /// What executions in the cloud would cost in US dollars, at $0.0000166667 per GB and second.
    pub cloud_dollars: f64,
    /// Bytes over uplinks.
    pub uplink_bytes: f64,
    /// Bytes over downlinks.
    pub downlink_bytes: f64,
    /// Placements that were asked for.
    pub decisions: u64,
    /// Of those, without a node that would do at that time.
    pub unplaced: u64,
    /// Images that were pulled.
    pub pulls: u64,
    /// Nodes that failed.
    pub failures: u64,
    /// Requests that had to be begun again.
    pub retries: u64,
    /// Requests that waited when the run ended.
    pub waiting: u64,
    /// Virtual time at the end, in seconds.
    pub virtual_s: f64,
    /// Of all events.
    pub log: EventLog,
    /// Seconds per request over the run.
    pub timeline: Timeline,
    /// By profile.
    pub by_profile: Vec<Summary>,
}

impl Report {
    pub(crate) fn new(policy: &str) -> Self {
        Self {
            policy: policy.into(),
            took: Summary::default(),
            waited: Summary::default(),
            started: Summary::default(),
            in_cloud: 0,
            cloud_dollars: 0.0,
            uplink_bytes: 0.0,
            downlink_bytes: 0.0,
            decisions: 0,
            unplaced: 0,
            pulls: 0,
            failures: 0,
            retries: 0,
            waiting: 0,
            virtual_s: 0.0,
            log: EventLog::default(),
            timeline: Timeline::default(),
            by_profile: Vec::new(),
        }
    }

    pub(crate) fn invocation(
        &mut self,
        now: Timestamp,
        spec: &FunctionSpec,
        cloud: bool,
        waited: f64,
        took: f64,
        ran: f64,
    ) {
        self.took.add(took);
        self.waited.add(waited);
        self.timeline.add(now.nanos() as f64 / 1e9, took);
        let profile = usize::from(spec.profile);
        if self.by_profile.len() <= profile {
            self.by_profile.resize_with(profile + 1, Summary::default);
        }
        self.by_profile[profile].add(took);
        if cloud {
            self.in_cloud += 1;
            self.cloud_dollars += spec.memory as f64 / f64::from(1u32 << 30) * ran * 0.000_016_666_7;
        }
    }

    pub(crate) fn start(&mut self, took: f64) {
        self.started.add(took);
    }

    /// Requests done.
    #[must_use]
    pub const fn invocations(&self) -> u64 {
        self.took.count()
    }

    /// Share of the requests that were done at the edge.
    #[must_use]
    pub fn edge_share(&self) -> f64 {
        1.0 - self.in_cloud as f64 / self.invocations().max(1) as f64
    }
}
