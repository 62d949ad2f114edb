//! Group commit: whatever is queued becomes one transaction and one sync.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use scf_core::{
    Commit,
    Durability::{Durable, OsBuffered},
    StateError,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    apply::{Answer, Changes, Done, Request},
    error::{EngineError, Failure},
    journal::Journal,
    table,
};

/// How often in a row the writer looks in vain for a commit that it expects: some tens of microseconds.
const LOOKS: u32 = 64;

/// The thread that alone writes. Dropping it lets what is queued finish and joins the thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

impl Writer {
    /// Starts the thread. `queue` requests wait at most, further callers with them; `group` share a transaction.
    pub(super) fn start(
        shared: Arc<Shared>,
        mut journal: Journal,
        queue: usize,
        group: usize,
    ) -> std::io::Result<Self> {
        let (sender, mut receiver) = mpsc::channel(queue);
        let write = move || {
            let mut jobs: Vec<Job> = Vec::with_capacity(group);
            let mut expected = 1;
            while let Some(job) = receiver.blocking_recv() {
                jobs.push(job);
                let mut looks = 0;
                while jobs.len() < group && looks < LOOKS {
                    match receiver.try_recv() {
                        Ok(job) => {
                            jobs.push(job);
                            looks = 0;
                        }
                        Err(_) if jobs.len() >= expected => break,
                        Err(_) => {
                            looks += 1;
                            thread::yield_now();
                        }
                    }
                }
                let answers = write_group(&shared, &mut journal, &mut jobs);
                // Who is answered now is likely to commit again, beside those who wait. Without waiting for
                // them two halves take turns, each with a sync of its own; one alone is never waited for.
                expected = answers.len() + receiver.len();
                for (caller, answer) in answers {
                    // A caller that was cancelled does not hear what came of its request.
                    drop(caller.send(answer));
                }
            }
            close(&shared, &mut journal);
        };
        let thread = thread::Builder::new().name("scf-state".to_owned()).spawn(write)?;
        Ok(Self { queue: Some(sender), thread: Some(thread) })
    }

    /// Has `request` done. Once it is queued it is done or refused, whether the caller waits or not.
    pub(super) async fn ask(&self, request: Request) -> Answer {
        let scope = request.scope().clone();
        let stopped = || StateError::Unavailable { reason: "the state store has stopped".to_owned() };
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(Job { request, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or(Err(StateError::Unknown { scope }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of a state store panicked");
        }
    }
}

type Answered = (oneshot::Sender<Answer>, Answer);

fn write_group(shared: &Shared, journal: &mut Journal, jobs: &mut Vec<Job>) -> Vec<Answered> {
    if let Some(reason) = shared.failure.get() {
        let refuse = |job: Job| (job.answer, Err(StateError::Unavailable { reason: reason.clone() }));
        return jobs.drain(..).map(refuse).collect();
    }
    match transact(shared, journal, jobs) {
        Ok(answers) => {
            let answer = |(job, answer): (Job, Answer)| {
                note_lease(shared, &job.request, &answer);
                (job.answer, answer)
            };
            jobs.drain(..).zip(answers).map(answer).collect()
        }
        Err(Broken { error, uncertain }) => {
            let reason = error.to_string();
            shared.fail(&reason);
            let refuse = |job: Job| {
                // Of what redb was about to sync, nobody knows what is on the disk.
                let error = if uncertain {
                    StateError::Unknown { scope: job.request.scope().clone() }
                } else {
                    StateError::Unavailable { reason: reason.clone() }
                };
                (job.answer, Err(error))
            };
            jobs.drain(..).map(refuse).collect()
        }
    }
}

struct Broken {
    error: EngineError,
    /// Whether the group may be on the disk all the same.
    uncertain: bool,
}

fn transact(shared: &Shared, journal: &mut Journal, jobs: &[Job]) -> Result<Vec<Answer>, Broken> {
    let certain = |error: EngineError| Broken { error, uncertain: false };
    let db = shared.db();
    let mut txn = db.begin_write().map_err(|error| certain(error.into()))?;
    let mut answers = Vec::with_capacity(jobs.len());
    let (log, notes) = {
        let mut changes = Changes::open(&txn, shared, journal.longest()).map_err(certain)?;
        for job in jobs {
            match changes.apply(&job.request) {
                Ok(answer) => answers.push(answer),
                // One scope's record, not the disk.
                Err(error @ (EngineError::Record(_) | EngineError::Malformed(_))) => {
                    answers.push(Err(Failure(job.request.scope(), error).into()));
                }
                Err(error) => return Err(certain(error)),
            }
        }
        changes.sweep().map_err(certain)?;
        if !changes.changed {
            drop(changes);
            txn.abort().map_err(|error| certain(error.into()))?;
            return Ok(answers);
        }
        changes.into_log()
    };
    let uncertain = |error: EngineError| Broken { error, uncertain: true };
    let asked = jobs.iter().map(|job| job.request.durability()).max();
    let mut given = if asked > Some(OsBuffered) { Durable } else { OsBuffered };
    let number = journal.next();
    table::apply(&txn, number).map_err(certain)?;
    for (scope, note) in &notes {
        shared.history.note(scope, note);
    }
    match log.filter(|log| journal.fits(log.len())) {
        Some(log) => {
            txn.set_durability(redb::Durability::None).map_err(|error| certain(error.into()))?;
            journal.append(&log, given == Durable).map_err(|error| uncertain(error.into()))?;
            txn.commit().map_err(|error| uncertain(error.into()))?;
        }
        None => {
            txn.commit().map_err(|error| uncertain(error.into()))?;
            journal.restart(number);
            given = Durable;
        }
    }
    for answer in &mut answers {
        if let Ok(Done::Committed(Commit::Applied { durability, .. })) = answer {
            *durability = given;
        }
    }
    for (scope, note) in notes {
        shared.history.publish(&scope, note);
    }
    Ok(answers)
}

/// Has redb take over what the journal holds, so that the store opens without reading it.
fn close(shared: &Shared, journal: &mut Journal) {
    if journal.is_empty() || shared.failure.get().is_some() {
        return;
    }
    let take_over = || {
        let txn = shared.db().begin_write()?;
        table::apply(&txn, journal.next())?;
        Ok::<_, EngineError>(txn.commit()?)
    };
    match take_over() {
        Ok(()) => journal.restart(journal.next()),
        Err(error) => tracing::warn!(%error, "the journal is taken over when the store is opened again"),
    }
}

fn note_lease(shared: &Shared, request: &Request, answer: &Answer) {
    match (request, answer) {
        (Request::Acquire { scope, lease, now, .. }, Ok(Done::Acquired(fence))) => {
            shared.leases.begin(scope, fence.nonce, *now + *lease);
        }
        (Request::Release { scope, fence }, Ok(_)) => shared.leases.end(scope, fence.nonce),
        _ => {}
    }
}
