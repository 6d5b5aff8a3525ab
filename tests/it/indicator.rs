//! Indicators in real lists and reports: what is found in them, counted by kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use indicator::{Indicator, IndicatorKind, extract, parse, refang};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("finds_the_indicators_of_published_reports", finds_the_indicators_of_published_reports),
    ("types_the_words_of_published_lists", types_the_words_of_published_lists),
    ("refangs_published_reports_once", refangs_published_reports_once),
];

/// Snapshot of the article policy: `SolarStorm` lists plain names, which an article does not mean as indicators, and
/// `diamondfox` is longer than the limit.
pub(crate) fn finds_the_indicators_of_published_reports() {
    let mut summary = String::new();
    for (name, text) in reports() {
        let found = extract(&text);
        for indicator in &found.indicators {
            assert!(
                text.contains(&indicator.raw),
                "{name}: `raw` of {indicator:?} is not in the text"
            );
            assert_stays(indicator);
        }
        summary += &line(&name, &found.indicators);
        summary += if found.cut { " (cut)\n" } else { "\n" };
    }
    check(
        &summary,
        &expect![[r#"
            Conti_IOCs.txt: ipv4 7, domain 3, sha256 44
            Egregor__EgregorIOCs: sha256 44
            IOCs_MaliciousJS.txt: domain 2, hostname 46, sha256 8
            Phobos_IOCs.text: sha256 50
            SolarStorm__IOCs: sha256 11
            TA551__2020-07-06-TA551-IOCs-for-Valak-with-IcedID.txt: ipv4 6, domain 6, sha256 46
            TA551__2020-07-07-TA551-IOCs-for-Ursnif-with-IcedID.txt: ipv4 8, domain 10, url 1, sha256 104
            diamondfox__diamondfox_panels.txt: url 512, md5 1, sha256 487 (cut)
        "#]],
    );
}

/// Snapshot of typing each cell of a list, where plain names count: every word of the file that has a kind.
pub(crate) fn types_the_words_of_published_lists() {
    let mut summary = String::new();
    for (name, text) in reports() {
        let mut found: Vec<Indicator> = Vec::new();
        for word in text
            .split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '<' | '>' | ';'))
        {
            let Ok(indicator) = parse(None, word) else { continue };
            assert_stays(&indicator);
            if !found
                .iter()
                .any(|known| (known.kind, &known.value) == (indicator.kind, &indicator.value))
            {
                found.push(indicator);
            }
        }
        summary += &line(&name, &found);
        summary.push('\n');
    }
    check(
        &summary,
        &expect![[r#"
            Conti_IOCs.txt: ipv4 7, domain 3, sha256 44
            Egregor__EgregorIOCs: sha256 44
            IOCs_MaliciousJS.txt: domain 2, hostname 46, sha256 8
            Phobos_IOCs.text: sha256 50
            SolarStorm__IOCs: domain 19, sha256 11
            TA551__2020-07-06-TA551-IOCs-for-Valak-with-IcedID.txt: ipv4 6, domain 6, sha256 46, filename 16
            TA551__2020-07-07-TA551-IOCs-for-Ursnif-with-IcedID.txt: ipv4 8, domain 10, url 1, sha256 104, filename 37
            diamondfox__diamondfox_panels.txt: url 889, sha256 842
        "#]],
    );
}

/// Whatever stands in a report, refanging it again changes nothing.
pub(crate) fn refangs_published_reports_once() {
    for (name, text) in reports() {
        let once = refang(&text);
        assert_eq!(refang(&once), once, "{name}");
        assert!(!once.contains("[.]") && !once.contains("hxxp"), "{name}");
    }
}

fn line(name: &str, indicators: &[Indicator]) -> String {
    let mut counts: BTreeMap<IndicatorKind, usize> = BTreeMap::new();
    for indicator in indicators {
        *counts.entry(indicator.kind).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!("{name}: {}", counts.join(", "))
}

#[track_caller]
fn assert_stays(indicator: &Indicator) {
    let again = parse(Some(indicator.kind), &indicator.value).expect("a normal form can be read");
    assert_eq!((again.kind, &again.value), (indicator.kind, &indicator.value));
}

#[track_caller]
fn check(actual: &str, expected: &Expect) {
    expected.assert_eq(actual);
}

/// Name and text of each report, sorted by name.
fn reports() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/indicator/unit42");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "LICENSE"))
        .map(|path| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            (name, fs::read_to_string(&path).expect("a readable fixture"))
        })
        .collect()
}
