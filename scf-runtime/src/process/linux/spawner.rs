//! The thread that children are made on.

use std::{
    io,
    os::fd::OwnedFd,
    os::unix::net::UnixStream,
    sync::{Arc, Weak, mpsc},
    thread,
    time::Instant,
};

use scf_core::{FunctionName, Limits};
use tokio::{net::unix::pipe::Receiver, sync::oneshot};

use super::{
    child::{Body, Child, Process},
    group::Groups,
    output::Output,
    plan::Plan,
    raw::{self, Ends},
    slot::Slot,
};
use crate::process::{Jail, ProcessError};

/// Starts that wait for the thread.
const WAITING: usize = 256;

/// Makes children on a thread of its own. The kernel ends a child when the thread that made it ends, and
/// this one ends with the factory.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: Option<mpsc::SyncSender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a start needs besides the plan.
#[derive(Debug)]
pub(super) struct Provision {
    pub(super) limits: Limits,
    pub(super) jail: Arc<Jail>,
    pub(super) groups: Option<Arc<Groups>>,
    pub(super) slot: Arc<Slot>,
}

struct Order {
    plan: Arc<Plan>,
    ends: Ends,
    provision: Provision,
    reply: oneshot::Sender<Result<Body, ProcessError>>,
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let (orders, taken) = mpsc::sync_channel::<Order>(WAITING);
        let thread = thread::Builder::new().name("scf-spawner".into()).spawn(move || {
            raw::block_signals();
            for Order { plan, ends, provision, reply } in taken {
                // Given up while it waited.
                if reply.is_closed() {
                    continue;
                }
                // One that nobody wants any more is ended here, where it is dropped.
                let _unwanted = reply.send(make(&plan, ends, provision));
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Starts the program of a plan.
    pub(super) async fn start(
        &self,
        function: &FunctionName,
        plan: &Arc<Plan>,
        provision: Provision,
    ) -> Result<Child, ProcessError> {
        let failed = |step| move |source| ProcessError::Start { step, source };
        let (host, guest) = UnixStream::pair().map_err(failed("get a connection"))?;
        let (reader, writer) = io::pipe().map_err(failed("get a pipe"))?;
        host.set_nonblocking(true).map_err(failed("get a connection"))?;
        let connection = tokio::net::UnixStream::from_std(host).map_err(failed("get a connection"))?;
        let printed = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed("get a pipe"))?;
        let (reply, made) = oneshot::channel();
        let made = Made { made, slot: Arc::downgrade(&provision.slot) };
        let ends = Ends { host: guest.into(), log: writer.into() };
        let order = Order { plan: Arc::clone(plan), ends, provision, reply };
        let full = || failed("be made")(io::Error::new(io::ErrorKind::WouldBlock, "too many starts wait"));
        self.orders.as_ref().ok_or_else(full)?.try_send(order).map_err(|_| full())?;
        let process = made.process().await.ok_or_else(full)??;
        let output = Output::new(printed, function.clone());
        Ok(Child { connection, output, process, started: Instant::now(), ready_at: None, calls: 0 })
    }

    /// Tries a plan that has no program.
    pub(super) fn attempt(plan: &Plan) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::Start { step: "get a pipe", source };
        let (_, ends) = io::pipe().map_err(failed)?;
        let log = OwnedFd::from(ends);
        let host = log.try_clone().map_err(failed)?;
        raw::start(plan, Ends { host, log }, None, None).map(drop)
    }
}

/// A process that is being made. Dropped before it is taken, it ends the process without waiting for its end.
struct Made {
    made: oneshot::Receiver<Result<Body, ProcessError>>,
    /// Its room, until it is taken.
    slot: Weak<Slot>,
}

impl Made {
    /// None where the thread has ended.
    async fn process(mut self) -> Option<Result<Process, ProcessError>> {
        let body = (&mut self.made).await.ok()?;
        self.slot = Weak::new();
        Some(body.and_then(watched))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.made.close();
        match self.made.try_recv() {
            // It was sent when nobody looked any more.
            Ok(body) => drop(body.and_then(watched)),
            // The thread will find it given up.
            Err(_) => self.slot.upgrade().iter().for_each(|slot| slot.leave()),
        }
    }
}

fn watched(body: Body) -> Result<Process, ProcessError> {
    Process::new(body).map_err(|source| ProcessError::Start { step: "be watched", source })
}

fn make(plan: &Plan, ends: Ends, provision: Provision) -> Result<Body, ProcessError> {
    let Provision { limits, jail, groups, slot } = provision;
    let group = match groups {
        Some(groups) => {
            let failed = |source| ProcessError::Start { step: "get a control group", source };
            Some((groups.take(&limits, &jail).map_err(failed)?, groups))
        }
        None => None,
    };
    raw::start(plan, ends, group, Some(slot))
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // It ends with its last order; a panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}
