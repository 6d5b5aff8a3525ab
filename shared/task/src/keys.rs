//! API keys with a budget each: every request is counted before it is sent, across all processes, and what a key did wrong is its
//! own matter.

use base::config::Secret;
use base::report::Outcome;
use base::{Error, Result};
use fetch::Request;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use stores::documents;
use stores::state::BudgetKey;

use crate::answer::Answer;
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
        let local = now.to_zoned(self.zone.clone());
        let tomorrow = local.checked_add(1.day()).and_then(|tomorrow| tomorrow.start_of_day());
        let tomorrow = tomorrow.map_err(|cause| {
            Error::config(format!("find the midnight after `{now}`")).because(cause)
        })?;
        Ok((local.date().to_string(), tomorrow.timestamp()))
    }
}

impl Visit<'_> {
    /// As [`get`](Self::get), with a key of the pool that has some of its budget left. Where the server refuses the key, for its
    /// rate or for itself, the key rests, and another one is used.
    ///
    /// # Errors
    /// Why there is no answer; [`Outcome::BudgetSpent`] when no key can be used now.
    pub async fn get_with_key<'r>(
        &mut self,
        pool: &'r KeyPool,
        request: Request<'r>,
    ) -> Result<Option<Answer>, Stop> {
        let state = &self.ctx().state;
        // Each round ends the visit or takes one key out of use.
        for _ in 0..=pool.secrets.len() {
            let now = self.ctx().now();
            let (day, midnight) = pool.day(now)?;
            let Some(place) = state.spend(pool.name, &day, &pool.budgets, now).await? else {
                break;
            };
            let key = pool.secrets[place].expose();
            let keyed = request.clone().once().header(pool.header, key);
            let stop = match self.get(keyed).await {
                Ok(answer) => return Ok(answer),
                Err(stop) => stop,
            };
            let until = match stop.outcome {
                Outcome::RateLimited => stop.wait().unwrap_or(PAUSE),
                Outcome::Unauthorized => midnight.duration_since(now),
                _ => return Err(stop),
            };
            let until = now.checked_add(until).unwrap_or(midnight);
            let id = &pool.budgets[place].id;
            state.block(pool.name, id, until, &stop.error.chain()).await?;
            self.note(format!("key {id} of `{}` rests until {until}: {}", pool.name, stop.error));
            self.may_ask_again(request.url());
        }
        let now = self.ctx().now();
        let (_, midnight) = pool.day(now)?;
        let blocked = state.budgets(pool.name).await?.into_iter();
        let next = blocked.filter_map(|row| row.blocked_until.filter(|until| *until > now)).min();
        let wait = next.map_or(midnight, |next| next.min(midnight)).duration_since(now);
        let error = Error::upstream(format!(
            "ask with a key of `{}`: each of `{}` is used up for today or rests",
            pool.name,
            pool.secrets.len()
        ));
        Err(Stop::new(Outcome::BudgetSpent, error.hint("add a key, or wait")).retry_after(wait))
    }
}
