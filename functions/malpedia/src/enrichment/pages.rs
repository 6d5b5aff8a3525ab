//! The page that an entry is about, so that the model has more than a title: asked for politely, and its readable text alone.
//!
//! Only where `ENRICH_FETCH` says so, and where the entry's own text is short. An entry whose page is not allowed, not there, no
//! HTML or beyond the limits is asked about without it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fetch::{Fetched, GAP_MAX, Limits, Pace, Request, Response};
use robotxt::Robots;
use task::Ctx;
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

/// What a page may take.
const PAGE: Limits = Limits {
    max_body: page::PAGE_MAX,
    head_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(20),
};
/// What a `robots.txt` may take: RFC 9309, 2.5, has 500 KiB read at least.
const ROBOTS: Limits = Limits { max_body: 500 << 10, ..PAGE };
/// Hosts whose `robots.txt` is known at the most; pages of others are not read. The real library names about 2,000.
const HOSTS_MAX: usize = 10_000;
/// Pages that are parsed at the same time, as each may take a tree of its own.
const PARSED_AT_ONCE: usize = 1;
/// Bytes of a page's text that the model is given.
const TEXT_MAX: usize = 12 << 10;

/// What a host allows; nothing while nobody knows.
type Allowed = Arc<OnceCell<Robots>>;

/// Reads pages, each host's `robots.txt` first.
pub(crate) struct PageReader {
    hosts: Mutex<HashMap<String, Allowed>>,
    parsing: Semaphore,
    read: AtomicU64,
    unread: AtomicU64,
}

impl PageReader {
    pub(crate) fn new() -> Self {
        Self {
            hosts: Mutex::default(),
            parsing: Semaphore::new(PARSED_AT_ONCE),
            read: AtomicU64::new(0),
            unread: AtomicU64::new(0),
        }
    }

    /// Pages that were read, and those that were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.unread.load(Ordering::Relaxed))
    }

    /// The readable text of a page; nothing where there is none to be had.
    pub(crate) async fn text(&self, ctx: &Ctx, url: &Url) -> Option<String> {
        let text = self.read(ctx, url).await.filter(|text| !text.is_empty());
        let count = if text.is_some() { &self.read } else { &self.unread };
        count.fetch_add(1, Ordering::Relaxed);
        text
    }

    async fn read(&self, ctx: &Ctx, url: &Url) -> Option<String> {
        let allowed = self.host(url)?;
        let robots = allowed.get_or_init(|| robots(ctx, url)).await;
        let delay = robots.crawl_delay().unwrap_or_default();
        if !robots.is_url_allowed(url) || delay > GAP_MAX {
            return None;
        }
        let request = Request::get(url).accept("text/html, application/xhtml+xml").limits(PAGE);
        let request = match delay.is_zero() {
            true => request,
            false => request.pace(Pace { gap: delay, at_once: 1 }),
        };
        let Ok(Fetched::Body(response)) = ctx.http.send(request).await else { return None };
        if response.content_type.as_deref().is_some_and(|kind| !kind.contains("html")) {
            return None;
        }
        let _turn = self.parsing.acquire().await.ok()?;
        let deadline = ctx.deadline;
        let reading =
            tokio::task::spawn_blocking(move || readable(&response, || deadline.is_past()));
        reading.await.ok().flatten()
    }

    fn host(&self, url: &Url) -> Option<Allowed> {
        let origin = url.origin().ascii_serialization();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = hosts.len() >= HOSTS_MAX;
        match hosts.get(&origin) {
            Some(known) => Some(Arc::clone(known)),
            None if is_full => None,
            None => Some(Arc::clone(hosts.entry(origin).or_default())),
        }
    }
}

/// What a host allows. RFC 9309, 2.3.1: all where it has no `robots.txt`, nothing while it is in trouble.
async fn robots(ctx: &Ctx, url: &Url) -> Robots {
    let Ok(address) = url.join("/robots.txt") else { return Robots::disallow_all() };
    match ctx.http.send(Request::get(&address).limits(ROBOTS).refusals()).await {
        Ok(Fetched::Body(response)) => Robots::parse(&response.body, page::ROBOT),
        Ok(Fetched::Refused(response)) if (400..500).contains(&response.status) => {
            Robots::allow_all()
        }
        _ => Robots::disallow_all(),
    }
}

fn readable(response: &Response, is_over: impl Fn() -> bool) -> Option<String> {
    let html = page::text(&response.body, response.content_type.as_deref());
    let document = page::parse(&html, is_over).ok()?;
    let mut text = page::readable(document, &response.final_url)?.text;
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    Some(text)
}
