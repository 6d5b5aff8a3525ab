//! What the reader owes: every entry or a reject for it, whatever stands around.

use proptest::prelude::*;

use super::*;

/// Keys of what was read, and rejects as `line: reason`, in order.
fn read(text: &str) -> Vec<String> {
    Reader::new(text)
        .map(|item| match item {
            Ok(entry) => entry.key.to_owned(),
            Err(reject) => format!("line {}: {}", reject.line, reject.reason),
        })
        .collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(read(text), expected, "{text}");
}

#[track_caller]
fn one(text: &str) -> Entry<'_> {
    Reader::new(text).next().unwrap().unwrap()
}

#[test]
fn an_entry_of_the_library_is_read_as_it_stands() {
    let entry = one(
        "\u{feff}@online{rubn:20190806:clipsa:81eb577,\r\n   author = {Jan Rubín},\r\n   title = {{A % b # c \\ d}},\r\n   url = {https://e.org/a%20b?x=1&y=2#z},\r\n   urldate = {2020-01-13}\r\n}\r\n",
    );
    assert_eq!((entry.kind, entry.key), ("online", "rubn:20190806:clipsa:81eb577"));
    assert_eq!(entry.field("Title"), Some("{A % b # c \\ d}"));
    assert_eq!(entry.field("url"), Some("https://e.org/a%20b?x=1&y=2#z"));
    assert_eq!(entry.field("date"), None);
}

#[test]
fn other_dialects_are_read_too() {
    let text = r#"% a file from elsewhere, with foo@bar.org in it
@string{acm = "ACM " # {Press}}
@preamble{"\newcommand{\x}{y}"}
@comment{jabref-meta: {x}}
@Article(k1, Title = "A {"}quoted{"} title", publisher = acm # ", Inc.", month = jan # "~1", year = 2019)
@misc{k2,title={x},note=,}@misc{k3}"#;
    let entries: Vec<_> = Reader::new(text).map(Result::unwrap).collect();
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["k1", "k2", "k3"]);
    let field = |name| entries[0].field(name);
    assert_eq!(field("title"), Some("A {\"}quoted{\"} title"));
    assert_eq!(field("publisher"), Some("ACM Press, Inc."));
    assert_eq!((field("month"), field("year")), (Some("January~1"), Some("2019")));
    assert_eq!(entries[1].field("note"), None);
}

#[test]
fn an_unbalanced_entry_is_a_reject_and_the_next_is_read() {
    check(
        "@online{a, title={{Open}, date={2020}\n}\n\n@online{b, title={{B}}}",
        &["line 1: `name = value` was expected", "b"],
    );
    check(
        "@online{a, title={{Too } many}}, date={2020}\n}\n@online{b, title={{B}}}",
        &["line 1: it ends too early: a value has one closing brace too many", "b"],
    );
    check(
        "\n@online{a, title=\"open, date={2020}\n}\n  @online{b, title={{B}}}",
        &["line 2: a quotation mark is never closed", "b"],
    );
    check("@online{a, title={{Cut off", &["line 1: a brace is never closed"]);
    check(
        "@online{a, title={{Open, date={2020}\n}\n@online{b, title={{B}}}",
        &["line 1: a brace is never closed", "b"],
    );
    check("@online{a, nonsense\n}\n@b{c}", &["line 1: `name = value` was expected", "c"]);
    check("@online{title={no key}}\n@b{c}", &["line 1: it has no key", "c"]);
    check("@online{,}\n@b{c,", &["line 1: it has no key", "line 2: `name = value` was expected"]);
}

#[test]
fn a_line_like_an_entrys_first_may_stand_within_a_value() {
    for value in [
        "{{A tale of\n@online{foo} and more}}",
        "{How to cite:\n  @misc{x, title = {y}, url = {z}}\nend}",
        "\"Quoted\n@misc{x, title = {y}}\nend\"",
        "{@online{at once}}",
        "{\n@a{b\n@c{d}}}",
    ] {
        for after in ["}", ",\n url = {u}\n}", ", note = 7}", " # {}\n}"] {
            let text = format!("@online{{a, title = {value}{after}\n@online{{b, title={{{{B}}}}}}");
            check(&text, &["a", "b"]);
            let title = &value[1..value.len() - 1];
            assert_eq!(one(&text).field("title"), Some(title), "{text}");
        }
    }
    // Not closed, it is the next entry, also where a later entry has one brace too many.
    check(
        "@online{a, title={{Open}, date={2020}\n}\n@b{b, t={u}}\n@b{c, t={u}}}}\n@b{d, t={u}}",
        &[
            "line 1: `name = value` was expected",
            "b",
            "line 4: it ends too early: a value has one closing brace too many",
            "d",
        ],
    );
    check(
        "@online{a, title={{{Open}, date={2020}\n}\n@b{b, t={u}}}\n@b{c, t={u}}",
        &[
            "line 1: a brace or a quotation mark is never closed",
            "line 3: it ends too early: a value has one closing brace too many",
            "c",
        ],
    );
}

#[test]
fn a_text_that_ends_within_an_entry_is_known_as_such() {
    for (text, is_open) in [
        ("@a{b}", false),
        ("@a{b, c={d}}\n@a{c, t={", true),
        ("@a{b, c={d}}\n@a{c, t={{e}}", true),
        ("@a{b, c={d}}\n@a{c, t={{e}},\n  da", true),
        ("@a{b, c={d}}\n@a{c:2", true),
        ("@a{b, c={d\n@a{c}", false),
        ("@a{b, c d}\n", false),
    ] {
        let mut reader = Reader::new(text);
        reader.by_ref().for_each(drop);
        assert_eq!(reader.is_open_at_end(), is_open, "{text}");
    }
}

#[test]
fn a_malformed_entry_has_its_key() {
    let keys: Vec<_> = Reader::new("@a{k:1, b c}\n@a{=}\n@a{k:2, t={{u}, d={2020}\n}")
        .map(|item| item.unwrap_err().key)
        .collect();
    assert_eq!(keys, [Some("k:1"), None, Some("k:2")]);
}

#[test]
fn macros_have_their_limits() {
    let mut doubling = String::from("@string{a0 = {lol}}");
    for n in 0..40 {
        doubling.push_str(&format!("@string{{a{} = a{n} # a{n}}}", n + 1));
    }
    doubling.push_str("@online{k, title = a40, note = a3}");
    let mut reader = Reader::new(&doubling);
    let entry = reader.next().unwrap().unwrap();
    assert!(entry.field("title").map_or(0, str::len) <= JOINED_MAX);
    assert!(reader.cut() > 0 && reader.macro_bytes <= EXPANDED_MIN);
    assert_eq!(entry.field("note").map(str::len), None, "nothing is left for it");
    let entry_of = |text: &str| {
        Reader::new(text).last().unwrap().unwrap().field("title").unwrap_or_default().len()
    };
    let long = "x".repeat(3 * JOINED_MAX);
    assert_eq!(entry_of(&format!("@string{{a={{{long}}}}}@a{{k, title = a}}")), JOINED_MAX);
    assert_eq!(entry_of(&format!("@a{{k, title = {{{long}}}}}")), long.len());
    let used =
        format!("@string{{a={{{}}}}}{}", "x".repeat(1000), "@a{k, title=a}\n".repeat(100_000));
    let total: usize = Reader::new(&used)
        .map(|entry| entry.unwrap().field("title").unwrap_or_default().len())
        .sum();
    assert!(total <= used.len(), "{total}");
}

#[test]
fn what_is_between_entries_is_passed_over() {
    check("<html><body>no bibliography @ all</body></html>", &[]);
    check("x@a{b}y @ {c} @d e @f{g}", &["b", "g"]);
    check("@comment{never closed\n@a{b}", &["b"]);
}

#[test]
fn a_hostile_text_is_read_in_one_pass() {
    for (piece, rejects) in
        [("\n@a{b,c={", 100_000), ("@a{b,c={", 1), ("@a{b,c=\"", 1), ("\n@comment{", 0), ("@", 0)]
    {
        let text = piece.repeat(100_000);
        let began = std::time::Instant::now();
        assert_eq!(Reader::new(&text).count(), rejects, "{piece}");
        assert!(began.elapsed().as_secs() < 20, "{piece}: {:?}", began.elapsed());
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "[@a{}()\"=,#\\\\ \n%é-]{0,200}") {
        for entry in Reader::new(&text).flatten() {
            for (_, value) in &entry.fields {
                text::plain(value);
                text::authors(value);
                date::read(value);
                date::read_parts(value, Some(value), Some(value));
            }
        }
    }

    #[test]
    fn whatever_stands_before_it_a_sound_entry_on_a_line_of_its_own_is_read(text in "[@a{}\"=, \n]{0,80}") {
        let text = format!("{text}\n@online{{last:1, title = {{{{T}}}}}}\n");
        // Unless what stands before it opened a comment, which may hold anything.
        prop_assume!(!text.contains("comment"));
        let last = Reader::new(&text).last().unwrap();
        let is_read = last.is_ok_and(|entry| entry.key == "last:1" && entry.field("title").is_some());
        prop_assert!(is_read, "{}", text);
    }
}
