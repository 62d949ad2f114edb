//! Makes of a scenario file what is run.

use std::path::Path;

use super::{
    Prepared, ScenarioError,
    file::{File, FunctionFields, Hosts, PlaceFields, Table, Work, World},
};
use crate::sim::{
    Arrivals, Cluster, Config, Data, Disturbance, FunctionSpec, Profiles, Rng, Topology, churn, mobility,
    platform::stream,
    topology::{self, Place, RoundTrips},
    workload::{self, AzureTrace, TokenTimes},
};

const MI: f64 = 1_048_576.0;
/// How far disturbances are planned when a run has no end, in seconds: a month.
const HORIZON: f64 = 2.6e6;

pub(super) fn prepare(file: &File, seed: u64) -> Result<Prepared, ScenarioError> {
    let topology = hosts(file);
    let (profiles, specs) = work(file, &topology, seed)?;
    let (disturbances, batteries) = trouble(file, &topology, seed)?;
    let config = Config {
        seed,
        invocations: file.invocations().unwrap_or(u64::MAX),
        until: file.until_s.unwrap_or(f64::INFINITY),
        idle: file.idle_s.unwrap_or(f64::INFINITY),
        slots: file.slots,
        ..Config::default()
    };
    let cluster = Cluster::new(topology, profiles, seed)?;
    Ok(Prepared { cluster, specs, disturbances, config, batteries })
}

fn hosts(file: &File) -> Topology {
    match &file.topology {
        Hosts::UrbanSensing { cells } => topology::urban_sensing(*cells),
        Hosts::IndustrialIot { premises } => topology::industrial_iot(*premises),
        Hosts::CloudRegions { machines } => topology::cloud_regions(*machines),
        Hosts::Regions { round_trips, device, per_place, wan_mbit } => {
            let of = match round_trips {
                World::Cities => RoundTrips::cities(),
                World::Aws => RoundTrips::aws(),
                World::Gcp => RoundTrips::gcp(),
            };
            topology::regions(&of, device, *per_place, *wan_mbit)
        }
        Hosts::Places { place } => {
            topology::places(place.iter().enumerate().map(|(zone, of)| place_of(of, zone as u16)))
        }
    }
}

fn place_of(of: &PlaceFields, zone: u16) -> Place {
    let name = &of.name;
    let storage = (0..of.storage).map(|n| {
        let mut host = topology::device(format!("{name}-storage{n}"), "nuc", zone);
        host.storage = true;
        host
    });
    let devices = of.devices.iter().flat_map(|(device, count)| {
        (0..*count).map(move |n| topology::device(format!("{name}-{device}{n}"), device, zone))
    });
    Place {
        name: name.clone(),
        hosts: storage.chain(devices).collect(),
        lan_mbit: of.lan_mbit,
        up_mbit: of.up_mbit,
        down_mbit: of.down_mbit,
        latency: of.latency_ms / 1000.0,
    }
}

fn work(file: &File, topology: &Topology, seed: u64) -> Result<(Profiles, Vec<FunctionSpec>), ScenarioError> {
    let mut profiles = Profiles::fgcs21();
    let specs = match &file.workload {
        Work::Pipelines { deployments } => workload::ml_pipelines(topology, &profiles, *deployments, seed),
        Work::Functions { profiles: table, function } => {
            if matches!(table, Table::TenDevices) {
                profiles = Profiles::ten_devices();
            }
            functions(function, topology, &profiles, seed)?
        }
        Work::AzureFunctions { trace, minutes } => {
            profiles = Profiles::default();
            if trace == "sample" {
                workload::azure_functions(workload::AZURE_SAMPLE, topology, &mut profiles, *minutes, seed)?
            } else {
                let text = |name: &str| read(&Path::new(trace).join(name));
                let (invocations, durations) = (text("functions_invocations.csv")?, text("functions_durations.csv")?);
                let memory = text("functions_memory.csv")?;
                let trace = AzureTrace { invocations: &invocations, durations: &durations, memory: &memory };
                workload::azure_functions(trace, topology, &mut profiles, *minutes, seed)?
            }
        }
        Work::LlmRequests { trace, replicas, prefill_ms_per_token, decode_ms_per_token } => {
            profiles = Profiles::default();
            let text = match trace.as_str() {
                "code" => workload::LLM_CODE.to_owned(),
                "conversation" => workload::LLM_CONVERSATION.to_owned(),
                path => read(Path::new(path))?,
            };
            let times = TokenTimes { prefill: prefill_ms_per_token / 1000.0, decode: decode_ms_per_token / 1000.0 };
            workload::llm_requests(&text, topology, &mut profiles, *replicas, times)?
        }
    };
    Ok((profiles, specs))
}

fn read(path: &Path) -> Result<String, ScenarioError> {
    let error = |source| ScenarioError::File { field: "workload.trace", path: path.display().to_string(), source };
    std::fs::read_to_string(path).map_err(error)
}

fn functions(
    fields: &[FunctionFields],
    topology: &Topology,
    profiles: &Profiles,
    seed: u64,
) -> Result<Vec<FunctionSpec>, ScenarioError> {
    let mut rng = Rng::of(seed, stream::WORKLOAD, 0);
    let storage = topology.hosts().iter().enumerate();
    let storage = storage.filter(|(at, host)| host.storage && Some(*at) != topology.registry()).map(|(at, _)| at);
    let storage: Vec<usize> = storage.collect();
    let mut specs = Vec::new();
    for (kind, of) in fields.iter().enumerate() {
        let field = || format!("workload.function {}: profile", of.profile);
        let profile = profiles.function(&of.profile).ok_or_else(|| {
            ScenarioError::field(field(), format!("there is none; there are {}", profiles.functions().join(", ")))
        })?;
        for n in 0..of.count {
            let host = storage.get(rng.below(storage.len())).copied();
            let data = |mib: f64| host.filter(|_| mib > 0.0).map(|host| Data { host, bytes: mib * MI });
            specs.push(FunctionSpec {
                name: format!("{}-{n}", of.profile),
                profile,
                image: kind as u32,
                cpu_milli: of.cpu_milli,
                memory: of.memory_mib << 20,
                wants_gpu: of.wants_gpu,
                reads: data(of.reads_mib),
                writes: data(of.writes_mib),
                model: None,
                triggers: None,
                scale_to_zero: of.scale_to_zero,
                arrivals: Arrivals::Every(of.every),
                deployed: 10.0 * specs.len() as f64,
                requested: 60.0,
            });
        }
    }
    Ok(specs)
}

/// Node, joules, watts when idle, watts more when busy.
type Batteries = Vec<(usize, f64, f64, f64)>;

fn trouble(file: &File, topology: &Topology, seed: u64) -> Result<(Vec<(f64, Disturbance)>, Batteries), ScenarioError> {
    let until = file.until_s.unwrap_or(HORIZON);
    let of = &file.disturbance;
    let zones = topology.hosts().iter().map(|host| host.zone).max().unwrap_or(0) + 1;
    let nodes = |field: &str, devices: &[String]| {
        for device in devices {
            if !topology.hosts().iter().any(|host| host.device == *device) {
                return Err(ScenarioError::field(field, format!("no host is a {device}")));
            }
        }
        let hosts = topology.hosts().iter().enumerate();
        Ok(hosts
            .filter(|(_, host)| devices.contains(&host.device) && !host.storage)
            .map(|(at, _)| at)
            .collect::<Vec<_>>())
    };
    let mut all = Vec::new();
    if let Some(of) = &of.churn {
        all.extend(churn(&nodes("disturbance.churn.devices", &of.devices)?, of.up_s, of.down_s, until, seed));
    }
    if let Some(of) = &of.moves {
        all.extend(mobility(&nodes("disturbance.moves.devices", &of.devices)?, zones, of.dwell_s, until, seed));
    }
    for cut in &of.cuts {
        let Hosts::Places { place } = &file.topology else {
            return Err(ScenarioError::field("disturbance.cuts", "only a topology of places has places to cut off"));
        };
        let zone = place.iter().position(|place| place.name == cut.place);
        let zone =
            zone.ok_or_else(|| ScenarioError::field("disturbance.cuts.place", format!("no place is {}", cut.place)))?;
        all.push((cut.from_s, Disturbance::Cut { zone: zone as u16 }));
        all.push((cut.to_s, Disturbance::Heal { zone: zone as u16 }));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut batteries = Batteries::new();
    if let Some(of) = &of.battery {
        let joules = of.watt_hours * 3600.0;
        let on = nodes("disturbance.battery.devices", &of.devices)?;
        batteries.extend(on.into_iter().map(|node| (node, joules, of.idle_watts, of.busy_watts)));
    }
    Ok((all, batteries))
}
