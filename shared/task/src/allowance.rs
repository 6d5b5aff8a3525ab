//! What a day may take of an upstream that charges by tokens: a part is reserved before a request and corrected after it, across
//! all processes. What a killed process had reserved stays taken until the day ends.

use base::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use stores::state::Reserve;

use crate::contract::Ctx;
use crate::keys::day;

/// How many requests and tokens there are between two midnights of `zone`; `name` is the pool's in the state.
pub struct Allowance {
    pub name: &'static str,
    pub requests: u32,
    pub tokens: u32,
    pub zone: TimeZone,
}

/// What one request may take.
#[must_use = "what is not settled counts as used"]
pub struct Reservation {
    day: String,
    tokens: u32,
}

const REQUESTS: &str = "requests";
const TOKENS: &str = "tokens";

impl Allowance {
    /// Takes one request and so many tokens of the day, unless that would pass a limit: then it gives what is used up, and until
    /// when.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn reserve(
        &self,
        ctx: &Ctx,
        tokens: u32,
    ) -> Result<std::result::Result<Reservation, (String, Timestamp)>> {
        let now = ctx.now();
        let (day, midnight) = day(&self.zone, now)?;
        let parts = [
            Reserve { id: REQUESTS, amount: 1, limit: self.requests },
            Reserve { id: TOKENS, amount: tokens, limit: self.tokens },
        ];
        let beyond = ctx.state.reserve(self.name, &day, &parts, now).await?;
        Ok(match beyond {
            None => Ok(Reservation { day, tokens }),
            Some(beyond) => Err((beyond, midnight)),
        })
    }

    /// Corrects what was reserved by the tokens that were used; the request stays counted.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn settle(&self, ctx: &Ctx, reservation: Reservation, used: u64) -> Result<()> {
        let Reservation { day, tokens } = reservation;
        let difference = i64::try_from(used).unwrap_or(i64::MAX).saturating_sub(tokens.into());
        ctx.state.correct(self.name, &day, TOKENS, difference).await
    }

    /// Gives back what was reserved for a request that was not sent.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn release(&self, ctx: &Ctx, reservation: Reservation) -> Result<()> {
        ctx.state.correct(self.name, &reservation.day, REQUESTS, -1).await?;
        self.settle(ctx, reservation, 0).await
    }

    /// Requests and tokens that the day of `now` has taken.
    ///
    /// # Errors
    /// `Store`, when the state cannot be read.
    pub async fn used(&self, ctx: &Ctx) -> Result<(u32, u32)> {
        let (day, _) = day(&self.zone, ctx.now())?;
        let rows = ctx.state.budgets(self.name).await?;
        let of = |id: &str| {
            let is_it = |row: &&stores::state::BudgetRow| {
                row.id == id && row.window.as_deref() == Some(day.as_str())
            };
            rows.iter().find(is_it).map_or(0, |row| row.spent)
        };
        Ok((of(REQUESTS), of(TOKENS)))
    }
}
