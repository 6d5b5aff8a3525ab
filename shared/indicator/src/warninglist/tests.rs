//! Each form with what exact matching misses, the limits, and what any bytes do.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ALL: &[&str] = &[
    "ip-src",
    "ip-dst|port",
    "domain",
    "url",
    "email-src",
    "filename|md5",
    "sha256",
    "filename",
    "AS",
];

fn list(form: &str, attributes: &[&str], entries: &[&str]) -> Value {
    json!({
        "description": "", "list": entries, "matching_attributes": attributes, "name": form, "type": form, "version": 7,
    })
}

fn read(lists: &[Value]) -> Read {
    let mut reader = Reader::default();
    for (place, list) in lists.iter().enumerate() {
        reader.add(&format!("{place}.json"), list.to_string().as_bytes());
    }
    reader.finish()
}

/// Whether each value, of the kind that it is read as, is on the list.
#[track_caller]
fn check(form: &str, attributes: &[&str], entries: &[&str], expected: &[(&str, bool)]) {
    let read = read(&[list(form, attributes, entries)]);
    assert_eq!(read.rejects, Vec::<String>::new());
    for (value, is_on) in expected {
        let found = crate::parse(None, value).unwrap();
        let hits = read.lists.hits(found.kind, &found.value);
        assert_eq!(!hits.is_empty(), *is_on, "{form} {entries:?}: {found:?}");
    }
}

#[test]
fn ranges_hold_addresses_with_and_without_a_port_and_ranges_that_share_one() {
    check(
        "cidr",
        ALL,
        &[
            "10.0.0.0/8",
            "8.8.8.8",
            "2001:DB8::/32",
            "::ffff:9.9.9.9",
            "192.0.2.77/24",
            "10.1.0.0/16",
        ],
        &[
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("10[.]0.0.0", true),
            ("8.8.8.8:53", true),
            ("8.8.8.9", false),
            ("[2001:db8::1]:443", true),
            ("2001:db9::", false),
            ("9.9.9.9", true),
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("10.9.0.0/16", true),
            ("8.8.0.0/16", true),
            ("8.9.0.0/16", false),
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("2001:db8::/128", true),
            ("http://10.1.2.3:8080/a", true),
            ("http://u@[2001:db8::1]/", true),
            ("http://11.1.2.3/", false),
            ("a@10.example.com", false),
        ],
    );
    // A range of all IPv6 holds no address of IPv4.
    check("cidr", ALL, &["::/0"], &[("1.2.3.4", false), ("::1", true)]);
}

#[test]
fn a_hostname_holds_what_is_below_it_and_the_hosts_of_urls_and_mail() {
    check(
        "hostname",
        ALL,
        &[".google.com", "BIT.ly", "*.cdn.example.org.", "m\u{fc}nchen.example.de", "1.2.3.4"],
        &[
            ("google.com", true),
            ("a.b.google.com", true),
            ("notgoogle.com", false),
            ("google.com.evil.net", false),
            ("bit.ly", true),
            ("https://bit.ly/abc", true),
            ("http://user@www.bit.ly:8080?bit.ly", true),
            ("https://evil.com/bit.ly", false),
            ("https://bit.ly@evil.com/", false),
            ("bit.ly/abc", true),
            ("someone@mail.google.com", true),
            ("google.com@evil.net", false),
            ("cdn.example.org", true),
            ("example.org", false),
            ("www.m\u{fc}nchen.example.de", true),
            ("https://1.2.3.4/x", true),
            ("https://9.1.2.3.4.example.net/x", false),
        ],
    );
}

#[test]
fn a_string_is_the_whole_value_in_whatever_case() {
    check(
        "string",
        ALL,
        &[
            "D41D8CD98F00B204E9800998ECF8427E",
            "Setup.EXE",
            "2001:0DB8:0:0::1",
            "example.com",
            ".google.ad",
            "http://Evil.example.com",
            "AS15169",
            "1.2.3.4",
        ],
        &[
            ("d41d8cd98f00b204e9800998ecf8427e", true),
            ("setup.exe", true),
            ("2001:db8::1", true),
            ("example.com", true),
            ("www.example.com", false),
            ("https://example.com/a", true),
            ("https://www.example.com/a", false),
            ("google.ad", true),
            ("www.google.ad", true),
            ("http://evil.example.com/", true),
            ("as15169", true),
            ("1.2.3.4:80", true),
            ("a@example.com", true),
        ],
    );
}

#[test]
fn a_substring_is_anywhere() {
    check(
        "substring",
        ALL,
        &["VirusTotal.com", "@0815.ru"],
        &[
            ("https://www.virustotal.com/gui", true),
            ("virustotal.com.example.net", true),
            ("virustotal.net", false),
            ("a@0815.ru", true),
            ("0815.ru", false),
        ],
    );
}

#[test]
fn a_pattern_is_read_as_php_and_python_write_it() {
    check(
        "regex",
        ALL,
        &[
            "/^(security|noc|abuse)\\@.*\\..*$/i",
            "^evil[0-9]+\\.com$",
            "#/gate\\.php$#g",
            "/^\u{e9}/iu",
        ],
        &[
            ("Security@example.com", true),
            ("insecurity@example.com", false),
            ("evil12.com", true),
            ("evil.com", false),
            ("http://a.example.com/gate.php", true),
            ("http://a.example.com/gate.phps", false),
        ],
    );
}

#[test]
fn a_pattern_that_takes_more_than_linear_time_or_matches_everything_is_refused() {
    let read = read(&[list(
        "regex",
        ALL,
        &["/(a)\\1/", "/(?=a)b/", "/(?:a{1000}){1000}/", "/.*/", "/a/U", "/(/", "/fine\\.com/"],
    )]);
    assert_eq!((read.rejected, read.rejects.len()), (6, 3), "{:?}", read.rejects);
    assert!(read.rejects[0].contains("backreferences"), "{:?}", read.rejects);
    assert_eq!(read.lists.lists().next().unwrap().entries, 1);
    assert_eq!(read.lists.hits(IndicatorKind::Domain, "fine.com").len(), 1);
}

#[test]
fn a_list_is_asked_only_for_what_it_is_meant_for() {
    let on = |attributes: &[&str], form: &str, entry: &str, value: &str| {
        let read = read(&[list(form, attributes, &[entry])]);
        let found = crate::parse(None, value).unwrap();
        !read.lists.hits(found.kind, &found.value).is_empty()
    };
    for (attribute, form, entry, value, is_on) in [
        ("hostname", "hostname", "bit.ly", "bit.ly", true),
        ("hostname", "hostname", "bit.ly", "https://bit.ly/a", false),
        ("url", "hostname", "bit.ly", "bit.ly", false),
        ("url", "hostname", "bit.ly", "https://bit.ly/a", true),
        ("domain", "hostname", "bit.ly", "a@bit.ly", false),
        ("email-dst", "hostname", "bit.ly", "a@bit.ly", true),
        ("domain", "cidr", "10.0.0.0/8", "10.0.0.1", false),
        ("ip-src", "cidr", "10.0.0.0/8", "10.0.0.1:80", true),
        ("ip-src", "cidr", "10.0.0.0/8", "http://10.0.0.1/", false),
        ("domain|ip", "cidr", "10.0.0.0/8", "10.0.0.1", true),
        (
            "filename|md5",
            "string",
            "d41d8cd98f00b204e9800998ecf8427e",
            "d41d8cd98f00b204e9800998ecf8427e",
            true,
        ),
        (
            "sha1",
            "string",
            "d41d8cd98f00b204e9800998ecf8427e",
            "d41d8cd98f00b204e9800998ecf8427e",
            false,
        ),
        ("domain", "substring", "virustotal", "https://virustotal.com/", false),
        ("url", "regex", "/virustotal/", "https://virustotal.com/", true),
        ("vulnerability", "string", "cve-2021-44228", "CVE-2021-44228", true),
    ] {
        assert_eq!(on(&[attribute], form, entry, value), is_on, "{attribute} {form}: {value}");
    }
    let read =
        read(&[list("string", &["phone-number"], &["555"]), list("cidr", ALL, &["1.1.1.1"])]);
    assert_eq!((read.lists.lists().count(), read.rejected), (1, 0));
}

#[test]
fn a_hit_says_name_version_and_what_it_means() {
    let mut known = list("hostname", ALL, &["example.com"]);
    known["category"] = json!("known");
    known["version"] = json!("20240115");
    let mut same = list("string", ALL, &["example.com"]);
    same["name"] = json!("second");
    let read = read(&[known, same, list("cidr", ALL, &["1.1.1.1"])]);
    let hits = read.lists.hits(IndicatorKind::Domain, "example.com");
    let shown: Vec<_> = hits
        .iter()
        .map(|list| (list.name.as_str(), list.version, list.category.as_str()))
        .collect();
    assert_eq!(shown, [("hostname", 20_240_115, "known"), ("second", 7, "false_positive")]);
}

#[test]
fn what_is_malformed_is_told_and_the_rest_is_read() {
    let mut reader = Reader::default();
    for (place, json) in [
        "",
        "[]",
        "{\"name\":\"a\"}",
        "{\"name\":\"a\",\"type\":\"fuzzy\",\"matching_attributes\":[],\"list\":[]}",
        "{\"name\":\"\",\"type\":\"cidr\",\"matching_attributes\":[\"ip-src\"],\"list\":[]}",
    ]
    .into_iter()
    .enumerate()
    {
        reader.add(&place.to_string(), json.as_bytes());
    }
    reader.add("bytes", b"{\"name\":\"\xff\"}");
    assert_eq!(reader.rejects.count, 6);
    let mixed = "{\"list\":{\"0\":\"1.1.1.1\",\"7\":[\"1.0.0.1\"]},\"name\":\"a\",\"type\":\"cidr\",\"matching_attributes\":\"ip-dst\"}";
    reader.add("mixed", mixed.as_bytes());
    reader.add("again", mixed.as_bytes());
    let bad = list("cidr", ALL, &["1.2.3.4/33", "a.com", "", "9.9.9.9", "10/8", "1.1.1.1/"]);
    reader.add("bad", bad.to_string().as_bytes());
    reader.add(
        "null",
        br#"{"list":[null,true,{"a":1}],"name":"n","type":"string","matching_attributes":["md5"]}"#,
    );
    let read = reader.finish();
    assert_eq!(read.rejected, 6 + 1 + 5 + 2, "{:#?}", read.rejects);
    for ip in ["1.1.1.1", "1.0.0.1", "9.9.9.9"] {
        assert_eq!(read.lists.hits(IndicatorKind::Ipv4, ip).len(), 1, "{ip}");
    }
    let entries: Vec<_> = read.lists.lists().map(|list| list.entries).collect();
    assert_eq!(entries, [2, 1, 1]);
}

#[test]
fn limits_are_told_and_kept() {
    let read = |list: Value| read(&[list]);
    let long = "x".repeat(ENTRY_BYTES_MAX + 1);
    assert_eq!(read(list("string", ALL, &[&long, "a.com"])).rejected, 1);
    let texts: Vec<String> =
        (0..=SUBSTRINGS_BYTES_MAX / 1_000).map(|number| format!("{number:01000}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let substrings = read(list("substring", ALL, &texts));
    assert_eq!((substrings.rejected, substrings.rejects.len()), (1, 1));
    let patterns: Vec<String> =
        (0..PATTERNS_MAX + 2).map(|number| format!("/^{number}$/")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    assert_eq!(read(list("regex", ALL, &patterns)).rejected, 2);
    let mut reader = Reader::default();
    for number in 0..LISTS_MAX + 2 {
        let json =
            json!({"name": number, "type": "string", "matching_attributes": ["md5"], "list": []});
        reader.add("", json.to_string().as_bytes());
    }
    assert_eq!((reader.finish().rejected), 2);
}

#[test]
fn the_set_compiled_in_is_whole_and_knows_what_everybody_knows() {
    let read = Warninglists::built_in();
    assert_eq!(read.rejects, Vec::<String>::new());
    assert!(read.lists.lists().len() > 60, "{}", read.lists.lists().len());
    for list in read.lists.lists() {
        assert!(list.entries > 0 && list.version > 0, "{list:?}");
    }
    for (value, list) in [
        ("8.8.8.8:53", "public DNS resolvers"),
        ("192.168.1.1", "RFC 1918"),
        ("fe80::1", "link local"),
        ("www.google.com.br", "google domains"),
        ("d41d8cd98f00b204e9800998ecf8427e", "empty files"),
        ("44d88612fea8a8f36de82e1278abb02f", "EICAR"),
        ("https://bit.ly/abc", "URL Shorteners"),
        ("abuse@example.com", "contact"),
        ("104.16.0.1", "Cloudflare"),
        ("github.io", "Second level TLDs"),
    ] {
        let found = crate::parse(None, value).unwrap();
        let hits = read.lists.hits(found.kind, &found.value);
        assert!(hits.iter().any(|hit| hit.name.contains(list)), "{value}: {hits:?}");
    }
    assert_eq!(read.lists.hits(IndicatorKind::Domain, "malware-c2.example"), Vec::<&List>::new());
}

/// What a hit is, without tables: each entry after the other.
fn plainly(form: &str, entry: &str, kind: IndicatorKind, value: &str) -> bool {
    let host = match kind {
        IndicatorKind::Url => url::Url::parse(value).unwrap().host_str().unwrap().to_owned(),
        IndicatorKind::Email => value.split_once('@').unwrap().1.to_owned(),
        _ => value.to_owned(),
    };
    let below = |name: &str| host == name || host.ends_with(&format!(".{name}"));
    match form {
        "hostname" => below(entry),
        "string" => value == entry || host == entry,
        "substring" => value.contains(entry),
        _ => {
            let net: IpNet = entry.parse().unwrap();
            value.parse().is_ok_and(|ip: IpAddr| net.contains(&ip))
                || value.parse().is_ok_and(|other: IpNet| {
                    net.contains(&other.network()) || other.contains(&net.network())
                })
        }
    }
}

proptest! {
    #[test]
    fn hits_are_those_of_asking_each_entry(
        names in proptest::collection::vec("([ab]\\.){0,3}(com|org)", 1..12),
        nets in proptest::collection::vec((any::<[u8; 2]>(), 4_u8..=32), 1..12),
        hosts in proptest::collection::vec("([ab]\\.){1,4}(com|org)", 1..6),
        ips in proptest::collection::vec((any::<[u8; 2]>(), 8_u8..=32), 1..6),
    ) {
        let net = |(octets, bits): &([u8; 2], u8)| {
            IpNet::new(IpAddr::from([octets[0] & 3, octets[1], 0, 0]), *bits).unwrap().trunc().to_string()
        };
        let nets: Vec<String> = nets.iter().map(net).collect();
        let mut asked: Vec<(IndicatorKind, String)> = Vec::new();
        for host in &hosts {
            asked.push((IndicatorKind::Hostname, host.clone()));
            asked.push((IndicatorKind::Url, format!("http://{host}/{host}")));
            asked.push((IndicatorKind::Email, format!("a@{host}")));
        }
        for ip in &ips {
            let net = net(ip);
            asked.push((IndicatorKind::Ipv4, net.split_once('/').unwrap().0.to_owned()));
            asked.push((IndicatorKind::Cidr, net));
        }
        for (form, entries) in [("hostname", &names), ("string", &names), ("substring", &names), ("cidr", &nets)] {
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            let read = read(&[list(form, ALL, &entries)]);
            for (kind, value) in &asked {
                let is_on = entries.iter().any(|entry| plainly(form, entry, *kind, value));
                prop_assert_eq!(!read.lists.hits(*kind, value).is_empty(), is_on, "{} {:?} {}", form, entries, value);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        entry in "\\PC{0,40}",
        value in "\\PC{0,40}",
    ) {
        let mut reader = Reader::default();
        reader.add("bytes", &body);
        for form in ["cidr", "hostname", "string", "substring", "regex"] {
            reader.add(form, list(form, ALL, &[&entry]).to_string().as_bytes());
        }
        let read = reader.finish();
        for kind in IndicatorKind::ALL {
            read.lists.hits(kind, &value);
        }
    }
}
