//! Where there are no jailed processes.

use std::{convert::Infallible, sync::Arc};

use scf_core::{Function, PrepareError, Prepared};

use super::{Isolation, Jail, ProcessError, Program};

/// Never made.
#[derive(Debug)]
pub(super) struct System(Infallible);

impl System {
    pub(super) fn new(_: Jail, _: usize) -> Result<Arc<Self>, ProcessError> {
        Err(ProcessError::Platform { os: std::env::consts::OS })
    }

    pub(super) fn isolation(&self) -> &Isolation {
        match self.0 {}
    }

    pub(super) async fn prepare(
        self: &Arc<Self>,
        _: &Function,
        _: &str,
        _: &Program,
    ) -> Result<Arc<dyn Prepared>, PrepareError> {
        match self.0 {}
    }
}
