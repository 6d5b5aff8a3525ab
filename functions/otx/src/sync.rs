//! The engine of the sync: pages of pulses, newest first, from the cursor on.
//!
//! A window is everything that was modified since the cursor. Its pages come newest first, so the cursor moves when the whole
//! window is stored; until then the place in it is saved, and the next step or run goes on there. Pulses that are edited
//! meanwhile come again in the next window, and where one was deleted, so that those behind it moved up, the same window is read
//! once more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use base::report::Outcome;
use base::{Error, Result};
use fetch::{Limits, Pace, Request};
use ioc::{Lists, Renewed, Tagged, Tlp};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use stores::documents::{Filter, Index, Pages, Scan, Write};
use task::{Answer, Ctx, KeyPool, Present, Stop, Visit, VisitLimits};
use url::Url;

use crate::settings::Settings;
use crate::wire::{self, Event, Page, Pulse, PulseIndicator};
use crate::{indicators, pulse};

/// Pulses of a page: at first, and after each failure of an address that times out on large ones.
const SIZES: [u32; 5] = [20, 10, 5, 5, 2];
/// The least time before each of those requests since the one before.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Pages of a window; a list of 20,000 pulses has 1,000 of them.
const PAGES_MAX: u32 = 20_000;
/// Pages without a new pulse, one after the other, that are passed over while more are announced.
const IDLE_MAX: u32 = 3;
/// Indicators of a pulse that are asked for together, where they come apart from it.
const INDICATORS_SIZE: u32 = 1_000;
/// Pages of the indicators of one pulse.
const INDICATOR_PAGES_MAX: u32 = 1_000;
/// Events of a page, and pages of them.
const EVENTS_SIZE: u32 = 50;
const EVENT_PAGES_MAX: u32 = 100;
/// Indicators that are written together.
const BATCH: usize = 2_000;
/// How far a window reaches back behind the newest pulse that is stored: clocks of OTX's servers differ.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// How far the first look at events reaches back.
const EVENTS_BACK: SignedDuration = SignedDuration::from_hours(24);
/// Pulses that are to be asked for by themselves; of more, the window is read again.
const AGAIN_MAX: usize = 500;

const LIMITS: Limits = Limits {
    max_body: 32 << 20,
    // Its gateway gives up after 60 s.
    head_timeout: Duration::from_secs(90),
    idle_timeout: Duration::from_secs(30),
    total_timeout: Duration::from_secs(180),
};

/// What a visit may store: pulses with tens of thousands of indicators are not rare.
const VISIT: VisitLimits = VisitLimits { items: 500_000, bytes: 1 << 30 };

/// The source: OTX as the settings name it.
pub(crate) struct Pulses {
    settings: Settings,
    pool: KeyPool,
    lists: Lists,
}

impl Pulses {
    /// The id of the one source.
    pub(crate) const ID: &str = "pulses";

    /// # Errors
    /// `Config`, where no key is set, and what the warninglists say that cannot be read.
    pub(crate) async fn of(ctx: &Ctx) -> Result<Self> {
        let settings: Settings = ctx.settings()?;
        Ok(Self { pool: settings.pool_of_some()?, settings, lists: Lists::load(ctx).await? })
    }

    fn address(&self, path: &str, query: &[(&str, String)]) -> Result<Url> {
        let mut url = self.settings.address(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn get(
        &self,
        visit: &mut Visit<'_>,
        url: &Url,
        pause: Duration,
    ) -> Result<Option<Answer>, Stop> {
        let request = Request::get(url).accept("application/json").limits(LIMITS);
        let request = match pause.is_zero() {
            true => request,
            false => request.pace(Pace { gap: pause, at_once: 1 }),
        };
        let answer = visit.get_with_key(&self.pool, request).await?;
        match answer {
            Some(answer) if answer.is_truncated() => {
                let error = Error::upstream(format!("read `{url}`: the body ended early"));
                Err(Stop::new(Outcome::Truncated, error))
            }
            answer => Ok(answer),
        }
    }
}

impl task::Source for Pulses {
    fn id(&self) -> &str {
        Self::ID
    }

    fn indices(&self) -> &'static [&'static str] {
        &[pulse::INDEX, indicators::INDEX]
    }

    fn limits(&self) -> VisitLimits {
        VISIT
    }
}

/// How far the source is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    /// Everything that was modified before is stored.
    since: Option<Timestamp>,
    /// The place in a window that is not stored to its end.
    reading: Option<Place>,
    /// Everything that `activity` showed before is stored.
    activity: Option<Timestamp>,
    /// Every event before is heeded.
    events: Option<Timestamp>,
    /// Pulses to ask for by themselves: those that could not be read whole, and those that were subscribed to.
    again: BTreeSet<String>,
    /// Authors who were subscribed to, and whose older pulses no window holds.
    authors: BTreeSet<String>,
    tagged: Tagged,
}

/// A list of pulses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum List {
    /// What the account is subscribed to, since the cursor.
    #[default]
    Subscribed,
    /// What happens around it, which answers when `subscribed` does not.
    Activity,
    /// All of one author.
    Author(String),
}

/// A place in a list: a page that is not stored yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    list: List,
    /// The page, from 0, of as many pulses as the size says.
    page: u32,
    /// Pulses before it.
    offset: u32,
    /// Failures one after the other.
    tries: usize,
    /// Which of the sizes holds.
    size: usize,
    /// When the newest pulse so far was modified.
    top: Option<Timestamp>,
    /// How many the list said that it has.
    count: Option<u64>,
    /// Whether that became less.
    has_shrunk: bool,
}

impl Place {
    fn size(&self) -> u32 {
        SIZES[self.size.min(SIZES.len() - 1)]
    }

    /// The same place under another size of pages, or a little before it: a server may give smaller pages than it is asked for.
    fn resize(&mut self, size: usize) {
        let size = size.min(SIZES.len() - 1);
        if size != self.size {
            self.size = size;
            self.page = self.offset / self.size();
        }
    }
}

/// Reads what is new, and what was deleted.
pub(crate) async fn read(visit: &mut Visit<'_>, otx: &Pulses) -> Result<(), Stop> {
    let mut cursor = visit.cursor::<Cursor>().unwrap_or_default();
    let mut is_in_doubt = cursor.reading.is_some();
    let index = Index::named(indicators::INDEX)?;
    let is_begun = cursor != Cursor::default();
    let renewed =
        cursor.tagged.renew(visit, &indicators::OWNER, index, Vec::new(), is_begun).await?;
    if renewed != Renewed::Nothing {
        visit.save(json!(cursor)).await?;
    }
    if renewed == Renewed::Cut {
        return Ok(());
    }
    if visit.ctx().run.step == 0 {
        // A new run begins with hope.
        cursor.reading = cursor.reading.filter(|place| place.list != List::Activity);
        if let Some(place) = &mut cursor.reading {
            place.tries = 0;
            place.resize(0);
        }
    }
    if cursor.reading.is_none() {
        events(visit, otx, &mut cursor).await?;
        again(visit, otx, &mut cursor).await?;
    }
    loop {
        let place = cursor.reading.clone().unwrap_or_default();
        if !list(visit, otx, &mut cursor, place, is_in_doubt).await? {
            return Ok(());
        }
        is_in_doubt = false;
        // The window is done; then authors who are new.
        let Some(author) = cursor.authors.first().cloned() else { return Ok(()) };
        cursor.reading = Some(Place { list: List::Author(author), ..Place::default() });
    }
}

/// Reads a list from a place on to its end; false where time ran out before it.
async fn list(
    visit: &mut Visit<'_>,
    otx: &Pulses,
    cursor: &mut Cursor,
    mut place: Place,
    mut is_in_doubt: bool,
) -> Result<bool, Stop> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut dates = Vec::new();
    let mut idle = 0;
    loop {
        if visit.is_late() {
            return Ok(false);
        }
        cursor.reading = Some(place.clone());
        visit.save(json!(cursor)).await?;
        let url = address(otx, cursor, &place)?;
        let pause = PAUSES[place.tries.min(PAUSES.len() - 1)];
        let answer = match otx.get(visit, &url, pause).await {
            Ok(Some(answer)) => answer,
            // A replay of the archive is over.
            Ok(None) => break,
            Err(stop) if is_passing(stop.outcome) => {
                place = after_failure(visit, place, stop)?;
                continue;
            }
            Err(stop) => return Err(stop),
        };
        let page = Page::read(answer.body()).map_err(|cause| not_a_page(&url).because(cause))?;
        if place.tries > 0 {
            let size = place.size();
            visit.note(format!("answered after {} failures, on pages of {size}", place.tries));
            place.tries = 0;
        }
        place.has_shrunk |=
            matches!((place.count, page.count), (Some(before), Some(now)) if now < before);
        place.count = page.count.or(place.count);
        let stored = pulses(visit, otx, cursor, &page.results, is_in_doubt).await?;
        is_in_doubt = false;
        place.top = place.top.max(stored.newest);
        let before = seen.len();
        seen.extend(stored.ids);
        let is_idle = seen.len() == before;
        idle = if is_idle { idle + 1 } else { 0 };
        let is_behind = stored.newest < cursor.activity.max(cursor.since);
        dates.extend(stored.dates);
        let is_announced = place.count.is_some_and(|count| (seen.len() as u64) < count);
        if page.next.is_none()
            || (is_idle && !(is_announced && idle < IDLE_MAX))
            || (place.list == List::Activity && is_behind)
            || place.page == PAGES_MAX
        {
            if idle == IDLE_MAX {
                visit.note(format!(
                    "the list says that it has {} pulses, and gave {} and then nothing new",
                    place.count.unwrap_or_default(),
                    seen.len()
                ));
            }
            break;
        }
        note_foreign(visit, &url, page.next.as_deref());
        place.page += 1;
        place.offset += u32::try_from(page.results.len()).unwrap_or(u32::MAX);
    }
    if seen.is_empty() && place.list == List::Subscribed && cursor.since.is_none() {
        visit.note("the accounts of the keys are subscribed to no pulse");
    }
    visit.learn_habit(dates);
    finish(visit, cursor, &place);
    visit.save(json!(cursor)).await?;
    Ok(true)
}

/// Where to go on after an address failed: at the same place on smaller pages, in the end in another list.
fn after_failure(visit: &mut Visit<'_>, mut place: Place, stop: Stop) -> Result<Place, Stop> {
    place.tries += 1;
    if place.tries < SIZES.len() {
        let size = place.tries.max(place.size);
        place.resize(size);
        return Ok(place);
    }
    if place.list != List::Subscribed {
        return Err(stop);
    }
    visit.note(format!(
        "`pulses/subscribed` failed {} times, at last on pages of {}: `pulses/activity` is read instead, and the cursor stays ({})",
        place.tries,
        place.size(),
        stop.error
    ));
    Ok(Place { list: List::Activity, size: 1, ..Place::default() })
}

/// What smaller pages, or another try, may help against.
fn is_passing(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Status
            | Outcome::TimedOut
            | Outcome::Reset
            | Outcome::Truncated
            | Outcome::TooLarge
            | Outcome::Undecodable
    )
}

/// Moves the cursor behind a list that is stored to its end.
fn finish(visit: &mut Visit<'_>, cursor: &mut Cursor, place: &Place) {
    cursor.reading = None;
    // A date of the future would hide all that comes before it.
    let top = place.top.map(|top| top.min(visit.ctx().now()));
    let behind = top.and_then(|top| top.checked_sub(OVERLAP).ok());
    match &place.list {
        List::Subscribed if place.has_shrunk => visit.note(
            "pulses left the list while it was read: the same window is read again next time, as those behind them moved up",
        ),
        List::Subscribed => cursor.since = cursor.since.max(behind),
        List::Activity => cursor.activity = cursor.activity.max(behind),
        List::Author(name) => {
            cursor.authors.remove(name);
        }
    }
}

fn address(otx: &Pulses, cursor: &Cursor, place: &Place) -> Result<Url> {
    let mut query =
        vec![("limit", place.size().to_string()), ("page", (place.page + 1).to_string())];
    let path = match &place.list {
        List::Subscribed => {
            query.extend(cursor.since.map(|since| ("modified_since", stamp(since))));
            "pulses/subscribed"
        }
        List::Activity => "pulses/activity",
        List::Author(name) => {
            query.push(("author_name", name.clone()));
            "pulses/subscribed"
        }
    };
    otx.address(path, &query)
}

/// An instant as OTX reads it; what writes the query escapes the `+`.
fn stamp(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// `next` says that there is a next page; which one it is, and where, is known without it.
fn note_foreign(visit: &mut Visit<'_>, url: &Url, next: Option<&str>) {
    let host = next.and_then(|next| url.join(next).ok()).map(|next| next.origin());
    if host.is_some_and(|host| host != url.origin()) {
        visit.note("`next` names another host, which is not asked: the next page is asked for where this one came from");
    }
}

fn not_a_page(url: &Url) -> Error {
    Error::format(format!("read `{}`: it is no list of OTX", base::address::shown(url)))
        .hint("look at `OTX_URL`; what is there may be a proxy's page or a changed API")
}

/// What a page brought.
#[derive(Default)]
struct Stored {
    ids: Vec<String>,
    dates: Vec<Timestamp>,
    newest: Option<Timestamp>,
}

/// Indicators on their way to the store, each with every pulse that names it.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    places: HashMap<String, usize>,
}

impl Batch {
    /// Adds a pulse's part of an indicator; true where it went into another pulse's write.
    fn add(&mut self, write: Write) -> bool {
        if let Some(place) = self.places.get(&write.id) {
            self.writes[*place].parts.extend(write.parts);
            return true;
        }
        self.places.insert(write.id.clone(), self.writes.len());
        self.writes.push(write);
        false
    }

    async fn store(&mut self, visit: &mut Visit<'_>) -> Result<(), Stop> {
        let index = Index::named(indicators::INDEX)?;
        visit.store(index, &self.writes).await?;
        self.writes.clear();
        self.places.clear();
        Ok(())
    }
}

/// A pulse that is read, before its document is stored.
struct Whole {
    pulse: Pulse,
    summary: pulse::Summary,
    tlp: Option<Tlp>,
    /// The ids of its indicators' documents, where some that it had may be gone.
    present: Option<Present>,
}

/// Stores pulses with their indicators. A pulse's own document comes last: it says that all of it is stored.
async fn pulses(
    visit: &mut Visit<'_>,
    otx: &Pulses,
    cursor: &mut Cursor,
    results: &[&RawValue],
    is_in_doubt: bool,
) -> Result<Stored, Stop> {
    let index = Index::named(pulse::INDEX)?;
    let mut stored = Stored::default();
    let mut batch = Batch::default();
    let mut whole: Vec<Whole> = Vec::new();
    let mut read = Vec::with_capacity(results.len());
    for raw in results {
        match wire::pulse(raw) {
            Ok((one, _)) if stored.ids.contains(&one.id) => {
                visit.found(index, 1);
                visit.merged(index, 1);
            }
            Ok((one, inline)) => {
                stored.ids.push(one.id.clone());
                stored.dates.extend(one.modified);
                stored.newest = stored.newest.max(one.modified.or(one.created));
                read.push((one, inline));
            }
            Err(reason) => {
                visit.found(index, 1);
                visit.reject(index, reason);
            }
        }
    }
    let ids: Vec<String> = stored.ids.iter().map(|id| pulse::id(id)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let known = visit.ctx().documents.fields_of(index, &ids, &["pulse_id"]).await?;
    for ((one, inline), known) in read.into_iter().zip(known) {
        let (id, is_known) = (one.id.clone(), is_in_doubt || known.is_some());
        match indicators_of(visit, otx, &mut batch, one, inline, is_known).await? {
            Some(read) => {
                cursor.again.remove(&id);
                whole.push(read);
            }
            None if cursor.again.len() < AGAIN_MAX => {
                cursor.again.insert(id);
            }
            None => {}
        }
    }
    batch.store(visit).await?;
    let of_indicators = Index::named(indicators::INDEX)?;
    let now = visit.ctx().now();
    let mut writes = Vec::with_capacity(whole.len());
    for Whole { pulse: one, summary, tlp, present } in whole {
        if let Some(present) = present {
            let among = vec![of_one(&one.id)];
            let owner = &indicators::OWNER;
            visit.retire(of_indicators, owner, Some(&one.id), among, present).await?;
        }
        writes.push(pulse::write(&one, &summary, tlp.map(Tlp::as_str), now));
    }
    visit.found(index, writes.len() as u64);
    visit.store(index, &writes).await?;
    Ok(stored)
}

/// The documents that a pulse names.
fn of_one(pulse_id: &str) -> Filter {
    Filter::Terms("pulse_ids".to_owned(), vec![pulse_id.to_owned()])
}

/// Puts a pulse's indicators into the batch; `None` where they could not all be read.
async fn indicators_of(
    visit: &mut Visit<'_>,
    otx: &Pulses,
    batch: &mut Batch,
    one: Pulse,
    inline: Option<Vec<&RawValue>>,
    is_known: bool,
) -> Result<Option<Whole>, Stop> {
    // A word that nobody knows must not open anything.
    let tlp = one.tlp.as_deref().map(|word| Tlp::read(word).unwrap_or(Tlp::Red));
    let has_all = inline.is_some() && !one.more_indicators;
    let mut all = Named::default();
    all.read(visit, inline.unwrap_or_default())?;
    let is_whole = has_all || further(visit, otx, &one.id, &mut all).await?;
    let mut whole = Whole {
        summary: pulse::Summary::default(),
        tlp,
        present: (is_known && is_whole).then(Present::default),
        pulse: one,
    };
    let index = Index::named(indicators::INDEX)?;
    let now = visit.ctx().now();
    for named in all.values {
        named.iter().for_each(|one| whole.summary.add(one));
        let warned = match named.first() {
            Some(one) => otx.lists.hits(one.indicator.kind, &one.indicator.value),
            None => continue,
        };
        let Some(write) = indicators::write(&whole.pulse, tlp, &named, &warned, now) else {
            continue;
        };
        if let Some(present) = &mut whole.present {
            present.add(&write.id)?;
        }
        let twice = named.len() as u64 - 1;
        visit.merged(index, twice + u64::from(batch.add(write)));
        if batch.writes.len() >= BATCH {
            batch.store(visit).await?;
        }
    }
    Ok(is_whole.then_some(whole))
}

/// The indicators of a pulse, those of one value together, in the order in which they came.
#[derive(Default)]
struct Named {
    values: Vec<Vec<PulseIndicator>>,
    places: HashMap<(indicator::IndicatorKind, String), usize>,
}

impl Named {
    /// Adds those that can be read; the others are rejects.
    fn read(&mut self, visit: &mut Visit<'_>, list: Vec<&RawValue>) -> Result<()> {
        let index = Index::named(indicators::INDEX)?;
        visit.found(index, list.len() as u64);
        for raw in list {
            let one = match wire::pulse_indicator(raw) {
                Ok(one) => one,
                Err(reason) => {
                    visit.reject(index, reason);
                    continue;
                }
            };
            let key = (one.indicator.kind, one.indicator.value.clone());
            let place = *self.places.entry(key).or_insert(self.values.len());
            match self.values.get_mut(place) {
                // What came with the pulse comes again in the pages of its indicators.
                Some(known) if known.contains(&one) => visit.merged(index, 1),
                Some(known) => known.push(one),
                None => self.values.push(vec![one]),
            }
        }
        Ok(())
    }
}

/// Reads the indicators that did not come with their pulse; whether that were all.
async fn further(
    visit: &mut Visit<'_>,
    otx: &Pulses,
    pulse_id: &str,
    all: &mut Named,
) -> Result<bool, Stop> {
    for page in 1..=INDICATOR_PAGES_MAX {
        let query = [
            ("limit", INDICATORS_SIZE.to_string()),
            ("page", page.to_string()),
            ("include_inactive", "1".to_owned()),
        ];
        let url = otx.address(&format!("pulses/{pulse_id}/indicators"), &query)?;
        let answer = match otx.get(visit, &url, Duration::ZERO).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(true),
            Err(stop) if stop.outcome == Outcome::BudgetSpent => return Err(stop),
            Err(stop) => {
                visit.note(format!(
                    "pulse {pulse_id} is not whole, and is asked for again next time: {}",
                    stop.error
                ));
                return Ok(false);
            }
        };
        let page = Page::read(answer.body()).map_err(|cause| not_a_page(&url).because(cause))?;
        let is_last = page.next.is_none() || page.results.is_empty();
        all.read(visit, page.results)?;
        if is_last {
            return Ok(true);
        }
    }
    Ok(true)
}

/// Reads pulses that are to be asked for by themselves.
async fn again(visit: &mut Visit<'_>, otx: &Pulses, cursor: &mut Cursor) -> Result<(), Stop> {
    for id in cursor.again.clone() {
        if visit.is_late() {
            return Ok(());
        }
        let url = otx.address(&format!("pulses/{id}"), &[])?;
        match otx.get(visit, &url, Duration::ZERO).await {
            Ok(Some(answer)) => {
                let raw: &RawValue = serde_json::from_slice(answer.body())
                    .map_err(|cause| not_a_page(&url).because(cause))?;
                pulses(visit, otx, cursor, &[raw], false).await?;
            }
            Ok(None) => {}
            Err(stop) if stop.outcome == Outcome::NotFound => {
                cursor.again.remove(&id);
                visit.note(format!("pulse {id} is not there any more"));
            }
            Err(stop) if stop.outcome == Outcome::BudgetSpent => return Err(stop),
            Err(stop) => {
                visit.note(format!("pulse {id} is asked for again next time: {}", stop.error));
            }
        }
        visit.save(json!(cursor)).await?;
    }
    Ok(())
}

/// Learns what was deleted, unsubscribed from and subscribed to since the last look.
async fn events(visit: &mut Visit<'_>, otx: &Pulses, cursor: &mut Cursor) -> Result<(), Stop> {
    let Some(since) = cursor.events else {
        // What was deleted before the first window is not stored.
        cursor.events = visit.ctx().now().checked_sub(EVENTS_BACK).ok();
        return Ok(());
    };
    let mut all: Vec<Event> = Vec::new();
    for page in 1..=EVENT_PAGES_MAX {
        let query = [
            ("limit", EVENTS_SIZE.to_string()),
            ("page", page.to_string()),
            ("since", stamp(since)),
        ];
        let url = otx.address("pulses/events", &query)?;
        let answer = match otx.get(visit, &url, Duration::ZERO).await {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(stop) if stop.outcome == Outcome::BudgetSpent => return Err(stop),
            Err(stop) => {
                visit.note(format!("which pulses were deleted is not known: {}", stop.error));
                return Ok(());
            }
        };
        let Ok(page) = Page::read(answer.body()) else {
            visit.note("which pulses were deleted is not known: `pulses/events` gives no list");
            return Ok(());
        };
        let before = all.len();
        let read = page.results.iter().filter_map(|raw| wire::event(raw));
        let read: Vec<Event> = read.filter(|event| !all.contains(event)).collect();
        all.extend(read);
        if page.next.is_none() || all.len() == before {
            break;
        }
    }
    all.sort_by_key(|event| event.created);
    let newest = all.last().and_then(|event| event.created);
    // The last word on each holds.
    let last: BTreeMap<(String, String), String> =
        all.into_iter().map(|event| ((event.object_type, event.object_id), event.action)).collect();
    for ((object_type, id), action) in last {
        heed(visit, cursor, &object_type, &id, &action).await?;
    }
    cursor.events = cursor.events.max(newest.map(|newest| newest.min(visit.ctx().now())));
    Ok(())
}

async fn heed(
    visit: &mut Visit<'_>,
    cursor: &mut Cursor,
    object_type: &str,
    id: &str,
    action: &str,
) -> Result<(), Stop> {
    match (object_type, action) {
        ("pulse", "delete" | "unsubscribe") => {
            let id = id.to_ascii_lowercase();
            cursor.again.remove(&id);
            retire(visit, &id).await
        }
        ("pulse", "subscribe") if cursor.again.len() < AGAIN_MAX => {
            cursor.again.insert(id.to_ascii_lowercase());
            Ok(())
        }
        ("user", "delete" | "unsubscribe") => {
            cursor.authors.remove(id);
            for id in pulses_of(visit, id).await? {
                retire(visit, &id).await?;
            }
            Ok(())
        }
        ("user", "subscribe") => {
            cursor.authors.insert(id.to_owned());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Marks a pulse that OTX no longer gives, and its part of each indicator.
async fn retire(visit: &mut Visit<'_>, pulse_id: &str) -> Result<(), Stop> {
    let (pulses, of_indicators) = (Index::named(pulse::INDEX)?, Index::named(indicators::INDEX)?);
    let (among, none) = (vec![of_one(pulse_id)], Present::default());
    let left = visit.retire(of_indicators, &indicators::OWNER, Some(pulse_id), among, none).await?;
    let now = visit.ctx().now();
    let gone = Write::retire(pulse::id(pulse_id), &pulse::OWNER, None, now);
    if visit.amend(pulses, &[gone]).await? > 0 {
        visit.note(format!(
            "pulse {pulse_id} was deleted or unsubscribed from: it and its part of {} indicators are marked",
            left.count
        ));
    }
    Ok(())
}

/// The ids of the active pulses of an author, by name or id.
async fn pulses_of(visit: &Visit<'_>, author: &str) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for field in ["author_name", "author_id"] {
        let filters = [(field, author), ("active", "true")]
            .map(|(name, value)| Filter::Terms(name.to_owned(), vec![value.to_owned()]));
        let scan = Scan { filters: filters.into(), ..Scan::of(&["pulse_id"]) };
        let mut pages =
            Pages::new(visit.ctx().documents.as_ref(), Index::named(pulse::INDEX)?, scan);
        while let Some(page) = pages.next().await? {
            ids.extend(
                page.iter().filter_map(|one| one.body.get("pulse_id")?.as_str().map(str::to_owned)),
            );
        }
    }
    Ok(ids)
}
