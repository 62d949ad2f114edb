//! WASI 0.2, each interface linked on its own: what a component does not import costs its deployment nothing.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView},
    clocks::{WasiClocks, WasiClocksView},
    p2::bindings::{cli, clocks, filesystem, random},
    random::{WasiRandom, WasiRandomCtx},
};
use wasmtime_wasi_io::bindings::wasi::io;

use super::files::HasFiles;
use crate::wasm::live::Guest;

/// Links one interface.
type Link = fn(&mut Linker<Guest>) -> wasmtime::Result<()>;

/// The interfaces by name. Those of `wasi:sockets` are in [`sockets`](super::sockets).
const INTERFACES: [(&str, Link); 20] = [
    ("wasi:cli/environment", |l| cli::environment::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/exit", |l| cli::exit::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/stdin", |l| cli::stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/stdout", |l| cli::stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/stderr", |l| cli::stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-input", |l| cli::terminal_input::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-output", |l| cli::terminal_output::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-stdin", |l| cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-stdout", |l| cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:cli/terminal-stderr", |l| cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)),
    ("wasi:clocks/wall-clock", |l| clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)),
    ("wasi:clocks/monotonic-clock", |l| clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)),
    ("wasi:filesystem/types", |l| filesystem::types::add_to_linker::<_, HasFiles>(l, Guest::files)),
    ("wasi:filesystem/preopens", |l| filesystem::preopens::add_to_linker::<_, HasFiles>(l, Guest::files)),
    ("wasi:io/error", |l| io::error::add_to_linker::<_, HasTable>(l, table)),
    ("wasi:io/poll", |l| io::poll::add_to_linker::<_, HasTable>(l, table)),
    ("wasi:io/streams", |l| io::streams::add_to_linker::<_, HasTable>(l, table)),
    ("wasi:random/random", |l| random::random::add_to_linker::<_, WasiRandom>(l, numbers)),
    ("wasi:random/insecure", |l| random::insecure::add_to_linker::<_, WasiRandom>(l, numbers)),
    ("wasi:random/insecure-seed", |l| random::insecure_seed::add_to_linker::<_, WasiRandom>(l, numbers)),
];

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(guest: &mut Guest) -> &mut ResourceTable {
    guest.world().table()
}

fn numbers(guest: &mut Guest) -> &mut WasiRandomCtx {
    guest.ctx().ctx.random()
}

/// The interface of that name, as it is known here.
pub(super) fn find(name: &str) -> Option<&'static str> {
    INTERFACES.iter().map(|(known, _)| *known).find(|known| *known == name)
}

/// Links the interface of that name, which [`find`] gave.
pub(super) fn link(name: &str, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    match INTERFACES.iter().find(|(known, _)| *known == name) {
        Some((_, link)) => link(linker),
        None => Ok(()),
    }
}
