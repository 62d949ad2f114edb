//! A file of JSON lines, each a scope as it is after one change, synced before it shows. Made for small scopes.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use scf::core::{NodeId, Scope, Snapshot, StateError, Timestamp};

/// What is in a scope, its epoch, its owner with the fence's nonce.
pub(crate) type Image = (Snapshot, u64, Option<(NodeId, u128)>);
type Scopes = HashMap<Scope, (Image, Timestamp)>;

/// The file, and of each scope what the file says and when the owner's lease ends.
#[derive(Debug)]
pub(crate) struct LogState(Mutex<(File, Scopes)>);

impl LogState {
    /// Reads the file at `path`, or begins one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let mut scopes = Scopes::new();
        for line in BufReader::new(&file).lines() {
            match serde_json::from_str(&line?) {
                // Of several lines of a scope the last one stays. Leases are of the process that gave them.
                Ok((scope, image)) => drop(scopes.insert(scope, (image, Timestamp::default()))),
                // Cut short by a crash, and so never acknowledged.
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(Mutex::new((file, scopes))))
    }

    /// What the scope is now.
    pub(crate) fn read(&self, scope: &Scope) -> (Image, Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(scope).cloned().unwrap_or_default()
    }

    /// Changes a copy of the scope, makes it durable where it differs, and shows it.
    pub(crate) fn change<T>(
        &self,
        scope: &Scope,
        change: impl FnOnce(&mut Image, &mut Timestamp) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let (file, scopes) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = scopes.entry(scope.clone()).or_default();
        let (mut image, mut lease) = shown.clone();
        let answer = change(&mut image, &mut lease)?;
        if image != shown.0 {
            let text = serde_json::to_string(&(scope, &image)).map_err(io::Error::from);
            let written = text.and_then(|text| write!(file, "\n{text}")).and_then(|()| file.sync_data());
            written.map_err(|_| StateError::Unknown { scope: scope.clone() })?;
        }
        *shown = (image, lease);
        Ok(answer)
    }
}
