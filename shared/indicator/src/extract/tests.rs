//! What is found and what is left alone.

use proptest::prelude::*;

use super::ids::is_hash;
use super::*;
use crate::{normal, parse, refang};

fn shown(text: &str) -> Vec<String> {
    let found = extract(text);
    for indicator in &found.indicators {
        assert!(text.contains(&indicator.raw), "raw is a part of the text: {indicator:?}");
        let again = parse(Some(indicator.kind), &indicator.value).unwrap();
        assert_eq!((again.kind, &again.value), (indicator.kind, &indicator.value), "a fixed point");
    }
    let indicators =
        found.indicators.iter().map(|indicator| format!("{} {}", indicator.kind, indicator.value));
    indicators.chain(found.cves).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(shown(text), expected, "in `{text}`");
}

#[test]
fn finds_defanged_names_and_urls_in_prose() {
    check(
        "It calls evil[.]com, then cdn.evil[.]co.uk.",
        &["domain evil.com", "hostname cdn.evil.co.uk"],
    );
    check("(hxxp://evil.com/a.php?x=1).", &["url http://evil.com/a.php?x=1"]);
    check("hxxps[://]evil[.]com/(a)/b) and", &["url https://evil.com/(a)/b"]);
    check("http://evil[.]com:8080", &["url http://evil.com:8080/"]);
    check("evil [dot] com and eve (at) evil (dot) com", &["domain evil.com", "email eve@evil.com"]);
    check("eve@evil[.]com or eve[@]good.com", &["email eve@evil.com", "email eve@good.com"]);
    check(
        "evil[.]com/gate[.]php a[.]com/b[.]org",
        &["url evil.com/gate.php", "domain a.com", "domain b.org"],
    );
    check("evil[.]com:443 www[.]evil[.]com/", &["domain evil.com", "hostname www.evil.com"]);
    check(
        "Markdown: evil\\[.\\]com, evil\\.com, cmctt.]com, a[.com",
        &["domain evil.com", "domain cmctt.com", "domain a.com"],
    );
    check("an evil[.]com-based kit; evil[.]netThe end", &["domain evil.com", "domain evil.net"]);
    check(
        "hxxp://a.com/x,2018-07-02 hxxp://b.com/y;hxxp://c.com/z",
        &["url http://a.com/x", "url http://b.com/y", "url http://c.com/z"],
    );
    check("攻击者使用evil[.]com进行，例え[.]com。", &["domain evil.com", "domain xn--r8jz45g.com"]);
    check("пример[.]рф “b[.]org”", &["domain xn--e1afmkfd.xn--p1ai", "domain b.org"]);
    check("https://www.google.com/url?q=evil[.]com", &["domain evil.com"]);
    check(
        "*.evil[.]com http[:]//192.0.2[.]1/x 192.0.2[.]2/y",
        &["domain evil.com", "url http://192.0.2.1/x", "url 192.0.2.2/y"],
    );
}

#[test]
fn ends_a_url_where_its_sentence_goes_on() {
    check(
        "hxxp://evil[.]com/a_(b) sftp://192.0.2[.]4/x",
        &["url http://evil.com/a_(b)", "url sftp://192.0.2.4/x"],
    );
    check(
        "hxxp://evil[.]com/a\\r\\nhxxp://b[.]com",
        &["url http://evil.com/a", "url http://b.com/"],
    );
}

#[test]
fn leaves_plain_names_and_lookalikes_alone() {
    for text in [
        "See https://example.com/a?b=c, example.com, eve@example.com or http://docs.rs/x.",
        "secur32[.]dll, payload[.]exe, a[.]b[.]c, [.]com, x[.] y, [.], hxxp, hxxp://, hxxp://localhost/",
        "array[0].name(at) f(.x) s[i].y [1]. see [dot] files; std::vec::Vec a::b dead::beef",
        "regex [.]+ (.)* \\.rs C:\\.ssh\\config",
        "12:30:45 00:1a:2b:3c:4d:5e 12:34:56:78:9a:bc:de:f0 fe80::1 ::1 fd00::1",
    ] {
        check(text, &[]);
    }
}

#[test]
fn finds_plain_addresses_that_are_public_and_no_versions() {
    check(
        "C2 at 203.0.113.7, 45.9.148.3:8080 and 45.9.148.0/24.",
        &["ipv4 203.0.113.7", "ip:port 45.9.148.3:8080", "cidr 45.9.148.0/24"],
    );
    check("8.8.8.8", &["ipv4 8.8.8.8"]);
    check("the IP address 8.8.8.8. Next", &["ipv4 8.8.8.8"]);
    check("45.9.148.3-45.9.148.9", &["ipv4 45.9.148.3", "ipv4 45.9.148.9"]);
    check(
        "http://45.9.148.3/a.sh https://45.9.148.4:81/b",
        &["ipv4 45.9.148.3", "ip:port 45.9.148.4:81"],
    );
    check(
        "2001:db8::1 [2001:db8::2]:443 address:2001:db8::3, 2001:db8::/32",
        &[
            "ipv6 2001:db8::1",
            "ip:port [2001:db8::2]:443",
            "ipv6 2001:db8::3",
            "cidr 2001:db8::/32",
        ],
    );
    check(
        "::ffff:45.9.148.3 2001[:]db8[:][:]5 2001:db8[::]6",
        &["ipv4 45.9.148.3", "ipv6 2001:db8::5", "ipv6 2001:db8::6"],
    );
    check(
        "10[.]0.0.1 192.168[.]0[.]1:80 127(.)0(.)0(.)1 185.178.209[.]193[:]443",
        &[
            "ipv4 10.0.0.1",
            "ip:port 192.168.0.1:80",
            "ipv4 127.0.0.1",
            "ip:port 185.178.209.193:443",
        ],
    );
    check(
        "IP:8.8.8.8 and DNS: 8.8.4.4 Mail: 9.9.9.9",
        &["ipv4 8.8.8.8", "ipv4 8.8.4.4", "ipv4 9.9.9.9"],
    );
    check("[::]:9000 0.0.0.0:80", &[]);
    check("OpenSSL 1.1.1.1, 1.1.1.2 and 45.9.148.3", &["ipv4 45.9.148.3"]);
    check("从8.8.8.8下载", &["ipv4 8.8.8.8"]);
    for text in [
        "10.0.0.1 127.0.0.1 192.168.1.1 172.16.9.9 169.254.1.1 0.0.0.0 255.255.255.0 224.0.0.1 100.64.0.1",
        "version 45.9.148.3, v45.9.148.3 firmware 45.9.148.3 (build 45.9.148.3) 45.9.148.3 and earlier",
        "versions 45.9.148.3, 45.9.148.4 and 45.9.148.5",
        "org.runner:2.19.1.0 tool==2.19.1.0 Chrome 11.0.0.5 is out; before 12.2.1.4; Chrome 120.0.6099.109",
        "1.3.6.1.4.1.311 1.2.3 tool-45.9.148.3.tar.gz 45.9.148.3.exe 45.9.148.3-beta 45.9.148.3_x",
        "https://example.com/tool/45.9.148.3/x 045.9.148.3 45.9.148.300",
    ] {
        check(text, &[]);
    }
}

#[test]
fn finds_hashes_of_the_usual_lengths_only() {
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    check(
        &format!("md5:{md5} ({}) {sha1}.exe", md5.to_uppercase()),
        &[&format!("md5 {md5}"), &format!("sha1 {sha1}")],
    );
    check(&format!("https://www.virustotal.com/gui/file/{sha256}"), &[&format!("sha256 {sha256}")]);
    check(
        &format!("hxxp://a.com/{md5}.bin"),
        &[&format!("url http://a.com/{md5}.bin"), &format!("md5 {md5}")],
    );
    check(&format!("{md5}.a[.]com"), &[&format!("hostname {md5}.a.com")]);
    check(&format!("{sha256}{sha256}"), &[&format!("sha512 {sha256}{sha256}")]);
    for text in [
        format!("{md5}0 x{md5} 0x{sha1} {md5}g"),
        "1".repeat(32),
        "12345678901234567890123456789012".to_owned(),
        "deadbeefdeadbeefdeadbeefdeadbeef".to_owned(),
        "123e4567-e89b-12d3-a456-426614174000".to_owned(),
        format!("00-{md5}-b7ad6b7169203331-01"),
        format!("https://github.com/a/b/commit/{sha1} commit {sha1} actions/checkout@{sha1}"),
    ] {
        check(&text, &[]);
    }
}

#[test]
fn finds_cve_numbers_in_any_dress() {
    check(
        "CVE-2024-1234, cve-2023-12345; CVE\u{2011}2021\u{2013}44228 (Cve-2024-1234) flawCVE-2020-0001now",
        &["CVE-2024-1234", "CVE-2023-12345", "CVE-2021-44228", "CVE-2020-0001"],
    );
    check(
        "CVE-2024-123 CVE-2024-XXXX CVE-3024-1234 XCVE-2024-1234 CVE-2024-1234567890 CVE 2024",
        &[],
    );
    check("https://nvd.nist.gov/vuln/detail/CVE-2024-1234", &["CVE-2024-1234"]);
}

#[test]
fn keeps_the_order_of_the_text_and_each_value_once() {
    let text = "b[.]org 45.9.148.3 a[.]org B[.]ORG 45.9.148.3 x[.]com/45.9.148.4";
    check(text, &["domain b.org", "ipv4 45.9.148.3", "domain a.org", "url x.com/45.9.148.4"]);
    assert_eq!(extract(text).indicators[0].raw, "b[.]org");
}

#[test]
fn stops_at_the_limit_and_says_so() {
    let text: String = (0..=MAX_INDICATORS)
        .map(|number| format!("a{number}[.]com CVE-2024-{}\n", 10_000 + number))
        .collect();
    let found = extract(&text);
    assert_eq!(
        (found.indicators.len(), found.cves.len(), found.cut),
        (MAX_INDICATORS, MAX_CVES, true)
    );
    assert!(!extract("a[.]com").cut);
}

/// Longer than any sane text, and made to be looked at again and again.
#[test]
fn hostile_text_takes_linear_time() {
    for part in [
        "[.]",
        "1.",
        "a",
        "0f",
        ":",
        "::",
        "[",
        "hxxp://",
        "1.1.1.1/",
        "(dot)",
        "a[.]",
        "é[.]",
        "2001:",
        "ve-",
        " [dot] ",
        "\\",
        "[[[.",
        "@[.]a.com",
    ] {
        let text = part.repeat(400_000 / part.len());
        assert!(extract(&text).indicators.len() <= 2, "{part}");
        refang(&text);
    }
}

fn defanged() -> impl Strategy<Value = (IndicatorKind, String, String)> {
    let dot = prop_oneof![
        Just("[.]"),
        Just("(.)"),
        Just("{.}"),
        Just("[dot]"),
        Just("(DOT)"),
        Just("[ dot ]"),
        Just(" [dot] "),
        Just("\\.")
    ];
    let scheme = prop_oneof![
        Just("hxxp://"),
        Just("hXXp://"),
        Just("hxxp[:]//"),
        Just("http[://]"),
        Just("meow://"),
        Just("h**p://"),
        Just("[hxxp://]")
    ];
    let label = "[a-z][a-z0-9]{0,8}";
    let top = prop_oneof![Just("com"), Just("org"), Just("ru"), Just("onion"), Just("xyz")];
    let name = (proptest::collection::vec(label, 1..4), top, dot.clone());
    prop_oneof![
        name.clone().prop_map(|(labels, top, dot)| {
            let plain = format!("{}.{top}", labels.join("."));
            // `us.com` is a public suffix too.
            let (kind, _) = normal::host(&plain).unwrap();
            (kind, format!("{}{dot}{top}", labels.join(".")), plain)
        }),
        (name, scheme, "(/[a-z0-9]{1,6}){0,3}").prop_map(|((labels, top, dot), scheme, path)| {
            let host = labels.join(dot);
            let plain = format!(
                "http://{}.{top}{}",
                labels.join("."),
                if path.is_empty() { "/" } else { &path }
            );
            (IndicatorKind::Url, format!("{scheme}{host}{dot}{top}{path}"), plain)
        }),
        (any::<[u8; 4]>(), dot).prop_map(|([a, b, c, d], dot)| (
            IndicatorKind::Ipv4,
            format!("{a}.{b}{dot}{c}.{d}"),
            format!("{a}.{b}.{c}.{d}")
        )),
        "[0-9a-f]{64}".prop_filter("varied", |digits| is_hash(digits)).prop_map(|digits| (
            IndicatorKind::Sha256,
            digits.to_uppercase(),
            digits
        )),
    ]
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "\\PC{0,300}") {
        shown(&text);
    }

    #[test]
    fn mixed_pieces_are_survived(parts in proptest::collection::vec(prop_oneof![
        Just("[.]"), Just("1.2.3.4"), Just("hxxp://"), Just("http://"), Just(":80"), Just("/24"), Just("a.com"), Just("com"),
        Just(" "), Just("["), Just("]"), Just("é"), Just("例"), Just("@"), Just("::"), Just("2001:db8"), Just("\\."), Just(" [dot] "),
        Just("-"), Just("d41d8cd98f00b204e9800998ecf8427e"), Just("CVE-2024-1234"), Just("/x?y=("), Just(")"), Just(";"), Just(","),
    ], 0..30)) {
        shown(&parts.concat());
    }

    #[test]
    fn what_was_defanged_is_found_in_prose(
        (kind, defanged, plain) in defanged(),
        before in prop_oneof![Just(""), Just("The server "), Just("(see "), Just("“"), Just("C2: "), Just("\n- "), Just("使用")],
        after in prop_oneof![Just(""), Just("."), Just(", which"), Just(") is"), Just("”"), Just("\r\n"), Just(" and then."), Just("进行")],
    ) {
        let text = format!("{before}{defanged}{after}");
        let found = extract(&text);
        let values: Vec<_> = found.indicators.iter().map(|found| (found.kind, found.value.as_str())).collect();
        prop_assert_eq!(values, [(kind, plain.as_str())], "in {}", text);
    }
}
