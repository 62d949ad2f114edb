//! A worker: computes models for the program that starts it (`scf_ai::accelerator::Worker`), on the devices whose
//! features it was built with.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    scf_ai::accelerator::worker_main(&scf_ai::accelerator::Loaders::new());
    #[expect(clippy::print_stderr, reason = "somebody started it by hand, or not on Linux")]
    {
        eprintln!("scf-accelerator is started by a program that uses scf_ai::accelerator::Worker, on Linux");
    }
    ExitCode::FAILURE
}
