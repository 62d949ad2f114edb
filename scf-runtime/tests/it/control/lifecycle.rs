use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use scf_core::{
    Autoscaler, Code, InvokeError, Isolate, IsolateFactory, Limits, Load, ManualClock, PrepareError, Prepared, Reuse,
};
use scf_runtime::Lifecycle;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn lifecycle(fabric: &Fabric) -> Lifecycle {
    fabric.status(&name("f"))[0].lifecycle
}

/// Lets `time` pass in steps in which everybody does what is due.
async fn pass(clock: &ManualClock, time: Duration) {
    for _ in 0..time.as_millis() / 50 {
        clock.advance(50 * MS);
        settle().await;
    }
}

#[tokio::test]
async fn a_function_sleeps_when_nobody_calls_it_and_wakes_with_a_call() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = alone(&stage, |builder| builder.clock(Arc::new(clock.clone())).idle(Duration::from_secs(5)));
    fabric.deploy(native("f", "gate")).await.unwrap();
    assert_eq!(lifecycle(&fabric), Lifecycle::Dormant);
    for _ in 0..3 {
        let call = spawn(&fabric, to(&fabric, "f"));
        settle().await;
        assert_eq!(lifecycle(&fabric), Lifecycle::Ready);
        pass(&clock, Duration::from_secs(20)).await;
        assert_eq!(lifecycle(&fabric), Lifecycle::Ready, "a call runs");
        stage.gate.add_permits(1);
        call.await.unwrap().unwrap();
        pass(&clock, Duration::from_secs(4)).await;
        assert_eq!(lifecycle(&fabric), Lifecycle::Ready);
        pass(&clock, Duration::from_secs(2)).await;
        assert_eq!(lifecycle(&fabric), Lifecycle::Dormant);
    }
}

#[tokio::test]
async fn bursts_between_sleeps_lose_no_call() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = alone(&stage, |builder| builder.clock(Arc::new(clock.clone())).idle(200 * MS));
    let limits = Limits { concurrency: 4, ..Limits::default() };
    fabric.deploy(native("f", "echo").limits(limits)).await.unwrap();
    let (mut slept, mut made) = (0, 0);
    for burst in 0..60u64 {
        // Every burst begins a little later in the function's idle time, some while it falls asleep.
        pass(&clock, MS * 50 * (burst % 7) as u32).await;
        slept += u32::from(lifecycle(&fabric) == Lifecycle::Dormant);
        let calls: Vec<_> = (0..20).map(|_| spawn(&fabric, to(&fabric, "f"))).collect();
        clock.advance(50 * MS);
        for call in calls {
            call.await.unwrap().expect("no call is lost");
            made += 1;
        }
    }
    assert!(slept > 10 && slept < 60, "asleep before {slept} of 60 bursts");
    assert_eq!(fabric.bills()[0].1.calls, made);
}

/// Says what it is told to, then repeats the last.
#[derive(Debug)]
struct Script(Arc<Mutex<VecDeque<u32>>>);

impl Autoscaler for Script {
    fn desired(&mut self, _: &Load) -> u32 {
        let mut script = self.0.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0] }
    }
}

#[tokio::test]
async fn what_an_autoscaler_says_is_applied_by_time_and_zero_means_asleep() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let script = Arc::new(Mutex::new(VecDeque::from([1])));
    let fabric = alone(&stage, |builder| {
        let script = script.clone();
        builder.clock(Arc::new(clock.clone())).autoscaler(move |_| Box::new(Script(script.clone())))
    });
    fabric.deploy(native("f", "gate").limits(Limits { concurrency: 8, ..Limits::default() })).await.unwrap();
    let calls: Vec<_> = (0..3).map(|_| spawn(&fabric, to(&fabric, "f"))).collect();
    settle().await;
    assert_eq!((stage.entered(), fabric.status(&name("f"))[0].slots), (1, 1));
    script.lock().unwrap().push_back(3);
    pass(&clock, 300 * MS).await;
    assert_eq!(stage.entered(), 3, "those that waited have room, without a call that asks for it");
    script.lock().unwrap().push_back(0);
    pass(&clock, 300 * MS).await;
    assert_eq!(lifecycle(&fabric), Lifecycle::Ready, "calls run");
    stage.gate.add_permits(4);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    pass(&clock, 300 * MS).await;
    assert_eq!(lifecycle(&fabric), Lifecycle::Dormant);
    fabric.invoke(to(&fabric, "f")).await.expect("the call that wakes it has a slot");
}

/// Runs natives and writes down what it is told to keep.
#[derive(Debug)]
struct Keeping {
    natives: NativeFactory,
    told: Arc<Mutex<Vec<u32>>>,
}

#[async_trait]
impl IsolateFactory for Keeping {
    fn name(&self) -> &'static str {
        "keeping"
    }

    fn accepts(&self, code: &Code) -> bool {
        self.natives.accepts(code)
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let prepared = self.natives.prepare(function).await?;
        Ok(Arc::new(Kept { prepared, told: self.told.clone() }))
    }
}

#[derive(Debug)]
struct Kept {
    prepared: Arc<dyn Prepared>,
    told: Arc<Mutex<Vec<u32>>>,
}

#[async_trait]
impl Prepared for Kept {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        self.prepared.instantiate().await
    }

    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        self.told.lock().unwrap().push(isolates);
        Ok(isolates)
    }
}

#[tokio::test]
async fn isolates_are_kept_ahead_of_calls_as_the_function_and_its_autoscaler_say_and_none_in_sleep() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let script = Arc::new(Mutex::new(VecDeque::from([2])));
    let fabric = alone(&stage, |builder| {
        let script = script.clone();
        builder
            .clock(Arc::new(clock.clone()))
            .isolates(Arc::new(Keeping { natives: stage.natives(), told: told.clone() }))
            .autoscaler(move |_| Box::new(Script(script.clone())))
    });
    let warm = Reuse::Warm { max_idle: 4, max_calls: 100, max_age: Duration::from_secs(60) };
    fabric.deploy(native("f", "echo").reuse(warm)).await.unwrap();
    let said = || std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(said(), [4], "before the first call");
    assert_eq!(lifecycle(&fabric), Lifecycle::Ready);
    pass(&clock, 200 * MS).await;
    assert_eq!(said(), [2]);
    script.lock().unwrap().push_back(16);
    pass(&clock, 200 * MS).await;
    assert_eq!(said(), [4], "no more than the function says");
    script.lock().unwrap().push_back(0);
    pass(&clock, 200 * MS).await;
    assert_eq!((said(), lifecycle(&fabric)), (vec![0], Lifecycle::Dormant));
    // A function that does not reuse isolates keeps none.
    fabric.deploy(native("f", "echo")).await.unwrap();
    assert!(said().is_empty());
}

/// Runs natives whose isolates start only when they are let.
#[derive(Debug)]
struct Slow(NativeFactory, Arc<Semaphore>);

#[derive(Debug)]
struct SlowPrepared(Arc<dyn Prepared>, Arc<Semaphore>);

#[async_trait]
impl IsolateFactory for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn accepts(&self, code: &Code) -> bool {
        self.0.accepts(code)
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        Ok(Arc::new(SlowPrepared(self.0.prepare(function).await?, self.1.clone())))
    }
}

#[async_trait]
impl Prepared for SlowPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        self.1.acquire().await.expect("it is never closed").forget();
        self.0.instantiate().await
    }
}

#[tokio::test]
async fn a_function_is_starting_until_its_first_isolate_is_there() {
    let (stage, starts) = (Stage::new(), Arc::new(Semaphore::new(0)));
    let fabric = alone(&stage, |builder| builder.isolates(Arc::new(Slow(stage.natives(), starts.clone()))));
    fabric.deploy(native("f", "echo")).await.unwrap();
    let calls: Vec<_> = (0..2).map(|_| spawn(&fabric, to(&fabric, "f"))).collect();
    settle().await;
    assert_eq!(lifecycle(&fabric), Lifecycle::Starting);
    starts.add_permits(2);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(lifecycle(&fabric), Lifecycle::Ready);
}

/// Sleeps unless it sees a call.
#[derive(Debug)]
struct Sees(Arc<Mutex<Vec<u32>>>);

impl Autoscaler for Sees {
    fn desired(&mut self, load: &Load) -> u32 {
        self.0.lock().unwrap().push(load.running);
        load.running
    }
}

#[tokio::test]
async fn an_autoscaler_sees_calls_that_are_over_when_it_is_asked() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let fabric = alone(&stage, |builder| {
        let seen = seen.clone();
        builder.clock(Arc::new(clock.clone())).autoscaler(move |_| Box::new(Sees(seen.clone())))
    });
    fabric.deploy(native("f", "echo")).await.unwrap();
    clock.advance(MS);
    for _ in 0..10 {
        fabric.invoke(to(&fabric, "f")).await.unwrap();
        pass(&clock, 100 * MS).await;
        assert_eq!(lifecycle(&fabric), Lifecycle::Ready);
    }
    pass(&clock, 300 * MS).await;
    assert_eq!(lifecycle(&fabric), Lifecycle::Dormant);
    assert_eq!(seen.lock().unwrap().last(), Some(&0));
}
