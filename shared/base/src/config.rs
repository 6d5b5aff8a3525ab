//! Every setting, and the only code that reads the environment.
//!
//! A struct per concern; a field is its documentation, its type, its default and its name in the environment. A family
//! declares its own with [`settings!`](crate::settings) and reads them with [`Config::of`]. All problems are reported together.
//! `docs/CONFIG.md` is generated from [`all`] and from what the families declare.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::address::Address;
use crate::checks::{self, Check};
use crate::clock::Clock;
use crate::keep_days::KeepDays;
use crate::nets::AllowNets;
use crate::{Error, Result};
use url::Url;

/// A value that is never shown: not in a log, an error, a report or a debug print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value that must not be printed.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One setting, as `docs/CONFIG.md` lists it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the environment.
    pub name: &'static str,
    /// What holds when it is not set; empty when nothing does.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
}

/// A type that a setting can have.
pub trait SettingValue: Sized + Default {
    /// Reads what is written in the environment.
    ///
    /// # Errors
    /// What is wrong with it, without repeating a secret.
    fn read(text: &str) -> Result<Self, String>;
}

impl SettingValue for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl SettingValue for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl SettingValue for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not a whole number"))
    }
}

impl SettingValue for bool {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is neither `true` nor `false`"))
    }
}

impl SettingValue for f64 {
    fn read(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number: &Self| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| format!("`{text}` is no number of 0 or more"))
    }
}

impl SettingValue for Option<NonZeroU32> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| format!("`{text}` is not a whole number above 0"))
    }
}

impl SettingValue for Clock {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl SettingValue for KeepDays {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl SettingValue for AllowNets {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl SettingValue for Option<Secret<Url>> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        checks::web_address(text).map(Secret).map(Some)
    }
}

impl SettingValue for Option<Url> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        checks::web_address(text).map(Some)
    }
}

impl SettingValue for Option<Address> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { Address::parse(text).map(Some) }
    }
}

impl SettingValue for Secret<Vec<Url>> {
    fn read(text: &str) -> Result<Self, String> {
        let read = |part: &str| {
            let url = checks::web_address(part.trim()).map_err(|says| {
                // What is wrong with a part may be a comma of the password before it.
                let is_told = !text.contains('@') || says.contains(checks::ESCAPES);
                if is_told { says } else { format!("{says}; or {}", checks::ESCAPES) }
            })?;
            match (url.query(), url.fragment()) {
                (None, None) => Ok(url),
                _ => Err("the address of a server ends before a `?` or `#`".to_owned()),
            }
        };
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let urls: Vec<Url> = parts.map(read).collect::<Result<_, _>>()?;
        if urls.is_empty() { Err("it names no server".to_owned()) } else { Ok(Self(urls)) }
    }
}

impl SettingValue for Secret<String> {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }
}

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// Its name in the environment.
    pub name: String,
    /// What is wrong, without its value where that is a secret.
    pub says: String,
}

/// Reads settings by name and remembers every problem.
pub struct SettingsReader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<SettingProblem>,
}

impl SettingsReader<'_> {
    /// The value of a setting, or the type's own default beside a remembered problem.
    pub fn read<T: SettingValue>(&mut self, name: &str, default: &str, checks: &[Check]) -> T {
        let given = (self.lookup)(name).filter(|text| !text.trim().is_empty());
        let text = given.as_deref().map_or(default, str::trim);
        let checked = checks.iter().filter(|_| given.is_some()).try_for_each(|check| check(text));
        checked.and_then(|()| T::read(text)).unwrap_or_else(|says| {
            self.wrong(name, says);
            T::default()
        })
    }

    fn wrong(&mut self, name: &str, says: impl Into<String>) {
        self.problems.push(SettingProblem { name: name.to_owned(), says: says.into() });
    }

    /// Settings that are of use only together.
    fn both(&mut self, (one, is_set): (&str, bool), (other, is_other_set): (&str, bool)) {
        match (is_set, is_other_set) {
            (true, false) => self.wrong(one, format!("it is set and `{other}` is not")),
            (false, true) => self.wrong(other, format!("it is set and `{one}` is not")),
            _ => {}
        }
    }

    fn finish(self) -> Result<()> {
        Config::accept(&self.problems)
    }
}

/// Settings that one concern, or one family, declares: a struct made by [`settings!`](crate::settings).
pub trait Settings: Sized {
    /// Each of them, in the order of the struct's fields.
    const LIST: &'static [Setting];

    /// Reads all of them.
    fn read(reader: &mut SettingsReader<'_>) -> Self;
}

/// Declares structs of settings: per field its documentation, its type, its default as text, its name in the environment, and
/// what else is asked of its text, by the name of a [check](crate::checks).
#[macro_export]
macro_rules! settings {
    ($( $(#[doc = $about:literal])* pub struct $concern:ident {
        $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:literal, $name:literal $(, $check:ident)*; )*
    } )*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, Default)]
            pub struct $concern { $( $(#[doc = $doc])* pub $field: $type, )* }

            impl $crate::config::Settings for $concern {
                const LIST: &'static [$crate::config::Setting] = &[
                    $( $crate::config::Setting { name: $name, default: $default, about: concat!($($doc),*) }, )*
                ];

                fn read(reader: &mut $crate::config::SettingsReader<'_>) -> Self {
                    Self { $( $field: reader.read($name, $default, &[$($crate::checks::$check),*]), )* }
                }
            }
        )*
    };
}

/// What a family declares, as plain data.
#[derive(Clone, Copy)]
pub struct DeclaredSettings {
    /// Each setting.
    pub list: &'static [Setting],
    check: fn(&mut SettingsReader<'_>),
}

impl DeclaredSettings {
    /// No setting at all.
    pub const NONE: Self = Self { list: &[], check: |_| {} };

    /// Those of a struct.
    pub const fn of<T: Settings>() -> Self {
        Self { list: T::LIST, check: |reader| drop(T::read(reader)) }
    }
}

settings! {
    /// Where documents and state are kept.
    pub struct Stores {
        /// PostgreSQL for the state: `postgres://user:password@host/database?sslmode=…`; default: a file of the data folder.
        database_url: Option<Address> = "", "DATABASE_URL";
        /// Folder of the embedded store. On Lambda it must be set, as the disk there vanishes.
        data_dir: Option<PathBuf> = "", "MINERVA_DATA_DIR", folder;
        /// The most MiB that each of the two files of the embedded store may hold; as much as the disk has when unset.
        data_max_mb: Option<NonZeroU32> = "", "MINERVA_DATA_MAX_MB";
        /// Elasticsearch 8 or 9, or OpenSearch 2 or 3, for documents: `https://host:9200`, several separated by commas; the embedded store when unset.
        es_url: Option<Secret<Vec<Url>>> = "", "ES_URL";
        /// User on that server.
        es_username: Option<String> = "", "ES_USERNAME", one_line;
        /// The user's password.
        es_password: Option<Secret<String>> = "", "ES_PASSWORD", one_line;
        /// API key instead of a user: the encoded form, or `id:key`.
        es_api_key: Option<Secret<String>> = "", "ES_API_KEY", key;
        /// PEM file with the certificate authority of a server that has its own.
        es_ca_cert: Option<PathBuf> = "", "ES_CA_CERT", certificates;
        /// What every index name on that server begins with.
        es_index_prefix: String = "", "ES_INDEX_PREFIX", index_prefix;
        /// Days that documents are kept, by their own date: a number for all news and indicators, `rss_articles=365` for one index (also works of reference, as malware families and rules), several with commas between; `0`, and nothing said, for ever.
        keep_days: KeepDays = "", "MINERVA_KEEP_DAYS";
        /// Folder in which each response is kept as it was fetched, compressed; off when unset.
        archive: Option<PathBuf> = "", "MINERVA_ARCHIVE", folder;
        /// Days that an archived response is kept.
        archive_days: u32 = "30", "MINERVA_ARCHIVE_DAYS", days;
    }

    /// How AWS is reached, where a place is `s3://…`, `ssm:/…` or `aws-secretsmanager:…`.
    pub struct Aws {
        /// Region of bucket and secrets.
        region: Option<String> = "", "AWS_REGION", region;
        /// Another server that speaks S3: `http://127.0.0.1:5000`.
        endpoint_url: Option<Url> = "", "AWS_ENDPOINT_URL_S3";
        /// Another server that speaks SSM, where a setting is `ssm:/…`.
        ssm_endpoint_url: Option<Url> = "", "AWS_ENDPOINT_URL_SSM";
        /// Another server that speaks Secrets Manager, where a setting is `aws-secretsmanager:…`.
        secrets_endpoint_url: Option<Url> = "", "AWS_ENDPOINT_URL_SECRETS_MANAGER";
        /// Key for bucket and secrets; the machine's role when unset. On Lambda it is set by itself.
        access_key_id: Option<String> = "", "AWS_ACCESS_KEY_ID", key;
        /// The key's secret.
        secret_access_key: Option<Secret<String>> = "", "AWS_SECRET_ACCESS_KEY", key;
        /// Token of a key that expires.
        session_token: Option<Secret<String>> = "", "AWS_SESSION_TOKEN", key;
    }

    /// How it is fetched.
    pub struct Network {
        /// Networks (`127.0.0.0/8`) and hosts (`mirror.lan`) excepted from the ban on private addresses, separated by commas.
        allow_nets: AllowNets = "", "MINERVA_ALLOW_NETS";
        /// Proxy for every request. Names are resolved there, so only literal addresses can be checked here.
        proxy: Option<Secret<Url>> = "", "HTTPS_PROXY";
        /// Address of a person, of mail or of a page, sent in the User-Agent so that a source's owner can write.
        contact: Option<String> = "", "MINERVA_CONTACT", contact;
    }

    /// What indicators are held against.
    pub struct Indicators {
        /// Warninglists that indicators are tagged with: a folder as misp-warninglists has it, or the address of its `.tar.gz`, as `https://codeload.github.com/MISP/misp-warninglists/tar.gz/refs/heads/main`; default: the set compiled in.
        warninglists: Option<String> = "", "WARNINGLISTS", folder_or_web_address;
    }

    /// Which language model is asked, and how much.
    pub struct LanguageModel {
        /// Who serves the model: `openai`, `anthropic`, `databricks`, or `compatible` for any other server with OpenAI's API (llama.cpp, Ollama, vLLM); when unset, the one whose address or key is set. Without any, nothing is asked.
        provider: Option<String> = "", "LLM_PROVIDER", model_provider;
        /// Where the model is served, as `http://127.0.0.1:8080/v1`; the provider's own address when unset.
        url: Option<Url> = "", "LLM_URL";
        /// Key for that server.
        api_key: Option<Secret<String>> = "", "LLM_API_KEY", key;
        /// The model's name there; on Databricks its serving endpoint's. OpenAI's default: `gpt-4o-mini`.
        model: Option<String> = "", "LLM_MODEL", one_line;
        /// Requests in a day at the most, those of every process together.
        daily_limit: u32 = "1000", "LLM_DAILY_LIMIT";
        /// Tokens in a day at the most, those of prompts and answers together.
        daily_tokens: u32 = "2000000", "LLM_DAILY_TOKENS";
        /// Requests at the same time, 1 to 64.
        concurrency: u32 = "4", "LLM_CONCURRENCY", up_to_64;
        /// Seconds that one request may take, 1 to 600.
        timeout_s: u32 = "120", "LLM_TIMEOUT_S", up_to_600;
        /// Price of a million tokens of prompts, for estimates of what a run costs.
        prompt_price: Option<f64> = "", "LLM_PROMPT_PRICE";
        /// Price of a million tokens of answers.
        completion_price: Option<f64> = "", "LLM_COMPLETION_PRICE";
        /// The predecessor's name of `LLM_API_KEY` for OpenAI.
        openai_api_key: Option<Secret<String>> = "", "OPENAI_API_KEY", key;
        /// The predecessor's name of `LLM_MODEL` for OpenAI.
        openai_model: Option<String> = "", "OPENAI_MODEL", one_line;
        /// The predecessor's name of `LLM_URL` for Databricks: the workspace, with or without `https://`.
        databricks_host: Option<String> = "", "DATABRICKS_HOST", host_or_web_address;
        /// The predecessor's name of `LLM_API_KEY` for Databricks.
        databricks_token: Option<Secret<String>> = "", "DATABRICKS_TOKEN", key;
        /// The predecessor's name of `LLM_MODEL` for Databricks.
        databricks_model: Option<String> = "", "DATABRICKS_MODEL", one_line;
        /// Another name of `LLM_API_KEY` for Anthropic.
        anthropic_api_key: Option<Secret<String>> = "", "ANTHROPIC_API_KEY", key;
        /// Another name of `LLM_MODEL` for Anthropic.
        anthropic_model: Option<String> = "", "ANTHROPIC_MODEL", one_line;
    }

    /// How a run behaves.
    pub struct Behaviour {
        /// `machine`, `slot` (a run lives at its slot: a replay) or a fixed instant.
        clock: Clock = "machine", "MINERVA_CLOCK";
        /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as `info,rss=debug`.
        log: String = "info", "MINERVA_LOG", log_filter;
        /// Set by `local-runner reparse`: archived responses are read from this folder instead of the network.
        reparse: Option<PathBuf> = "", "MINERVA_REPARSE";
        /// Set by `local-runner` for its children: they end when it does.
        under_runner: Option<String> = "", "MINERVA_RUNNER";
        /// Set by the cloud's template: zone and expression of the function's row, as `America/Sao_Paulo cron(0 2 * * ? *)`. The slot of a rule's event is the row's last firing at or before its `time`.
        when: Option<String> = "", "MINERVA_WHEN";
        /// Set by Lambda: the function's name.
        lambda: Option<String> = "", "AWS_LAMBDA_FUNCTION_NAME";
        /// Set by Lambda: where this process logs. What it holds in PostgreSQL is marked with it.
        log_stream: Option<String> = "", "AWS_LAMBDA_LOG_STREAM_NAME";
        /// The predecessor's broker: accepted and ignored, with one line of log.
        redis: Option<Secret<String>> = "", "REDIS_URL";
    }
}

/// All settings of a process.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where documents and state are kept.
    pub stores: Stores,
    /// How AWS is reached.
    pub aws: Aws,
    /// How it is fetched.
    pub network: Network,
    /// What indicators are held against.
    pub indicators: Indicators,
    /// Which language model is asked, and how much.
    pub language_model: LanguageModel,
    /// How a run behaves.
    pub behaviour: Behaviour,
    /// What families declared and was set.
    family_values: FamilyValues,
}

/// Values of families' settings by name. They may be secrets.
#[derive(Clone, Default)]
struct FamilyValues(BTreeMap<&'static str, String>);

impl fmt::Debug for FamilyValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Every setting that no family declares, by concern, in the order of `docs/CONFIG.md`.
pub fn all() -> [(&'static str, &'static [Setting]); 6] {
    [
        ("Stores", Stores::LIST),
        ("AWS", Aws::LIST),
        ("Network", Network::LIST),
        ("Indicators", Indicators::LIST),
        ("Language model", LanguageModel::LIST),
        ("Behaviour", Behaviour::LIST),
    ]
}

/// Settings of which one is of no use without the other.
const PAIRS: [(&str, &str); 2] =
    [("ES_USERNAME", "ES_PASSWORD"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")];

/// Names of this process's environment that begin like this, for `doctor` to find those that are misspelled.
pub fn variables(beginning: &str) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with(beginning)).collect()
}

/// One variable of this process's environment, for the runner to hand on to its children.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// The folder of the embedded store when `MINERVA_DATA_DIR` does not name one.
    pub const DATA_DIR: &str = "minerva-data";

    /// Reads the environment of this process; `families` are what the families in it declare.
    ///
    /// # Errors
    /// `Config`, with all problems in one message.
    pub fn from_env(families: &[DeclaredSettings]) -> Result<Self> {
        Self::from_lookup(&variable, families)
    }

    /// Reads settings from any source of names and values, such as a test's table.
    ///
    /// # Errors
    /// `Config`, with all problems in one message.
    pub fn from_lookup(
        lookup: &dyn Fn(&str) -> Option<String>,
        families: &[DeclaredSettings],
    ) -> Result<Self> {
        let (config, problems) = Self::check(lookup, families);
        Self::accept(&problems).map(|()| config)
    }

    /// As [`from_lookup`](Self::from_lookup), with what is wrong by setting; those have their defaults.
    pub fn check(
        lookup: &dyn Fn(&str) -> Option<String>,
        families: &[DeclaredSettings],
    ) -> (Self, Vec<SettingProblem>) {
        let mut reader = SettingsReader { lookup, problems: Vec::new() };
        let names = families.iter().flat_map(|declared| declared.list).map(|setting| setting.name);
        let config = Self {
            stores: Stores::read(&mut reader),
            aws: Aws::read(&mut reader),
            network: Network::read(&mut reader),
            indicators: Indicators::read(&mut reader),
            language_model: LanguageModel::read(&mut reader),
            behaviour: Behaviour::read(&mut reader),
            family_values: FamilyValues(
                names.filter_map(|name| Some((name, lookup(name)?))).collect(),
            ),
        };
        families.iter().for_each(|declared| (declared.check)(&mut reader));
        // One that cannot be read counts as set: its own problem is told.
        let is_set = |name: &str| lookup(name).is_some_and(|text| !text.trim().is_empty());
        for (one, other) in PAIRS {
            reader.both((one, is_set(one)), (other, is_set(other)));
        }
        (config, reader.problems)
    }

    fn accept(problems: &[SettingProblem]) -> Result<()> {
        if problems.is_empty() {
            return Ok(());
        }
        let said: Vec<String> =
            problems.iter().map(|one| format!("`{}`: {}", one.name, one.says)).collect();
        Err(Self::refused(&said))
    }

    /// The error of settings that cannot be read, for these reasons.
    pub fn refused(problems: &[String]) -> Error {
        Error::config(format!("read the settings: {}", problems.join("; "))).hint(
            "`local-runner help settings` lists every setting; `local-runner doctor` checks them",
        )
    }

    /// The settings of a family, which declared them when these were read.
    ///
    /// # Errors
    /// `Config`, with all problems in one message.
    pub fn of<T: Settings>(&self) -> Result<T> {
        let lookup = |name: &str| self.family_values.0.get(name).cloned();
        let mut reader = SettingsReader { lookup: &lookup, problems: Vec::new() };
        let settings = T::read(&mut reader);
        reader.finish().map(|()| settings)
    }

    /// The folder of the embedded store.
    ///
    /// # Errors
    /// `Config` on Lambda without `MINERVA_DATA_DIR`: data must not go to a disk that vanishes.
    pub fn data_dir(&self) -> Result<PathBuf> {
        match (&self.stores.data_dir, &self.behaviour.lambda) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, None) => Ok(PathBuf::from(Self::DATA_DIR)),
            (None, Some(_)) => {
                let unset = [
                    ("`ES_URL`", self.stores.es_url.is_none()),
                    ("`DATABASE_URL`", self.stores.database_url.is_none()),
                ];
                let unset: Vec<&str> =
                    unset.iter().filter(|(_, unset)| *unset).map(|(name, _)| *name).collect();
                let unset = unset.join(" and ");
                Err(Error::config(format!(
                    "open the store: on Lambda the disk vanishes, and there is no {unset}"
                ))
                .hint(format!("set {unset}, or `MINERVA_DATA_DIR` to a folder that lasts")))
            }
        }
    }
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro makes what a family would export")]
mod tests {
    use super::*;

    settings! {
        /// What a family declares.
        pub struct Example {
            /// Where it is.
            url: Option<Url> = "https://example.org", "EXAMPLE_URL";
            /// A secret.
            token: Option<Secret<String>> = "", "EXAMPLE_TOKEN";
        }
    }

    #[test]
    fn a_familys_settings_are_read_with_the_others_and_not_shown() {
        let config = read(&[("EXAMPLE_TOKEN", "hunter2")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let example = config.of::<Example>().unwrap();
        assert_eq!(example.token.unwrap().expose(), "hunter2");
        assert_eq!(example.url.unwrap().as_str(), "https://example.org/");
        let error = read(&[("EXAMPLE_URL", "ftp:x"), ("MINERVA_CLOCK", "noon")]).unwrap_err();
        assert!(
            error.chain().contains("`EXAMPLE_URL`") && error.chain().contains("`MINERVA_CLOCK`")
        );
    }

    #[track_caller]
    fn read(settings: &[(&str, &str)]) -> Result<Config> {
        Config::from_lookup(
            &|name| {
                settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            },
            &[DeclaredSettings::of::<Example>()],
        )
    }

    #[test]
    fn all_problems_come_in_one_message() {
        let error =
            read(&[("MINERVA_ARCHIVE_DAYS", "soon"), ("MINERVA_CLOCK", "noon")]).unwrap_err();
        assert!(
            error.to_string().contains("`MINERVA_ARCHIVE_DAYS`")
                && error.to_string().contains("`MINERVA_CLOCK`")
        );
    }

    #[test]
    fn a_secret_prints_as_stars() {
        let config = read(&[
            ("REDIS_URL", "redis://:hunter2@localhost"),
            ("DATABASE_URL", "postgresql+asyncpg://minerva:hunter2@localhost/minerva"),
        ])
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn servers_are_a_list_and_a_wrong_one_is_not_repeated() {
        let config = read(&[("ES_URL", "https://u:hunter2@a:9200, http://b:9200")]).unwrap();
        assert_eq!(config.stores.es_url.as_ref().unwrap().expose().len(), 2);
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = read(&[("ES_URL", "ftp://u:hunter2@a")]).unwrap_err();
        assert!(!error.chain().contains("hunter2") && error.chain().contains("`ES_URL`"));
    }

    #[test]
    fn a_wrong_value_of_any_setting_is_refused_by_name_and_a_secret_is_not_repeated() {
        for (name, wrong) in [
            ("DATABASE_URL", "postgres://u:12/hunter2@h/db"),
            ("DATABASE_URL", "postgres:u:hunter2@h/db"),
            ("MINERVA_DATA_DIR", "s3://bucket/x"),
            ("MINERVA_DATA_DIR", "/etc/passwd"),
            ("MINERVA_DATA_MAX_MB", "0"),
            ("ES_URL", "http://u:12/hunter2@h"),
            ("ES_URL", "http://u:p@ss/hunter2@h"),
            ("ES_URL", "http://h:9200/?hunter2"),
            ("ES_URL", ","),
            ("ES_USERNAME", "elastic"),
            ("ES_PASSWORD", "hunter2"),
            ("ES_API_KEY", "hunter2 hunter2"),
            ("ES_CA_CERT", "/etc/passwd"),
            ("ES_INDEX_PREFIX", "Minerva-"),
            ("MINERVA_KEEP_DAYS", "soon"),
            ("MINERVA_ARCHIVE", "/etc/passwd"),
            ("MINERVA_ARCHIVE_DAYS", "0"),
            ("AWS_REGION", "São Paulo"),
            ("AWS_ENDPOINT_URL_S3", "127.0.0.1:5000"),
            ("AWS_ENDPOINT_URL_SSM", "ssm"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "ftp://x"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("MINERVA_ALLOW_NETS", "10.*"),
            ("HTTPS_PROXY", "socks5://u:hunter2@h"),
            ("HTTPS_PROXY", "proxy.lan:8080"),
            ("MINERVA_CONTACT", "the SOC"),
            ("MINERVA_CLOCK", "noon"),
            ("MINERVA_LOG", "loud"),
            ("LLM_PROVIDER", "opnai"),
            ("LLM_PROVIDER", "gpt"),
            ("LLM_URL", "localhost:8080"),
            ("LLM_URL", "ftp://x"),
            ("LLM_API_KEY", "hunter2 hunter2"),
            ("LLM_DAILY_LIMIT", "-1"),
            ("LLM_DAILY_LIMIT", "many"),
            ("LLM_DAILY_TOKENS", "-1"),
            ("LLM_DAILY_TOKENS", "2M"),
            ("LLM_CONCURRENCY", "0"),
            ("LLM_CONCURRENCY", "65"),
            ("LLM_TIMEOUT_S", "0"),
            ("LLM_TIMEOUT_S", "601"),
            ("LLM_TIMEOUT_S", "1m"),
            ("LLM_PROMPT_PRICE", "-1"),
            ("LLM_PROMPT_PRICE", "cheap"),
            ("LLM_PROMPT_PRICE", "inf"),
            ("LLM_COMPLETION_PRICE", "-1"),
            ("LLM_COMPLETION_PRICE", "NaN"),
            ("OPENAI_API_KEY", "hunter2 hunter2"),
            ("DATABRICKS_HOST", "ftp://x"),
            ("DATABRICKS_HOST", "a b"),
            ("DATABRICKS_TOKEN", "hunter2 hunter2"),
            ("ANTHROPIC_API_KEY", "hunter2 hunter2"),
            ("EXAMPLE_URL", "example.org"),
        ] {
            let error = read(&[(name, wrong)]).expect_err(&format!("{name}={wrong}"));
            let said = format!("{} {:?}", error.chain(), error.hint_text());
            assert!(said.contains(&format!("`{name}`")), "{name}={wrong}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn lambda_needs_a_folder_that_lasts() {
        let on_lambda = read(&[("AWS_LAMBDA_FUNCTION_NAME", "collect_all_rss_feeds")]).unwrap();
        let said = |config: &Config| config.data_dir().unwrap_err().to_string();
        assert!(said(&on_lambda).ends_with("there is no `ES_URL` and `DATABASE_URL`"));
        let half = [("AWS_LAMBDA_FUNCTION_NAME", "x"), ("DATABASE_URL", "postgresql://u:p@h/d")];
        assert!(said(&read(&half).unwrap()).ends_with("there is no `ES_URL`"));
        assert_eq!(read(&[]).unwrap().data_dir().unwrap(), PathBuf::from("minerva-data"));
    }

    #[test]
    fn every_setting_says_what_it_is_for() {
        for (concern, settings) in all() {
            for setting in settings {
                assert!(!setting.about.is_empty(), "{concern}: `{}` has no text", setting.name);
            }
        }
    }
}
