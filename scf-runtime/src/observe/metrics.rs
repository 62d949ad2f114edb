//! Counters of a fabric and how they are read.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{encoding::text, registry::Registry};
use scf_core::{Function, FunctionName, NodeId, Revision, TenantName};

use super::series::{Held, LABELS, Series};
use crate::controller::Ready;

/// Series where nothing else is said.
const SERIES: usize = 2000;

/// Counts the calls of a fabric by function, revision, tenant and node, and says the counts as OpenMetrics text for
/// Prometheus. The names are those that OpenTelemetry gives to `faas.*`.
///
/// Give it to [`FabricBuilder::metrics`](crate::FabricBuilder::metrics) and mount a route that answers with
/// [`Metrics::encode`] under the type [`Metrics::CONTENT_TYPE`]. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

pub(super) struct Inner {
    bound: usize,
    series: RwLock<HashMap<Key, Arc<Series>>>,
    /// Of what is over the bound.
    pub(super) other: Arc<Series>,
    /// Combinations that were counted under `other`.
    pub(super) overflowed: AtomicU64,
    ready: RwLock<Vec<(Arc<Series>, Weak<Ready>)>>,
    gauges: RwLock<Vec<Gauge>>,
}

type Key = (FunctionName, Revision, TenantName, NodeId);

/// A value that the integrator reads for us.
pub(super) struct Gauge {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with_series(SERIES)
    }
}

impl Metrics {
    /// The media type of what [`Metrics::encode`] gives.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// With at most 2000 series.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With at most `series` combinations of function, revision, tenant and node. Those of revisions that are gone
    /// make room; what finds none is counted together, all labels being `other`, and
    /// `scf_metrics_overflowed_series` says how many.
    #[must_use]
    pub fn with_series(series: usize) -> Self {
        Self(Arc::new(Inner {
            bound: series,
            series: RwLock::default(),
            other: Arc::new(Series::new(["other"; LABELS.len()])),
            overflowed: AtomicU64::new(0),
            ready: RwLock::default(),
            gauges: RwLock::default(),
        }))
    }

    /// Adds a value that is read at each [`Metrics::encode`]: how full a pool is, how long a queue. A name that is
    /// none of Prometheus, letters, digits and `_`, has its other characters replaced by `_`.
    pub fn gauge(&self, name: &str, help: &str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
        let mut name: String = name.chars().map(plain).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name.insert_str(0, "x_");
        }
        let gauge = Gauge { name, help: crate::escape::escape(help), read: Box::new(read) };
        self.0.gauges.write().unwrap_or_else(PoisonError::into_inner).push(gauge);
    }

    /// All counts, as OpenMetrics text.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "a string takes all that is written to it")]
    pub fn encode(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The series of `key`; that of all others where there is no room.
    fn series(&self, key: Key) -> Arc<Series> {
        let inner = &*self.0;
        if let Some(series) = inner.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(series);
        }
        let mut all = inner.series.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= inner.bound {
            // What nobody but this map knows is of a revision that is gone.
            all.retain(|_, series| Arc::strong_count(series) > 1);
        }
        if all.len() >= inner.bound && !all.contains_key(&key) {
            inner.overflowed.fetch_add(1, Relaxed);
            return Arc::clone(&inner.other);
        }
        let (function, revision, tenant, node) = &key;
        let labels = [function.as_str(), &revision.to_string(), tenant.as_str(), node.as_str()];
        let series = Arc::new(Series::new(labels));
        Arc::clone(all.entry(key).or_insert(series))
    }

    /// What counts the calls of a function that was made ready on a node.
    pub(crate) fn seen(&self, function: &Function, revision: Revision, node: &NodeId) -> Seen {
        let key = (function.name.clone(), revision, function.tenant.clone(), node.clone());
        let own = self.series(key.clone());
        Seen { metrics: self.clone(), key, own, others: RwLock::default() }
    }

    /// Reads how many calls run and wait whenever it is asked.
    pub(crate) fn watch(&self, seen: &Seen, ready: &Arc<Ready>) {
        let mut watched = self.0.ready.write().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(_, ready)| ready.strong_count() > 0);
        watched.push((Arc::clone(&seen.own), Arc::downgrade(ready)));
    }
}

impl Inner {
    /// All series by their labels.
    pub(super) fn all(&self) -> Vec<Arc<Series>> {
        let mut all: Vec<_> = self.series.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        if self.overflowed.load(Relaxed) > 0 {
            all.push(Arc::clone(&self.other));
        }
        all
    }

    /// Calls that run, calls that wait and calls that may run, by series.
    pub(super) fn slots(&self) -> Vec<(Arc<Series>, [u32; 3])> {
        let mut slots: Vec<(Arc<Series>, [u32; 3])> = Vec::new();
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        for (series, ready) in ready.iter() {
            let Some(ready) = ready.upgrade() else { continue };
            let now = ready.slots_now();
            // Those over the bound share a series.
            match slots.iter_mut().find(|(other, _)| Arc::ptr_eq(other, series)) {
                Some((_, all)) => all.iter_mut().zip(now).for_each(|(all, now)| *all += now),
                None => slots.push((Arc::clone(series), now)),
            }
        }
        slots.sort_by(|a, b| a.0.labels.cmp(&b.0.labels));
        slots
    }

    pub(super) fn gauges(&self, mut each: impl FnMut(&Gauge) -> fmt::Result) -> fmt::Result {
        self.gauges.read().unwrap_or_else(PoisonError::into_inner).iter().try_for_each(&mut each)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let series = self.0.series.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Metrics").field("series", &series).field("bound", &self.0.bound).finish_non_exhaustive()
    }
}

/// Counts the calls of one function, revision and node.
#[derive(Debug)]
pub(crate) struct Seen {
    metrics: Metrics,
    /// With the function's own tenant.
    key: Key,
    own: Arc<Series>,
    /// Of tenants that call a function of another; as many as there can be series.
    others: RwLock<HashMap<TenantName, Arc<Series>>>,
}

impl Seen {
    /// The series of a tenant's calls. Allocates with the first call of a tenant that is not the function's own.
    pub(super) fn series(&self, tenant: &TenantName) -> Held<'_> {
        if *tenant == self.key.2 {
            return Held::Own(&self.own);
        }
        if let Some(series) = self.others.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Held::Other(Arc::clone(series));
        }
        let (function, revision, _, node) = self.key.clone();
        let series = self.metrics.series((function, revision, tenant.clone(), node));
        if !Arc::ptr_eq(&series, &self.metrics.0.other) {
            let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
            others.insert(tenant.clone(), Arc::clone(&series));
        }
        Held::Other(series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_label_stays_a_label() {
        let mut metrics = Metrics::with_series(0);
        let inner = Arc::get_mut(&mut metrics.0).unwrap();
        inner.other = Arc::new(Series::new(["a\"} 1\n# EOF", "back\\slash", "\u{1b}[31m", "\u{202e}node"]));
        inner.overflowed = AtomicU64::new(1);
        let text = metrics.encode();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert_eq!(text.matches("# EOF\n").count(), 1);
        let labels =
            r#"{faas_name="a\"} 1\\n# EOF",faas_version="back\\slash",tenant="\\u{1b}[31m",node="\\u{202e}node"}"#;
        assert!(text.contains(&format!("faas_invocations_total{labels} 0\n")), "{text}");
    }
}
