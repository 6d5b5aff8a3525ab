//! Which model the settings name: the general names first, then those of the predecessor and of the providers.

use base::config::{LanguageModel, Secret};
use base::{Error, Result};
use url::Url;

/// Which API a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    OpenAi,
    Anthropic,
    Databricks,
    Compatible,
}

/// What `OPENAI_MODEL` was in the predecessor when it was unset.
const OPENAI_MODEL: &str = "gpt-4o-mini";

/// A model that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) provider: Provider,
    pub(crate) url: Url,
    pub(crate) key: Option<Secret<String>>,
    pub(crate) model: String,
}

impl Provider {
    fn of(settings: &LanguageModel) -> Option<Self> {
        match settings.provider.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("openai") => Some(Self::OpenAi),
            Some("anthropic") => Some(Self::Anthropic),
            Some("databricks") => Some(Self::Databricks),
            Some(_) => Some(Self::Compatible),
            None if settings.url.is_some() => Some(Self::Compatible),
            None if settings.databricks_host.is_some() => Some(Self::Databricks),
            None if settings.openai_api_key.is_some() => Some(Self::OpenAi),
            None if settings.anthropic_api_key.is_some() => Some(Self::Anthropic),
            None => None,
        }
    }
}

impl Endpoint {
    /// The model that the settings name; `None` where they name nothing that could be asked.
    ///
    /// # Errors
    /// `Config`, naming the setting that is missing.
    pub(crate) fn of(settings: &LanguageModel) -> Result<Option<Self>> {
        let Some(provider) = Provider::of(settings) else {
            return match &settings.api_key {
                Some(_) => {
                    Err(missing("LLM_PROVIDER", "`LLM_API_KEY` is set: name whose key it is"))
                }
                None => Ok(None),
            };
        };
        let (key_name, key) = match provider {
            Provider::OpenAi => ("OPENAI_API_KEY", &settings.openai_api_key),
            Provider::Anthropic => ("ANTHROPIC_API_KEY", &settings.anthropic_api_key),
            Provider::Databricks => ("DATABRICKS_TOKEN", &settings.databricks_token),
            Provider::Compatible => ("", &None),
        };
        let key = settings.api_key.as_ref().or(key.as_ref()).cloned();
        // A server of one's own may want none.
        if key.is_none() && provider != Provider::Compatible {
            return Err(missing("LLM_API_KEY", &format!("set it, or `{key_name}`")));
        }
        let model = match provider {
            Provider::OpenAi => settings.openai_model.as_deref().or(Some(OPENAI_MODEL)),
            Provider::Anthropic => settings.anthropic_model.as_deref(),
            Provider::Databricks => settings.databricks_model.as_deref(),
            Provider::Compatible => None,
        };
        let model = settings.model.as_deref().or(model);
        let model = model.ok_or_else(|| {
            missing(
                "LLM_MODEL",
                "set it to the model's name, which `GET …/models` of its server lists",
            )
        })?;
        let base = match (&settings.url, provider, &settings.databricks_host) {
            (Some(url), ..) => url.clone(),
            (None, Provider::OpenAi, _) => parsed("https://api.openai.com/v1")?,
            (None, Provider::Anthropic, _) => parsed("https://api.anthropic.com/v1")?,
            (None, Provider::Databricks, Some(host)) if host.contains("://") => parsed(host)?,
            (None, Provider::Databricks, Some(host)) => parsed(&format!("https://{host}"))?,
            (None, Provider::Databricks, None) => {
                return Err(missing(
                    "LLM_URL",
                    "set it to the workspace's address, or `DATABRICKS_HOST`",
                ));
            }
            (None, Provider::Compatible, _) => {
                return Err(missing("LLM_URL", "set it, as `http://127.0.0.1:8080/v1`"));
            }
        };
        let url = address(provider, &base, model)?;
        Ok(Some(Self { provider, url, key, model: model.to_owned() }))
    }

    /// What tells whether the model is there, at the cost of no token.
    pub(crate) fn listing(&self) -> Result<Url> {
        let mut url = self.url.clone();
        let path = url.path().to_owned();
        let behind = |end: &str| path.strip_suffix(end).map(ToOwned::to_owned);
        let path = match self.provider {
            Provider::Databricks => behind("/invocations").and_then(|path| {
                path.rsplit_once("/serving-endpoints/")
                    .map(|(base, name)| format!("{base}/api/2.0/serving-endpoints/{name}"))
            }),
            Provider::Anthropic => behind("/messages").map(|base| format!("{base}/models")),
            Provider::OpenAi | Provider::Compatible => {
                behind("/chat/completions").map(|base| format!("{base}/models"))
            }
        };
        let path = path.ok_or_else(|| Error::config("find what `LLM_URL` lists"))?;
        url.set_path(&path);
        Ok(url)
    }
}

/// Where questions go, from the address that people have: of the host, of the API, or of the method itself.
fn address(provider: Provider, base: &Url, model: &str) -> Result<Url> {
    let (first, method) = match provider {
        Provider::OpenAi | Provider::Compatible => ("/v1", "/chat/completions".to_owned()),
        Provider::Anthropic => ("/v1", "/messages".to_owned()),
        Provider::Databricks => ("/serving-endpoints", "/invocations".to_owned()),
    };
    let path = base.path().trim_end_matches('/');
    let mut url = base.clone();
    url.set_fragment(None);
    if path.ends_with(&method) {
        url.set_path(path);
        return Ok(url);
    }
    let path = if path.is_empty() { first } else { path };
    url.set_path(path);
    if provider == Provider::Databricks && path.ends_with(first) {
        // As one part of the path, whatever it holds.
        let mut parts = url.path_segments_mut().map_err(|()| Error::config("build the address"))?;
        parts.push(model);
        drop(parts);
    }
    let path = format!("{}{method}", url.path());
    url.set_path(&path);
    Ok(url)
}

fn parsed(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|cause| Error::config("build the model's address").because(cause))
}

fn missing(name: &str, hint: &str) -> Error {
    Error::config(format!("ask the language model: `{name}` is unset")).hint(hint)
}

#[cfg(test)]
mod tests {
    use base::config::Config;

    use super::*;

    fn of(settings: &[(&str, &str)]) -> Result<Option<Endpoint>> {
        let lookup = |name: &str| {
            settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Endpoint::of(&Config::from_lookup(&lookup, &[])?.language_model)
    }

    #[track_caller]
    fn check(settings: &[(&str, &str)], url: &str, model: &str) {
        let endpoint = of(settings).unwrap().unwrap();
        assert_eq!((endpoint.url.as_str(), endpoint.model.as_str()), (url, model));
    }

    #[test]
    fn each_provider_is_found_by_its_own_names_and_by_ours() {
        check(
            &[("OPENAI_API_KEY", "k")],
            "https://api.openai.com/v1/chat/completions",
            OPENAI_MODEL,
        );
        check(
            &[("LLM_PROVIDER", "OpenAI"), ("LLM_API_KEY", "k"), ("OPENAI_MODEL", "gpt-5")],
            "https://api.openai.com/v1/chat/completions",
            "gpt-5",
        );
        let databricks = "https://adb-1.net/serving-endpoints/m%2F1/invocations";
        let token = ("DATABRICKS_TOKEN", "k");
        check(&[("DATABRICKS_HOST", "adb-1.net"), token, ("LLM_MODEL", "m/1")], databricks, "m/1");
        check(
            &[("DATABRICKS_HOST", "https://adb-1.net/"), token, ("DATABRICKS_MODEL", "m/1")],
            databricks,
            "m/1",
        );
        check(
            &[("LLM_PROVIDER", "databricks"), ("LLM_URL", databricks), token, ("LLM_MODEL", "m")],
            databricks,
            "m",
        );
        check(
            &[("ANTHROPIC_API_KEY", "k"), ("LLM_MODEL", "claude")],
            "https://api.anthropic.com/v1/messages",
            "claude",
        );
        for url in ["http://h:1", "http://h:1/", "http://h:1/v1/", "http://h:1/v1/chat/completions"]
        {
            check(&[("LLM_URL", url), ("LLM_MODEL", "m")], "http://h:1/v1/chat/completions", "m");
        }
    }

    #[test]
    fn nothing_set_is_none_and_a_half_is_named() {
        assert!(of(&[]).unwrap().is_none());
        assert!(of(&[("OPENAI_MODEL", "m")]).unwrap().is_none());
        for (settings, named) in [
            (&[("LLM_API_KEY", "hunter2")][..], "LLM_PROVIDER"),
            (&[("LLM_PROVIDER", "openai")], "LLM_API_KEY"),
            (&[("LLM_PROVIDER", "compatible")], "LLM_MODEL"),
            (&[("LLM_PROVIDER", "compatible"), ("LLM_MODEL", "m")], "LLM_URL"),
            (
                &[
                    ("LLM_PROVIDER", "databricks"),
                    ("DATABRICKS_TOKEN", "hunter2"),
                    ("LLM_MODEL", "m"),
                ],
                "LLM_URL",
            ),
            (&[("ANTHROPIC_API_KEY", "hunter2")], "LLM_MODEL"),
            (&[("LLM_URL", "http://h")], "LLM_MODEL"),
        ] {
            let error = of(settings).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_lists_the_models_stands_beside() {
        for (settings, listing) in [
            (&[("OPENAI_API_KEY", "k")][..], "https://api.openai.com/v1/models"),
            (
                &[("ANTHROPIC_API_KEY", "k"), ("LLM_MODEL", "c")],
                "https://api.anthropic.com/v1/models",
            ),
            (
                &[("DATABRICKS_HOST", "h"), ("DATABRICKS_TOKEN", "k"), ("LLM_MODEL", "m")],
                "https://h/api/2.0/serving-endpoints/m",
            ),
        ] {
            assert_eq!(of(settings).unwrap().unwrap().listing().unwrap().as_str(), listing);
        }
    }
}
