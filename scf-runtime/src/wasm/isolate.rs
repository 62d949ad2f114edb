//! A component that is ready to be called, and its isolates.

use std::{sync::Arc, task::Context};

use async_trait::async_trait;
use scf_core::{Begun, Call, InvokeError, Isolate, Payload, Prepared, Reply, Reuse};
use wasmtime::PoolConcurrencyLimitError;

use super::{live::Live, made::Made, pinned::Pinned, program::Program, warm::Warm};
use crate::spread::{Apart, Each, Shared, here};

#[derive(Debug)]
pub(super) struct WasmPrepared {
    made: Arc<Made>,
    /// The same, counted apart for each core.
    near: Each<Shared<Made>>,
}

impl WasmPrepared {
    pub(super) fn new(program: Program, reuse: Reuse) -> Self {
        let warm = Warm::new(reuse);
        if let Some(warm) = &warm {
            program.machine.idle.add(warm);
        }
        Self { made: Arc::new(Made::new(program, warm)), near: Each::default() }
    }

    /// What its isolates share, for `part` of the cores.
    fn near(&self, part: usize) -> &Shared<Made> {
        self.near.at(part, || Arc::new(Apart(Arc::clone(&self.made))))
    }
}

#[async_trait]
impl Prepared for WasmPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        let part = here();
        Ok(Box::new(WasmIsolate { made: Arc::clone(self.near(part)), part }))
    }

    fn begin<'a>(&'a self, call: &'a Call, input: Payload, cx: &mut Context<'_>) -> Begun<'a> {
        let part = here();
        self.near(part).begin(part, call, input, cx)
    }

    async fn pin(&self) -> Result<Option<Box<dyn Isolate>>, InvokeError> {
        #[cfg(feature = "wasi-http")]
        if let super::program::Export::Handler(_) = self.made.program.export {
            return Ok(None);
        }
        let part = here();
        Ok(Some(Box::new(Pinned::new(Arc::clone(self.near(part)), part))))
    }

    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        let Made { program, warm, .. } = &*self.made;
        let Some(warm) = warm else { return Ok(0) };
        let wanted = warm.max_idle().min(isolates as usize);
        warm.retire(wanted);
        // Calls may take what is made here meanwhile: no more are made than were missing.
        for _ in warm.idle()..wanted {
            let mut live = Live::unused(self.made.near(here())).work().await;
            match live.take_output() {
                Ok(_) => warm.give(live),
                Err(error) if error.is::<PoolConcurrencyLimitError>() => break,
                Err(error) => return Err(program.explain(&error, &live)),
            }
        }
        Ok(u32::try_from(warm.idle()).unwrap_or(u32::MAX))
    }
}

/// Takes or makes its instance when it is called, so that what the component's start functions use is metered and
/// limited with the call.
#[derive(Debug)]
struct WasmIsolate {
    made: Shared<Made>,
    /// The cores that it was made on.
    part: usize,
}

#[async_trait]
impl Isolate for WasmIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        self.made.serve(self.part, call, input).await
    }
}
