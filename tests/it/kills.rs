//! `kill -9` at any moment of a run: the next run makes the store what it would have been, and nothing is left running.
//!
//! The stores are compared document by document and byte by byte; under `--clock` no field is volatile.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::home::{
    ALL, CLOCK, Home, Upstream, eventually_within, has_threads, joined, numbered, signal,
};

pub(crate) const TRIALS: &[(&str, fn())] =
    &[("a_kill_at_any_moment_loses_nothing", a_kill_at_any_moment_loses_nothing)];

/// Kills without `MINERVA_KILLS`, which asks for more.
const KILLS: usize = 24;

/// Homes in which runs are killed beside each other.
const LANES: usize = 4;

/// How long what a killed runner started may live on.
pub(crate) const AFTERLIFE: Duration = Duration::from_secs(1);

/// How long a busy disk may take to end a write that was under way.
pub(crate) const DISK: Duration = Duration::from_secs(20);

const SOURCES: usize = 30;

#[expect(clippy::disallowed_methods, reason = "how thorough this test is, is no setting of ours")]
pub(crate) fn kills() -> usize {
    std::env::var("MINERVA_KILLS").map_or(KILLS, |text| text.parse().unwrap())
}

/// What is read while runs are killed: in two editions, so that first visits and later ones, new items and edits are interrupted.
pub(crate) trait Subject: Send + 'static {
    /// The task that reads it.
    const TASK: &'static str;
    /// Where that stores.
    const INDICES: &'static [&'static str];

    /// Serves the first edition.
    fn start() -> Self;

    /// Serves an edition from now on.
    fn serve(&self, edition: usize);

    /// A home that nothing is stored in yet.
    fn home(&self) -> Home;

    /// Looks at what is stored of each edition when nobody disturbs.
    fn check(&self, stored: &[String; 2]);
}

fn a_kill_at_any_moment_loses_nothing() {
    kill_often::<Feeds>();
}

/// Kills runs of a task, in lanes beside each other.
#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
pub(crate) fn kill_often<S: Subject>() {
    let kills = kills();
    let lane =
        |number: usize| move || Lane::<S>::prepare(number).strike_often(kills.div_ceil(LANES));
    let lanes: Vec<_> = (0..LANES).map(lane).map(thread::spawn).collect();
    let struck: usize = lanes.into_iter().map(joined).sum();
    println!("{kills} kills, of which {struck} struck a run");
    assert!(struck >= kills / 3, "most came before or after the run: {struck} of {kills}");
}

/// Sources whose items grow in number and in part change.
struct Feeds {
    upstream: Upstream,
}

impl Feeds {
    fn sources(&self, edition: usize) -> Vec<(String, String)> {
        let source = |number: usize| {
            let id = format!("source-{number:02}");
            let mut body = String::from_utf8(numbered(number, 10 + edition)).unwrap();
            if edition == 1 {
                body = body.replace("Item 3 ", "Edited 3 ");
            }
            // Some take a moment, so that there are moments between.
            let wait = Duration::from_millis(number as u64 % 4 * 5);
            let url = self.upstream.slow(&id, wait, body);
            (id, url)
        };
        (0..SOURCES).map(source).collect()
    }
}

impl Subject for Feeds {
    const TASK: &'static str = ALL;
    const INDICES: &'static [&'static str] = &["rss_articles"];

    fn start() -> Self {
        Self { upstream: Upstream::start(8) }
    }

    fn serve(&self, edition: usize) {
        self.sources(edition);
    }

    fn home(&self) -> Home {
        let sources = self.sources(0);
        let sources: Vec<_> = sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
        Home::of(&sources)
    }

    fn check(&self, stored: &[String; 2]) {
        assert_eq!(stored[1].lines().count(), SOURCES * 11);
    }
}

/// A subject of its own, and what its runs are measured by.
struct Lane<S> {
    subject: S,
    /// What is stored after each edition when nobody disturbs.
    expected: [String; 2],
    /// How long a run takes when nobody disturbs.
    whole: Duration,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    Function,
    Runner,
}

impl<S: Subject> Lane<S> {
    fn prepare(number: usize) -> Self {
        let mut lane = Self {
            subject: S::start(),
            expected: Default::default(),
            whole: Duration::ZERO,
            random: Random::of(number as u64),
        };
        let undisturbed = lane.subject.home();
        for edition in [0, 1] {
            lane.subject.serve(edition);
            let began = Instant::now();
            run::<S>(&undisturbed);
            lane.whole = began.elapsed();
            lane.expected[edition] = stored::<S>(&undisturbed);
        }
        lane.subject.check(&lane.expected);
        lane
    }

    /// Kills so many runs and compares the store after the run that follows each; how many kills came in time.
    fn strike_often(&mut self, kills: usize) -> usize {
        let mut struck = 0;
        let mut home = self.subject.home();
        for kill in 0..kills {
            let edition = kill % 2;
            if edition == 0 {
                home = self.subject.home();
            }
            self.subject.serve(edition);
            let wait = Duration::from_micros(self.random.below(self.whole.as_micros() as u64));
            let victim = if self.random.below(2) == 0 { Victim::Function } else { Victim::Runner };
            struck += usize::from(strike::<S>(&home, wait, victim));
            run::<S>(&home);
            let stored = stored::<S>(&home);
            if stored != self.expected[edition] {
                let lines = stored.lines().zip(self.expected[edition].lines());
                let differs = lines.into_iter().find(|(ours, theirs)| ours != theirs);
                panic!(
                    "kill {kill}, edition {edition}: {victim:?} after {wait:?} left another store: {differs:#?}"
                );
            }
            let runs = home.run(&["runs", "--json"]).json();
            let statuses: Vec<&Value> =
                runs.as_array().unwrap().iter().map(|run| &run["status"]).collect();
            assert!(
                statuses.iter().all(|status| *status == "complete" || *status == "failed"),
                "{victim:?} after {wait:?}: a run that died is not called failed: {statuses:?}"
            );
        }
        struck
    }
}

/// Kills a run after a while, and sees that nothing is left of it; whether it was under way.
fn strike<S: Subject>(home: &Home, wait: Duration, victim: Victim) -> bool {
    let mut running = home.spawn(&["run", S::TASK, "--json", "--clock", CLOCK]);
    thread::sleep(wait);
    let mut seen: BTreeSet<u32> = home.processes().into_iter().collect();
    let struck = match victim {
        Victim::Runner => {
            running.kill();
            running.end().code.is_none()
        }
        Victim::Function => {
            let functions = seen.iter().filter(|pid| **pid != running.pid());
            functions.for_each(|pid| signal(*pid, Signal::KILL));
            let ran = running.end();
            if ran.code == Some(1) {
                assert_eq!(ran.json()["status"], "failed", "{ran:?}");
            }
            ran.code == Some(1)
        }
    };
    let gone = || {
        let living = home.processes();
        seen.extend(&living);
        living.is_empty()
    };
    assert!(eventually_within(AFTERLIFE, gone), "{victim:?} after {wait:?}: its function lives on");
    // A dead process keeps its locks until the last of its threads is back from the disk.
    assert!(eventually_within(DISK, || seen.iter().all(|pid| !has_threads(*pid))), "{seen:?}");
    struck
}

fn run<S: Subject>(home: &Home) {
    let report = home.report(&[S::TASK]);
    assert_eq!(report["status"], "complete", "{report}");
}

/// Every document, index by index.
fn stored<S: Subject>(home: &Home) -> String {
    S::INDICES.iter().map(|index| home.documents_of(index)).collect()
}

/// The same numbers in every run of the tests (`SplitMix64`).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(number: u64) -> Self {
        Self(0x6d69_6e65_7276_6121 + number)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}
