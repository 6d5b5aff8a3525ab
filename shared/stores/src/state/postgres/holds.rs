//! Holds as rows: a name, a number that is given once, and an instant by the server's clock after which others may take it.
//!
//! One background task a process prolongs all its holds and releases the dropped ones; a process that dies leaves rows
//! that expire. Expiry gives others the right to take a name; until one does, its holder may still write and prolong it,
//! so that a server that was away for longer than that costs nobody a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::postgres::PgPool;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use uuid::Uuid;

/// How often holds are prolonged, and how long they last without that.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two prolongations.
    pub heartbeat: Duration,
    /// From the last one until others may take the name.
    pub expiry: Duration,
}

impl Default for Timing {
    /// Two beats may be lost; what a dead process held is noticed and taken over by others within 30 s.
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(10), expiry: Duration::from_secs(27) }
    }
}

/// A wait as a statement takes it.
fn ms(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

/// A held name; dropping it releases it, soon.
pub(crate) struct RowHold {
    holds: Arc<Holds>,
    name: String,
    /// The number that makes this hold another one than the name's last.
    pub(super) fence: i64,
}

impl Drop for RowHold {
    fn drop(&mut self) {
        let mut names = self.holds.names();
        if names.held.get(&self.name) == Some(&self.fence) {
            names.held.remove(&self.name);
        }
        names.dropped.push((std::mem::take(&mut self.name), self.fence));
        drop(names);
        self.holds.something_dropped.notify_one();
    }
}

#[derive(Default)]
struct Names {
    held: BTreeMap<String, i64>,
    dropped: Vec<(String, i64)>,
    /// When what is held was prolonged last, or would have been.
    prolonged: Option<Instant>,
}

/// All holds of this process in one schema.
pub(super) struct Holds {
    pool: PgPool,
    timing: Timing,
    /// This process among all others, as people find it: program, process id, log stream, and a key that no other has.
    pub(super) holder: String,
    names: Mutex<Names>,
    something_dropped: Notify,
    /// One statement over several rows at a time, or two could wait for each other's rows.
    at_work: tokio::sync::Mutex<()>,
    background: Mutex<Option<AbortHandle>>,
}

impl Drop for Holds {
    fn drop(&mut self) {
        if let Some(task) = self.background.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Holds {
    pub(super) fn new(pool: PgPool, timing: Timing, log_stream: Option<&str>) -> Arc<Self> {
        let program = std::env::current_exe().ok();
        let program = program.as_ref().and_then(|path| path.file_stem()).unwrap_or_default();
        let (program, pid) = (program.to_string_lossy(), std::process::id());
        let holds = Arc::new(Self {
            pool,
            timing,
            holder: format!(
                "{program} pid {pid}, log {}, key {}",
                log_stream.unwrap_or("-"),
                Uuid::new_v4().simple()
            ),
            names: Mutex::default(),
            something_dropped: Notify::new(),
            at_work: tokio::sync::Mutex::default(),
            background: Mutex::default(),
        });
        let task = tokio::spawn(keep(Arc::downgrade(&holds), timing.heartbeat));
        *holds.background.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(task.abort_handle());
        holds
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes hold of a name; `None` when another has it. Who takes over a run frees all that its former process held: it finds
    /// its sources free too.
    pub(super) async fn take(self: &Arc<Self>, name: String) -> sqlx::Result<Option<RowHold>> {
        // What this process dropped a moment ago is free for itself at once.
        self.release().await?;
        let taken: Option<(i64,)> = sqlx::query_as(
            "WITH dead AS (SELECT holder FROM holds WHERE name = $1 AND name LIKE 'run/%' AND expires < clock_timestamp()),
             freed AS (DELETE FROM holds WHERE name IN
                 (SELECT name FROM holds JOIN dead USING (holder) WHERE name <> $1 FOR UPDATE OF holds SKIP LOCKED))
             INSERT INTO holds (name, fence, holder, expires) VALUES ($1, nextval('fences'), $2, clock_timestamp() + $3 * interval '1 millisecond')
             ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, holder = excluded.holder, expires = excluded.expires
             WHERE holds.expires < clock_timestamp() RETURNING fence",
        )
        .bind(&name)
        .bind(&self.holder)
        .bind(self.expiry_ms())
        .fetch_optional(&self.pool)
        .await?;
        Ok(taken.map(|(fence,)| self.taken(name, fence)))
    }

    /// Deletes the rows of a process that is known to be dead, by its log stream.
    pub(super) async fn release_dead(&self, log_stream: &str) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM holds WHERE holder LIKE '%, log ' || $1 || ', key %'")
            .bind(log_stream)
            .execute(&self.pool)
            .await
            .map(drop)
    }

    /// How long a hold lasts that is taken now: all holds of a process expire together, as if taken at its last beat.
    pub(super) fn expiry_ms(&self) -> i64 {
        let Timing { heartbeat, expiry } = self.timing;
        let since = self.names().prolonged.map_or(Duration::ZERO, |beat| beat.elapsed());
        ms(expiry.saturating_sub(since.min(heartbeat)))
    }

    /// The hold whose row a statement has just written.
    pub(super) fn taken(self: &Arc<Self>, name: String, fence: i64) -> RowHold {
        self.names().held.insert(name.clone(), fence);
        RowHold { holds: Arc::clone(self), name, fence }
    }

    /// Deletes the rows of dropped holds.
    pub(super) async fn release(&self) -> sqlx::Result<()> {
        let _one_at_a_time = self.at_work.lock().await;
        let dropped = std::mem::take(&mut self.names().dropped);
        if dropped.is_empty() {
            return Ok(());
        }
        let (names, fences): (Vec<&str>, Vec<i64>) =
            dropped.iter().map(|(name, fence)| (name.as_str(), *fence)).unzip();
        let deleted = sqlx::query(
            "DELETE FROM holds USING unnest($1, $2) AS gone (name, fence)
             WHERE holds.name = gone.name AND holds.fence = gone.fence",
        )
        .bind(names)
        .bind(fences)
        .execute(&self.pool)
        .await;
        if let Err(cause) = deleted {
            self.names().dropped.extend(dropped);
            return Err(cause);
        }
        Ok(())
    }

    /// Prolongs what is held, and forgets what another has taken.
    async fn prolong(&self) -> sqlx::Result<()> {
        let _one_at_a_time = self.at_work.lock().await;
        let began = Instant::now();
        let (names, fences): (Vec<String>, Vec<i64>) =
            self.names().held.iter().map(|(name, fence)| (name.clone(), *fence)).unzip();
        if names.is_empty() {
            self.names().prolonged = Some(began);
            return Ok(());
        }
        let kept: Vec<(String,)> = sqlx::query_as(
            "UPDATE holds SET expires = clock_timestamp() + $3 * interval '1 millisecond' FROM unnest($1, $2) AS mine (name, fence)
             WHERE holds.name = mine.name AND holds.fence = mine.fence RETURNING holds.name",
        )
        .bind(&names)
        .bind(&fences)
        .bind(ms(self.timing.expiry))
        .fetch_all(&self.pool)
        .await?;
        self.names().prolonged = Some(began);
        for (name, fence) in names.iter().zip(fences) {
            if kept.iter().any(|(kept,)| kept == name) {
                continue;
            }
            let mut all = self.names();
            // What was released in the meantime is not lost.
            if all.held.get(name) == Some(&fence) {
                all.held.remove(name);
                tracing::warn!(hold = name, "a hold was lost: its row expired and another took it");
            }
        }
        Ok(())
    }
}

/// Prolongs and releases until nobody needs it any more.
async fn keep(holds: Weak<Holds>, heartbeat: Duration) {
    let mut beats = interval(heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Some(live) = holds.upgrade() else { return };
        let something_dropped = live.something_dropped.notified();
        let is_beat = tokio::select! {
            _ = beats.tick() => true,
            () = something_dropped => false,
        };
        let work = async { if is_beat { live.prolong().await } else { live.release().await } };
        let done = timeout(heartbeat, work).await;
        if is_beat && !matches!(done, Ok(Ok(()))) {
            // The server may be starting again; the holds last for two more beats.
            beats.reset_after(heartbeat / 10);
        }
        if let Ok(Err(cause)) = done {
            tracing::warn!(error = %cause, "prolong or release holds");
        }
    }
}
