//! Group commit: whatever is queued becomes one transaction and one sync.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use scf_core::{
    Commit,
    Durability::{Durable, OsBuffered},
    Scope, StateError,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    apply::{Answer, Changes, Done, Request},
    engine,
    error::{EngineError, Failure},
    journal::{Journal, Unappended},
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
            let mut full = None;
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
                let answers = write_group(&shared, &mut journal, &mut full, &mut jobs);
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

fn write_group(shared: &Shared, journal: &mut Journal, full: &mut Option<Full>, jobs: &mut Vec<Job>) -> Vec<Answered> {
    if let Some(reason) = shared.failure.get() {
        return refuse(jobs, |_| StateError::Unavailable { reason: reason.clone() });
    }
    if let Some(waiting) = full
        && !waiting.retry(shared, journal)
    {
        return refuse(jobs, |_| StateError::Full { reason: waiting.reason.clone() });
    }
    *full = None;
    let broken = match transact(shared, journal, jobs) {
        Ok(answers) => return answer(shared, jobs, answers),
        Err(broken) => broken,
    };
    let Broken { error, uncertain, number, answers } = broken;
    let reason = error.to_string();
    if error.is_full() && !uncertain {
        tracing::warn!(reason, "the disk of a state store is full");
        if let EngineError::Disk(_) = error {
            // The journal, not redb: the next group may find space.
            if shared.recount(&shared.db()).is_ok() {
                return refuse(jobs, |_| StateError::Full { reason: reason.clone() });
            }
        }
        *full = Some(Full::new(reason.clone()));
        // redb takes nothing more after an error; what is on the disk says whether the group is.
        match shared.revive(journal) {
            Ok(()) => *full = None,
            Err(error) => tracing::debug!(%error, "it is read, and not written until there is space"),
        }
        let applied = table::applied(&shared.db()).is_ok_and(|applied| applied >= number);
        return match answers {
            Some(answers) if applied => answer(shared, jobs, answers),
            _ => refuse(jobs, |_| StateError::Full { reason: reason.clone() }),
        };
    }
    let damage = error.is_damage();
    shared.fail(&reason);
    refuse(jobs, |scope| {
        let scope = scope.clone();
        // Of what was about to be synced, nobody knows what is on the disk.
        match (damage, uncertain) {
            (true, _) => StateError::Corrupt { scope, what: reason.clone() },
            (false, true) => StateError::Unknown { scope },
            (false, false) => StateError::Unavailable { reason: reason.clone() },
        }
    })
}

fn refuse(jobs: &mut Vec<Job>, why: impl Fn(&Scope) -> StateError) -> Vec<Answered> {
    jobs.drain(..).map(|job| (job.answer, Err(why(job.request.scope())))).collect()
}

fn answer(shared: &Shared, jobs: &mut Vec<Job>, answers: Vec<Answer>) -> Vec<Answered> {
    let answer = |(job, answer): (Job, Answer)| {
        note_lease(shared, &job.request, &answer);
        (job.answer, answer)
    };
    jobs.drain(..).zip(answers).map(answer).collect()
}

/// The disk is full, and is tried again now and then.
struct Full {
    reason: String,
    next: Instant,
}

impl Full {
    fn new(reason: String) -> Self {
        Self { reason, next: Instant::now() }
    }

    /// Whether the store can be written again. Opening it takes a tenth of the time at most.
    fn retry(&mut self, shared: &Shared, journal: &mut Journal) -> bool {
        let start = Instant::now();
        if start < self.next {
            return false;
        }
        let revived = shared.revive(journal);
        self.next = Instant::now() + start.elapsed() * 9;
        revived.is_ok()
    }
}

struct Broken {
    error: EngineError,
    /// Whether the group may be on the disk all the same.
    uncertain: bool,
    /// What the group would be known by.
    number: u64,
    /// Its answers, if all of it was applied.
    answers: Option<Vec<Answer>>,
}

fn transact(shared: &Shared, journal: &mut Journal, jobs: &[Job]) -> Result<Vec<Answer>, Broken> {
    let number = journal.next();
    let certain = |error: EngineError| Broken { error, uncertain: false, number, answers: None };
    let db = shared.db();
    let mut txn = engine::begin(&db).map_err(|error| certain(error.into()))?;
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
    let asked = jobs.iter().map(|job| job.request.durability()).max();
    let mut given = if asked > Some(OsBuffered) { Durable } else { OsBuffered };
    table::apply(&txn, number).map_err(certain)?;
    for (scope, note) in &notes {
        shared.history.note(scope, note);
    }
    match log.filter(|log| journal.fits(log.len())) {
        Some(log) => {
            txn.set_durability(redb::Durability::None).map_err(|error| certain(error.into()))?;
            let appended = journal.append(&log, given == Durable);
            appended.map_err(|Unappended { error, uncertain }| Broken { uncertain, ..certain(error.into()) })?;
            txn.commit().map_err(|error| Broken { uncertain: true, ..certain(error.into()) })?;
        }
        None => {
            given = Durable;
            if let Err(error) = txn.commit() {
                let error = EngineError::from(error);
                let uncertain = !error.is_full();
                return Err(Broken { error, uncertain, number, answers: Some(answers) });
            }
            journal.restart(number);
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
        let txn = engine::begin(&shared.db())?;
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
