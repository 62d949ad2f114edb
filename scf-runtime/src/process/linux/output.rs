//! What programs print.

use std::io;

use scf_core::FunctionName;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};

use crate::escape::escape;

/// Bytes of a line that are logged at most; longer ones are broken.
const LINE: usize = 1000;
/// Bytes that are logged of one call at most.
const LOGGED: usize = 64 << 10;
/// Bytes kept to tell how a program ended.
const TAIL: usize = 512;

/// Reads what one process prints; logs it by line, escaped, and keeps the end.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Receiver,
    function: FunctionName,
    line: Vec<u8>,
    tail: Vec<u8>,
    left: usize,
}

impl Output {
    pub(super) const fn new(pipe: Receiver, function: FunctionName) -> Self {
        Self { pipe, function, line: Vec::new(), tail: Vec::new(), left: LOGGED }
    }

    /// Starts to count for another call.
    pub(super) fn begin(&mut self) {
        self.left = LOGGED;
        self.tail.clear();
    }

    /// Reads until the process closes its side; cancel safe.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.pipe.read(&mut bytes).await? {
                0 => return Ok(()),
                read => self.take(&bytes[..read]),
            }
        }
    }

    /// Reads what is there now.
    pub(super) fn finish(&mut self) {
        let mut bytes = [0; 4096];
        // A program that prints without end has ended by now, or its pipe is bounded.
        for _ in 0..LOGGED / bytes.len() {
            match self.pipe.try_read(&mut bytes) {
                Ok(read) if read > 0 => self.take(&bytes[..read]),
                _ => break,
            }
        }
        self.end_line();
    }

    fn take(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
        let over = (self.tail.len() + kept.len()).saturating_sub(TAIL);
        self.tail.drain(..over);
        self.tail.extend_from_slice(kept);
        let logged = bytes.len().min(self.left);
        self.left -= logged;
        for &byte in &bytes[..logged] {
            if byte == b'\n' || self.line.len() == LINE {
                self.end_line();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let line = escape(&String::from_utf8_lossy(&self.line));
            tracing::debug!(faas.name = %self.function, line, "guest output");
            self.line.clear();
        }
    }

    /// The end of what it printed in this call.
    pub(super) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }
}
