//! Programs by name, and the functions that are made of them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use scf_core::{Code, Function, IsolateFactory, Name, PrepareError, Prepared};

use super::{Isolation, Jail, ProcessError, Program, guest, system::System};

/// Processes of a factory at the same time where nothing else is said.
const PROCESSES: usize = 64;

/// Collects programs for a [`ProcessFactory`].
#[must_use = "a builder does nothing until build is called"]
#[derive(Debug)]
pub struct ProcessBuilder {
    programs: Vec<(String, Program)>,
    jail: Jail,
    processes: usize,
}

impl ProcessBuilder {
    /// Registers `program` as `entry`, in place of an earlier one.
    pub fn with(mut self, entry: &str, program: Program) -> Self {
        self.programs.push((entry.to_owned(), program));
        self
    }

    /// What keeps the processes in; default [`Jail::default`].
    pub fn jail(mut self, jail: Jail) -> Self {
        self.jail = jail;
        self
    }

    /// Processes at the same time, over all functions; default 64. A call beyond that is
    /// [overloaded](scf_core::InvokeError::Overloaded).
    pub const fn processes(mut self, processes: usize) -> Self {
        self.processes = processes;
        self
    }

    /// Tries the jail and gives the factory.
    ///
    /// # Errors
    /// [`ProcessError`]: an entry that is no name, a layer of the jail that is required and cannot be had, a system
    /// other than Linux, a child of this program that did not call [`guest_main`](super::guest_main).
    pub fn build(self) -> Result<ProcessFactory, ProcessError> {
        if let Some(entry) = guest::entry() {
            return Err(ProcessError::InsideChild { entry });
        }
        let mut programs = HashMap::new();
        for (entry, program) in self.programs {
            match Name::new(&entry) {
                Ok(name) => programs.insert(name, program),
                Err(source) => return Err(ProcessError::InvalidName { entry, source }),
            };
        }
        Ok(ProcessFactory { programs, system: System::new(self.jail, self.processes)? })
    }
}

/// Runs programs that were registered by name as jailed processes.
///
/// It needs a tokio runtime with I/O and time enabled. Its processes end with it, and with the host, however
/// that ends. The [module](super) says what a program can do and how it talks.
#[derive(Debug)]
pub struct ProcessFactory {
    programs: HashMap<Name, Program>,
    system: Arc<System>,
}

impl ProcessFactory {
    /// Without programs, in the default jail.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder { programs: Vec::new(), jail: Jail::default(), processes: PROCESSES }
    }

    /// What is in force of the jail.
    #[must_use]
    pub fn isolation(&self) -> &Isolation {
        self.system.isolation()
    }
}

#[async_trait]
impl IsolateFactory for ProcessFactory {
    fn name(&self) -> &'static str {
        "process"
    }

    fn accepts(&self, code: &Code) -> bool {
        matches!(code, Code::Process { .. })
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let Code::Process { entry } = &function.code else {
            let (function, kind) = (function.name.clone(), function.code.kind());
            return Err(PrepareError::NoFactory { function, kind, hint: "this factory runs process code" });
        };
        let Some(program) = self.programs.get(entry) else {
            let (function, kind) = (function.name.clone(), function.code.kind());
            return Err(PrepareError::NotRegistered { function, kind, name: entry.to_string() });
        };
        self.system.prepare(function, entry.as_str(), program).await
    }
}
