//! The state of an instance, as wizer asks for it.

use wasmtime::{
    Store,
    component::{Instance, Lift, WasmList},
};
use wasmtime_wizer::ComponentInstanceState;

use super::live::Guest;

/// Calls what wizer added to a component. The first failure is kept, since wizer cannot be told of one.
pub(super) struct State<'a> {
    store: &'a mut Store<Guest>,
    instance: Instance,
    failed: Option<wasmtime::Error>,
}

impl<'a> State<'a> {
    pub(super) const fn new(store: &'a mut Store<Guest>, instance: Instance) -> Self {
        Self { store, instance, failed: None }
    }

    /// Whether everything could be read.
    pub(super) fn finish(self) -> wasmtime::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    async fn call<R: Lift + 'static>(&mut self, interface: &str, function: &str) -> Option<R> {
        if self.failed.is_some() {
            return None;
        }
        match self.value(interface, function).await {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    async fn value<R: Lift + 'static>(&mut self, interface: &str, function: &str) -> wasmtime::Result<R> {
        let Self { store, instance, .. } = self;
        let found = instance.get_export_index(&mut **store, None, interface);
        let found = found.and_then(|interface| instance.get_export_index(&mut **store, Some(&interface), function));
        let found = found.ok_or_else(|| wasmtime::format_err!("{interface} has no {function}"))?;
        let function = instance.get_typed_func::<(), (R,)>(&mut **store, found)?;
        Ok(function.call_async(&mut **store, ()).await?.0)
    }
}

impl ComponentInstanceState for State<'_> {
    async fn call_func_ret_list_u8(&mut self, interface: &str, function: &str, contents: impl FnOnce(&[u8]) + Send) {
        match self.call::<WasmList<u8>>(interface, function).await {
            Some(memory) => contents(memory.as_le_slice(&*self.store)),
            None => contents(&[]),
        }
    }

    async fn call_func_ret_s32(&mut self, interface: &str, function: &str) -> i32 {
        self.call(interface, function).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, interface: &str, function: &str) -> i64 {
        self.call(interface, function).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, interface: &str, function: &str) -> u32 {
        self.call::<f32>(interface, function).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, function: &str) -> u64 {
        self.call::<f64>(interface, function).await.unwrap_or_default().to_bits()
    }
}
