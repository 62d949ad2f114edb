//! A process that this program starts as itself, and that ends with it.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::Result;

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running process. This program holds the end of a pipe that the process reads: however this program ends, the pipe
/// closes, and then the process ends too.
pub(crate) struct Process {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts this program with `words` as its arguments. Hands every line that it prints to `hear`, and `None` after
    /// the last one.
    pub(crate) fn start(words: &[String], mut hear: impl FnMut(Option<String>) + Send + 'static) -> Result<Self> {
        let own = env::current_exe()?;
        let mut command = Command::new(own);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What a terminal says to a group is for this program: the others hear of its end by the pipe.
        command.process_group(0);
        let mut child = command.spawn()?;
        let (pipe, said) = child.stdin.take().zip(child.stdout.take()).ok_or("its pipes were asked for")?;
        thread::spawn(move || {
            BufReader::new(said).lines().map_while(io::Result::ok).for_each(|line| hear(Some(line)));
            hear(None);
        });
        Ok(Self { child, pipe: Some(pipe) })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL, as a crash does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    /// Has it end what it started itself, and kills it where it does not end.
    fn drop(&mut self) {
        drop(self.pipe.take());
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        if let Err(error) = self.kill() {
            // Not to panic while something else fails.
            let _ = writeln!(io::stderr(), "process {} was not ended: {error}", self.id());
        }
    }
}

/// In a process that was started so: ends with an answer once who started it has ended.
pub(crate) fn abandoned() -> mpsc::Receiver<()> {
    let (here, gone) = mpsc::channel(1);
    // A thread: reading may not end, and nothing waits for it.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(here);
    });
    gone
}
