//! PostgreSQL restarted under a run: the run is complete or is run again, its slot is concluded once, and nothing stays held.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::services::postgres::Server;

use super::{Schema, complete, home, run_of, slot};
use crate::home::{ALL, Home, Upstream, eventually_within, numbered, respond};

/// Sources beside the one that waits.
const SOURCES: usize = 5;

/// Longer than a hold lasts that nobody prolongs.
const EXPIRY: Duration = Duration::from_secs(45);

/// How long a run may take until it stands at the gate.
const BUSY: Duration = Duration::from_secs(60);

const SLOT: &str = "2026-03-01T12:00:00Z";

/// Where a source waits with its answer until it is let go.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.opened.wait(is_open).unwrap();
        }
    }
}

/// Sources of which one waits at a gate, and what they are without disturbance.
struct Scene {
    upstream: Upstream,
    gate: Arc<Gate>,
    sources: Vec<(String, String)>,
    expected: Vec<Value>,
}

impl Scene {
    fn new() -> Self {
        let upstream = Upstream::start(SOURCES);
        let gate = Arc::new(Gate::default());
        let waits = Arc::clone(&gate);
        let gated = upstream.serve("gated", move |_, stream| {
            waits.wait();
            respond(stream, "200 OK", "etag: \"one\"\r\n", &numbered(9, 20));
        });
        let mut sources = vec![("gated".to_owned(), gated)];
        for number in 0..SOURCES {
            let id = format!("source-{number}");
            let url = upstream.tagged(&id, "one", numbered(number, 20));
            sources.push((id, url));
        }
        let undisturbed = home(&sources);
        gate.set(true);
        complete(&undisturbed.report(&[ALL]));
        let expected = undisturbed.articles();
        Self { upstream, gate, sources, expected }
    }

    /// A run that stands at the gate, and then what happens to the server; its report.
    fn disturbed(&self, home: &Home, disturb: impl FnOnce()) -> Value {
        self.gate.set(false);
        let asked = self.upstream.asked("gated");
        let running = home.spawn(&run_of(ALL, &["--input", &slot(SLOT)]));
        let stands = || self.upstream.asked("gated") > asked;
        assert!(eventually_within(BUSY, stands), "it never asked");
        disturb();
        running.end().json()
    }

    /// Runs the slot until it is done: its holds must not outlast their expiry.
    fn conclude(&self, home: &Home, report: Value) {
        let mut report = report;
        let is_done = || {
            if report["status"] != "complete" {
                report = home.run(&run_of(ALL, &["--input", &slot(SLOT)])).json();
            }
            report["status"] == "complete"
        };
        assert!(eventually_within(EXPIRY, is_done), "{report}");
    }

    fn check(&self, home: &Home, schema: &Schema) {
        assert!(home.articles() == self.expected, "the stores differ");
        assert_eq!(schema.number("SELECT count(*) FROM runs"), 1);
        assert_eq!(schema.number("SELECT count(*) FROM runs WHERE status = 'complete'"), 1);
        let again = home.run(&run_of(ALL, &["--input", &slot(SLOT)])).ends_with(0).json();
        assert_eq!(again["status"], "skipped", "the slot ran twice: {again}");
        assert_eq!(schema.number("SELECT count(*) FROM sources"), 6);
        let sources = schema
            .number("SELECT count(*) FROM sources WHERE state::jsonb -> 'validators' <> '{}'");
        assert_eq!(sources, 6);
        let nothing_is_held =
            || schema.number("SELECT count(*) FROM holds WHERE expires > clock_timestamp()") == 0;
        assert!(eventually_within(EXPIRY, nothing_is_held), "something is held for ever");
        let report = home.report(&[ALL]);
        assert_eq!(complete(&report)[1..], [0, 0, 0], "{report}");
    }
}

/// Ended as `pg_ctl` does it fast and immediately, and as a crash does; the run goes on while the server is down.
pub(super) fn short() {
    let scene = Scene::new();
    let server = Server::start().unwrap();
    for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
        let schema = Schema::on(server.url());
        let home = home(&scene.sources).with("DATABASE_URL", schema.url());
        let report = scene.disturbed(&home, || {
            server.stop(signal);
            scene.gate.set(true);
            start(&server);
        });
        scene.conclude(&home, report);
        scene.check(&home, &schema);
    }
}

/// Down until the run has given up: the next try at its slot makes everything what it should be.
pub(super) fn long() {
    let scene = Scene::new();
    let server = Server::start().unwrap();
    let schema = Schema::on(server.url());
    let home = home(&scene.sources).with("DATABASE_URL", schema.url());
    let report = scene.disturbed(&home, || {
        server.stop(Signal::INT);
        scene.gate.set(true);
    });
    assert_eq!(
        (&report["status"], &report["error"]["class"]),
        (&"failed".into(), &"store".into()),
        "{report}"
    );
    start(&server);
    scene.conclude(&home, report);
    assert_eq!(schema.number("SELECT attempt FROM runs"), 2);
    scene.check(&home, &schema);
}

/// Starts the server again; what a killed one left running ends by itself, and until then a new one refuses.
fn start(server: &Server) {
    let mut said = Ok(());
    let runs = || {
        said = server.run();
        said.is_ok()
    };
    assert!(eventually_within(EXPIRY, runs), "{said:?}");
}
