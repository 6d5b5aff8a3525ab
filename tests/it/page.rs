//! The demo's page in a real browser: what a person sees, and what a hostile feed cannot make it do.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::home::{raw, respond};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("the_demo_leaves_a_page_that_finds_articles", the_demo_leaves_a_page_that_finds_articles),
    ("no_other_page_can_frame_or_read_it", no_other_page_can_frame_or_read_it),
];

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

/// A demo in a folder of its own, and the address of its page.
fn demo(folder: &Path) -> (Demo, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg("--data-dir").arg(folder.join("demo")).args(["demo", "--port", "0"]);
    let mut demo =
        Demo(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let errors = BufReader::new(demo.0.stderr.take().expect("it is piped"));
    let address = errors
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("open ")?.split(' ').next().map(ToOwned::to_owned))
        .expect("the demo says where its page is");
    (demo, address)
}

fn the_demo_leaves_a_page_that_finds_articles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_demo, address) = demo(folder.path());
    let all = dom(&address, folder.path());
    assert!(all.contains("43 articles") && all.contains("Satellites with lasers"), "{all}");
    // Threat intelligence comes first: indicators with who names them and how far they may go.
    for word in ["indicators", "Infoblox threat intelligence", "<td>clear</td>", "Emotet"] {
        assert!(all.contains(word), "{word}: {all}");
    }
    let known = dom(&format!("{address}?q=wordpress%5B.%5Dagrupem.com"), folder.path());
    assert!(known.contains("1 indicator") && known.contains("Emotet"), "{known}");
    // Accents do not matter, and what is looked for is shown as text.
    let found = dom(&format!("{address}?q=comite"), folder.path());
    assert!(found.contains("1 article") && found.contains("Comitê completa"), "{found}");
    let hostile = dom(
        &format!("{address}?q=%22%3E%3Cscript%3Edocument.title%3D1%3C/script%3E"),
        folder.path(),
    );
    assert!(
        hostile.contains("<title>Minerva: threat intelligence</title>")
            && !hostile.contains("<script>"),
        "{hostile}"
    );
}

/// A page elsewhere tries what pages can do with another: frame it, load it as a script, fetch it, post to it.
fn no_other_page_can_frame_or_read_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_demo, address) = demo(folder.path());
    let page = format!(
        "<!doctype html><body><p id=told></p><script>
         const told = [], target = {address:?};
         const tell = (what) => {{ told.push(what); document.getElementById('told').textContent = told.join(' ') + ' end' + told.length; }};
         const script = document.createElement('script');
         script.onload = () => tell('script-loaded'); script.onerror = () => tell('script-refused');
         script.src = target; document.body.append(script);
         fetch(target).then(() => tell('read'), () => tell('unread'));
         fetch(target, {{mode: 'no-cors'}}).then((answer) => tell('opaque-' + answer.type), () => tell('unsent'));
         fetch(target, {{method: 'PUT', headers: {{'x-amz-target': 'x'}}}}).then(() => tell('put'), () => tell('no-preflight'));
         const frame = document.createElement('iframe');
         frame.onload = () => tell('frame-ended'); frame.src = target; document.body.append(frame);
         </script>"
    );
    let elsewhere = raw(move |mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        respond(&mut stream, "200 OK", "content-type: text/html\r\n", page.as_bytes());
    });
    let seen = dom(&elsewhere, folder.path());
    for word in ["script-refused", "unread", "no-preflight", "end5"] {
        assert!(seen.contains(word), "{word}: {seen}");
    }
    // This browser tells on whose behalf it asks, and is refused for that. The headers hold for those that do not.
    let mut http = crate::lambda::Http::connect(
        address.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address"),
    );
    let framed = http.call("GET", "/", &[("sec-fetch-site", "cross-site")], b"");
    assert_eq!(framed.status, 403);
    let shown = http.call("GET", "/", &[("sec-fetch-site", "none")], b"");
    assert_eq!((shown.status, shown.header("x-frame-options")), (200, Some("DENY")));
    assert!(
        shown
            .header("content-security-policy")
            .is_some_and(|policy| policy.contains("frame-ancestors 'none'"))
    );
    for name in ["cross-origin-resource-policy", "cross-origin-opener-policy"] {
        assert_eq!(shown.header(name), Some("same-origin"), "{name}");
    }
}

/// The page as the browser has made it.
fn dom(address: &str, folder: &Path) -> String {
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let browser = browser().expect("this test is skipped where there is none");
    let output = Command::new(browser)
        .args(FLAGS)
        .args([profile.as_str(), "--virtual-time-budget=10000", "--dump-dom", address])
        .output()
        .expect("it starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
