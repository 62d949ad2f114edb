//! What every [`IsolateFactory`] promises, and the isolates that it makes.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    Begun, Call, Callee, Function, FunctionName, Host, InvocationId, InvokeError, Isolate, IsolateFactory, Node,
    NodeId, Outcome, Path, Payload, PrepareError, Prepared, Reply, Tier, Timestamp,
};

/// Calls that run at the same time.
const AT_ONCE: usize = 8;

/// Functions for the suite to try a factory with. Their limits are those of the call: memory for a payload of
/// 64 KiB, CPU time in seconds.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests write it as a literal")]
pub struct Samples {
    /// Gives what it is given.
    pub echo: Function,
    /// Gives how many calls it has had, this one included, as a decimal, counted in memory of its own; none
    /// where functions have no such memory.
    pub count: Option<Function>,
    /// Code of a kind that the factory does not run.
    pub foreign: Function,
}

/// Holds the factories that `make` gives against the contracts of [`IsolateFactory`], [`Prepared`] and
/// [`Isolate`].
///
/// `make` is called once per promise.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn isolate_factory<F, Fut>(make: F, samples: &Samples)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn IsolateFactory>>,
{
    macro_rules! hold {
        ($($promise:ident),* $(,)?) => {$(
            $promise(&*make().await, samples).await;
        )*};
    }
    hold!(
        runs_one_kind_of_code,
        gives_what_the_function_gives,
        accounts_for_the_cpu_time_it_reports,
        serves_calls_at_the_same_time,
        starts_every_isolate_afresh,
        begins_what_an_isolate_would_do,
        survives_calls_that_are_given_up,
    );
}

async fn runs_one_kind_of_code(factory: &dyn IsolateFactory, samples: &Samples) {
    assert!(!factory.name().is_empty(), "a factory has a name");
    assert!(factory.accepts(&samples.echo.code), "a factory accepts the code that it runs");
    assert!(!factory.accepts(&samples.foreign.code), "a factory does not accept code that it does not run");
    match factory.prepare(&samples.foreign).await {
        Ok(_) => panic!("code that is not accepted is not prepared either"),
        Err(error) => assert!(
            error.to_string().contains(samples.foreign.name.as_str()),
            "an error of preparation names the function: {error}"
        ),
    }
}

async fn gives_what_the_function_gives(factory: &dyn IsolateFactory, samples: &Samples) {
    let prepared = prepare(factory, &samples.echo).await;
    for size in [0, 1, 64 << 10] {
        let given: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let reply = invoke(&*prepared, &samples.echo, &host(), given.clone()).await;
        assert_eq!(reply.payload.bytes, given, "an echo of {size} bytes");
        assert_eq!(reply.payload.media, samples.echo.output, "a reply is of the type that the function gives");
        assert_eq!(reply.calls, [], "a function that calls nobody has no bills of calls");
    }
}

async fn accounts_for_the_cpu_time_it_reports(factory: &dyn IsolateFactory, samples: &Samples) {
    let prepared = prepare(factory, &samples.echo).await;
    let host = host();
    let call = call(&samples.echo, &host);
    let mut isolate = instantiate(&*prepared).await;
    let reply = isolate.invoke(&call, Payload::new(vec![7; 64 << 10])).await;
    let reply = reply.unwrap_or_else(|error| panic!("a sample succeeds: {error}"));
    assert!(reply.usage.cpu > Duration::ZERO, "a call takes CPU time");
    assert_eq!(call.meter.usage().cpu, reply.usage.cpu, "what a call reports is what its meter was told");
    assert_eq!(host.paced(), reply.usage.cpu, "what a call reports is what went through the host's pace");
}

async fn serves_calls_at_the_same_time(factory: &dyn IsolateFactory, samples: &Samples) {
    let prepared = prepare(factory, &samples.echo).await;
    let host = host();
    let calls: Vec<Call> = (0..AT_ONCE).map(|_| call(&samples.echo, &host)).collect();
    let mut isolates = Vec::new();
    for _ in 0..AT_ONCE {
        isolates.push(instantiate(&*prepared).await);
    }
    let running: Vec<_> = isolates
        .iter_mut()
        .zip(&calls)
        .enumerate()
        .map(|(at, (isolate, call))| isolate.invoke(call, Payload::new(vec![at as u8; 1000])))
        .collect();
    for (at, reply) in all(running).await.into_iter().enumerate() {
        let reply = reply.unwrap_or_else(|error| panic!("isolates of one function do not disturb each other: {error}"));
        assert_eq!(reply.payload.bytes, vec![at as u8; 1000], "each isolate answers its own call");
    }
}

async fn starts_every_isolate_afresh(factory: &dyn IsolateFactory, samples: &Samples) {
    let Some(count) = &samples.count else { return };
    let prepared = prepare(factory, count).await;
    for _ in 0..4 {
        let reply = invoke(&*prepared, count, &host(), Vec::new()).await;
        assert_eq!(reply.payload.bytes, "1", "a fresh isolate has nothing of the calls before");
    }
}

async fn begins_what_an_isolate_would_do(factory: &dyn IsolateFactory, samples: &Samples) {
    let prepared = prepare(factory, &samples.echo).await;
    for (size, paces) in [(0, true), (1, true), (64 << 10, true), (0, false), (64 << 10, false)] {
        let (host, given) = (host_that(paces), vec![5; size]);
        let call = call(&samples.echo, &host);
        let reply = match begin(&*prepared, &call, given.clone()).await {
            Begun::Done(reply) => reply,
            Begun::Waits(reply) => reply.await,
        };
        let reply = reply.unwrap_or_else(|error| panic!("a sample succeeds: {error}"));
        assert_eq!(reply.payload.bytes, given, "an echo of {size} bytes");
        assert_eq!(call.meter.usage().cpu, reply.usage.cpu, "what a call reports is what its meter was told");
        let is_paced = host.paced() == reply.usage.cpu || !paces;
        assert!(is_paced, "what a call reports is what went through the host's pace");
    }
    for paces in [true, false, true, false] {
        // It is dropped where it waits.
        drop(begin(&*prepared, &call(&samples.echo, &host_that(paces)), vec![6; 64 << 10]).await);
    }
    let reply = invoke(&*prepared, &samples.echo, &host(), vec![2; 10]).await;
    assert_eq!(reply.payload.bytes, [2; 10].as_slice(), "calls that were begun and dropped leave the function usable");
}

async fn survives_calls_that_are_given_up(factory: &dyn IsolateFactory, samples: &Samples) {
    let prepared = prepare(factory, &samples.echo).await;
    let host = host();
    for is_begun in [false, true, true, true] {
        let call = call(&samples.echo, &host);
        let mut isolate = instantiate(&*prepared).await;
        let mut running = isolate.invoke(&call, Payload::new(vec![1; 64 << 10]));
        if is_begun {
            // Whether it is ready at once depends on the isolate; either way it is dropped now.
            let _is_ready = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_ready())).await;
        }
    }
    let reply = invoke(&*prepared, &samples.echo, &host, vec![2; 10]).await;
    assert_eq!(reply.payload.bytes, [2; 10].as_slice(), "calls that were given up leave the function usable");
}

async fn prepare(factory: &dyn IsolateFactory, function: &Function) -> Arc<dyn Prepared> {
    let failed = |error: PrepareError| -> ! { panic!("code that is accepted and valid is prepared: {error}") };
    factory.prepare(function).await.unwrap_or_else(|error| failed(error))
}

async fn instantiate(prepared: &dyn Prepared) -> Box<dyn Isolate> {
    prepared.instantiate().await.unwrap_or_else(|error| panic!("there is room for one isolate: {error}"))
}

async fn invoke(prepared: &dyn Prepared, function: &Function, host: &Arc<Bench>, input: Vec<u8>) -> Reply {
    let call = call(function, host);
    let mut isolate = instantiate(prepared).await;
    isolate.invoke(&call, Payload::new(input)).await.unwrap_or_else(|error| panic!("a sample succeeds: {error}"))
}

async fn begin<'a>(prepared: &'a dyn Prepared, call: &'a Call, input: Vec<u8>) -> Begun<'a> {
    let mut input = Some(Payload::new(input));
    poll_fn(|cx| Poll::Ready(prepared.begin(call, input.take().unwrap_or_default(), cx))).await
}

/// Waits for all of them.
async fn all<T, F: Future<Output = T> + Unpin>(mut futures: Vec<F>) -> Vec<T> {
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(value) = Pin::new(future).poll(cx)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

fn call(function: &Function, host: &Arc<Bench>) -> Call {
    let host: Arc<dyn Host> = Arc::<Bench>::clone(host);
    let deadline = Timestamp::from_nanos(u64::MAX);
    Call::new(InvocationId::new(1), function.name.clone(), function.tenant.clone(), deadline, host)
}

fn host() -> Arc<Bench> {
    host_that(true)
}

/// A host that paces, or does not ask for it.
fn host_that(paces: bool) -> Arc<Bench> {
    let id = NodeId::new("bench").expect("a name");
    Arc::new(Bench { node: Arc::new(Node::new(id, Tier::Edge)), paced: AtomicU64::new(0), paces })
}

/// A host that isolates are tried on: a node without slowdown, neighbours or other functions.
#[derive(Debug)]
struct Bench {
    node: Arc<Node>,
    /// In nanoseconds.
    paced: AtomicU64,
    /// Whether it is asked to.
    paces: bool,
}

impl Bench {
    fn paced(&self) -> Duration {
        Duration::from_nanos(self.paced.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Host for Bench {
    fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn hosts_of(&self, _: &FunctionName) -> Vec<Arc<Node>> {
        vec![Arc::clone(&self.node)]
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        (from == to).then_some(Path::HERE)
    }

    fn paces(&self) -> bool {
        self.paces
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        self.paced.fetch_add(cpu.as_nanos() as u64, Ordering::Relaxed);
        cpu
    }

    async fn invoke(&self, _: &Call, _: u64, callee: Callee) -> Result<Outcome, InvokeError> {
        Err(InvokeError::NotFound { function: callee.function })
    }
}
