//! What an operator does with the command line: asking for what is stored, keeping the list of sources, changing hours,
//! looking things up without the documents beside the binary.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};
use stores::documents::{Aggregation, Filter, Index, Owner, Query, Sort, Write};

use crate::documents::{Check, Place, block_on, ids};
use crate::home::{ALL, CLOCK, Home, Upstream, feed, numbered};

/// Every trial with its name, for the main of the tests.
macro_rules! trials {
    ($($name:ident)*) => {
        pub(crate) const TRIALS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

trials! {
    a_slip_in_a_search_is_answered_with_what_was_meant
    a_web_page_is_answered_with_the_feeds_it_links_to
    what_is_no_id_or_category_is_refused_when_added
    a_second_feed_of_a_host_has_an_id_of_its_own
    a_source_is_shown_edited_removed_and_brought_back
    sources_are_listed_the_worst_first_with_since_when
    a_new_source_with_old_news_is_new_and_not_quiet
    lists_go_out_and_come_in_as_opml
    hostile_opml_is_refused_and_nothing_of_it_stored
    an_hour_is_changed_and_a_task_disabled_above_the_timetable
    a_slip_in_a_timetable_is_named_with_its_place
    what_the_documents_say_is_in_the_binary
    what_upstream_says_steers_no_terminal_log_or_raw_json
    no_other_page_shows_ours_within_itself
    a_source_with_an_id_of_300_letters_is_archived_and_read_again
}

/// What every document store owes, by its trait and by the binary.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("what_lists_of_objects_hold_is_asked_for_and_counted", nested_lists),
    ("indicators_of_articles_are_asked_for", indicators_of_articles),
    ("a_search_has_an_end_a_beginning_and_words_that_are_not_wanted", ends_and_unwanted_words),
];

fn strings<'a>(rows: &'a Value, name: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap()).collect()
}

// What is stored.

/// Articles with indicators in their text, one of a day.
fn home_with_indicators(upstream: &Upstream, place: &Place) -> Home {
    let items = json!([
        {"id": "1", "title": "A loader", "date_published": "2026-02-27T08:00:00Z",
         "content_text": "It calls hxxps://cdn-update[.]top/gate and 185[.]220[.]101[.]7."},
        {"id": "2", "title": "A stealer", "date_published": "2026-02-28T08:00:00Z",
         "content_text": "It calls 185[.]220[.]101[.]7 and 45[.]155[.]205[.]9; CVE-2026-1234."},
        {"id": "3", "title": "A podcast on loaders", "date_published": "2026-03-01T08:00:00Z",
         "content_text": "Nothing but talk."},
    ]);
    let feed = json!({"version": "https://jsonfeed.org/version/1.1", "title": "F", "items": items});
    let mut home =
        Home::of(&[("a", upstream.body("a", feed.to_string()))]).with("MINERVA_CLOCK", CLOCK);
    if let Some(servers) = &place.stores.es_url {
        home = home
            .with("ES_URL", servers.expose()[0].as_str())
            .with("ES_INDEX_PREFIX", place.stores.es_index_prefix.clone());
    }
    assert_eq!(home.report(&[ALL])["new"], 3);
    home
}

/// The titles that a search finds, and how many there are in all.
#[track_caller]
fn titles(home: &Home, arguments: &[&str]) -> (u64, String) {
    let page = home.run(&[&["search", "--json"], arguments].concat()).ends_with(0).json();
    (page["total"].as_u64().unwrap(), strings(&page["documents"], "title").join("|"))
}

fn indicators_of_articles(place: &mut Place) {
    let upstream = Upstream::start(1);
    let home = home_with_indicators(&upstream, place);
    let found = |condition: &str| titles(&home, &["--where", condition]);
    assert_eq!(found("iocs.value=185.220.101.7"), (2, "A stealer|A loader".to_owned()));
    assert_eq!(found("iocs.value=185[.]220[.]101[.]7").0, 2);
    assert_eq!(found("iocs.value=45.155.205.9"), (1, "A stealer".to_owned()));
    assert_eq!(found("iocs.type=url"), (1, "A loader".to_owned()));
    let loader = (1, "A loader".to_owned());
    for typed in ["hxxps://CDN-update[.]top/gate", "https://cdn-update.top/gate"] {
        assert_eq!(found(&format!("iocs.value={typed}")), loader, "as reports write it: {typed}");
    }
    assert_eq!(found("iocs.value=185.220.101"), (0, String::new()), "values are compared whole");
    let both = ["--where", "iocs.value=185.220.101.7", "--where", "iocs.value=45.155.205.9"];
    assert_eq!(titles(&home, &both).0, 1);
    assert_eq!(titles(&home, &["--where", "iocs.type=url", "--index", "minerva-articles"]).0, 1);

    let counted = |arguments: &[&str]| {
        let counts = home.run(&[&["search", "--json"], arguments].concat()).ends_with(0).json();
        let buckets = counts["buckets"].as_array().unwrap().iter();
        buckets
            .map(|bucket| format!("{} {}", bucket["key"].as_str().unwrap(), bucket["count"]))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let by_value = counted(&["--by", "iocs.value"]);
    assert!(by_value.starts_with("185.220.101.7 2, ") && by_value.contains("45.155.205.9 1"));
    let by_type = counted(&["--by", "iocs.type"]);
    assert!(
        by_type.contains("ipv4 2") && by_type.contains("url 1"),
        "each article once: {by_type}"
    );
    assert_eq!(counted(&["--by", "iocs.type", "podcast"]), "");

    for wrong in ["iocs=x", "iocs.valeu=x", "iocs.raw=x"] {
        home.run(&["search", "--where", wrong]).ends_with(2).says(&["iocs.value"]);
    }
    home.run(&["search", "--by", "iocs"]).ends_with(2).says(&["`iocs.type`, `iocs.value`"]);
}

fn ends_and_unwanted_words(place: &mut Place) {
    let upstream = Upstream::start(1);
    let home = home_with_indicators(&upstream, place);
    let found = |arguments: &[&str]| titles(&home, arguments).1;
    // It is noon of the first of March.
    assert_eq!(found(&["--since", "2d"]), "A podcast on loaders|A stealer");
    assert_eq!(found(&["--since", "6h"]), "A podcast on loaders");
    assert_eq!(found(&["--until", "2026-02-28"]), "A stealer|A loader", "a day to its end");
    assert_eq!(found(&["--until", "2026-02-28T08:00:00Z"]), "A loader");
    assert_eq!(found(&["--since", "2026-02-28", "--until", "2026-02-28"]), "A stealer");
    assert_eq!(found(&["--where", "published=2026-02-28"]), "A stealer");
    assert_eq!(found(&["--offset", "1", "-n", "1"]), "A stealer");
    assert_eq!(titles(&home, &["--offset", "9"]), (3, String::new()));
    assert_eq!(found(&["load*", "-podcast"]), "A loader");
    assert_eq!(found(&["-podcast"]), "A stealer|A loader", "all but one");
    assert_eq!(found(&["-podcast", "-stealer", "--since", "7d"]), "A loader");
    assert_eq!(found(&["--relevance", "-podcast"]), "A stealer|A loader");
    assert_eq!(titles(&home, &["-podcast", "--index", "minerva-articles"]).0, 2);
    assert_eq!(found(&["--without", "podcast on loaders", "load*"]), "A loader", "a phrase too");
    assert_eq!(found(&["loader*", "--without", "pod*"]), "A loader");
    assert_eq!(found(&["load*", "-\"podcast on\""]), "A loader");
    let shown = home.run(&["search", "--offset", "1"]).ends_with(0).out.clone();
    assert!(shown.contains("2 of 3 found, after the first 1"), "{shown}");

    for (wrong, words) in [
        (vec!["--since", "2026-02-30"], vec!["no such day"]),
        (vec!["--until", "7 days"], vec!["`7 days`", "7d"]),
        (vec!["--since", "2026-03-01T12:00"], vec!["names no zone"]),
        (vec!["--since", "1d", "--until", "2d"], vec!["ends before it begins"]),
        (vec!["--where", "published=today"], vec!["`today`", "2026-03-01"]),
        (vec!["--offset", "10000"], vec!["10000"]),
        (vec!["--offset", "-1"], vec!["'-1'"]),
        (vec!["--offset", "1", "--by", "category"], vec!["--by"]),
    ] {
        home.run(&[&["search"], wrong.as_slice()].concat()).ends_with(2).says(&words);
    }
}

fn a_slip_in_a_search_is_answered_with_what_was_meant() {
    let home = Home::of(&[]);
    let nothing = home.run(&["search", "anything"]).ends_with(0).out.clone();
    assert!(nothing.contains("`rss_articles` holds no document yet"), "{nothing}");
    for (wrong, words) in [
        (["--where", "categroy=news"], "did you mean `category`?"),
        (["--where", "content=x"], "words to search"),
        (["--where", "active=yes"], "true or false"),
        (["--where", "revision=new"], "whole number"),
        (["--by", "feed_nam"], "did you mean `feed_name`?"),
        (["--by", "media"], "not indexed"),
        (["--index", "articles"], "minerva-articles"),
        (["--index", "rss_article"], "did you mean `rss_articles`?"),
        (["--serch", "x"], "--serch"),
    ] {
        home.run(&[&["search"][..], &wrong].concat()).ends_with(2).says(&[words]);
    }
    let help = home.run(&["search", "--help"]).ends_with(0).out.clone();
    for word in ["--until", "--offset", "7d", "iocs.value", "-not"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

// The list of sources.

/// Ids of the RSS sources with their health, as they are listed.
#[track_caller]
fn listed(home: &Home) -> String {
    let list = home.run(&["sources", "list", "--json"]).ends_with(0).json();
    let rss = list.as_array().unwrap().iter().filter(|row| row["family"] == "rss");
    rss.map(|row| {
        format!("{} {}", row["source"]["id"].as_str().unwrap(), row["health"].as_str().unwrap())
    })
    .collect::<Vec<_>>()
    .join(", ")
}

fn a_web_page_is_answered_with_the_feeds_it_links_to() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[]);
    let feed = upstream.body("feed.xml?a=1&b=2", numbered(0, 2));
    let page = upstream.body(
        "page",
        "<!DOCTYPE html><html><head><title>A blog</title>\
         <link rel=\"alternate\" type=\"application/rss+xml\" href=\"feed.xml?a=1&amp;b=2\" title=\"Posts\u{9b}31m\">\
         <link rel='alternate' type='application/atom+xml' href='/comments'></head></html>",
    );
    for command in ["add", "test"] {
        let ran = home.run(&["sources", command, &page]);
        ran.ends_with(1).says(&[
            "a web page titled `A blog`",
            &format!("`local-runner sources add '{feed}'`"),
            "Posts",
            "/comments",
        ]);
        assert!(!ran.err.contains('\u{9b}'), "{ran:?}");
    }
    assert_eq!(listed(&home), "", "nothing was added");
    home.run(&["sources", "add", &feed]).ends_with(0);
    assert_eq!(listed(&home), "127-0-0-1 new");
    let bare = upstream.body("bare", "<!DOCTYPE html><html></html>");
    home.run(&["sources", "add", &bare]).ends_with(1).says(&["--untested"]);
    home.run(&["sources", "add", "example.org/feed"])
        .ends_with(2)
        .says(&["`https://example.org/feed`"]);
    home.run(&["sources", "add", "no address"]).ends_with(2).says(&["`no address`"]);
}

fn what_is_no_id_or_category_is_refused_when_added() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    let url = upstream.body("b", numbered(1, 1));
    let long = "n".repeat(300);
    for (option, wrong, words) in [
        ("--id", "a b", "no id"),
        ("--id", "../a", "no id"),
        ("--id", "notícias", "no id"),
        ("--id", "a\nb", "no id"),
        ("--id", &long, "no id"),
        ("--id", "", "no id"),
        ("--id", "a", "`--id a-2` is free"),
        ("--category", "new", "did you mean `news`?"),
        ("--category", "music", "there is: news, blogs"),
        ("--language", "portuguese", "no language"),
        ("--name", "two\nlines", "no name"),
    ] {
        home.run(&["sources", "add", &url, option, wrong]).ends_with(2).says(&[words]);
    }
    let wrong = ["sources", "add", &url, "--category", "my music", "--new-category"];
    home.run(&wrong).ends_with(2).says(&["no category"]);
    assert_eq!(upstream.asked("b"), 0, "it was told before anything was fetched");
    let right = ["sources", "add", &url, "--id", "b", "--category", "music", "--new-category"];
    home.run(&right).ends_with(0);
    let third = upstream.body("c", numbered(2, 1));
    home.run(&["sources", "add", &third, "--category", "music", "--id", "c"]).ends_with(0);
    assert_eq!(listed(&home), "a new, b new, c new");
}

fn a_second_feed_of_a_host_has_an_id_of_its_own() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[]);
    for (path, id) in [("a", "127-0-0-1"), ("b", "127-0-0-1-2"), ("c", "127-0-0-1-3")] {
        let url = upstream.body(path, numbered(0, 1));
        let added = home.run(&["sources", "add", &url, "--json"]).ends_with(0).json();
        assert_eq!(added, json!({"source": id, "state": "added"}));
        home.run(&["sources", "add", &url]).ends_with(2).says(&[id, "has that address already"]);
    }
    assert_eq!(home.report(&[ALL])["sources"].as_array().unwrap().len(), 3);
}

fn a_source_is_shown_edited_removed_and_brought_back() {
    let upstream = Upstream::start(1);
    let first = upstream.body("a", numbered(0, 2));
    let home = Home::of(&[]);
    let list = format!(
        "# The one we read most.\n[[source]]\nid = \"a\" # for ever\nname = \"A\"\nurl = {first:?}\ncategory = \"news\"\n"
    );
    home.list(&list);
    home.run(&["sources", "show", "b"]).ends_with(2).says(&["`b`", "sources list"]);
    let by_part = ["sources", "show", "bibtex"];
    home.run(&by_part).ends_with(2).says(&["did you mean `library_bibtex`?"]);
    home.run(&["sources", "show", "rss/aa"]).ends_with(2).says(&["did you mean `a`?"]);
    let shown = home.run(&["sources", "show", "a"]).ends_with(0).out.clone();
    for words in ["rss/a", &first, "new", "never"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(home.report(&[ALL])["new"], 2);

    let moved = upstream.body("moved", numbered(0, 3));
    home.run(&["sources", "edit", "a"]).ends_with(2).says(&["nothing changes"]);
    home.run(&["sources", "edit", "a", "--category", "blog"]).ends_with(2).says(&["`blogs`"]);
    home.run(&["sources", "edit", "a", "--url", "ftp://x/"]).ends_with(2).says(&["http"]);
    let nowhere = upstream.status("nowhere", "404 Not Found", "");
    home.run(&["sources", "edit", "a", "--url", &nowhere])
        .ends_with(1)
        .says(&["404", "--untested"]);
    let edit =
        ["sources", "edit", "a", "--url", &moved, "--category", "blogs", "--name", "A moved"];
    home.run(&edit).ends_with(0);
    let shown = home.run(&["sources", "show", "a", "--json"]).ends_with(0).json();
    let source = &shown["source"];
    assert_eq!(
        (&source["url"], &source["category"], &source["name"], &shown["state"]["failures"]),
        (&json!(moved), &json!("blogs"), &json!("A moved"), &json!(0))
    );
    let report = home.report(&[ALL]);
    assert_eq!(
        (&report["new"], &report["failed"]),
        (&json!(1), &json!(0)),
        "known items stay known"
    );

    home.run(&["sources", "remove", "a"]).ends_with(0);
    assert_eq!(listed(&home), "");
    home.run(&["sources", "remove", "a"]).ends_with(2).says(&["`a`"]);
    home.run(&["sources", "remove", "families"]).ends_with(2).says(&["fixed"]);
    assert_eq!(home.articles().len(), 3, "what is stored stays");
    home.run(&["sources", "enable", "a"]).ends_with(0);
    let shown = home.run(&["sources", "show", "a", "--json"]).ends_with(0).json();
    assert_eq!(shown["source"]["name"], "A moved", "as it was edited");
    assert_eq!(std::fs::read_to_string(home.path("sources.toml")).unwrap(), list, "word for word");

    // What a list has always had is tried, edited and removed too, whatever its id.
    let odd = upstream.body("odd", numbered(7, 1));
    home.list(&format!("[[source]]\nid = \"Minha fonte\"\nname = \"M\"\nurl = {odd:?}\ncategory = \"Not\u{ed}cias\"\n"));
    home.run(&["sources", "test", "Minha fonte"]).ends_with(0);
    home.run(&["sources", "edit", "Minha fonte", "--name", "Minha"]).ends_with(0);
    home.run(&["sources", "edit", "Minha fonte", "--language", "x y"])
        .ends_with(2)
        .says(&["no language"]);
    home.run(&["sources", "remove", "Minha fonte"]).ends_with(0);
    home.list(&list);

    // Another source under the id of one that was removed begins anew.
    upstream.status("moved", "500 Internal Server Error", "");
    home.report(&[ALL]);
    assert_eq!(listed(&home), "a failing");
    home.run(&["sources", "remove", "a"]).ends_with(0);
    let other = upstream.body("other", numbered(5, 1));
    home.run(&["sources", "add", &other, "--id", "a"]).ends_with(0);
    assert_eq!(listed(&home), "a new");
    assert_eq!(home.report(&[ALL])["new"], 1);
}

fn sources_are_listed_the_worst_first_with_since_when() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[
        ("fine", upstream.body("fine", numbered(0, 1))),
        ("once", upstream.status("once", "500 Internal Server Error", "")),
        ("often", upstream.status("often", "404 Not Found", "")),
        ("gone", upstream.status("gone", "410 Gone", "")),
        ("off", upstream.body("off", numbered(1, 1))),
        ("moved", upstream.body("moved", numbered(2, 1))),
    ]);
    let to = upstream.body("new-place", numbered(2, 1));
    upstream.status("moved", "301 Moved Permanently", &format!("location: {to}\r\n"));
    home.run(&["sources", "disable", "off"]).ends_with(0);
    let only = json!({"sources": ["often"]}).to_string();
    let run = |arguments: &[&str], clock: &str| {
        home.run(&[&["run", "--json", "--clock", clock], arguments].concat()).json()
    };
    run(&["collect_specific_sources", "--input", &only], "2026-02-20T12:00:00Z");
    run(&[ALL], CLOCK);
    let home = home.with("MINERVA_CLOCK", CLOCK);
    assert_eq!(
        listed(&home),
        "gone gone, often failing, once failing, fine ok, moved ok, off disabled"
    );
    let list = home.run(&["sources", "list", "--json"]).ends_with(0).json();
    let rows = list.as_array().unwrap();
    let row = |id: &str| rows.iter().find(|row| row["source"]["id"] == id).unwrap();
    assert_eq!(row("often")["since"], "2026-02-20T12:00:00Z", "of the first failure");
    assert_eq!(row("often")["state"]["failures"], 2);
    assert_eq!(row("once")["since"], CLOCK);
    assert_eq!(row("fine")["since"], Value::Null);
    let shown = home.run(&["sources", "list"]).ends_with(0).out.clone();
    let line = |id: &str| {
        let name = format!("rss/{id} ");
        shown.lines().find(|line| line.starts_with(&name)).unwrap().to_owned()
    };
    assert!(line("often").contains("2026-02-20  2 "), "{shown}");
    assert!(line("moved").contains(&format!("moved for good to {to}")), "{shown}");
    let one = home.run(&["sources", "show", "moved"]).ends_with(0).out.clone();
    assert!(one.contains("sources edit moved --url"), "{one}");
    home.run(&["sources", "edit", "moved", "--url", &to]).ends_with(0);
    let one = home.run(&["sources", "show", "moved"]).ends_with(0).out.clone();
    assert!(!one.contains("moved for good"), "{one}");
    let none = home.run(&["sources", "list", "--health", "quiet"]).ends_with(0).out.clone();
    assert!(none.contains("no source is of health `quiet`"), "{none}");
}

fn a_new_source_with_old_news_is_new_and_not_quiet() {
    let upstream = Upstream::start(1);
    let dates = [
        "Mon, 01 Dec 2025 08:00:00 GMT",
        "Tue, 02 Dec 2025 08:00:00 GMT",
        "Wed, 03 Dec 2025 08:00:00 GMT",
    ];
    let items: Vec<_> = dates.iter().map(|date| (*date, *date, Some(*date))).collect();
    let home = Home::of(&[("a", upstream.body("a", feed(&items)))]);
    let health = |clock: &str| {
        let list = home.run_with(
            &[("MINERVA_CLOCK".to_owned(), clock.to_owned())],
            &["sources", "list", "--json"],
        );
        list.ends_with(0)
            .json()
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["family"] == "rss")
            .unwrap()["health"]
            .clone()
    };
    assert_eq!(health(CLOCK), "new");
    let report = home.report(&[ALL]);
    assert!(report["detail"]["quiet"].as_array().is_none_or(Vec::is_empty), "{report}");
    assert_eq!(health(CLOCK), "new", "nothing was missed yet");
    assert_eq!(health("2026-03-05T12:00:00Z"), "quiet", "four days later it was");
}

fn lists_go_out_and_come_in_as_opml() {
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    let second = upstream.body("b?x=1&y=2", numbered(1, 1));
    let add =
        ["sources", "add", &second, "--id", "b", "--name", "B & \"co\"", "--language", "pt-BR"];
    home.run(&[&add[..], &["--category", "brazil"]].concat()).ends_with(0);
    home.run(&["sources", "disable", "a"]).ends_with(0);
    let written = home.run(&["sources", "export"]).ends_with(0).out.clone();
    assert!(written.starts_with("<?xml"), "{written}");
    home.run(&["sources", "export", "--to", "list.opml"]).ends_with(0);
    assert_eq!(std::fs::read_to_string(home.path("list.opml")).unwrap(), written);
    home.run(&["sources", "export", "--to", "no/such/folder.opml"])
        .ends_with(2)
        .says(&["folder.opml"]);

    let other = Home::of(&[]);
    let file = home.path("list.opml");
    let file = file.to_str().unwrap();
    let tried = other.run(&["sources", "import", file, "--dry-run"]).ends_with(0).out.clone();
    assert!(tried.contains("2 would be added") && listed(&other).is_empty(), "{tried}");
    let came = other.run(&["sources", "import", file]).ends_with(0).out.clone();
    assert!(came.contains("2 added, untested, 0 there already, 0 skipped"), "{came}");
    assert_eq!(listed(&other), "b new, a disabled");
    let of = |home: &Home| {
        let mut rows = home.run(&["sources", "export", "--json"]).ends_with(0).json();
        rows.as_array_mut().unwrap().sort_by_key(|row| row["id"].to_string());
        rows
    };
    assert_eq!(of(&other), of(&home), "the same sources");
    let again = other.run(&["sources", "import", file]).ends_with(0).out.clone();
    assert!(again.contains("0 added, untested, 2 there already, 0 skipped"), "{again}");
    assert_eq!(other.report(&[ALL])["new"], 1, "what is disabled is not collected");

    // What readers of feeds export: folders that are none of ours, addresses that are none.
    let foreign = format!(
        "<opml version='1.0'><body><outline text='Security News'>\
         <outline text='C' xmlUrl='{}'/><outline text='Bad' xmlUrl='javascript:alert(1)'/></outline>\
         <outline text='Malware'><outline text='D' xmlUrl='{}'/></outline></body></opml>",
        upstream.body("c", numbered(2, 1)),
        upstream.body("d", numbered(3, 1)),
    );
    std::fs::write(other.path("foreign.opml"), foreign).unwrap();
    let came = other.run(&["sources", "import", "foreign.opml", "--json"]).ends_with(0).json();
    let added: Vec<(&str, &str)> = came["added"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["category"].as_str().unwrap()))
        .collect();
    assert_eq!(added, [("127-0-0-1", "news"), ("127-0-0-1-2", "malware")]);
    assert!(came["skipped"][0]["reason"].as_str().unwrap().contains("neither http nor https"));
    home.run(&["sources", "import", file, "--category", "musik"]).ends_with(2).says(&["`musik`"]);
    home.run(&["sources", "import", "none.opml"]).ends_with(2).says(&["none.opml"]);
}

fn hostile_opml_is_refused_and_nothing_of_it_stored() {
    let home = Home::of(&[]);
    let feeds = |count: usize| "<outline text='a' xmlUrl='https://a.example/'/>".repeat(count);
    let doubling: String =
        (1..40).map(|n| format!("<!ENTITY e{n} \"&e{};&e{};\">", n - 1, n - 1)).collect();
    for (text, words) in [
        (String::new(), "no `<opml>`"),
        ("not xml".to_owned(), "no `<opml>`"),
        ("<html><body/></html>".to_owned(), "where `<opml>` should be"),
        ("<opml><body></body></opml>".to_owned(), "no feed in it"),
        (
            format!("<opml><body>{}", "<outline text='a'>".repeat(200_000)),
            "nested more than 64 deep",
        ),
        (format!("<opml>{}</opml>", feeds(5_001)), "more than 5000 feeds"),
        (format!("<opml>{}<outline xmlUrl='", feeds(3)), "broken"),
        (format!("<opml>{}</opml>", " ".repeat(9 << 20)), "larger than 8 MiB"),
    ] {
        std::fs::write(home.path("x.opml"), text).unwrap();
        let began = std::time::Instant::now();
        home.run(&["sources", "import", "x.opml"]).ends_with(2).says(&[words]);
        assert!(began.elapsed().as_secs() < 10, "{words}: {:?}", began.elapsed());
    }
    assert_eq!(listed(&home), "");
    // As many as are taken, all of one host: each has an id of its own, and no pair is compared.
    let many = (0..5_000).map(|n| format!("<outline text='a' xmlUrl='https://a.example/{n}'/>"));
    std::fs::write(home.path("x.opml"), format!("<opml>{}</opml>", many.collect::<String>()))
        .unwrap();
    let began = std::time::Instant::now();
    let tried = home.run(&["sources", "import", "x.opml", "--dry-run"]).ends_with(0).out.clone();
    assert!(tried.contains("a-example-5000 ") && tried.contains("5000 would be added"));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    let steering = format!(
        "<!DOCTYPE opml [<!ENTITY e0 \"x\">{doubling}]><opml>\
         <outline text='&e39;' xmlUrl='https://a.example/'/>\
         <outline text='b&#27;[2J&#x202e;' minerva:id='../../x' xmlUrl='https://b.example/'/>\
         <outline text='c' minerva:id='a-example' xmlUrl='https://c.example/'/></opml>"
    );
    std::fs::write(home.path("x.opml"), steering).unwrap();
    let ran = home.run(&["sources", "import", "x.opml"]);
    assert!(
        ran.ends_with(0).out.contains("2 added, untested, 0 there already, 1 skipped"),
        "{ran:?}"
    );
    assert!(!ran.out.contains('\u{1b}') && !ran.out.contains('\u{202e}'), "{ran:?}");
    assert_eq!(
        listed(&home),
        "a-example new, c-example new",
        "an id that is taken is not taken twice"
    );
}

// The timetable.

fn an_hour_is_changed_and_a_task_disabled_above_the_timetable() {
    let home = Home::of(&[]);
    std::fs::write(
        home.path("mine.toml"),
        "[collect_all_rss_feeds]\nwhen = \"cron(30 6 * * ? *)\"\n\n[sync_signature_base_yara]\nenabled = false\n\
         [check_malpedia_status]\nwhen = \"rate(12 hours)\"\n",
    )
    .unwrap();
    let of = |command: &str, more: &[&str]| {
        let rows = home.run(&[&[command, "--json"], more].concat()).ends_with(0).json();
        rows.as_array().unwrap().clone()
    };
    let mine = ["--timetable", "mine.toml"];
    let (before, after) = (of("tasks", &[]), of("tasks", &mine));
    assert_eq!(before.len(), after.len(), "no row is lost");
    let changed: Vec<(&str, Value, bool)> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(_, row)| {
            (row["task"].as_str().unwrap(), row["when"].clone(), row["enabled"] == true)
        })
        .collect();
    assert_eq!(
        changed,
        [
            ("collect_all_rss_feeds", json!("cron(30 6 * * ? *)"), true),
            ("check_malpedia_status", json!("rate(12 hours)"), true),
            ("sync_signature_base_yara", Value::Null, false),
        ]
    );
    let scheduled = of("scheduled", &["--timetable", "mine.toml", "-n", "40"]);
    let of_task =
        |task: &str| scheduled.iter().filter(|row| row["task"] == task).collect::<Vec<_>>();
    assert!(of_task("sync_signature_base_yara").is_empty(), "{scheduled:?}");
    let feeds = of_task(ALL);
    assert!(
        !feeds.is_empty()
            && feeds.iter().all(|row| row["at"].as_str().unwrap().ends_with("T09:30:00Z"))
    );
    let tasks = home.run(&["tasks", "--timetable", "mine.toml"]).ends_with(0).out.clone();
    let line = tasks.lines().find(|line| line.starts_with("sync_signature_base_yara")).unwrap();
    assert!(line.contains("disabled"), "{tasks}");
    let doctor = home.run(&["doctor", "--timetable", "mine.toml"]).out.clone();
    assert!(doctor.contains("1 disabled"), "{doctor}");
    let check = home.run(&["schedule", "check", "mine.toml"]).ends_with(0).out.clone();
    assert!(check.contains("cron(30 6 * * ? *)"), "{check}");

    // A task that is disabled still runs when it is asked for.
    let disabled = "[collect_all_rss_feeds]\nenabled = false\ntimeout_s = 60\n";
    std::fs::write(home.path("off.toml"), disabled).unwrap();
    let upstream = Upstream::start(1);
    let home = Home::of(&[("a", upstream.body("a", numbered(0, 1)))]);
    std::fs::write(home.path("off.toml"), disabled).unwrap();
    let report = home.run(&["run", ALL, "--json", "--timetable", "off.toml"]).ends_with(0).json();
    assert_eq!(report["new"], 1);
}

fn a_slip_in_a_timetable_is_named_with_its_place() {
    let home = Home::of(&[]);
    let write = |text: &str| std::fs::write(home.path("mine.toml"), text).unwrap();
    write(
        "# hours of ours\n[colect_all_rss_feeds]\nwhen = \"cron(0 25 * * ? *)\"\n\n[collect_category]\nwen = 1\n",
    );
    let words = [
        "line 2, column 2, `colect_all_rss_feeds`: there is no task of this name",
        "did you mean `collect_all_rss_feeds`?",
        "line 6, column 1, `collect_category`: unknown field `wen`",
        "did you mean `when`?",
    ];
    for command in [
        &["scheduled"][..],
        &["doctor"],
        &["tasks"],
        &["schedule", "check"],
        &["run", ALL],
        &["serve", "--port", "0"],
        &["sources", "list"],
    ] {
        let ran = home.run(&[command, &["--timetable", "mine.toml"]].concat());
        let said = format!("{}{}", ran.ends_with(2).out, ran.err);
        for word in words {
            assert!(said.contains(word), "{command:?}: {word}: {said}");
        }
    }
    write("[sync_all]\nwhen = \"cron(0 1 * * ? *)\"\n");
    home.run(&["tasks", "--timetable", "mine.toml"]).ends_with(2).says(&["`local-runner tasks`"]);
    home.run(&["tasks", "--timetable", "none.toml"]).ends_with(2).says(&["`none.toml`"]);
    write("");
    home.run(&["tasks", "--timetable", "mine.toml"]).ends_with(0);
}

// What is told.

fn what_the_documents_say_is_in_the_binary() {
    let home = Home::of(&[]);
    let help = |topic: &[&str]| home.run(&[&["help"], topic].concat()).ends_with(0).out.clone();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();

    // Every row of CONFIG.md, and no other.
    let settings = home.run(&["help", "settings", "--json"]).ends_with(0).json();
    let told: Vec<String> = settings
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let default =
                row["default"].as_str().map_or("—".to_owned(), |text| format!("`{text}`"));
            format!(
                "| `{}` | {default} | {} |",
                row["name"].as_str().unwrap(),
                row["about"].as_str().unwrap()
            )
        })
        .collect();
    let config = document("docs/CONFIG.md");
    let rows: Vec<&str> = config.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(told, rows);
    let shown = help(&["settings"]);
    assert!(strings(&settings, "name").iter().all(|name| shown.contains(name)), "{shown}");
    let one = help(&["settings", "rss_sources"]);
    assert!(one.contains("RSS_SOURCES") && !one.contains("ES_URL"), "{one}");

    // Every task that is told of in TASKS.md, with its input.
    let tasks = home.run(&["help", "tasks", "--json"]).ends_with(0).json();
    let document = document("docs/TASKS.md");
    let headings: Vec<&str> =
        document.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    for task in &headings {
        let row = tasks.as_array().unwrap().iter().find(|row| row["task"] == *task).unwrap();
        assert!(row["input"].is_string() && row["reads"].is_string(), "{row}");
    }
    let one = help(&["tasks", "collect_category"]);
    assert!(one.contains("`categories`") && !one.contains("sync_signature_base_iocs"), "{one}");

    // The form of a list is one that is collected from.
    let shown = help(&["sources"]);
    assert!(shown.contains("The list of family `misp`") && shown.contains("[[feed]]"), "{shown}");
    let form: String = shown
        .lines()
        .skip_while(|line| !line.starts_with("The list of family `rss`"))
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    home.list(&form);
    assert_eq!(listed(&home), "krebs-on-security new", "{form}");

    // Commands as before, and slips.
    for path in [&[][..], &["search"], &["sources", "add"], &["schedule"]] {
        let shown = help(path);
        assert!(shown.contains("Usage:"), "{path:?}: {shown}");
    }
    for (wrong, words) in [
        (&["setings"][..], "did you mean `settings`?"),
        (&["serch"], "did you mean `search`?"),
        (&["settings", "ES_ULR"], "did you mean `ES_URL`?"),
        (&["tasks", "colect_category"], "did you mean `collect_category`?"),
        (&["sources", "ad"], "did you mean `add`?"),
    ] {
        home.run(&[&["help"], wrong].concat()).ends_with(2).says(&[words]);
    }
    // What hints name is there.
    let wrong = home.run(&["run", "collect_category", "--input", "{\"category\":1}"]);
    let said = format!("{}{}", wrong.ends_with(2).out, wrong.err);
    assert!(said.contains("local-runner help tasks collect_category"), "{said}");
    let wrong = Home::of(&[]).with("MINERVA_ARCHIVE_DAYS", "soon");
    wrong.run(&["runs"]).ends_with(2).says(&["local-runner help settings"]);
    let short = home.run(&["--help"]).ends_with(0).out.clone();
    assert!(short.contains("help settings") && !short.contains("docs/"), "{short}");
}

// What is shown.

/// Every letter that does something where it is shown, and ends of lines with what would be a line of ours.
fn steering() -> String {
    let letters =
        (0..=0x9f_u32).chain(0x2028..=0x202e).chain(0x2066..=0x2069).chain([0x61c, 0x200e, 0x200f]);
    let letters = letters.filter_map(char::from_u32).filter(|letter| base::shown::steers(*letter));
    let letters: String = letters.collect();
    format!("start {letters} \nFORGED: one \r\nFORGED: two \u{2028}FORGED: three end")
}

#[track_caller]
fn steers_nothing(shown: &str) {
    // Lambda's own last line of a run has tabs; one of upstream's would make a line of `FORGED` all the same.
    let is_ours = |letter: char| matches!(letter, '\n' | '\t');
    let found = shown.chars().find(|letter| !is_ours(*letter) && base::shown::steers(*letter));
    assert_eq!(found, None, "{shown:?}");
    let forged = shown.lines().find(|line| line.trim_start().starts_with("FORGED"));
    assert_eq!(forged, None, "{shown}");
}

fn what_upstream_says_steers_no_terminal_log_or_raw_json() {
    let upstream = Upstream::start(1);
    let text = steering();
    let feed = json!({
        "version": "https://jsonfeed.org/version/1.1", "title": text, "language": text,
        "items": [
            {"id": text, "url": "https://example.org/1", "title": text, "tags": [text, "CVE-2026-1234"],
             "authors": [{"name": text}], "content_text": text, "date_published": text},
            {"no": text},
            text,
        ],
    });
    let page = format!(
        "<!DOCTYPE html><html><head><title>{text}</title><link rel=alternate type=application/rss+xml href=/f title=\"{text}\">"
    );
    let home = Home::of(&[
        ("feed", upstream.body("feed", feed.to_string())),
        ("page", upstream.body("page", page)),
        ("none", upstream.body("none", format!("<{text}>"))),
        (
            "moved",
            upstream.status("moved", "301 Moved Permanently", "location: /a\u{9b}b\u{202e}c\r\n"),
        ),
        (
            "status",
            upstream.serve("status", |_, stream| {
                crate::home::respond(stream, "500 \u{9b}31m", "", steering().as_bytes());
            }),
        ),
    ]);
    let id = upstream.body("page2", "<html><title>\u{9b}31m\nFORGED</title>");
    for command in [
        &["run", ALL][..],
        &["run", ALL, "--verbose"],
        &["run", ALL, "--json", "--verbose"],
        &["search"],
        &["search", "start"],
        &["search", "--by", "tags"],
        &["search", "--by", "language"],
        &["search", "--json"],
        &["search", "--by", "tags", "--json"],
        &["documents", "rss_articles"],
        &["runs"],
        &["runs", "--json"],
        &["sources", "list"],
        &["sources", "list", "--json"],
        &["sources", "show", "page"],
        &["sources", "show", "page", "--json"],
        &["sources", "test", "feed"],
        &["sources", "test", "feed", "--json"],
        &["sources", "test", "page"],
        &["sources", "test", "none"],
        &["sources", "add", &id],
        &["sources", "rejects"],
    ] {
        let ran = home.run(command);
        assert!(!ran.out.is_empty() || !ran.err.is_empty(), "{command:?}");
        steers_nothing(&ran.out);
        steers_nothing(&ran.err);
    }
    let page = home.run(&["search", "--json"]).ends_with(0).json();
    let tags = page["documents"][0]["tags"].as_array().unwrap();
    assert!(
        tags.iter().any(|tag| tag.as_str().unwrap().contains('\u{9b}')),
        "JSON means the same: {tags:?}"
    );
}

fn no_other_page_shows_ours_within_itself() {
    let home = Home::of(&[]);
    let folder = home.path("demo");
    let arguments = ["demo", "--port", "0", "--data-dir", folder.to_str().unwrap()];
    let mut demo = home.spawn(&arguments);
    let mut lines = demo.errors();
    let address = lines
        .find_map(|line| {
            line.strip_prefix("open http://")?.split([' ', '/']).next().map(ToOwned::to_owned)
        })
        .unwrap();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for header in
        ["frame-ancestors 'none'", "x-frame-options: deny", "x-content-type-options: nosniff"]
    {
        assert!(head.contains(header), "{header}: {head}");
    }
}

fn a_source_with_an_id_of_300_letters_is_archived_and_read_again() {
    let upstream = Upstream::start(1);
    let id = "n".repeat(300);
    let home = Home::of(&[(&id, upstream.body("a", numbered(0, 2)))]);
    let archive = home.path("archive");
    let home = home.with("MINERVA_ARCHIVE", archive.to_str().unwrap());
    let report = home.report(&[ALL]);
    assert_eq!((&report["status"], &report["new"]), (&json!("complete"), &json!(2)), "{report}");
    let fresh = home.path("fresh");
    let again = ["reparse", ALL, "--json", "--data-dir", fresh.to_str().unwrap()];
    assert_eq!(home.run(&again).ends_with(0).json()["new"], 2);
    assert_eq!(upstream.asked("a"), 1, "the archive alone was read");
    let add = ["sources", "add", "https://example.org/", "--untested", "--id", &id];
    home.run(&add).ends_with(2).says(&["no id"]);
}

fn nested_lists(place: &mut Place) {
    const OWNER: Owner = Owner { fields: &["title", "iocs", "published"], ..Owner::named("rss") };
    block_on(async {
        let index = Index::named("rss_articles").unwrap();
        let store = place.store().await;
        let iocs = |values: &[(&str, &str)]| -> Value {
            values
                .iter()
                .map(|(kind, value)| json!({"type": kind, "value": value, "raw": value}))
                .collect()
        };
        let batch = [
            (
                "a",
                json!({"title": "a", "iocs": iocs(&[("ipv4", "10.9.8.7"), ("domain", "x.top")])}),
            ),
            (
                "b",
                json!({"title": "b", "iocs": iocs(&[("ipv4", "10.9.8.6"), ("ipv4", "10.9.8.7")])}),
            ),
            ("c", json!({"title": "c", "iocs": []})),
            ("d", json!({"title": "d", "iocs": null})),
            // One object, and values in a list: what servers take, every store takes.
            (
                "e",
                json!({"title": "e", "iocs": {"type": "url", "value": ["http://x.top/", "10.9.8.6"]}}),
            ),
        ];
        let batch =
            batch.map(|(id, fields)| Write::of(id, &OWNER, fields.as_object().unwrap().clone()));
        store.upsert(index, &batch).await.unwrap();
        let found = async |filters: Vec<Filter>| {
            let query = Query { filters, ..Query::default() };
            let page = store.search(index, &query).await.unwrap();
            let mut found = ids(&page).join("");
            assert_eq!(store.count(index, &query).await.unwrap(), found.len() as u64);
            found.make_ascii_lowercase();
            let mut letters: Vec<char> = found.chars().collect();
            letters.sort_unstable();
            letters.into_iter().collect::<String>()
        };
        let value = |value: &str| Filter::Terms("iocs.value".to_owned(), vec![value.to_owned()]);
        let kind =
            |kind: &str| Filter::Terms("iocs.type.keyword".to_owned(), vec![kind.to_owned()]);
        assert_eq!(found(vec![value("10.9.8.7")]).await, "ab");
        assert_eq!(found(vec![value("10.9.8.6")]).await, "be");
        assert_eq!(found(vec![value("http://x.top/"), kind("url")]).await, "e");
        assert_eq!(
            found(vec![value("10.9.8.7"), kind("domain")]).await,
            "a",
            "of any of its objects"
        );
        assert_eq!(found(vec![Filter::Exists("iocs.value".to_owned())]).await, "abe");
        assert_eq!(found(vec![Filter::Missing("iocs.value".to_owned())]).await, "cd");
        let counted = async |field: &str| {
            let by = Aggregation::Terms { field: field.to_owned(), size: 10 };
            let counts = store.aggregate(index, &Query::default(), &by).await.unwrap();
            counts
                .buckets
                .iter()
                .map(|bucket| format!("{} {}", bucket.key, bucket.count))
                .collect::<Vec<_>>()
        };
        assert_eq!(counted("iocs.type").await, ["ipv4 2", "domain 1", "url 1"]);
        assert_eq!(
            counted("iocs.value").await,
            ["10.9.8.6 2", "10.9.8.7 2", "http://x.top/ 1", "x.top 1"]
        );
        let sort = Some(Sort::Field { name: "iocs.value".to_owned(), descending: true });
        let page = store.search(index, &Query { sort, ..Query::default() }).await.unwrap();
        assert_eq!(ids(&page), ["a", "e", "b", "c", "d"], "by the largest, those without last");
        let without = Query { text: Some("-a -e".to_owned()), ..Query::default() };
        assert_eq!(store.count(index, &without).await.unwrap(), 3, "all but these");
        for wrong in ["iocs", "iocs.raw", "iocs.none", "media.url"] {
            let by = Aggregation::Terms { field: wrong.to_owned(), size: 10 };
            let error = store.aggregate(index, &Query::default(), &by).await.unwrap_err();
            assert_eq!(error.class(), base::Class::Config, "{wrong}: {}", error.chain());
            let query = Query {
                filters: vec![Filter::Terms(wrong.to_owned(), vec![])],
                ..Query::default()
            };
            assert_eq!(store.count(index, &query).await.unwrap_err().class(), base::Class::Config);
        }
    });
}
