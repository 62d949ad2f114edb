//! The thread that children are made on.

use std::{
    io,
    os::fd::OwnedFd,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicUsize, mpsc},
    thread,
    time::Instant,
};

use scf_core::{FunctionName, Limits};
use tokio::{
    net::unix::pipe::Receiver,
    sync::{OwnedSemaphorePermit, oneshot},
};

use super::{
    child::{Child, Process},
    group::{Group, Groups},
    output::Output,
    plan::Plan,
    raw::{self, Ends, Started},
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
    pub(super) function: FunctionName,
    pub(super) limits: Limits,
    pub(super) jail: Arc<Jail>,
    pub(super) groups: Option<Arc<Groups>>,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) dying: Arc<AtomicUsize>,
}

struct Order {
    plan: Arc<Plan>,
    ends: Ends,
    group: Option<(Arc<Groups>, Limits, Arc<Jail>)>,
    reply: oneshot::Sender<Result<(Started, Option<Group>), ProcessError>>,
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let (orders, taken) = mpsc::sync_channel::<Order>(WAITING);
        let thread = thread::Builder::new().name("scf-spawner".into()).spawn(move || {
            raw::block_signals();
            for Order { plan, ends, group, reply } in taken {
                // Given up while it waited.
                if reply.is_closed() {
                    continue;
                }
                let made = make(&plan, ends, group);
                if let Err(Ok((started, group))) = reply.send(made) {
                    // Nobody wants it any more.
                    started.abandon();
                    drop(group);
                }
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Starts the program of a plan.
    pub(super) async fn start(&self, plan: &Arc<Plan>, provision: Provision) -> Result<Child, ProcessError> {
        let failed = |step| move |source| ProcessError::Start { step, source };
        let Provision { function, limits, jail, groups, slot, dying } = provision;
        let (host, guest) = UnixStream::pair().map_err(failed("get a connection"))?;
        let (reader, writer) = io::pipe().map_err(failed("get a pipe"))?;
        host.set_nonblocking(true).map_err(failed("get a connection"))?;
        let connection = tokio::net::UnixStream::from_std(host).map_err(failed("get a connection"))?;
        let printed = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed("get a pipe"))?;
        let (reply, made) = oneshot::channel();
        let order = Order {
            plan: Arc::clone(plan),
            ends: Ends { host: guest.into(), log: writer.into() },
            group: groups.clone().map(|groups| (groups, limits, jail)),
            reply,
        };
        let full = || failed("be made")(io::Error::new(io::ErrorKind::WouldBlock, "too many starts wait"));
        self.orders.as_ref().ok_or_else(full)?.try_send(order).map_err(|_| full())?;
        let (started, group) = made.await.map_err(|_| full())??;
        let group = group.zip(groups);
        let process = Process::new(started, group, slot, dying).map_err(failed("be watched"))?;
        let output = Output::new(printed, function);
        Ok(Child { connection, output, process, started: Instant::now(), ready_at: None, calls: 0 })
    }

    /// Tries a plan that has no program.
    pub(super) fn attempt(plan: &Plan) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::Start { step: "get a pipe", source };
        let (_, ends) = io::pipe().map_err(failed)?;
        let log = OwnedFd::from(ends);
        let host = log.try_clone().map_err(failed)?;
        raw::start(plan, Ends { host, log }, |_| Ok(())).map(Started::abandon)
    }
}

fn make(
    plan: &Plan,
    ends: Ends,
    group: Option<(Arc<Groups>, Limits, Arc<Jail>)>,
) -> Result<(Started, Option<Group>), ProcessError> {
    let group = match group {
        Some((groups, limits, jail)) => {
            let failed = |source| ProcessError::Start { step: "get a control group", source };
            Some(groups.take(&limits, &jail).map_err(failed)?)
        }
        None => None,
    };
    let started = raw::start(plan, ends, |pid| group.as_ref().map_or(Ok(()), |group| group.adopt(pid)))?;
    Ok((started, group))
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
