//! `DATABASE_URL`: where PostgreSQL is, in the forms that people and the predecessor write it.

use url::Url;

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
        let mut url = Url::parse(text).map_err(|cause| {
            format!("not a URL: {cause} (signs such as `@`, `/`, `#` in a password are written `%40`, `%2F`, `%23`)")
        })?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(format!("`{}:` is not PostgreSQL: write `postgres://…`", url.scheme()));
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
        ] {
            let problem = Address::parse(text).unwrap_err();
            assert!(problem.contains(says) && !problem.contains("hunter2"), "{problem}");
        }
    }
}
