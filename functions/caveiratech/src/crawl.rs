//! The engine of both syncs: lists of posts, page by page, and the page of each post that is new or changed.
//!
//! A post is known by the digits of its address and by what the list said of it; only what differs is asked for. The cursor holds
//! that, and is saved after each post, so a run that is killed asks for no post twice. Pages shift while they are read: posts that
//! come push others down, which are met again; posts that go pull others up, past the reader. So the first page is read again at
//! the end, and where it shows that posts went, the list is. A full sync reads it until a whole reading brings nothing new.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base::address::shown;
use base::report::{Outcome, Report};
use base::{Error, Result};
use dom_query::Document;
use fetch::Limits;
use jiff::{SignedDuration, Timestamp};
use page::Unread;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stores::documents::{Index, Written};
use task::{Answer, Chosen, Ctx, Stop, Visit};
use url::Url;

use crate::article::{self, INDEX};
use crate::listing::{self, LOOKED_FOR, Listing, Teaser};
use crate::post::{self, Post};
use crate::settings::{SOURCE, Settings};
use crate::site::{Ask, PAGE, Site, SiteAnswer, refused};
use crate::ways::{self, Sitemap, WORDPRESS_FIELDS, Way};

/// How long a way that was found is taken for the best one.
const PROBED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Where feeds and sitemaps usually are.
const FEEDS: [&str; 4] = ["/feed/", "/rss", "/rss.xml", "/feed.xml"];
const SITEMAPS: [&str; 3] = ["/sitemap.xml", "/sitemap_index.xml", "/wp-sitemap.xml"];
/// Feeds and sitemaps that the site names itself and that are tried.
const NAMED_MAX: usize = 5;
/// Pages of a list; the site had over 300.
const PAGES_MAX: u32 = 3_000;
/// Posts that make a page where the list has none.
const PAGE_POSTS: usize = 10;
/// Posts of a page of WordPress's interface.
const WORDPRESS_POSTS: usize = 100;
/// Sitemaps of one list.
const SITEMAPS_MAX: u32 = 200;
/// Pages without posts, one after the other, that are passed over while more are announced.
const BLANK_MAX: u32 = 3;
/// Times that a list is read while posts leave it.
const PASSES_MAX: u32 = 3;
/// Pages that are read again at the end.
const AGAIN_MAX: u32 = 100;
/// Posts whose page fails, one after the other, before the run ends.
const FAILURES_MAX: u32 = 5;
/// Posts that are remembered; of more, the newest.
const SEEN_MAX: usize = 20_000;
/// Letters of a page that is not understood that are kept, and that a message shows.
const HEAD_KEPT: usize = 4 << 10;
const HEAD_SHOWN: usize = 300;
/// Letters of what the list said of a post that are compared.
const FINGERPRINT: usize = 8;

/// How far back a sync reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Depth {
    /// Until a page brings nothing new, so many pages at most.
    Newest(u32),
    /// To the end.
    Whole,
}

/// The source: the site's posts.
struct Posts {
    settings: Settings,
    depth: Depth,
}

impl task::Source for Posts {
    fn id(&self) -> &str {
        SOURCE
    }

    fn indices(&self) -> &'static [&'static str] {
        &[INDEX]
    }
}

/// How far the source is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cursor {
    /// The way to the newest posts, and the way to all of them.
    newest: Option<Way>,
    whole: Option<Way>,
    /// When they were looked for.
    probed: Option<Timestamp>,
    /// What each list said last of each post, by its id: a letter for the kind of list, and a fingerprint.
    seen: BTreeMap<u64, String>,
    /// Pages that must be read, as a sync did not come to their end.
    unfinished: u32,
    /// A post's page could not be read, so the list is read again whatever its validators say.
    has_failed: bool,
    /// Where the full sync is.
    pass: Option<Pass>,
    /// The last page that was not understood.
    changed: Option<ChangedPage>,
}

/// A full list being read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Pass {
    /// Pages that are stored.
    pages: u32,
    /// Posts of those.
    ids: BTreeSet<u64>,
    /// Posts of the first of them.
    first: BTreeSet<u64>,
    /// How often a post was met again.
    doubles: u64,
    /// It brought something new, so that it is worth another reading.
    has_news: bool,
    /// Which reading this is, from 0.
    number: u32,
}

/// What is kept of a page that was not understood.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ChangedPage {
    url: String,
    at: Timestamp,
    bytes: usize,
    sha256: String,
    title: String,
    head: String,
}

/// What a list said of a post before.
enum PostState {
    No,
    Same,
    /// By another kind of list.
    Elsewhere,
    Changed,
}

impl Cursor {
    /// For people.
    pub(crate) fn shown(&self) -> Value {
        let way = |way: &Option<Way>| way.as_ref().map(Way::shown);
        json!({
            "newest_by": way(&self.newest),
            "all_by": way(&self.whole),
            "looked_for_at": self.probed,
            "known_posts": self.seen.len(),
            "full_sync": self.pass.as_ref().map(|pass| json!({"pages": pass.pages, "posts": pass.ids.len()})),
            "layout_changed": self.changed,
        })
    }

    fn known(&self, kind: char, post: &Teaser) -> PostState {
        let Some(seen) = self.seen.get(&post.id) else { return PostState::No };
        match said(seen, kind) {
            None => PostState::Elsewhere,
            Some(said) if said == post.fingerprint() => PostState::Same,
            Some(_) => PostState::Changed,
        }
    }

    fn remember(&mut self, kind: char, post: &Teaser) {
        let seen = self.seen.entry(post.id).or_default();
        let others: String =
            tokens(seen).filter(|token| !token.starts_with(kind)).collect::<Vec<_>>().concat();
        *seen = format!("{others}{kind}{}", post.fingerprint());
        while self.seen.len() > SEEN_MAX {
            self.seen.pop_first();
        }
    }
}

/// What each kind of list said.
fn tokens(seen: &str) -> impl Iterator<Item = &str> {
    let places = (0..seen.len()).step_by(FINGERPRINT + 1);
    places.filter_map(|place| seen.get(place..place + FINGERPRINT + 1))
}

fn said(seen: &str, kind: char) -> Option<&str> {
    tokens(seen).find_map(|token| token.strip_prefix(kind))
}

fn kind(way: &Way) -> char {
    match way {
        Way::Feed(_) => 'f',
        Way::Sitemap(_) => 's',
        Way::WordPress(_) => 'w',
        Way::Pages => 'p',
    }
}

/// Crawls the site.
///
/// # Errors
/// `Config`, where there is no address; `Store`, where the state or the index cannot be used.
pub(crate) async fn crawl(ctx: &Ctx, depth: Depth) -> Result<Report> {
    let settings: Settings = ctx.settings()?;
    settings.home()?;
    ctx.each(Chosen::every(vec![Posts { settings, depth }]), 1, read).await
}

async fn read(visit: &mut Visit<'_>, posts: &Posts) -> Result<(), Stop> {
    let mut cursor = visit.cursor::<Cursor>().unwrap_or_default();
    let is_replay = visit.ctx().config.behaviour.reparse.is_some();
    if is_replay {
        // What is read again is made anew of what was fetched.
        cursor = Cursor { newest: cursor.newest, whole: cursor.whole, ..Cursor::default() };
    }
    let mut crawl = Crawl {
        site: Site::open(visit, &posts.settings).await?,
        index: Index::named(INDEX)?,
        now: visit.ctx().now(),
        is_conditional: cursor.unfinished == 0 && !cursor.has_failed,
        cursor,
        pass: Pass::default(),
        is_whole: matches!(posts.depth, Depth::Whole),
        met: HashSet::new(),
        stored: HashSet::new(),
        dates: Vec::new(),
        failures: 0,
        has_failed: false,
        has_met_known: false,
    };
    let probed = crawl.cursor.probed;
    let is_fresh =
        probed.is_some_and(|at| at <= crawl.now && crawl.now.duration_since(at) < PROBED_FOR);
    if !is_replay && (!is_fresh || crawl.cursor.whole.is_none()) {
        crawl.probe(visit).await?;
    }
    match posts.depth {
        Depth::Newest(pages) => crawl.newest(visit, pages).await?,
        Depth::Whole => crawl.whole(visit).await?,
    }
    visit.learn_habit(std::mem::take(&mut crawl.dates));
    Ok(())
}

/// How a list ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// Time ran out.
    Late,
    /// A page brought nothing new, or the list said that nothing changed.
    Met,
    /// At its own end, or at the limit of the run.
    Whole,
    /// It is no list any more.
    Broken(String),
}

/// What one page of a list came to.
struct Page {
    is_cut: bool,
    /// It brought a post that was stored now.
    has_stored: bool,
    /// It holds a post that was not known before this visit.
    has_news: bool,
}

struct Crawl {
    site: Site,
    index: &'static Index,
    cursor: Cursor,
    now: Timestamp,
    pass: Pass,
    is_whole: bool,
    /// A list may answer that nothing changed.
    is_conditional: bool,
    /// Posts that this visit met, and those of them that it stored.
    met: HashSet<u64>,
    stored: HashSet<u64>,
    dates: Vec<Timestamp>,
    /// Posts whose page failed, one after the other; whether there was one.
    failures: u32,
    has_failed: bool,
    /// A post was met that was known before this visit.
    has_met_known: bool,
}

impl Crawl {
    async fn save(&mut self, visit: &mut Visit<'_>) -> Result<(), Stop> {
        visit.save(json!(self.cursor)).await
    }

    /// The newest posts, `pages_max` pages of them at most.
    async fn newest(&mut self, visit: &mut Visit<'_>, pages_max: u32) -> Result<(), Stop> {
        let mut way = self.cursor.newest.clone().unwrap_or(Way::Pages);
        let (mut is_probed, must_all) = (false, self.cursor.unfinished > 0);
        loop {
            visit.note(format!("posts are listed by {}", way.shown()));
            match self.newest_by(visit, &way, pages_max).await? {
                Ended::Late => return Ok(()),
                Ended::Broken(why) => {
                    visit.note(format!("{} is no list any more: {why}", way.shown()));
                    way = if is_probed { Way::Pages } else { self.probe(visit).await?.0 };
                    is_probed = true;
                }
                // A feed holds a few: what is between them and those that are known, the whole list has.
                Ended::Whole if !way.is_whole() && (must_all || !self.has_met_known) => {
                    visit.note("the feed does not reach back to what is known");
                    way = self.cursor.whole.clone().unwrap_or(Way::Pages);
                }
                Ended::Met | Ended::Whole => break,
            }
        }
        self.cursor.unfinished = 0;
        self.cursor.has_failed = self.has_failed;
        self.save(visit).await
    }

    async fn newest_by(
        &mut self,
        visit: &mut Visit<'_>,
        way: &Way,
        pages_max: u32,
    ) -> Result<Ended, Stop> {
        let mut number = 0;
        loop {
            let must = if number == 0 { self.cursor.unfinished } else { pages_max };
            self.pass = Pass { number, ..Pass::default() };
            let mut list = List::new(way, 0, self.is_conditional && number == 0);
            let ended = self.pages(visit, &mut list, pages_max, Some(must)).await?;
            if !matches!(ended, Ended::Met | Ended::Whole) || self.pass.pages < 2 {
                return Ok(ended);
            }
            match self.again(visit, way).await? {
                Again::Late => return Ok(Ended::Late),
                Again::Lost if number + 1 < PASSES_MAX => number += 1,
                Again::Lost | Again::Nothing => return Ok(ended),
            }
        }
    }

    /// All posts, from where an earlier run was.
    async fn whole(&mut self, visit: &mut Visit<'_>) -> Result<(), Stop> {
        let mut way = self.cursor.whole.clone().unwrap_or(Way::Pages);
        loop {
            visit.note(format!("all posts are listed by {}", way.shown()));
            self.pass = self.cursor.pass.clone().unwrap_or_default();
            let before = if way == Way::Pages { self.pass.pages } else { 0 };
            if before > 0 {
                visit.note(format!("goes on behind page {before}"));
            }
            let mut list = List::new(&way, before, false);
            match self.pages(visit, &mut list, PAGES_MAX, None).await? {
                Ended::Late => return Ok(()),
                Ended::Broken(why) => {
                    visit.note(format!("{} is no list any more: {why}", way.shown()));
                    way = Way::Pages;
                    self.cursor.whole = Some(Way::Pages);
                    self.cursor.pass = None;
                    continue;
                }
                Ended::Met | Ended::Whole => {}
            }
            let number = self.pass.number;
            let is_lost = match self.again(visit, &way).await? {
                Again::Late => return Ok(()),
                Again::Lost => true,
                // What went while it was read, no page shows.
                Again::Nothing => self.pass.has_news && moves(&way),
            };
            if !is_lost || number + 1 >= PASSES_MAX {
                break;
            }
            self.cursor.pass = Some(Pass { number: number + 1, ..Pass::default() });
            self.save(visit).await?;
        }
        self.cursor.pass = None;
        self.cursor.unfinished = 0;
        self.cursor.has_failed = self.has_failed;
        self.save(visit).await
    }

    /// Reads pages of a list and stores their posts. Where `must` is given, ends at the first page behind so many that brings
    /// nothing new.
    async fn pages(
        &mut self,
        visit: &mut Visit<'_>,
        list: &mut List,
        pages_max: u32,
        must: Option<u32>,
    ) -> Result<Ended, Stop> {
        while self.pass.pages < pages_max {
            if visit.is_late() {
                return Ok(Ended::Late);
            }
            let posts = match self.next(visit, list).await? {
                Next::Page(posts) => posts,
                Next::End => return Ok(Ended::Whole),
                Next::NotModified => return Ok(Ended::Met),
                Next::Broken(why) => return Ok(Ended::Broken(why)),
            };
            if self.cursor.unfinished == 0 && must.is_some() && self.has_news(list, &posts) {
                self.cursor.unfinished = pages_max;
            }
            let page = self.page(visit, kind(&list.way), &posts).await?;
            if page.is_cut {
                return Ok(Ended::Late);
            }
            let ids = posts.iter().map(|post| post.id);
            if self.pass.ids.is_empty() {
                self.pass.first = ids.clone().collect();
            }
            self.pass.has_news |= page.has_stored;
            self.pass.doubles += ids.clone().filter(|id| self.pass.ids.contains(id)).count() as u64;
            self.pass.ids.extend(ids);
            self.pass.pages = if list.way == Way::Pages { list.page } else { self.pass.pages + 1 };
            if self.is_whole {
                self.cursor.pass = Some(self.pass.clone());
            }
            self.save(visit).await?;
            if must.is_some_and(|must| self.pass.pages > must) && !page.has_news {
                return Ok(Ended::Met);
            }
        }
        Ok(Ended::Whole)
    }

    fn has_news(&self, list: &List, posts: &[Teaser]) -> bool {
        let is_news = |post: &Teaser| {
            matches!(self.cursor.known(kind(&list.way), post), PostState::No | PostState::Changed)
        };
        posts.iter().any(is_news)
    }

    /// Reads the list's beginning again, where posts may have come since. Where more came than were met again, or one that was
    /// there is not, others may have moved up past the reader.
    async fn again(&mut self, visit: &mut Visit<'_>, way: &Way) -> Result<Again, Stop> {
        if !moves(way) {
            return Ok(Again::Nothing);
        }
        let mut list = List::new(way, 0, false);
        let (mut came, mut gone) = (0, self.pass.first.clone());
        for _ in 0..AGAIN_MAX {
            if visit.is_late() {
                return Ok(Again::Late);
            }
            let Next::Page(posts) = self.next(visit, &mut list).await? else { break };
            let new = posts.iter().filter(|post| !self.pass.ids.contains(&post.id)).count() as u64;
            if self.page(visit, kind(way), &posts).await?.is_cut {
                return Ok(Again::Late);
            }
            self.save(visit).await?;
            came += new;
            let still = posts.iter().filter(|post| gone.remove(&post.id)).count();
            if new == 0 && (gone.is_empty() || still == 0) {
                break;
            }
        }
        if came <= self.pass.doubles && gone.is_empty() {
            return Ok(Again::Nothing);
        }
        visit.note(format!(
            "{came} posts came while the list was read, {} were met again, {} left its first page: it is read once more",
            self.pass.doubles,
            gone.len()
        ));
        Ok(Again::Lost)
    }

    /// Stores those posts of a page that are new or changed.
    async fn page(
        &mut self,
        visit: &mut Visit<'_>,
        kind: char,
        posts: &[Teaser],
    ) -> Result<Page, Stop> {
        visit.found(self.index, posts.len() as u64);
        let mut page = Page { is_cut: false, has_stored: false, has_news: false };
        for post in posts {
            let known = self.cursor.known(kind, post);
            if self.met.contains(&post.id) && !matches!(known, PostState::Changed) {
                visit.merged(self.index, 1);
                if matches!(known, PostState::Elsewhere) {
                    self.cursor.remember(kind, post);
                }
                page.has_news |= self.stored.contains(&post.id);
                continue;
            }
            match known {
                PostState::Same | PostState::Elsewhere => {
                    visit.unchanged(self.index, 1);
                    self.cursor.remember(kind, post);
                    self.met.insert(post.id);
                    self.has_met_known = true;
                }
                PostState::No | PostState::Changed => {
                    if visit.is_late() {
                        page.is_cut = true;
                        return Ok(page);
                    }
                    page.has_stored |= self.post(visit, kind, post).await?;
                    page.has_news |= page.has_stored;
                    self.met.insert(post.id);
                }
            }
        }
        Ok(page)
    }

    /// Asks for a post's page and stores the post; true where it is stored as it should be.
    async fn post(
        &mut self,
        visit: &mut Visit<'_>,
        kind: char,
        post: &Teaser,
    ) -> Result<bool, Stop> {
        self.dates.extend(post.date.map(|when| when.at));
        let read = match self.site.get(visit, &post.link, Ask::Anyway, PAGE).await {
            Ok(SiteAnswer::Body(answer)) => {
                let now = self.now;
                match in_tree(visit, answer, move |page, base| post::read(page, base, now)).await? {
                    Ok(page) if page.is_empty() => {
                        let why =
                            "neither a title nor a text is found on its page: the layout changed";
                        Read::Failed(Stop::new(Outcome::LayoutChanged, Error::format(why)))
                    }
                    Ok(page) => Read::Page(page),
                    Err(unread) => Read::Failed(too_much(&post.link, unread)),
                }
            }
            Ok(SiteAnswer::Status(status @ (404 | 410))) => {
                visit.reject(
                    self.index,
                    format!("post {}: its page is gone (status {status})", post.id),
                );
                Read::Gone
            }
            Ok(SiteAnswer::Status(status)) => Read::Failed(refused(&post.link, status)),
            Ok(SiteAnswer::Forbidden) => {
                visit.note("`robots.txt` does not allow posts' own pages: what lists say of them is stored");
                Read::Forbidden
            }
            Ok(SiteAnswer::Nothing) => {
                visit.filtered(self.index, 1);
                Read::Gone
            }
            Err(stop) if stop.outcome == Outcome::RateLimited => return Err(stop),
            Err(stop) => Read::Failed(stop),
        };
        let page = match read {
            Read::Page(page) => Some(page),
            Read::Forbidden => None,
            Read::Gone => {
                self.cursor.remember(kind, post);
                self.save(visit).await?;
                return Ok(false);
            }
            Read::Failed(stop) => {
                self.failed(visit, post, stop).await?;
                return Ok(false);
            }
        };
        self.failures = 0;
        let write = article::write(post, page.as_ref(), &self.site.home, self.now);
        let written = visit.store(self.index, &[write]).await?;
        if !written.iter().any(|outcome| matches!(outcome, Written::Failed(_))) {
            self.cursor.remember(kind, post);
            self.stored.insert(post.id);
            self.save(visit).await?;
        }
        Ok(true)
    }

    /// Keeps what the list says of a post whose page failed, where nothing better is stored; it is asked for again next time.
    async fn failed(
        &mut self,
        visit: &mut Visit<'_>,
        post: &Teaser,
        stop: Stop,
    ) -> Result<(), Stop> {
        self.failures += 1;
        (self.has_failed, self.cursor.has_failed) = (true, true);
        let why = format!("post {}: {}; it is asked for again", post.id, stop.error.chain());
        let id = article::id(post.id);
        let is_stored = visit.ctx().documents.get(self.index, &id).await?.is_some();
        if is_stored || post.title.is_empty() {
            visit.reject(self.index, why);
        } else {
            visit.note(why);
            let write = article::write(post, None, &self.site.home, self.now);
            visit.store(self.index, &[write]).await?;
        }
        if self.failures >= FAILURES_MAX {
            return Err(stop);
        }
        Ok(())
    }

    /// The next page of a list.
    async fn next(&mut self, visit: &mut Visit<'_>, list: &mut List) -> Result<Next, Stop> {
        if list.way == Way::Pages {
            return self.next_page(visit, list).await;
        }
        while list.posts.is_empty() {
            let url = match (&list.way, list.page) {
                (Way::Feed(url) | Way::Sitemap(url), 0) => url.clone(),
                (Way::Sitemap(_), 1..SITEMAPS_MAX) => match list.further.pop() {
                    Some(url) => url,
                    None => return Ok(Next::End),
                },
                (Way::WordPress(url), page) if page < PAGES_MAX => wordpress_page(url, page + 1),
                _ => return Ok(Next::End),
            };
            let is_first = list.page == 0;
            list.page += 1;
            let ask = if is_first && list.is_conditional { Ask::IfChanged } else { Ask::Anyway };
            let broken = |why: String| match is_first {
                true => Next::Broken(why),
                false => Next::End,
            };
            let answer = match self.site.get(visit, &url, ask, Limits::FEED).await? {
                SiteAnswer::Body(answer) => answer,
                SiteAnswer::Nothing if is_first => return Ok(Next::NotModified),
                SiteAnswer::Nothing => return Ok(Next::End),
                SiteAnswer::Status(status @ 500..) => return Err(refused(&url, status)),
                SiteAnswer::Status(status) => return Ok(broken(format!("status {status}"))),
                SiteAnswer::Forbidden => {
                    return Ok(broken("`robots.txt` does not allow it".to_owned()));
                }
            };
            match self.listed(&list.way, &url, answer).await? {
                Some(Sitemap { posts, further }) if !posts.is_empty() || !further.is_empty() => {
                    list.posts = posts;
                    list.further.extend(further.into_iter().rev());
                }
                Some(_) => return Ok(broken("it names no post".to_owned())),
                None => return Ok(broken("it has another form".to_owned())),
            }
        }
        let rest = list.posts.split_off(list.posts.len().min(PAGE_POSTS));
        Ok(Next::Page(std::mem::replace(&mut list.posts, rest)))
    }

    /// What a feed, a sitemap or WordPress's interface lists, read on a thread of its own.
    async fn listed(&self, way: &Way, url: &Url, answer: Answer) -> Result<Option<Sitemap>, Stop> {
        let (way, url, home) = (way.clone(), url.clone(), self.site.home.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let (body, content_type) = (answer.body(), answer.content_type());
            let of = |posts| Sitemap { posts, further: Vec::new() };
            match way {
                Way::Feed(_) => ways::of_feed(body, content_type, &url, &home).map(of),
                Way::Sitemap(_) => ways::of_sitemap(body, content_type, &url, &home),
                Way::WordPress(_) => ways::of_wordpress(body, &home).map(of),
                Way::Pages => None,
            }
        });
        reading.await.map_err(|_| panicked())
    }

    /// The next page for people that has posts.
    async fn next_page(&mut self, visit: &mut Visit<'_>, list: &mut List) -> Result<Next, Stop> {
        let mut blank = 0;
        loop {
            list.page += 1;
            let url = match list.page {
                1 => self.site.home.clone(),
                page if page <= PAGES_MAX => self.site.address(&format!("page/{page}"))?,
                _ => return Ok(Next::End),
            };
            let is_first = list.page == 1;
            let ask = if is_first && list.is_conditional { Ask::IfChanged } else { Ask::Anyway };
            let answer = match self.site.get(visit, &url, ask, PAGE).await? {
                SiteAnswer::Body(answer) => answer,
                SiteAnswer::Nothing if is_first => return Ok(Next::NotModified),
                SiteAnswer::Nothing => return Ok(Next::End),
                SiteAnswer::Status(400 | 404 | 410) if !is_first => return Ok(Next::End),
                SiteAnswer::Status(status) => return Err(refused(&url, status)),
                SiteAnswer::Forbidden => {
                    visit.note(format!("`robots.txt` does not allow `{}`", shown(&url)));
                    return Ok(Next::End);
                }
            };
            let (bytes, sha256) = (answer.body().len(), hex::encode(Sha256::digest(answer.body())));
            let head: String = {
                let text = page::text(answer.body(), answer.content_type());
                text[..text.floor_char_boundary(HEAD_KEPT)].to_owned()
            };
            let now = self.now;
            let read =
                in_tree(visit, answer, move |page, base| listing::read(&page, base, now)).await?;
            let Listing { posts, last_page, title } =
                read.map_err(|unread| too_much(&url, unread))?;
            list.last_page = list.last_page.max(last_page);
            if posts.is_empty() {
                if is_first {
                    let url = shown(&url);
                    let page = ChangedPage { url, at: self.now, bytes, sha256, title, head };
                    return Err(self.layout_changed(visit, page).await);
                }
                blank += 1;
                if blank < BLANK_MAX && list.last_page.is_some_and(|last| list.page < last) {
                    continue;
                }
                return Ok(Next::End);
            }
            // Many sites give their last page for any number.
            let ids: BTreeSet<u64> = posts.iter().map(|post| post.id).collect();
            if ids == list.before {
                return Ok(Next::End);
            }
            list.before = ids;
            if is_first {
                self.cursor.changed = None;
            }
            return Ok(Next::Page(posts));
        }
    }

    /// The alarm, with what helps to repair the ladder.
    async fn layout_changed(&mut self, visit: &mut Visit<'_>, page: ChangedPage) -> Stop {
        let shown: String = page::one_line(&page.head).chars().take(HEAD_SHOWN).collect();
        let error = Error::format(format!(
            "read `{}`: the layout changed: no post in {} bytes titled `{}` (sha256 {}); looked for {LOOKED_FOR}",
            page.url, page.bytes, page.title, page.sha256
        ))
        .hint(format!(
            "`get_caveiratech_stats` shows the page's head, and MINERVA_ARCHIVE keeps whole pages for `reparse`; it begins `{shown}`"
        ));
        self.cursor.changed = Some(page);
        match self.save(visit).await {
            Ok(()) => Stop::new(Outcome::LayoutChanged, error),
            Err(stop) => stop,
        }
    }

    /// Looks for ways to the posts, and remembers the first that gives a dated post: for the newest, and for all.
    async fn probe(&mut self, visit: &mut Visit<'_>) -> Result<(Way, Way), Stop> {
        self.is_conditional = false;
        let mut feeds: Vec<Url> = Vec::new();
        for path in FEEDS {
            feeds.push(self.site.address(path)?);
        }
        let mut newest = self.first_of(visit, feeds.iter().cloned().map(Way::Feed)).await?;
        if newest.is_none() {
            let home = self.site.home.clone();
            if let SiteAnswer::Body(answer) = self.site.get(visit, &home, Ask::Anyway, PAGE).await?
            {
                let url = answer.url().to_owned();
                let hints = feed::Hints { content_type: answer.content_type(), url: &url };
                let linked =
                    feed::linked_feeds(answer.body(), &hints).into_iter().map(|feed| feed.url);
                let linked =
                    linked.filter(|url| listing::is_same_site(&home, url) && !feeds.contains(url));
                let linked: Vec<Way> = linked.take(NAMED_MAX).map(Way::Feed).collect();
                newest = self.first_of(visit, linked.into_iter()).await?;
            }
        }
        let mut sitemaps: Vec<Url> = self.site.sitemaps().take(NAMED_MAX).cloned().collect();
        for path in SITEMAPS {
            let url = self.site.address(path)?;
            if !sitemaps.contains(&url) {
                sitemaps.push(url);
            }
        }
        let wordpress = Way::WordPress(ways::wordpress(&self.site.home)?);
        let wholes = sitemaps.into_iter().map(Way::Sitemap).chain([wordpress]);
        let whole = self.first_of(visit, wholes).await?.unwrap_or(Way::Pages);
        let newest = newest.unwrap_or_else(|| whole.clone());
        self.cursor.newest = Some(newest.clone());
        if self.cursor.whole.as_ref().is_some_and(|before| *before != whole) {
            // Pages of one list are none of another.
            self.cursor.pass = None;
        }
        self.cursor.whole = Some(whole.clone());
        self.cursor.probed = Some(self.now);
        self.save(visit).await?;
        Ok((newest, whole))
    }

    async fn first_of(
        &mut self,
        visit: &mut Visit<'_>,
        ways: impl Iterator<Item = Way>,
    ) -> Result<Option<Way>, Stop> {
        for way in ways {
            let mut list = List::new(&way, 0, false);
            let found = match self.next(visit, &mut list).await {
                Ok(Next::Page(posts)) => {
                    let is_dated =
                        posts.iter().any(|post| post.date.is_some() || post.edited.is_some());
                    if is_dated { Ok(()) } else { Err("its posts have no dates".to_owned()) }
                }
                Ok(Next::Broken(why)) => Err(why),
                Ok(Next::End | Next::NotModified) => Err("it is empty".to_owned()),
                Err(stop) if is_of_the_site(stop.outcome) => return Err(stop),
                Err(stop) => Err(stop.error.to_string()),
            };
            match found {
                Ok(()) => {
                    visit.note(format!("looked for a list: {} is one", way.shown()));
                    return Ok(Some(way));
                }
                Err(why) => {
                    visit.note(format!("looked for a list: {} is none: {why}", way.shown()));
                }
            }
        }
        Ok(None)
    }
}

/// Whether an address that failed like this says something of the whole site.
fn is_of_the_site(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::RateLimited
            | Outcome::Unreachable
            | Outcome::Unresolved
            | Outcome::Refused
            | Outcome::Reset
            | Outcome::Tls
            | Outcome::TimedOut
            | Outcome::NotStored
    )
}

/// Whether posts move from one page to the next while the list is read.
fn moves(way: &Way) -> bool {
    matches!(way, Way::Pages | Way::WordPress(_))
}

/// What came of reading a list's beginning again.
enum Again {
    Late,
    /// Posts may have been passed over.
    Lost,
    Nothing,
}

/// A post's page.
enum Read {
    Page(Post),
    /// `robots.txt` keeps it to itself.
    Forbidden,
    /// There is none, which is counted.
    Gone,
    Failed(Stop),
}

/// A step on a list.
enum Next {
    Page(Vec<Teaser>),
    End,
    NotModified,
    /// It is no list, for this reason.
    Broken(String),
}

/// A list being read.
struct List {
    way: Way,
    /// Pages that were asked for.
    page: u32,
    is_conditional: bool,
    /// Posts that came and are not given yet.
    posts: Vec<Teaser>,
    /// Sitemaps to read, the next one last.
    further: Vec<Url>,
    /// The posts of the page before.
    before: BTreeSet<u64>,
    last_page: Option<u32>,
}

impl List {
    fn new(way: &Way, page: u32, is_conditional: bool) -> Self {
        Self {
            way: way.clone(),
            page,
            is_conditional,
            posts: Vec::new(),
            further: Vec::new(),
            before: BTreeSet::new(),
            last_page: None,
        }
    }
}

fn wordpress_page(url: &Url, page: u32) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut()
        .append_pair("per_page", &WORDPRESS_POSTS.to_string())
        .append_pair("page", &page.to_string())
        .append_pair("_fields", WORDPRESS_FIELDS);
    url
}

/// Parses a page on a thread of its own and reads what is wanted of it, within the limits of pages and the run's time.
async fn in_tree<T: Send + 'static>(
    visit: &Visit<'_>,
    answer: Answer,
    read: impl FnOnce(Document, &Url) -> T + Send + 'static,
) -> Result<Result<T, Unread>, Stop> {
    let cutoff = visit.cutoff();
    let reading = tokio::task::spawn_blocking(move || {
        let text = page::text(answer.body(), answer.content_type());
        let page = page::parse(&text, || cutoff.is_over())?;
        let base = Url::parse(answer.url()).map_err(|_| Unread::TooSlow)?;
        Ok(read(page, &base))
    });
    reading.await.map_err(|_| panicked())
}

fn too_much(url: &Url, unread: Unread) -> Stop {
    let outcome = match unread {
        Unread::TooDeep => Outcome::TooDeep,
        Unread::TooManyNodes | Unread::TooSlow => Outcome::Unreadable,
    };
    Stop::new(outcome, Error::format(format!("read `{}`: {unread}", shown(url))))
}

fn panicked() -> Stop {
    let error = Error::format("read a page of CaveiraTech: the parser panicked");
    error.hint("this is a bug: please report it with the page").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_kind_of_list_said_is_kept_apart() {
        let mut post = Teaser {
            id: 1_000_001,
            link: "https://a.example/post/a-1000001".parse().unwrap(),
            title: "A".to_owned(),
            summary: String::new(),
            date: None,
            edited: None,
        };
        let mut cursor = Cursor::default();
        assert!(matches!(cursor.known('p', &post), PostState::No));
        cursor.remember('p', &post);
        assert!(matches!(cursor.known('p', &post), PostState::Same));
        assert!(matches!(cursor.known('f', &post), PostState::Elsewhere));
        cursor.remember('f', &post);
        post.title = "B".to_owned();
        cursor.remember('p', &post);
        assert!(matches!(cursor.known('p', &post), PostState::Same));
        assert!(matches!(cursor.known('f', &post), PostState::Changed));
        let kept: Cursor = serde_json::from_value(json!(cursor)).unwrap();
        assert_eq!(kept.seen, cursor.seen);
    }
}
