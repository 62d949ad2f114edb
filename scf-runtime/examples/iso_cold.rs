#![allow(missing_docs)]
use std::{sync::Arc, time::{Duration, Instant}};
use scf_core::*;
use scf_runtime::{WasmFactory, NativeFactory};
use wasmtime::{component::{Component, Linker}, *};
#[derive(Debug)] struct H(Arc<Node>);
#[async_trait::async_trait]
impl Host for H {
    fn node(&self) -> &Arc<Node> { &self.0 }
    fn now(&self) -> Timestamp { Timestamp::default() }
    fn hosts_of(&self, _: &FunctionName) -> Vec<Arc<Node>> { vec![] }
    fn path(&self, _: &NodeId, _: &NodeId) -> Option<Path> { None }
    async fn pace(&self, cpu: Duration) -> Duration { cpu }
    async fn invoke(&self, _: &Call, _: u64, _: Callee) -> Result<Outcome, InvokeError> { unimplemented!() }
}
fn cfg(epoch: bool) -> Config {
    let mut p = PoolingAllocationConfig::new();
    p.total_memories(256).total_core_instances(1024).total_component_instances(256).total_tables(512).total_stacks(256)
     .max_memory_size(64<<20).table_elements(10_000).linear_memory_keep_resident(128<<10).table_keep_resident(4<<10).pagemap_scan(if std::env::var("NOSCAN").is_ok() {Enabled::No} else {Enabled::Auto});
    let mut c = Config::new();
    c.allocation_strategy(p).memory_reservation(64<<20).memory_guard_size(64<<10).concurrency_support(false).memory_may_move(false)
     .epoch_interruption(epoch).wasm_backtrace_max_frames(None).async_stack_size(512<<10).max_wasm_stack(256<<10);
    c
}
fn stat(name: &str, v: &mut Vec<u64>) { if v.is_empty() { return; } v.sort(); println!("{name:40} p50 {} ns  p99 {} ns", v[v.len()/2], v[v.len()*99/100]); v.clear(); }
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    tokio::spawn(run()).await.unwrap();
}
async fn run() {
    let wasm = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/components/echo.wasm")).unwrap();
    let e = Engine::new(&cfg(false)).unwrap();
    let c = Component::new(&e, &wasm).unwrap();
    let pre = Linker::<()>::new(&e).instantiate_pre(&c).unwrap();
    let idx = c.get_export_index(None, "echo").unwrap();
    let input = vec![7u8; 16];
    let f = WasmFactory::builder().build().unwrap();
    let prepared = f.prepare(&Function::component("echo".try_into().unwrap(), wasm.clone(), "echo")).await.unwrap();
    let n = NativeFactory::new().with_sync("echo", |p| Ok(p)).unwrap();
    let nprep = n.prepare(&Function::native("echo".try_into().unwrap(), Name::new("echo").unwrap())).await.unwrap();
    let host: Arc<dyn Host> = Arc::new(H(Arc::new(Node::new("n".try_into().unwrap(), Tier::Edge))));
    let call = Call::new(InvocationId::new(1), "echo".try_into().unwrap(), Timestamp::default(), host);
    let payload = Payload::new(input.clone());
    const N: usize = 20000;
    let mut vs: Vec<Vec<u64>> = vec![vec![]; 6];
    let arm: Option<usize> = std::env::var("ARM").ok().map(|a| a.parse().unwrap());
    let on = |k| arm.is_none_or(|a| a == k);
    for i in 0..N + 2000 {
        if i == 2000 { vs.iter_mut().for_each(Vec::clear); }
        if on(0) {
        let t = Instant::now();
        { let mut s = Store::new(&e, ()); let inst = pre.instantiate(&mut s).unwrap();
          let f = inst.get_typed_func::<(&[u8],), (std::result::Result<Vec<u8>, String>,)>(&mut s, &idx).unwrap();
          let r = f.call(&mut s, (&input,)).unwrap(); assert!(r.0.unwrap().len()==16); }
        vs[0].push(t.elapsed().as_nanos() as u64);
        }
        if on(1) {
        let t = Instant::now();
        { let mut s = Store::new(&e, ()); let inst = pre.instantiate_async(&mut s).await.unwrap();
          let f = inst.get_typed_func::<(&[u8],), (std::result::Result<Vec<u8>, String>,)>(&mut s, &idx).unwrap();
          let r = f.call_async(&mut s, (&input,)).await.unwrap(); assert!(r.0.unwrap().len()==16); }
        vs[1].push(t.elapsed().as_nanos() as u64);
        }
        if on(2) {
        let t = Instant::now();
        { let mut iso = prepared.instantiate().await.unwrap(); let r = iso.invoke(&call, payload.clone()).await.unwrap(); assert!(r.payload.bytes.len()==16); }
        vs[2].push(t.elapsed().as_nanos() as u64);
        }
        if on(3) {
        let t = Instant::now();
        { let mut iso = nprep.instantiate().await.unwrap(); let r = iso.invoke(&call, payload.clone()).await.unwrap(); assert!(r.payload.bytes.len()==16); }
        vs[3].push(t.elapsed().as_nanos() as u64);
        }
        if on(4) {
        let t = Instant::now();
        { let mut s = Store::new(&e, ()); let _inst = pre.instantiate(&mut s).unwrap(); }
        vs[4].push(t.elapsed().as_nanos() as u64);
        }
        if on(5) {
        let t = Instant::now();
        { let s = Store::new(&e, ()); std::hint::black_box(&s); }
        vs[5].push(t.elapsed().as_nanos() as u64);
        }
    }
    for (n, v) in ["bare sync", "bare async", "WasmFactory isolate", "native isolate", "bare instantiate only", "store only"].iter().zip(&mut vs) { stat(n, v); }
}
