//! A hold on a name among all processes that share a data folder. The kernel releases it when the holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::sqlite::make_private;

/// How often, and for how long each time, a lock is waited for that may be held by one who only looks.
const LOOKS_WAITED_OUT: u32 = 3;
const LOOK: Duration = Duration::from_millis(1);

/// A held name; dropping it releases it.
pub(super) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Tries to take hold of `name`; `None` when another does.
    pub(super) fn take(folder: &Path, name: &str) -> io::Result<Option<Self>> {
        make_private(folder)?;
        let path = path_of(folder, name);
        let mut looks = LOOKS_WAITED_OUT;
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                // Somebody may only be looking whether it is held.
                Err(TryLockError::WouldBlock) if looks > 0 => {
                    looks -= 1;
                    std::thread::sleep(LOOK);
                    continue;
                }
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

/// Whether somebody holds `name`. What is looked at is shared for that instant, which [`FileLock::take`] waits out.
pub(super) fn is_held(folder: &Path, name: &str) -> io::Result<bool> {
    let file = match File::open(path_of(folder, name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A digest, since names come from sources and must not be used as file names.
fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(hex::encode(&Sha256::digest(name.as_bytes())[..16]))
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
        assert!(is_held(folder.path(), "rss/a/../b").unwrap());
        assert!(!is_held(folder.path(), "rss/c").unwrap());
        drop(held);
        // A file that a killed process left is held by nobody.
        fs::write(path_of(folder.path(), "rss/d"), b"").unwrap();
        assert!(!is_held(folder.path(), "rss/d").unwrap());
        fs::remove_file(path_of(folder.path(), "rss/d")).unwrap();
        assert!(FileLock::take(folder.path(), "rss/a/../b").unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
