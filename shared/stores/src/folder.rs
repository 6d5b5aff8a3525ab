//! The folder of the embedded stores as a whole: closing it and copying it, also while other processes have it open.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use base::{Error, Result};
use serde::Serialize;

use crate::documents::Embedded;
use crate::sqlite;
use crate::state::Sqlite;

/// The databases in the order in which they are copied. The state comes first: a cursor in the copy then stands for
/// documents that were stored before the documents are copied.
const FILES: [&str; 2] = [Sqlite::FILE, Embedded::FILE];

/// Ends the name of a copy that is not finished.
const PART: &str = ".part";

/// A database that was copied.
#[derive(Debug, Serialize)]
pub struct CopiedFile {
    /// Its name in both folders.
    pub file: &'static str,
    /// The size of the copy.
    pub bytes: u64,
}

/// Looks whether a folder can be written, or made where it is not there; makes nothing.
///
/// # Errors
/// `Store`, when it cannot.
pub fn can_be_written(folder: &Path) -> Result<()> {
    sqlite::can_be_written(folder).map_err(|cause| {
        Error::store(format!("write to the folder `{}`", folder.display())).because(cause)
    })
}

/// Leaves what is stored in the databases themselves and their write-ahead logs empty, as far as other processes permit.
/// A folder without databases is left alone.
///
/// # Errors
/// `Store`, when a database cannot be opened or written.
pub async fn settle(folder: &Path) -> Result<()> {
    for file in FILES {
        let path = folder.join(file);
        sqlite::settle(&path).await.map_err(|cause| {
            Error::store(format!("empty the write-ahead log of `{}`", path.display()))
                .because(cause)
                .hint("nothing is lost: the next command that opens the store does it")
        })?;
    }
    Ok(())
}

/// Copies both databases to a new or empty folder, each as it is at one instant, while others write. The copy opens as
/// a store of its own.
///
/// # Errors
/// `Config`, when there is nothing to copy or the target holds something; `Store`, when a copy cannot be made. Then the
/// target holds no database.
pub async fn backup(folder: &Path, to: &Path) -> Result<Vec<CopiedFile>> {
    let files: Vec<&str> = FILES.into_iter().filter(|file| folder.join(file).is_file()).collect();
    if files.is_empty() {
        return Err(Error::config(format!(
            "back up `{}`: there is neither `{}` nor `{}`",
            folder.display(),
            Sqlite::FILE,
            Embedded::FILE
        ))
        .hint("`--data-dir` or `MINERVA_DATA_DIR` names the folder of the embedded store"));
    }
    prepare(to)?;
    let copied = copy_all(folder, to, &files).await;
    if copied.is_err() {
        for file in files {
            let _ = fs::remove_file(part(to, file));
            let _ = fs::remove_file(to.join(file));
        }
    }
    copied
}

/// Makes the target; one that holds anything is refused.
fn prepare(to: &Path) -> Result<()> {
    let failed = |cause: std::io::Error| {
        Error::config(format!("make the folder `{}`", to.display())).because(cause)
    };
    sqlite::private_folder(to).map_err(failed)?;
    if fs::read_dir(to).map_err(failed)?.next().is_some() {
        return Err(Error::config(format!(
            "back up to `{}`: the folder is not empty",
            to.display()
        ))
        .hint("name a new folder: a backup never replaces what is there"));
    }
    Ok(())
}

async fn copy_all(folder: &Path, to: &Path, files: &[&'static str]) -> Result<Vec<CopiedFile>> {
    let failed = |file: &str| {
        Error::store(format!("copy `{file}` to `{}`", to.display()))
            .hint("does the disk have space for a second copy?")
    };
    for file in files {
        sqlite::copy_into(&folder.join(file), &part(to, file))
            .await
            .map_err(|cause| failed(file).because(cause))?;
    }
    // Only whole copies get their names, so that what is killed before leaves nothing that looks like a backup.
    let mut copied = Vec::with_capacity(files.len());
    for file in files {
        let named = || {
            fs::rename(part(to, file), to.join(file))?;
            fs::metadata(to.join(file))
        };
        let bytes = named().map_err(|cause| failed(file).because(cause))?.len();
        copied.push(CopiedFile { file, bytes });
    }
    File::open(to)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| failed("the folder").because(cause))?;
    Ok(copied)
}

fn part(to: &Path, file: &str) -> PathBuf {
    to.join(format!("{file}{PART}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{Documents as _, Index};

    #[tokio::test]
    async fn a_folder_that_holds_something_is_no_target() {
        let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let error = backup(folder.path(), &to.path().join("new")).await.unwrap_err();
        assert!(error.to_string().contains("neither `state.db` nor `documents.db`"), "{error}");
        assert!(!to.path().join("new").exists());
        Sqlite::open(folder.path()).await.unwrap();
        fs::write(to.path().join("thesis.tex"), b"x").unwrap();
        let error = backup(folder.path(), to.path()).await.unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
        let error = backup(folder.path(), folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
    }

    #[tokio::test]
    async fn a_copy_that_fails_leaves_no_database() {
        let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Sqlite::open(folder.path()).await.unwrap();
        fs::write(folder.path().join(Embedded::FILE), "no database".repeat(1_000)).unwrap();
        let error = backup(folder.path(), to.path()).await.unwrap_err();
        assert!(error.to_string().contains("documents.db"), "{error}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_log_is_emptied_while_the_store_is_open_and_not_while_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).await.unwrap();
        store.ensure(Index::named("rss_articles").unwrap()).await.unwrap();
        let log = || fs::metadata(folder.path().join("documents.db-wal")).unwrap().len();
        assert!(log() > 0);
        let path = folder.path().join(Embedded::FILE);
        let mut reader = sqlite::connect(&path, std::time::Duration::ZERO).await.unwrap();
        sqlx::raw_sql("BEGIN; SELECT count(*) FROM sequences").execute(&mut reader).await.unwrap();
        settle(folder.path()).await.unwrap();
        assert!(log() > 0, "a reader may still need it");
        sqlx::raw_sql("ROLLBACK").execute(&mut reader).await.unwrap();
        settle(folder.path()).await.unwrap();
        assert_eq!(log(), 0);
    }
}
