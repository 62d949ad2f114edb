//! What a guest sees of the world outside: what it imports, as far as its manifest grants it.
//!
//! A [`Plan`] is made when a function is deployed: it knows what the component imports, checks that what is
//! granted can be had, and links. A [`World`] is what one isolate has of it during a call. Interfaces are linked
//! whether anything behind them is granted or not, so that components made elsewhere can be deployed as they
//! are: what is not granted is empty, stands still or answers with the interface's own error when it is used.

#[cfg(feature = "services")]
mod actor;
#[cfg(feature = "services")]
mod bindings;
#[cfg(feature = "services")]
mod blobstore;
mod clock;
#[cfg(feature = "services")]
mod config;
#[cfg(feature = "services")]
mod context;
mod files;
#[cfg(feature = "services")]
mod function;
#[cfg(feature = "wasi-http")]
mod http;
mod interface;
#[cfg(feature = "services")]
mod keyvalue;
#[cfg(feature = "services")]
mod logging;
#[cfg(feature = "wasi-nn")]
mod nn;
mod output;
mod plan;
mod random;
mod sockets;
#[cfg(feature = "services")]
mod state;
mod wasi;

use std::{fmt, sync::Arc};

use scf_core::{Call, Receipt};
#[cfg(feature = "services")]
use wasmtime::component::HasData;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView};

use self::{clock::GrantedClock, output::Output, random::Sequence};
#[cfg(feature = "services")]
pub(super) use self::{context::Context, state::Desk};
pub(super) use self::{
    files::Files,
    plan::{Plan, Services},
};
use super::run::Run;

/// Bytes that a guest may ask for of random numbers at once.
const RANDOM: u64 = 64 << 10;
/// Handles that a guest may have open at the same time.
const HANDLES: usize = 1000;

/// What one isolate has of the world during a call.
pub(super) struct World {
    plan: Arc<Plan>,
    /// There as soon as it is used: many calls of a kept instance never do.
    wasi: Option<WasiCtx>,
    table: ResourceTable,
    opened: files::Opened,
    /// The call that runs, without its state; none in an isolate that has started and served no call yet.
    call: Option<Arc<Call>>,
    clock: GrantedClock,
    output: Output,
    /// The state of the call, if its function keeps any.
    #[cfg(feature = "services")]
    state: Option<Arc<state::OwnState>>,
    /// Calls of other functions that it made.
    #[cfg(feature = "services")]
    steps: u64,
    /// Their bills.
    receipts: Vec<Receipt>,
    /// There as soon as it is used.
    #[cfg(feature = "wasi-http")]
    http: Option<Box<http::Http>>,
    /// There as soon as it is used.
    #[cfg(feature = "wasi-nn")]
    models: Option<Box<nn::Models>>,
    /// What is used on other threads on behalf of the guest is told to it.
    #[cfg(feature = "wasi-nn")]
    run: Arc<Run>,
}

/// Gives the services their world.
#[cfg(feature = "services")]
pub(super) struct HasWorld;

#[cfg(feature = "services")]
impl HasData for HasWorld {
    type Data<'a> = &'a mut World;
}

impl World {
    /// The world of the call that an isolate serves first, or, without one, of an isolate that is started before
    /// there is a call: its clocks stand, and services answer that nothing is granted.
    pub(super) fn new(plan: &Arc<Plan>, call: Option<&Call>, run: &Arc<Run>) -> Self {
        #[cfg(not(feature = "wasi-nn"))]
        let _ = run;
        let clock = GrantedClock::new(plan.grants.clock, call);
        let output = Output::new(&plan.function);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            plan: Arc::clone(plan),
            wasi: None,
            table,
            opened: files::Opened::default(),
            call: call.map(|call| Arc::new(call.without_state())),
            clock,
            output,
            #[cfg(feature = "services")]
            state: call.and_then(state::OwnState::of).map(Arc::new),
            #[cfg(feature = "services")]
            steps: 0,
            receipts: Vec::new(),
            #[cfg(feature = "wasi-http")]
            http: None,
            #[cfg(feature = "wasi-nn")]
            models: None,
            #[cfg(feature = "wasi-nn")]
            run: Arc::clone(run),
        }
    }

    /// Makes it the world of another call that the same isolate serves. What the guest has open stays open, and
    /// what it opens and is told from now on is that of the call.
    pub(super) fn renew(&mut self, call: &Call) {
        #[cfg(feature = "wasi-nn")]
        if let Some(models) = &mut self.models {
            models.renew(Some(call.host.node()));
        }
        self.output.renew();
        self.clock = GrantedClock::new(self.plan.grants.clock, Some(call));
        self.wasi = None;
        let kept = self.call.insert(Arc::new(call.without_state()));
        #[cfg(feature = "wasi-http")]
        if let Some(http) = &mut self.http {
            http.renew(kept, self.table.is_empty());
        }
        #[cfg(not(feature = "wasi-http"))]
        let _ = kept;
        #[cfg(feature = "services")]
        {
            self.state = state::OwnState::of(call).map(Arc::new);
            self.steps = 0;
        }
        self.receipts.clear();
    }

    #[cfg(feature = "services")]
    fn call(&self) -> wasmtime::Result<&Call> {
        self.call.as_deref().ok_or_else(|| wasmtime::format_err!("no call has begun"))
    }

    /// What WASI's host functions work on.
    pub(super) fn wasi(&mut self) -> WasiCtxView<'_> {
        let Self { wasi, plan, call, clock, output, table, .. } = self;
        let ctx = wasi.get_or_insert_with(|| plan.wasi(call.as_deref(), clock, output));
        WasiCtxView { ctx, table }
    }

    /// What the host keeps for handles of the guest.
    pub(super) const fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// What `wasi:nn`'s host functions work on.
    #[cfg(feature = "wasi-nn")]
    pub(super) fn models(&mut self) -> &mut nn::Models {
        let Self { models, plan, call, run, .. } = self;
        models.get_or_insert_with(|| Box::new(nn::Models::new(plan, call.as_ref().map(|call| call.host.node()), run)))
    }

    /// Whether the guest has something open that the host keeps.
    #[cfg(feature = "snapshot")]
    pub(super) fn has_open(&self) -> bool {
        #[cfg(feature = "wasi-nn")]
        if self.models.is_some() {
            return true;
        }
        !self.table.is_empty()
    }

    /// The bills of the calls that were made so far.
    pub(super) fn take_receipts(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.receipts)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("call", &self.call).finish_non_exhaustive()
    }
}
