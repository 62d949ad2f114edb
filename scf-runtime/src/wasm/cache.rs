//! Components that were compiled before, in a directory.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    hash::{Hash, Hasher},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use wasmtime::{Engine, component::Component};

use super::{
    error::WasmError,
    precompiled::{Verified, mac},
};

/// Entries that are kept; the oldest go first.
const ENTRIES: usize = 256;
const KEY: &str = "key";
const SUFFIX: &str = "cwasm";
const UNFINISHED: &str = "new";
/// Age at which an unfinished file is one that nobody will finish.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A cache of compiled components.
///
/// An entry is named by a hash of the component and of everything that the engine's machine code depends on,
/// and begins with a keyed hash of its name and content. The key is made at random once and readable to its
/// owner only. Loading machine code is running it: an entry whose hash is wrong is compiled anew, not loaded.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; blake3::KEY_LEN],
}

/// What was found.
pub(super) enum Found {
    /// The component, loaded.
    Component(Box<Component>),
    /// Nothing.
    Nothing,
    /// An entry that cannot be trusted or read.
    Refused,
}

/// The name of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry([u8; blake3::OUT_LEN]);

impl Entry {
    /// Names what `engine` makes of the component with this hash.
    pub(super) fn of(engine: &Engine, source: &blake3::Hash) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(source.as_bytes()).update(&compatibility(engine));
        Self(hasher.finalize().into())
    }

    /// The name as bytes.
    pub(super) const fn as_bytes(&self) -> &[u8; blake3::OUT_LEN] {
        &self.0
    }
}

/// Hash of everything but the component that machine code depends on: version and configuration of the engine,
/// target, and the extensions of the CPU that the compiler uses.
pub(super) fn compatibility(engine: &Engine) -> [u8; blake3::OUT_LEN] {
    struct Feed(blake3::Hasher);
    impl Hasher for Feed {
        fn finish(&self) -> u64 {
            0 // Only what is written counts.
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut feed = Feed(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().into()
}

impl Cache {
    /// Opens the directory, making it and the key if they are not there.
    pub(super) fn open(dir: PathBuf) -> Result<Self, WasmError> {
        let failed = |source| WasmError::Cache { dir: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(failed)?;
        let file = dir.join(KEY);
        if !file.try_exists().map_err(failed)? {
            make_key(&dir, &file).map_err(failed)?;
        }
        let key = read_key(&file).map_err(failed)?.ok_or(WasmError::Key { file })?;
        Ok(Self { dir, key })
    }

    /// Looks an entry up.
    pub(super) fn load(&self, engine: &Engine, entry: Entry, attempts: &AtomicU64) -> Found {
        let path = self.path(entry);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Found::Nothing,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a compiled component cannot be read");
                return Found::Refused;
            }
        };
        let Some(verified) = Verified::check(&self.key, &entry.0, &file) else {
            tracing::warn!(file = %path.display(), "a compiled component is not what was written; not loaded");
            return Found::Refused;
        };
        match verified.load(engine, attempts) {
            Ok(component) => Found::Component(Box::new(component)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a compiled component does not load");
                Found::Refused
            }
        }
    }

    /// Writes an entry, whole or not at all, and removes the oldest where there are too many.
    pub(super) fn store(&self, entry: Entry, component: &Component) -> io::Result<()> {
        let blob = component.serialize().map_err(io::Error::other)?;
        let unfinished = unfinished(&self.dir)?;
        let written = write_new(&unfinished, &[mac(&self.key, &entry.0, &blob).as_bytes(), &blob])
            .and_then(|()| fs::rename(&unfinished, self.path(entry)));
        if written.is_err() {
            // What went wrong first is what to report.
            drop(remove(&unfinished));
        }
        written.and_then(|()| self.trim())
    }

    fn path(&self, Entry(name): Entry) -> PathBuf {
        self.dir.join(format!("{}.{SUFFIX}", blake3::Hash::from_bytes(name).to_hex()))
    }

    fn trim(&self) -> io::Result<()> {
        let mut entries: Vec<(SystemTime, PathBuf)> = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let path = file?.path();
            let suffix = path.extension().and_then(OsStr::to_str);
            if !matches!(suffix, Some(SUFFIX | UNFINISHED)) {
                continue;
            }
            // Another process may have removed or renamed it by now.
            let Ok(written) = fs::metadata(&path).and_then(|about| about.modified()) else { continue };
            if suffix == Some(SUFFIX) {
                entries.push((written, path));
            } else if written.elapsed().is_ok_and(|age| age > ABANDONED) {
                remove(&path)?;
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(ENTRIES);
        entries.iter().take(surplus).try_for_each(|(_, path)| remove(path))
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// A name for a file until it is complete.
fn unfinished(dir: &Path) -> io::Result<PathBuf> {
    let mut name = [0; 16];
    random(&mut name)?;
    Ok(dir.join(format!("{:032x}.{UNFINISHED}", u128::from_ne_bytes(name))))
}

/// Makes a key, unless another process did so first.
fn make_key(dir: &Path, file: &Path) -> io::Result<()> {
    let mut key = [0; blake3::KEY_LEN];
    random(&mut key)?;
    let unfinished = unfinished(dir)?;
    write_new(&unfinished, &[&key])?;
    // Unlike renaming, linking fails where there is a file already.
    let linked = fs::hard_link(&unfinished, file);
    fs::remove_file(&unfinished)?;
    linked.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

/// The key, if the file has one and nobody else can read or write it.
fn read_key(file: &Path) -> io::Result<Option<[u8; blake3::KEY_LEN]>> {
    let mut file = File::open(file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Ok(None);
        }
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(blake3::KEY_LEN as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.try_into().ok())
}

/// Writes a file that was not there and that only its owner can read, to the disk.
fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::{compile::compiler, profile::Profile, sign::Cpu};

    #[test]
    fn an_entry_is_of_one_component_one_profile_and_one_cpu() {
        let names: Vec<_> = [
            (Profile::Gateway, false, Cpu::Host, "a"),
            (Profile::Gateway, false, Cpu::Host, "b"),
            (Profile::Gateway, false, Cpu::Baseline, "a"),
            (Profile::Gateway, true, Cpu::Host, "a"),
            (Profile::Server, false, Cpu::Host, "a"),
            (Profile::Tiny, false, Cpu::Host, "a"),
        ]
        .into_iter()
        .map(|(profile, fuel, cpu, source)| {
            let engine = compiler(profile, fuel, cpu).unwrap();
            *Entry::of(&engine, &blake3::hash(source.as_bytes())).as_bytes()
        })
        .collect();
        for (position, name) in names.iter().enumerate() {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "entry {position}");
        }
        let again = compiler(Profile::Gateway, false, Cpu::Host).unwrap();
        assert_eq!(Entry::of(&again, &blake3::hash(b"a")).as_bytes(), &names[0]);
    }

    #[test]
    fn an_entry_with_any_bit_flipped_or_of_another_name_is_not_verified() {
        let engine = compiler(Profile::Gateway, false, Cpu::Host).unwrap();
        let code = engine.precompile_component(&wat::parse_str("(component)").unwrap()).unwrap();
        let (key, name) = ([3; 32], *Entry::of(&engine, &blake3::hash(b"a")).as_bytes());
        let mut file = [mac(&key, &name, &code).as_bytes(), &code[..]].concat();
        assert!(Verified::check(&key, &name, &file).is_some());
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            assert!(Verified::check(&key, &name, &file).is_none(), "bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
        for bit in 0..name.len() * 8 {
            let mut other = name;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(Verified::check(&key, &other, &file).is_none(), "bit {bit} of the name");
        }
        assert!(Verified::check(&[4; 32], &name, &file).is_none());
    }
}
