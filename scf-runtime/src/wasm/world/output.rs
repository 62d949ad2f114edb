//! What a guest prints and logs, on its way into the host's log.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use scf_core::FunctionName;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

#[cfg(feature = "services")]
use super::bindings::wasi::logging::logging::Level;
use crate::escape::escape;

/// Bytes of a line that are logged at most; longer ones are broken.
const LINE: usize = 1000;
/// Bytes that are logged of one call at most.
const OUTPUT: usize = 64 << 10;
/// Bytes that a logged message counts as in addition to its text, so that empty ones are bounded too.
#[cfg(feature = "services")]
const RECORD: usize = 32;
/// Bytes that a guest may write at once.
const WRITE: usize = 4096;

/// Logs what one call prints and logs, up to a bound.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Lines>>);

struct Lines {
    function: FunctionName,
    /// What may still be logged.
    left: usize,
    /// The line that is not finished, and whose it is.
    line: Vec<u8>,
    of: &'static str,
}

impl Output {
    pub(super) fn new(function: &FunctionName) -> Self {
        Self(Arc::new(Mutex::new(Lines { function: function.clone(), left: OUTPUT, line: Vec::new(), of: "" })))
    }

    /// Ends the line that is not finished, and lets another call log as much as the first.
    pub(super) fn renew(&self) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.end();
        lines.left = OUTPUT;
    }

    /// What the guest writes to its standard output.
    pub(super) fn stdout(&self) -> impl StdoutStream + 'static {
        Stream { name: "stdout", output: self.clone() }
    }

    /// What the guest writes to its standard error.
    pub(super) fn stderr(&self) -> impl StdoutStream + 'static {
        Stream { name: "stderr", output: self.clone() }
    }

    /// Logs a message of the guest's, cut where it is over what the call may still log.
    #[cfg(feature = "services")]
    pub(super) fn log(&self, level: Level, context: &str, message: &str) {
        let (function, message) = {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.end();
            let Some(left) = lines.left.checked_sub(RECORD + context.len()) else {
                lines.left = 0;
                return;
            };
            let message = &message[..message.floor_char_boundary(left)];
            lines.left = left - message.len();
            (lines.function.clone(), message)
        };
        let (context, message) = (escape(context), escape(message));
        macro_rules! event {
            ($level:ident $(, $field:ident = $value:expr)*) => {
                tracing::$level!(faas.name = %function, context, message $(, $field = $value)*)
            };
        }
        match level {
            Level::Trace => event!(trace),
            Level::Debug => event!(debug),
            Level::Info => event!(info),
            Level::Warn => event!(warn),
            Level::Error => event!(error),
            Level::Critical => event!(error, critical = true),
        }
    }

    fn write(&self, stream: &'static str, bytes: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.of != stream {
            lines.end();
            lines.of = stream;
        }
        let logged = bytes.len().min(lines.left);
        for &byte in &bytes[..logged] {
            if byte == b'\n' || lines.line.len() == LINE {
                lines.end();
            }
            if byte != b'\n' {
                lines.line.push(byte);
            }
        }
        lines.left -= logged;
        if logged < bytes.len() {
            lines.end();
        }
    }
}

impl Lines {
    fn end(&mut self) {
        if !self.line.is_empty() {
            let line = escape(&String::from_utf8_lossy(&self.line));
            tracing::debug!(faas.name = %self.function, stream = self.of, line, "guest output");
            self.line.clear();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone)]
struct Stream {
    name: &'static str,
    output: Output,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE {
            return Err(StreamError::trap("the guest wrote more than it was permitted to"));
        }
        self.output.write(self.name, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.write(self.name, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;

    /// Keeps the stream and the line of every event.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(String, String)>>>);

    #[derive(Default)]
    struct Fields {
        stream: String,
        line: String,
    }

    impl Visit for Fields {
        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "stream" => self.stream = value.into(),
                "line" => self.line = value.into(),
                _ => {}
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }

    impl Subscriber for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.0.lock().unwrap().push((fields.stream, fields.line));
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn logged(print: impl FnOnce(&Output)) -> Vec<(String, String)> {
        let kept = Kept::default();
        tracing::subscriber::with_default(kept.clone(), || {
            print(&Output::new(&FunctionName::new("f").unwrap()));
        });
        kept.0.lock().unwrap().clone()
    }

    #[test]
    fn what_a_guest_prints_is_logged_by_line_and_escaped() {
        let lines = logged(|log| {
            log.write("stdout", b"one\ntw");
            log.write("stdout", b"o\x1b[2J\n\n");
            log.write("stderr", b"oh");
            log.write("stdout", b"three");
        });
        let line = |stream: &str, line: &str| (stream.to_owned(), line.to_owned());
        assert_eq!(
            lines,
            [line("stdout", "one"), line("stdout", "two\\u{1b}[2J"), line("stderr", "oh"), line("stdout", "three")]
        );
    }

    #[test]
    fn of_a_guest_that_prints_without_end_only_so_much_is_logged() {
        let lines = logged(|log| {
            for _ in 0..100 {
                log.write("stdout", &[b'a'; WRITE]);
            }
        });
        assert!(lines.iter().all(|(_, line)| line.len() <= LINE), "{lines:?}");
        assert_eq!(lines.iter().map(|(_, line)| line.len()).sum::<usize>(), OUTPUT);
    }
}
