//! How often one host is asked: few at once, and not in bursts.
//!
//! `governor` spaces starts but neither keeps an order among those who wait nor counts what is in flight; two of tokio's
//! fair locks a host do both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as FairMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use url::Url;

/// Requests to one host at the same time, bodies included.
pub(super) const IN_FLIGHT: usize = 2;
/// Time between the starts of two requests to one host.
pub(super) const GAP: Duration = Duration::from_millis(500);
/// Hosts remembered before idle ones are forgotten; redirects decide how many hosts there are.
const HOSTS: usize = 1024;

/// The hosts of this process and when each may be asked again.
pub(super) struct Pace {
    gap: Duration,
    hosts: Mutex<HashMap<String, Arc<PacedHost>>>,
}

struct PacedHost {
    slots: Arc<Semaphore>,
    /// Held while its owner waits for the time in it, so those behind queue in order.
    next_start: FairMutex<Instant>,
}

/// A turn at a host, over when dropped.
pub(super) struct Turn {
    _slot: OwnedSemaphorePermit,
}

impl Pace {
    pub(super) fn new(gap: Duration) -> Self {
        Self { gap, hosts: Mutex::default() }
    }

    /// Waits for a turn at the URL's host and port; `spaced` is false for the operator's own hosts.
    pub(super) async fn turn(&self, url: &Url, spaced: bool) -> Turn {
        let host = self.host(url);
        let slots = Arc::clone(&host.slots);
        let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
        if spaced {
            let mut next_start = host.next_start.lock().await;
            sleep_until(*next_start).await;
            *next_start = Instant::now() + self.gap;
        }
        Turn { _slot: slot }
    }

    /// Lets nobody start at the URL's host for a while, because it asked for that.
    pub(super) async fn quiet(&self, url: &Url, wait: Duration) {
        let until = Instant::now() + wait;
        let host = self.host(url);
        let mut next_start = host.next_start.lock().await;
        *next_start = until.max(*next_start);
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
            hosts.retain(|_, host| {
                Arc::strong_count(host) > 1
                    || host.slots.available_permits() < IN_FLIGHT
                    || host.next_start.try_lock().is_ok_and(|next| *next > now)
            });
        }
        let host = hosts.entry(authority).or_insert_with(|| {
            Arc::new(PacedHost {
                slots: Arc::new(Semaphore::new(IN_FLIGHT)),
                next_start: FairMutex::new(Instant::now()),
            })
        });
        Arc::clone(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn starts_at_one_host_are_spaced_and_in_order() {
        let pace = Arc::new(Pace::new(GAP));
        let begin = Instant::now();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..6 {
            let (pace, order) = (Arc::clone(&pace), Arc::clone(&order));
            waiting.spawn(async move {
                let _turn = pace.turn(&url("http://a.test/x"), true).await;
                order.lock().unwrap().push((number, begin.elapsed().as_millis()));
            });
        }
        pace.turn(&url("http://b.test/"), true).await;
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
        let pace = Pace::new(GAP);
        let host = url("http://127.0.0.1:81/");
        let first = pace.turn(&host, false).await;
        let _second = pace.turn(&host, false).await;
        assert!(
            tokio::time::timeout(Duration::from_secs(9), pace.turn(&host, false)).await.is_err()
        );
        pace.turn(&url("http://127.0.0.1:82/"), false).await;
        drop(first);
        pace.turn(&host, false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_no_gap_and_idle_hosts_are_forgotten() {
        let pace = Pace::new(GAP);
        let host = url("http://a.test/");
        let begin = Instant::now();
        drop(pace.turn(&host, true).await);
        for _ in 0..3 {
            assert!(
                tokio::time::timeout(Duration::from_millis(10), pace.turn(&host, true))
                    .await
                    .is_err()
            );
        }
        drop(pace.turn(&host, true).await);
        assert!(begin.elapsed() < Duration::from_millis(520));
        pace.quiet(&host, Duration::from_secs(5)).await;
        for number in 0..2 * HOSTS {
            pace.turn(&url(&format!("http://h{number}.test/")), false).await;
        }
        assert!(pace.hosts.lock().unwrap().len() <= HOSTS);
        drop(pace.turn(&host, true).await);
        assert!(
            begin.elapsed() > Duration::from_secs(5),
            "a host that asked for quiet is not forgotten"
        );
    }
}
