//! The engine of the three syncs: one tarball, fetched once, for rules and indicators, which are a source each.

use std::cell::RefCell;
use std::sync::Arc;

use base::report::{Outcome, Report};
use base::{Error, Result};
use fetch::{Limits, Request};
use indicator::Indicator;
use ioc::{Lists, Renewed, Tagged};
use serde_json::{Map, Value, json};
use stores::documents::{Filter, Index};
use task::{Answer, Chosen, Ctx, Cutoff, Present, Stop, Visit, tarball};
use url::Url;
use yara::document::{INDEX as RULES, Origin};
use yara::store::{self, Collected};
use yara::{link, split};

use crate::category::{category, is_rules};
use crate::indicator::{BEFORE, INDEX as IOCS, Indicators, OWNER, SINCE};
use crate::iocs::{self, Layout};
use crate::settings::{NAME, Settings};

/// Indicators that are written together.
const BATCH: usize = 512;
/// Bytes of their texts, after which a batch is written: with all copies some 4 MB.
const BATCH_BYTES: usize = 1 << 20;

/// Bytes of one file of the tarball; the largest today has 1.04 MB.
const FILE_BYTES_MAX: u64 = 8 << 20;

const ACCEPT: &str = "application/gzip, application/x-gzip, application/x-tar, */*;q=0.5";

/// A part of the tarball, with a cursor of its own: one can fail without the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The YARA rules.
    Rules,
    /// The indicators.
    Iocs,
}

impl Part {
    /// Both, in the order in which they are stored.
    pub const ALL: [Self; 2] = [Self::Rules, Self::Iocs];
}

impl task::Source for Part {
    fn id(&self) -> &str {
        match self {
            Self::Rules => "rules",
            Self::Iocs => "iocs",
        }
    }

    fn indices(&self) -> &'static [&'static str] {
        match self {
            Self::Rules => &[RULES],
            Self::Iocs => &[IOCS],
        }
    }
}

/// Where the rules come from.
pub fn origin(version: Option<String>) -> Origin {
    Origin {
        family: NAME,
        source_type: "repository",
        source: "signature_base",
        name: "Neo23x0/signature-base",
        files_url: "https://github.com/Neo23x0/signature-base/blob/master/",
        license: |file| match file {
            "vendor/yara/airbnb_binaryalert.yar" => Some("Apache License 2.0 (Airbnb BinaryAlert)"),
            file if file.starts_with("vendor/") => None,
            _ => Some(
                "Detection Rule License 1.1 https://github.com/Neo23x0/signature-base/blob/master/LICENSE",
            ),
        },
        category,
        version,
    }
}

/// Syncs these parts.
pub async fn sync(ctx: &Ctx, parts: &[Part]) -> Result<Report> {
    let settings: Settings = ctx.settings()?;
    let url = Url::parse(&settings.url).map_err(|cause| {
        Error::config(format!("read the address `{}`", settings.url))
            .because(cause)
            .hint("`SIGNATURE_BASE_URL` is the address of a `.tar.gz`")
    })?;
    let detail = RefCell::new(Map::new());
    let work = async |visit: &mut Visit<'_>, part: &Part| {
        if *part == Part::Iocs && tag(visit).await? == Renewed::Cut {
            return Ok(());
        }
        // Once for both parts, on condition that it changed for either.
        let request = Request::get(&url).accept(ACCEPT).limits(Limits::ARCHIVE);
        while let Some(answer) = visit.get_shared(request.clone()).await? {
            let (version, shown) = match part {
                Part::Rules => rules(visit, answer).await?,
                Part::Iocs => indicators(visit, answer, settings.score.min(100)).await?,
            };
            let mut detail = detail.borrow_mut();
            detail.insert("version".to_owned(), json!(version));
            detail.extend(shown);
        }
        Ok(())
    };
    let report = ctx.each(Chosen::every(parts.to_vec()), 1, work).await?;
    Ok(report.with_detail(Value::Object(detail.into_inner())))
}

/// The commit of a tarball, and what the report shows of a part of it.
type PartDetail = (Option<String>, Map<String, Value>);

/// What a tarball holds of one part.
struct Contents<T> {
    part: T,
    version: Option<String>,
    rejects: Vec<String>,
    url: String,
    /// Why it was not read to its end; what is missing has not left then.
    broken: Option<String>,
}

/// Reads the wanted files of a tarball on a thread of its own.
async fn unpack<T: Default + Send + 'static>(
    answer: Answer,
    cutoff: Cutoff,
    wanted: fn(&str) -> bool,
    take: fn(&mut T, &str, Vec<u8>),
) -> Result<Contents<T>> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut part = T::default();
        // When nobody waits for it any more, what is left is passed over.
        let is_wanted = |name: &str| !cutoff.is_over() && wanted(name);
        let read = tarball::read(answer.body(), FILE_BYTES_MAX, is_wanted, |name, bytes| {
            take(&mut part, name, bytes);
        });
        let cut = answer.is_truncated().then(|| "the connection ended early".to_owned());
        let empty = (read.entries == 0).then(|| "it is empty".to_owned());
        Contents {
            part,
            version: read.version,
            rejects: read.rejects,
            url: answer.url().to_owned(),
            broken: cut.or(read.broken).or(empty),
        }
    });
    reading.await.map_err(|cause| {
        Error::format("read the tarball: the parser panicked")
            .because(cause)
            .hint("this is a bug: please report it with the tarball's commit")
    })
}

impl<T> Contents<T> {
    /// The failure of a tarball that was not read to its end.
    fn unread(&self) -> Option<Stop> {
        let why = self.broken.as_ref()?;
        let error = Error::format(format!("read the tarball at `{}`: {why}", self.url))
            .hint("`SIGNATURE_BASE_URL` is the address of a `.tar.gz`; what could be read is stored, and it is asked for again");
        Some(Stop::new(Outcome::Unreadable, error))
    }

    /// Whether every file of it was read.
    fn is_complete(&self) -> bool {
        self.broken.is_none() && self.rejects.is_empty()
    }

    /// A tarball without anything of a kind is not that of this repository.
    fn without(&self, what: &str) -> Stop {
        let error = Error::format(format!(
            "read the tarball at `{}`: it holds no {what}",
            self.url
        ))
        .hint(
            "look whether the repository was moved or renamed; nothing that is stored was touched",
        );
        Stop::new(Outcome::Empty, error)
    }
}

async fn rules(visit: &mut Visit<'_>, answer: Answer) -> Result<PartDetail, Stop> {
    let take = |rules: &mut Collected, name: &str, bytes: Vec<u8>| rules.add(name, split(&bytes));
    let mut contents: Contents<Collected> = unpack(answer, visit.cutoff(), is_rules, take).await?;
    if visit.is_cut_off() {
        return Ok((None, Map::new()));
    }
    let mut collected = std::mem::take(&mut contents.part);
    let mut detail = Map::new();
    if !collected.is_empty() {
        contents.rejects.iter().for_each(|reason| collected.reject(reason));
        let origin = origin(contents.version.clone());
        let stored = store::store(visit, &origin, collected, contents.is_complete()).await?;
        detail.insert("rules".to_owned(), stored.detail());
    } else if contents.broken.is_none() {
        return Err(contents.without("YARA rule"));
    }
    if let Some(stop) = contents.unread() {
        return Err(stop);
    }
    // Before the cursor moves: a run that ends here links when it comes again.
    detail.insert("linked".to_owned(), link::link(visit.ctx()).await?);
    Ok((contents.version, detail))
}

/// Tags what is stored anew where the warninglists changed.
async fn tag(visit: &mut Visit<'_>) -> Result<Renewed, Stop> {
    let mut tagged: Tagged = visit.cursor().unwrap_or_default();
    let since = vec![Filter::Exists(SINCE.to_owned())];
    let renewed = tagged.renew(visit, &OWNER, Index::named(IOCS)?, since, true).await?;
    if renewed != Renewed::Nothing {
        visit.save(json!(tagged)).await?;
    }
    Ok(renewed)
}

/// The indicators of all files, and the lines that are malformed.
#[derive(Default)]
struct Files {
    indicators: Indicators,
    rejects: Vec<String>,
    rejected: u64,
    left_out: u64,
    comments_cut: u64,
}

impl Files {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        let Some(layout) = Layout::of(name) else { return };
        let parsed = iocs::parse(layout, bytes);
        self.rejected += parsed.rejected;
        self.left_out += parsed.left_out;
        self.comments_cut += parsed.comments_cut;
        let room = iocs::REJECTS_MAX.saturating_sub(self.rejects.len());
        let shown = parsed.rejects.iter().take(room);
        self.rejects.extend(shown.map(|reason| format!("{name}: {reason}")));
        let file: Arc<str> = Arc::from(name);
        parsed.lines.into_iter().for_each(|line| self.indicators.add(&file, layout, line));
    }

    /// Lines that no document was made of for a limit.
    fn left_out(&self) -> u64 {
        self.left_out + self.indicators.left_out
    }
}

async fn indicators(visit: &mut Visit<'_>, answer: Answer, score: u32) -> Result<PartDetail, Stop> {
    let index = Index::named(IOCS)?;
    let is_wanted = |name: &str| Layout::of(name).is_some();
    let take = |files: &mut Files, name: &str, bytes: Vec<u8>| files.add(name, &bytes);
    let contents: Contents<Files> = unpack(answer, visit.cutoff(), is_wanted, take).await?;
    if visit.is_cut_off() {
        return Ok((None, Map::new()));
    }
    let files = &contents.part;
    let indicators = &files.indicators;
    if indicators.is_empty() {
        return Err(contents.unread().unwrap_or_else(|| contents.without("indicator")));
    }
    visit.found(index, indicators.len() as u64 + indicators.merged);
    visit.merged(index, indicators.merged);
    let refused = files.rejected + files.left_out() + contents.rejects.len() as u64;
    visit.found(index, refused);
    visit.rejected(index, refused);
    if files.left_out() > 0 {
        visit.show_reject(format!(
            "{} lines beyond the limits of a file or visit",
            files.left_out()
        ));
    }
    files
        .rejects
        .iter()
        .chain(&contents.rejects)
        .for_each(|reason| visit.show_reject(reason.as_str()));
    if files.comments_cut + indicators.unnamed > 0 {
        visit.note(format!(
            "{} indicators without their whole comment, {} repeated lines not named, for the limits",
            files.comments_cut, indicators.unnamed
        ));
    }
    let lists = Lists::of_visit(visit).await?;
    let mut present = [Present::default(), Present::default()];
    let mut writes = Vec::with_capacity(BATCH);
    let mut bytes = 0;
    let warned = |indicator: &Indicator| lists.hits(indicator.kind, &indicator.value);
    for (of_texts, write) in
        indicators.writes(contents.version.as_deref(), score, visit.ctx().now(), warned)
    {
        for present in &mut present {
            present.add(&write.id)?;
        }
        writes.push(write);
        bytes += of_texts;
        if writes.len() == BATCH || bytes >= BATCH_BYTES {
            visit.store(index, &writes).await?;
            writes.clear();
            bytes = 0;
        }
    }
    visit.store(index, &writes).await?;
    let mut left = 0;
    if contents.is_complete() && files.left_out() == 0 {
        let [present, present_before] = present;
        let (since, before) = (Filter::Exists(SINCE.to_owned()), Filter::Missing(SINCE.to_owned()));
        let retired = visit.retire(index, &OWNER, Some(OWNER.name), vec![since], present).await?;
        let retired_before =
            visit.retire(index, &BEFORE, None, vec![before], present_before).await?;
        left = retired.count + retired_before.count;
    }
    if let Some(stop) = contents.unread() {
        return Err(stop);
    }
    let detail = Map::from_iter([("iocs".to_owned(), json!({ "left": left }))]);
    Ok((contents.version, detail))
}
