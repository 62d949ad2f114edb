//! Files whose power can be cut, for the tests.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex},
};

use super::files::Files;

/// What happens at the step that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// From it on, nothing is done any more.
    Power,
    /// It fails, and the next does not.
    Error(ErrorKind),
}

#[derive(Clone, Debug, Default)]
pub(super) struct CrashFiles(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// Content and whether it is durable, by number.
    files: Vec<(Vec<u8>, bool)>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    steps: u64,
    fault: Option<(u64, Fault)>,
}

impl Disk {
    /// Counts a change; an error when it must not be made.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.fault {
            Some((at, Fault::Power)) if self.steps >= at => Err(io::Error::other("no power")),
            Some((at, Fault::Error(kind))) if self.steps == at => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn at(&self, path: &str) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl CrashFiles {
    pub(super) fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    pub(super) fn fail_at(&self, step: u64, fault: Fault) {
        self.0.lock().unwrap().fault = Some((step, fault));
    }

    /// What a disk may have after a power cut: of what was not synced, as `dice` says.
    pub(super) fn power_cut(&self, mut dice: impl FnMut() -> u64) -> Self {
        let disk = self.0.lock().unwrap();
        let mut after = Disk::default();
        let paths: std::collections::BTreeSet<&String> = disk.names.keys().chain(disk.durable_names.keys()).collect();
        for path in paths {
            let either = if dice().is_multiple_of(2) { &disk.names } else { &disk.durable_names };
            let Some(&number) = either.get(path) else { continue };
            let (mut content, durable) = disk.files[number].clone();
            if !durable {
                let kept = dice() as usize % (content.len() + 1);
                content[kept..].fill(0);
                if dice().is_multiple_of(2) {
                    content.truncate(kept);
                }
            }
            after.names.insert(path.clone(), after.files.len());
            after.files.push((content, true));
        }
        after.durable_names.clone_from(&after.names);
        Self(Arc::new(Mutex::new(after)))
    }
}

impl Files for CrashFiles {
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let disk = self.0.lock().unwrap();
        let within = |(path, number): (&String, &usize)| {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            Some((name.to_owned(), disk.files[*number].0.len() as u64))
        };
        Ok(disk.names.iter().filter_map(within).collect())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let disk = self.0.lock().unwrap();
        disk.at(path).map(|number| disk.files[number].0.clone())
    }

    fn create(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let step = disk.step();
        // What fails leaves half of it.
        let written = if step.is_ok() { content } else { &content[..content.len() / 2] };
        let number = disk.files.len();
        disk.files.push((written.to_vec(), false));
        disk.names.insert(path.to_owned(), number);
        step
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        let number = disk.at(path)?;
        disk.files[number].1 = true;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        let number = disk.names.remove(from).ok_or(ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        disk.names.remove(path);
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        let within = |path: &str| path.strip_prefix(folder).is_some_and(|name| name.starts_with('/'));
        disk.durable_names.retain(|path, _| !within(path));
        let now: Vec<(String, usize)> =
            disk.names.iter().filter(|(p, _)| within(p)).map(|(p, n)| (p.clone(), *n)).collect();
        disk.durable_names.extend(now);
        Ok(())
    }
}
