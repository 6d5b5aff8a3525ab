//! CVE numbers and hashes: runs of letters that mean what they are wherever they stand.

use super::{MAX_CVES, Search, digits};
use crate::IndicatorKind;

impl Search<'_> {
    /// `at` is the `V` of a possible `CVE-`.
    pub(super) fn cve(&mut self, at: usize) {
        let Some(start) = at.checked_sub(1) else { return };
        if !self.bytes.get(start..=at + 1).is_some_and(|word| word.eq_ignore_ascii_case(b"cve")) {
            return;
        }
        // Markup that was taken away leaves words glued together: `flawCVE-2024-1234`.
        let glued = start > 0 && self.byte(start - 1).is_ascii_alphanumeric();
        let glued_by_markup =
            glued && self.byte(start - 1).is_ascii_lowercase() && self.byte(start) == b'C';
        if glued && !glued_by_markup {
            return;
        }
        let Some((_, id)) = cve_after(self.after(at + 2)) else { return };
        if self.seen_cves.contains(&id) {
            return;
        }
        if self.cves.len() == MAX_CVES {
            self.left_out += 1;
            return;
        }
        self.seen_cves.insert(id.clone());
        self.cves.push(id);
    }

    pub(super) fn hash(&mut self, at: usize) {
        if at < self.hex_done {
            return;
        }
        let start =
            at - self.before(at).iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let end = at + self.after(at).iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        self.hex_done = end;
        let Some(kind) = IndicatorKind::of_hash_length(end - start) else { return };
        let free = !self.before(start).last().is_some_and(u8::is_ascii_alphanumeric)
            && !self.byte(end).is_ascii_alphanumeric();
        if !free
            || !matches!(
                kind,
                IndicatorKind::Md5
                    | IndicatorKind::Sha1
                    | IndicatorKind::Sha256
                    | IndicatorKind::Sha512
            )
            || start < self.host_claimed
            || !is_hash(self.slice(start, end))
            || self.is_part_of_longer_id(start, end)
            || (kind == IndicatorKind::Sha1 && self.follows_commit(start))
        {
            return;
        }
        let value = self.slice(start, end).to_ascii_lowercase();
        let claimed = self.claimed;
        self.add(start, end, kind, value);
        self.claimed = claimed;
    }

    /// Whether a group of hex digits adjoins after a hyphen, as in a UUID.
    pub(super) fn is_part_of_longer_id(&self, start: usize, end: usize) -> bool {
        let is_group = |length: usize, neighbour: u8| {
            (2..=16).contains(&length) && !neighbour.is_ascii_alphanumeric()
        };
        let left = self.before(start).strip_suffix(b"-").is_some_and(|before| {
            let length =
                before.iter().rev().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
            is_group(
                length,
                before.get(before.len().wrapping_sub(length + 1)).copied().unwrap_or(b' '),
            )
        });
        let right = self.after(end).strip_prefix(b"-").is_some_and(|after| {
            let length = after.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
            is_group(length, after.get(length).copied().unwrap_or(b' '))
        });
        left || right
    }

    pub(super) fn follows_commit(&self, start: usize) -> bool {
        const MARKS: [&[u8]; 8] =
            [b"commit/", b"commits/", b"commit ", b"commit: ", b"blob/", b"tree/", b"raw/", b"@"];
        let before = self.before(start);
        MARKS.iter().any(|mark| {
            before
                .len()
                .checked_sub(mark.len())
                .and_then(|from| before.get(from..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(mark))
        })
    }
}

/// The number behind the letters `CVE`, and how many bytes it takes: `-2024-1234`, `_2024_1234`, ` 2024-1234`, `2024-1234`.
///
/// Two spaces make none: `CVE 2024 1234` may count something.
pub(crate) fn cve_after(text: &[u8]) -> Option<(usize, String)> {
    let (first, before_year) = separator(text);
    let year = text.get(first..first + 4)?;
    let (second, before_number) = separator(text.get(first + 4..)?);
    let number_at = first + 4 + second;
    let length = digits(text.get(number_at..)?);
    let is_doubtful = matches!(
        (before_year, before_number),
        (_, Separator::None)
            | (Separator::None | Separator::Space, Separator::Space | Separator::SpacedDash)
    );
    let in_time = matches!(year, b"1999" | [b'2', b'0', b'0'..=b'9', b'0'..=b'9']);
    // The scheme of CVE records allows 19 digits; 9 is more than was ever given out and keeps out glued dates.
    if is_doubtful || !in_time || !(4..=9).contains(&length) {
        return None;
    }
    let year = std::str::from_utf8(year).ok()?;
    let number = std::str::from_utf8(text.get(number_at..number_at + length)?).ok()?;
    Some((number_at + length, ["CVE-", year, "-", number].concat()))
}

/// What stands between the parts of a CVE number.
#[derive(Clone, Copy)]
enum Separator {
    None,
    Space,
    Dash,
    SpacedDash,
}

/// Length and kind of what separates; U+2010 to U+2015 and U+2212 are dashes too, and so are `_` and `:`.
fn separator(text: &[u8]) -> (usize, Separator) {
    let space = |text: &[u8]| match text {
        [b' ', ..] => 1,
        [0xc2, 0xa0, ..] => 2,
        _ => 0,
    };
    let before = space(text);
    let rest = text.get(before..).unwrap_or_default();
    let dash = match rest {
        [b'-' | b'_' | b':', ..] => 1,
        [0xe2, 0x80, 0x90..=0x95, ..] | [0xe2, 0x88, 0x92, ..] => 3,
        _ => 0,
    };
    let after = space(rest.get(dash..).unwrap_or_default());
    match (before, dash, after) {
        (0, 0, _) => (0, Separator::None),
        (_, 0, _) => (before, Separator::Space),
        (0, _, 0) => (dash, Separator::Dash),
        _ => (before + dash + after, Separator::SpacedDash),
    }
}

/// Whether hex digits are varied enough to be a hash.
pub(super) fn is_hash(digits: &str) -> bool {
    let mut seen = 0_u16;
    for digit in digits.chars().filter_map(|letter| letter.to_digit(16)) {
        seen |= 1 << digit;
    }
    let (decimal, letters) = (seen & 0x3ff, seen & 0xfc00);
    // A random MD5 has fewer than six different digits once in 10^12 times.
    decimal != 0 && letters != 0 && seen.count_ones() >= 6
}
