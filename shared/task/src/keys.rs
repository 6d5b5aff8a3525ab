//! API keys with a budget each: every request is counted before it is sent, across all processes, and what a key did wrong is its
//! own matter.

use std::collections::BTreeSet;

use base::config::Secret;
use base::report::Outcome;
use base::secrets::hidden;
use base::{Error, Result};
use fetch::{Fetched, Request, Response};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use stores::documents;
use stores::state::{BudgetKey, BudgetRow};

use crate::answer::Answer;
use crate::contract::Ctx;
use crate::stop::Stop;
use crate::visit::Visit;

/// For how long a key rests that was refused for its rate, where the server does not say.
const PAUSE: SignedDuration = SignedDuration::from_mins(15);

/// Keys for one upstream, used in turn, the least used first.
pub struct KeyPool {
    name: &'static str,
    header: &'static str,
    zone: TimeZone,
    secrets: Vec<Secret<String>>,
    budgets: Vec<BudgetKey>,
}

impl KeyPool {
    /// Keys that are sent in `header`, each at most `per_day` times between two midnights of `zone`. `name` is the pool's in the
    /// state, where a key stands as its digest.
    pub fn new(
        name: &'static str,
        header: &'static str,
        secrets: Vec<Secret<String>>,
        per_day: u32,
        zone: TimeZone,
    ) -> Self {
        let budget = |secret: &Secret<String>| BudgetKey {
            id: documents::id(&[name, secret.expose()]).chars().take(16).collect(),
            limit: per_day,
        };
        let budgets = secrets.iter().map(budget).collect();
        Self { name, header, zone, secrets, budgets }
    }

    /// The day that a use at `now` counts for, and when it ends.
    ///
    /// # Errors
    /// `Config`, at the end of time.
    pub fn day(&self, now: Timestamp) -> Result<(String, Timestamp)> {
        day(&self.zone, now)
    }

    /// Each key as a pool of its own, with the same budget.
    pub fn apart(&self) -> impl Iterator<Item = Self> + '_ {
        self.secrets.iter().zip(&self.budgets).map(|(secret, budget)| Self {
            name: self.name,
            header: self.header,
            zone: self.zone.clone(),
            secrets: vec![secret.clone()],
            budgets: vec![budget.clone()],
        })
    }

    /// What the state knows each key by, in their order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.budgets.iter().map(|budget| budget.id.as_str())
    }

    /// Uses of a key in a day, at the most.
    pub fn limit(&self) -> u32 {
        self.budgets.first().map_or(0, |budget| budget.limit)
    }

    /// How the keys stand, those of earlier settings and days included.
    ///
    /// # Errors
    /// `Store`, when the state cannot be read.
    pub async fn standing(&self, ctx: &Ctx) -> Result<Vec<BudgetRow>> {
        ctx.state.budgets(self.name).await
    }

    /// Sets the uses of those days to zero that `is_over` selects by their dates; what rests goes on resting. Gives how many
    /// counts that were.
    ///
    /// # Errors
    /// `Store`, when the state cannot be read or written.
    pub async fn reset(&self, ctx: &Ctx, is_over: impl Fn(&str) -> bool) -> Result<u64> {
        let days: BTreeSet<String> =
            self.standing(ctx).await?.into_iter().filter_map(|row| row.window).collect();
        let mut counts = 0;
        for day in days.iter().filter(|day| is_over(day)) {
            counts += ctx.state.reset_budgets(self.name, day).await?;
        }
        Ok(counts)
    }

    /// Counts a use and gives the request with the key that it counts for, and its place; `None` when no key can be used now.
    async fn spend<'r>(
        &'r self,
        ctx: &Ctx,
        request: Request<'r>,
    ) -> Result<Option<(Request<'r>, usize)>> {
        let now = ctx.now();
        let (day, _) = self.day(now)?;
        let place = ctx.state.spend(self.name, &day, &self.budgets, now).await?;
        Ok(place.map(|place| {
            let key = self.secrets[place].expose();
            (request.once().header(self.header, key), place)
        }))
    }

    /// Lets a key rest that the server refused, for its rate or for itself; says so, or nothing where it was not the key's fault.
    async fn rest(&self, ctx: &Ctx, place: usize, stop: &Stop) -> Result<Option<String>> {
        let now = ctx.now();
        let (_, midnight) = self.day(now)?;
        let until = match stop.outcome {
            Outcome::RateLimited => stop.wait().unwrap_or(PAUSE),
            Outcome::Unauthorized => midnight.duration_since(now),
            _ => return Ok(None),
        };
        let until = now.checked_add(until).unwrap_or(midnight);
        let id = &self.budgets[place].id;
        ctx.state.block(self.name, id, until, &stop.error.chain()).await?;
        Ok(Some(format!("key {id} of `{}` rests until {until}: {}", self.name, stop.error)))
    }

    /// Why no key can be used. The source is not told to wait: its keys do, until they are reset or others are given.
    fn used_up(&self) -> Stop {
        let error = Error::upstream(format!(
            "ask with a key of `{}`: each of `{}` is used up for today or rests",
            self.name,
            self.secrets.len()
        ));
        Stop::new(Outcome::BudgetSpent, error.hint("add a key, or wait"))
    }

    /// Asks once with the first key that can be used, outside of a visit. A refused key rests.
    ///
    /// # Errors
    /// Why there is no answer; [`Outcome::BudgetSpent`] when no key can be used now.
    pub async fn ask<'r>(&'r self, ctx: &Ctx, request: Request<'r>) -> Result<Response, Stop> {
        let Some((keyed, place)) = self.spend(ctx, request).await? else {
            return Err(self.used_up());
        };
        let secrets = keyed.secrets();
        let answer = ctx.http.send(keyed).await.and_then(Fetched::body);
        let stop = match answer {
            Ok(Some(response)) => return Ok(response),
            Ok(None) => Stop::from(Error::upstream("read the answer: there is none")),
            Err(failure) => Stop::from(failure),
        };
        let stop = stop.reworded(|text| hidden(text, secrets.iter().map(String::as_str)));
        self.rest(ctx, place, &stop).await?;
        Err(stop)
    }
}

/// The date in a zone, and the next midnight there.
pub(crate) fn day(zone: &TimeZone, now: Timestamp) -> Result<(String, Timestamp)> {
    let local = now.to_zoned(zone.clone());
    let tomorrow = local.checked_add(1.day()).and_then(|tomorrow| tomorrow.start_of_day());
    let tomorrow = tomorrow.map_err(|cause| {
        Error::config(format!("find the midnight after `{now}`")).because(cause)
    })?;
    Ok((local.date().to_string(), tomorrow.timestamp()))
}

impl Visit<'_> {
    /// As [`get_anyway`](Self::get_anyway), with a key of the pool that has some of its budget left. Where the server refuses
    /// the key, for its rate or for itself, the key rests, and another one is used. An address that gave no answer may be asked
    /// again.
    ///
    /// # Errors
    /// Why there is no answer; [`Outcome::BudgetSpent`] when no key can be used now.
    pub async fn get_with_key<'r>(
        &mut self,
        pool: &'r KeyPool,
        request: Request<'r>,
    ) -> Result<Option<Answer>, Stop> {
        let ctx = self.ctx();
        // A replay sends nothing.
        if self.is_replay() {
            return self.get_anyway(request).await;
        }
        // Each round ends the visit or takes one key out of use.
        for _ in 0..=pool.secrets.len() {
            let Some((keyed, place)) = pool.spend(ctx, request.clone()).await? else { break };
            let stop = match self.get_anyway(keyed).await {
                Ok(answer) => return Ok(answer),
                Err(stop) => stop,
            };
            self.may_ask_again(request.url());
            match pool.rest(ctx, place, &stop).await? {
                Some(note) => self.note(note),
                None => return Err(stop),
            }
        }
        Err(pool.used_up())
    }
}
