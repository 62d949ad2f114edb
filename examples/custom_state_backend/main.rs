//! Your own state store, held against the contract: `cargo run --release --example custom_state_backend`

mod backend;
mod log;

use std::{cell::Cell, error::Error, sync::Arc};

use scf::core::{Batch, FunctionName, InvocationId, ManualClock, Scope, StateBackend, conformance};

use crate::log::LogState;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (folder, made) = (tempfile::tempdir()?, Cell::new(0));
    let make = async |_: ManualClock| {
        made.set(made.get() + 1);
        let log = LogState::open(&folder.path().join(made.get().to_string()));
        Arc::new(log.expect("a fresh folder")) as Arc<dyn StateBackend>
    };
    conformance::state::state_backend(make).await;
    println!("LogState keeps all {} promises of StateBackend", made.get());

    let scope = Scope { function: FunctionName::new("counter")?, key: "door".to_owned() };
    for (id, count) in [(1, "1"), (2, "2"), (2, "2")] {
        // Opened anew for every call, as after a crash; the last call is a retry.
        let state = LogState::open(&folder.path().join("door"))?;
        let batch = Batch::new(scope.clone()).put("count", count).invocation(InvocationId::new(id), count);
        println!("call {id}: {:?}", state.commit(batch).await?);
    }
    println!("{}", std::fs::read_to_string(folder.path().join("door"))?);
    Ok(())
}
