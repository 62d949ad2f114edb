//! The fields of a scenario file.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::ScenarioError;
use crate::{
    policy::Weights,
    sim::{Distribution, workload::published_invocations},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) seeds: Vec<u64>,
    /// Default: what was published, or as many as come.
    pub(super) invocations: Option<u64>,
    /// Default: without end.
    pub(super) until_s: Option<f64>,
    /// Whether nodes run as many requests at once as they have cores.
    #[serde(default)]
    pub(super) slots: bool,
    /// After how long an idle replica is taken away; default never.
    pub(super) idle_s: Option<f64>,
    pub(super) topology: Hosts,
    pub(super) workload: Work,
    #[serde(default)]
    pub(super) disturbance: Trouble,
    pub(super) policy: Vec<PolicyKind>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Hosts {
    UrbanSensing { cells: u16 },
    IndustrialIot { premises: u16 },
    CloudRegions { machines: u32 },
    Regions { round_trips: World, device: String, per_place: u32, wan_mbit: f64 },
    Places { place: Vec<PlaceFields> },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum World {
    Cities,
    Aws,
    Gcp,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceFields {
    pub(super) name: String,
    pub(super) lan_mbit: f64,
    pub(super) up_mbit: f64,
    pub(super) down_mbit: f64,
    #[serde(default)]
    pub(super) latency_ms: f64,
    pub(super) devices: BTreeMap<String, u32>,
    /// NUCs that keep data.
    #[serde(default)]
    pub(super) storage: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Work {
    Pipelines { deployments: usize },
    Functions { profiles: Table, function: Vec<FunctionFields> },
    AzureFunctions { trace: String, minutes: usize },
    LlmRequests { trace: String, replicas: usize, prefill_ms_per_token: f64, decode_ms_per_token: f64 },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Table {
    TenDevices,
    Fgcs21,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionFields {
    pub(super) profile: String,
    pub(super) count: usize,
    #[serde(default = "hundred")]
    pub(super) cpu_milli: u32,
    pub(super) memory_mib: u64,
    pub(super) every: Distribution,
    #[serde(default)]
    pub(super) reads_mib: f64,
    #[serde(default)]
    pub(super) writes_mib: f64,
    #[serde(default)]
    pub(super) wants_gpu: bool,
    #[serde(default)]
    pub(super) scale_to_zero: bool,
}

const fn hundred() -> u32 {
    100
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Trouble {
    pub(super) churn: Option<Churn>,
    pub(super) cuts: Vec<Cut>,
    pub(super) moves: Option<Moves>,
    pub(super) battery: Option<OnBattery>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Churn {
    pub(super) devices: Vec<String>,
    pub(super) up_s: f64,
    pub(super) down_s: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cut {
    pub(super) place: String,
    pub(super) from_s: f64,
    pub(super) to_s: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moves {
    pub(super) devices: Vec<String>,
    pub(super) dwell_s: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnBattery {
    pub(super) devices: Vec<String>,
    pub(super) watt_hours: f64,
    pub(super) idle_watts: f64,
    pub(super) busy_watts: f64,
}

/// A policy as a scenario names it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`Kube`](crate::policy::Kube).
    Kube {
        /// Share of the nodes that is scored, in per cent.
        #[serde(default = "all")]
        percent: u8,
    },
    /// [`Skippy`](crate::policy::Skippy) with all weights 1.
    Skippy,
    /// Skippy with published weights.
    SkippyTuned {
        /// Those for which scenario.
        weights: TunedFor,
    },
    /// [`UniformRandom`](crate::policy::UniformRandom).
    Random,
    /// [`PowerOfD`](crate::policy::PowerOfD).
    PowerOfD {
        /// Nodes that are asked.
        d: u8,
    },
    /// [`BoundedLoads`](crate::policy::BoundedLoads), a quarter above the average.
    BoundedLoads,
    /// [`RandomLoadUpdates`](crate::policy::RandomLoadUpdates) as it comes.
    RandomLoadUpdates,
    /// [`PackThenSpread`](crate::policy::PackThenSpread).
    PackThenSpread,
    /// [`TwoSmart`](crate::policy::TwoSmart), with sites as clusters.
    TwoSmart,
    /// [`Polaris`](crate::policy::Polaris).
    Polaris,
    /// [`Auction`](crate::policy::Auction) as it comes.
    Auction,
    /// [`Scf`](crate::Scf), which looks at up to 128 nodes for a replica.
    Scf {
        /// Where execution times come from.
        times: Times,
        /// Megabytes that may leave sites per placement, by [`UplinkBudget`](crate::policy::UplinkBudget); default any number.
        #[serde(default)]
        uplink_mb: Option<f64>,
    },
}

const fn all() -> u8 {
    100
}

/// Where execution times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "they are known or they are not")]
pub enum Times {
    /// Learned in the run, from nothing.
    Learned,
    /// Means of the profiles.
    Known,
}

/// The scenario that weights were tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TunedFor {
    /// Sensing in a city.
    UrbanSensing,
    /// Factories.
    IndustrialIot,
    /// Regions of a cloud.
    CloudRegions,
}

impl TunedFor {
    pub(super) const fn weights(self) -> Weights {
        match self {
            Self::UrbanSensing => Weights::URBAN_SENSING,
            Self::IndustrialIot => Weights::INDUSTRIAL_IOT,
            Self::CloudRegions => Weights::CLOUD_REGIONS,
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kube { percent: 100 } => f.write_str("kube"),
            Self::Kube { percent } => write!(f, "kube {percent} %"),
            Self::Skippy => f.write_str("skippy"),
            Self::SkippyTuned { .. } => f.write_str("skippy tuned"),
            Self::Random => f.write_str("random"),
            Self::PowerOfD { d } => write!(f, "power of {d}"),
            Self::BoundedLoads => f.write_str("bounded loads"),
            Self::RandomLoadUpdates => f.write_str("random load updates"),
            Self::PackThenSpread => f.write_str("pack then spread"),
            Self::TwoSmart => f.write_str("2-smart"),
            Self::Polaris => f.write_str("polaris"),
            Self::Auction => f.write_str("auction"),
            Self::Scf { times, uplink_mb } => {
                let times = if *times == Times::Learned { "learned" } else { "known" };
                match uplink_mb {
                    Some(mb) => write!(f, "scf {times}, {mb} MB"),
                    None => write!(f, "scf {times}"),
                }
            }
        }
    }
}

impl File {
    pub(super) fn invocations(&self) -> Option<u64> {
        let published = match self.workload {
            Work::Pipelines { deployments } => Some(published_invocations(deployments)),
            _ => None,
        };
        self.invocations.or(published)
    }

    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let positive = |field: &str, value: f64| {
            let sound = value.is_finite() && value > 0.0;
            if sound { Ok(()) } else { Err(ScenarioError::field(field, format!("{value} is not above 0"))) }
        };
        if self.seeds.is_empty() {
            return Err(ScenarioError::field("seeds", "there is none"));
        }
        if self.policy.is_empty() {
            return Err(ScenarioError::field("policy", "there is none"));
        }
        if let Some(until) = self.until_s {
            positive("until_s", until)?;
        }
        match &self.topology {
            Hosts::UrbanSensing { cells } => positive("topology.cells", f64::from(*cells))?,
            Hosts::IndustrialIot { premises } => positive("topology.premises", f64::from(*premises))?,
            Hosts::CloudRegions { machines } => positive("topology.machines", f64::from(*machines))?,
            Hosts::Regions { per_place, wan_mbit, .. } => {
                positive("topology.per_place", f64::from(*per_place))?;
                positive("topology.wan_mbit", *wan_mbit)?;
            }
            Hosts::Places { place } => {
                positive("topology.place", place.len() as f64)?;
                for PlaceFields { name, lan_mbit, up_mbit, down_mbit, .. } in place {
                    positive(&format!("topology.place {name}: lan_mbit"), *lan_mbit)?;
                    positive(&format!("topology.place {name}: up_mbit"), *up_mbit)?;
                    positive(&format!("topology.place {name}: down_mbit"), *down_mbit)?;
                }
            }
        }
        match &self.workload {
            Work::Pipelines { deployments } => positive("workload.deployments", *deployments as f64)?,
            Work::AzureFunctions { minutes, .. } => positive("workload.minutes", *minutes as f64)?,
            Work::LlmRequests { replicas, prefill_ms_per_token, decode_ms_per_token, .. } => {
                positive("workload.replicas", *replicas as f64)?;
                positive("workload.prefill_ms_per_token", *prefill_ms_per_token)?;
                positive("workload.decode_ms_per_token", *decode_ms_per_token)?;
            }
            Work::Functions { function, .. } => {
                if self.invocations.is_none() && self.until_s.is_none() {
                    return Err(ScenarioError::field("invocations", "a workload without end needs it, or until_s"));
                }
                for FunctionFields { profile, every, .. } in function {
                    if !every.is_sound() || every.mean() <= 0.0 {
                        let reason = format!("{every:?} is no distribution of times above 0");
                        return Err(ScenarioError::field(format!("workload.function {profile}: every"), reason));
                    }
                }
            }
        }
        if let Some(Churn { up_s, down_s, .. }) = &self.disturbance.churn {
            positive("disturbance.churn.up_s", *up_s)?;
            positive("disturbance.churn.down_s", *down_s)?;
        }
        if let Some(moves) = &self.disturbance.moves {
            positive("disturbance.moves.dwell_s", moves.dwell_s)?;
        }
        Ok(())
    }
}
