//! Where calls that block are made.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use scf_core::ObjectError;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for a thread; whoever makes one more waits.
const WAITING: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// Makes calls at once or on threads.
#[derive(Clone, Debug)]
pub(super) enum Worker {
    /// At once, where nothing blocks.
    Here,
    Threads(Arc<Threads>),
}

impl Worker {
    pub(super) fn threads(count: usize) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Threads { jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..count.max(1) {
            let waiting = Arc::clone(&waiting);
            let work = move || {
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some(job) = job else { return };
                    job();
                }
            };
            threads.threads.push(thread::Builder::new().name("scf-objects".to_owned()).spawn(work)?);
        }
        Ok(Self::Threads(Arc::new(threads)))
    }

    /// Makes `call` and answers what it gave. When the future is dropped the call is made or not.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let Self::Threads(threads) = self else { return call() };
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || drop(answer.send(call())));
        let sent = match &threads.jobs {
            Some(jobs) => jobs.send(job).await.is_ok(),
            None => false,
        };
        let lost = || ObjectError::Unavailable {
            what: "reach its threads".to_owned(),
            source: "a thread of the object store has ended".into(),
        };
        if !sent {
            return Err(lost());
        }
        answered.await.map_err(|_| lost())?
    }
}

#[derive(Debug)]
pub(super) struct Threads {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}
