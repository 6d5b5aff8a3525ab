//! What a day may take of an upstream that charges by tokens: a part is reserved before a request and corrected after it, across
//! all processes.
//!
//! The state is asked for blocks, not for each request: what a process has of one is shared among its requests, and given back
//! when it asks no more. What a killed process had reserved stays taken until the day ends: one block, and what its requests had.

use base::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use stores::state::Reserve;
use tokio::sync::Mutex;

use crate::contract::Ctx;
use crate::keys::day;

/// Requests that are reserved together.
const BLOCK: u32 = 64;
/// The part of the day's requests, and of its tokens, that is reserved together at the most: a fiftieth.
const BLOCK_PART: u32 = 50;

/// How many requests and tokens there are between two midnights of a zone.
pub struct Allowance {
    /// The pool in the state.
    name: &'static str,
    requests: u32,
    tokens: u32,
    zone: TimeZone,
    held: Mutex<ReservedBudget>,
}

/// What is reserved of a day and not given to a request.
#[derive(Default)]
struct ReservedBudget {
    day: String,
    requests: u32,
    tokens: u64,
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
    /// So many requests and tokens a day of `zone`; `name` is the pool's in the state.
    pub fn new(name: &'static str, requests: u32, tokens: u32, zone: TimeZone) -> Self {
        Self { name, requests, tokens, zone, held: Mutex::default() }
    }

    /// Requests and tokens of a day at the most.
    pub fn limits(&self) -> (u32, u32) {
        (self.requests, self.tokens)
    }

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
        let (day, midnight) = day(&self.zone, ctx.now())?;
        let mut held = self.held.lock().await;
        if held.day != day {
            self.give_back(ctx, &mut held).await?;
            held.day.clone_from(&day);
        }
        if (held.requests == 0 || held.tokens < tokens.into())
            && let Some(beyond) = self.take_block(ctx, &mut held, tokens).await?
        {
            return Ok(Err((beyond, midnight)));
        }
        held.requests -= 1;
        held.tokens -= u64::from(tokens);
        Ok(Ok(Reservation { day, tokens }))
    }

    /// Reserves what a block of such requests lacks, and smaller ones near the limits; gives the limit that one alone would pass.
    async fn take_block(
        &self,
        ctx: &Ctx,
        held: &mut ReservedBudget,
        tokens: u32,
    ) -> Result<Option<String>> {
        let of_requests = self.requests / BLOCK_PART;
        let of_tokens = self.tokens / BLOCK_PART / tokens.max(1);
        let mut block = of_requests.min(of_tokens).clamp(1, BLOCK);
        loop {
            let requests = block.saturating_sub(held.requests);
            let lacking = (u64::from(tokens) * u64::from(block)).saturating_sub(held.tokens);
            let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
            let parts = [
                Reserve { id: REQUESTS, amount: requests, limit: self.requests },
                Reserve { id: TOKENS, amount: lacking, limit: self.tokens },
            ];
            match ctx.state.reserve(self.name, &held.day, &parts, ctx.now()).await? {
                None => {
                    held.requests += requests;
                    held.tokens += u64::from(lacking);
                    return Ok(None);
                }
                Some(beyond) if block == 1 => return Ok(Some(beyond)),
                Some(_) => block /= 2,
            }
        }
    }

    /// Corrects what was reserved by the tokens that were used; the request stays counted.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn settle(&self, ctx: &Ctx, reservation: Reservation, used: u64) -> Result<()> {
        let Reservation { day, tokens } = reservation;
        let mut held = self.held.lock().await;
        let (used, reserved) = (i64::try_from(used).unwrap_or(i64::MAX), i64::from(tokens));
        // Of a day that is over nothing is held, and what is used beyond all that is held is the state's to know at once.
        let rest = match held.day == day {
            true => i64::try_from(held.tokens).unwrap_or(i64::MAX).saturating_add(reserved),
            false => reserved,
        };
        let rest = rest.saturating_sub(used);
        if held.day == day {
            held.tokens = u64::try_from(rest).unwrap_or(0);
        }
        if rest < 0 || held.day != day {
            ctx.state.correct(self.name, &day, TOKENS, -rest).await?;
        }
        Ok(())
    }

    /// Gives back what was reserved for a request that was not sent.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn release(&self, ctx: &Ctx, reservation: Reservation) -> Result<()> {
        let mut held = self.held.lock().await;
        if held.day == reservation.day {
            held.requests += 1;
        } else {
            ctx.state.correct(self.name, &reservation.day, REQUESTS, -1).await?;
        }
        drop(held);
        self.settle(ctx, reservation, 0).await
    }

    /// Gives back what is reserved for no request: others may take it.
    ///
    /// # Errors
    /// `Store`, when the state cannot be written.
    pub async fn hand_back(&self, ctx: &Ctx) -> Result<()> {
        self.give_back(ctx, &mut *self.held.lock().await).await
    }

    async fn give_back(&self, ctx: &Ctx, held: &mut ReservedBudget) -> Result<()> {
        let ReservedBudget { day, requests, tokens } = std::mem::take(held);
        for (id, rest) in
            [(REQUESTS, i64::from(requests)), (TOKENS, i64::try_from(tokens).unwrap_or(i64::MAX))]
        {
            if rest > 0 {
                ctx.state.correct(self.name, &day, id, -rest).await?;
            }
        }
        Ok(())
    }

    /// Requests and tokens that the day of `now` has taken, those that are reserved included.
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
