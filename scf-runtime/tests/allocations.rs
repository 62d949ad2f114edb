//! How often a call allocates: a guard of its speed that no other load on the machine disturbs.
#![cfg(feature = "wasm")]
#![expect(unsafe_code, reason = "an allocator that counts is how allocations are counted")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::Duration,
};

use scf_core::{Function, FunctionName, Name, Payload, Reuse};
use scf_runtime::{Fabric, NativeFactory, WasmFactory};
use scf_sched::Pipeline;

/// Counts what the calling thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that ends may free what it has after its counter.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator, with a counter beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The least that one of some calls allocates: an instance or a table that grows is not what each of them costs.
async fn least(fabric: &Fabric, function: &FunctionName) -> usize {
    let payload = Payload::new(vec![7; 16]);
    let mut least = usize::MAX;
    for _ in 0..200 {
        let before = ALLOCATIONS.get();
        let outcome = fabric.call(function, payload.clone()).await.unwrap();
        least = least.min(ALLOCATIONS.get() - before);
        drop(outcome);
    }
    least
}

#[tokio::test]
async fn a_call_allocates_no_more_than_its_parts_need() {
    let echo = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/components/echo.wasm"));
    let wasm = WasmFactory::builder().instances(8).build().unwrap();
    let native = NativeFactory::new().with_sync("native", Ok).unwrap();
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm));
    let fabric = fabric.isolates(Arc::new(native)).build().unwrap();
    let name = |name| FunctionName::new(name).unwrap();
    let reuse = Reuse::Warm { max_idle: 1, max_calls: u32::MAX, max_age: Duration::MAX };
    fabric.deploy(Function::component(name("kept"), echo.to_vec(), "echo").reuse(reuse)).await.unwrap();
    fabric.deploy(Function::component(name("fresh"), echo.to_vec(), "echo")).await.unwrap();
    fabric.deploy(Function::native(name("native"), Name::new("native").unwrap())).await.unwrap();
    let (kept, fresh) = (least(&fabric, &name("kept")).await, least(&fabric, &name("fresh")).await);
    let native = least(&fabric, &name("native")).await;
    assert!(kept <= KEPT, "a call of a kept instance allocates {kept} times");
    assert!(fresh <= FRESH, "a call of a fresh instance allocates {fresh} times");
    assert!(native <= NATIVE, "a call of a native function allocates {native} times");
}

/// The meter, the call in its isolate, what the instance does, and wasmtime: its fibre and the output.
const KEPT: usize = 5;
/// Those, the instance with its store and run, and what wasmtime makes of them.
const FRESH: usize = 28;
/// The meter, the isolate, the calls of either, the function's own future and its boxed closure.
const NATIVE: usize = 7;
