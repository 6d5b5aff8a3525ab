//! What only a server can suffer: many who start at once, cut connections, restarts, refusals.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::Class;
use base::address::Address;
use base::report::Status;
use local_runner::families::all_tasks;
use rustix::process::Signal;
use serde_json::Value;
use stores::state::{
    Claim, Ledger as _, Postgres, Queue, QueueState, SourceState, State, StateReader as _, Timing,
};
use tests::services::postgres::{PASSWORD, Server};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::interval;

use crate::contract::{Subject, stands_alone};
use crate::state::{Test, World, begin, by_name, due, eventually, failed, held, noon, report};

/// Tests that any server will do for.
pub(crate) const ANY_SERVER: &[(&str, Test)] = by_name![
    twenty_seven_start_at_once_and_migrate_once
    a_newer_schema_is_refused
    a_holder_that_is_cut_off_loses_its_holds
    a_hold_that_expired_and_nobody_took_goes_on
    a_died_holder_leaves_nothing_for_ever
    what_a_dead_process_held_is_free_when_its_runner_says_so
    who_takes_over_a_run_finds_its_sources_free
    the_doctor_knows_the_server
    every_task_works_with_nothing_but_the_setting_changed
];

/// Tests that need a server whose password and port are known, or that end it.
pub(crate) const OWN_SERVER: &[(&str, Test)] = by_name![
    what_is_wrong_is_said_without_the_password
    tls_is_used_as_far_as_it_is_asked_for
    a_crash_of_the_server_loses_nothing_that_was_acknowledged
];

/// Soon enough for a test, long enough for a busy machine.
const SOON: Timing =
    Timing { heartbeat: Duration::from_millis(150), expiry: Duration::from_millis(1500) };

async fn twenty_seven_start_at_once_and_migrate_once(world: Arc<World>) {
    let address = Address::parse(&world.url()).expect("an address");
    let starts = (0..27).map(|_| {
        let address = address.clone();
        tokio::spawn(async move { Postgres::open(&address).await.map(drop) })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.expect("no panic").unwrap_or_else(|error| panic!("{}", error.chain()));
    }
    assert_eq!(world.number("SELECT count(*) FROM minerva_schema").await, 1);
    assert_eq!(world.number("SELECT version FROM minerva_schema").await, 4);
}

async fn a_newer_schema_is_refused(world: Arc<World>) {
    drop(world.open().await);
    world.execute("UPDATE minerva_schema SET version = 1000").await;
    let address = Address::parse(&world.url()).expect("an address");
    let error = Postgres::open(&address).await.err().expect("it is refused");
    assert_eq!(error.class(), Class::Config);
    assert!(error.chain().contains("version 1000"), "{}", error.chain());
}

/// What lies between a holder and its server, and can be cut.
struct Wire {
    port: u16,
    is_cut: watch::Sender<bool>,
}

impl Wire {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut cut, server) = (cut.clone(), server.clone());
                tokio::spawn(async move {
                    if *cut.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { port, is_cut }
    }
}

/// The world's store through a wire.
async fn wired(world: &World, timing: Timing) -> (Wire, Postgres) {
    let mut url: url::Url = world.url().parse().expect("an address");
    let host = url.host_str().expect("a host").to_owned();
    let wire = Wire::to(format!("{host}:{}", url.port().unwrap_or(5432))).await;
    url.set_port(Some(wire.port)).expect("it takes a port");
    url.set_host(Some(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).ip().to_string()))
        .expect("it takes a host");
    let address = Address::parse(url.as_str()).expect("an address");
    (wire, Postgres::open_with(&address, timing).await.expect("it opens"))
}

async fn a_holder_that_is_cut_off_loses_its_holds(world: Arc<World>) {
    let (wire, former) = wired(&world, SOON).await;
    let other = world.postgres(SOON).await;
    let lease = former.lease("rss/a").await.expect("an answer").expect("it is free");
    let run = held(begin(&former, noon()).await);
    former.enqueue(&due("a")).await.expect("it is queued");
    let taken = former.take(noon()).await.expect("an answer").expect("it is due");

    // Longer than the expiry: what keeps the holds is the heartbeat.
    let began = Instant::now();
    let mut looks = interval(SOON.heartbeat);
    while began.elapsed() < SOON.expiry * 2 {
        looks.tick().await;
        assert!(other.lease("rss/a").await.expect("an answer").is_none(), "held by the other");
        assert_eq!(other.recover(noon()).await.expect("an answer"), 0);
    }

    wire.is_cut.send_replace(true);
    let cut = Instant::now();
    let later =
        eventually("the hold expires", async || other.lease("rss/a").await.expect("an answer"))
            .await;
    let waited = cut.elapsed();
    assert!(waited >= SOON.expiry - SOON.heartbeat * 2, "taken after {waited:?}");
    let successor = held(
        eventually("the run can be taken over", async || match begin(&other, noon()).await {
            claim @ Claim::Run(_) => Some(claim),
            Claim::Skip(_) => None,
        })
        .await,
    );
    assert_eq!((successor.attempt, successor.fence), (2, 2));
    eventually("the invocation is put back", async || {
        Some(other.recover(noon()).await.expect("an answer")).filter(|count| *count == 1)
    })
    .await;
    let again = other.take(noon()).await.expect("an answer").expect("it was put back");

    // The wire works again; everything that the former holder writes is refused.
    wire.is_cut.send_replace(false);
    let stale = SourceState { failures: 7, ..SourceState::default() };
    let refused = |result: base::Result<()>| {
        let error = result.expect_err("it was succeeded");
        assert!(error.to_string().contains("taken it over"), "{}", error.chain());
    };
    refused(former.save_source(&lease, &stale).await);
    refused(former.note_items(&lease, &[failed("1", "late")], true, noon()).await);
    refused(former.finish(run, &report(Status::Failed), noon()).await);
    refused(former.settle(taken, QueueState::Dead, None, None).await);

    // Letting go of what it had lost takes nothing from its successor.
    drop(lease);
    former.enqueue(&due("b")).await.expect("it is queued");
    let third = world.postgres(SOON).await;
    assert!(third.lease("rss/a").await.expect("an answer").is_none());
    let news = SourceState { failures: 1, ..SourceState::default() };
    other.save_source(&later, &news).await.expect("it is stored");
    other.finish(successor, &report(Status::Complete), noon()).await.expect("it is finished");
    other.settle(again, QueueState::Done, None, None).await.expect("it is settled");
    assert_eq!(former.source("rss/a").await.expect("a state"), news);
    assert_eq!(former.runs(None, 9).await.expect("runs")[0].status, "complete");
}

async fn a_hold_that_expired_and_nobody_took_goes_on(world: Arc<World>) {
    let state = world.postgres(SOON).await;
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    world.execute("UPDATE holds SET expires = clock_timestamp() - interval '1 hour'").await;
    let news = SourceState { failures: 1, ..SourceState::default() };
    state.save_source(&lease, &news).await.expect("nobody else has it");
    eventually("the heartbeat prolongs it", async || {
        let live = "SELECT count(*) FROM holds WHERE expires > clock_timestamp()";
        (world.number(live).await == 1).then_some(())
    })
    .await;
}

async fn a_died_holder_leaves_nothing_for_ever(world: Arc<World>) {
    let state = world.open().await;
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");
    world.execute("UPDATE holds SET expires = clock_timestamp() - interval '2 days'").await;
    std::mem::forget(lease);
    drop(world.open().await);
    assert_eq!(world.number("SELECT count(*) FROM holds").await, 0);
}

/// `local-runner doctor` with this address.
fn doctor(database_url: &str) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new(env!("CARGO_BIN_EXE_runner"))
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--json", "doctor"])
        .current_dir(folder.path())
        .env("DATABASE_URL", database_url)
        .output()
        .expect("it starts")
}

/// What the doctor says of the state; of all settings, when they cannot be read.
fn diagnosis(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let checks: Vec<Value> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let of = |name: &str| checks.iter().find(|check| check["name"] == name).cloned();
    of("state").or_else(|| of("settings")).expect("the check is there")
}

async fn what_a_dead_process_held_is_free_when_its_runner_says_so(world: Arc<World>) {
    let address = Address::parse(&world.url()).expect("an address");
    let open = async |log| Postgres::open_as(&address, Some(log)).await.expect("it opens");
    let (dead, alive, runner) = (open("1a").await, open("21a").await, world.open().await);
    let run = held(begin(&dead, noon()).await);
    let lease = dead.lease("rss/a").await.expect("an answer").expect("it is free");
    let of_another = alive.lease("rss/b").await.expect("an answer").expect("it is free");
    runner.release_dead("1a").await.expect("an answer");
    let again = held(begin(&*runner, noon()).await);
    assert_eq!(again.attempt, 2);
    assert!(runner.lease("rss/a").await.expect("an answer").is_some());
    assert!(runner.lease("rss/b").await.expect("an answer").is_none(), "another's");
    // Whatever it may still have had on the way is refused.
    assert!(dead.save_source(&lease, &SourceState::default()).await.is_err());
    assert!(dead.finish(run, &report(Status::Complete), noon()).await.is_err());
    alive.save_source(&of_another, &SourceState::default()).await.expect("it is stored");
}

async fn who_takes_over_a_run_finds_its_sources_free(world: Arc<World>) {
    let (dead, other) = (world.open().await, world.open().await);
    let _run = held(begin(&*dead, noon()).await);
    let _lease = dead.lease("rss/a").await.expect("an answer").expect("it is free");
    assert!(other.lease("rss/a").await.expect("an answer").is_none());
    // It was taken a moment after the run was.
    world.execute("UPDATE holds SET expires = '-infinity' WHERE name LIKE 'run/%'").await;
    let _again = held(begin(&*other, noon()).await);
    assert!(other.lease("rss/a").await.expect("an answer").is_some());
}

async fn the_doctor_knows_the_server(world: Arc<World>) {
    // It makes nothing: the tables come with the first that opens the state for writing.
    let said = diagnosis(&doctor(&world.url()));
    assert_eq!(said["ok"], true, "{said}");
    assert!(said["says"].as_str().unwrap_or_default().contains("nothing is there yet"), "{said}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    assert_eq!(world.number(tables).await, 0);
    drop(world.postgres(SOON).await);
    let output = doctor(&world.url());
    let said = diagnosis(&output);
    let says = said["says"].as_str().unwrap_or_default();
    assert_eq!(said["ok"], true, "{said}");
    assert!(says.starts_with("PostgreSQL 1") && says.contains("` version 4;"), "{says}");
    let about = world.postgres(SOON).await.about().await.expect("an answer");
    assert!(about.ahead.abs() < jiff::SignedDuration::from_secs(1), "{:?}", about.ahead);
}

async fn every_task_works_with_nothing_but_the_setting_changed(world: Arc<World>) {
    let alone = all_tasks().filter(|(_, task)| stands_alone(task));
    for (number, (_, task)) in (1..).zip(alone) {
        let subject = Subject::with(task, &[("DATABASE_URL".to_owned(), world.url())]).await;
        let first = subject.run().await;
        assert_eq!(first.status, Status::Complete, "{}: {first:?}", task.name);
        let stored = subject.everything().await;
        let second = subject.run().await;
        assert_eq!(second.counts.new + second.counts.changed, 0, "{}: {second:?}", task.name);
        assert_eq!(subject.everything().await, stored, "{}: the second run wrote", task.name);
        // What the task keeps is on the server, and nothing stays held.
        assert_eq!(
            world.number("SELECT count(*) FROM runs WHERE status = 'complete'").await,
            number * 2
        );
        eventually("every hold is released", async || {
            (world.number("SELECT count(*) FROM holds").await == 0).then_some(())
        })
        .await;
        assert!(!subject.home.path().join("data/state.db").exists(), "there is a file as well");
        // The next task's sources are its own, under the same names.
        world.execute("TRUNCATE sources").await;
    }
}

async fn what_is_wrong_is_said_without_the_password(world: Arc<World>) {
    let right = world.url();
    let url: url::Url = right.parse().expect("an address");
    let changed = |change: &dyn Fn(&mut url::Url)| {
        let mut url = url.clone();
        change(&mut url);
        url.to_string()
    };
    let wrong_password = changed(&|url| url.set_password(Some("hunter2")).expect("it takes one"));
    let no_database = changed(&|url| url.set_path("/nowhere"));
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let free_port = free.local_addr().expect("it is bound").port();
    drop(free);
    let refused = changed(&|url| url.set_port(Some(free_port)).expect("it takes one"));
    let no_schema = changed(&|url| url.set_query(Some("options=-csearch_path%3Dnowhere")));
    let cases = [
        (wrong_password, Class::Config, "password authentication failed", "user and password"),
        (no_database, Class::Config, "`postgres://minerva@", "createdb"),
        (refused, Class::Store, "refused", "start PostgreSQL"),
        (format!("{right}&sslmode=require"), Class::Config, "TLS", "sslmode"),
        (no_schema, Class::Config, "schema", "CREATE SCHEMA"),
        (format!("{right}&sslmode=perhaps"), Class::Config, "perhaps", "help settings"),
    ];
    let secrets = [PASSWORD.to_owned(), PASSWORD.replace('/', "%2F"), "hunter2".to_owned()];
    for (address, class, says, hint) in cases {
        let output = doctor(&address);
        let said = diagnosis(&output);
        assert_eq!(said["ok"], false, "{said}");
        assert!(said["says"].as_str().unwrap_or_default().contains(says), "{said}");
        assert!(said["hint"].as_str().unwrap_or_default().contains(hint), "{said}");
        let expected = if class == Class::Store { 3 } else { 2 };
        assert_eq!(output.status.code(), Some(expected), "{said}");
        let all = [output.stdout, output.stderr].concat();
        let all = String::from_utf8_lossy(&all);
        assert!(!secrets.iter().any(|secret| all.contains(secret.as_str())), "{all}");
    }
}

async fn tls_is_used_as_far_as_it_is_asked_for(_: Arc<World>) {
    let server = tokio::task::spawn_blocking(Server::start_with_tls).await.expect("no panic");
    let server = server.expect("it starts");
    let own = server.certificate().expect("it has one").display().to_string();
    let open = async |options: &str| {
        let address = Address::parse(&format!("{}?{options}", server.url())).expect("an address");
        Postgres::open(&address).await
    };
    for trusting in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        "ssl=true".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={own}"),
        format!("sslmode=verify-full&sslrootcert={own}"),
    ] {
        let state =
            open(&trusting).await.unwrap_or_else(|error| panic!("{trusting}: {}", error.chain()));
        assert!(state.about().await.expect("an answer").is_encrypted, "{trusting}");
    }
    let plain = open("sslmode=disable").await.expect("it opens");
    assert!(!plain.about().await.expect("an answer").is_encrypted);
    let error = open("sslmode=verify-full").await.err().expect("nobody knows its certificate");
    assert_eq!(error.class(), Class::Config, "{}", error.chain());
    assert!(error.hint_text().unwrap_or_default().contains("sslrootcert"), "{}", error.chain());
    server.stop(Signal::QUIT);
}

async fn a_crash_of_the_server_loses_nothing_that_was_acknowledged(_: Arc<World>) {
    // A server of its own, as it is ended while the other tests use theirs.
    let server = tokio::task::spawn_blocking(Server::start).await.expect("no panic");
    let server = Arc::new(server.expect("it starts"));
    let address = Address::parse(&server.url()).expect("an address");
    let state = Arc::new(Postgres::open_with(&address, SOON).await.expect("it opens"));
    state.enqueue(&due("before")).await.expect("it is queued");
    let taken = state.take(noon()).await.expect("an answer").expect("it is due");
    let run = held(begin(&*state, noon()).await);
    let lease = state.lease("rss/a").await.expect("an answer").expect("it is free");

    // Writes all the while, and keeps count of what was acknowledged.
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (state, is_over) = (Arc::clone(&state), Arc::clone(&is_over));
        async move {
            let (mut acknowledged, mut failed) = (Vec::new(), 0);
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("r{number}");
                match state.enqueue(&due(&id)).await {
                    Ok(()) => acknowledged.push(id),
                    Err(error) => {
                        assert_eq!(error.class(), Class::Store);
                        failed += 1;
                    }
                }
            }
            (acknowledged, failed)
        }
    });
    let mut looks = interval(Duration::from_millis(300));
    looks.tick().await;
    looks.tick().await;
    let restarted = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || {
            server.stop(Signal::QUIT);
            server.run()
        }
    });
    restarted.await.expect("no panic").expect("it starts again");
    looks.tick().await;
    looks.tick().await;
    looks.tick().await;
    is_over.store(true, Ordering::Relaxed);
    let (acknowledged, failed) = writer.await.expect("no panic");

    // The run ends as if nothing had happened: its holds are rows, and they were there after the crash.
    let news = SourceState { failures: 1, ..SourceState::default() };
    state.save_source(&lease, &news).await.expect("it is stored");
    state.finish(run, &report(Status::Complete), noon()).await.expect("it is finished");
    state.settle(taken, QueueState::Done, None, None).await.expect("it is settled");
    assert_eq!(state.runs(None, 9).await.expect("runs")[0].status, "complete");
    let queued = state.queue(QueueState::Queued, u32::MAX >> 1).await.expect("the queue");
    let queued: std::collections::BTreeSet<String> =
        queued.into_iter().map(|entry| entry.request_id).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !queued.contains(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged, {failed} failed, lost: {lost:?}",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 10);
    server.stop(Signal::QUIT);
}
