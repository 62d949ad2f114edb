//! The process that the calls belong to.
//!
//! Lines: `up`; `t`, the first call came; `c N`, so many calls ran; `end …`, everything is settled and counted, which it
//! does when it is told `count`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use scf_core::{CallState, Function, InvocationQueue as _, Name, Payload, Scope, StateBackend as _};
use scf_runtime::{NativeError, NativeFactory};

use crate::life::{Joined, KEYS, Life, Result, function, id, key, told};

/// A line for every so many calls.
const TOLD_EVERY: u64 = 10;
/// What a key's state says of the order of its calls.
const LAST: &str = "last";
const DISORDERED: &str = "disordered";

pub(crate) async fn live(life: Life) -> Result<()> {
    let mut told = told();
    let joined = life.join(natives()?).await?;
    println!("up");
    joined.fabric.deploy(Function::native(function(), Name::new("effect")?).stateful()).await?;
    while told.recv().await.is_some_and(|line| line != "count") {}
    while !told.is_closed() && joined.queue.load().pending > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    count(&joined, life.calls).await?;
    // Whoever accepted may still ask.
    while told.recv().await.is_some() {}
    Ok(())
}

/// A function that counts itself in the state of its key, and whether it comes in the order of the key's calls.
fn natives() -> Result<NativeFactory> {
    let ran = Arc::new(AtomicU64::new(0));
    let natives = NativeFactory::new().with("effect", move |call, input| {
        let ran = Arc::clone(&ran);
        Box::pin(async move {
            let ran = ran.fetch_add(1, SeqCst) + 1;
            if ran == 1 {
                println!("t");
            }
            let text = String::from_utf8_lossy(&input.bytes).into_owned();
            let number: u64 = text.parse().map_err(|_| NativeError::refused("not a number"))?;
            let state = call.state()?;
            let before = numbered(state.get(&text).await?.as_deref());
            let next = state.get(LAST).await?.map_or(number % KEYS, |last| numbered(Some(&last)) + KEYS);
            if next != number {
                let disordered = numbered(state.get(DISORDERED).await?.as_deref());
                state.put(DISORDERED, (disordered + 1).to_le_bytes().to_vec().into());
            }
            state.put(LAST, number.to_le_bytes().to_vec().into());
            state.put(&text, (before + 1).to_le_bytes().to_vec().into());
            if ran.is_multiple_of(TOLD_EVERY) {
                println!("c {ran}");
            }
            Ok(Payload::new(text))
        })
    })?;
    Ok(natives)
}

/// Says what became of every call, by what is in the state and in the queue.
async fn count(joined: &Joined, calls: u64) -> Result<()> {
    let (mut completed, mut dead, mut lost, mut doubled, mut disordered) = (0, 0, 0, 0, 0);
    for call in 0..calls {
        let scope = Scope { function: function(), key: key(call) };
        let effects = numbered(joined.state.get(&scope, &call.to_string()).await?.map(|entry| entry.value).as_deref());
        doubled += effects.saturating_sub(1);
        match joined.queue.status(id(call)).await?.map(|status| status.state) {
            Some(CallState::Completed(_)) if effects > 0 => completed += 1,
            Some(CallState::Dead(_)) => dead += 1,
            _ => lost += 1,
        }
    }
    for key in 0..KEYS.min(calls) {
        let scope = Scope { function: function(), key: key.to_string() };
        disordered += numbered(joined.state.get(&scope, DISORDERED).await?.map(|entry| entry.value).as_deref());
    }
    println!("end {completed} {dead} {lost} {doubled} {disordered}");
    Ok(())
}

fn numbered(stored: Option<&[u8]>) -> u64 {
    stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
