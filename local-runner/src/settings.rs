//! The settings of this process and of the functions it starts: the environment, and below it a `.env` file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::config::{self, Config};
use base::{Error, Result};
use stores::retention;

use crate::families;

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
    /// `Config`, with everything that is wrong.
    pub(crate) fn read(overrides: &[(&str, String)]) -> Result<Self> {
        let mut given = from_file(Path::new(".env"))?;
        // Names that the functions read, and those that the AWS SDK in them reads.
        let names = names();
        let aws = [
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "HOME",
        ];
        for name in names.chain(aws) {
            if let Some(value) = config::variable(name) {
                given.insert(name.to_owned(), value);
            }
        }
        given.remove("AWS_LAMBDA_FUNCTION_NAME");
        given.extend(overrides.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut config =
            Config::from_lookup(&|name| given.get(name).cloned(), &families::declared())?;
        retention::check(&config.stores.keep_days)?;
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
}

/// The names of all settings.
fn names() -> impl Iterator<Item = &'static str> {
    let general = config::all().into_iter().flat_map(|(_, settings)| settings);
    let families = families::declared().into_iter().flat_map(|declared| declared.list);
    general.chain(families).map(|setting| setting.name)
}

fn from_file(path: &Path) -> Result<BTreeMap<String, String>> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let failed = |cause: dotenvy::Error| {
        let error = Error::config(format!("read `{}`", path.display()));
        // The line is not repeated, as its value may be a password.
        let error = match cause {
            dotenvy::Error::LineParse(line, at) => {
                let name = line.split('=').next().filter(|name| is_name(name)).unwrap_or("a line");
                error.because(format!("`{name}` cannot be read from its letter {}", at + 1))
            }
            cause => error.because(cause),
        };
        error.hint("each line is NAME=value; quote values with spaces")
    };
    dotenvy::from_path_iter(path).map_err(failed)?.map(|pair| pair.map_err(failed)).collect()
}

/// Whether a text is the name of a setting, and no part of a value.
fn is_name(text: &str) -> bool {
    names().any(|known| known == text)
}
