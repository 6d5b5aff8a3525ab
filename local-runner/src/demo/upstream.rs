//! The demo's sources on loopback: bundled real feeds, MISP events, lists, a rule repository and pulses, which live through day one
//! and rest on day two.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::{caveiratech, malpedia};

/// One bundled feed.
struct Feed {
    id: &'static str,
    name: &'static str,
    category: &'static str,
    language: &'static str,
    body: &'static [u8],
    life: Life,
}

/// What a feed does on day one, by slot (0 to 11).
#[derive(Clone, Copy)]
enum Life {
    /// Always the same, with validators: a repeated visit is a 304.
    Still,
    /// Always the same, without validators.
    StillWithoutValidators,
    /// Shows so many items fewer than it has, one more in each slot.
    Grows { missing: usize },
    /// Rewrites the title of its first item in this slot.
    Edits { slot: usize, from: &'static str, to: &'static str },
    /// Ends in the midst of its last item in this slot.
    CutOff { slot: usize },
    /// Has an unescaped `&` in its title in this slot.
    BareAmpersand { slot: usize },
    /// Answers 500 in this slot.
    Fails { slot: usize },
    /// Shows a login page in this slot.
    LoginPage { slot: usize },
}

const FEEDS: &[Feed] = &[
    Feed {
        id: "homelab",
        name: "reddit homelab",
        category: "blogs",
        language: "en",
        body: include_bytes!("feeds/atom_mediarss_reddit_1.xml"),
        life: Life::Grows { missing: 11 },
    },
    Feed {
        id: "notes",
        name: "Notes on the bundled indicators",
        category: "vendor-research",
        language: "en",
        body: include_bytes!("feeds/notes.xml"),
        life: Life::Grows { missing: 2 },
    },
    Feed {
        id: "the-register",
        name: "The Register",
        category: "news",
        language: "en",
        body: include_bytes!("feeds/atom_example_2.xml"),
        life: Life::Grows { missing: 1 },
    },
    Feed {
        id: "cloudflare",
        name: "The Cloudflare Blog",
        category: "vendor-research",
        language: "en",
        body: include_bytes!("feeds/rss_2.0_cloudflare.xml"),
        life: Life::Edits {
            slot: 3,
            from: "Credential Checking",
            to: "Credential Checking, revised",
        },
    },
    Feed {
        id: "debian",
        name: "Debian News",
        category: "vulnerabilities",
        language: "en",
        body: include_bytes!("feeds/rss_1.0_debian.xml"),
        life: Life::Edits { slot: 7, from: "11.6 released", to: "11.6 is released" },
    },
    Feed {
        id: "akamai",
        name: "The Akamai Blog",
        category: "vendor-research",
        language: "en",
        body: include_bytes!("feeds/atom_example_3.xml"),
        life: Life::Still,
    },
    Feed {
        id: "element",
        name: "Element Blog",
        category: "blogs",
        language: "en",
        body: include_bytes!("feeds/rss_2.0_element_io.xml"),
        life: Life::BareAmpersand { slot: 2 },
    },
    Feed {
        id: "ars-technica",
        name: "Ars Technica",
        category: "news",
        language: "en",
        body: include_bytes!("feeds/rss_2.0_example_5.xml"),
        life: Life::Fails { slot: 5 },
    },
    Feed {
        id: "golem",
        name: "Golem.de",
        category: "news",
        language: "de",
        body: include_bytes!("feeds/rss_1.0_iso8859.xml"),
        life: Life::LoginPage { slot: 6 },
    },
    Feed {
        id: "matrix",
        name: "matrix.org",
        category: "blogs",
        language: "en",
        body: include_bytes!("feeds/rss_2.0_matrix.xml"),
        life: Life::CutOff { slot: 4 },
    },
    Feed {
        id: "inovacao-tecnologica",
        name: "Inovação Tecnológica",
        category: "brazil",
        language: "pt-BR",
        body: include_bytes!("feeds/rss_2.0_encoding_1.xml"),
        life: Life::Still,
    },
    // The next two have no dates: each item is stored once all the same.
    Feed {
        id: "dicas-l",
        name: "Dicas-L",
        category: "brazil",
        language: "pt-BR",
        body: include_bytes!("feeds/rss_0.91_encoding_1.xml"),
        life: Life::StillWithoutValidators,
    },
    Feed {
        id: "tjrj",
        name: "Tribunal de Justiça do Rio de Janeiro",
        category: "brazil",
        language: "pt-BR",
        body: include_bytes!("feeds/rss_0.91_encoding_2.xml"),
        life: Life::StillWithoutValidators,
    },
    Feed {
        id: "daring-fireball",
        name: "Daring Fireball",
        category: "blogs",
        language: "en",
        body: include_bytes!("feeds/jsonfeed_example_1.json"),
        life: Life::Still,
    },
];

/// A feed of MISP events: its manifest, the oldest event first, and the events by their UUIDs.
const MANIFEST: &str = include_str!("misp/manifest.json");
const EVENTS: &[(&str, &[u8])] = &[
    (
        "27dceb7d-92bd-4848-bfbd-8570e86de7de.json",
        include_bytes!("misp/27dceb7d-92bd-4848-bfbd-8570e86de7de.json"),
    ),
    (
        "aacc7574-34ba-40fa-b39c-b682cea1387b.json",
        include_bytes!("misp/aacc7574-34ba-40fa-b39c-b682cea1387b.json"),
    ),
    (
        "d83c5966-efe8-45c2-92e4-e9eb1b9fb8fd.json",
        include_bytes!("misp/d83c5966-efe8-45c2-92e4-e9eb1b9fb8fd.json"),
    ),
    (
        "2dc45085-7f6b-48ee-b726-400a326ad9b5.json",
        include_bytes!("misp/2dc45085-7f6b-48ee-b726-400a326ad9b5.json"),
    ),
    (
        "c166c077-13fc-4265-86c4-731dee06ad8a.json",
        include_bytes!("misp/c166c077-13fc-4265-86c4-731dee06ad8a.json"),
    ),
];

/// A list of indicators, and the slot of day one from which its last line is gone.
struct List {
    file: &'static str,
    name: &'static str,
    provider: &'static str,
    format: &'static str,
    licence: &'static str,
    settings: &'static str,
    body: &'static str,
    loses_a_line_in: usize,
}

const LISTS: &[List] = &[
    List {
        file: "emotet.csv",
        name: "Emotet, reported in October 2022",
        provider: "Infoblox",
        format: "csv",
        licence: "CC-BY-4.0",
        settings: "[feed.settings.csv]\nvalue = \"2\"\ndelimiter = \",\"\n",
        body: include_str!("lists/emotet_cta_20221006_iocs.csv"),
        loses_a_line_in: usize::MAX,
    },
    List {
        file: "conti.txt",
        name: "Conti",
        provider: "Unit 42",
        format: "freetext",
        licence: "MIT",
        settings: "",
        body: include_str!("lists/Conti_IOCs.txt"),
        loses_a_line_in: 6,
    },
    List {
        file: "solarstorm.txt",
        name: "SolarStorm",
        provider: "Unit 42",
        format: "freetext",
        licence: "MIT",
        settings: "",
        body: include_str!("lists/SolarStorm_IOCs.txt"),
        loses_a_line_in: usize::MAX,
    },
    List {
        file: "ipsum.txt",
        name: "Addresses on seven lists or more",
        provider: "IPsum",
        format: "freetext",
        licence: "Unlicense",
        settings: "",
        body: include_str!("lists/ipsum_7.txt"),
        loses_a_line_in: 9,
    },
];

/// Rules and lists of signature-base.
const RULES: &[u8] = include_bytes!("rules/signature-base.tar.gz");

/// Pulses in the form of OTX's API.
const PULSES: &str = include_str!("otx/pulses.json");

/// The slot of day one that the sources are in.
pub(super) type Slot = Arc<AtomicUsize>;

/// The server of the bundled sources.
pub(super) struct Upstream {
    address: SocketAddr,
    slot: Slot,
}

impl Upstream {
    /// Serves on any free port of loopback, for as long as the process lives.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let slot = Arc::new(AtomicUsize::new(0));
        let routes = Router::new()
            .route("/{id}", get(serve))
            .route("/misp/{file}", get(serve_misp))
            .route("/lists/{file}", get(serve_list))
            .route(
                "/signature-base.tar.gz",
                get(async |headers: HeaderMap| still("rules", RULES, &headers)),
            )
            .route("/api/v1/pulses/{list}", get(serve_pulses))
            .merge(caveiratech::routes())
            .merge(malpedia::routes())
            .with_state(Arc::clone(&slot));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, slot })
    }

    /// Lets the sources live on to a slot of day one.
    pub(super) fn advance(&self, slot: usize) {
        self.slot.store(slot, Ordering::SeqCst);
    }

    /// Where a path is served.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The list of feeds, as `RSS_SOURCES` wants it.
    pub(super) fn rss_sources(&self) -> String {
        FEEDS.iter().fold(String::new(), |mut text, feed| {
            let Feed { id, name, category, language, .. } = feed;
            let url = self.url(id);
            let _ = write!(
                text,
                "[[source]]\nid = {id:?}\nname = {name:?}\nurl = {url:?}\ncategory = {category:?}\nlanguage = {language:?}\n\n"
            );
            text
        })
    }

    /// The list of feeds, as `MISP_FEEDS` wants it.
    pub(super) fn misp_feeds(&self) -> String {
        let events = format!(
            "[[feed]]\nid = \"infoblox\"\nname = \"Infoblox threat intelligence\"\nprovider = \"Infoblox\"\nurl = {:?}\nformat = \"misp\"\nlicence = \"CC-BY-4.0\"\n\n",
            self.url("misp")
        );
        LISTS.iter().fold(events, |mut text, list| {
            let List { file, name, provider, format, licence, settings, .. } = list;
            let id = file.split('.').next().unwrap_or(file);
            let url = self.url(&format!("lists/{file}"));
            let _ = write!(
                text,
                "[[feed]]\nid = {id:?}\nname = {name:?}\nprovider = {provider:?}\nurl = {url:?}\nformat = {format:?}\nlicence = {licence:?}\n{settings}\n"
            );
            text
        })
    }
}

/// A body that a repeated visit finds unchanged.
fn still(name: &str, body: &'static [u8], headers: &HeaderMap) -> Response {
    let etag = format!("\"{name}-{}\"", body.len());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, etag)], body).into_response()
}

/// The manifest, which gains an event in every third slot, or an event.
async fn serve_misp(State(slot): State<Slot>, Path(file): Path<String>) -> Response {
    if file == "manifest.json" {
        return Json(manifest(slot.load(Ordering::SeqCst))).into_response();
    }
    match EVENTS.iter().find(|(name, _)| *name == file) {
        Some((_, body)) => ([(header::CONTENT_TYPE, "application/json")], *body).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn manifest(slot: usize) -> Map<String, Value> {
    let all: Map<String, Value> = serde_json::from_str(MANIFEST).unwrap_or_default();
    let shown = EVENTS.iter().take(2 + slot / 3);
    let named = shown.filter_map(|(file, _)| file.strip_suffix(".json"));
    named.filter_map(|id| Some((id.to_owned(), all.get(id)?.clone()))).collect()
}

async fn serve_list(
    State(slot): State<Slot>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(list) = LISTS.iter().find(|list| list.file == file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let is_shorter = slot.load(Ordering::SeqCst) >= list.loses_a_line_in;
    let text = if is_shorter { without_its_last_line(list.body) } else { list.body };
    still(list.file, text.as_bytes(), &headers)
}

fn without_its_last_line(text: &str) -> &str {
    let text = text.trim_end();
    text.rfind('\n').map_or("", |end| &text[..=end])
}

/// Pulses on one page; nothing was deleted.
async fn serve_pulses(Path(list): Path<String>) -> Response {
    let results: Value = match list.as_str() {
        "subscribed" => serde_json::from_str(PULSES).unwrap_or_default(),
        "events" => json!([]),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let count = results.as_array().map_or(0, Vec::len);
    Json(json!({ "count": count, "next": null, "previous": null, "results": results }))
        .into_response()
}

async fn serve(State(slot): State<Slot>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let Some(feed) = FEEDS.iter().find(|feed| feed.id == id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let now = slot.load(Ordering::SeqCst);
    match feed.life {
        Life::Fails { slot } if slot == now => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Life::LoginPage { slot } if slot == now => (
            [(header::CONTENT_TYPE, "text/html")],
            "<!DOCTYPE html><html><head><title>Log in</title></head><body></body></html>",
        )
            .into_response(),
        Life::Still => still(feed.id, feed.body, &headers),
        life => body(feed.body, life, now).into_response(),
    }
}

/// The feed as it is in this slot.
fn body(body: &'static [u8], life: Life, now: usize) -> Vec<u8> {
    match life {
        Life::Grows { missing } => newest_first_without(body, missing.saturating_sub(now)),
        Life::Edits { slot, from, to } if now >= slot => replace(body, from, to),
        Life::CutOff { slot } if slot == now => {
            body[..rfind(body, b"</item>").unwrap_or(body.len()) - 20].to_vec()
        }
        Life::BareAmpersand { slot } if slot == now => replace(body, "<title>", "<title>Q&A "),
        _ => body.to_vec(),
    }
}

/// The feed without its first so many entries, as it was before they came.
fn newest_first_without(body: &[u8], missing: usize) -> Vec<u8> {
    let Some(start) = find(body, b"<entry") else { return body.to_vec() };
    let mut end = start;
    for _ in 0..missing {
        match find(&body[end..], b"</entry>") {
            Some(at) => end += at + b"</entry>".len(),
            None => break,
        }
    }
    [&body[..start], &body[end..]].concat()
}

fn replace(body: &[u8], from: &str, to: &str) -> Vec<u8> {
    match find(body, from.as_bytes()) {
        Some(at) => [&body[..at], to.as_bytes(), &body[at + from.len()..]].concat(),
        None => body.to_vec(),
    }
}

fn find(body: &[u8], what: &[u8]) -> Option<usize> {
    body.windows(what.len()).position(|window| window == what)
}

fn rfind(body: &[u8], what: &[u8]) -> Option<usize> {
    body.windows(what.len()).rposition(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_of_the_manifest_is_served_and_lists_lose_lines() {
        assert_eq!(manifest(0).len(), 2);
        assert_eq!(manifest(11).len(), EVENTS.len());
        for list in LISTS {
            let shorter = without_its_last_line(list.body);
            assert_eq!(
                shorter.trim_end().lines().count() + 1,
                list.body.trim_end().lines().count()
            );
        }
        let pulses: Vec<Value> = serde_json::from_str(PULSES).unwrap();
        assert!(pulses.iter().all(|pulse| pulse["indicators"].as_array().is_some()));
    }

    #[test]
    fn each_feed_lives_and_then_rests() {
        for feed in FEEDS {
            let last = body(feed.body, feed.life, 11);
            assert_eq!(last, body(feed.body, feed.life, 12), "{}", feed.id);
            match feed.life {
                Life::Grows { .. } => {
                    assert_ne!(body(feed.body, feed.life, 0), last, "{}", feed.id);
                }
                Life::Edits { slot, .. } | Life::CutOff { slot } | Life::BareAmpersand { slot } => {
                    assert_ne!(
                        body(feed.body, feed.life, slot),
                        body(feed.body, feed.life, slot - 1),
                        "{}",
                        feed.id
                    );
                }
                Life::Still
                | Life::StillWithoutValidators
                | Life::Fails { .. }
                | Life::LoginPage { .. } => {}
            }
        }
    }
}
