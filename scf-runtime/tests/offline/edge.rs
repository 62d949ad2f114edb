//! The process that accepts calls of the hub, whether that is there or not.
//!
//! Lines: `up`; `a N`, call N is accepted; `accepted`, all of them are; `drained`, none is left here; `end …`, how calls
//! stand that were asked for from here. Told `go` it accepts, told `ask` it asks.

use std::time::Duration;

use scf_core::{CallState, InvocationQueue as _};
use scf_runtime::{EnqueueError, Fabric, NativeFactory};

use crate::life::{CLIENTS, Life, Result, call, id, told};

/// One call of so many is asked for: all would be as many round trips.
pub(crate) const ASKED: usize = 7;

pub(crate) async fn live(life: Life) -> Result<()> {
    let joined = life.join(NativeFactory::new()).await?;
    let mut told = told();
    println!("up");
    while let Some(line) = told.recv().await {
        match line.as_str() {
            "go" => {
                accept_all(&joined.fabric, &life).await?;
                println!("accepted");
                let queue = std::sync::Arc::clone(&joined.queue);
                tokio::spawn(async move {
                    while queue.load().pending > 0 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    println!("drained");
                });
            }
            "ask" => {
                let (mut completed, mut dead) = (0, 0);
                for number in (0..life.calls).step_by(ASKED) {
                    match joined.fabric.settled(id(number)).await?.map(|status| status.state) {
                        Some(CallState::Completed(Some(result))) if result.bytes == number.to_string() => {
                            completed += 1
                        }
                        Some(CallState::Dead(_)) => dead += 1,
                        other => return Err(format!("call {number} stands as {other:?}").into()),
                    }
                }
                println!("end {completed} {dead}");
            }
            _ => {}
        }
    }
    Ok(())
}

async fn accept_all(fabric: &Fabric, life: &Life) -> Result<()> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(accept(fabric.clone(), life.from, life.calls, client));
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

/// Accepts the calls whose keys are this client's.
async fn accept(fabric: Fabric, from: u64, calls: u64, client: u64) -> std::result::Result<(), EnqueueError> {
    for number in (from..calls).filter(|number| number % CLIENTS == client) {
        fabric.enqueue(call(number)).await?;
        println!("a {number}");
    }
    Ok(())
}
