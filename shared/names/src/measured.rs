//! How right the linking is: titles and texts written by hand, over all names of the galaxy, beside a plain expression of names.

use std::collections::BTreeSet;
use std::path::Path;

use regex::{Regex, RegexBuilder};

use crate::common::key;
use crate::{KnownSubjects, Names, Subject, SubjectKind};

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/names");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn subject(line: &str) -> Subject {
    let mut cells = line.split('\t');
    let kind = match cells.next() {
        Some("family") => SubjectKind::Family,
        _ => SubjectKind::Actor,
    };
    let (id, name) = (cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned());
    Subject { kind, id, name, aliases: cells.map(ToOwned::to_owned).collect() }
}

pub(crate) fn galaxy() -> Names {
    Names::of(fixture("galaxy.tsv").lines().map(subject))
}

/// What one way of finding names got right and wrong.
#[derive(Default)]
struct Score {
    right: usize,
    wrong: usize,
    missed: usize,
    slips: Vec<String>,
}

impl Score {
    /// A name counts once a text, whatever joins its words.
    fn add(&mut self, text: &str, expected: &BTreeSet<String>, found: &BTreeSet<String>) {
        self.right += expected.intersection(found).count();
        for name in found.difference(expected) {
            self.wrong += 1;
            self.slips.push(format!("+{name}  in  {text}"));
        }
        for name in expected.difference(found) {
            self.missed += 1;
            self.slips.push(format!("-{name}  in  {text}"));
        }
    }

    fn precision(&self) -> f64 {
        self.right as f64 / (self.right + self.wrong) as f64
    }

    fn recall(&self) -> f64 {
        self.right as f64 / (self.right + self.missed) as f64
    }
}

fn plain(names: &Names) -> Regex {
    let mut all: Vec<String> = names
        .subjects()
        .iter()
        .flat_map(|subject| {
            std::iter::once(subject.common_name()).chain(subject.aliases.iter().map(String::as_str))
        })
        .map(regex::escape)
        .collect();
    all.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let pattern = format!(r"\b(?:{})\b", all.join("|"));
    RegexBuilder::new(&pattern).case_insensitive(true).size_limit(1 << 30).build().unwrap()
}

#[test]
fn names_in_titles_are_found_and_words_are_not() {
    let names = galaxy();
    let regex = plain(&names);
    let (mut ours, mut rival) = (Score::default(), Score::default());
    let titles = fixture("titles.tsv");
    for line in titles.lines() {
        let mut cells = line.split('\t').skip(1);
        let (text, expected) = (cells.next().unwrap(), cells.next().unwrap());
        let expected: BTreeSet<String> =
            expected.split(';').map(key).filter(|name| !name.is_empty()).collect();
        let found = names.find(text).into_iter().filter(|found| found.counts);
        ours.add(text, &expected, &found.map(|found| key(&text[found.range])).collect());
        rival.add(
            text,
            &expected,
            &regex.find_iter(text).map(|found| key(found.as_str())).collect(),
        );
    }
    let told = |who: &str, score: &Score| {
        format!("{who}: precision {:.3}, recall {:.3}", score.precision(), score.recall())
    };
    let told = [told("names", &ours), told("plain expression", &rival)].join("\n");
    assert!(titles.lines().count() >= 200);
    let is_right = ours.precision() >= 0.98 && ours.recall() >= 0.95;
    assert!(is_right, "{told}\n{}", ours.slips.join("\n"));
    assert!(rival.precision() < ours.precision() && rival.recall() <= ours.recall(), "{told}");
    // Shown by `cargo test -p names -- --nocapture`.
    println!("{told}\n{}", ours.slips.join("\n"));
}

/// The names of those that a text means, by kind.
fn meant(text: &str, known: &KnownSubjects<'_>) -> (Vec<String>, Vec<String>) {
    let names = galaxy();
    let linked = names.link(known, &[text]);
    let of =
        |kind| names.names_of(kind, &linked.meant).into_iter().map(ToOwned::to_owned).collect();
    (of(SubjectKind::Family), of(SubjectKind::Actor))
}

#[track_caller]
fn check(text: &str, families: &[&str], actors: &[&str]) {
    let (of_families, of_actors) = meant(text, &KnownSubjects::default());
    assert_eq!(
        (of_families, of_actors),
        (
            families.iter().map(|name| (*name).to_owned()).collect(),
            actors.iter().map(|name| (*name).to_owned()).collect()
        ),
        "{text}"
    );
}

#[test]
fn a_name_that_several_bear_goes_to_whom_the_text_tells() {
    check("Hydra, a botnet", &["Hydra"], &[]);
    check("LockBit for Linux", &["LockBit (ELF)"], &[]);
    check("LockBit is back", &["LockBit (ELF)", "LockBit (OS X)", "LockBit (Windows)"], &[]);
    check("The OilRig group", &[], &["OilRig"]);
    check("win.emotet", &["Emotet"], &[]);
    check("APT-28, APT 29", &[], &["APT28", "APT29"]);
    check("https://example.org/emotet.html mail@emotet.com emotet.com @emotet", &[], &[]);
}

#[test]
fn what_is_known_of_a_reference_comes_first_and_settles_words() {
    let known = KnownSubjects { families: vec!["PLAY"], actors: vec!["Nobody At All"] };
    assert_eq!(meant("A look at Play", &known), (vec!["PLAY".to_owned()], vec![]));
    let known = KnownSubjects { families: vec!["win.qakbot"], actors: vec![] };
    assert_eq!(meant("Qbot again", &known).0, ["QakBot"]);
    let names = galaxy();
    let linked = names.link(&KnownSubjects::default(), &["A look at Play"]);
    assert!(linked.meant.is_empty());
    assert_eq!(names.names_of(SubjectKind::Family, &linked.possible), ["PLAY"]);
}

#[test]
fn any_text_is_read_in_linear_time() {
    let names = galaxy();
    let long = "Emotet and Play, ransomware ".repeat(9_000);
    assert_eq!(names.find(&long).len(), crate::FOUND_MAX);
    proptest::proptest!(|(text in "\\PC{0,200}")| { names.find(&text); });
    for odd in ["", "é", "(", "Emotet\u{0}", "\u{202e}Emotet", "Ⅳ", "ß@", "APT28@", "a://"] {
        names.find(odd);
    }
}
