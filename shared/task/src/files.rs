//! Files from a folder or from a bucket, by the same few words: what is there, and what one of them holds.
//!
//! A folder is read with the standard library, as it gives a file whose name is no UTF-8 as one bad entry; `object_store`'s
//! own folders fail the whole listing for it. [`Files`] writes nothing; an [`Outbox`] writes files by their names. No name leads
//! out of the place.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base::config::{Aws, Config};
use base::{Error, Result};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};

/// Files that a listing gives at most.
pub const FILES_MAX: usize = 200_000;

/// How often a bucket that does not answer is asked again, and for how long after the first time.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// A place that holds files.
#[derive(Clone)]
pub struct Files {
    place: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    Bucket(Arc<dyn ObjectStore>, Key),
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name within its folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed last, in milliseconds of the epoch.
    pub modified_ms: i64,
}

/// What signs requests to AWS: the key of the settings, else that of the machine's role.
pub(crate) fn signing(aws: &Aws) -> AmazonS3Builder {
    fetch::install_tls();
    let mut builder = AmazonS3Builder::new();
    if let Some(region) = &aws.region {
        builder = builder.with_region(region);
    }
    // Settings with half a key are refused when they are read.
    if let (Some(id), Some(key)) = (&aws.access_key_id, &aws.secret_access_key) {
        builder = builder.with_access_key_id(id).with_secret_access_key(key.expose());
    }
    if let Some(token) = &aws.session_token {
        builder = builder.with_token(token.expose());
    }
    builder
}

impl Files {
    /// The files at a folder or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// `Config`, when the place is malformed.
    pub fn at(place: &str, config: &Config) -> Result<Self> {
        let Some(rest) = place.strip_prefix("s3://") else {
            let kind = Kind::Folder(PathBuf::from(place));
            return Ok(Self { place: place.to_owned(), kind });
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let failed = |cause: object_store::Error| {
            Error::config(format!("open `{place}`"))
                .because(cause)
                .hint("a bucket is written `s3://bucket/prefix`; `local-runner help settings` lists those that begin with `AWS_`")
        };
        let mut builder = signing(&config.aws).with_bucket_name(bucket).with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        });
        if let Some(endpoint) = &config.aws.endpoint_url {
            let text = endpoint.as_str().trim_end_matches('/');
            builder = builder.with_endpoint(text).with_allow_http(endpoint.scheme() == "http");
        }
        let store = builder.build().map_err(failed)?;
        let prefix = Key::parse(prefix.trim_matches('/')).map_err(|cause| failed(cause.into()))?;
        Ok(Self { place: place.to_owned(), kind: Kind::Bucket(Arc::new(store), prefix) })
    }

    /// Where the files are, as it was written.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The files of a folder below the place, in the order of their names: no hidden ones, none of its own folders.
    ///
    /// # Errors
    /// `Config`, when a folder is not there; `Upstream`, when a listing ended early: then nothing is known of what is gone.
    pub async fn list(&self, folder: &str) -> Result<Vec<Found>> {
        let mut found = match &self.kind {
            Kind::Folder(place) => {
                let path = place.join(folder);
                tokio::task::spawn_blocking(move || list_folder(&path))
                    .await
                    .map_err(|_| Error::upstream("list a folder: the reader panicked"))??
            }
            Kind::Bucket(store, prefix) => {
                let prefix = prefix.clone().join(folder);
                let objects = store.list(Some(&prefix)).take(FILES_MAX + 1).try_collect::<Vec<_>>();
                let objects = objects.await.map_err(|cause| self.failed(folder, &cause))?;
                let of = |object: object_store::ObjectMeta| {
                    let mut below = object.location.prefix_match(&prefix)?;
                    let name = below.next()?.as_ref().to_owned();
                    let modified_ms = object.last_modified.timestamp_millis();
                    let is_file = below.next().is_none() && !name.starts_with('.');
                    is_file.then_some(Found { name, size: object.size, modified_ms })
                };
                objects.into_iter().filter_map(of).collect()
            }
        };
        if found.len() > FILES_MAX {
            return Err(Error::config(format!(
                "list `{}/{folder}`: it holds more than {FILES_MAX} files",
                self.place
            ))
            .hint("check that the setting names the right place"));
        }
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// What a file holds, up to `cap` bytes.
    ///
    /// # Errors
    /// `Upstream`, when it cannot be read; `Format`, when it is larger.
    pub async fn read(&self, folder: &str, name: &str, cap: u64) -> Result<Vec<u8>> {
        let too_large = || too_large(name, cap);
        match &self.kind {
            Kind::Folder(place) => {
                let path = place.join(folder).join(name);
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    std::fs::File::open(&path)?.take(cap + 1).read_to_end(&mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                });
                let bytes = read
                    .await
                    .map_err(|_| Error::upstream(format!("read `{name}`: the reader panicked")))?;
                let bytes = bytes
                    .map_err(|cause| Error::upstream(format!("read `{name}`")).because(cause))?;
                if bytes.len() as u64 > cap { Err(too_large()) } else { Ok(bytes) }
            }
            Kind::Bucket(store, prefix) => {
                // As it was listed: `join` would write `[x]` as `%5Bx%5D`, which is another key.
                let key = Key::parse(format!("{prefix}/{folder}/{name}"));
                let key = key.map_err(|cause| self.failed(name, &cause.into()))?;
                let object = store.get(&key).await.map_err(|cause| self.failed(name, &cause))?;
                if object.meta.size > cap {
                    return Err(too_large());
                }
                Ok(object.bytes().await.map_err(|cause| self.failed(name, &cause))?.to_vec())
            }
        }
    }

    fn failed(&self, what: &str, cause: &object_store::Error) -> Error {
        self.failed_to("read", what, cause)
    }

    fn failed_to(&self, verb: &str, what: &str, cause: &object_store::Error) -> Error {
        let said = said(cause);
        let is_config = matches!(
            cause,
            object_store::Error::NotFound { .. }
                | object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        ) || REFUSED.iter().any(|refused| said.contains(refused));
        let message = format!("{verb} `{what}` of `{}`: {said}", self.place);
        if is_config {
            Error::config(message)
                .hint("check the bucket's name and region and the keys (`AWS_…`); `local-runner help settings` lists them")
        } else {
            Error::upstream(message)
        }
    }
}

/// A place that files are given out at: each is there whole or not at all, and what else lies there is left alone.
pub struct Outbox(Files);

impl Outbox {
    /// The place at a folder, which is made where it is missing, or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// `Config`, when the place is malformed.
    pub fn at(place: &str, config: &Config) -> Result<Self> {
        Files::at(place, config).map(Self)
    }

    /// Where it is, as it was written.
    pub fn place(&self) -> &str {
        self.0.place()
    }

    /// What a file holds, up to `cap` bytes; nothing where there is no such file.
    ///
    /// # Errors
    /// `Config` or `Upstream`, when it cannot be read; `Format`, when it is larger.
    pub async fn read(&self, name: &str, cap: u64) -> Result<Option<Vec<u8>>> {
        match self.spot(name)? {
            Spot::File(path) if !path.exists() => Ok(None),
            Spot::File(_) => self.0.read("", name, cap).await.map(Some),
            Spot::Object(store, key) => {
                let object = match store.get(&key).await {
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    object => object.map_err(|cause| self.0.failed(name, &cause))?,
                };
                if object.meta.size > cap {
                    return Err(too_large(name, cap));
                }
                let bytes = object.bytes().await.map_err(|cause| self.0.failed(name, &cause))?;
                Ok(Some(bytes.to_vec()))
            }
        }
    }

    /// Puts a file in the place of the one of its name.
    ///
    /// # Errors
    /// `Config` or `Upstream`, when it cannot be written.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        match self.spot(name)? {
            Spot::File(path) => {
                let write = move || {
                    if let Some(folder) = path.parent() {
                        std::fs::create_dir_all(folder)?;
                    }
                    let part = path.with_extension("part");
                    std::fs::write(&part, bytes)?;
                    std::fs::rename(&part, &path)
                };
                self.on_disk("write", name, write).await
            }
            Spot::Object(store, key) => {
                let put = store.put(&key, bytes.into()).await;
                put.map(drop).map_err(|cause| self.0.failed_to("write", name, &cause))
            }
        }
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn remove(&self, name: &str) -> Result<()> {
        match self.spot(name)? {
            Spot::File(path) => {
                let remove = move || match std::fs::remove_file(path) {
                    Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(cause),
                    _ => Ok(()),
                };
                self.on_disk("remove", name, remove).await
            }
            Spot::Object(store, key) => match store.delete(&key).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(cause) => Err(self.0.failed_to("remove", name, &cause)),
            },
        }
    }

    /// Where a file of that name is.
    fn spot(&self, name: &str) -> Result<Spot> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
            return Err(Error::format(format!("give out a file under the name `{name}`")));
        }
        Ok(match &self.0.kind {
            Kind::Folder(folder) => Spot::File(folder.join(name)),
            Kind::Bucket(store, prefix) => {
                Spot::Object(Arc::clone(store), prefix.clone().join(name))
            }
        })
    }

    async fn on_disk(
        &self,
        verb: &str,
        name: &str,
        work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|_| Error::upstream(format!("{verb} `{name}`: it panicked")))?;
        done.map_err(|cause| {
            Error::config(format!("{verb} `{name}` in `{}`", self.place()))
                .because(cause)
                .hint("check that the folder may be written and has room")
        })
    }
}

/// A file of an [`Outbox`].
enum Spot {
    File(PathBuf),
    Object(Arc<dyn ObjectStore>, Key),
}

fn too_large(name: &str, cap: u64) -> Error {
    Error::format(format!("read `{name}`: it is larger than {cap} bytes"))
}

/// What says that asking again will not help, where a listing's error is of no kind of its own.
const REFUSED: [&str; 6] = [
    "status code: 401",
    "status code: 403",
    "status code: 404",
    "ExpiredToken",
    "InvalidToken",
    "incorrectly configured region",
];

/// What a bucket's server said, without the body that came along: it may repeat the request, and with it the session's token.
fn said(cause: &object_store::Error) -> String {
    let text = cause.to_string();
    let body_at = ANSWERED.iter().find_map(|mark| {
        let behind = text.find(mark)? + mark.len();
        // The status is words and digits; what follows it is the body.
        Some(
            behind
                + text[behind..]
                    .find(|letter: char| !is_of_status(letter))
                    .unwrap_or(text.len() - behind),
        )
    });
    let Some((head, body)) = body_at.and_then(|at| text.split_at_checked(at)) else { return text };
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map(|(code, _)| code).filter(|code| {
        code.len() <= CODE_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    code.map_or_else(|| head.to_owned(), |code| format!("{head}: {code}"))
}

/// What stands before the status, and behind it the body, in an error of a bucket's client.
const ANSWERED: [&str; 2] = ["status code: ", "error response"];

/// The longest of S3's error codes has about forty letters.
const CODE_MAX: usize = 64;

fn is_of_status(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == ' '
}

fn list_folder(path: &Path) -> Result<Vec<Found>> {
    let shown = path.display();
    let entries = std::fs::read_dir(path).map_err(|cause| {
        Error::config(format!("list the folder `{shown}`"))
            .because(cause)
            .hint("check that the setting names the right folder, and that it may be read")
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let early =
            |cause| Error::upstream(format!("list the folder `{shown}` to its end")).because(cause);
        let entry = entry.map_err(early)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A link that leads nowhere, or a file that goes while it is looked at, is not there.
        let Ok(about) = std::fs::metadata(entry.path()) else { continue };
        if name.starts_with('.') || !about.is_file() {
            continue;
        }
        let modified = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ms =
            modified.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
        found.push(Found { name, size: about.len(), modified_ms });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_sends_along_is_not_repeated() {
        let of = |text: &'static str| {
            said(&object_store::Error::Generic { store: "S3", source: text.into() })
        };
        let page = "status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
            <CanonicalRequest>x-amz-security-token:t0ken</CanonicalRequest></Error>";
        assert!(
            of(page).ends_with("status code: 403 Forbidden: SignatureDoesNotMatch"),
            "{}",
            of(page)
        );
        for page in [
            "status code: 502: <html>t0ken",
            "status code: 502: {\"headers\": {\"x-amz-security-token\": \"t0ken\"}}",
            "status code: 502: t0ken",
            "status code: 502: <Error><Code>x t0ken</Code>",
        ] {
            assert!(of(page).ends_with("status code: 502"), "{}", of(page));
        }
        assert!(of("Server returned error response: t0ken").ends_with("error response"));
        assert!(of("no route to host").ends_with("no route to host"));
    }
}
