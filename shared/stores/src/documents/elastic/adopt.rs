//! An index of the predecessor, mapped as the server guessed, becomes one of ours.
//!
//! The old index is closed to writers from the start and answers its readers until the aliases move, which is one step. A
//! document is merged into the one of ours that is about the same thing; the first of several takes its id, those that were
//! enriched before the others, and the others keep the ids they had.

use std::collections::HashSet;

use base::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::copy::{Action, Put, ScrolledDocument};
use super::look_up::Found;
use super::moves::{Moves, PASSES_MAX, Progress, Refusals, add};
use crate::documents::adopter::{Repaired, adopt, meet, origin};
use crate::documents::plan::ID;
use crate::documents::{Body, Identify, Index};

/// What an enrichment leaves: of several documents about one thing, one that has it comes first.
const ENRICHED: &str = "enriched_at";

/// What was done with an index of the predecessor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// The index of ours.
    pub index: &'static str,
    /// `adopted`, or `ours`: it is one of ours already.
    pub state: &'static str,
    /// The physical indices that were adopted.
    pub from: Vec<String>,
    /// The physical index they are in now.
    pub to: String,
    /// Documents there were.
    pub documents: u64,
    /// Documents that were written by this run.
    pub written: u64,
    /// Documents that got the id under which they will be collected again.
    pub renamed: u64,
    /// Documents that kept the id they had.
    pub kept_id: u64,
    /// Those of `renamed` and `kept_id` that met a document of ours.
    pub met: u64,
    /// Dates that were written anew; as they were under `owners.adopted.raw`.
    pub dates_repaired: u64,
    /// Dates that cannot be read; under `owners.adopted.raw`.
    pub dates_unread: u64,
    /// Other values that our mapping does not take; under `owners.adopted.raw`.
    pub set_aside: u64,
    /// Whether the old index is gone.
    pub removed: bool,
}

/// What is adopted, and how.
struct Plan<'a> {
    index: &'static Index,
    /// The name that was given.
    from: &'a str,
    to: String,
    /// Nobody knows it yet, so nobody but us writes to it.
    is_new: bool,
    shared: &'a [&'a str],
    identify: Option<&'a Identify>,
    /// Documents of ours that were met by this run: they have no trace of another origin.
    met: HashSet<String>,
}

#[derive(Default)]
struct Pass {
    done: Adopted,
    left: u64,
    refusals: Refusals,
}

impl Moves {
    /// Takes over the index `from` as `index`. `keep` leaves it in place, which needs another name than ours.
    ///
    /// Run again after a failure, it goes on; the old index is in use, and open to writers, until all of it is copied.
    ///
    /// # Errors
    /// `Config`, when there is nothing to adopt or something else in the way; `Format`, naming documents that the mapping
    /// refuses; `Store`.
    pub async fn adopt(
        &self,
        index: &'static Index,
        from: &str,
        identify: Option<&Identify>,
        shared: &[&str],
        keep: bool,
        progress: Progress<'_>,
    ) -> Result<Adopted> {
        let done = self.take_over(index, from, identify, shared, keep, progress).await;
        if done.is_err() || keep {
            self.release().await;
        }
        done
    }

    async fn take_over(
        &self,
        index: &'static Index,
        from: &str,
        identify: Option<&Identify>,
        shared: &[&str],
        keep: bool,
        progress: Progress<'_>,
    ) -> Result<Adopted> {
        let alias = self.alias(index);
        let old = self.behind(from).await?;
        if old.is_empty() {
            return Err(Error::config(format!("adopt `{from}`: there is no such index"))
                .hint("give its name as `GET /_cat/indices` shows it"));
        }
        let current = self.behind(&alias).await?;
        let is_ours = |name: &str| {
            name.strip_prefix(&format!("{alias}-v")).is_some_and(|v| v.parse::<u32>().is_ok())
        };
        if old.len() == 1 && old.keys().all(|name| is_ours(name) && current.contains_key(name)) {
            let to = old.keys().next().cloned().unwrap_or_default();
            return Ok(Adopted { index: index.name, state: "ours", to, ..Adopted::default() });
        }
        let stands_in_place = current.keys().any(|name| old.contains_key(name));
        if keep && stands_in_place {
            return Err(Error::config(format!(
                "adopt `{from}` and keep it: `{alias}` is the name it has, and ours"
            ))
            .hint("without `--keep` it is removed once everything is copied and compared"));
        }
        let to = match current.keys().find(|name| !old.contains_key(*name)) {
            None => format!("{alias}-v1"),
            Some(name) if is_ours(name) && current.len() == 1 => name.clone(),
            Some(name) => {
                return Err(Error::config(format!(
                    "adopt `{from}`: `{name}` stands behind `{alias}` and is not ours"
                ))
                .hint(format!("adopt that one first: `local-runner adopt {alias}`")));
            }
        };
        let is_new = !current.contains_key(&to);
        if is_new {
            self.begin(index, from, &to).await?;
        } else {
            self.elastic.make(index).await?;
        }
        for name in old.keys() {
            self.close(name).await?;
        }

        let mut plan =
            Plan { index, from, to: to.clone(), is_new, shared, identify, met: HashSet::new() };
        let (mut written, mut passes) = (0, 0);
        let mut done = loop {
            let what = if passes == 0 { "adopting" } else { "comparing" };
            let pass = self.adopt_pass(&mut plan, what, progress).await?;
            pass.refusals.check(from, &to)?;
            written += pass.done.written;
            if pass.done.written + pass.left == 0 {
                break pass.done;
            }
            passes += 1;
            if passes >= PASSES_MAX {
                return Err(Error::store(format!(
                    "adopt `{from}`: `{to}` still differs after {PASSES_MAX} passes"
                ))
                .hint("does something else write to it?"));
            }
        };
        let (before, after) =
            (self.elastic.count_in(from).await?, self.elastic.count_in(&to).await?);
        if before != done.documents || (is_new && after != before) {
            return Err(Error::store(format!("adopt `{from}`: it holds {before} documents, {} were seen and `{to}` holds {after}", done.documents))
                .hint("nothing was swapped; run it again"));
        }
        self.swap(&self.take_place(index, from, &to, &old, keep)).await?;
        done = Adopted { index: index.name, state: "adopted", written, removed: !keep, to, ..done };
        done.from = old.keys().cloned().collect();
        if !keep {
            old.keys().for_each(|name| self.forget(name));
        }
        Ok(done)
    }

    /// The alias actions by which `to` takes the place of what was adopted, with every name under which that was known.
    fn take_place(
        &self,
        index: &Index,
        from: &str,
        to: &str,
        old: &Map<String, Value>,
        keep: bool,
    ) -> Vec<Value> {
        let mut aliases = self.elastic.shared_aliases(index);
        let mut actions = Vec::new();
        if !keep {
            for (name, known) in old {
                actions.push(json!({"remove_index": {"index": name}}));
                for alias in known["aliases"].as_object().into_iter().flat_map(Map::keys) {
                    aliases.insert(alias.clone(), json!({}));
                }
            }
            aliases.insert(from.to_owned(), json!({}));
        }
        aliases.insert(self.alias(index), json!({}));
        actions.extend(aliases.iter().map(|(name, defined)| add(to, name, defined)));
        actions
    }

    /// Goes through the old index once and writes what is not in ours yet.
    async fn adopt_pass(
        &self,
        plan: &mut Plan<'_>,
        what: &str,
        progress: Progress<'_>,
    ) -> Result<Pass> {
        let mut pass = Pass::default();
        let enriched = json!({"exists": {"field": ENRICHED}});
        let rest = json!({"bool": {"must_not": [enriched]}});
        let total = self.elastic.count_in(plan.from).await?;
        progress(what, 0, total);
        for query in [enriched, rest] {
            let mut view = self.elastic.view(plan.from, &query).await?;
            while let Some(page) = view.page().await? {
                self.adopt_page(plan, &mut pass, page).await?;
                progress(what, pass.done.documents, total);
            }
        }
        Ok(pass)
    }

    async fn adopt_page(
        &self,
        plan: &mut Plan<'_>,
        pass: &mut Pass,
        page: Vec<ScrolledDocument>,
    ) -> Result<()> {
        pass.done.documents += page.len() as u64;
        let wanted: Vec<Option<String>> = page
            .iter()
            .map(|seen| plan.identify.and_then(|identify| identify(&seen.body)))
            .collect();
        let mut ids: Vec<&str> = page.iter().map(|seen| seen.id.as_str()).collect();
        let own = ids.len();
        ids.extend(wanted.iter().flatten().map(String::as_str));
        let mut known = self.elastic.look_up(&plan.to, &ids, None).await?;
        let mut at_wanted = known.split_off(own).into_iter();
        let (mut taken, mut actions, mut sent) = (HashSet::new(), Vec::new(), Vec::new());
        for ((seen, wanted), at_own) in page.into_iter().zip(wanted).zip(known) {
            let at_wanted = wanted.as_ref().and_then(|_| at_wanted.next());
            let (id, known, is_renamed) = match (wanted, at_wanted) {
                (Some(id), Some(found))
                    if !taken.contains(&id)
                        && found
                            .source
                            .as_ref()
                            .and_then(origin)
                            .is_none_or(|(_, old)| old == seen.id) =>
                {
                    (id, found, true)
                }
                _ => (seen.id.clone(), at_own, false),
            };
            if !taken.insert(id.clone()) {
                // Another document of this page got the id that this one has: read again in the next pass.
                pass.left += 1;
                continue;
            }
            *(if is_renamed { &mut pass.done.renamed } else { &mut pass.done.kept_id }) += 1;
            let ScrolledDocument { id: old_id, body } = seen;
            let (mut body, repaired) = adopt(plan.index, plan.from, &old_id, plan.shared, body);
            body.insert(ID.to_owned(), Value::String(id.clone()));
            pass.count(repaired);
            let is_known =
                known.source.as_ref().and_then(origin) == Some((plan.from, old_id.as_str()));
            // What an earlier try left is brought up to date; what tasks write to keeps their word.
            let body = match &known.source {
                Some(stored) if !(is_known && plan.is_new) => meet(stored, &body),
                _ => body,
            };
            if known.source.is_some() && !is_known {
                plan.met.insert(id.clone());
            }
            pass.done.met += u64::from(plan.met.contains(&id));
            if known.source.as_ref() == Some(&body) {
                continue;
            }
            actions.push(action(&id, &known, &body));
            sent.push(old_id);
        }
        for (id, put) in sent.iter().zip(self.elastic.put(&plan.to, &actions).await?) {
            match put {
                Put::Done => pass.done.written += 1,
                Put::Taken => pass.left += 1,
                Put::Refused(why) => pass.refusals.add(id, &why),
            }
        }
        Ok(())
    }
}

/// Creates the document, or replaces the one that is there, if that is still as it was read.
fn action(id: &str, known: &Found, body: &Body) -> Action {
    let operation = match known.source {
        None => json!({"create": {"_id": id}}),
        Some(_) => json!({"index": {
            "_id": id, "if_seq_no": known.seq_no, "if_primary_term": known.primary_term,
        }}),
    };
    Action::put(&operation, body)
}

impl Pass {
    fn count(&mut self, repaired: Repaired) {
        self.done.dates_repaired += repaired.dates;
        self.done.dates_unread += repaired.unread;
        self.done.set_aside += repaired.others;
    }
}
