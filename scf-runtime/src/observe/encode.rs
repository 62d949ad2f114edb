//! Counts as Prometheus reads them.

use std::{fmt, sync::atomic::Ordering::Relaxed};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{ErrorKind, Metrics, Series, histogram::Histogram, series::LABELS};

/// Seconds of a nanosecond.
const NANO: f64 = 1e-9;

impl Series {
    fn labels(&self) -> [(&'static str, &str); 4] {
        std::array::from_fn(|at| (LABELS[at], self.labels[at].as_str()))
    }
}

impl Collector for Metrics {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.inner().all();
        type Count = fn(&Series) -> u64;
        let counters: [(&str, &str, Count); 3] = [
            ("faas_invocations", "Calls that gave an outcome", |series| series.took.count()),
            ("faas_coldstarts", "Calls that an isolate was made for", |series| series.cold.load(Relaxed)),
            ("faas_timeouts", "Calls that ran out of time", |series| {
                series.errors[ErrorKind::Timeout as usize].load(Relaxed)
            }),
        ];
        for (name, help, count) in counters {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            for series in &all {
                let labels = series.labels();
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count(series), None)?;
            }
        }
        let mut family =
            to.encode_descriptor("faas_errors", "Calls that gave none, by why", None, MetricType::Counter)?;
        for series in &all {
            for kind in ErrorKind::ALL {
                let count = series.errors[kind as usize].load(Relaxed);
                if count > 0 {
                    let [name, version, tenant, node] = series.labels();
                    let labels = [name, version, tenant, node, ("error_type", kind.name())];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
                }
            }
        }
        type Of = fn(&Series) -> &Histogram;
        let histograms: [(&str, &str, Unit, f64, Of); 5] = [
            ("faas_invoke_duration", "From acceptance to reply", Unit::Seconds, NANO, |series| &series.took),
            ("faas_init_duration", "Start of an isolate, where it says so", Unit::Seconds, NANO, |series| &series.init),
            ("faas_cpu_usage", "CPU time of a call", Unit::Seconds, NANO, |series| &series.cpu),
            ("faas_mem_usage", "Highest memory of a call", Unit::Bytes, 1.0, |series| &series.memory),
            ("faas_net_io", "Input and output of a call", Unit::Bytes, 1.0, |series| &series.payloads),
        ];
        for (name, help, unit, scale, of) in histograms {
            let mut family = to.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
            for series in &all {
                let (labels, now) = (series.labels(), of(series).read(scale));
                let mut histogram = family.encode_family(&labels)?;
                histogram.encode_histogram::<NoLabelSet>(now.sum, now.count, &now.buckets, None)?;
            }
        }
        let slots = self.inner().slots();
        let gauges = [
            ("scf_running", "Calls that run"),
            ("scf_waiting", "Calls that wait"),
            ("scf_slots", "Calls that may run"),
        ];
        for (at, (name, help)) in gauges.into_iter().enumerate() {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (series, now) in &slots {
                family.encode_family(&series.labels())?.encode_gauge(&i64::from(now[at]))?;
            }
        }
        self.inner().gauges(|gauge| {
            let mut family = to.encode_descriptor(&gauge.name, &gauge.help, None, MetricType::Gauge)?;
            family.encode_gauge(&(gauge.read)())
        })?;
        let (name, help) = ("scf_metrics_overflowed_series", "Combinations of labels counted as other");
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, f64>(&self.inner().overflowed.load(Relaxed), None)
    }
}
