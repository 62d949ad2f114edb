//! Requests to a large language model.

use std::sync::Arc;

use super::TraceError;
use crate::sim::{Arrivals, Distribution, FunctionSpec, Profiles, Topology};

/// How long a token takes, in seconds on a machine of speed 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in workloads")]
pub struct TokenTimes {
    /// One of the prompt.
    pub prefill: f64,
    /// One of the answer.
    pub decode: f64,
}

/// Requests of a trace with lines `at_ms,context_tokens,generated_tokens` after a line of titles (the Azure LLM inference
/// traces of 2023 with times made relative), shared in turn by so many replicas of 8 GiB.
///
/// # Errors
/// [`TraceError`] with the line that is not such.
pub fn llm_requests(
    csv: &str,
    topology: &Topology,
    profiles: &mut Profiles,
    replicas: usize,
    times: TokenTimes,
) -> Result<Vec<FunctionSpec>, TraceError> {
    for host in topology.hosts() {
        profiles.set_exec(&host.device, "llm", Distribution::Constant(1.0));
    }
    let profile = profiles.function("llm").unwrap_or_default();
    let mut rows: Vec<Vec<(f64, f32)>> = vec![Vec::new(); replicas.max(1)];
    for (number, line) in csv.lines().enumerate().skip(1) {
        let field = |name, at| TraceError::number(line, at, number + 1, name);
        let (at, context, generated) = (field("at_ms", 0)?, field("context_tokens", 1)?, field("generated_tokens", 2)?);
        let work = context * times.prefill + generated * times.decode;
        rows[(number - 1) % replicas.max(1)].push((at / 1000.0, work as f32));
    }
    let spec = |(replica, rows): (usize, Vec<(f64, f32)>)| FunctionSpec {
        name: format!("llm-{replica}"),
        profile,
        image: 0,
        cpu_milli: 4000,
        memory: 8 << 30,
        wants_gpu: true,
        reads: None,
        writes: None,
        model: None,
        triggers: None,
        scale_to_zero: false,
        arrivals: Arrivals::Trace(Arc::from(rows)),
        deployed: 0.0,
        requested: 0.0,
    };
    Ok(rows.into_iter().enumerate().map(spec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{topology::urban_sensing, workload};

    #[test]
    fn every_request_of_the_traces_is_there_in_order() {
        for (csv, requests) in [(workload::LLM_CODE, 8_819), (workload::LLM_CONVERSATION, 19_366)] {
            let times = TokenTimes { prefill: 0.001, decode: 0.01 };
            let specs = llm_requests(csv, &urban_sensing(1), &mut Profiles::default(), 7, times).unwrap();
            let mut all = 0;
            for spec in &specs {
                let Arrivals::Trace(rows) = &spec.arrivals else { panic!("not a trace") };
                assert!(rows.windows(2).all(|pair| pair[0].0 <= pair[1].0));
                all += rows.len();
            }
            assert_eq!((specs.len(), all), (7, requests));
        }
    }

    #[test]
    fn a_line_that_is_no_request_is_named() {
        let csv = "at_ms,context_tokens,generated_tokens\n0,10,5\n7,ten,5\n";
        let times = TokenTimes { prefill: 0.0, decode: 0.0 };
        let error = llm_requests(csv, &urban_sensing(1), &mut Profiles::default(), 1, times).unwrap_err();
        assert_eq!(error.to_string(), "line 3: context_tokens is no number: \"ten\"");
    }
}
