//! The fabric that hostile guests are deployed to, and the neighbour that must not notice.

use std::{path::Path, sync::Arc, time::Duration};

use futures::FutureExt;
use scf_core::{
    Callee, Clock, Function, FunctionName, Invocation, InvokeError, Name, Node, NodeId, StateStore, TenantName, Tier,
};
use scf_runtime::{Fabric, NativeFactory, SystemClock, WasmFactory};
use scf_sched::Pipeline;
use scf_state::{AlwaysRemote, MemoryState, PhasedState};

use super::{guest::hostile, log::Log};

/// Instances of the pool: few, so that slots that are not given back are soon missed.
pub(crate) const INSTANCES: u32 = 24;

/// One node with a neighbour on it.
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) log: Log,
    neighbour: FunctionName,
}

impl Site {
    /// Must be made inside a tokio runtime.
    pub(crate) async fn new(log: Log) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let node = NodeId::new("here").unwrap();
        let (home, local) = (Arc::new(MemoryState::new()), Arc::new(MemoryState::new()));
        let store = PhasedState::new(node.clone(), home, local, Arc::new(AlwaysRemote), Arc::clone(&clock));
        let fabric = Fabric::builder()
            .node(Node::new(node.clone(), Tier::Edge))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(WasmFactory::builder().instances(INSTANCES).build().unwrap()))
            .isolates(Arc::new(natives()))
            .state(node, Arc::new(store) as Arc<dyn StateStore>)
            .clock(clock)
            .build()
            .unwrap();
        let neighbour = FunctionName::new("neighbour").unwrap();
        let echo = Path::new(env!("CARGO_MANIFEST_DIR"));
        let components = ["examples/guests/components", "../examples/guests/components"].map(|path| echo.join(path));
        let echo = components.iter().find_map(|folder| std::fs::read(folder.join("echo.wasm")).ok()).unwrap();
        let echo = Function::component(neighbour.clone(), echo, "echo").tenant(TenantName::new("neighbour").unwrap());
        fabric.deploy(echo).await.unwrap();
        Self { fabric, log, neighbour }
    }

    /// Deploys a hostile function, whatever its name.
    pub(crate) async fn deploy(&self, function: &Function) -> Result<(), String> {
        let function = function.clone().tenant(TenantName::new("stranger").unwrap());
        self.fabric.deploy(function).await.map(drop).map_err(|error| format!("it was not deployed: {error:?}"))
    }

    /// Calls the hostile function.
    pub(crate) async fn call(&self, input: &[u8]) -> Result<Vec<u8>, InvokeError> {
        let outcome = self.fabric.call(&hostile(), input.to_vec()).await;
        outcome.map(|outcome| outcome.payload.bytes.to_vec())
    }

    /// Calls the hostile function with a key.
    pub(crate) async fn call_with_key(&self, key: &str) -> Result<Vec<u8>, InvokeError> {
        let call = Invocation::new(self.fabric.new_id(), hostile(), "").key(key);
        self.fabric.invoke(call).await.map(|outcome| outcome.payload.bytes.to_vec())
    }

    /// One call of the neighbour.
    pub(crate) async fn neighbour(&self) -> Result<(), String> {
        let outcome = self.fabric.call(&self.neighbour, "still here?").await;
        let outcome = outcome.map_err(|error| format!("the neighbour's call failed: {error}"))?;
        let bytes = &outcome.payload.bytes[..];
        if bytes == b"still here?" { Ok(()) } else { Err(format!("the neighbour gave {bytes:?}")) }
    }

    /// Calls of the neighbour until one fails.
    pub(crate) async fn neighbour_for_ever(&self) -> String {
        loop {
            if let Err(problem) = self.neighbour().await {
                return problem;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Native functions that hostile ones are made of.
fn natives() -> NativeFactory {
    NativeFactory::new()
        .with("again", |call, payload| {
            async move { call.invoke(Callee { function: hostile(), node: None, key: None, payload }).await }.boxed()
        })
        .unwrap()
        .with("never", |_, _| async { std::future::pending().await }.boxed())
        .unwrap()
        .with_sync("panics", |_| panic!("\u{1b}[31mno\n2026-01-01 INFO all is well\u{202e}"))
        .unwrap()
}

/// The hostile function as native code registered under `entry`.
pub(crate) fn native(entry: &str) -> Function {
    Function::native(hostile(), Name::new(entry).unwrap())
}
