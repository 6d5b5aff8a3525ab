//! The demo's sources: bundled real feeds on loopback, which live through day one and rest on day two.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

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
        id: "feed-rs-releases",
        name: "feed-rs releases",
        category: "vulnerabilities",
        language: "en",
        body: include_bytes!("feeds/atom_example_6.xml"),
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
        id: "db-engines",
        name: "DB-Engines",
        category: "news",
        language: "en",
        body: include_bytes!("feeds/rss_2.0_dbengines.xml"),
        life: Life::StillWithoutValidators,
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
        id: "kernel",
        name: "Linux kernel versions",
        category: "vulnerabilities",
        language: "en",
        body: include_bytes!("feeds/rss_2.0_kdist.xml"),
        life: Life::Still,
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

/// The server of the bundled feeds.
pub(super) struct Upstream {
    address: SocketAddr,
    slot: Arc<AtomicUsize>,
}

impl Upstream {
    /// Serves on any free port of loopback, for as long as the process lives.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let slot = Arc::new(AtomicUsize::new(0));
        let routes = Router::new().route("/{id}", get(serve)).with_state(Arc::clone(&slot));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, slot })
    }

    /// Lets the sources live on to a slot of day one.
    pub(super) fn advance(&self, slot: usize) {
        self.slot.store(slot, Ordering::SeqCst);
    }

    /// The list of sources, as `RSS_SOURCES` wants it.
    pub(super) fn sources(&self) -> String {
        FEEDS.iter().fold(String::new(), |mut text, feed| {
            let Feed { id, name, category, language, .. } = feed;
            let _ = write!(
                text,
                "[[source]]\nid = {id:?}\nname = {name:?}\nurl = \"http://{}/{id}\"\ncategory = {category:?}\nlanguage = {language:?}\n\n",
                self.address
            );
            text
        })
    }
}

async fn serve(
    State(slot): State<Arc<AtomicUsize>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
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
        Life::Still => {
            let etag = format!("\"{}-{}\"", feed.id, feed.body.len());
            if headers
                .get(header::IF_NONE_MATCH)
                .is_some_and(|known| known.as_bytes() == etag.as_bytes())
            {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            ([(header::ETAG, etag)], feed.body).into_response()
        }
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
