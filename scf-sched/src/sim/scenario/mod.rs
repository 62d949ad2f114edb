//! Scenarios: what is simulated, as a TOML file.

mod build;
mod file;

use std::sync::Arc;

use thiserror::Error;

use self::file::File;
pub use self::file::{PolicyKind, Times, TunedFor};
use super::{Cluster, ClusterError, Config, Disturbance, FunctionSpec, Platform, Report, workload::TraceError};
use crate::{
    Estimator, LearnedTimes, Policy,
    place::{CompletionTime, Scf, Uniform},
    policy::{
        Auction, BoundedLoads, Kube, PackThenSpread, Polaris, PowerOfD, RandomLoadUpdates, TwoSmart, UniformRandom,
        UplinkBudget, UplinkPrice, Weights,
    },
};

/// The scenarios that come with the crate, by name.
const SHIPPED: [(&str, &str); 6] = [
    ("urban-sensing", include_str!("../../../scenarios/urban-sensing.toml")),
    ("industrial-iot", include_str!("../../../scenarios/industrial-iot.toml")),
    ("cloud-regions", include_str!("../../../scenarios/cloud-regions.toml")),
    ("ten-devices", include_str!("../../../scenarios/ten-devices.toml")),
    ("azure-functions", include_str!("../../../scenarios/azure-functions.toml")),
    ("llm-requests", include_str!("../../../scenarios/llm-requests.toml")),
];

/// Nodes that the default policy looks at for a replica: as many as a sample can have, because a replica stays for long.
const LOOK: usize = 128;

/// Why a scenario cannot be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// It is not TOML, or has a field that there is not, or one of the wrong type.
    #[error("scenario")]
    Toml(#[from] toml::de::Error),
    /// A field has a value that makes no sense.
    #[error("{field}: {reason}")]
    Field {
        /// The field, with those that it is in.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that it names cannot be read.
    #[error("{field}: {path}")]
    File {
        /// The field.
        field: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A trace is not what it should be.
    #[error("workload.trace")]
    Trace(#[from] TraceError),
    /// Its hosts cannot be made nodes.
    #[error("topology")]
    Cluster(#[from] ClusterError),
}

impl ScenarioError {
    fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }
}

/// A policy, and the learner that is to be told of executions.
pub type Made = (Box<dyn Policy>, Option<Arc<dyn Estimator>>);

/// Something to simulate: hosts, what they are asked to do, what disturbs them, and policies to compare.
#[derive(Clone, Debug)]
pub struct Scenario {
    file: File,
}

/// A scenario with one seed, ready to be run under any policy.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// The nodes and the network.
    pub cluster: Cluster,
    /// What runs.
    pub specs: Vec<FunctionSpec>,
    /// What goes wrong when, in seconds.
    pub disturbances: Vec<(f64, Disturbance)>,
    /// How the platform behaves.
    pub config: Config,
    batteries: Vec<(usize, f64, f64, f64)>,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] that names the field.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let file: File = toml::from_str(text)?;
        file.check()?;
        Ok(Self { file })
    }

    /// One that comes with the crate; `None` if there is none of that name.
    ///
    /// # Errors
    /// None for the shipped files, which are tested.
    #[must_use]
    pub fn shipped(name: &str) -> Option<Result<Self, ScenarioError>> {
        SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| Self::from_toml(text))
    }

    /// The names of those that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The policies that it compares.
    #[must_use]
    pub fn policies(&self) -> &[PolicyKind] {
        &self.file.policy
    }

    /// The seeds that it is run with.
    #[must_use]
    pub fn seeds(&self) -> &[u64] {
        &self.file.seeds
    }

    /// How many requests a run is made of at most; `None` until its workload or its time ends.
    #[must_use]
    pub fn invocations(&self) -> Option<u64> {
        self.file.invocations()
    }

    /// Ends runs after so many requests.
    #[must_use]
    pub const fn with_invocations(mut self, invocations: u64) -> Self {
        self.file.invocations = Some(invocations);
        self
    }

    /// Hosts, functions and disturbances for a seed. The policy does not change them.
    ///
    /// # Errors
    /// [`ScenarioError`] when a trace cannot be read or a host is no node.
    pub fn prepare(&self, seed: u64) -> Result<Prepared, ScenarioError> {
        build::prepare(&self.file, seed)
    }

    /// Runs it once; `progress` is told the number of requests done.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn run(&self, policy: PolicyKind, seed: u64, progress: impl FnMut(u64)) -> Result<Report, ScenarioError> {
        let mut prepared = self.prepare(seed)?;
        let (made, learner) = policy.make(&mut prepared)?;
        let mut report = prepared.platform(made, learner)?.run(progress);
        report.policy = policy.to_string();
        Ok(report)
    }
}

impl Prepared {
    /// The platform under a policy. `learner` is told of every execution.
    ///
    /// # Errors
    /// [`ClusterError`] when a function asks for more than any node can have.
    pub fn platform(
        self,
        policy: Box<dyn Policy>,
        learner: Option<Arc<dyn Estimator>>,
    ) -> Result<Platform, ClusterError> {
        let mut platform = Platform::new(self.cluster, self.specs, self.disturbances, policy, learner, self.config)?;
        for (node, joules, idle, busy) in self.batteries {
            platform.set_battery(node, joules, idle, busy);
        }
        Ok(platform)
    }
}

impl PolicyKind {
    /// The policy for what was prepared, and the learner to be told of executions. Policies that reckon with the time of a
    /// call are not told which images replicas need.
    ///
    /// # Errors
    /// [`ClusterError`] when a function asks for more than any node can have.
    pub fn make(self, of: &mut Prepared) -> Result<Made, ClusterError> {
        let skippy = |of: &mut Prepared, weights: Weights| -> Result<Box<dyn Policy>, ClusterError> {
            // The images must be known before their sizes are told.
            for spec in &of.specs {
                let _demand = of.cluster.demand(spec)?;
            }
            Ok(Box::new(of.cluster.skippy(&of.specs, weights)))
        };
        let policy: Box<dyn Policy> = match self {
            Self::Kube { percent } => Box::new(Kube::default().percent(percent)),
            Self::Skippy => skippy(of, Weights::default())?,
            Self::SkippyTuned { weights } => skippy(of, weights.weights())?,
            Self::Random => Box::new(UniformRandom::new()),
            Self::PowerOfD { d } => Box::new(PowerOfD::new(usize::from(d))),
            Self::BoundedLoads => Box::new(BoundedLoads::default()),
            Self::RandomLoadUpdates => Box::new(RandomLoadUpdates::default()),
            Self::PackThenSpread => Box::new(PackThenSpread),
            Self::TwoSmart => Box::new(TwoSmart::new(of.cluster.sites())),
            Self::Polaris => Box::new(Polaris::new()),
            Self::Auction => Box::new(Auction::default()),
            Self::Scf { times, uplink_mb } => {
                of.config.tells_images = false;
                let known: Arc<dyn Estimator> = match times {
                    Times::Known => Arc::new(of.cluster.known()),
                    Times::Learned => Arc::new(LearnedTimes::new()),
                };
                let scf = Scf::new(CompletionTime::new(Arc::clone(&known))).sampler(Uniform).sample(LOOK);
                let policy: Box<dyn Policy> = match uplink_mb {
                    Some(mb) => {
                        let price = UplinkPrice::new();
                        Box::new(UplinkBudget::new(scf.score(price.clone()), price, mb as f32 * 1e6))
                    }
                    None => Box::new(scf),
                };
                return Ok((policy, Some(known)));
            }
        };
        Ok((policy, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read_and_is_named_as_its_file() {
        for name in Scenario::names() {
            let scenario = Scenario::shipped(name).unwrap().unwrap();
            assert_eq!(scenario.name(), name);
            assert!(!scenario.policies().is_empty() && !scenario.seeds().is_empty());
        }
        assert!(Scenario::shipped("mars").is_none());
    }

    #[test]
    fn an_error_names_the_field() {
        let urban = SHIPPED[0].1;
        let error = |from: &str, to: &str| {
            let text = urban.replace(from, to);
            assert_ne!(text, urban);
            let error = Scenario::from_toml(&text).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error} {source}")
        };
        assert!(error("cells = 4", "cels = 4").contains("cels"));
        assert!(error("cells = 4", "cells = \"four\"").contains("[topology]"));
        assert!(error("cells = 4", "cells = 0").contains("topology.cells"));
        assert!(error("deployments = 46", "deployments = 0").contains("workload.deployments"));
        assert!(error("times = \"known\"", "times = \"guessed\"").contains("guessed"));
        assert!(error("seeds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "seeds = []").contains("seeds"));
    }
}
