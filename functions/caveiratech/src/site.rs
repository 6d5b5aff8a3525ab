//! The site as it is asked: what `robots.txt` allows, at which pace, and what an answer was.

use std::time::Duration;

use base::report::Outcome;
use base::{Error, Result};
use fetch::{GAP_MAX, Limits, Pace, Request, retry_after};
use robotxt::Robots;
use task::{Answer, Stop, Visit};
use tokio::time::{Instant, sleep_until};
use url::Url;

use crate::settings::Settings;

/// What a page may take; a feed or a sitemap may take [`Limits::FEED`].
pub(crate) const PAGE: Limits = Limits { max_body: page::PAGE_MAX, ..Limits::FEED };

/// The site, once its `robots.txt` is read.
pub(crate) struct Site {
    /// The home page; ends in a slash.
    pub(crate) home: Url,
    robots: Robots,
    pace: Pace,
    is_replay: bool,
}

/// How an address is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// On condition that it changed since it was stored.
    IfChanged,
    /// Whatever is known of it, and again.
    Anyway,
}

/// What an address gave.
pub(crate) enum SiteAnswer {
    Body(Answer),
    /// It has not changed, or a replay of the archive has no more of it.
    Nothing,
    /// A status that is no answer.
    Status(u16),
    /// `robots.txt` does not allow to ask.
    Forbidden,
}

impl Site {
    /// Reads `robots.txt`; the first request comes a gap after whatever another run asked for last.
    ///
    /// # Errors
    /// What keeps it from being read: while nobody knows what is allowed, nothing is asked for. A site that allows nothing.
    pub(crate) async fn open(visit: &mut Visit<'_>, settings: &Settings) -> Result<Self, Stop> {
        let home = settings.home()?;
        let gap = Duration::from_millis(settings.gap_ms.into());
        let is_replay = visit.ctx().config.behaviour.reparse.is_some();
        let pace = Pace { gap, at_once: 1 };
        let mut site = Self { home, robots: Robots::allow_all(), pace, is_replay };
        if !is_replay {
            sleep_until(Instant::now() + gap).await;
        }
        let url = site.address("/robots.txt")?;
        match site.get(visit, &url, Ask::Anyway, PAGE).await? {
            SiteAnswer::Body(answer) => site.robots = Robots::parse(answer.body(), page::ROBOT),
            // RFC 9309, 2.3.1.3: without one, everything is allowed.
            SiteAnswer::Status(400..=499) | SiteAnswer::Nothing | SiteAnswer::Forbidden => {}
            // 2.3.1.4: a server in trouble allows nothing.
            SiteAnswer::Status(status) => {
                let error = Error::upstream(format!(
                    "read `{}`: status `{status}`",
                    base::address::shown(&url)
                ));
                return Err(Stop::new(Outcome::Status, error));
            }
        }
        let delay = site.robots.crawl_delay().unwrap_or_default();
        if delay > GAP_MAX {
            let error = Error::upstream(format!(
                "crawl `{}`: its `robots.txt` asks for {} s between requests, and at most {} are waited",
                base::address::shown(&site.home),
                delay.as_secs(),
                GAP_MAX.as_secs()
            ));
            return Err(Stop::new(
                Outcome::Blocked,
                error.hint("the site does not want to be crawled"),
            ));
        }
        if delay > gap {
            site.pace.gap = delay;
            visit.note(format!("`robots.txt` asks for {} s between requests", delay.as_secs_f32()));
        }
        if !site.allows(&site.home) {
            let error = Error::upstream(format!(
                "crawl `{}`: its `robots.txt` does not allow it",
                base::address::shown(&site.home)
            ));
            return Err(Stop::new(
                Outcome::Blocked,
                error.hint("nothing was asked for beside `robots.txt`; ask the site's owner"),
            ));
        }
        Ok(site)
    }

    /// The sitemaps that `robots.txt` names, of this site.
    pub(crate) fn sitemaps(&self) -> impl Iterator<Item = &Url> {
        self.robots.sitemaps().iter().filter(|url| crate::listing::is_same_site(&self.home, url))
    }

    pub(crate) fn allows(&self, url: &Url) -> bool {
        self.robots.is_url_allowed(url)
    }

    /// An address of the site; what begins with a slash is at its root, the rest below its home page.
    ///
    /// # Errors
    /// `Config`, where there is none.
    pub(crate) fn address(&self, path: &str) -> Result<Url> {
        self.home.join(path).map_err(|cause| {
            Error::config(format!("build the address `{path}` of CaveiraTech")).because(cause)
        })
    }

    /// Asks for an address, if that is allowed. A status that is no answer is given back, but for one that asks for a rest.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn get(
        &self,
        visit: &mut Visit<'_>,
        url: &Url,
        ask: Ask,
        limits: Limits,
    ) -> Result<SiteAnswer, Stop> {
        if !self.allows(url) {
            return Ok(SiteAnswer::Forbidden);
        }
        let request = Request::get(url)
            .accept("text/html, application/xhtml+xml, application/rss+xml, application/atom+xml, application/xml;q=0.9, application/json;q=0.9, */*;q=0.5")
            .limits(limits)
            .pace(self.pace);
        // What the home page refuses, the site does: 410 is for good.
        let request = if *url == self.home { request } else { request.refusals() };
        let answer = match ask {
            Ask::IfChanged if !self.is_replay => visit.get(request).await?,
            _ => visit.get_again(request).await?,
        };
        let Some(answer) = answer else { return Ok(SiteAnswer::Nothing) };
        match answer.status() {
            200..=299 if answer.is_truncated() => {
                let error = Error::upstream(format!(
                    "read `{}`: the body ended early",
                    base::address::shown(url)
                ));
                Err(Stop::new(Outcome::Truncated, error))
            }
            200..=299 => Ok(SiteAnswer::Body(answer)),
            status @ (429 | 503) => {
                let error = Error::upstream(format!(
                    "read `{}`: status `{status}`",
                    base::address::shown(url)
                ));
                let wait = answer
                    .header("retry-after")
                    .and_then(|value| retry_after(value, visit.ctx().now()));
                let (outcome, wait) = match (status, wait) {
                    (503, None) => (Outcome::Status, None),
                    (_, wait) => (Outcome::RateLimited, wait),
                };
                let stop = Stop::new(outcome, error);
                Err(match wait.and_then(|wait| wait.try_into().ok()) {
                    Some(wait) => stop.retry_after(wait),
                    None => stop,
                })
            }
            status => Ok(SiteAnswer::Status(status)),
        }
    }
}

/// A status of an address that should have an answer, under the outcome that reports show.
pub(crate) fn refused(url: &Url, status: u16) -> Stop {
    let outcome = match status {
        401 | 403 => Outcome::Unauthorized,
        404 => Outcome::NotFound,
        _ => Outcome::Status,
    };
    let error = Error::upstream(format!("read `{}`: status `{status}`", base::address::shown(url)));
    Stop::new(outcome, error)
}
