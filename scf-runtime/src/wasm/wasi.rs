//! WASI for guests that import it, with nothing granted.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use scf_core::FunctionName;
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    WasiCtx,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::escape::escape;

/// Bytes that a guest may ask for of random numbers at once.
const RANDOM: u64 = 64 << 10;
/// Handles that a guest may have open at the same time.
const HANDLES: usize = 1000;
/// Bytes of a line that are logged at most; longer ones are broken.
const LINE: usize = 1000;
/// Bytes that are logged of one call at most.
const OUTPUT: usize = 64 << 10;
/// Bytes that a guest may write at once.
const WRITE: usize = 4096;

/// Interfaces that guests may import: those that reach nothing outside when nothing is granted.
/// Sockets are among them, because what is built by componentize-py imports them; every use of one is denied.
const INTERFACES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Whether guests may import the interface.
pub(super) fn provides(import: &str) -> bool {
    let version = import.rsplit_once('@').map_or("", |(_, version)| version);
    version.starts_with("0.2.") && INTERFACES.iter().any(|prefix| import.starts_with(prefix))
}

/// What the calls of one guest have of WASI.
pub(super) struct Wasi {
    pub(super) ctx: WasiCtx,
    pub(super) table: ResourceTable,
}

impl Wasi {
    /// No arguments, environment, input, files or network; output is logged.
    pub(super) fn new(function: &FunctionName) -> Self {
        let log = Log::new(function);
        let ctx = WasiCtx::builder()
            .stdout(Stream { name: "stdout", log: log.clone() })
            .stderr(Stream { name: "stderr", log })
            .max_random_size(RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self { ctx, table }
    }
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi").finish_non_exhaustive()
    }
}

/// Logs what one call prints.
#[derive(Clone)]
struct Log(Arc<Mutex<Lines>>);

struct Lines {
    function: FunctionName,
    /// What may still be logged.
    left: usize,
    /// The line that is not finished, and whose it is.
    line: Vec<u8>,
    of: &'static str,
}

impl Log {
    fn new(function: &FunctionName) -> Self {
        Self(Arc::new(Mutex::new(Lines { function: function.clone(), left: OUTPUT, line: Vec::new(), of: "" })))
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
    log: Log,
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
        self.log.write(self.name, &bytes);
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
        self.log.write(self.name, bytes);
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
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;

    #[test]
    fn provides_wasi_0_2_and_nothing_else() {
        assert!(provides("wasi:cli/stdout@0.2.6"));
        for import in ["wasi:http/types@0.2.6", "wasi:cli/stdout@0.3.0", "evil", "wasi:cli/x"] {
            assert!(!provides(import), "{import}");
        }
    }

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

    fn logged(print: impl FnOnce(&Log)) -> Vec<(String, String)> {
        let kept = Kept::default();
        tracing::subscriber::with_default(kept.clone(), || {
            print(&Log::new(&FunctionName::new("f").unwrap()));
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
