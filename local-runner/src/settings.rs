//! The settings of this process and of the functions it starts: the environment, and below it a `.env` file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::config::{self, Config, SettingProblem};
use base::{Error, Result};
use stores::retention;
use stores::state::{self, Sqlite, State};
use task::secrets;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::families;

/// The file below the environment, in the folder where a command is run.
const FILE: &str = ".env";

/// What the AWS SDK in a function reads, and we do not.
const AWS: [&str; 6] = [
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HOME",
];

/// What begins the names that are this program's alone.
const OURS: &str = "MINERVA_";

/// Letters by which a misspelled name may differ from the one that was meant.
const SLIPS_MAX: usize = 3;

/// What the runner was given.
#[derive(Clone)]
pub(crate) struct Settings {
    given: BTreeMap<String, String>,
    /// The same, read and checked.
    pub(crate) config: Config,
    /// The folder of the embedded store, absolute: children may run elsewhere.
    pub(crate) data_dir: PathBuf,
}

impl Settings {
    /// Reads the environment and `.env`; what the command line says goes above both.
    ///
    /// # Errors
    /// `Config`, with everything that is wrong, and where it stands.
    pub(crate) fn read(overrides: &[(&str, String)]) -> Result<Self> {
        let file = EnvFile::read(Path::new(FILE))?;
        let mut given = file.values.clone();
        for name in names().chain(AWS) {
            if let Some(value) = config::variable(name) {
                given.insert(name.to_owned(), value);
            }
        }
        given.remove("AWS_LAMBDA_FUNCTION_NAME");
        given.extend(overrides.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        // Functions are given the values themselves: they need not reach AWS.
        let values = {
            let lookup = |name: &str| given.get(name).cloned();
            let declared = families::declared();
            let read = secrets::values(&lookup, &declared);
            block_in_place(|| Handle::current().block_on(read))?
        };
        given.extend(values.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let lookup = |name: &str| given.get(name).cloned();
        let (mut config, mut problems) = Config::check(&lookup, &families::declared());
        if let Err(error) = retention::check(&config.stores.keep_days) {
            let (name, says) = ("MINERVA_KEEP_DAYS".to_owned(), error.chain());
            problems.push(SettingProblem { name, says });
        }
        if !problems.is_empty() {
            let said = problems.iter().map(|problem| {
                let place = file.place(&problem.name, &given);
                format!("`{}`{place}: {}", problem.name, problem.says)
            });
            return Err(Config::refused(&said.collect::<Vec<_>>()));
        }
        let folder = config.data_dir()?;
        let data_dir = std::path::absolute(&folder).map_err(|cause| {
            Error::config(format!("find the folder `{}`", folder.display())).because(cause)
        })?;
        config.stores.data_dir = Some(data_dir.clone());
        given.insert("MINERVA_DATA_DIR".to_owned(), data_dir.to_string_lossy().into_owned());
        Ok(Self { given, config, data_dir })
    }

    /// The variables of a function's process.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.given.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Opens the state for one who only looks: where there is no folder yet, none is made.
    pub(crate) async fn look_at_state(&self) -> Result<Arc<dyn State>> {
        let is_embedded = self.config.stores.database_url.is_none();
        if is_embedded && !self.data_dir.join(Sqlite::FILE).exists() {
            return Ok(Arc::new(Sqlite::empty().await?));
        }
        state::open(&self.config).await
    }
}

/// The names of all settings.
fn names() -> impl Iterator<Item = &'static str> {
    let general = config::all().into_iter().flat_map(|(_, settings)| settings);
    let families = families::declared().into_iter().flat_map(|declared| declared.list);
    general.chain(families).map(|setting| setting.name)
}

/// A `.env` file, and where each name stands in it.
#[derive(Default)]
struct EnvFile {
    values: BTreeMap<String, String>,
    /// Numbers of lines, from 1; of a name that stands there twice, the last.
    lines: BTreeMap<String, usize>,
}

impl EnvFile {
    /// Reads a file; one that is not there holds nothing.
    fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let failed = |what: String| {
            Error::config(format!("read `{}`: {what}", path.display()))
                .hint("each line is NAME=value; quote values with spaces")
        };
        let text = fs::read_to_string(path).map_err(|cause| failed(cause.to_string()))?;
        let mut lines = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            if let Some(name) = name_of(line) {
                lines.insert(name.to_owned(), number + 1);
            }
        }
        let wrong = |cause: dotenvy::Error| match cause {
            // The line is not repeated, as its value may be a password.
            dotenvy::Error::LineParse(line, at) => {
                let first = line.lines().next().unwrap_or_default().trim();
                let number = text.lines().position(|one| one.trim() == first);
                let place =
                    number.map_or_else(String::new, |number| format!("line {}: ", number + 1));
                let name = name_of(&line).filter(|name| names().any(|known| known == *name));
                failed(format!(
                    "{place}`{}` cannot be read from its letter {}",
                    name.unwrap_or("it"),
                    at + 1
                ))
            }
            cause => failed(cause.to_string()),
        };
        let values = dotenvy::from_read_iter(text.as_bytes())
            .map(|pair| pair.map_err(wrong))
            .collect::<Result<_>>()?;
        Ok(Self { values, lines })
    }

    /// Where the value that counts stands, if it is in this file, as ` (line 3 of `.env`)`.
    fn place(&self, name: &str, given: &BTreeMap<String, String>) -> String {
        match (self.values.get(name), self.lines.get(name)) {
            (Some(value), Some(line)) if given.get(name) == Some(value) => {
                format!(" (line {line} of `{FILE}`)")
            }
            _ => String::new(),
        }
    }
}

/// The name that a line of `.env` sets.
fn name_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    (!name.is_empty() && name.chars().all(letters)).then_some(name)
}

/// A name that is no setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownName {
    name: String,
    /// Its line in `.env`, or nothing for one of the environment.
    line: Option<usize>,
    /// The setting that was probably meant.
    meant: Option<&'static str>,
}

impl UnknownName {
    /// Whether it is probably another program's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.meant.is_none() && !self.name.starts_with(OURS)
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "`{}` (line {line} of `{FILE}`)", self.name)?,
            None => write!(f, "`{}` (in the environment)", self.name)?,
        }
        match self.meant {
            Some(meant) => write!(f, " is no setting: did you mean `{meant}`?"),
            None if self.is_foreign() => Ok(()),
            None => write!(f, " is no setting"),
        }
    }
}

/// Names in `.env` that are no settings, and those of the environment that look like ours.
pub(crate) fn unknown_names() -> Vec<UnknownName> {
    let file = EnvFile::read(Path::new(FILE)).unwrap_or_default();
    let of_file = file.values.into_keys().map(|name| {
        let line = file.lines.get(&name).copied();
        (name, line)
    });
    let of_environment = config::variables(OURS).into_iter().map(|name| (name, None));
    let mut unknown: Vec<UnknownName> = of_file
        .chain(of_environment)
        .filter(|(name, _)| names().chain(AWS).all(|known| known != name))
        .map(|(name, line)| UnknownName { meant: meant(&name), name, line })
        .collect();
    unknown.sort_by(|one, other| (one.line, &one.name).cmp(&(other.line, &other.name)));
    unknown
}

/// The setting that was probably meant by a name: the same letters, part of its words, or a few slips away.
fn meant(name: &str) -> Option<&'static str> {
    let plain = |name: &str| name.replace(['_', '.', '-'], "").to_ascii_uppercase();
    let same = names().find(|known| plain(known) == plain(name));
    let part = || names().find(|known| known.strip_prefix(OURS) == Some(name));
    let near = || {
        let (slips, known) = names()
            .map(|known| (strsim::damerau_levenshtein(known, &name.to_ascii_uppercase()), known))
            .min()?;
        // What all of ours begin with says nothing.
        let own = name.to_ascii_uppercase().trim_start_matches(OURS).len();
        (slips <= SLIPS_MAX.min(own / 3)).then_some(known)
    };
    same.or_else(part).or_else(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_leads_to_the_one_that_was_meant() {
        for (name, known) in [
            ("ES_ULR", Some("ES_URL")),
            ("DATABSE_URL", Some("DATABASE_URL")),
            ("MINERVA_DATADIR", Some("MINERVA_DATA_DIR")),
            ("minerva_data_dir", Some("MINERVA_DATA_DIR")),
            ("DATA_DIR", Some("MINERVA_DATA_DIR")),
            ("MINERVA_ALLOWED_NETS", Some("MINERVA_ALLOW_NETS")),
            ("RSS_SOURCE", Some("RSS_SOURCES")),
            ("MINERVA_COLOR", None),
            ("PATH", None),
            ("COMPOSE_PROJECT_NAME", None),
            ("TZ", None),
            ("CELERY_BROKER_URL", None),
        ] {
            assert_eq!(meant(name), known, "{name}");
        }
        let ours = UnknownName { name: "MINERVA_COLOUR".to_owned(), line: None, meant: None };
        assert!(!ours.is_foreign());
    }

    #[test]
    fn a_line_of_the_file_is_told_and_its_value_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "# of the team\nexport ES_URL=http://a\n\nES_PASSWORD=it's \"hunter2\n")
            .unwrap();
        let error = EnvFile::read(&path).err().unwrap();
        let said = error.chain();
        assert!(said.contains("line 4: `ES_PASSWORD`") && !said.contains("hunter2"), "{said}");
        fs::write(&path, "# of the team\nexport ES_URL=http://a\n\nTZ=UTC\n").unwrap();
        let file = EnvFile::read(&path).unwrap();
        assert_eq!(file.lines.get("ES_URL"), Some(&2));
        assert_eq!(file.place("ES_URL", &file.values), " (line 2 of `.env`)");
        assert_eq!(file.place("ES_URL", &BTreeMap::new()), "");
    }
}
