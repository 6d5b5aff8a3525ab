//! The warninglists that indicators are held against: of a folder, of a tarball at an address, or those compiled in.
//!
//! They are read once a run. A process that serves many runs asks an address on condition that it changed, and goes on with
//! what it has. An address that does not answer fails the run: with other lists than those that are set, most documents would
//! be written now, and again when it answers.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use base::address::masked;
use base::config::Config;
use base::validators::Validators;
use base::{Error, Result};
use fetch::{Http, Limits, Request};
use indicator::IndicatorKind;
use indicator::warninglist::{LIST_BYTES_MAX, LISTS_MAX, Read, Reader, Warninglists};
use task::{Ctx, Visit, tarball};
use tokio::sync::Mutex;
use url::Url;

use crate::observation::Warned;

const ACCEPT: &str = "application/gzip, application/x-gzip, application/x-tar, */*;q=0.5";
const HINT: &str = "`WARNINGLISTS` is a folder with `lists/NAME/list.json`, or the address of a `.tar.gz` with them; without it, the set compiled in holds";

/// What a list's file is called.
const FILE: &str = "list.json";

/// Warninglists as they were read.
#[derive(Clone, Debug)]
pub struct Lists(Arc<Read>);

/// What this process read last.
struct CachedLists {
    place: String,
    run_id: String,
    validators: Validators,
    lists: Lists,
}

static KEPT: Mutex<Option<CachedLists>> = Mutex::const_new(None);
static BUILT_IN: LazyLock<Lists> = LazyLock::new(|| Lists(Arc::new(Warninglists::built_in())));

impl Lists {
    /// Those that are set, once a run.
    ///
    /// # Errors
    /// `Config`, when the place holds no list; `Upstream`, when an address does not answer; `Format`, when it gives no whole
    /// tarball.
    pub async fn load(ctx: &Ctx) -> Result<Self> {
        let Some(place) = &ctx.config.indicators.warninglists else {
            return Ok(Self::built_in().await);
        };
        let mut kept = KEPT.lock().await;
        let known = kept.as_ref().filter(|kept| kept.place == *place);
        if let Some(known) = known.filter(|known| known.run_id == ctx.run.run_id) {
            return Ok(known.lists.clone());
        }
        let before = known.map(|known| (known.validators.clone(), known.lists.clone()));
        let (lists, validators) = of_place(&ctx.http, place, before).await?;
        *kept = Some(CachedLists {
            place: place.clone(),
            run_id: ctx.run.run_id.clone(),
            validators,
            lists: lists.clone(),
        });
        Ok(lists)
    }

    /// Those that are set, once a run; what of them could not be read is noted with the visit.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn of_visit(visit: &mut Visit<'_>) -> Result<Self> {
        let lists = Self::load(visit.ctx()).await?;
        if let Some(note) = lists.note() {
            visit.note(note);
        }
        Ok(lists)
    }

    /// Those that are set, for who is no run.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn read(config: &Config) -> Result<Self> {
        let Some(place) = &config.indicators.warninglists else {
            return Ok(Self::built_in().await);
        };
        let clock = config.behaviour.clock;
        let http = Http::new(&config.network, move || clock.now(None))?;
        Ok(of_place(&http, place, None).await?.0)
    }

    /// The set compiled in.
    pub async fn built_in() -> Self {
        apart(|| BUILT_IN.clone()).await.unwrap_or_else(|_| BUILT_IN.clone())
    }

    /// The lists that an indicator, in normal form, is on.
    pub fn hits(&self, kind: IndicatorKind, value: &str) -> Vec<Warned> {
        let hits = self.0.lists.hits(kind, value);
        let warned = hits.into_iter().map(|list| Warned {
            name: list.name.clone(),
            version: list.version,
            category: list.category.as_str().to_owned(),
        });
        warned.collect()
    }

    /// What tells these lists from others, in whatever order they were read.
    pub fn digest(&self) -> u64 {
        self.0.digest
    }

    /// What of them could not be read, for a visit's notes.
    pub fn note(&self) -> Option<String> {
        let Read { rejects, rejected, lists, digest: _ } = &*self.0;
        let first = rejects.first()?;
        let of = lists.lists().len();
        Some(format!(
            "{rejected} entries or files of warninglists left away beside {of} lists: {first}"
        ))
    }
}

/// Does slow work on a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| {
        Error::format("read the warninglists: the reader panicked")
            .because(cause)
            .hint("this is a bug: please report it with the lists' version")
    })
}

/// Those of a folder or of a tarball at an address.
async fn of_place(
    http: &Http,
    place: &str,
    before: Option<(Validators, Lists)>,
) -> Result<(Lists, Validators)> {
    if place.contains("://") {
        return fetched(http, place, before).await;
    }
    let folder = PathBuf::from(place);
    let lists = apart(move || of_folder(&folder)).await??;
    Ok((lists, Validators::default()))
}

/// Those of a tarball, or those of before where it has not changed.
async fn fetched(
    http: &Http,
    place: &str,
    before: Option<(Validators, Lists)>,
) -> Result<(Lists, Validators)> {
    let url = Url::parse(place).map_err(|cause| {
        Error::config("read the address in `WARNINGLISTS`").because(cause).hint(HINT)
    })?;
    let request = Request::get(&url).accept(ACCEPT).limits(Limits::ARCHIVE);
    let request = match &before {
        Some((validators, _)) => request.validators(validators),
        None => request,
    };
    let answer = match (http.send(request).await?.body()?, before) {
        (Some(answer), _) => answer,
        (None, Some((validators, lists))) => return Ok((lists, validators)),
        (None, None) => {
            return Err(Error::upstream(format!(
                "read `{}`: it has not changed since it was never read",
                masked(&url)
            )));
        }
    };
    let validators = answer.validators.clone();
    let shown = masked(&url);
    let lists = apart(move || {
        if answer.truncated {
            return Err("the connection ended early".to_owned());
        }
        of_tarball(&answer.body)
    });
    let lists = lists.await?.map_err(|why| {
        Error::format(format!("read the warninglists at `{shown}`: {why}")).hint(HINT)
    })?;
    Ok((lists, validators))
}

fn of_tarball(body: &[u8]) -> Result<Lists, String> {
    let mut reader = Reader::default();
    let outcome = tarball::read(body, LIST_BYTES_MAX as u64, is_list, |name, json| {
        reader.add(name, &json);
    });
    if let Some(why) = outcome.broken {
        return Err(why);
    }
    outcome.rejects.into_iter().for_each(|reason| reader.reject(reason));
    finished(reader)
}

/// Whether a path is that of a list: `list.json` in a folder of its own.
fn is_list(path: &str) -> bool {
    path.strip_suffix(FILE).is_some_and(|folder| folder.len() > 1 && folder.ends_with('/'))
}

/// Those of a folder: of `lists/*/list.json` below it, or of `*/list.json`.
fn of_folder(folder: &Path) -> Result<Lists> {
    let below = folder.join("lists");
    let place = if below.is_dir() { below } else { folder.to_owned() };
    let failed = |cause: std::io::Error| {
        Error::config(format!("read the warninglists in `{}`", place.display()))
            .because(cause)
            .hint(HINT)
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&place).map_err(failed)? {
        let file = entry.map_err(failed)?.path().join(FILE);
        if file.is_file() {
            files.push(file);
        }
        // One more than are read, which tells of the others.
        if files.len() > LISTS_MAX {
            break;
        }
    }
    files.sort();
    let mut reader = Reader::default();
    for file in files {
        let shown = file.strip_prefix(&place).unwrap_or(&file).display().to_string();
        match capped(&file) {
            Ok(json) => reader.add(&shown, &json),
            Err(cause) => reader.reject(format!("{shown}: {cause}")),
        }
    }
    finished(reader).map_err(|why| {
        Error::config(format!("read the warninglists in `{}`: {why}", place.display())).hint(HINT)
    })
}

/// What a file holds, and a byte more than a list may have where it has more.
fn capped(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    fs::File::open(file)?.take(LIST_BYTES_MAX as u64 + 1).read_to_end(&mut json)?;
    Ok(json)
}

fn finished(reader: Reader) -> Result<Lists, String> {
    let read = reader.finish();
    if read.lists.lists().len() == 0 {
        let first = read.rejects.first().map_or_else(String::new, |first| format!(": {first}"));
        return Err(format!("it holds no list{first}"));
    }
    Ok(Lists(Arc::new(read)))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const SHORTENERS: &str = r#"{"list":["bit.ly"],"matching_attributes":["domain","url"],"name":"Shorteners","type":"hostname","version":3}"#;

    fn packed(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tarball = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, body) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(body.len() as u64);
            header.set_mode(0o644);
            tarball.append_data(&mut header, name, body.as_bytes()).unwrap();
        }
        tarball.into_inner().unwrap().finish().unwrap()
    }

    #[track_caller]
    fn check(lists: &Lists) {
        let hits = lists.hits(IndicatorKind::Url, "https://bit.ly/a");
        let expected = Warned {
            name: "Shorteners".to_owned(),
            version: 3,
            category: "false_positive".to_owned(),
        };
        assert_eq!(hits, [expected]);
        assert!(lists.note().unwrap().contains("broken/list.json"), "{:?}", lists.note());
    }

    #[test]
    fn a_tarball_is_read_as_a_repository_gives_it() {
        let body = packed(&[
            ("misp-warninglists-main/lists/broken/list.json", "{"),
            ("misp-warninglists-main/lists/url-shortener/list.json", SHORTENERS),
            ("misp-warninglists-main/schema.json", "{"),
        ]);
        check(&of_tarball(&body).unwrap());
        assert!(of_tarball(&body[..body.len() - 20]).is_err(), "it is cut off");
        assert!(of_tarball(&packed(&[("a/README.md", "")])).unwrap_err().contains("no list"));
        assert!(of_tarball(b"<html>").is_err());
    }

    #[test]
    fn a_folder_is_a_clone_or_what_stands_in_its_lists() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of_folder(folder.path()).is_err(), "it is empty");
        for (name, body) in [("broken", "{"), ("url-shortener", SHORTENERS)] {
            let below = folder.path().join("lists").join(name);
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join(FILE), body).unwrap();
        }
        fs::write(folder.path().join("lists/README"), "").unwrap();
        check(&of_folder(folder.path()).unwrap());
        check(&of_folder(&folder.path().join("lists")).unwrap());
    }
}
