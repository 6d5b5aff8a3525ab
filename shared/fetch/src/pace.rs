//! How often one host is asked: few at once, and not in bursts.
//!
//! `governor` spaces starts but neither keeps an order among those who wait nor counts what is in flight; two of tokio's
//! fair locks a host do both. A caller may ask for more restraint than the usual: while it waits or is in flight, everybody
//! at that host keeps to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as FairMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use url::Url;

/// Requests to one host at the same time, bodies included.
pub(super) const IN_FLIGHT: usize = 2;
/// Time between the starts of two requests to one host.
pub(super) const GAP: Duration = Duration::from_millis(500);
/// The longest time between two starts that is kept to; what asks for more is asked for more seldom, not more slowly.
pub const GAP_MAX: Duration = Duration::from_secs(60);
/// Hosts remembered before idle ones are forgotten; redirects decide how many hosts there are.
const HOSTS: usize = 1024;

/// How often a host may be asked: stricter than the usual, as a `Crawl-delay` or "one connection, one second" wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Least time between the starts of two requests; [`GAP_MAX`] at most.
    pub gap: Duration,
    /// Most requests at the same time, bodies included; one at least.
    pub at_once: usize,
}

impl Pace {
    /// What holds where nobody asks for more.
    pub(super) const USUAL: Self = Self { gap: GAP, at_once: IN_FLIGHT };

    /// The strictest of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { gap: self.gap.max(other.gap), at_once: self.at_once.min(other.at_once) }
    }

    fn within_bounds(self) -> Self {
        Self { gap: self.gap.min(GAP_MAX), at_once: self.at_once.clamp(1, IN_FLIGHT) }
    }
}

/// The hosts of this process and when each may be asked again.
#[derive(Default)]
pub(super) struct Hosts {
    hosts: Mutex<HashMap<String, Arc<PacedHost>>>,
}

struct PacedHost {
    slots: Arc<Semaphore>,
    /// Held while its owner waits for its start, so those behind queue in order.
    queue: FairMutex<()>,
    times: Mutex<Times>,
}

struct Times {
    last_start: Option<Instant>,
    /// The end of the gap that held at the last start.
    idle_from: Instant,
    /// No start before this, whoever it is: the last caller with a pace of its own, or a refusal, asked for it.
    not_before: Instant,
    /// What those who wait or are in flight ask for.
    asked: Vec<Pace>,
}

/// A turn at a host, over when dropped.
pub(super) struct Turn {
    _held: Option<(OwnedSemaphorePermit, Asker)>,
}

impl Turn {
    /// One that nobody has to wait for.
    pub(super) const FREE: Self = Self { _held: None };
}

/// One who waits or is in flight at a host, until dropped.
struct Asker {
    host: Arc<PacedHost>,
    pace: Pace,
}

impl Hosts {
    /// Waits for a turn at the URL's host and port, at the strictest of the usual pace, the caller's and what others ask for.
    ///
    /// A usual gap of zero is for the operator's own hosts: they wait only where somebody asks for a gap.
    pub(super) async fn turn(&self, url: &Url, usual: Pace, asked: Option<Pace>) -> Turn {
        let asked = asked.map(Pace::within_bounds);
        let pace = asked.map_or(usual, |asked| asked.and(usual));
        let host = self.host(url);
        host.times().asked.push(pace);
        let asker = Asker { host: Arc::clone(&host), pace };
        // Who takes all slots but some leaves no more than those to others.
        let slots = 1 + IN_FLIGHT - host.times().strictest().at_once;
        let slots = Arc::clone(&host.slots).acquire_many_owned(slots as u32).await;
        let slots = slots.expect("the semaphore is never closed");
        let first = host.queue.lock().await;
        loop {
            let start = host.times().start(asked);
            match start {
                Some(start) => sleep_until(start).await,
                None => break,
            }
        }
        drop(first);
        Turn { _held: Some((slots, asker)) }
    }

    /// Lets nobody start at the URL's host for a while, because it asked for that.
    pub(super) fn quiet(&self, url: &Url, wait: Duration) {
        let host = self.host(url);
        let mut times = host.times();
        times.not_before = times.not_before.max(Instant::now() + wait);
    }

    fn host(&self, url: &Url) -> Arc<PacedHost> {
        let authority = format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or(0)
        );
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS {
            let now = Instant::now();
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.times().is_awaited(now));
        }
        let host = hosts.entry(authority).or_insert_with(|| {
            Arc::new(PacedHost {
                slots: Arc::new(Semaphore::new(IN_FLIGHT)),
                queue: FairMutex::default(),
                times: Mutex::new(Times {
                    last_start: None,
                    idle_from: Instant::now(),
                    not_before: Instant::now(),
                    asked: Vec::new(),
                }),
            })
        });
        Arc::clone(host)
    }
}

impl PacedHost {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    /// What holds now: the strictest of what is asked for.
    fn strictest(&self) -> Pace {
        let none = Pace { gap: Duration::ZERO, at_once: IN_FLIGHT };
        self.asked.iter().fold(none, |strictest, pace| strictest.and(*pace))
    }

    /// Whether the host is still to be left alone.
    fn is_awaited(&self, now: Instant) -> bool {
        self.not_before.max(self.idle_from) > now
    }

    /// Starts now and says `None`, or says until when to wait; somebody stricter may come meanwhile.
    fn start(&mut self, asked: Option<Pace>) -> Option<Instant> {
        let (now, gap) = (Instant::now(), self.strictest().gap);
        let after_last = self.last_start.map_or(now, |last| last + gap);
        let start = self.not_before.max(after_last);
        if start > now {
            return Some(start);
        }
        self.last_start = Some(now);
        self.idle_from = now + gap;
        if let Some(asked) = asked {
            self.not_before = now + asked.gap;
        }
        None
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let mut times = self.host.times();
        if let Some(index) = times.asked.iter().position(|pace| *pace == self.pace) {
            times.asked.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is usual at a host, and what the caller asks for.
    type Asked = (Pace, Option<Pace>);

    const USUAL: Asked = (Pace::USUAL, None);
    const UNSPACED: Asked = (Pace { gap: Duration::ZERO, ..Pace::USUAL }, None);
    const ONE_A_SECOND: Asked =
        (Pace::USUAL, Some(Pace { gap: Duration::from_secs(1), at_once: 1 }));

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn starts_at_one_host_are_spaced_and_in_order() {
        let hosts = Arc::new(Hosts::default());
        let begin = Instant::now();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..6 {
            let (hosts, order) = (Arc::clone(&hosts), Arc::clone(&order));
            waiting.spawn(async move {
                let _turn = hosts.turn(&url("http://a.test/x"), Pace::USUAL, None).await;
                order.lock().unwrap().push((number, begin.elapsed().as_millis()));
            });
        }
        hosts.turn(&url("http://b.test/"), Pace::USUAL, None).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "another host does not wait");
        waiting.join_all().await;
        let expected = [(0, 0), (1, 500), (2, 1000), (3, 1500), (4, 2000), (5, 2500)];
        let order = order.lock().unwrap();
        for ((number, at), (expected_number, expected_at)) in order.iter().zip(expected) {
            assert_eq!(*number, expected_number);
            assert!(at.abs_diff(expected_at) <= 10, "{order:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_request_waits_for_one_to_end_even_at_an_excepted_host() {
        let hosts = Hosts::default();
        let host = url("http://127.0.0.1:81/");
        let first = hosts.turn(&host, UNSPACED.0, None).await;
        let _second = hosts.turn(&host, UNSPACED.0, None).await;
        assert!(
            tokio::time::timeout(Duration::from_secs(9), hosts.turn(&host, UNSPACED.0, None))
                .await
                .is_err()
        );
        hosts.turn(&url("http://127.0.0.1:82/"), UNSPACED.0, None).await;
        drop(first);
        hosts.turn(&host, UNSPACED.0, None).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_no_gap_and_idle_hosts_are_forgotten() {
        let hosts = Hosts::default();
        let host = url("http://a.test/");
        let begin = Instant::now();
        drop(hosts.turn(&host, Pace::USUAL, None).await);
        for _ in 0..3 {
            assert!(
                tokio::time::timeout(
                    Duration::from_millis(10),
                    hosts.turn(&host, Pace::USUAL, None)
                )
                .await
                .is_err()
            );
        }
        drop(hosts.turn(&host, Pace::USUAL, None).await);
        assert!(begin.elapsed() < Duration::from_millis(520));
        hosts.quiet(&host, Duration::from_secs(5));
        for number in 0..2 * HOSTS {
            hosts.turn(&url(&format!("http://h{number}.test/")), UNSPACED.0, None).await;
        }
        assert!(hosts.hosts.lock().unwrap().len() <= HOSTS);
        drop(hosts.turn(&host, Pace::USUAL, None).await);
        assert!(
            begin.elapsed() > Duration::from_secs(5),
            "a host that asked for quiet is not forgotten"
        );
    }

    /// When each turn starts, in milliseconds, each request taking `busy`.
    async fn starts(callers: &[Asked], busy: Duration) -> Vec<u128> {
        let (hosts, begin) = (Arc::new(Hosts::default()), Instant::now());
        let mut turns = tokio::task::JoinSet::new();
        let starts = Arc::new(Mutex::new(Vec::new()));
        for (usual, asked) in callers.iter().copied() {
            let (hosts, starts) = (Arc::clone(&hosts), Arc::clone(&starts));
            turns.spawn(async move {
                let _turn = hosts.turn(&url("http://a.test/"), usual, asked).await;
                starts.lock().unwrap().push(begin.elapsed().as_millis());
                sleep_until(Instant::now() + busy).await;
            });
        }
        turns.join_all().await;
        let starts = starts.lock().unwrap();
        starts.iter().map(|start| start / 50 * 50).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_strictest_of_those_who_ask_at_the_same_time_holds_for_all() {
        let brief = Duration::from_millis(10);
        assert_eq!(starts(&[ONE_A_SECOND; 4], brief).await, [0, 1000, 2000, 3000]);
        let mixed = [USUAL, ONE_A_SECOND, USUAL, UNSPACED];
        assert_eq!(starts(&mixed, brief).await, [0, 1000, 2000, 2000]);
        assert_eq!(starts(&[UNSPACED; 4], brief).await, [0, 0, 0, 0]);
        assert_eq!(starts(&[ONE_A_SECOND, UNSPACED], brief).await, [0, 1000]);
        let lenient = (Pace::USUAL, Some(Pace { gap: Duration::ZERO, at_once: 99 }));
        assert_eq!(starts(&[lenient; 3], brief).await, [0, 500, 1000]);
        let absurd = (Pace::USUAL, Some(Pace { gap: Duration::MAX, at_once: 0 }));
        assert_eq!(starts(&[absurd; 2], brief).await, [0, GAP_MAX.as_millis()]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_once_is_alone_with_those_who_came_before_and_after() {
        let long = Duration::from_secs(10);
        assert_eq!(starts(&[ONE_A_SECOND; 3], long).await, [0, 10_000, 20_000]);
        let mixed = [USUAL, ONE_A_SECOND, USUAL];
        assert_eq!(starts(&mixed, long).await, [0, 10_000, 20_000]);
        assert_eq!(starts(&[USUAL; 3], long).await, [0, 500, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_is_no_longer_kept_to() {
        let (hosts, host) = (Hosts::default(), url("http://a.test/"));
        drop(hosts.turn(&host, Pace::USUAL, None).await);
        let begin = Instant::now();
        let strict = Some(Pace { gap: GAP_MAX, at_once: 1 });
        let brief = Duration::from_millis(10);
        assert!(tokio::time::timeout(brief, hosts.turn(&host, Pace::USUAL, strict)).await.is_err());
        drop(hosts.turn(&host, Pace::USUAL, None).await);
        assert!(begin.elapsed() < Duration::from_millis(520), "{:?}", begin.elapsed());
        let turn = hosts.turn(&host, Pace::USUAL, strict).await;
        assert!(begin.elapsed() >= GAP_MAX);
        drop(turn);
        drop(hosts.turn(&host, Pace::USUAL, None).await);
        assert!(begin.elapsed() >= 2 * GAP_MAX, "the gap after a strict start is kept to");
    }
}
