//! The demo's page in a real browser: what a person sees, and what a hostile feed cannot make it do.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) const TRIALS: &[crate::Case] =
    &[("the_demo_leaves_a_page_that_finds_articles", the_demo_leaves_a_page_that_finds_articles)];

/// Names under which Debian and others install it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Chromium without anything that calls home.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,1400",
];

fn browser() -> Option<&'static str> {
    BROWSERS.into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    })
}

/// Why these tests cannot run here, if they cannot.
pub(crate) fn unavailable() -> Option<&'static str> {
    browser().is_none().then_some("there is no Chromium: install Debian's package `chromium`")
}

/// The demo with its page open; ended when dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn the_demo_leaves_a_page_that_finds_articles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg("--data-dir").arg(folder.path().join("demo")).args(["demo", "--port", "0"]);
    let mut demo =
        Demo(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let errors = BufReader::new(demo.0.stderr.take().expect("it is piped"));
    let address = errors
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("open ")?.split(' ').next().map(ToOwned::to_owned))
        .expect("the demo says where its page is");

    let all = dom(&address, folder.path());
    assert!(all.contains("45 articles") && all.contains("Satellites with lasers"), "{all}");
    // Accents do not matter, and what is looked for is shown as text.
    let found = dom(&format!("{address}?q=comite"), folder.path());
    assert!(found.contains("1 article") && found.contains("Comitê completa"), "{found}");
    let hostile = dom(
        &format!("{address}?q=%22%3E%3Cscript%3Edocument.title%3D1%3C/script%3E"),
        folder.path(),
    );
    assert!(
        hostile.contains("<title>Minerva: articles</title>") && !hostile.contains("<script>"),
        "{hostile}"
    );
}

/// The page as the browser has made it.
fn dom(address: &str, folder: &Path) -> String {
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let browser = browser().expect("this test is skipped where there is none");
    let output = Command::new(browser)
        .args(FLAGS)
        .args([profile.as_str(), "--dump-dom", address])
        .output()
        .expect("it starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
