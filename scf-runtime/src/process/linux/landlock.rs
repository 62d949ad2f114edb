//! What the kernel lets a process open.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

use super::plan::{Access, View};
use crate::process::ProcessError;

/// The newest rules that are asked for; an older kernel holds those that it knows.
const NEWEST: ABI = ABI::V7;

/// Rules for a process that sees `views`: nothing else is opened, no port bound or connected to, no signal sent
/// and no abstract socket reached outside.
pub(super) fn rules(views: &[View]) -> Result<OwnedFd, ProcessError> {
    let failed = |error: RulesetError| start(std::io::Error::other(error));
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(failed)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(failed)?
        .handle_access(AccessNet::from_all(NEWEST))
        .map_err(failed)?
        .scope(Scope::from_all(NEWEST))
        .map_err(failed)?
        .create()
        .map_err(failed)?;
    for view in views {
        let access = match view.access {
            Access::Run => AccessFs::from_read(NEWEST),
            Access::Read => AccessFs::from_read(NEWEST) & !AccessFs::Execute,
            Access::Write => AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::IoctlDev),
            Access::Device => AccessFs::ReadFile | AccessFs::WriteFile,
        };
        let path = |source| ProcessError::Path { path: view.host.clone(), source: std::io::Error::other(source) };
        let is_file = !view.host.is_dir();
        let access = if is_file { access & AccessFs::from_file(NEWEST) } else { access };
        let opened = PathFd::new(&view.host).map_err(path)?;
        rules = rules.add_rule(PathBeneath::new(opened, access)).map_err(failed)?;
    }
    Option::<OwnedFd>::from(rules).ok_or_else(|| start(std::io::Error::from(std::io::ErrorKind::Unsupported)))
}

fn start(source: std::io::Error) -> ProcessError {
    ProcessError::Layer { layer: crate::process::Layer::Landlock, source }
}
