//! Plain IP addresses, and what tells them from version numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Search, digits, is_word};
use crate::refang::may_open;
use crate::{IndicatorKind, normal};

impl<'t> Search<'t> {
    pub(super) fn ipv4(&mut self, at: usize) {
        if at < self.dots_done {
            return;
        }
        let inside = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let limit = self.dots_done;
        let start = at
            - self
                .before(at)
                .get(limit..)
                .unwrap_or_default()
                .iter()
                .rev()
                .take_while(inside)
                .count();
        let mut end = at + self.after(at).iter().take_while(inside).count();
        self.dots_done = end;
        while end > start && self.byte(end - 1) == b'.' {
            end -= 1;
        }
        if start < self.claimed || end - start > "255.255.255.255".len() {
            return;
        }
        let Ok(ip) = self.slice(start, end).parse::<Ipv4Addr>() else { return };
        if !self.stands_free(start, end) {
            return;
        }
        let (kind, to) = if self.is_device(start) { (None, end) } else { self.with_suffix(end) };
        // `7.0.3.1/2` names two versions.
        let has_tail = kind == Some(IndicatorKind::IpPort) || to >= end + "/24".len();
        if let Some(by_smallness) = self.version(ip, start, end, has_tail) {
            self.last_version = Some((end, by_smallness));
            return;
        }
        if !is_public_v4(ip) {
            return;
        }
        self.address_end = to;
        self.add_address(kind, start, to, IpAddr::V4(ip));
    }

    /// Whether a dotted quad is a word of its own, or the host of a URL.
    pub(super) fn stands_free(&self, start: usize, end: usize) -> bool {
        let after = self.byte(end);
        let after_is_free = match after {
            b'_' => false,
            b'.' => !is_word(self.byte(end + 1)),
            // A range continues an address; `1.2.3.4-1.el7` is a package.
            b'-' => {
                let digits = digits(self.after(end + 1));
                let next = self.byte(end + 1 + digits);
                let is_quad = next == b'.' && !self.byte(end + 2 + digits).is_ascii_alphabetic();
                !self.byte(end + 1).is_ascii_alphabetic()
                    && (digits == 0
                        || (digits <= 3
                            && (is_quad || !(is_word(next) || matches!(next, b'-' | b'_')))))
            }
            b'+' | b'~' => !is_word(self.byte(end + 1)),
            b'[' | b'(' | b'{' | b'\\' => !may_open(self.bytes, end),
            _ => !after.is_ascii_alphanumeric(),
        };
        let before = self.before(start);
        let before_is_free = match before {
            [.., b'_' | b'\\' | b'.' | b'+'] => false,
            // What is left of `1.2[.]3.4.5.6`.
            [.., b'.', b']' | b')' | b'}'] => false,
            // A range continues an address; `tool-1.2.3.4` is a version.
            [.., byte, b'-'] => !byte.is_ascii_alphanumeric() || self.address_end == start - 1,
            [.., byte, b'/'] => *byte == b'/' || !self.is_in_path(start) || self.is_device(start),
            [.., byte] => !byte.is_ascii_alphanumeric(),
            [] => true,
        };
        after_is_free && before_is_free
    }

    /// Whether the slash before `start` belongs to a URL's or file's path.
    pub(super) fn is_in_path(&self, start: usize) -> bool {
        const LOOK_BACK: usize = 128;
        let before = self.before(start);
        let near = before.get(before.len().saturating_sub(LOOK_BACK)..).unwrap_or_default();
        let word = near
            .iter()
            .rposition(u8::is_ascii_whitespace)
            .map_or(near, |space| near.get(space + 1..).unwrap_or_default());
        word.iter().any(u8::is_ascii_alphabetic)
    }

    /// Kind and end of an address with what may follow it: a port or a prefix length.
    fn with_suffix(&self, end: usize) -> (Option<IndicatorKind>, usize) {
        let sign = self.byte(end);
        let length = digits(self.after(end + 1));
        let to = end + 1 + length;
        let next = self.byte(to);
        let ends = !next.is_ascii_alphanumeric()
            && next != b'_'
            && !(matches!(next, b'.' | b':') && self.byte(to + 1).is_ascii_alphanumeric());
        match sign {
            b':' if (1..=5).contains(&length) && ends => (Some(IndicatorKind::IpPort), to),
            b'/' if (1..=3).contains(&length) && ends && next != b'/' => {
                (Some(IndicatorKind::Cidr), to)
            }
            _ => (None, end),
        }
    }

    pub(super) fn add_address(
        &mut self,
        kind: Option<IndicatorKind>,
        from: usize,
        to: usize,
        ip: IpAddr,
    ) {
        let text = self.slice(from, to);
        let read = match kind {
            Some(IndicatorKind::IpPort) => normal::address_with_port(text),
            Some(_) => normal::range(text).filter(|(_, value)| !value.ends_with("/0")),
            None => None,
        };
        match read {
            Some((kind, value)) => self.add(from, to, kind, value),
            None => {
                let length = text.len()
                    - text.trim_start_matches(|letter: char| letter != ':' && letter != '/').len();
                let to = if kind.is_some() && ip.is_ipv4() { from + length } else { to };
                if let Some((kind, value)) = normal::address(&ip.to_string()) {
                    self.add(from, to, kind, value);
                }
            }
        }
    }

    pub(super) fn ipv6(&mut self, at: usize) {
        if at < self.colons_done {
            return;
        }
        let inside = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(**byte, b':' | b'.');
        let limit = self.colons_done;
        let mut start = at
            - self
                .before(at)
                .get(limit..)
                .unwrap_or_default()
                .iter()
                .rev()
                .take_while(inside)
                .count();
        let mut end = at + self.after(at).iter().take_while(inside).count();
        self.colons_done = end;
        // `address:2001:db8::1`: the first colon ends a word.
        if self.before(start).last().is_some_and(|byte| is_word(*byte)) {
            start = at + 1;
        } else if self.byte(start) == b':' && self.byte(start + 1) != b':' {
            start += 1;
        }
        while end > start
            && (self.byte(end - 1) == b'.'
                || (self.byte(end - 1) == b':' && self.byte(end - 2) != b':'))
        {
            end -= 1;
        }
        if end < start + 3 || end - start > 45 || start < self.claimed {
            return;
        }
        let neighbours_are_free = !is_word(self.byte(end))
            && self.byte(end) != b'_'
            && !self.before(start).last().is_some_and(|byte| is_word(*byte) || *byte == b'_');
        let Ok(ip) = self.slice(start, end).parse::<Ipv6Addr>() else { return };
        let public = match ip.to_canonical() {
            IpAddr::V4(ip) => is_public_v4(ip),
            IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
        };
        if !neighbours_are_free || !public {
            return;
        }
        if self.before(start).last() == Some(&b'[') && self.byte(end) == b']' {
            if let (Some(IndicatorKind::IpPort), to) = self.with_suffix(end + 1) {
                return self.add_address(
                    Some(IndicatorKind::IpPort),
                    start - 1,
                    to,
                    IpAddr::V6(ip),
                );
            }
        } else if let (Some(IndicatorKind::Cidr), to) = self.with_suffix(end) {
            return self.add_address(Some(IndicatorKind::Cidr), start, to, IpAddr::V6(ip));
        }
        self.add_address(None, start, end, ip.to_canonical());
    }
}

/// Whether an address could be reached over the Internet; ranges for documentation count.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [first, second, third, _] = ip.octets();
    let shared = first == 100 && second & 0xc0 == 64;
    let benchmark = first == 198 && second & 0xfe == 18;
    let protocol = first == 192 && second == 0 && third == 0;
    !(first == 0
        || first >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || shared
        || benchmark
        || protocol)
}
