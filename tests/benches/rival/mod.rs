//! A rival in Python that stays in one process, so that its rounds can alternate with ours.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// The running script: one word in, one line of JSON out.
pub(crate) struct Rival {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Rival {
    /// Starts `benches/<script>` over what lies in `folder`.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) fn start(python: &Path, script: &str, folder: &Path) -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(script);
        let mut child = Command::new(python)
            .arg(script)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|cause| format!("start `{}`: {cause}", python.display()))?;
        let input = child.stdin.take().ok_or("a pipe was asked for")?;
        let output = BufReader::new(child.stdout.take().ok_or("a pipe was asked for")?);
        Ok(Self { child, input, output })
    }

    /// Has one thing done.
    ///
    /// # Errors
    /// The rival is gone; what it said of it is on standard error.
    pub(crate) fn ask(&mut self, what: &str) -> Result<Value, String> {
        let mut line = String::new();
        writeln!(self.input, "{what}")
            .and_then(|()| self.output.read_line(&mut line))
            .map_err(|cause| format!("ask the rival for `{what}`: {cause}"))?;
        serde_json::from_str(&line).map_err(|_| format!("the rival gave no answer to `{what}`"))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The middle of some figures, with the least and the greatest.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self {
            median: figures[figures.len() / 2],
            least: figures[0],
            greatest: figures[figures.len() - 1],
        }
    }
}
