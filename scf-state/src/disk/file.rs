//! A file of the operating system.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use scf_core::Disk;

/// A [`Disk`] in one file: positioned reads and writes, `fdatasync`.
#[derive(Debug)]
pub struct FileDisk(File);

impl FileDisk {
    /// Opens the file at `path`, or creates it, for this process alone.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it open, otherwise whatever the file system reports.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        if file.metadata()?.len() == 0 {
            // A new file's name is durable only with its folder.
            file.sync_all()?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        }
        Ok(Self(file))
    }
}

impl Disk for FileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = FileDisk::open(&path).unwrap();
        assert_eq!(FileDisk::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        first.set_len(8).unwrap();
        first.write(2, b"abc").unwrap();
        drop(first);
        let second = FileDisk::open(&path).unwrap();
        let mut read = [0xff; 8];
        second.read(0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0abc\0\0\0");
        assert_eq!(second.read(4, &mut read).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
