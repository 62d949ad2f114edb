//! `wasi:logging`: into the host's log, escaped and cut.

use super::{
    World,
    bindings::wasi::logging::logging::{Host, Level},
};

impl Host for World {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        self.output.log(level, &context, &message);
        Ok(())
    }
}
