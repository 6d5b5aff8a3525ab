//! Every slot of a timetable has one outcome and every document is there once, however often runners and their functions are
//! killed: in a replay on files, and by two runners that share PostgreSQL. What is told to end finishes or hands back.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::json;
use stores::state::{
    AttemptRow, Firings, History as _, HistoryQuery, Queue as _, QueueState, SlotRow, Sqlite, State,
};
use tokio::runtime::Runtime;

use crate::commands::{INVOKE, post, serve};
use crate::home::{
    ALL, Home, Running, Upstream, eventually_within, has_threads, joined, numbered, signal,
};
use crate::kills::{AFTERLIFE, DISK, Random, kills};
use crate::state::{Test, World, by_name};

pub(crate) const TRIALS: &[(&str, fn())] = &[
    ("a_timetable_is_killed_at_any_moment", a_timetable_is_killed_at_any_moment),
    ("what_is_told_to_end_finishes_or_hands_back", what_is_told_to_end_finishes_or_hands_back),
    ("a_call_is_an_attempt_like_others", a_call_is_an_attempt_like_others),
    ("functions_of_a_folder_are_started_again", functions_of_a_folder_are_started_again),
];

pub(crate) const ON_POSTGRES: &[(&str, Test)] =
    by_name![two_runners_are_one_scheduler_and_one_takes_over_from_the_other];

/// The second task of the trials' timetables; without an input it reads the sources of all categories.
const CATEGORY: &str = "collect_category";

/// A timetable of these rows alone, each with what follows its name.
fn timetable(home: &Home, rows: &[(&str, &str)]) -> String {
    let mut text = "[defaults]\ntimeout_s = 60\nzone = \"UTC\"\n\n".to_owned();
    for (task, row) in rows {
        let _ = writeln!(text, "[{task}]\n{row}\n");
    }
    let all = schedule::Timetable::parse(include_str!("../../infra/schedule.toml")).unwrap();
    for row in all.rows().iter().filter(|row| row.when.is_some()) {
        if !rows.iter().any(|(task, _)| *task == row.name) {
            let _ = writeln!(text, "[{}]\nenabled = false\n", row.name);
        }
    }
    let path = home.path("schedule.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What the ledger says of slots that were all run: each once, well, and by attempts of which only the last ended it. Gives
/// the attempts of each.
async fn check(
    state: &dyn State,
    expected: &BTreeSet<(&str, Timestamp)>,
) -> BTreeMap<String, Vec<AttemptRow>> {
    let query = HistoryQuery { limit: 1_000_000, ..HistoryQuery::default() };
    let slots = state.slots(&query).await.unwrap();
    let found: BTreeSet<_> = slots.iter().map(|slot| (slot.task.as_str(), slot.slot)).collect();
    assert_eq!(&found, expected, "the timetable's own slots");
    assert_eq!(slots.len(), expected.len(), "each once");
    let attempts_of = async |slot: &SlotRow| {
        let query = HistoryQuery { request_id: Some(&slot.request_id), ..query.clone() };
        state.attempts(&query).await.unwrap()
    };
    if let Some(slot) = slots.iter().find(|slot| slot.outcome != "complete") {
        panic!("{slot:?}: {:?}", attempts_of(slot).await);
    }

    let runs = state.runs_of(&query).await.unwrap();
    let of_slots: BTreeSet<_> =
        runs.iter().filter_map(|run| Some((run.task.as_str(), run.slot?))).collect();
    assert_eq!((&of_slots, runs.len()), (expected, expected.len()), "a run a slot");
    assert!(runs.iter().all(|run| run.status == "complete"), "{runs:?}");

    let mut attempts: BTreeMap<String, Vec<AttemptRow>> = BTreeMap::new();
    for attempt in state.attempts(&query).await.unwrap() {
        attempts.entry(attempt.request_id.clone()).or_default().push(attempt);
    }
    assert_eq!(attempts.len(), expected.len(), "no attempts at anything else");
    for tries in attempts.values_mut() {
        tries.sort_by_key(|attempt| attempt.attempt);
        let numbers: Vec<u32> = tries.iter().map(|attempt| attempt.attempt).collect();
        assert!(numbers.iter().copied().eq(1..=tries.len() as u32), "{tries:?}");
        let (last, before) = tries.split_last().unwrap();
        // One that found its slot done by an attempt whose runner died before it said so.
        assert!(["complete", "skipped"].contains(&last.outcome.as_str()), "{tries:?}");
        let ended = |attempt: &AttemptRow| {
            ["interrupted", "failed", "skipped", "complete"].contains(&attempt.outcome.as_str())
        };
        assert!(before.iter().all(ended), "{tries:?}");
    }
    for waits in [QueueState::Queued, QueueState::Running, QueueState::Dead] {
        assert_eq!(state.queue_length(waits).await.unwrap(), 0, "{}", waits.name());
    }
    attempts
}

// A replay on files.

/// Sources of a stretch, whose items grow in number and in part change from one to the next.
const SOURCES: usize = 6;

/// Stretches that are replayed into one home, and the hours of each.
const STRETCHES: usize = 4;
const STRETCH_H: i64 = 6;

/// Kills of one stretch at the most: a slot whose third attempt fails is dead.
const KILLS_MAX: u64 = 2;

const FROM: &str = "2026-03-01T00:00:00Z";

/// Kills at the least; `MINERVA_KILLS` asks for more.
const KILLS: usize = 40;

/// The least time within which a kill comes.
const SHORTEST: Duration = Duration::from_millis(100);

/// Homes in which replays are killed beside each other.
const LANES: usize = 2;

fn serve_edition(upstream: &Upstream, edition: usize) -> Vec<(String, String)> {
    let source = |number: usize| {
        let id = format!("source-{number}");
        let mut body = String::from_utf8(numbered(number, 5 + edition)).unwrap();
        if edition % 2 == 1 {
            body = body.replace("Item 3 ", "Edited 3 ");
        }
        let url = upstream.slow(&id, Duration::from_millis(number as u64 % 3 * 4), body);
        (id, url)
    };
    (0..SOURCES).map(source).collect()
}

/// A home into which stretches of a timetable are replayed.
struct Replayed {
    home: Home,
    timetable: String,
}

impl Replayed {
    fn new(upstream: &Upstream) -> Self {
        let sources = serve_edition(upstream, 0);
        let sources: Vec<_> = sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
        let home = Home::of(&sources);
        let rows =
            [(ALL, "when = \"cron(0 0/2 * * ? *)\""), (CATEGORY, "when = \"cron(30 * * * ? *)\"")];
        let timetable = timetable(&home, &rows);
        Self { home, timetable }
    }

    fn end_of(stretch: usize) -> Timestamp {
        let from: Timestamp = FROM.parse().unwrap();
        from + SignedDuration::from_hours(STRETCH_H * (stretch as i64 + 1))
            - SignedDuration::from_secs(1)
    }

    fn spawn(&self, stretch: usize) -> Running {
        let to = Self::end_of(stretch).to_string();
        let tail = ["--timetable", &self.timetable, "--data-dir", "replayed", "--json"];
        self.home.spawn(&[&["replay", "--from", FROM, "--to", &to], &tail[..]].concat())
    }

    fn finish(&self, stretch: usize) {
        self.spawn(stretch).end().ends_with(0);
    }

    fn documents(&self) -> String {
        let ran = self.home.run(&["documents", "rss_articles", "--data-dir", "replayed"]);
        ran.ends_with(0).out.clone()
    }

    /// Looks at the ledger after a stretch.
    fn check(&self, runtime: &Runtime, stretch: usize) {
        let mut expected = BTreeSet::new();
        let mut slot: Timestamp = FROM.parse().unwrap();
        while slot <= Self::end_of(stretch) {
            let minute = slot.as_second() / 60;
            if minute % 120 == 0 {
                expected.insert((ALL, slot));
            }
            if minute % 60 == 30 {
                expected.insert((CATEGORY, slot));
            }
            slot += SignedDuration::from_mins(30);
        }
        runtime.block_on(async {
            let state = Sqlite::open(&self.home.path("replayed")).await.unwrap();
            check(&state, &expected).await;
        });
    }
}

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn a_timetable_is_killed_at_any_moment() {
    let kills = kills().max(KILLS);
    let lane = |number: usize| move || strike_often(number, kills.div_ceil(LANES));
    let lanes: Vec<_> = (0..LANES).map(lane).map(thread::spawn).collect();
    let struck: usize = lanes.into_iter().map(joined).sum();
    println!("{kills} kills of a timetable, of which {struck} struck one at work");
    assert!(struck >= kills / 3, "most came before or after the work: {struck} of {kills}");
}

fn strike_often(number: usize, kills: usize) -> usize {
    let runtime = Runtime::new().unwrap();
    let upstream = Upstream::start(2);
    let mut random = Random::of(number as u64);
    let undisturbed = Replayed::new(&upstream);
    let mut whole = Duration::ZERO;
    let expected: Vec<String> = (0..STRETCHES)
        .map(|stretch| {
            serve_edition(&upstream, stretch);
            let began = Instant::now();
            undisturbed.finish(stretch);
            whole = began.elapsed();
            undisturbed.check(&runtime, stretch);
            undisturbed.documents()
        })
        .collect();
    assert_eq!(expected[STRETCHES - 1].lines().count(), SOURCES * (5 + STRETCHES - 1));

    let (mut made, mut struck) = (0, 0);
    while made < kills {
        let replayed = Replayed::new(&upstream);
        for (stretch, expected) in expected.iter().enumerate() {
            serve_edition(&upstream, stretch);
            let mut history = Vec::new();
            for _ in 0..=random.below(KILLS_MAX) {
                let wait = Duration::from_micros(random.below(whole.as_micros() as u64));
                let is_runner = random.below(2) == 0;
                history.push((wait, is_runner));
                made += 1;
                let came_in_time = strike(&replayed, stretch, wait, is_runner);
                struck += usize::from(came_in_time);
                // A machine's load changes: most kills shall come in time, and some near the end.
                whole = if came_in_time { whole * 10 / 9 } else { whole * 3 / 4 }.max(SHORTEST);
            }
            replayed.finish(stretch);
            assert!(replayed.documents() == *expected, "{stretch}: {history:?}: another store");
            replayed.check(&runtime, stretch);
        }
    }
    struck
}

/// Kills the runner of a replay, or its functions, after a while; whether it was under way.
fn strike(replayed: &Replayed, stretch: usize, wait: Duration, is_runner: bool) -> bool {
    let mut running = replayed.spawn(stretch);
    thread::sleep(wait);
    let home = &replayed.home;
    let mut seen: BTreeSet<u32> = home.processes().into_iter().collect();
    let functions: Vec<u32> = seen.iter().copied().filter(|pid| *pid != running.pid()).collect();
    let struck = if is_runner {
        running.kill();
        running.end().code.is_none()
    } else {
        functions.iter().for_each(|pid| signal(*pid, Signal::KILL));
        // It goes on by itself.
        running.end().ends_with(0);
        !functions.is_empty()
    };
    let gone = || {
        let living = home.processes();
        seen.extend(&living);
        living.is_empty()
    };
    assert!(eventually_within(AFTERLIFE, gone), "after {wait:?}: a function lives on");
    // A dead process keeps its locks until the last of its threads is back from the disk.
    assert!(eventually_within(DISK, || seen.iter().all(|pid| !has_threads(*pid))), "{seen:?}");
    struck
}

// Two runners on one server.

/// A runner that is killed is taken over by the other within 30 s, and on a machine that runs other trials a little later.
const TAKE_OVER: Duration = Duration::from_secs(40);

/// What is due when the runners start.
const BACKLOG: SignedDuration = SignedDuration::from_hours(3);
const EVERY_MIN: i64 = 5;

/// How long all of it may take, with a take-over and the waits of retries.
const PATIENCE: Duration = Duration::from_secs(200);

/// Schemas in which runners are killed beside each other, among other trials.
const PAIRS: usize = 3;

/// Who asks for so many kills has the machine for this trial alone: so many schemas then.
const KILLS_ALONE: usize = 1_000;
const PAIRS_ALONE: usize = 10;

#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
async fn two_runners_are_one_scheduler_and_one_takes_over_from_the_other(world: Arc<World>) {
    // Each kill of a runner costs its holds' expiry.
    let schemas = if kills() < KILLS_ALONE { PAIRS } else { PAIRS_ALONE };
    let rounds = kills().div_ceil(schemas * 13);
    let mut pairs = Vec::new();
    for pair in 0..schemas {
        let world = Arc::clone(&world);
        pairs.push(thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            (0..rounds)
                .map(|round| {
                    let schema = world.beside(&runtime);
                    // A function of either, then one of the runners, and again.
                    let victim = (pair + round) % 3;
                    let mut random = Random::of((pair * 1_000 + round) as u64);
                    let struck = two_runners(&runtime, &schema, victim, &mut random);
                    schema.drop_it(&runtime);
                    struck
                })
                .collect::<Vec<Struck>>()
        }));
    }
    let struck: Vec<Struck> = pairs.into_iter().flat_map(joined).collect();
    let cut_off: usize = struck.iter().map(|struck| struck.cut_off).sum();
    let mut took: Vec<Duration> = struck.into_iter().filter_map(|struck| struck.took).collect();
    took.sort_unstable();
    println!("{} kills cut off {cut_off} attempts; taken over after {took:?}", rounds * schemas);
    assert!(cut_off > 0, "nothing was under way");
    assert!(took.iter().all(|took| *took <= TAKE_OVER), "{took:?}");
}

/// What a kill did.
struct Struck {
    /// Attempts that did not come to their end.
    cut_off: usize,
    /// How long it took until what a dead runner was at went on with the other.
    took: Option<Duration>,
}

/// Starts two runners on a backlog and kills one of them (0, 1), or the functions of both (2).
fn two_runners(runtime: &Runtime, world: &World, victim: usize, random: &mut Random) -> Struck {
    let upstream = Upstream::start(2);
    let sources: Vec<(String, String)> = (0..SOURCES)
        .map(|number| {
            let id = format!("source-{number}");
            let url = upstream.slow(&id, Duration::from_millis(60), numbered(number, 5));
            (id, url)
        })
        .collect();
    let sources: Vec<_> = sources.iter().map(|(id, url)| (id.as_str(), url.clone())).collect();
    let home = Home::of(&sources).with("DATABASE_URL", world.url());
    // The three hours before this one, and no slot to come.
    let now = || Clock::Machine.now(None);
    let end = Timestamp::from_second(now().as_second() / 3600 * 3600).unwrap();
    let slots = (1..=BACKLOG.as_mins() / EVERY_MIN)
        .map(|back| end - SignedDuration::from_mins(back * EVERY_MIN))
        .collect::<BTreeSet<_>>();
    let hours: BTreeSet<_> = slots.iter().map(|slot| slot.strftime("%-H").to_string()).collect();
    let hours = hours.into_iter().collect::<Vec<_>>().join(",");
    let when = format!("when = \"cron(0/{EVERY_MIN} {hours} * * ? *)\"\ncatch_up = \"all\"\n");
    let rows = [
        (ALL, format!("{when}overlap = \"queue\"")),
        (CATEGORY, format!("{when}overlap = \"allow\"")),
    ];
    let rows = rows.each_ref().map(|(task, row)| (*task, row.as_str()));
    let timetable = timetable(&home, &rows);
    let state = runtime.block_on(world.open());
    let mark = end - BACKLOG - SignedDuration::from_secs(1);
    for (task, _) in rows {
        assert!(runtime.block_on(state.fire(task, None, mark, &Firings::default())).unwrap());
    }
    let mut runners = [(), ()].map(|()| serve(&home, &timetable));
    let attempts = || {
        let query = HistoryQuery { limit: 100_000, ..HistoryQuery::default() };
        runtime.block_on(state.attempts(&query)).unwrap()
    };
    let some = random.below(25) as usize + 2;
    assert!(eventually_within(PATIENCE, || attempts().len() >= some));
    let pids = runners.each_ref().map(|(running, ..)| running.pid());
    let functions = |home: &Home| {
        let all = home.processes().into_iter();
        all.filter(|pid| !pids.contains(pid)).collect::<Vec<u32>>()
    };
    let killed_at = now();
    let began = Instant::now();
    if victim < 2 {
        runners[victim].0.kill();
        runners[victim].0.ended_within(AFTERLIFE).expect("it was killed");
        let other = pids[1 - victim];
        let is_the_others = |pid: &u32| parent(*pid).is_none_or(|parent| parent == other);
        let gone = || functions(&home).iter().all(is_the_others);
        assert!(eventually_within(AFTERLIFE, gone), "a function of the dead runner lives on");
    } else {
        functions(&home).into_iter().for_each(|pid| signal(pid, Signal::KILL));
    }

    let counts = || runtime.block_on(state.slot_counts(mark)).unwrap();
    // One look: between two, what is run may be put back.
    let is_settled = || {
        let counts = counts();
        ["queued", "running", "continuing"].iter().all(|outcome| !counts.contains_key(*outcome))
    };
    assert!(eventually_within(PATIENCE, is_settled), "after {:?}: {:?}", began.elapsed(), counts());
    let expected = slots.iter().flat_map(|slot| [(ALL, *slot), (CATEGORY, *slot)]).collect();
    let attempts = runtime.block_on(check(state.as_ref(), &expected));
    let articles = home.articles();
    assert_eq!(articles.len(), SOURCES * 5);
    assert!(articles.iter().all(|article| article["revision"] == 1), "each was written once");

    for (running, ..) in &mut runners {
        running.terminate();
        running.ended_within(Duration::from_secs(10)).expect("it ends");
    }
    assert!(eventually_within(AFTERLIFE, || home.processes().is_empty()));
    // What the dead one was at.
    let went_on = attempts.values().flat_map(|tries| tries.windows(2)).filter_map(|pair| {
        let is_lost = pair[0].outcome == "interrupted" && pair[0].started <= killed_at;
        is_lost.then(|| pair[1].started.duration_since(killed_at).unsigned_abs())
    });
    let took = went_on.max();
    assert!(victim < 2 || took.is_none(), "no runner died: {attempts:?}");
    let is_cut_off =
        |attempt: &&AttemptRow| ["interrupted", "failed"].contains(&attempt.outcome.as_str());
    Struck { cut_off: attempts.values().flatten().filter(is_cut_off).count(), took }
}

/// The parent of a process that lives.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok();
    parent.filter(|_| !matches!(state, "Z" | "X"))
}

// Being told to end.

fn what_is_told_to_end_finishes_or_hands_back() {
    let runtime = Runtime::new().unwrap();
    for (told, wait, is_finished) in [
        (Signal::TERM, Duration::from_secs(2), true),
        (Signal::TERM, Duration::from_secs(60), false),
        (Signal::INT, Duration::from_secs(60), false),
        (Signal::HUP, Duration::from_secs(60), false),
    ] {
        let upstream = Upstream::start(1);
        let home = Home::of(&[("a", upstream.slow("a", wait, numbered(0, 2)))]);
        let timetable = crate::commands::timetable(&home, "");
        let (mut server, address, _lines) = serve(&home, &timetable);
        let header = "x-amz-invocation-type: Event\r\n";
        assert_eq!(post(&address, INVOKE, header, "{}").0, 202);
        assert!(eventually_within(Duration::from_secs(20), || upstream.asked("a") == 1));
        signal(server.pid(), told);
        let ended = server.ended_within(Duration::from_secs(10));
        assert!(ended.is_some_and(|status| status.success()), "{told:?}: {ended:?}");
        assert!(eventually_within(AFTERLIFE, || home.processes().is_empty()), "{told:?}");
        runtime.block_on(async {
            let state = Sqlite::open(&home.path("data")).await.unwrap();
            let query = HistoryQuery { limit: 9, ..HistoryQuery::default() };
            let attempts = state.attempts(&query).await.unwrap();
            let [attempt] = attempts.as_slice() else { panic!("{told:?}: {attempts:?}") };
            let waits = state.queue(QueueState::Queued, 9).await.unwrap();
            if is_finished {
                assert_eq!((attempt.outcome.as_str(), waits.len()), ("complete", 0), "{attempt:?}");
            } else {
                assert_eq!((attempt.outcome.as_str(), waits.len()), ("interrupted", 1));
                // It is due now, and this attempt does not count against its retries.
                assert!(waits[0].attempts == 0 && waits[0].due <= Clock::Machine.now(None));
            }
        });
    }
}

// Calls of the Invoke API.

fn a_call_is_an_attempt_like_others() {
    let upstream = Upstream::start(2);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let timetable = crate::commands::timetable(&home, "");
    let (_server, address, _lines) = serve(&home, &timetable);
    let (status, body) = post(&address, INVOKE, "", "{}");
    assert_eq!(status, 200, "{body}");
    let run_id = serde_json::from_str::<serde_json::Value>(&body).unwrap()["run_id"].clone();
    let attempts = |id: &str| home.run(&["runs", id, "--json"]).json()["attempts"].clone();
    let noted = attempts(run_id.as_str().unwrap());
    assert_eq!((&noted[0]["outcome"], &noted[0]["attempt"]), (&json!("complete"), &json!(1)));
    assert!(noted[0]["peak_kb"].as_u64().unwrap() > 1_000, "{noted}");
    assert!(noted[0]["ended"].is_string() && noted.as_array().unwrap().len() == 1, "{noted}");
    let logged = home.run(&["logs", run_id.as_str().unwrap()]).ends_with(0).out.clone();
    assert!(logged.contains("START RequestId") && logged.contains("REPORT RequestId"), "{logged}");

    // One that fails, and one whose caller hangs up.
    upstream.status("a", "500 Internal Server Error", "");
    assert_eq!(post(&address, INVOKE, "", "{}").0, 500);
    let newest = || home.run(&["runs", "--json"]).json()[0].clone();
    let failed = attempts(newest()["run_id"].as_str().unwrap());
    assert_eq!(failed[0]["outcome"], "failed", "{failed}");
    assert!(failed[0]["error"].as_str().unwrap().contains("500"), "{failed}");

    upstream.slow("a", Duration::from_secs(2), numbered(0, 2));
    let asked = upstream.asked("a");
    let caller = std::net::TcpStream::connect(&address).unwrap();
    let request =
        format!("POST {INVOKE} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\n\r\n{{}}");
    std::io::Write::write_all(&mut &caller, request.as_bytes()).unwrap();
    assert!(eventually_within(Duration::from_secs(20), || upstream.asked("a") > asked));
    drop(caller);
    let is_noted = || attempts(newest()["run_id"].as_str().unwrap())[0]["outcome"] == "complete";
    assert!(eventually_within(Duration::from_secs(20), is_noted));
}

// Functions that were built apart.

fn functions_of_a_folder_are_started_again() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 2)))]);
    let folder = home.path("built");
    std::fs::create_dir(&folder).unwrap();
    let all = schedule::Timetable::parse(include_str!("../../infra/schedule.toml")).unwrap();
    for row in all.rows() {
        build(
            &folder,
            &row.name,
            &format!("{} function {}", env!("CARGO_BIN_EXE_runner"), row.name),
        );
    }
    let timetable = crate::commands::timetable(&home, "");
    let built = folder.to_str().unwrap();
    let mut server =
        home.spawn(&["serve", "--port", "0", "--timetable", &timetable, "--functions", built]);
    let mut lines = server.errors();
    let line = lines.find(|line| line.contains("http://")).unwrap();
    let (_, rest) = line.split_once("http://").unwrap();
    let address = rest.split([':', '`', ' ']).take(2).collect::<Vec<_>>().join(":");
    thread::spawn(move || lines.for_each(drop));

    let stored = post(&address, INVOKE, "", "{}");
    assert!(stored.0 == 200 && stored.1.contains("\"complete\""), "{stored:?}");
    // While its file is away, the process that runs it goes on.
    std::fs::remove_file(folder.join(ALL)).unwrap();
    assert_eq!(post(&address, INVOKE, "", "{}").0, 200);
    build(&folder, ALL, env!("CARGO_BIN_EXE_echo"));
    let (status, echoed) = post(&address, INVOKE, "", "{\"built\":\"anew\"}");
    assert_eq!((status, echoed.as_str()), (200, "{\"built\":\"anew\"}"), "the new build answers");
}

/// A function's program, as a file of its own.
fn build(folder: &std::path::Path, task: &str, command: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, made) = (folder.join(task), folder.join("being-built"));
    std::fs::write(&made, format!("#!/bin/sh\nexec {command}\n")).unwrap();
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(made, path).unwrap();
}
