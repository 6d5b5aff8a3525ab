//! `export`: stored indicators as spreadsheets, sensors and other platforms read them.
//!
//! Documents are read in the order of their ids, a page at a time, and written as they come. Nothing that is written
//! depends on the clock, so equal stores give equal bytes; which documents are still valid does.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use base::{Error, Result};
use ioc::Tlp;
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Document, DocumentReader, Index, Pages, Scan};
use task::function::now;

use super::indicators::{FIELDS, GROUP, HOMES, Stored};
use super::selection;
use crate::cli::{Cli, Format, IndicatorsArgs};
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};

mod csv;
mod form;
mod misp;
mod output;
mod stix;
mod suricata;
mod text;

use form::{Added, Form};
use output::Output;

/// What is read of each document beside what every command reads.
const FURTHER_FIELDS: &[&str] = &[
    "id",
    "content",
    "description",
    "collected_at",
    "revision",
    "warninglists",
    "reference",
    "references",
];

/// From which marking on it is told that what goes out is not for everyone.
const CONFIDENTIAL: Tlp = Tlp::Amber;

/// Why an indicator is left out, in the words that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Inactive,
    Expired,
    Tlp,
    Warned,
    NotForDetection,
    Repeated,
    NoForm,
    Full,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Expired => "expired",
            Self::Tlp => "tlp",
            Self::Warned => "warninglisted",
            Self::NotForDetection => "not_for_detection",
            Self::Repeated => "repeated",
            Self::NoForm => "no_form",
            Self::Full => "full",
        }
    }

    /// As a sentence about those that it left out.
    fn told(self, args: &IndicatorsArgs) -> String {
        match self {
            Self::Inactive => "no longer held by their sources (`--all` takes them too)".to_owned(),
            Self::Expired => "expired (`--all` takes them too)".to_owned(),
            Self::Tlp => format!("stricter than TLP:{}", args.tlp().ecs()),
            Self::Warned => "harmless by a warninglist (`--all` takes them too)".to_owned(),
            Self::NotForDetection => {
                "not meant for detection by their sources (`--all` takes them too)".to_owned()
            }
            Self::Repeated => "the same value as one of another family".to_owned(),
            Self::NoForm => "of a kind that the format has no words for".to_owned(),
            Self::Full => format!("beyond the {} rules of a file", suricata::RULES_MAX),
        }
    }
}

/// `local-runner export`.
pub(super) async fn export(cli: &Cli, args: &IndicatorsArgs) -> Outcome {
    let settings = settings(cli)?;
    let now = now(&settings.config);
    let index = Index::named(&args.index)?;
    let is_of_indicators = |name: &str| HOMES.iter().any(|(home, _)| *home == name);
    if index.name != GROUP && !is_of_indicators(index.name) {
        let names: Vec<&str> = HOMES.iter().map(|(name, _)| *name).collect();
        return Err(Error::config(format!("export `{}`: it holds no indicators", index.name))
            .hint(format!("say `{GROUP}`, or one of {}", names.join(", "))));
    }
    let filters = selection::filters(index, &args.selection, now)?;
    let mut form = form(args)?;
    let store = open_documents(&settings).await?;
    let mut tally = Tally::new(args);
    let mut seen = SharedValues::default();
    let scan = Scan {
        text: selection::text(&args.words),
        filters,
        ..Scan::of(&[FIELDS, FURTHER_FIELDS].concat())
    };
    let mut pages = Pages::new(store.as_ref(), index, scan);
    while let Some(page) = pages.next().await? {
        if is_for_machines(args.format) && index.name == GROUP {
            seen.learn(store.as_ref(), &page).await?;
        }
        for document in &page {
            let one = Stored::of(&document.id, &document.body);
            let reason = match left_out(args, &one, now) {
                None if seen.is_repeated(&one) => Some(Reason::Repeated),
                None => match form.add(&one)? {
                    Added::Written => None,
                    Added::NoForm => Some(Reason::NoForm),
                    Added::Full => Some(Reason::Full),
                },
                left_out => left_out,
            };
            if reason.is_some() {
                form.leave_out(&one);
            }
            tally.count(&one, reason);
        }
    }
    form.end()?;
    tally.tell(cli);
    Ok(out::DONE)
}

fn form(args: &IndicatorsArgs) -> Result<Box<dyn Form>> {
    let out = args.out.as_deref();
    Ok(match args.format {
        Format::Csv => Box::new(csv::Csv::begin(Output::open(out)?)?),
        Format::Text => Box::new(text::Text::begin(Output::open(out)?)),
        Format::Stix => Box::new(stix::Bundle::begin(Output::open(out)?)?),
        Format::Suricata => Box::new(suricata::Rules::begin(Output::open(out)?)?),
        Format::MispFeed => {
            let folder: &Path = out.ok_or_else(|| {
                Error::config("export a MISP feed: it is a folder, and none is named")
                    .hint("say `--out FOLDER`")
            })?;
            Box::new(misp::Feed::begin(folder)?)
        }
    })
}

/// Whether what goes out is acted upon, and not read.
fn is_for_machines(format: Format) -> bool {
    matches!(format, Format::Suricata | Format::Text)
}

/// How far a document may go; one that says nothing counts as amber, as nobody said that it is for everyone.
fn marking(one: &Stored<'_>) -> Tlp {
    one.tlp().unwrap_or(CONFIDENTIAL)
}

fn left_out(args: &IndicatorsArgs, one: &Stored<'_>, now: Timestamp) -> Option<Reason> {
    let is_for_machines = is_for_machines(args.format);
    let reasons = [
        (Reason::Tlp, marking(one) > args.tlp()),
        (Reason::Inactive, !args.all && !one.is_active()),
        (Reason::Expired, !args.all && one.is_expired(now)),
        (Reason::Warned, !args.all && is_for_machines && one.is_likely_harmless()),
        (
            Reason::NotForDetection,
            !args.all && is_for_machines && one.flag("to_ids") == Some(false),
        ),
    ];
    reasons.into_iter().find_map(|(reason, is_so)| is_so.then_some(reason))
}

/// Values that several families store; memory for those alone.
#[derive(Default)]
struct SharedValues {
    /// The ids of a page's documents whose value another family has too.
    shared: HashSet<String>,
    /// Such values that were met, with their kinds.
    met: HashSet<(String, String)>,
}

impl SharedValues {
    /// Asks of a page which of its values other families have.
    async fn learn(&mut self, store: &dyn DocumentReader, page: &[Document]) -> Result<()> {
        self.shared.clear();
        for (name, family) in HOMES {
            let others: Vec<(&Document, String)> = page
                .iter()
                .map(|document| (document, Stored::of(&document.id, &document.body)))
                .filter(|(_, one)| one.text("source_family") != family)
                .map(|(document, one)| (document, ioc::id(family, one.kind(), one.value())))
                .collect();
            let ids: Vec<&str> = others.iter().map(|(_, id)| id.as_str()).collect();
            let found = store.fields_of(Index::named(name)?, &ids, &["id"]).await?;
            let shared = others.iter().zip(found).filter(|(_, found)| found.is_some());
            self.shared.extend(shared.map(|((document, _), _)| document.id.clone()));
        }
        Ok(())
    }

    /// Whether another document with this value was met before.
    fn is_repeated(&mut self, one: &Stored<'_>) -> bool {
        self.shared.contains(one.id)
            && !self.met.insert((one.kind().to_string(), one.value().to_owned()))
    }
}

/// How many went out, and why others did not.
struct Tally<'a> {
    args: &'a IndicatorsArgs,
    written: u64,
    left_out: BTreeMap<Reason, u64>,
    /// Of those that went out, how many are marked with each level.
    marked: BTreeMap<Tlp, u64>,
}

impl<'a> Tally<'a> {
    fn new(args: &'a IndicatorsArgs) -> Self {
        Self { args, written: 0, left_out: BTreeMap::new(), marked: BTreeMap::new() }
    }

    fn count(&mut self, one: &Stored<'_>, reason: Option<Reason>) {
        if let Some(reason) = reason {
            *self.left_out.entry(reason).or_default() += 1;
            return;
        }
        self.written += 1;
        if let Some(tlp) = one.tlp() {
            *self.marked.entry(tlp).or_default() += 1;
        }
    }

    /// Says it on standard error: standard output may be what was asked for.
    fn tell(&self, cli: &Cli) {
        if cli.json {
            let reasons = self.left_out.iter().map(|(reason, count)| (reason.name(), *count));
            let marked = self.marked.iter().map(|(tlp, count)| (tlp.as_str(), *count));
            let answer = json!({
                "written": self.written,
                "left_out": reasons.collect::<BTreeMap<_, _>>(),
                "tlp": marked.collect::<BTreeMap<_, _>>(),
                "out": self.args.out.as_ref().map(|out| out.display().to_string()),
            });
            return self.answer(&answer);
        }
        out::note(&format!("{} indicators written", self.written));
        for (reason, count) in &self.left_out {
            out::note(&format!("{count} left out: {}", reason.told(self.args)));
        }
        for (tlp, count) in self.marked.range(CONFIDENTIAL..) {
            let to = match tlp {
                Tlp::Red => "those alone who were given them by name",
                Tlp::AmberStrict => "your organisation alone",
                Tlp::Amber | Tlp::Green | Tlp::Clear => "your organisation and its clients alone",
            };
            out::note(&format!("warning: {count} of them are TLP:{}, for {to}", tlp.ecs()));
        }
    }

    fn answer(&self, answer: &Value) {
        match self.args.out {
            Some(_) => out::json(answer),
            // Standard output is the export.
            None => out::note(&answer.to_string()),
        }
    }
}
