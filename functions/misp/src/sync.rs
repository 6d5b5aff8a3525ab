//! The engine of the three syncs: each feed by its format.

use base::report::Report;
use base::{Error, Result};
use fetch::{Fetched, Limits, Request};
use ioc::Lists;
use serde_json::Value;
use stores::documents::Write;
use task::catalog::{Pending, Preview};
use task::function::{Home, now};
use task::{Chosen, Ctx, Visit};

use crate::event::Event;
use crate::events;
use crate::feeds::{Feed, FeedKeys, Feeds, Format, Settings};
use crate::flat::{Found, Place, Reader, is_web_page};
use crate::indicators::{Batch, SeenKeys, listed, of_event};
use crate::lists;

/// Feeds in progress at once. The pace at one host is the HTTP client's matter.
const FEEDS_AT_ONCE: usize = 8;

/// How a run reads its feeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    /// Only what validators and manifests call new.
    pub(crate) is_quick: bool,
    /// So many events of a feed in MISP's format, so many indicators of any other.
    pub(crate) limit: Option<u64>,
    /// What headers of feeds may name.
    pub(crate) keys: FeedKeys,
}

/// Syncs the feeds that `choose` picks from the list.
pub(crate) async fn sync(
    ctx: &Ctx,
    how: How,
    choose: impl FnOnce(&Feeds) -> Result<Vec<String>>,
) -> Result<Report> {
    let feeds = Feeds::load(&ctx.config, ctx.ledger.as_ref()).await?;
    let how = How { keys: ctx.settings::<Settings>()?.keys, ..how };
    let chosen = choose(&feeds)?;
    let chosen = Chosen::these(feeds.into_all(), chosen);
    let read = async |visit: &mut Visit<'_>, feed: &Feed| match feed.format {
        Format::Misp => events::read(visit, feed, &how).await,
        Format::Csv | Format::Freetext => lists::read(visit, feed, &how).await,
    };
    ctx.each(chosen, FEEDS_AT_ONCE, read).await
}

/// The ids of the enabled feeds.
pub(crate) fn enabled(feeds: &Feeds) -> Result<Vec<String>> {
    Ok(feeds.all().iter().filter(|feed| feed.enabled).map(|feed| feed.id.clone()).collect())
}

/// Fetches a feed once and shows what would be stored: of a list its beginning, of events the newest.
pub(crate) fn preview(home: &Home, definition: Value) -> Pending<'_, Preview> {
    Box::pin(async move {
        let feed: Feed = serde_json::from_value(definition)
            .map_err(|cause| Error::config("read the definition of a feed").because(cause))?;
        let headers = feed.headers(&home.config.of::<Settings>()?.keys).await?;
        let place = match feed.format {
            Format::Misp => events::manifest_of(&feed)?,
            Format::Csv | Format::Freetext => feed.url.clone(),
        };
        let body = fetched(home, &place, &headers).await?;
        if is_web_page(&body) {
            return Err(lists::web_page(&feed).error);
        }
        let (mut batch, now) = (Batch::default(), now(&home.config));
        let (mut notes, known) = (Vec::new(), Lists::built_in().await);
        if feed.format == Format::Misp {
            let (manifest, newest) = events::newest_event(&feed, &body)?;
            notes.push(format!("{} events; what follows is of the newest", manifest.entries.len()));
            notes.extend(manifest.rejects);
            if let Some(place) = newest {
                let body = fetched(home, &place, &headers).await?;
                let event = Event::of(&body)
                    .map_err(|_| lists::unreadable(&feed, "its newest event is none").error)?;
                of_event(&feed, &event, false, Some(&known), now, None, |part| {
                    batch.join(part);
                    true
                })?;
            }
        } else {
            let mut seen = SeenKeys::default();
            let mut reader = Reader::new(&feed, Place::default())?;
            reader.push(&body, true, &mut |found| match found {
                Found::Typed(typed, facts) => {
                    listed(&feed, &typed, &facts, Some(&known), now, &mut seen, &mut batch);
                }
                Found::Excluded => {
                    batch.found += 1;
                    batch.filtered += 1;
                }
                Found::Untyped(cell) => {
                    batch.found += 1;
                    batch.reject(|| format!("`{cell}` is no indicator"));
                }
            });
        }
        let parts = batch.writes.into_iter().flat_map(|Write { parts, .. }| parts);
        Ok(Preview {
            title: Some(feed.name.clone()),
            form: format!("{:?}", feed.format).to_lowercase(),
            found: batch.found,
            notes,
            rejects: batch.rejects,
            documents: parts.map(|part| Value::Object(part.fields)).collect(),
        })
    })
}

async fn fetched(home: &Home, place: &url::Url, headers: &[(String, String)]) -> Result<Vec<u8>> {
    let request = lists::with_headers(Request::get(place).limits(Limits::ARCHIVE), headers);
    match home.http.send(request).await? {
        Fetched::Body(response) => Ok(response.body),
        Fetched::NotModified(_) | Fetched::Refused(_) => {
            Err(Error::upstream("read a feed: it answered that nothing changed, unasked"))
        }
    }
}
