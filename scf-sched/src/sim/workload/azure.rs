//! Traces in the format of Azure Functions.

use std::{collections::HashMap, sync::Arc};

use super::TraceError;
use crate::sim::{Arrivals, Distribution, FunctionSpec, Profiles, Rng, Topology, platform::stream};

/// The three files of a trace in the format of the Azure Functions trace of 2019 (Shahrad et al.: Serverless in the Wild,
/// ATC 2020).
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "three files are all that it is")]
pub struct AzureTrace<'a> {
    /// Owner, app, function, trigger, and calls for each minute.
    pub invocations: &'a str,
    /// Owner, app, function, mean, count, minimum, maximum, and the percentiles 0, 1, 25, 50, 75, 99, 100, in ms.
    pub durations: &'a str,
    /// Owner, app, function or only app, count, mean in MB and percentiles.
    pub memory: &'a str,
}

/// The functions of a trace with the calls of its first `minutes`, spread evenly at random over each minute. Execution
/// times are log-normal through the median and the 99th percentile, within the extremes, on every device alike; functions
/// that the durations do not have take 100 ms, those that the memory does not have 170 MB (the trace's median).
///
/// # Errors
/// [`TraceError`] with the line and the field that is no number.
pub fn azure_functions(
    trace: AzureTrace<'_>,
    topology: &Topology,
    profiles: &mut Profiles,
    minutes: usize,
    seed: u64,
) -> Result<Vec<FunctionSpec>, TraceError> {
    let mut durations = HashMap::new();
    for (number, line) in trace.durations.lines().enumerate().skip(1) {
        let ms = |name, at| TraceError::number(line, at, number + 1, name).map(|ms| ms / 1000.0);
        let (min, max) = (ms("Minimum", 5)?, ms("Maximum", 6)?);
        let (median, high) = (ms("percentile_Average_50", 10)?.max(1e-4), ms("percentile_Average_99", 12)?.max(1e-4));
        // The 99th percentile of the standard normal distribution is at 2.326.
        let sigma = ((high / median).ln() / 2.326).max(0.0);
        let (min, max) = (min.min(median), max.max(median));
        let takes = Distribution::LogNormal { sigma, loc: 0.0, scale: median, min, max };
        durations.insert(line.split(',').nth(2).unwrap_or_default(), takes);
    }
    let mut memory = HashMap::new();
    for (number, line) in trace.memory.lines().enumerate().skip(1) {
        // The original knows memory by app; traces made of it also by function, with one field more.
        let by_function = line.split(',').nth(2).is_some_and(|field| field.parse::<f64>().is_err());
        let mb = TraceError::number(line, if by_function { 4 } else { 3 }, number + 1, "AverageAllocatedMb")?;
        memory.insert(line.split(',').nth(1).unwrap_or_default(), mb);
    }
    let mut specs: Vec<FunctionSpec> = Vec::new();
    for (number, line) in trace.invocations.lines().enumerate().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (app, function) = (fields.get(1).copied().unwrap_or_default(), fields.get(2).copied().unwrap_or_default());
        let mut rng = Rng::of(seed, stream::WORKLOAD, number as u64);
        let mut rows: Vec<(f64, f32)> = Vec::new();
        for minute in 0..minutes.min(fields.len().saturating_sub(4)) {
            let calls = TraceError::number(line, 4 + minute, number + 1, "calls of a minute")?;
            rows.extend((0..calls as u64).map(|_| ((minute as f64 + rng.unit()) * 60.0, 1.0)));
        }
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = function.get(..16).unwrap_or(function);
        let takes = durations.get(function).copied().unwrap_or(Distribution::Constant(0.1));
        for host in topology.hosts() {
            profiles.set_exec(&host.device, name, takes);
        }
        let mb = memory.get(app).copied().unwrap_or(170.0);
        specs.push(FunctionSpec {
            name: name.into(),
            profile: profiles.function(name).unwrap_or_default(),
            image: specs.len() as u32,
            cpu_milli: 250,
            memory: (mb * 1e6) as u64,
            wants_gpu: false,
            reads: None,
            writes: None,
            model: None,
            triggers: None,
            scale_to_zero: true,
            arrivals: Arrivals::Trace(Arc::from(rows)),
            deployed: 0.0,
            requested: 0.0,
        });
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{topology::cloud_regions, workload};

    #[test]
    fn calls_come_in_the_minutes_in_which_the_trace_has_them() {
        let mut profiles = Profiles::default();
        let specs = azure_functions(workload::AZURE_SAMPLE, &cloud_regions(8), &mut profiles, 10, 1).unwrap();
        assert_eq!(specs.len(), 4);
        let Arrivals::Trace(rows) = &specs[1].arrivals else { panic!("not a trace") };
        // The second function of the sample is called five times a minute from the sixth on.
        assert_eq!(rows.len(), 25);
        assert!(rows.iter().all(|(at, _)| (300.0..600.0).contains(at)));
        assert_eq!(specs[1].memory, 176_000_000);
        let takes = profiles.exec(profiles.device("cloud").unwrap(), specs[1].profile).unwrap();
        assert!((takes.mean() - 0.5).abs() < 0.001, "{takes:?}");
    }
}
