//! The feed parser against real and broken feeds: agreement with feedparser, and survival of damage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use feed::text::html_to_text;
use feed::{Entry, Hints};
use jiff::Timestamp;
use serde::Deserialize;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("agrees_with_feedparser", agrees_with_feedparser),
    ("survives_damage", survives_damage),
    ("survives_a_cut_anywhere", survives_a_cut_anywhere),
    ("survives_any_lost_sign", survives_any_lost_sign),
];

/// Where relative links lead; feedparser was given no such address.
const BASE: &str = "https://base.invalid/feed/";
/// Files that may differ from feedparser for a stated reason.
const DIFFERENCES_MAX: f64 = 0.03;

#[derive(Deserialize)]
struct Expected {
    file: String,
    entries: usize,
    first: First,
}

#[derive(Deserialize)]
struct First {
    title: Option<String>,
    link: Option<String>,
    published: Option<String>,
    updated: Option<String>,
    published_utc: Option<String>,
    updated_utc: Option<String>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/feeds")
}

/// All entries of a body, and the number of rejects; `None` if it is no feed.
fn read(body: &[u8]) -> Option<(Vec<Entry>, usize)> {
    let mut reader = feed::open(body, &Hints { content_type: None, url: BASE }).ok()?;
    let (mut entries, mut rejects) = (Vec::new(), 0);
    while let Some(chunk) = reader.next_chunk().ok()? {
        entries.extend(chunk.entries);
        rejects += chunk.rejects.len();
    }
    Some((entries, rejects))
}

/// What differs, or nothing.
fn differences(expected: &Expected, found: &[Entry]) -> Vec<String> {
    let mut differences = Vec::new();
    if expected.entries != found.len() {
        differences.push(format!("entries: {} there, {} here", expected.entries, found.len()));
    }
    let (Some(entry), true) = (found.first(), expected.entries > 0) else { return differences };
    let theirs = &expected.first;
    let titles = (plain(theirs.title.as_deref()), plain(entry.title.as_deref()));
    // Ours is text already, in which `<blink>` may be spoken of; reading it as HTML again would drop that.
    if titles.0 != titles.1 && titles.0 != entry.title.as_deref().map(folded) {
        differences.push(format!("title: {:?} there, {:?} here", titles.0, titles.1));
    }
    let links = (address(theirs.link.as_deref()), address(entry.link.as_deref()));
    if links.0 != links.1 {
        differences.push(format!("link: {:?} there, {:?} here", links.0, links.1));
    }
    let published =
        (seconds(theirs.published_utc.as_deref()), entry.published.map(Timestamp::as_second));
    if published.0 != published.1 {
        differences.push(format!(
            "published: {:?} there, {:?} here",
            theirs.published_utc, entry.published
        ));
    }
    // feedparser shows `published` for a missing `updated`.
    let mirrored = theirs.updated == theirs.published && theirs.updated_utc == theirs.published_utc;
    let updated = (seconds(theirs.updated_utc.as_deref()), entry.updated.map(Timestamp::as_second));
    if updated.0 != updated.1 && !(mirrored && entry.updated.is_none()) {
        differences
            .push(format!("updated: {:?} there, {:?} here", theirs.updated_utc, entry.updated));
    }
    differences
}

fn plain(title: Option<&str>) -> Option<String> {
    let text = folded(&html_to_text(title?));
    (!text.is_empty()).then_some(text)
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn address(link: Option<&str>) -> Option<String> {
    let link = link?.trim();
    let base = url::Url::parse(BASE).expect("a literal");
    (!link.is_empty()).then(|| base.join(link).map_or_else(|_| link.to_owned(), String::from))
}

fn seconds(stamp: Option<&str>) -> Option<i64> {
    stamp.map(|stamp| {
        stamp.parse::<Timestamp>().expect("feedparser_results.jsonl has RFC 3339").as_second()
    })
}

/// Every file agrees with feedparser in entries, first title, link and dates, or its reason is on the list.
#[expect(clippy::print_stdout, reason = "the figures are what a reader of the test wants")]
pub(crate) fn agrees_with_feedparser() {
    let root = fixtures();
    let list = std::fs::read_to_string(root.join("expected/feedparser_results.jsonl"))
        .expect("the results are committed");
    let reasons: BTreeMap<String, String> = toml::from_str(
        &std::fs::read_to_string(root.join("differences.toml")).expect("the list is committed"),
    )
    .expect("file = reason");
    let (mut seen, mut differing, mut unexplained) = (0, BTreeSet::new(), Vec::new());
    for line in list.lines() {
        let expected: Expected = serde_json::from_str(line).expect("one object a line");
        let body = std::fs::read(root.join(&expected.file)).expect("the fixture is committed");
        let found = read(&body).map(|(entries, _)| entries).unwrap_or_default();
        let differences = differences(&expected, &found);
        seen += 1;
        if !differences.is_empty() {
            if !reasons.contains_key(&expected.file) {
                unexplained.push(format!("{}\n    {}", expected.file, differences.join("\n    ")));
            }
            differing.insert(expected.file);
        }
    }
    let idle: Vec<_> = reasons.keys().filter(|file| !differing.contains(*file)).collect();
    println!("{seen} files, {} differ", differing.len());
    assert!(
        unexplained.is_empty(),
        "{} of {seen} differ without a reason:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    assert!(idle.is_empty(), "these agree by now, delete their reasons: {idle:?}");
    let limit = f64::from(seen) * DIFFERENCES_MAX;
    assert!(
        f64::from(u32::try_from(differing.len()).expect("some")) <= limit,
        "{} differ",
        differing.len()
    );
}

/// A damaged document and the entries that may suffer from it.
type Damaged = (Vec<u8>, BTreeSet<usize>);

/// One kind of damage: what it does to a feed's text, given the entry to hit, and what is left of "undamaged" then.
struct Damage {
    name: &'static str,
    apply: fn(&Sample, usize) -> Damaged,
}

/// A feed of many entries, as its text before, in and after them.
struct Sample {
    name: String,
    before: String,
    entries: Vec<String>,
    after: String,
}

impl Sample {
    fn text(&self, entries: &[String]) -> Vec<u8> {
        [self.before.as_str(), &entries.concat(), &self.after].concat().into_bytes()
    }

    fn whole(&self) -> Vec<u8> {
        self.text(&self.entries)
    }

    /// The document with one entry rewritten.
    fn with(&self, hit: usize, change: impl Fn(&str) -> String) -> Damaged {
        let mut entries = self.entries.clone();
        entries[hit] = change(&entries[hit]);
        (self.text(&entries), BTreeSet::from([hit]))
    }

    /// Cuts a real feed at its entries.
    fn of(name: &str, text: &str, tag: &str) -> Self {
        let (start, end) = (format!("<{tag}"), format!("</{tag}>"));
        let starts = |text: &str, from: usize| {
            let found = text[from..].match_indices(&start).find(|(at, _)| {
                text.as_bytes()
                    .get(from + at + start.len())
                    .is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'>')
            });
            found.map(|(at, _)| from + at)
        };
        let first = starts(text, 0).expect("a feed with entries");
        let (mut entries, mut at) = (Vec::new(), first);
        while let Some(from) = starts(text, at) {
            let to = from + text[from..].find(&end).expect("a well-formed feed") + end.len();
            entries.push(text[at..to].to_owned());
            at = to;
        }
        Self {
            name: name.to_owned(),
            before: text[..first].to_owned(),
            entries,
            after: text[at..].to_owned(),
        }
    }

    /// Fifty entries of one format, no two alike.
    fn made(name: &str, before: &str, entry: &str, after: &str) -> Self {
        let entries = (0..50).map(|number| entry.replace("{n}", &number.to_string())).collect();
        Self { name: name.to_owned(), before: before.to_owned(), entries, after: after.to_owned() }
    }
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (file, tag) in [
        ("atom/atom_mediarss_reddit_1.xml", "entry"),
        ("rss2/rss_2.0_ch9.xml", "item"),
        ("rss2/rss_2.0_relative_url_1.xml", "item"),
        ("rss1/rss_1.0_debian.xml", "item"),
        ("atom/atom_example_2.xml", "entry"),
    ] {
        if let Ok(text) = std::fs::read_to_string(fixtures().join("feed-rs").join(file)) {
            samples.push(Sample::of(file, &text, tag));
        }
    }
    samples.push(Sample::made(
        "rss 2.0",
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<rss version=\"2.0\" xmlns:content=\"http://purl.org/rss/1.0/modules/content/\"><channel><title>Feed</title><link>https://a.example/</link>\n",
        "<item><title>Größe {n} &amp; more</title><link>https://a.example/{n}?a=1&amp;b=2</link><guid isPermaLink=\"false\">id-{n}</guid><pubDate>Wed, 16 Nov 2022 00:38:15 +0100</pubDate><category>c</category><description>Some “text” &lt;b&gt;{n}&lt;/b&gt;</description><content:encoded><![CDATA[<p>Long é {n}</p>]]></content:encoded></item>\n",
        "</channel></rss>",
    ));
    samples.push(Sample::made(
        "rss 1.0",
        "<?xml version=\"1.0\"?><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\" xmlns=\"http://purl.org/rss/1.0/\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><channel rdf:about=\"https://a.example/\"><title>Feed</title><link>https://a.example/</link></channel>\n",
        "<item rdf:about=\"https://a.example/{n}\"><title>Titel ü {n}</title><link>https://a.example/{n}</link><dc:date>2022-11-16T00:38:15+09:00</dc:date><description>Text &amp; {n}</description></item>\n",
        "</rdf:RDF>",
    ));
    samples.push(Sample::made(
        "atom 1.0",
        "<?xml version=\"1.0\"?><feed xmlns=\"http://www.w3.org/2005/Atom\"><title>Feed</title><id>urn:feed</id>\n",
        "<entry><id>urn:{n}</id><title type=\"html\">Title &lt;i&gt;é&lt;/i&gt; {n}</title><link href=\"https://a.example/{n}?a&amp;b\"/><updated>2022-11-16T00:38:15Z</updated><summary>s {n}</summary><content type=\"xhtml\"><div xmlns=\"http://www.w3.org/1999/xhtml\"><p>é <b>{n}</b></p></div></content></entry>\n",
        "</feed>",
    ));
    samples
}

/// Takes away the first end tag of this name, whatever its prefix.
fn without_end_of(entry: &str, name: &str) -> String {
    entry.replacen(&format!("</{name}>"), "", 1)
}

const DAMAGES: [Damage; 16] = [
    Damage { name: "nothing at all", apply: |sample, _| (sample.whole(), BTreeSet::new()) },
    Damage {
        name: "cut off",
        apply: |sample, hit| {
            let whole = sample.whole();
            let start = sample.before.len() + sample.entries[..hit].concat().len();
            (
                whole[..start + sample.entries[hit].len() / 2].to_vec(),
                (hit..sample.entries.len()).collect(),
            )
        },
    },
    Damage {
        name: "bare ampersands",
        apply: |sample, _| (sample.whole_with("&amp;", "&"), BTreeSet::new()),
    },
    Damage {
        name: "an undeclared entity",
        apply: |sample, hit| {
            sample.with(hit, |entry| entry.replacen("</title>", "&nbsp;&foo;</title>", 1))
        },
    },
    Damage {
        name: "bad bytes",
        apply: |sample, hit| {
            let start = sample.before.len() + sample.entries[..hit].concat().len();
            let mut whole = sample.whole();
            let at = start + sample.entries[hit].find("</title>").unwrap_or_default();
            whole.splice(at..at, *b"don\x92t \xff\xfe");
            (whole, BTreeSet::from([hit]))
        },
    },
    Damage {
        name: "junk in front",
        apply: |sample, _| {
            let junk = b"<br />\n<b>Warning</b>: Undefined variable $x in <b>/a/b.php</b> on line <b>3</b><br />\n\xef\xbb\xbf<!-- a & b -->\n";
            ([junk.as_slice(), &sample.whole()].concat(), BTreeSet::new())
        },
    },
    Damage {
        name: "utf-8 declared as latin-1",
        apply: |sample, _| {
            let text = String::from_utf8_lossy(&sample.whole()).into_owned();
            let body = text.find("?>").map_or(text.as_str(), |at| &text[at + 2..]);
            (
                format!("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>{body}").into_bytes(),
                BTreeSet::new(),
            )
        },
    },
    Damage {
        name: "latin-1 declared as utf-8",
        apply: |sample, _| {
            let text = String::from_utf8_lossy(&sample.whole()).into_owned();
            // Letters that windows-1252 does not have cannot be damaged this way.
            (
                text.chars()
                    .flat_map(|c| {
                        u8::try_from(u32::from(c)).map_or_else(|_| b"?".to_vec(), |byte| vec![byte])
                    })
                    .collect(),
                BTreeSet::from_iter(
                    (0..sample.entries.len())
                        .filter(|at| sample.entries[*at].chars().any(|c| u32::from(c) > 0xff)),
                ),
            )
        },
    },
    Damage {
        name: "entry not closed",
        apply: |sample, hit| {
            sample.with(hit, |entry| without_end_of(&without_end_of(entry, "item"), "entry"))
        },
    },
    Damage {
        name: "title not closed",
        apply: |sample, hit| sample.with(hit, |entry| without_end_of(entry, "title")),
    },
    Damage {
        name: "body not closed",
        apply: |sample, hit| {
            sample
                .with(hit, |entry| without_end_of(&without_end_of(entry, "description"), "content"))
        },
    },
    Damage {
        name: "link not closed",
        apply: |sample, hit| sample.with(hit, |entry| without_end_of(entry, "link")),
    },
    Damage {
        name: "cdata not closed",
        apply: |sample, hit| sample.with(hit, |entry| entry.replacen("]]>", "", 1)),
    },
    Damage {
        name: "stray tags and signs",
        apply: |sample, hit| {
            sample.with(hit, |entry| entry.replacen("</title>", " 1 < 2 <br> </p> <b></title>", 1))
        },
    },
    Damage {
        name: "a quote missing",
        apply: |sample, hit| sample.with(hit, |entry| entry.replacen('"', "", 1)),
    },
    Damage {
        name: "control characters",
        apply: |sample, hit| {
            sample.with(hit, |entry| entry.replacen("</title>", "\u{1}\u{0}\u{b}</title>", 1))
        },
    },
];

impl Sample {
    fn whole_with(&self, from: &str, to: &str) -> Vec<u8> {
        let entries: Vec<_> = self.entries.iter().map(|entry| entry.replace(from, to)).collect();
        self.text(&entries)
    }
}

/// What makes an entry the same one: id, link, title, date.
fn identity(entry: &Entry) -> (Option<&str>, Option<&str>, Option<&str>, Option<Timestamp>) {
    (
        entry.guid.as_deref(),
        entry.link.as_deref(),
        entry.title.as_deref(),
        entry.published.or(entry.updated),
    )
}

/// Of the entries that are not damaged themselves at least 97 % survive each kind of damage, and none is invented.
#[expect(clippy::print_stdout, reason = "the figures are what a reader of the test wants")]
pub(crate) fn survives_damage() {
    const SURVIVAL_MIN: f64 = 0.97;
    for damage in &DAMAGES {
        let (mut expected, mut survived, mut invented) = (0_u32, 0_u32, Vec::new());
        for sample in samples() {
            let (whole, _) = read(&sample.whole()).expect("a feed");
            assert_eq!(whole.len(), sample.entries.len(), "{}", sample.name);
            let ids: BTreeSet<_> = whole
                .iter()
                .map(|entry| entry.guid.clone().or_else(|| entry.link.clone()))
                .collect();
            for hit in [0, sample.entries.len() / 2, sample.entries.len() - 1] {
                let (body, cost) = (damage.apply)(&sample, hit);
                let (found, _) = read(&body).unwrap_or_default();
                let alive: BTreeSet<_> = found.iter().map(identity).collect();
                for entry in whole
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| !cost.contains(at))
                    .map(|(_, entry)| entry)
                {
                    expected += 1;
                    survived += u32::from(alive.contains(&identity(entry)));
                }
                let strange = found
                    .iter()
                    .filter(|entry| {
                        !ids.contains(&entry.guid.clone().or_else(|| entry.link.clone()))
                    })
                    .count();
                // A damaged id or link is the same entry with another name, as long as there are not more of them.
                if found.len() > whole.len() || strange > cost.len().min(1) {
                    invented.push(format!(
                        "{}: {} of {}, {strange} strange",
                        sample.name,
                        found.len(),
                        whole.len()
                    ));
                }
            }
        }
        let rate = f64::from(survived) / f64::from(expected.max(1));
        println!("{:<28} {survived} of {expected} survive ({:.2} %)", damage.name, rate * 100.0);
        assert!(rate >= SURVIVAL_MIN, "{}: {rate}", damage.name);
        assert!(invented.is_empty(), "{}: {invented:?}", damage.name);
    }
}

/// Wherever a feed is cut, what is read are its first entries, and the one under the knife keeps its identity or goes.
pub(crate) fn survives_a_cut_anywhere() {
    for sample in samples() {
        let body = sample.whole();
        let (whole, _) = read(&body).expect("a feed");
        for cut in (0..body.len()).step_by(41) {
            let Some((found, _)) = read(&body[..cut]) else { continue };
            let ended = sample.ended_before(cut);
            assert!(found.len() >= ended, "{}: {} of {ended} at {cut}", sample.name, found.len());
            assert!(
                found.len() <= ended + 1,
                "{}: {} of {ended} at {cut}",
                sample.name,
                found.len()
            );
            for (index, (found, whole)) in found.iter().zip(&whole).enumerate() {
                if index < ended {
                    assert_eq!(found, whole, "{} at {cut}", sample.name);
                } else {
                    // Half of the first entry may lack its id; of any other it may not.
                    let same_id = found.guid == whole.guid || (index == 0 && found.guid.is_none());
                    assert!(same_id, "{} at {cut}: {found:?}", sample.name);
                    assert!(
                        found.title.is_none() || found.title == whole.title,
                        "{} at {cut}",
                        sample.name
                    );
                    assert!(
                        found.link.is_none()
                            || found.link == whole.link
                            || found.link == found.guid,
                        "{} at {cut}",
                        sample.name
                    );
                }
            }
        }
    }
}

impl Sample {
    /// How many entries are whole in the first `cut` bytes.
    fn ended_before(&self, cut: usize) -> usize {
        let mut end = self.before.len();
        let ends = self.entries.iter().map(|entry| {
            // What follows the end tag is not part of the entry.
            let whole = end + entry.trim_end().len();
            end += entry.len();
            whole
        });
        ends.filter(|end| *end <= cut).count()
    }
}

/// Losing any one sign of its markup, or any one tag, costs an entry's neighbours nothing.
#[expect(clippy::print_stdout, reason = "the figures are what a reader of the test wants")]
pub(crate) fn survives_any_lost_sign() {
    let (mut expected, mut survived, mut worst) = (0_u32, 0_u32, Vec::new());
    for sample in samples().into_iter().filter(|sample| sample.entries.len() > 2) {
        let (whole, _) = read(&sample.whole()).expect("a feed");
        let hit = 1;
        let entry = &sample.entries[hit];
        let signs = entry
            .match_indices(['<', '>', '"', '/', '&', ';', ']', '='])
            .map(|(at, _)| (at, at + 1));
        let tags = entry
            .match_indices('<')
            .filter_map(|(at, _)| Some((at, at + entry[at..].find('>')? + 1)));
        for (from, to) in signs.chain(tags) {
            let (body, _) = sample.with(hit, |entry| [&entry[..from], &entry[to..]].concat());
            let (found, _) = read(&body).unwrap_or_default();
            let alive: BTreeSet<_> = found.iter().map(identity).collect();
            let lost = whole
                .iter()
                .enumerate()
                .filter(|(at, entry)| *at != hit && !alive.contains(&identity(entry)))
                .count();
            expected += u32::try_from(whole.len() - 1).expect("few");
            survived += u32::try_from(whole.len() - 1 - lost).expect("few");
            if lost > 0 || found.len() > whole.len() {
                worst.push(format!(
                    "{}: {lost} lost, {} found, without {:?}",
                    sample.name,
                    found.len(),
                    &entry[from..to]
                ));
            }
        }
    }
    let rate = f64::from(survived) / f64::from(expected);
    println!("{survived} of {expected} survive ({:.2} %)", rate * 100.0);
    assert!(rate >= 0.97 && worst.is_empty(), "{rate}: {worst:?}");
}
