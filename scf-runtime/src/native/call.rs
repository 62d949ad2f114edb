//! A call, as a native function sees it.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use scf_core::{
    Call, Callee, Due, Energy, GrantedObjects, InvocationId, ObjectError, ObjectGrant, Outcome, Payload, QueuedCall,
    Receipt, Span, StateSession, Streams,
};

use super::{NativeError, Registered};
use crate::{cpu::CpuMeter, timer::timer};

/// What outlives a call of a key whose state is local.
pub(super) type Memory = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

/// One call as a native function sees it.
#[derive(Debug)]
pub struct NativeCall<'a> {
    call: &'a Call,
    function: &'a Registered,
    meter: &'a CpuMeter,
    is_cold: bool,
    step: AtomicU64,
    record: Mutex<(Vec<Span>, Vec<Receipt>)>,
    memory: Option<Memory>,
}

impl<'a> NativeCall<'a> {
    pub(super) fn new(
        call: &'a Call,
        function: &'a Registered,
        meter: &'a CpuMeter,
        is_cold: bool,
        memory: Option<Memory>,
    ) -> Self {
        Self { call, function, meter, is_cold, step: AtomicU64::new(0), record: Mutex::default(), memory }
    }

    /// What it reported, and the bills of the calls that it made.
    pub(super) fn into_record(self) -> (Vec<Span>, Vec<Receipt>) {
        self.record.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NativeCall<'_> {
    /// The call: its id, attempt, trace, key, deadline and host.
    #[must_use]
    pub const fn call(&self) -> &Call {
        self.call
    }

    /// The streams that its caller sends and reads while it runs; `None` where it was called without.
    #[must_use]
    pub fn streams(&self) -> Option<&Streams> {
        self.call.attachment.get()
    }

    /// Whether nothing is kept from a call before; see [`NativeCall::kept`].
    #[must_use]
    pub const fn is_cold(&self) -> bool {
        self.is_cold
    }

    /// CPU time that is left of what the call may use. Asked from the function's own future.
    #[must_use]
    pub fn cpu_left(&self) -> Duration {
        self.function.budget.cpu_left(self.meter.running())
    }

    /// Energy that is left of what a call of the function is to take on average, by what a busy core of the node
    /// draws; `None` where nothing was promised. Nothing ends a call that takes more. Asked as
    /// [`NativeCall::cpu_left`].
    #[must_use]
    pub fn energy_left(&self) -> Option<Energy> {
        self.function.budget.energy_left(self.meter.running(), self.call.host.node())
    }

    /// The state of the call's key; what is written is committed after the call.
    ///
    /// # Errors
    /// [`NativeError::Stateless`].
    pub fn state(&self) -> Result<&dyn StateSession, NativeError> {
        self.call.state.as_deref().ok_or(NativeError::Stateless)
    }

    /// The fabric's object store, as much of it as the function is granted: put, get, ranges and streams, and the
    /// references of the call's tenant.
    ///
    /// # Errors
    /// [`NativeError::Objects`] when the function is deployed without [`Grants::objects`](scf_core::Grants::objects).
    pub fn objects(&self) -> Result<GrantedObjects, NativeError> {
        let granted = self.function.objects;
        let store = self.call.host.objects().filter(|_| granted != ObjectGrant::None);
        let store = store.ok_or(ObjectError::Denied { what: "read" })?;
        Ok(GrantedObjects::new(store, granted, &self.call.tenant, self.call.output.clone()))
    }

    /// Takes what the call before left with [`NativeCall::keep`]: there while the state of the call's key is local on
    /// this node and nothing but calls of this function changed it, where the function is deployed with
    /// [`Reuse::Pinned`](scf_core::Reuse::Pinned). What is kept beside the state must follow from it.
    #[must_use]
    pub fn kept<T: Any + Send>(&self) -> Option<Box<T>> {
        self.memory.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()?.downcast().ok()
    }

    /// Leaves `value` for the next call of the same key, if its memory is kept.
    pub fn keep<T: Any + Send>(&self, value: Box<T>) {
        if let Some(memory) = &self.memory {
            *memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        }
    }

    /// Sets a timer of the call's key: a call of this function with this key and `payload`, in place of an earlier timer
    /// of that `name`. It is set when this call commits, or not at all.
    ///
    /// # Errors
    /// [`NativeError::Stateless`], [`NativeError::State`]. The call fails when its commit finds no room for the timer.
    pub fn set_timer(&self, name: &str, due: Due, payload: impl Into<Payload>) -> Result<(), NativeError> {
        let timer = self.timer(name, due)?.payload(payload);
        Ok(self.state()?.enqueue(timer)?)
    }

    /// Sets a timer that comes again every `period` until it is called off or set anew. What was missed while
    /// nothing ran comes once.
    ///
    /// # Errors
    /// As [`NativeCall::set_timer`].
    pub fn set_reminder(
        &self,
        name: &str,
        first: Due,
        period: Duration,
        payload: impl Into<Payload>,
    ) -> Result<(), NativeError> {
        let timer = self.timer(name, first)?.payload(payload).every(period);
        Ok(self.state()?.enqueue(timer)?)
    }

    /// Calls a timer of the call's key off when the call commits; nothing when there is none of that name.
    ///
    /// # Errors
    /// As [`NativeCall::set_timer`].
    pub fn cancel_timer(&self, name: &str) -> Result<(), NativeError> {
        Ok(self.state()?.cancel_timer(name)?)
    }

    /// Accepts a call that nobody waits for when this call commits, or not at all. `make` is given its id, which a retry
    /// repeats; it belongs to the trace of this call, unless it is given another.
    ///
    /// # Errors
    /// As [`NativeCall::set_timer`].
    pub fn enqueue(&self, make: impl FnOnce(InvocationId) -> QueuedCall) -> Result<(), NativeError> {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        let mut queued = make(self.call.id.child(step));
        queued.trace = queued.trace.or_else(|| self.call.trace.clone());
        Ok(self.state()?.enqueue(queued)?)
    }

    fn timer(&self, name: &str, due: Due) -> Result<QueuedCall, NativeError> {
        Ok(timer(self.call, self.state()?, name, due))
    }

    /// Calls another function, or this one on another node. Its bill becomes part of this call's.
    ///
    /// A retry of this call repeats the ids of the calls it makes in the order in which it makes them: make
    /// them in the same order, then each takes effect once.
    ///
    /// # Errors
    /// [`NativeError::Callee`].
    pub async fn invoke(&self, callee: Callee) -> Result<Payload, NativeError> {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        let Outcome { payload, receipt } = self.call.host.invoke(self.call, step, callee).await?;
        self.record.lock().unwrap_or_else(PoisonError::into_inner).1.push(receipt);
        Ok(payload)
    }

    /// Reports a part of the call that took so long; it appears in the receipt.
    pub fn span(&self, name: &'static str, took: Duration) {
        let span = Span { name: name.into(), took };
        self.record.lock().unwrap_or_else(PoisonError::into_inner).0.push(span);
    }
}
