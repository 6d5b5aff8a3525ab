//! Retention from end to end: what is too old goes after a run, does not come back with the feed, and `prune` says what it
//! does.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use serde_json::{Value, json};
use stores::documents::{Documents as _, Embedded, Index};

use crate::documents::{article, articles, block_on};
use crate::home::{ALL, CLOCK, Home, Upstream, feed};

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "what_is_too_old_goes_after_a_run_and_does_not_come_back",
        what_is_too_old_goes_after_a_run_and_does_not_come_back,
    ),
    ("prune_counts_first_and_deletes_then", prune_counts_first_and_deletes_then),
    ("a_run_deletes_so_many_and_the_next_goes_on", a_run_deletes_so_many_and_the_next_goes_on),
    ("what_cannot_be_kept_so_is_said", what_cannot_be_kept_so_is_said),
];

const ITEMS: &[(&str, &str, Option<&str>)] = &[
    ("new", "A new one", Some("Sat, 28 Feb 2026 08:00:00 GMT")),
    ("old", "An old one", Some("Wed, 01 Jan 2025 08:00:00 GMT")),
    ("older", "An older one", Some("Mon, 01 Jan 2024 08:00:00 GMT")),
    ("undated", "One without a date", None),
];

fn counts(report: &Value) -> [u64; 4] {
    ["found", "new", "unchanged", "filtered"]
        .map(|name| report[name].as_u64().unwrap_or_else(|| panic!("no `{name}`: {report}")))
}

fn guids(home: &Home) -> Vec<String> {
    let mut guids: Vec<String> = home
        .articles()
        .iter()
        .map(|article| article["guid"].as_str().unwrap().to_owned())
        .collect();
    guids.sort();
    guids
}

fn what_is_too_old_goes_after_a_run_and_does_not_come_back() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", feed(ITEMS)))]);
    let first = home.report(&[ALL]);
    assert_eq!(counts(&first), [4, 4, 0, 0], "{first}");
    assert_eq!(first.get("pruned"), None, "{first}");

    let home = home.with("MINERVA_KEEP_DAYS", "rss_articles=365");
    let second = home.report(&[ALL]);
    assert_eq!(counts(&second), [4, 0, 2, 2], "{second}");
    assert_eq!(second["pruned"], 2, "{second}");
    assert_eq!(guids(&home), ["new", "undated"]);

    let third = home.report(&[ALL]);
    assert_eq!(counts(&third), [4, 0, 2, 2], "{third}");
    assert_eq!(third.get("pruned"), None, "nothing came back: {third}");
    assert_eq!(home.run(&["runs", "--json"]).json()[1]["report"]["pruned"], 2);
}

fn prune_counts_first_and_deletes_then() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", feed(ITEMS)))]);
    home.report(&[ALL]);
    let articles = |arguments: &[&str], home: &Home| {
        let said = home.run(arguments).ends_with(0).json();
        let indices = said.as_array().unwrap();
        assert_eq!(indices.len(), Index::all().len(), "{said}");
        indices.iter().find(|one| one["index"] == "rss_articles").unwrap().clone()
    };
    let kept = articles(&["prune", "--json"], &home);
    assert_eq!((&kept["kept"], &kept["deleted"]), (&json!(4), &json!(0)), "{kept}");
    home.run(&["prune"]).ends_with(0).says(&["everything is kept"]);

    let home = home.with("MINERVA_KEEP_DAYS", "500").with("MINERVA_CLOCK", CLOCK);
    let trial = articles(&["prune", "--dry-run", "--json"], &home);
    let expected = json!({
        "index": "rss_articles", "days": 500, "before": "2024-10-17T12:00:00Z",
        "by": ["published", "collected_at"], "deleted": 1, "kept": 3,
    });
    assert_eq!(trial, expected);
    assert_eq!(guids(&home).len(), 4, "a trial deletes nothing");
    assert_eq!(articles(&["prune", "--json"], &home), expected);
    assert_eq!(guids(&home), ["new", "old", "undated"]);
    assert_eq!(home.run(&["search", "older", "--json"]).ends_with(0).json()["total"], 0);
    let again = home.run(&["prune"]);
    assert!(again.ends_with(0).out.contains("500 days"), "{again:?}");
}

fn a_run_deletes_so_many_and_the_next_goes_on() {
    const OLD: u64 = 5_600;
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", feed(&ITEMS[..1])))]);
    block_on(async {
        let store = Embedded::open(&home.path("data")).await.unwrap();
        let old = |number| article(&format!("old-{number}"), "x", "news", "2025-01-01T00:00:00Z");
        let writes: Vec<_> = (0..OLD).map(old).collect();
        store.upsert(articles(), &writes).await.unwrap();
    });
    let home = home.with("MINERVA_KEEP_DAYS", "365");
    let mut left = OLD;
    while left > 0 {
        let report = home.report(&[ALL]);
        assert_eq!(report["status"], "complete", "{report}");
        let pruned = report["pruned"].as_u64().unwrap();
        assert!((500..=5_000).contains(&pruned) || pruned == left, "{pruned} of {left}");
        left -= pruned;
        assert_eq!(home.documents().lines().count() as u64, left + 1);
    }
    assert_eq!(guids(&home), ["new"]);
}

fn what_cannot_be_kept_so_is_said() {
    let home = Home::of(&[]).with("MINERVA_KEEP_DAYS", "rss_article=30");
    home.run(&["prune"]).ends_with(2).says(&["MINERVA_KEEP_DAYS", "rss_article", "rss_articles"]);
}
