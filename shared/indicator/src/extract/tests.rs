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

/// All texts of which something else is found.
#[track_caller]
fn check_each<'t>(texts: impl IntoIterator<Item = &'t str>, expected: &[&str]) {
    let wrong: Vec<_> = texts
        .into_iter()
        .map(|text| (text, shown(text)))
        .filter(|(_, found)| found != expected)
        .collect();
    assert_eq!(wrong, [], "instead of {expected:?}");
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
fn hidden_letters_split_no_name() {
    for hidden in [
        "\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{ad}", "\u{200e}",
        "\u{202c}", "\u{2066}", "\u{34f}", "&#8203;", "&shy;",
    ] {
        for text in [
            format!("Drop zone: evil{hidden}[.]{hidden}example[.]com was seen"),
            format!("Drop zone: evil.exam{hidden}ple[.]com was seen"),
            format!("(evil.example{hidden}[.]com{hidden})"),
            format!("{hidden}evil[{hidden}.{hidden}]example{hidden}.com"),
        ] {
            check(&text, &["hostname evil.example.com"]);
        }
        check(
            &format!("hxxp://ev{hidden}il.com/a{hidden}b 45.9{hidden}.148.3"),
            &["url http://evil.com/ab", "ipv4 45.9.148.3"],
        );
        check(
            &format!("CVE-2024{hidden}-1234 d41d8cd98f00b204{hidden}e9800998ecf8427e"),
            &["md5 d41d8cd98f00b204e9800998ecf8427e", "CVE-2024-1234"],
        );
    }
    let text = "x\u{200b} evil\u{200b}[.]\u{200b}example[.]com\u{200b} y";
    assert_eq!(extract(text).indicators[0].raw, "evil\u{200b}[.]\u{200b}example[.]com");
}

#[test]
fn marks_of_other_scripts_and_encodings_are_dots() {
    check_each(
        [
            "evil[\u{ff0e}]com",
            "evil[\u{3002}]com",
            "evil\u{ff3b}.\u{ff3d}com",
            "evil\u{3010}.\u{3011}com",
            "evil\u{ff08}dot\u{ff09}com",
            "evil%5B.%5Dcom",
            "evil%5b%2e%5dcom",
            "evil&#91;.&#93;com",
            "evil[&#46;]com",
            "evil&#x5b;&#x2E;&#x5d;com",
            "evil [.] com",
            "evil [ . ] com",
            "\u{ff45}vil[.]\u{ff43}om",
            "evil{.}com",
            "evil\\.com",
            "evil[DOT]com",
            "evil(dot)com",
            "evil [dot] com",
            "evil[ dot ]com",
            "\"evil[.]com\"",
            "**evil[.]com**",
            "evil[.]com\u{2026}",
            "\u{2022}evil[.]com",
            "C2\u{2014}evil[.]com",
            "text\\nevil[.]com\\n",
            "q=%22evil[.]com%22",
            "https://search.example.com/?q=evil%5B.%5Dcom",
            "evil[.]com.",
            "evil[.]com[.]",
        ],
        &["domain evil.com"],
    );
    check_each(
        [
            "hxxp://evil\u{3002}com/a",
            "hxxp\u{ff1a}\u{ff0f}\u{ff0f}evil[.]com/a",
            "hxxp%3A%2F%2Fevil.com%2Fa",
            "u=hxxp%3a%2f%2fevil%5B.%5Dcom%2fa&b",
            "hxxp&#58;//evil.com/a",
            "hxxp[:]//evil.com/a",
            "hxxp[:][/][/]evil.com/a",
            "[hxxp]://evil.com/a",
            "[evil](hxxp://evil[.]com/a)",
            "HXXP://EVIL[.]COM/a",
            "see hxxp://evil.com/a.",
        ],
        &["url http://evil.com/a"],
    );
    check(
        "198\u{3002}51\u{3002}100\u{3002}7 198[\u{ff0e}]51.100.8",
        &["ipv4 198.51.100.7", "ipv4 198.51.100.8"],
    );
}

#[test]
fn piles_of_brackets_are_dots() {
    check(
        "to 198.51.100.]]]65 and 198.51.100[.[.]66, 198[[.]]51(.)100{.}67 198.51.100.))68 198.51((.))100.69 198[.]51[[.]100.]70",
        &[
            "ipv4 198.51.100.65",
            "ipv4 198.51.100.66",
            "ipv4 198.51.100.67",
            "ipv4 198.51.100.68",
            "ipv4 198.51.100.69",
            "ipv4 198.51.100.70",
        ],
    );
    check(
        "a[[.]]com b.]]com c[.[.com (see d[[.]]com)",
        &["domain a.com", "domain b.com", "domain c.com", "domain d.com"],
    );
}

#[test]
fn urls_keep_any_scheme() {
    check(
        "ldap://q1[.]quay[.]example[.]com:1389/a and rmi://q2[.]example[.]com:1099/b.",
        &["url ldap://q1.quay.example.com:1389/a", "url rmi://q2.example.com:1099/b"],
    );
    for scheme in [
        "ldap",
        "ldaps",
        "ftp",
        "sftp",
        "tcp",
        "udp",
        "ws",
        "wss",
        "rmi",
        "smb",
        "dns",
        "iiop",
        "socks5",
        "ssh",
        "stratum+tcp",
        "mysql",
        "gopher",
        "xyz",
    ] {
        for (opening, host) in [
            ("://", "Evil[.]com"),
            ("[:]//", "evil.com"),
            ("[://]", "evil[.]Com"),
            (":[//]", "evil.com"),
        ] {
            check(
                &format!("at {scheme}{opening}{host}:8081/a."),
                &[&format!("url {scheme}://evil.com:8081/a")],
            );
        }
        check(
            &format!("{}://1.2.3[.]4:8081/a", scheme.to_uppercase()),
            &[&format!("url {scheme}://1.2.3.4:8081/a")],
        );
    }
    check("jndi:ldap://evil[.]com/a}", &["url ldap://evil.com/a"]);
    check("ldap://good.com/a rmi://good.com javascript://evil[.]com/x", &[]);
}

#[test]
fn mail_addresses_are_whole() {
    for text in [
        "first[.]last@mail[.]example[.]com",
        "first[.]last[@]mail.example.com",
        "first.last@mail[.]example.com",
        "first(dot)last(at)mail(dot)example(dot)com",
        "first[.]last [at] mail[.]example[.]com",
        "mailto:first[.]last@mail.example[.]com",
        "first.last&#64;mail[.]example.com",
        "first[.]last(@)mail.example.com",
    ] {
        check(&format!("Contact {text} for the key."), &["email first.last@mail.example.com"]);
    }
    check("a[.]com+b@evil[.]com", &["email a.com+b@evil.com"]);
    check("jo**n@gmail[.]com jos\u{e9}@gmail[.]com ...n@gmail[.]com a<at>gmail[.]com", &[]);
    check("all @evil[.]com accounts", &["domain evil.com"]);
}

#[test]
fn parts_of_names_are_no_names() {
    check_each(
        [
            "goo**e[.]com",
            "mic*****ft[.]com",
            "...ogle[.]com",
            "\u{2026}ogle[.]com",
            "exam\u{b7}ple[.]com",
            "exam\u{2013}ple[.]com",
            "exam\u{fffd}ple[.]com",
            "sub%2Eevil[.]com",
            "evil[.]com%2Ebr",
            "evil[.]com[.]{br,mx}",
            "exam~ple[.]com",
            "cdn [.]example[.]com",
            "hxxps://github[.]com:port/evil",
            "hxxps://github[.]com:99999/evil/x",
            "hxxp://secur32[.]dll/x",
            "use [.] in names, or [ . ] is it",
        ],
        &[],
    );
    check(
        "bu\u{308}cher[.]de \u{92a}\u{930}\u{940}\u{915}\u{94d}\u{937}\u{93e}[.]\u{92d}\u{93e}\u{930}\u{924}",
        &["domain xn--bcher-kva.de", "domain xn--11b5bs3a9aj6g.xn--h2brj9c"],
    );
    check("evil\u{2011}site[.]com", &["domain evil-site.com"]);
    check("1[.]2[.]3[.]4[.]5 1.2[.]3.4.5.6 1.2.3.4[.]5", &[]);
}

#[test]
fn names_of_files_are_no_hosts() {
    check_each(
        [
            "readme[.]md",
            "It drops run[.]sh and setup[.]zip.",
            "main[.]rs, a[.]py, app[.]pl and script[.]ps",
            "the archive invoice[.]mov",
            "/tmp/x[.]sh",
            "./evil[.]pl",
            "python evil[.]py",
            "evil[.]pl script",
            "the file evil[.]cc",
            "saved as stage2[.]pl",
            "report[.]pdf[.]zip",
            "executes evil[.]sh",
            "libfoo[.]so",
            "payload[.]cab",
        ],
        &[],
    );
    let hosts = [
        ("the domain evil[.]zip", "domain evil.zip"),
        ("hosted at evil[.]sh", "domain evil.sh"),
        ("bad[.]com, evil[.]sh", "domain evil.sh"),
        ("evil[.]sh domain", "domain evil.sh"),
        ("connects to evil[.]md", "domain evil.md"),
        ("downloads from evil[.]sh", "domain evil.sh"),
        ("zly[.]pl", "domain zly.pl"),
        ("cdn.evil[.]sh", "hostname cdn.evil.sh"),
        ("hxxp://evil[.]zip/x", "url http://evil.zip/x"),
        ("evil[.]zip/x", "url evil.zip/x"),
        ("eve@evil[.]zip", "email eve@evil.zip"),
    ];
    let missed: Vec<_> =
        hosts.iter().filter(|(text, host)| !shown(text).contains(&(*host).to_owned())).collect();
    assert!(missed.is_empty(), "{missed:?}");
    check("github[.]com/evil[.]sh", &["url github.com/evil.sh"]);
}

#[test]
fn leaves_plain_names_and_lookalikes_alone() {
    check_each(
        [
            "See https://example.com/a?b=c, example.com, eve@example.com or http://docs.rs/x.",
            "secur32[.]dll, payload[.]exe, a[.]b[.]c, [.]com, x[.] y, [.], hxxp, hxxp://, hxxp://localhost/",
            "array[0].name(at) f(.x) s[i].y [1]. see [dot] files; std::vec::Vec a::b dead::beef",
            "regex [.]+ (.)* \\.rs C:\\.ssh\\config",
            "12:30:45 00:1a:2b:3c:4d:5e 12:34:56:78:9a:bc:de:f0 fe80::1 ::1 fd00::1",
        ],
        &[],
    );
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
    check_each(
        [
            "10.0.0.1 127.0.0.1 192.168.1.1 172.16.9.9 169.254.1.1 0.0.0.0 255.255.255.0 224.0.0.1 100.64.0.1",
            "version 45.9.148.3, v45.9.148.3 firmware 45.9.148.3 (build 45.9.148.3) 45.9.148.3 and earlier",
            "versions 45.9.148.3, 45.9.148.4 and 45.9.148.5",
            "org.runner:2.19.1.0 tool==2.19.1.0 Chrome 11.0.0.5 is out; before 12.2.1.4; Chrome 120.0.6099.109",
            "1.3.6.1.4.1.311 1.2.3 tool-45.9.148.3.tar.gz 45.9.148.3.exe 45.9.148.3-beta 45.9.148.3_x",
            "https://example.com/tool/45.9.148.3/x 045.9.148.3 45.9.148.300",
        ],
        &[],
    );
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
    check(
        "cve-2014-1000, cve 2014-1001, CVE 2021-44228, CVE_2019_0708 and CVE\u{2013}2020\u{2013}1472",
        &["CVE-2014-1000", "CVE-2014-1001", "CVE-2021-44228", "CVE-2019-0708", "CVE-2020-1472"],
    );
    check_each(
        [
            "CVE:2024-1234",
            "CVE2024-1234",
            "CVE - 2024 - 1234",
            "CVE: 2024-1234",
            "CVE\u{a0}2024-1234",
            "CVE\u{2212}2024\u{2212}1234",
            "CVE\u{2010}2024\u{2011}1234",
            "CVE-2024_1234",
            "CVE-2024 1234",
            "CVE\u{ff0d}2024\u{ff0d}1234",
            "CVE \u{2013} 2024\u{2013}1234",
            "(cve_2024-1234)",
            "CVE_2024_1234.",
            "CVE&#45;2024&#45;1234",
        ],
        &["CVE-2024-1234"],
    );
    check(
        "CVE 2024 1234 CVE 2024 - 1234 CVEs 2024-1234 CVE20241234 CVE-24-1234 ACVE_2024_1234",
        &[],
    );
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
        (found.indicators.len(), found.cves.len(), found.cut, found.left_out),
        (MAX_INDICATORS, MAX_CVES, true, 2)
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
