//! What trials and benchmarks of the MISP family share: a large event, and a sync in a process of its own, whose memory is
//! measured.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A run in a process of its own, in a folder with a list of one feed.
pub struct Run<'a> {
    /// The program `example`, which only tests and benchmarks can name.
    pub program: &'a str,
    pub folder: &'a Path,
    pub settings: &'a [(&'static str, String)],
}

impl Run<'_> {
    fn start(&self, event: &Value, request: &str) -> Child {
        Command::new(self.program)
            .args(["sync_all_misp_feeds", "870000", &event.to_string(), request])
            .env_clear()
            .env("MINERVA_DATA_DIR", self.folder)
            .env("MINERVA_ALLOW_NETS", "127.0.0.1")
            .env("MISP_FEEDS", self.folder.join("feeds.toml"))
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    }

    /// A run with its continuations: the report of each step, and the most memory that any process held.
    ///
    /// # Panics
    /// When one prints no report.
    pub fn to_its_end(&self, name: &str) -> (Vec<Value>, Memory) {
        self.killed_when(name, || false)
    }

    /// As [`Run::to_its_end`], but the process of a step is killed where `is_time` says so, and another gets the same event, as
    /// Lambda and the runner do with an event whose run died.
    ///
    /// # Panics
    /// When a process that was not killed prints no report.
    pub fn killed_when(
        &self,
        name: &str,
        mut is_time: impl FnMut() -> bool,
    ) -> (Vec<Value>, Memory) {
        let (mut event, mut reports, mut kills) = (json!({}), Vec::new(), 0);
        let mut most = Memory::default();
        loop {
            let mut child = self.start(&event, &format!("{name}-{}-{kills}", reports.len()));
            let (memory, is_killed) = watch(&mut child, &mut is_time);
            most = most.max(memory);
            if is_killed {
                kills += 1;
                continue;
            }
            let output = child.wait_with_output().expect("it is ours");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let printed: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
                .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
            reports.push(printed["report"].clone());
            let Some(sent) = printed["continuations"].as_array().and_then(|sent| sent.last())
            else {
                return (reports, most);
            };
            event = json!({"source": "minerva", "detail-type": "Minerva Task Continuation", "detail": sent});
        }
    }
}

/// The most memory that a process held, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Beside the pages of its executable. Of those a debug build has some 30 MiB, more or fewer as the kernel reads ahead.
    pub own: u64,
    pub whole: u64,
}

/// The most memory that a process held until it ended, and whether that was because it was killed.
fn watch(child: &mut Child, is_time: &mut impl FnMut() -> bool) -> (Memory, bool) {
    let mut most = Memory::default();
    while child.try_wait().expect("it is ours").is_none() {
        let own = status_of(child.id(), "RssAnon:").unwrap_or(0);
        most = most.max(Memory { own, whole: peak_kb(child.id()).unwrap_or(0) });
        if is_time() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            return (most, true);
        }
        thread::sleep(Duration::from_millis(10));
    }
    (most, false)
}

impl Memory {
    fn max(self, other: Self) -> Self {
        Self { own: self.own.max(other.own), whole: self.whole.max(other.whole) }
    }
}

/// The most memory that a process has held so far, in KiB.
pub fn peak_kb(pid: u32) -> Option<u64> {
    status_of(pid, "VmHWM:")
}

/// A number of a process's status, by the name that the kernel gives it, with its colon; nothing where the process has ended.
pub fn status_of(pid: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    line.split_whitespace().next()?.parse().ok()
}

/// An event as a large public one: hashes, names of files, hosts, addresses and links, some of objects, with tags of their own.
pub fn large_event(uuid: &str, attributes: u64) -> String {
    let attribute = |number: u64| {
        let hash =
            |length: usize| format!("{:0>length$x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15);
        let (kind, category, value) = match number % 6 {
            0 => ("sha256", "Payload delivery", hash(64)),
            1 => ("md5", "Payload delivery", hash(32)),
            2 => ("domain", "Network activity", format!("host-{number}.evil.com")),
            3 => (
                "ip-dst",
                "Network activity",
                format!("203.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255),
            ),
            4 => (
                "url",
                "Network activity",
                format!("http://evil-{number}.com/gate.php?id={}", hash(40)),
            ),
            _ => (
                "filename|sha1",
                "Payload installation",
                format!("dropper-{number}.exe|{}", hash(40)),
            ),
        };
        json!({
            "uuid": format!("00000000-0000-4000-8000-{number:012x}"), "type": kind, "category": category, "value": value,
            "to_ids": true, "timestamp": "1735689600", "comment": "Found in the second wave of the campaign, by its loader",
            "first_seen": null, "last_seen": null, "disable_correlation": false, "deleted": false, "sharing_group_id": "0",
            "Tag": [{"name": "kill-chain:command-and-control", "colour": "#004646", "exportable": true, "local": false}],
        })
    };
    let attributes: Vec<Value> = (0..attributes).map(attribute).collect();
    json!({"Event": {"uuid": uuid, "info": "X", "date": "2025-01-01", "timestamp": "100",
        "Tag": [{"name": "tlp:green"}], "Attribute": attributes}})
    .to_string()
}
