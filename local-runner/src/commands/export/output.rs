//! Where an export goes: standard output, or a file that is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use base::{Error, Result};

use crate::out;

/// An open export.
pub(super) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    /// The file under its name for now, and under its own.
    file: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Opens a file, or standard output.
    ///
    /// # Errors
    /// `Config`, when it cannot be written.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self { writer: BufWriter::new(Box::new(io::stdout())), file: None });
        };
        if path.is_dir() {
            return Err(Error::config(format!("write `{}`: it is a folder", path.display()))
                .hint("`--out` names a file; a folder only for `--format misp-feed`"));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|cause| unwritable(path, cause))?;
        let writer = BufWriter::new(Box::new(file) as Box<dyn Write>);
        Ok(Self { writer, file: Some((part, path.to_owned())) })
    }

    /// Writes a text.
    ///
    /// # Errors
    /// `Config`, when it cannot be written. A reader of standard output that went away is none: it has what it wanted.
    pub(super) fn write(&mut self, text: &str) -> Result<()> {
        let written = self.writer.write_all(text.as_bytes());
        self.check(written)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn end(mut self) -> Result<()> {
        let flushed = self.writer.flush();
        self.check(flushed)?;
        match &self.file {
            Some((part, path)) => fs::rename(part, path).map_err(|cause| unwritable(path, cause)),
            None => Ok(()),
        }
    }

    fn check(&self, written: io::Result<()>) -> Result<()> {
        let Err(cause) = written else { return Ok(()) };
        match &self.file {
            None if cause.kind() == ErrorKind::BrokenPipe => out::quit(),
            None => Err(Error::config("write to standard output").because(cause)),
            Some((_, path)) => Err(unwritable(path, cause)),
        }
    }
}

/// The error of a place that cannot be written.
pub(super) fn unwritable(path: &Path, cause: io::Error) -> Error {
    Error::config(format!("write `{}`", path.display()))
        .because(cause)
        .hint("`--out` names a file in a folder that is there and has room")
}
