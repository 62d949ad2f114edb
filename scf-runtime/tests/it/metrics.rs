//! Counters and spans of calls, as a scrape and a subscriber see them.

use std::{
    collections::BTreeMap,
    fmt,
    future::{pending, poll_fn},
    sync::{Arc, Mutex},
    task::Poll,
};

use futures::FutureExt;
use scf_core::{
    ClusterView, Function, Invocation, Name, Placement, PlacementRequest, ScheduleError, Scheduler, TenantName,
};
use scf_runtime::{Fabric, Metrics, NativeError, NativeFactory};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::support::name;

/// Places everything on the first node.
#[derive(Debug)]
struct First;

impl Scheduler for First {
    fn schedule(&self, _: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        let first = &view.nodes()[0];
        Ok(Placement { node: first.node.id.clone(), version: first.version })
    }
}

fn fabric(metrics: &Metrics) -> Fabric {
    let natives = NativeFactory::new()
        .with_sync("echo", Ok)
        .unwrap()
        .with_sync("refuse", |_| Err(NativeError::refused("no")))
        .unwrap()
        .with_sync("panic", |_| panic!("a \"quoted\"\n# EOF"))
        .unwrap()
        .with("hang", |_, _| async { pending().await }.boxed())
        .unwrap();
    Fabric::builder().scheduler(Arc::new(First)).isolates(Arc::new(natives)).metrics(metrics.clone()).build().unwrap()
}

async fn deploy(fabric: &Fabric, names: &[&str]) {
    for entry in names {
        fabric.deploy(Function::native(name(entry), Name::new(entry).unwrap())).await.unwrap();
    }
}

fn tenant(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

/// Samples by name and labels. Fails where the text is not what OpenMetrics says it is.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the text says where it ends");
    let mut samples = BTreeMap::new();
    let mut family = String::new();
    for line in body.lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let kind = words.next().unwrap();
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            family = words.next().unwrap().to_owned();
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        assert!(key.starts_with(&family), "{line} is in the family {family}");
        if let Some((_, labels)) = key.split_once('{') {
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            let quotes = labels.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            assert_eq!(quotes, 2 * labels.matches("=\"").count(), "{line}");
        }
        let before = samples.insert(key.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")));
        assert_eq!(before, None, "{key} is there once");
    }
    samples
}

fn key(sample: &str, function: &str, tenant: &str, more: &str) -> String {
    format!("{sample}{{faas_name=\"{function}\",faas_version=\"r1\",tenant=\"{tenant}\",node=\"local\"{more}}}")
}

#[tokio::test]
async fn a_mixed_load_is_counted_as_it_was() {
    let metrics = Metrics::new();
    let fabric = fabric(&metrics);
    deploy(&fabric, &["echo", "refuse", "panic", "hang"]).await;
    for _ in 0..3 {
        fabric.call(&name("echo"), "four").await.unwrap();
    }
    for _ in 0..2 {
        let call = Invocation::new(fabric.new_id(), name("echo"), "x").tenant(tenant("guest"));
        fabric.invoke(call).await.unwrap();
        fabric.call(&name("refuse"), "").await.unwrap_err();
    }
    fabric.call(&name("panic"), "").await.unwrap_err();
    let hang = name("hang");
    let mut given_up = Box::pin(fabric.call(&hang, ""));
    poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await;
    let running = parse(&metrics.encode())[&key("scf_running", "hang", "default", "")];
    drop(given_up);

    let samples = parse(&metrics.encode());
    let count = |sample: &str, function: &str, tenant: &str| samples[&key(sample, function, tenant, "")];
    assert_eq!(count("faas_invocations_total", "echo", "default"), 3.0);
    assert_eq!(count("faas_invocations_total", "echo", "guest"), 2.0);
    assert_eq!(count("faas_coldstarts_total", "echo", "guest"), 2.0);
    assert_eq!(count("faas_invoke_duration_seconds_count", "echo", "default"), 3.0);
    assert_eq!(count("faas_net_io_bytes_sum", "echo", "default"), 24.0);
    let all = key("faas_net_io_bytes_bucket", "echo", "default", "").replace('{', "{le=\"+Inf\",");
    assert_eq!(samples[&all], 3.0);
    assert!(count("faas_cpu_usage_seconds_sum", "echo", "default") > 0.0);
    let errors: f64 =
        samples.iter().filter(|(key, _)| key.starts_with("faas_errors_total")).map(|(_, count)| count).sum();
    assert_eq!(errors, 4.0);
    for (function, kind, expected) in [("refuse", "refused", 2.0), ("panic", "trapped", 1.0), ("hang", "given_up", 1.0)]
    {
        let error = key("faas_errors_total", function, "default", &format!(",error_type=\"{kind}\""));
        assert_eq!(samples[&error], expected, "{function}");
    }
    assert_eq!((running, count("scf_running", "hang", "default")), (1.0, 0.0));
}

#[tokio::test]
async fn what_is_over_the_bound_is_counted_together() {
    let metrics = Metrics::with_series(3);
    let fabric = fabric(&metrics);
    deploy(&fabric, &["echo"]).await;
    for stranger in 0..50 {
        let call = Invocation::new(fabric.new_id(), name("echo"), "x").tenant(tenant(&format!("tenant-{stranger}")));
        fabric.invoke(call).await.unwrap();
    }
    let samples = parse(&metrics.encode());
    let series: Vec<_> = samples.iter().filter(|(key, _)| key.starts_with("faas_invocations_total")).collect();
    assert_eq!(series.len(), 4, "{series:?}");
    let other = "faas_invocations_total{faas_name=\"other\",faas_version=\"other\",tenant=\"other\",node=\"other\"}";
    assert_eq!(samples[other], 48.0);
    assert_eq!(series.iter().map(|(_, count)| **count).sum::<f64>(), 50.0);
    assert_eq!(samples["scf_metrics_overflowed_series_total"], 48.0);
}

#[tokio::test]
async fn gauges_of_the_integrator_are_read_and_their_names_made_harmless() {
    let metrics = Metrics::new();
    metrics.gauge("pool free\n# EOF", "free\u{1b}[31m\nslots", || 7.0);
    let samples = parse(&metrics.encode());
    assert_eq!(samples["pool_free___EOF"], 7.0);
}

#[tokio::test]
async fn a_revision_that_is_gone_makes_room_for_another() {
    let metrics = Metrics::with_series(4);
    let fabric = fabric(&metrics);
    for _ in 0..30 {
        deploy(&fabric, &["echo"]).await;
        fabric.undeploy(&name("echo"));
    }
    deploy(&fabric, &["refuse"]).await;
    fabric.call(&name("refuse"), "").await.unwrap_err();
    let samples = parse(&metrics.encode());
    assert_eq!(samples[&key("faas_errors_total", "refuse", "default", ",error_type=\"refused\"")], 1.0);
}

/// Keeps the names and the fields of spans.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = BTreeMap::from([("span".to_owned(), attributes.metadata().name().to_owned())]);
        attributes.record(&mut Fields(&mut fields));
        let mut kept = self.0.lock().unwrap();
        kept.push(fields);
        span::Id::from_u64(kept.len() as u64)
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()[id.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_call_has_a_span_that_says_whose_it_is_and_how_it_ended() {
    let kept = Kept::default();
    // Of the whole process: who subscribes for one thread may find that others, beside it, turned a span off for good.
    tracing::subscriber::set_global_default(kept.clone()).unwrap();
    let fabric = fabric(&Metrics::new());
    deploy(&fabric, &["echo", "panic"]).await;
    let id = fabric.new_id();
    fabric.invoke(Invocation::new(id, name("echo"), "x").tenant(tenant("span-guest"))).await.unwrap();
    fabric.invoke(Invocation::new(fabric.new_id(), name("panic"), "").tenant(tenant("span-guest"))).await.unwrap_err();
    let is_ours = |span: &&BTreeMap<String, String>| {
        span["span"] == "faas.invoke" && span.get("faas.tenant").is_some_and(|tenant| tenant == "span-guest")
    };
    let spans: Vec<_> = kept.0.lock().unwrap().iter().filter(is_ours).cloned().collect();
    let [echo, panic] = spans.as_slice() else { panic!("{spans:?}") };
    let id = id.to_string();
    let expected = [
        ("faas.name", "echo"),
        ("faas.version", "r1"),
        ("faas.invocation_id", id.as_str()),
        ("faas.tenant", "span-guest"),
        ("node", "local"),
        ("faas.coldstart", "true"),
    ];
    for (field, value) in expected {
        assert_eq!(echo[field], value, "{field}");
    }
    assert_eq!(panic["error.type"].trim_matches('"'), "trapped");
    assert!(!panic.contains_key("faas.coldstart") && !echo.contains_key("error.type"));
}
