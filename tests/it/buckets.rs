use std::sync::Arc;

use scf::{
    core::{
        Bucket, BucketGrant, Function, FunctionName, Grants, Invocation, KeyValue, KeyValueLimits, Name, StateBackend,
        TenantName, conformance,
    },
    runtime::{DeployError, Fabric, StateKeyValue, WasmFactory},
    sched::Pipeline,
    state::{MemoryDisk, MemoryState, RedbState},
};

use crate::support::{ROOT, function};

async fn holds<B: StateBackend>(backend: impl Fn() -> B) {
    let store = |limits: KeyValueLimits| {
        let backend = Arc::new(backend());
        async move { Arc::new(StateKeyValue::with_limits(backend, limits)) as Arc<dyn KeyValue> }
    };
    conformance::keyvalue::key_value(store).await;
}

#[tokio::test]
async fn buckets_keep_their_contract_over_every_state_backend() {
    holds(MemoryState::new).await;
    holds(|| RedbState::on(Arc::new(MemoryDisk::new())).unwrap()).await;
}

fn fabric(store: &Arc<RedbState>) -> Fabric {
    let store = Arc::new(StateKeyValue::new(Arc::clone(store) as Arc<dyn StateBackend>));
    let wasm = WasmFactory::builder().instances(16).keyvalue(store).build().unwrap();
    Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build().unwrap()
}

/// The guest `services` under two names, of which `caller` may call `counter` and only that has the bucket.
async fn deploy(fabric: &Fabric) {
    let guest = std::fs::read(format!("{ROOT}/examples/guests/components/services.wasm")).unwrap();
    let named = |name: &str| Function::component(FunctionName::new(name).unwrap(), guest.clone(), "run");
    let buckets = vec![BucketGrant { bucket: Name::new("counts").unwrap(), write: true }];
    fabric.deploy(named("counter").grants(Grants { buckets, ..Grants::default() })).await.unwrap();
    let functions = vec![function("counter")];
    fabric.deploy(named("caller").grants(Grants { functions, ..Grants::default() })).await.unwrap();
}

async fn call(fabric: &Fabric, of: &str, tenant: &str, commands: &str) -> String {
    let invocation = Invocation::new(fabric.new_id(), function(of), commands.to_owned());
    let outcome = fabric.invoke(invocation.tenant(TenantName::new(tenant).unwrap())).await.unwrap();
    String::from_utf8(outcome.payload.bytes.to_vec()).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn counters_of_guests_lose_nothing_between_callers_and_outlive_the_fabric() {
    let store = Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
    let first = fabric(&store);
    deploy(&first).await;
    let calls = (0..8).map(|_| {
        let fabric = first.clone();
        tokio::spawn(async move { call(&fabric, "counter", "ann", "1 add counts n 1\n2 add counts n 1").await })
    });
    for answer in all_of(calls).await {
        assert!(answer.lines().all(|line| line.parse::<u32>().is_ok()), "{answer}");
    }
    drop(first);
    let second = fabric(&store);
    deploy(&second).await;
    assert_eq!(call(&second, "counter", "ann", "2 get counts n").await, "16");
    assert_eq!(call(&second, "counter", "bob", "2 get counts n").await, "none");
    let scope = Bucket { tenant: TenantName::new("ann").unwrap(), name: Name::new("counts").unwrap() }.scope();
    assert_eq!(store.get(&scope, "=n").await.unwrap().unwrap().value, "16");
}

async fn all_of(calls: impl Iterator<Item = tokio::task::JoinHandle<String>>) -> Vec<String> {
    let calls: Vec<_> = calls.collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_function_reaches_a_bucket_through_another_that_it_may_call() {
    let fabric = fabric(&Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap()));
    deploy(&fabric).await;
    let answers = call(&fabric, "caller", "ann", "1 get counts n\ncall counter 1 add counts n 5\ncall caller x").await;
    assert_eq!(
        answers.lines().collect::<Vec<_>>(),
        ["error Error::AccessDenied", "5", "", "error InvokeError::Denied"]
    );
    assert_eq!(call(&fabric, "counter", "ann", "1 get counts n").await, "5", "on behalf of the same tenant");
    let receipt = fabric.call(&function("caller"), "call counter 1 get counts n").await.unwrap().receipt;
    let billed: Vec<_> = receipt.calls.iter().map(|bill| bill.function.as_str()).collect();
    assert_eq!(billed, ["counter"]);
}

#[tokio::test]
async fn no_function_has_the_name_under_which_buckets_lie() {
    let fabric = fabric(&Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap()));
    let guest = std::fs::read(format!("{ROOT}/examples/guests/components/echo.wasm")).unwrap();
    let refused = fabric.deploy(Function::component(function(Bucket::RESERVED), guest, "echo")).await.unwrap_err();
    assert!(
        matches!(&refused, DeployError::Reserved { function } if function.as_str() == Bucket::RESERVED),
        "{refused}"
    );
}
