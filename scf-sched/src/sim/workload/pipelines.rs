//! The workload of the FGCS 2021 evaluation.

use crate::sim::{Arrivals, Data, Distribution, FunctionSpec, Profiles, Rng, Topology, platform::stream};

const MI: f64 = 1_048_576.0;

/// `deployments` of a machine-learning pipeline: pre-processing (every 200 s and Exp(100) more), which triggers training,
/// and serving (every 25 s and Exp(50) more), deployed one after the other every 255 s. The data of each is on a host that
/// keeps data, drawn uniformly. A fifth of the images is used by four fifths of the deployments.
#[must_use]
pub fn ml_pipelines(topology: &Topology, profiles: &Profiles, deployments: usize, seed: u64) -> Vec<FunctionSpec> {
    let mut rng = Rng::of(seed, stream::WORKLOAD, 0);
    let registry = topology.registry();
    let storage = topology.hosts().iter().enumerate().filter(|(at, host)| host.storage && Some(*at) != registry);
    let storage: Vec<usize> = storage.map(|(at, _)| at).collect();
    let profile = |name: &str| profiles.function(name).unwrap_or_default();
    let [pre, train, serve] = ["ml-wf-1-pre", "ml-wf-2-train", "ml-wf-3-serve"].map(profile);
    let mut specs = Vec::new();
    for deployment in 0..deployments {
        let image = (deployments as f64 * eighty_twenty(&mut rng)) as u32;
        let host = storage.get(rng.below(storage.len())).copied();
        let data = |bytes: f64| host.map(|host| Data { host, bytes });
        let spec = |name: &str, profile: u16, memory: f64| FunctionSpec {
            name: format!("{name}-{deployment}"),
            profile,
            image: image * 3 + u32::from(profile),
            cpu_milli: 100,
            memory: memory as u64,
            wants_gpu: false,
            reads: None,
            writes: None,
            model: None,
            triggers: None,
            scale_to_zero: false,
            arrivals: Arrivals::Triggered,
            deployed: deployment as f64 * 255.0,
            requested: 255.0,
        };
        specs.push(FunctionSpec {
            reads: data(12.0 * MI),
            writes: data(209.0 * MI),
            triggers: Some(specs.len() + 1),
            scale_to_zero: true,
            arrivals: Arrivals::Every(Distribution::Exponential { shift: 200.0, mean: 100.0 }),
            ..spec("preprocess", pre, 100.0 * MI)
        });
        specs.push(FunctionSpec {
            wants_gpu: true,
            reads: data(209.0 * MI),
            writes: data(1500.0 * 1024.0),
            scale_to_zero: true,
            ..spec("train", train, 1024.0 * MI)
        });
        specs.push(FunctionSpec {
            model: data(1500.0 * 1024.0),
            arrivals: Arrivals::Every(Distribution::Exponential { shift: 25.0, mean: 50.0 }),
            ..spec("serve", serve, 200.0 * MI)
        });
    }
    specs
}

/// A share of 1, four times of five below a fifth: the Pareto distribution of the original (shape 1.16, scale and shift
/// 0.08), of which only values below 1 are taken.
fn eighty_twenty(rng: &mut Rng) -> f64 {
    loop {
        let share = 0.08 * (1.0 - rng.unit()).powf(-1.0 / 1.16) - 0.08;
        if share < 1.0 {
            return share;
        }
    }
}

/// How many requests the evaluation waited for: 400 times the deployments to the power of 1.1.
#[must_use]
pub fn published_invocations(deployments: usize) -> u64 {
    ((deployments as f64).powf(1.1) * 400.0) as u64
}
