//! The process that accepts calls of the hub, whether that is there or not.
//!
//! Lines: `up`; `a N`, call N is accepted; `accepted`, all of them are; `h N`, calls were handed over and N are left;
//! `drained`, none is; `end …`, how calls stand that were asked for from here. Told `go` it accepts, told `ask` it asks.

use std::{sync::Arc, time::Duration};

use scf_core::{CallState, InvocationQueue as _};
use scf_runtime::{EnqueueError, Fabric, NativeFactory};
use scf_state::RedbQueue;
use tokio::sync::oneshot;

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
                let (queue, (accepted, all)) = (Arc::clone(&joined.queue), oneshot::channel());
                tokio::spawn(watch(queue, all));
                accept_all(&joined.fabric, &life).await?;
                println!("accepted");
                // It is listened to until all are handed over.
                let _ = accepted.send(());
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

/// Says how calls are handed over, until all are accepted and none is left.
async fn watch(queue: Arc<RedbQueue>, mut accepted: oneshot::Receiver<()>) {
    let (mut before, mut is_accepted) = (0, false);
    loop {
        is_accepted |= accepted.try_recv().is_ok();
        let pending = queue.load().pending;
        if pending < before {
            println!("h {pending}");
        }
        if is_accepted && pending == 0 {
            return println!("drained");
        }
        before = pending;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
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
