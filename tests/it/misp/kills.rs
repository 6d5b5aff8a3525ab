//! Runs of MISP's feeds, killed at any moment.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::home::{Home, Upstream};
use crate::kills::{Subject, kill_often};

pub(crate) const TRIALS: &[crate::Case] =
    &[("a_kill_at_any_moment_loses_no_indicator", a_kill_at_any_moment_loses_no_indicator)];

fn a_kill_at_any_moment_loses_no_indicator() {
    kill_often::<Feeds>();
}

/// Events of the first edition; in the second the first of them is gone, the next ones changed, and two are new.
const EVENTS: usize = 8;
const ATTRIBUTES: usize = 5;
/// Lines of each list, several batches of them; in the second edition the first ones left, and as many came.
const LINES: usize = 700;
const MOVED: usize = 20;

/// An event, whose last attribute is another one in the second edition if it is one of those that change.
fn event(number: usize, edition: usize) -> (String, Value, Value) {
    let uuid = format!("00000000-0000-4000-8000-{number:012x}");
    let changed = edition == 1 && number == 2;
    let value = |place: usize| match changed && place + 1 == ATTRIBUTES {
        true => format!("later-{number}.evil.com"),
        false => format!("h{number}-{place}.evil.com"),
    };
    let attribute = |place: usize| {
        json!({"uuid": format!("{uuid}-{place}"), "type": "domain", "value": value(place), "to_ids": true,
            "category": "Network activity", "timestamp": "1735689600",
            "comment": if changed { "edited" } else { "" }})
    };
    let timestamp = 100 + number + if changed { 1_000 } else { 0 };
    let attributes: Vec<Value> = (0..ATTRIBUTES).map(attribute).collect();
    let event = json!({"Event": {"uuid": uuid, "info": "X", "date": "2025-01-01",
        "timestamp": timestamp.to_string(), "Attribute": attributes}});
    (uuid, json!({ "timestamp": timestamp }), event)
}

/// Events, a list whose server names versions, and one whose server does not.
struct Feeds {
    upstream: Upstream,
}

impl Feeds {
    fn sources(&self, edition: usize) -> [(&'static str, String); 3] {
        let upstream = &self.upstream;
        let mut manifest = Map::new();
        for number in edition..EVENTS + 2 * edition {
            let (uuid, entry, event) = event(number, edition);
            let wait = Duration::from_millis(number as u64 % 4 * 5);
            upstream.slow(&format!("events/{uuid}.json"), wait, event.to_string());
            manifest.insert(uuid, entry);
        }
        // All files of a feed are at the host of its manifest: any of them serves all paths.
        let manifest = upstream.body("events/manifest.json", Value::Object(manifest).to_string());
        let list = |name: &str| {
            let first = edition * MOVED;
            (first..first + LINES).fold(String::new(), |mut list, line| {
                let _ = writeln!(list, "{name}-{line}.evil.net");
                list
            })
        };
        let tagged = upstream.tagged("tagged", ["one", "two"][edition], list("tagged"));
        let untagged = upstream.body("untagged", list("untagged"));
        [("events", manifest), ("tagged", tagged), ("untagged", untagged)]
    }
}

impl Subject for Feeds {
    const TASK: &'static str = "sync_all_misp_feeds";
    const INDICES: &'static [&'static str] = &["cti_misp_iocs"];

    fn start() -> Self {
        Self { upstream: Upstream::start(8) }
    }

    fn serve(&self, edition: usize) {
        self.sources(edition);
    }

    fn home(&self) -> Home {
        let home = Home::of(&[]);
        let feeds = self.sources(0).iter().fold(String::new(), |mut text, (id, url)| {
            let format = if *id == "events" { "misp" } else { "freetext" };
            let _ = write!(
                text,
                "[[feed]]\nid = {id:?}\nname = {id:?}\nurl = {url:?}\nformat = {format:?}\n\n"
            );
            text
        });
        let list = home.path("feeds.toml");
        std::fs::write(&list, feeds).unwrap();
        // One list, as reading those compiled in takes longer than the run.
        let warninglist = home.path("warninglists/hosts");
        std::fs::create_dir_all(&warninglist).unwrap();
        let hosts = json!({"name": "Hosts", "version": 1, "type": "hostname", "list": ["tagged-30.evil.net"],
            "matching_attributes": ["domain", "hostname"]});
        std::fs::write(warninglist.join("list.json"), hosts.to_string()).unwrap();
        let warninglists = home.path("warninglists").to_str().unwrap().to_owned();
        home.with("MISP_FEEDS", list.to_str().unwrap()).with("WARNINGLISTS", warninglists)
    }

    fn check(&self, stored: &[String; 2]) {
        let counts = stored.each_ref().map(|documents| documents.lines().count());
        let first = EVENTS * ATTRIBUTES + 2 * LINES;
        assert_eq!(counts, [first, (EVENTS + 2) * ATTRIBUTES + 1 + 2 * (LINES + MOVED)]);
    }
}
