//! The files of an object store, as a part, so that tests can lose what was not synced.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

/// Files in the folders of one store, by paths such as `objects/ab`. What was done to a file's content is durable after
/// [`Files::sync`], what was done to its name after [`Files::sync_folder`] of every folder concerned.
pub(super) trait Files: Debug + Send + Sync + 'static {
    /// Names and sizes of the files in `folder`, without order; none where it does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;

    /// All of a file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Makes a file that is not there yet.
    fn create(&self, path: &str, content: &[u8]) -> io::Result<()>;

    /// Makes a file's content durable.
    fn sync(&self, path: &str) -> io::Result<()>;

    /// Gives a file another name, whole, in place of what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; nothing when it is not there.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in `folder` durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// Files of the operating system below one folder, for this process alone.
#[derive(Debug)]
pub(super) struct OsFiles {
    root: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl OsFiles {
    /// Opens `root` and makes `folders` below it where they are missing.
    pub(super) fn open(root: PathBuf, folders: impl Iterator<Item = String>) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(root.join("lock"))?;
        lock.try_lock()?;
        let mut parents = vec![root.clone()];
        for folder in folders {
            let folder = root.join(folder);
            if !folder.is_dir() {
                fs::create_dir_all(&folder)?;
                parents.extend(folder.parent().map(PathBuf::from));
            }
        }
        parents.dedup();
        parents.extend(root.parent().filter(|parent| !parent.as_os_str().is_empty()).map(PathBuf::from));
        parents.iter().try_for_each(|parent| File::open(parent)?.sync_all())?;
        Ok(Self { root, _lock: lock })
    }
}

impl Files for OsFiles {
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.root.join(path))
    }

    fn create(&self, path: &str, content: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).open(self.root.join(path))?.write_all(content)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.root.join(path))?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.root.join(folder))?.sync_all()
    }
}
