//! The enrichment as a whole against a stand-in of a model: every entry is asked once, and nothing wrong costs more than itself.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use base::report::{Report, Status};
use malpedia::FAMILY;
use malpedia::reference::INDEX;
use serde_json::{Value, json};
use stores::documents::Index;
use task::testing::{TestHome, Upstream};
use tests::library;
use tokio::net::TcpListener;

use crate::documents::block_on;
use crate::malpedia::{BIB, REFERENCES, run};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("every_entry_is_asked_once", every_entry_is_asked_once),
    ("without_a_model_it_says_what_to_set", without_a_model_it_says_what_to_set),
    (
        "what_fails_three_times_rests_and_costs_no_other",
        what_fails_three_times_rests_and_costs_no_other,
    ),
    (
        "the_day_s_limit_is_never_passed_and_the_next_day_goes_on",
        the_day_s_limit_is_never_passed_and_the_next_day_goes_on,
    ),
    (
        "a_run_that_is_cut_goes_on_and_asks_nothing_twice",
        a_run_that_is_cut_goes_on_and_asks_nothing_twice,
    ),
];

const TASK: &str = "enrich_malpedia_library";

/// What the stand-in was asked, and how it answers.
#[derive(Default)]
struct Standin {
    /// The data of each request.
    asked: Vec<String>,
    /// An entry that holds this gets no JSON.
    breaks_on: Option<&'static str>,
    pause: Duration,
    at_once: usize,
    most_at_once: usize,
}

type Shared = Arc<Mutex<Standin>>;

async fn answer(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    let messages = body["messages"].to_string();
    let (is_broken, pause) = {
        let mut standin = shared.lock().unwrap();
        standin.asked.push(messages.clone());
        standin.at_once += 1;
        standin.most_at_once = standin.most_at_once.max(standin.at_once);
        (standin.breaks_on.is_some_and(|mark| messages.contains(mark)), standin.pause)
    };
    tokio::time::timeout(pause, std::future::pending::<()>()).await.ok();
    shared.lock().unwrap().at_once -= 1;
    let answer = json!({"summary": "A stand-in wrote this.", "actors_mentioned": ["Made Up Bear"],
        "families_mentioned": ["Nobody's Stealer"]});
    let content = if is_broken { "I would rather not.".to_owned() } else { answer.to_string() };
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 20});
    let choice = json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}});
    (StatusCode::OK, Json(json!({"choices": [choice], "usage": usage}))).into_response()
}

/// A library of so many references, and a model beside it.
struct World {
    home: TestHome,
    standin: Shared,
    references: u64,
    _upstream: Upstream,
}

impl World {
    async fn of(entries: usize, more: &[(&str, &str)]) -> Self {
        let made = library::generate(entries);
        let upstream = Upstream::start().await;
        upstream.put(BIB, made.text.into_bytes());
        upstream.put(REFERENCES, "{}");
        upstream.put("/api/get/version", r#"{"version": 1, "date": "2026-03-01"}"#);
        let standin = Shared::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&standin));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut settings = vec![
            ("MALPEDIA_URL".to_owned(), upstream.origin().to_owned()),
            ("LLM_PROVIDER".to_owned(), "compatible".to_owned()),
            ("LLM_URL".to_owned(), url),
            ("LLM_MODEL".to_owned(), "stand-in".to_owned()),
            ("MINERVA_CLOCK".to_owned(), "2026-03-01T12:00:00Z".to_owned()),
        ];
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let folder = tempfile::tempdir().unwrap();
        let home = TestHome::open(folder, &settings, &[FAMILY.settings]).await.unwrap();
        let filled = run(&home, "sync_malpedia_library_bibtex").await;
        assert_eq!(filled.status, Status::Complete, "{filled:?}");
        Self { home, standin, references: made.references, _upstream: upstream }
    }

    async fn enrich(&self) -> Report {
        run(&self.home, TASK).await
    }

    /// The requests since the last question.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.standin.lock().unwrap().asked)
    }

    /// How many entries have a summary.
    async fn enriched(&self) -> usize {
        let documents = self.home.documents(Index::named(INDEX).unwrap()).await.unwrap();
        documents
            .iter()
            .filter(|one| {
                one.body
                    .get("enriched_summary")
                    .is_some_and(|text| text == "A stand-in wrote this.")
            })
            .count()
    }
}

fn every_entry_is_asked_once() {
    block_on(async {
        let world = World::of(60, &[("LLM_CONCURRENCY", "3")]).await;
        world.standin.lock().unwrap().pause = Duration::from_millis(10);
        let report = world.enrich().await;
        assert_eq!(
            (report.status, report.counts.changed),
            (Status::Complete, world.references),
            "{report:?}"
        );
        let mut asked = world.asked();
        assert_eq!(asked.len() as u64, world.references);
        asked.sort_unstable();
        asked.dedup();
        assert!(asked.len() > 1);
        assert!(world.standin.lock().unwrap().most_at_once <= 3);
        assert_eq!(world.enriched().await as u64, world.references);
        let documents = world.home.documents(Index::named(INDEX).unwrap()).await.unwrap();
        // What the model invents is nowhere.
        assert!(
            documents
                .iter()
                .all(|one| !one.body["actors_mentioned"].to_string().contains("Made Up"))
        );
        let again = world.enrich().await;
        assert_eq!(
            (again.status, again.counts.unchanged),
            (Status::Complete, world.references),
            "{again:?}"
        );
        assert_eq!((again.writes(), world.asked().len()), (0, 0));
        // A sync takes nothing of it away.
        run(&world.home, "sync_malpedia_library_bibtex").await;
        assert_eq!(world.enriched().await as u64, world.references);
        let told = run(&world.home, "check_malpedia_status").await.detail;
        let told = &told["enrichment"];
        assert_eq!(
            (&told["enriched"], &told["left"]),
            (&json!(world.references), &json!(0)),
            "{told}"
        );
    });
}

fn without_a_model_it_says_what_to_set() {
    block_on(async {
        let home = crate::malpedia::home("http://127.0.0.1:9", &[]).await;
        let report = run(&home, TASK).await;
        assert_eq!(report.status, Status::Skipped, "{report:?}");
        assert!(
            report.reason.as_deref().is_some_and(|reason| reason.contains("LLM_PROVIDER")),
            "{report:?}"
        );
    });
}

fn what_fails_three_times_rests_and_costs_no_other() {
    block_on(async {
        let world = World::of(30, &[]).await;
        world.standin.lock().unwrap().breaks_on = Some("Jester");
        let mut broken = 0;
        for night in 1..=5_u32 {
            let report = world.enrich().await;
            let asked = world.asked().iter().filter(|data| data.contains("Jester")).count();
            match night {
                1 => {
                    broken = report.counts.rejected;
                    assert!(broken > 0 && broken < world.references, "{report:?}");
                    assert_eq!(report.counts.changed, world.references - broken, "{report:?}");
                }
                2 | 3 => assert_eq!(
                    (asked as u64, report.counts.rejected),
                    (broken, broken),
                    "{report:?}"
                ),
                _ => assert_eq!((asked, report.counts.filtered), (0, broken), "{report:?}"),
            }
        }
        assert_eq!(world.enriched().await as u64, world.references - broken);
    });
}

fn the_day_s_limit_is_never_passed_and_the_next_day_goes_on() {
    block_on(async {
        let world = World::of(30, &[("LLM_DAILY_LIMIT", "10")]).await;
        world.enrich().await;
        world.enrich().await;
        assert_eq!((world.asked().len(), world.enriched().await), (10, 10));
    });
}

fn a_run_that_is_cut_goes_on_and_asks_nothing_twice() {
    block_on(async {
        let world = World::of(60, &[("LLM_CONCURRENCY", "2")]).await;
        world.standin.lock().unwrap().pause = Duration::from_millis(300);
        let task = crate::malpedia::task(TASK);
        let cut = world.home.run_within(task, Value::Null, Duration::from_secs(3)).await;
        let before = world.enriched().await;
        assert!(before > 0 && (before as u64) < world.references, "{before} {cut:?}");
        world.standin.lock().unwrap().pause = Duration::ZERO;
        world.enrich().await;
        assert_eq!(world.enriched().await as u64, world.references);
        // No more than those on their way when it was cut.
        let asked = world.asked().len() as u64;
        assert!(asked <= world.references + 2, "{asked}");
    });
}
