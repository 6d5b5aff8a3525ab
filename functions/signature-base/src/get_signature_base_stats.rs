//! Gets figures of what is stored of signature-base.
//!
//! Reads   `cti_yara_rules` and `signature_base_iocs`, no source.
//! Writes  nothing: the figures are the report's detail.
//! Twice   gives the same figures while nothing is synced in between.
//! Quirk   a rule counts under the year of its own date; one without a date that can be read counts under `none`.

use std::collections::BTreeMap;

use base::Result;
use base::report::Report;
use serde_json::{Value, json};
use stores::documents::{Body, Filter, Index, Pages, Scan};
use task::{Ctx, NoInput, Reaches, Task};
use yara::document::INDEX as RULES;
use yara::link::OF_RULE;

use crate::indicator::INDEX as IOCS;
use crate::settings::NAME;

/// Stored documents that are read together.
const PAGE: u32 = 500;
/// Authors, broken rules and newest rules that are listed.
const LISTED: usize = 20;

pub(crate) struct GetSignatureBaseStats;

impl Task for GetSignatureBaseStats {
    const NAME: &'static str = "get_signature_base_stats";
    const REACHES: &'static [Reaches] = &[];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let mut rules = Rules::default();
        each(ctx, RULES, |body| rules.add(body)).await?;
        let mut iocs = Iocs::default();
        each(ctx, IOCS, |body| iocs.add(body)).await?;
        Ok(Report::of_detail(json!({ "rules": rules.show(), "iocs": iocs.show() })))
    }
}

/// Does something with each stored document of this family.
async fn each(ctx: &Ctx, index: &str, mut what: impl FnMut(&Body)) -> Result<()> {
    let of_family = Filter::Terms("source_family".to_owned(), vec![NAME.to_owned()]);
    let scan = Scan { filters: vec![of_family], limit: PAGE, ..Scan::default() };
    let mut pages = Pages::new(ctx.documents.as_ref(), Index::named(index)?, scan);
    while let Some(page) = pages.next().await? {
        page.iter().for_each(|document| what(&document.body));
    }
    Ok(())
}

type Counts = BTreeMap<String, u64>;

fn count(counts: &mut Counts, what: impl Into<String>) {
    *counts.entry(what.into()).or_default() += 1;
}

fn text<'a>(body: &'a Body, field: &str) -> &'a str {
    body.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn is_active(body: &Body) -> bool {
    body.get("active") == Some(&Value::Bool(true))
}

/// The bands by which scores are counted.
fn band(body: &Body) -> &'static str {
    match body.get("score").and_then(Value::as_u64) {
        None => "none",
        Some(0..40) => "0-39",
        Some(40..60) => "40-59",
        Some(60..75) => "60-74",
        Some(75..90) => "75-89",
        Some(_) => "90-100",
    }
}

#[derive(Default)]
struct Rules {
    active: u64,
    left: u64,
    by_category: Counts,
    by_year: Counts,
    by_license: Counts,
    by_author: Counts,
    by_verdict: Counts,
    by_score: Counts,
    by_module: Counts,
    with_variables: u64,
    of_families: u64,
    broken: Vec<Value>,
    newest: Vec<(String, String)>,
    versions: Counts,
}

impl Rules {
    fn add(&mut self, body: &Body) {
        if !is_active(body) {
            self.left += 1;
            return;
        }
        self.active += 1;
        count(&mut self.by_category, text(body, "category"));
        let date = text(body, "date");
        count(&mut self.by_year, or_none(date.get(..4).unwrap_or_default()));
        count(&mut self.by_license, or_none(text(body, "license")));
        count(&mut self.by_verdict, text(body, "verdict"));
        count(&mut self.by_score, band(body));
        count(&mut self.versions, or_none(text(body, "source_version")));
        let list = |field: &str| body.get(field).and_then(Value::as_array).into_iter().flatten();
        for author in list("authors").filter_map(Value::as_str) {
            count(&mut self.by_author, author);
        }
        for module in list("modules").filter_map(Value::as_str) {
            count(&mut self.by_module, module);
        }
        self.with_variables += u64::from(list("external_variables").next().is_some());
        let linked = body.get("owners").and_then(|owners| {
            owners.get("shared")?.get("families")?.get(OF_RULE.name)?.as_array()
        });
        self.of_families += u64::from(linked.is_some_and(|ids| !ids.is_empty()));
        let name = text(body, "name");
        if text(body, "verdict") == "broken" && self.broken.len() < LISTED {
            let why = text(body, "verdict_error");
            self.broken
                .push(json!({ "name": name, "file": text(body, "source_file"), "error": why }));
        }
        if !date.is_empty() {
            self.newest.push((date.to_owned(), name.to_owned()));
            if self.newest.len() > 50 * LISTED {
                self.keep_newest();
            }
        }
    }

    fn keep_newest(&mut self) {
        self.newest.sort_unstable_by(|one, other| other.cmp(one));
        self.newest.truncate(LISTED);
    }

    fn show(mut self) -> Value {
        self.keep_newest();
        let newest = self.newest.iter().map(|(date, name)| json!({ "date": date, "name": name }));
        let mut authors: Vec<(&String, &u64)> = self.by_author.iter().collect();
        authors.sort_unstable_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
        let authors = authors.iter().take(LISTED);
        json!({
            "active": self.active,
            "left": self.left,
            "by_category": self.by_category,
            "by_year": self.by_year,
            "by_license": self.by_license,
            "authors": authors.map(|(name, rules)| json!({ "name": name, "rules": rules })).collect::<Vec<_>>(),
            "by_verdict": self.by_verdict,
            "by_score": self.by_score,
            "by_module": self.by_module,
            "with_variables": self.with_variables,
            "of_families": self.of_families,
            "broken": self.broken,
            "newest": newest.collect::<Vec<_>>(),
            "versions": self.versions.len(),
        })
    }
}

#[derive(Default)]
struct Iocs {
    active: u64,
    left: u64,
    by_type: Counts,
    by_score: Counts,
    by_file: Counts,
}

impl Iocs {
    fn add(&mut self, body: &Body) {
        if !is_active(body) {
            self.left += 1;
            return;
        }
        self.active += 1;
        count(&mut self.by_type, text(body, "type"));
        count(&mut self.by_score, band(body));
        count(&mut self.by_file, text(body, "source_file"));
    }

    fn show(self) -> Value {
        json!({
            "active": self.active,
            "left": self.left,
            "by_type": self.by_type,
            "by_score": self.by_score,
            "by_file": self.by_file,
        })
    }
}
