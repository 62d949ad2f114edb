//! Counting what is in a folder.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

use super::folder::Amount;

/// How deep folders nest at most: each level takes a file handle of the host's while they are counted. What nests
/// deeper is taken for full.
const DEPTH: u32 = 64;
/// How folders are opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is in the folder `root`; where that is more than `most`, no more than what shows it. Blocks.
///
/// No link is followed. A file counts as often as it has names.
pub(super) fn count(root: &File, most: Amount) -> io::Result<Amount> {
    let mut found = Amount::default();
    // It may be a handle that only paths can begin at.
    let root = openat(root, c".", FOLDER, Mode::empty())?;
    visit(root.as_fd(), 0, most, &mut found)?;
    Ok(found)
}

/// How long a file is that has no name any more.
pub(super) fn length_if_unlinked(file: &File) -> Option<u64> {
    let meta = file.metadata().ok()?;
    (meta.nlink() == 0).then_some(meta.len())
}

fn visit(folder: BorrowedFd<'_>, depth: u32, most: Amount, found: &mut Amount) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // It may be gone by now, or be something else: whoever is not held to the quota does not wait for the count.
        let status = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            status => status?,
        };
        *found = *found + Amount::ENTRY;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => *found = *found + Amount::bytes(status.st_size.unsigned_abs()),
            FileType::Directory if depth == DEPTH => found.entries = u64::MAX,
            FileType::Directory => match openat(folder, name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                inner => visit(inner?.as_fd(), depth + 1, most, found)?,
            },
            _ => {}
        }
        if !found.is_within(most) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MOST: Amount = Amount { bytes: 1000, entries: 100 };

    fn amount(bytes: u64, entries: u64) -> Amount {
        Amount { bytes, entries }
    }

    #[test]
    fn files_folders_and_links_count_at_all_depths_and_nothing_that_links_lead_to() {
        let outer = tempfile::tempdir().unwrap();
        let (inside, outside) = (outer.path().join("inside"), outer.path().join("outside"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("large"), [0; 500]).unwrap();
        fs::write(inside.join("f"), [0; 10]).unwrap();
        fs::write(inside.join("a/b/g"), [0; 20]).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        assert_eq!(count(&File::open(&inside).unwrap(), MOST).unwrap(), amount(30, 5));
    }

    #[test]
    fn counting_ends_where_there_is_more_than_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        for name in 0..10 {
            fs::write(folder.path().join(name.to_string()), [0; 400]).unwrap();
        }
        let root = File::open(folder.path()).unwrap();
        assert_eq!(count(&root, MOST).unwrap(), amount(1200, 3));
        assert_eq!(count(&root, amount(u64::MAX, 4)).unwrap(), amount(2000, 5));
    }

    #[test]
    fn what_nests_too_deep_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let nested = |depth| folder.path().join("d/".repeat(depth));
        fs::create_dir_all(nested(64)).unwrap();
        let root = File::open(folder.path()).unwrap();
        assert_eq!(count(&root, MOST).unwrap(), amount(0, 64));
        fs::create_dir(nested(65)).unwrap();
        assert!(!count(&root, MOST).unwrap().is_within(MOST));
    }

    #[test]
    fn a_file_without_a_name_has_a_length_while_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, [0; 7]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(length_if_unlinked(&file), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(length_if_unlinked(&file), Some(7));
    }
}
