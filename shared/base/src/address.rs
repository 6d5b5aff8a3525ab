//! Addresses that hold secrets: how any is shown, and `DATABASE_URL`, in the forms that people and the predecessor write it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use url::Url;

use crate::checks;
use crate::config::Secret;

/// The schemes that mean PostgreSQL; the last is the predecessor's.
const SCHEMES: [&str; 3] = ["postgres", "postgresql", "postgresql+asyncpg"];

/// What the URL may ask for, by the names of libpq.
const OPTIONS: [&str; 7] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "options",
    "application_name",
    "statement-cache-capacity",
];

/// What `sslmode` may be.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The server's own port.
const PORT: u16 = 5432;

/// What only the predecessor's driver understands, and nobody misses here.
const NOT_OURS: [&str; 3] = ["prepared_statement_cache_size", "timeout", "command_timeout"];

/// Where PostgreSQL is and how to get in. Shown without the password, and never any other way.
#[derive(Clone, Debug)]
pub struct Address {
    url: Secret<Url>,
    shown: String,
}

impl Address {
    /// Reads `postgres://user:password@host:port/database?sslmode=…`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text)
            .map_err(|cause| format!("not a URL: {cause}; or {}", checks::ESCAPES))?;
        if !SCHEMES.contains(&url.scheme()) || url.cannot_be_a_base() {
            return Err(format!("`{}:` is not PostgreSQL: write `postgres://…`", url.scheme()));
        }
        // What follows would be taken for a port, a database or an option, and shown.
        checks::password_ends_before_the_host(text)?;
        if url.fragment().is_some() {
            return Err(checks::ESCAPES.to_owned());
        }
        let mut given = Vec::new();
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                // The name that the predecessor's driver gives it.
                "ssl" | "sslmode" => {
                    let mode = if name == "ssl" { ssl(&value) } else { &*value };
                    if !SSL_MODES.contains(&mode) {
                        return Err(format!(
                            "unknown `sslmode`: `{mode}`; known: {}",
                            SSL_MODES.join(", ")
                        ));
                    }
                    given.push(("sslmode".to_owned(), mode.to_owned()));
                }
                known if OPTIONS.contains(&known) => {
                    given.push((known.to_owned(), value.into_owned()));
                }
                ignored if NOT_OURS.contains(&ignored) => {}
                // Behind a `?` in a password stands the rest of it.
                unknown
                    if !unknown
                        .chars()
                        .all(|letter| letter.is_ascii_lowercase() || letter == '_') =>
                {
                    return Err(
                        "an option that is none (a `?` in a password is written `%3F`)".to_owned()
                    );
                }
                unknown => {
                    return Err(format!(
                        "unknown option `{unknown}`; known: {}",
                        OPTIONS.join(", ")
                    ));
                }
            }
        }
        url.set_query(None);
        if !given.is_empty() {
            url.query_pairs_mut().extend_pairs(given);
        }
        let user = match url.username() {
            "" => String::new(),
            user => format!("{user}@"),
        };
        let (host, port) = (url.host_str().unwrap_or("localhost"), url.port().unwrap_or(PORT));
        let shown = format!("postgres://{user}{host}:{port}{}", url.path());
        Ok(Self { url: Secret::new(url), shown })
    }

    /// What a driver connects with.
    pub fn url(&self) -> &Secret<Url> {
        &self.url
    }

    /// The address without the password.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// What stands in place of a secret.
const MASK: &str = "***";

/// What the name of a query's key holds, letters only, if its value is a secret.
const SECRET_PARTS: [&str; 12] = [
    "token",
    "secret",
    "passw",
    "passphrase",
    "pwd",
    "auth",
    "signature",
    "credential",
    "session",
    "jwt",
    "apikey",
    "accesskey",
];

/// Names of keys whose value is a secret, letters only.
const SECRET_NAMES: [&str; 9] = ["key", "pass", "pw", "sig", "sid", "code", "hash", "otp", "pin"];

/// Whether the value of a query's key, or of a header, is a secret: `key`, `api_key`, `X-Amz-Signature`, `feed_token`.
pub fn is_secret(name: &str) -> bool {
    let decoded =
        url::form_urlencoded::parse(name.as_bytes()).next().map(|(name, _)| name.into_owned());
    let letters: String = decoded
        .as_deref()
        .unwrap_or(name)
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    SECRET_NAMES.contains(&letters.as_str())
        || letters.ends_with("key")
        || SECRET_PARTS.iter().any(|part| letters.contains(part))
}

/// An address as it may be shown or stored: `***` for its user and password, and for the values of secret keys in its query
/// and its fragment. One without any is shown as it is.
pub fn masked(url: &Url) -> String {
    let mut shown = url.clone();
    let pairs = |text: &str| -> String {
        let shown = text.split('&').map(|pair| match pair.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        });
        shown.collect::<Vec<_>>().join("&")
    };
    let query = url.query().map(pairs);
    shown.set_query(query.as_deref());
    let fragment = url.fragment().map(pairs);
    shown.set_fragment(fragment.as_deref());
    if !url.username().is_empty() || url.password().is_some() {
        // Fails for addresses without a host only, which have no user either.
        let _ = shown.set_password(None);
        let _ = shown.set_username(MASK);
    }
    shown.into()
}

/// The longest address that is shown whole; a redirect's target can be any length.
const SHOWN_MAX: usize = 300;

/// A masked address for a sentence, where it stands between backticks.
pub fn shown(url: &Url) -> String {
    let mut text = masked(url).replace('`', "%60");
    if text.len() > SHOWN_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_MAX));
        text.push('…');
    }
    text
}

/// The same address without user, password and secret keys: what links beside it are resolved against.
pub fn without_secrets(url: &Url) -> Url {
    let mut bare = url.clone();
    let _ = bare.set_password(None);
    let _ = bare.set_username("");
    if let Some(query) = url.query() {
        let is_kept = |pair: &&str| !is_secret(pair.split('=').next().unwrap_or_default());
        let kept = query.split('&').filter(is_kept).collect::<Vec<_>>().join("&");
        bare.set_query((!kept.is_empty()).then_some(kept.as_str()));
    }
    bare
}

/// The secrets of an address, as they are written in it, as they are meant and as a header holds them: user, password, and the
/// values of secret keys.
pub fn secrets_of(url: &Url) -> Vec<String> {
    let decoded = |text: &str| {
        let pair = format!("x={}", text.replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
        decoded.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let mut written = vec![user, password];
    for text in [url.query(), url.fragment()].into_iter().flatten() {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        written.extend(pairs.filter(|(name, _)| is_secret(name)).map(|(_, value)| value));
    }
    let mut all: Vec<String> =
        written.iter().flat_map(|text| [(*text).to_owned(), decoded(text)]).collect();
    all.retain(|text| !text.is_empty());
    if !all.is_empty() {
        all.push(BASE64.encode(format!("{}:{}", decoded(user), decoded(password))));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The value of `ssl` as one of `sslmode`.
fn ssl(value: &str) -> &str {
    match value {
        "true" | "True" | "1" => "require",
        "false" | "False" | "0" => "disable",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (address, shown) in [
            (
                "https://user:pass@h.example/feed?key=abc&n=1",
                "https://***@h.example/feed?key=***&n=1",
            ),
            ("https://token@h.example/feed", "https://***@h.example/feed"),
            ("https://:pass@h.example/", "https://***@h.example/"),
            (
                "https://h.example/f?Api-Key=a&api%5Fkey=b&access_token=c&X-Amz-Signature=d",
                "https://h.example/f?Api-Key=***&api%5Fkey=***&access_token=***&X-Amz-Signature=***",
            ),
            (
                "https://h.example/f?private_token=a#token=b",
                "https://h.example/f?private_token=***#token=***",
            ),
            (
                "https://h.example/f?q=key&keyword=x&page=2&key=#top",
                "https://h.example/f?q=key&keyword=x&page=2&key=#top",
            ),
            ("https://h.example/feed/?a=1&&b", "https://h.example/feed/?a=1&&b"),
            ("https://h.example/?sid=1&Token=d&q=x", "https://h.example/?sid=***&Token=***&q=x"),
        ] {
            let url = Url::parse(address).unwrap();
            assert_eq!(super::shown(&url), shown);
            assert_eq!(masked(&url), shown);
            let bare = without_secrets(&url).to_string();
            assert!(
                !bare.contains('@') && !bare.contains("oken=a") && !bare.contains("key=a"),
                "{bare}"
            );
        }
        let quoted = Url::parse("https://h.example/?a=`b`").unwrap();
        assert_eq!(shown(&quoted), "https://h.example/?a=%60b%60");
        let long = Url::parse(&format!("https://h.example/{}", "é".repeat(400))).unwrap();
        let long = shown(&long);
        assert!(long.len() < SHOWN_MAX + 5 && long.ends_with('…'));
        let url = Url::parse("https://ana:p%40ss@h.example/f?a=1&key=2%2B#token=t").unwrap();
        let header = BASE64.encode("ana:p@ss");
        assert_eq!(secrets_of(&url), ["2%2B", "2+", &header, "ana", "p%40ss", "p@ss", "t"]);
        assert!(secrets_of(&Url::parse("https://h.example/f?a=1").unwrap()).is_empty());
        let url = Url::parse("https://u:p@h.example/f?a=1&key=2").unwrap();
        assert_eq!(without_secrets(&url).as_str(), "https://h.example/f?a=1");
    }

    #[test]
    fn the_forms_that_people_write_mean_the_same() {
        for text in [
            "postgres://minerva:p%40ss@db.lan:5433/intel",
            "postgresql://minerva:p%40ss@db.lan:5433/intel",
            "postgresql+asyncpg://minerva:p%40ss@db.lan:5433/intel?ssl=require&command_timeout=60",
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.shown(), "postgres://minerva@db.lan:5433/intel");
            assert!(
                !format!("{address:?}").contains("ss@") && !format!("{address:?}").contains("%40")
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, says) in [
            ("mysql://a:hunter2@b/c", "not PostgreSQL"),
            ("postgres://a:hunter2/x@b/c", "not a URL"),
            ("postgres://a:hunter2@b/c?sslmod=require", "unknown option `sslmod`"),
            ("postgres://a:hunter2@b/c?sslmode=maybe", "maybe"),
            ("postgres://a:12?hunter2@b/c", "`%3F`"),
            ("postgres://a:12/hunter2@b/c", "`%2F`"),
            ("postgres://a:12#hunter2@b/c", "`%23`"),
            ("postgres://a:x@12/hunter2@b/c", "`%2F`"),
            ("postgres://a:x@hunter2#y@b/c", "`%23`"),
            ("postgres://a:x@b/c#hunter2", "`%23`"),
            ("postgres:a:hunter2@b/c", "`postgres://…`"),
        ] {
            let problem = Address::parse(text).unwrap_err();
            assert!(problem.contains(says) && !problem.contains("hunter2"), "{problem}");
        }
        // An `@` alone is understood: the last one ends the password.
        let address = Address::parse("postgres://a:p@hunter2@b/c").unwrap();
        assert_eq!(address.shown(), "postgres://a@b:5432/c");
    }
}
