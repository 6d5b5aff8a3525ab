//! A hold on a name among all processes that share a data folder. The kernel releases it when the holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A held name; dropping it releases it.
pub(super) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Tries to take hold of `name`; `None` when another does.
    pub(super) fn take(folder: &Path, name: &str) -> io::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        // A digest, since names come from sources and must not be used as file names.
        let path = folder.join(hex::encode(&Sha256::digest(name.as_bytes())[..16]));
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The last holder may have removed the file between our open and our lock: then the lock is on nothing.
            match fs::metadata(&path) {
                Ok(there) if there.ino() == file.metadata()?.ino() => {
                    return Ok(Some(Self { path, _file: file }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed while it is still held, so nobody else can hold this very file. What cannot be removed is a spare file.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_no_file_left() {
        let folder = tempfile::tempdir().unwrap();
        let held = FileLock::take(folder.path(), "rss/a/../b").unwrap().unwrap();
        assert!(FileLock::take(folder.path(), "rss/a/../b").unwrap().is_none());
        assert!(FileLock::take(folder.path(), "rss/c").unwrap().is_some());
        drop(held);
        assert!(FileLock::take(folder.path(), "rss/a/../b").unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
