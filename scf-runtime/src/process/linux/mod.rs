//! Jailed processes on Linux.

mod child;
mod exchange;
mod group;
mod isolate;
mod landlock;
mod output;
mod plan;
mod raw;
mod seccomp;
mod slot;
mod spawner;
mod watch;

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use scf_core::{Function, FunctionName, Grants, Limits, ObjectGrant, PrepareError, Prepared, Reuse, Statefulness};
use seccompiler::BpfProgram;
use tokio::time::timeout;

use self::{
    child::Child,
    group::Groups,
    isolate::{Ending, ProcessPrepared, Runner},
    plan::{Exec, Plan, Root, View},
    slot::{Slot, Slots},
    spawner::{Provision, Spawner},
};
use super::{Isolation, Jail, Layer, ProcessError, Program, jail::Want};
use crate::escape::escape;

/// What all functions of a factory share.
#[derive(Debug)]
pub(super) struct System {
    jail: Arc<Jail>,
    isolation: Isolation,
    filters: Vec<BpfProgram>,
    groups: Option<Arc<Groups>>,
    spawner: Spawner,
    slots: Slots,
    runners: Mutex<Vec<Weak<Runner>>>,
}

impl System {
    /// Tries every layer that is wanted.
    pub(super) fn new(jail: Jail, processes: usize) -> Result<Arc<Self>, ProcessError> {
        let mut layers = Vec::new();
        let mut note = |layer: Layer, tried: Result<String, ProcessError>| match (jail.wants(layer), tried) {
            (Want::Off, _) => {
                layers.push((layer, Err("not wanted".to_owned())));
                Ok(false)
            }
            (_, Ok(how)) => {
                layers.push((layer, Ok(how)));
                Ok(true)
            }
            (Want::Required, Err(error)) => Err(match error {
                ProcessError::Start { step, source } => {
                    let source = io::Error::new(source.kind(), format!("the child failed to {step}: {source}"));
                    ProcessError::Layer { layer, source }
                }
                other => other,
            }),
            (Want::WhereAvailable, Err(error)) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                layers.push((layer, Err(format!("{error}{source}"))));
                Ok(false)
            }
        };
        let has_root = note(Layer::Namespaces, namespaces(&jail))?;
        note(
            Layer::Landlock,
            landlock::rules(&[]).map(|_| "files, TCP, signals, as far as the kernel knows them".into()),
        )?;
        let filters = seccomp::filters(has_root);
        let tried = filters.and_then(|filters| Ok((attempt(&jail, &filters)?, filters)));
        let (tried, filters) = match tried {
            Ok(((), filters)) => (Ok("an allow-list of system calls".to_owned()), filters),
            Err(error) => (Err(error), Vec::new()),
        };
        let filters = if note(Layer::Seccomp, tried)? { filters } else { Vec::new() };
        note(Layer::Rlimits, Ok("data, address space, CPU time, files, threads, file size, no core".into()))?;
        let groups = match jail.wants(Layer::Cgroup) {
            Want::Off => Err(io::ErrorKind::Unsupported.into()),
            _ => Groups::find(&jail),
        };
        let described = groups.as_ref().map(Groups::describe).map_err(|error| ProcessError::Layer {
            layer: Layer::Cgroup,
            source: io::Error::new(error.kind(), error.to_string()),
        });
        note(Layer::Cgroup, described)?;
        let spawner = Spawner::new().map_err(|source| ProcessError::Start { step: "get a thread", source })?;
        Ok(Arc::new(Self {
            jail: Arc::new(jail),
            isolation: Isolation { layers },
            filters,
            groups: groups.ok().map(Arc::new),
            spawner,
            slots: Slots::new(processes),
            runners: Mutex::default(),
        }))
    }

    pub(super) const fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Room for a process; where there is none, one that waits for calls makes room. `None` when all are at work.
    async fn slot(&self) -> Option<Arc<Slot>> {
        if let Some(slot) = self.slots.try_take() {
            return Some(Arc::new(slot));
        }
        if !self.slots.are_leaving() {
            let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
            runners.retain(|runner| runner.strong_count() > 0);
            if !runners.iter().filter_map(Weak::upgrade).any(|runner| runner.evict()) {
                return None;
            }
        }
        self.slots.take().await.map(Arc::new)
    }

    async fn start(
        &self,
        function: &FunctionName,
        limits: &Limits,
        plan: &Arc<Plan>,
        slot: Arc<Slot>,
    ) -> Result<Child, ProcessError> {
        let (jail, groups) = (Arc::clone(&self.jail), self.groups.clone());
        self.spawner.start(function, plan, Provision { limits: *limits, jail, groups, slot }).await
    }

    /// Plans the jail of a function and starts its program once to see that it is a guest.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        function: &Function,
        entry: &str,
        program: &Program,
    ) -> Result<Arc<dyn Prepared>, PrepareError> {
        let name = || function.name.clone();
        check_grants(function)?;
        let invalid = |error: ProcessError| PrepareError::InvalidCode { function: name(), source: Box::new(error) };
        let path = match &program.path {
            Some(path) => path.clone(),
            None => {
                env::current_exe().map_err(|source| PrepareError::Host { function: name(), source: source.into() })?
            }
        };
        self.check_files(function, program, &path)?;
        let views = plan::views(program, &path, &function.grants.files).map_err(invalid)?;
        let plan = Arc::new(self.plan(function, entry, program, &path, &views).map_err(invalid)?);
        let runner = Arc::new(Runner {
            system: Arc::clone(self),
            function: name(),
            output: function.output.clone(),
            limits: function.limits,
            reuse: function.reuse,
            plan,
            idle: Mutex::default(),
        });
        let problem = match timeout(function.limits.wall, runner.ready()).await {
            Ok(Ok(child)) => {
                if matches!(function.reuse, Reuse::Warm { .. }) {
                    runner.keep_one(child);
                }
                self.runners.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&runner));
                return Ok(Arc::new(ProcessPrepared(runner)));
            }
            Err(_) => "did not say in time that it is ready".to_owned(),
            Ok(Err(Ending::Limit(limit))) => format!("went over its {limit:?} limit"),
            Ok(Err(Ending::Full)) => {
                let source = "all processes of the factory are at work".into();
                return Err(PrepareError::Host { function: name(), source });
            }
            Ok(Err(Ending::Crashed(how) | Ending::Refused(how) | Ending::Host(how))) => how,
        };
        Err(invalid(ProcessError::NotAGuest { problem: escape(&problem) }))
    }

    fn plan(
        &self,
        function: &Function,
        entry: &str,
        program: &Program,
        path: &Path,
        views: &[View],
    ) -> Result<Plan, ProcessError> {
        let size = std::fs::metadata(path).map_or(0, |file| file.len());
        let has = |layer| self.isolation.has(layer);
        Ok(Plan {
            root: has(Layer::Namespaces).then(|| Root::new(views)).transpose()?,
            user: plan::user(&self.jail),
            rlimits: if has(Layer::Rlimits) { plan::rlimits(&function.limits, &self.jail, size) } else { Vec::new() },
            landlock: has(Layer::Landlock).then(|| landlock::rules(views)).transpose()?,
            filters: self.filters.clone(),
            exec: Some(Exec::new(program, path, entry, &function.grants.environment)?),
        })
    }

    /// Granted folders are there, and lie where the program can see them and not in the way of its own files.
    fn check_files(&self, function: &Function, program: &Program, path: &Path) -> Result<(), PrepareError> {
        for grant in &function.grants.files {
            let refuse = |problem: String| PrepareError::Grant {
                function: function.name.clone(),
                grant: format!("files: {}", escape(&grant.guest)),
                problem,
            };
            if let Err(error) = std::fs::metadata(&grant.host) {
                return Err(refuse(format!("{}: {error}", grant.host.display())));
            }
            if !self.isolation.has(Layer::Namespaces) && grant.host != Path::new(&grant.guest) {
                return Err(refuse("without namespaces a program sees it where it is on the host".into()));
            }
            if let Err(error) = plan::relative(Path::new(&grant.guest)) {
                return Err(refuse(error.to_string()));
            }
            let guest = PathBuf::from(&grant.guest);
            let own = program.libraries.iter().chain(&program.reads).map(PathBuf::as_path).chain([path]);
            if let Some(own) = own.into_iter().find(|own| guest.starts_with(own) || own.starts_with(&guest)) {
                return Err(refuse(format!("the program's own {} is there", own.display())));
            }
        }
        Ok(())
    }
}

/// Whether the system gives namespaces and a root, by making a child with them.
fn namespaces(jail: &Jail) -> Result<String, ProcessError> {
    let plan = Plan { root: Some(Root::default()), ..bare(jail) };
    Spawner::attempt(&plan)?;
    Ok("user, mount, process, network, ipc, host name, control group".into())
}

fn attempt(jail: &Jail, filters: &[BpfProgram]) -> Result<(), ProcessError> {
    Spawner::attempt(&Plan { filters: filters.to_vec(), ..bare(jail) })
}

/// No layer and no program.
fn bare(jail: &Jail) -> Plan {
    let user = plan::user(jail);
    Plan { root: None, user, rlimits: Vec::new(), landlock: None, filters: Vec::new(), exec: None }
}

/// Whether a process can be given what the function is granted, and asked for what it wants.
fn check_grants(function: &Function) -> Result<(), PrepareError> {
    let Grants { config, secrets, http, buckets, functions, models, devices, objects, .. } = &function.grants;
    let lists = [
        ("config", config.is_empty()),
        ("secrets", secrets.is_empty()),
        ("http", http.is_empty()),
        ("buckets", buckets.is_empty()),
        ("functions", functions.is_empty()),
        ("models", models.is_empty()),
        ("devices", devices.is_empty()),
        ("objects", *objects == ObjectGrant::None),
    ];
    if let Some((grant, _)) = lists.into_iter().find(|(_, is_empty)| !is_empty) {
        let problem = "a process cannot be given it".to_owned();
        return Err(PrepareError::Grant { function: function.name.clone(), grant: grant.into(), problem });
    }
    if function.state != Statefulness::Stateless {
        let feature = "state per key, which a process cannot reach".to_owned();
        return Err(PrepareError::Unsupported { function: function.name.clone(), feature });
    }
    Ok(())
}
