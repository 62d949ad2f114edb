//! The stateful function: how often a camera saw each label.

use scf::{
    core::Payload,
    runtime::{NativeCall, NativeError, NativeFuture},
};
use serde_json::{Value, json};

/// Counts the best label of `input`, the answer of `label`, in the state of the camera that is the call's key.
pub(crate) fn tally<'a>(call: &'a NativeCall<'a>, input: Payload) -> NativeFuture<'a> {
    Box::pin(async move {
        let answer: Value = serde_json::from_slice(&input.bytes)
            .map_err(|error| NativeError::refused(format!("input: not JSON: {error}")))?;
        let best = &answer["top5"][0];
        let name = best["name"].as_str().ok_or_else(|| NativeError::refused("input: top5[0].name is missing"))?;
        let state = call.state()?;
        let before = match state.get(name).await? {
            Some(bytes) => serde_json::from_slice::<u64>(&bytes)
                .map_err(|error| NativeError::refused(format!("state of {name}: not a count: {error}")))?,
            None => 0,
        };
        state.put(name, (before + 1).to_string().into());
        let counted =
            json!({"name": name, "class": best["class"], "probability": best["probability"], "count": before + 1});
        Ok(Payload::new(counted.to_string()))
    })
}
