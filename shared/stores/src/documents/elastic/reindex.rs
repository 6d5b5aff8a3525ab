//! An index whose mapping no server can change any more, built anew beside the old one.
//!
//! The copy is made while tasks write. Then the old index is closed to writers, who get an error that the next tick
//! retries; what they changed meanwhile is copied, until a whole pass finds both equal; the aliases move in one step.

use std::time::Instant;

use base::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::copy::{Action, Put};
use super::ensure::{Difference, compare};
use super::moves::{Moves, PASSES_MAX, Progress, Refusals, add};
use crate::documents::Index;
use crate::documents::plan::ID;

/// What was done with an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    pub index: &'static str,
    /// `missing`: it is not there yet; `fits`: nothing to do; `needed`: it would be built anew; `rebuilt`.
    pub state: &'static str,
    /// What does not fit.
    pub why: Option<String>,
    /// The physical index that was in use.
    pub from: Option<String>,
    /// The one that is in use now, or would be.
    pub to: Option<String>,
    /// Documents in it.
    pub documents: u64,
    /// Documents that were written to it by this run.
    pub written: u64,
    /// Milliseconds for which tasks could not write.
    pub closed_ms: u64,
    /// Physical indices that were deleted.
    pub dropped: Vec<String>,
}

/// What one pass over an index did.
#[derive(Default)]
struct Pass {
    read: u64,
    written: u64,
    refusals: Refusals,
}

impl Moves {
    /// Builds an index anew if its stored mapping needs it. `drop_old` deletes the physical index that was in use, and
    /// those that earlier runs kept; otherwise they stay, closed to writers. A dry run changes nothing.
    ///
    /// Run again after a failure, it goes on with the copy that was begun; the old index is in use until the very end.
    ///
    /// # Errors
    /// `Config`, when the name stands for no index of ours; `Format`, naming documents that the mapping refuses; `Store`.
    pub async fn reindex(
        &self,
        index: &'static Index,
        drop_old: bool,
        dry_run: bool,
        progress: Progress<'_>,
    ) -> Result<Reindexed> {
        let done = self.rebuild(index, drop_old, dry_run, progress).await;
        if done.is_err() {
            self.release().await;
        }
        done
    }

    async fn rebuild(
        &self,
        index: &'static Index,
        drop_old: bool,
        dry_run: bool,
        progress: Progress<'_>,
    ) -> Result<Reindexed> {
        let alias = self.alias(index);
        let mut done = Reindexed {
            index: index.name,
            state: "missing",
            why: None,
            from: None,
            to: None,
            documents: 0,
            written: 0,
            closed_ms: 0,
            dropped: Vec::new(),
        };
        let behind = self.behind(&alias).await?;
        let mut names = behind.iter();
        let (from, stored) = match (names.next(), names.next()) {
            (None, _) => return Ok(done),
            (Some(one), None) => one,
            (Some(_), Some(_)) => {
                return Err(Error::config(format!(
                    "rebuild `{alias}`: this alias stands for several indices"
                ))
                .hint("leave one of them in it"));
            }
        };
        let version = from.strip_prefix(&format!("{alias}-v")).and_then(|v| v.parse::<u32>().ok());
        let Some(version) = version else {
            return Err(Error::config(format!(
                "rebuild `{alias}`: `{from}` is not an index of ours"
            ))
            .hint(format!(
                "`local-runner adopt {alias}` takes over what the predecessor has there"
            )));
        };
        done.from = Some(from.clone());
        done.documents = self.elastic.count_in(from).await?;
        let earlier: Vec<String> = (1..version).map(|v| format!("{alias}-v{v}")).collect();
        let Difference::Changed(field, is, should) =
            compare("", &index.mapping, &stored["mappings"])
        else {
            done.state = "fits";
            if drop_old && !dry_run {
                done.dropped = self.drop_unused(&earlier).await?;
            }
            return Ok(done);
        };
        let to = format!("{alias}-v{}", version + 1);
        done.why = Some(format!("`{field}` is `{is}` and should be `{should}`"));
        done.to = Some(to.clone());
        done.state = "needed";
        if dry_run {
            return Ok(done);
        }

        self.begin(index, from, &to).await?;
        let copied = self.pass(&alias, from, &to, "copying", progress).await?;
        copied.refusals.check(from, &to)?;
        done.written += copied.written;
        self.close(from).await?;
        let closed = Instant::now();
        let mut passes = 0;
        loop {
            let pass = self.pass(&alias, from, &to, "comparing", progress).await?;
            pass.refusals.check(from, &to)?;
            done.written += pass.written;
            done.documents = pass.read;
            let taken_away = self.take_away(&alias, from, &to).await?;
            if pass.written + taken_away == 0 {
                break;
            }
            passes += 1;
            if passes >= PASSES_MAX {
                return Err(Error::store(format!(
                    "copy `{from}` to `{to}`: they still differ after {PASSES_MAX} passes"
                ))
                .hint("does something else write to the copy?"));
            }
        }

        let mut actions = Vec::new();
        let mut aliases = self.elastic.shared_aliases(index);
        for (name, defined) in stored["aliases"].as_object().into_iter().flatten() {
            actions.push(json!({"remove": {"index": from, "alias": name}}));
            aliases.insert(name.clone(), defined.clone());
        }
        actions.extend(aliases.iter().map(|(name, defined)| add(&to, name, defined)));
        self.swap(&actions).await?;
        done.closed_ms = u64::try_from(closed.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.forget(from);
        done.state = "rebuilt";
        if drop_old {
            done.dropped = self.drop_unused(&[earlier, vec![from.clone()]].concat()).await?;
        }
        Ok(done)
    }

    /// Makes the copy like the original, document by document.
    async fn pass(
        &self,
        alias: &str,
        from: &str,
        to: &str,
        what: &str,
        progress: Progress<'_>,
    ) -> Result<Pass> {
        let mut pass = Pass::default();
        let mut view = self.elastic.view(from, &json!({"match_all": {}})).await?;
        progress(what, 0, view.total);
        while let Some(page) = view.page().await? {
            let ids: Vec<&str> = page.iter().map(|seen| seen.id.as_str()).collect();
            let known = self.elastic.look_up(to, &ids, None).await?;
            pass.read += page.len() as u64;
            let (mut actions, mut sent) = (Vec::new(), Vec::new());
            for (mut seen, known) in page.into_iter().zip(known) {
                seen.body.insert(ID.to_owned(), Value::String(seen.id.clone()));
                if known.source.as_ref() != Some(&seen.body) {
                    actions.push(Action::put(&json!({"index": {"_id": seen.id}}), &seen.body));
                    sent.push(seen.id);
                }
            }
            if !actions.is_empty() {
                self.stands(alias, from).await?;
            }
            for (id, put) in sent.iter().zip(self.elastic.put(to, &actions).await?) {
                match put {
                    Put::Done | Put::Taken => pass.written += 1,
                    Put::Refused(why) => pass.refusals.add(id, &why),
                }
            }
            progress(what, pass.read, view.total);
        }
        Ok(pass)
    }

    /// Takes out of the copy what is in the original no longer.
    async fn take_away(&self, alias: &str, from: &str, to: &str) -> Result<u64> {
        if self.elastic.count_in(from).await? == self.elastic.count_in(to).await? {
            return Ok(0);
        }
        let mut taken = 0;
        let mut view = self.elastic.view(to, &json!({"match_all": {}})).await?;
        while let Some(page) = view.page().await? {
            let ids: Vec<&str> = page.iter().map(|seen| seen.id.as_str()).collect();
            let known = self.elastic.look_up(from, &ids, Some(ID)).await?;
            let gone = ids.iter().zip(known).filter(|(_, known)| known.source.is_none());
            let actions: Vec<Action> = gone.map(|(id, _)| Action::delete(id)).collect();
            if !actions.is_empty() {
                self.stands(alias, from).await?;
                self.elastic.put(to, &actions).await?;
            }
            taken += actions.len() as u64;
        }
        Ok(taken)
    }

    /// Refuses to go on when another has swapped the alias: the copy is in use then.
    async fn stands(&self, alias: &str, from: &str) -> Result<()> {
        let behind = self.behind(alias).await?;
        if behind.len() == 1 && behind.contains_key(from) {
            return Ok(());
        }
        Err(Error::store(format!("copy `{from}`: it stands behind `{alias}` no longer"))
            .hint("another run was faster; look with `local-runner reindex --all --dry-run`"))
    }

    /// Deletes those that are there and have no alias.
    async fn drop_unused(&self, names: &[String]) -> Result<Vec<String>> {
        let mut dropped = Vec::new();
        for name in names {
            let behind = self.behind(name).await?;
            let unused = behind
                .get(name)
                .and_then(|index| index["aliases"].as_object())
                .is_some_and(serde_json::Map::is_empty);
            if unused {
                self.delete(name).await?;
                dropped.push(name.clone());
            }
        }
        Ok(dropped)
    }
}
