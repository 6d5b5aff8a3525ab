//! Finds the few places of a text where an indicator may be, 32 bytes at a time.
//!
//! Each lane is compared with its two neighbours by arithmetic alone, which the compiler turns into vector
//! instructions; prose yields next to no places, so the rest of the extraction hardly runs.

use std::ops::ControlFlow;

const LANES: usize = 32;

/// Bytes that are looked at as one number.
const WORD: usize = 8;

/// Calls `visit` with the offset of each place, in order, until it breaks.
///
/// Places are: an opening bracket or backslash; `&` and `%`; `.` after a digit and before no space, or before `]`; `:` before
/// anything but a space; the `v` of `cve`; the start of 16 hex digits in an aligned block, of which each run of 31 or more
/// holds one; and the first byte of letters that [`super::letters`] may change.
pub(super) fn each(
    bytes: &[u8],
    mut visit: impl FnMut(usize) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut at = 0;
    while at < bytes.len() {
        let window = at.checked_sub(1).and_then(|from| bytes.get(from..from + LANES + 2));
        let padded;
        let window: &[u8; LANES + 2] = match window.and_then(|window| window.try_into().ok()) {
            Some(window) => window,
            None => {
                padded = padded_window(bytes, at);
                &padded
            }
        };
        let Seen { mut marks, hex, has_lead } = look(window);
        if has_lead {
            mark_changes(bytes, at, window, &mut marks);
        }
        if marks != [0; LANES] {
            for (place, lanes) in marks.chunks_exact(WORD).enumerate() {
                if place % 2 == 0 && hex[place / 2] {
                    visit(at + place * WORD)?;
                }
                let mut lanes = word(lanes);
                // A mark is one bit, the lowest of its byte.
                while lanes != 0 {
                    visit(at + place * WORD + lanes.trailing_zeros() as usize / 8)?;
                    lanes &= lanes - 1;
                }
            }
        } else if hex[0] {
            visit(at)?;
        } else if hex[1] {
            visit(at + 16)?;
        }
        at += LANES;
    }
    ControlFlow::Continue(())
}

/// The block at `at` with a byte before and after it, filled up with spaces.
#[cold]
fn padded_window(bytes: &[u8], at: usize) -> [u8; LANES + 2] {
    let mut window = [b' '; LANES + 2];
    let skipped = usize::from(at == 0);
    let from = at.saturating_sub(1);
    let text = bytes.get(from..).unwrap_or_default();
    for (slot, byte) in window.iter_mut().skip(skipped).zip(text) {
        *slot = *byte;
    }
    window
}

/// What a block holds: places, halves of nothing but hex digits, and whether it holds the first byte of a letter that may be hidden.
struct Seen {
    marks: [u8; LANES],
    hex: [bool; 2],
    has_lead: bool,
}

#[inline(always)]
fn look(window: &[u8; LANES + 2]) -> Seen {
    let mut marks = [0_u8; LANES];
    let mut hex = [0_u8; LANES];
    let mut lead = 0_u8;
    for lane in 0..LANES {
        let (before, byte, after) = (window[lane], window[lane + 1], window[lane + 2]);
        // C2, and CD to F3: what begins letters that may be hidden, but not those of western Europe.
        lead |= u8::from(byte.wrapping_sub(0xcd) <= 0xf3 - 0xcd) | u8::from(byte == 0xc2);
        // `[`, `\`, `{` and, for nothing, `|`; `%` and `&`.
        let open = u8::from((byte | 0x20).wrapping_sub(b'{') <= 1)
            | u8::from(byte == b'(')
            | u8::from(byte.wrapping_sub(b'%') <= 1);
        let is_followed = u8::from(after > b' ');
        let after_digit = u8::from(before.wrapping_sub(b'0') <= 9) & is_followed;
        let dot = u8::from(byte == b'.') & (after_digit | u8::from(after == b']'));
        let colon = u8::from(byte == b':') & is_followed;
        let cve = u8::from(byte | 0x20 == b'v')
            & u8::from(before | 0x20 == b'c')
            & u8::from(after | 0x20 == b'e');
        marks[lane] = open | dot | colon | cve;
        hex[lane] = u8::from(byte.wrapping_sub(b'0') <= 9)
            | u8::from((byte | 0x20).wrapping_sub(b'a') <= 5);
    }
    let all = |half: &[u8]| half.iter().fold(1, |all, one| all & one) == 1;
    Seen { marks, hex: [all(&hex[..16]), all(&hex[16..])], has_lead: lead != 0 }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Marks the first byte of letters that may be hidden or stand for a plain one.
fn mark_changes(bytes: &[u8], at: usize, window: &[u8; LANES + 2], marks: &mut [u8; LANES]) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    for (place, lanes) in window[1..=LANES].chunks_exact(WORD).enumerate() {
        let lanes = word(lanes);
        if lanes & HIGH == 0 {
            continue;
        }
        let low = lanes & !HIGH;
        // The high bit of each byte that is this number or above; it holds for bytes beyond ASCII.
        let from = |first: u8| low + ONES * u64::from(0x80 - (first & 0x7f));
        // C2; CD to E3; EF to F3: not the letters of western Europe, nor ideographs.
        let leads =
            (from(0xc2) & !from(0xc3)) | (from(0xcd) & !from(0xe4)) | (from(0xef) & !from(0xf4));
        let mut leads = leads & lanes & HIGH;
        while leads != 0 {
            let lane = place * WORD + leads.trailing_zeros() as usize / 8;
            leads &= leads - 1;
            if lane < LANES && may_change(bytes.get(at + lane..).unwrap_or_default()) {
                marks[lane] = 1;
            }
        }
    }
}

/// Whether a letter may be hidden or stand for a plain one; generous, as it is looked at again.
fn may_change(bytes: &[u8]) -> bool {
    // In prose of east Asia most such marks have another ideograph behind them.
    let plain_follows = || matches!(bytes.get(3), Some(b'!'..=b'~' | 0xef));
    let [first, second, third @ ..] = bytes else { return false };
    let third = third.first().copied().unwrap_or_default();
    match (first, second) {
        (0xc2, 0xad) | (0xcd, 0x8f) | (0xd8, 0x9c) | (0xf0, 0x9b | 0x9d) | (0xf3, 0xa0) => true,
        (0xe1, 0x85 | 0x9e | 0xa0) | (0xe2, 0x81) => true,
        (0xe2, 0x80) => matches!(third, 0x8b..=0x91 | 0xa4 | 0xaa..=0xaf),
        (0xe3, 0x80) => matches!(third, 0x82 | 0x8c | 0x90) && plain_follows(),
        (0xe3, 0x85) => third == 0xa4,
        (0xef, 0xbc) => {
            matches!(third, 0x90..=0x99 | 0xa1..=0xba) || (third != 0x8c && plain_follows())
        }
        (0xef, 0xbd) => third <= 0xa1,
        (0xef, 0xb8 | 0xb9 | 0xbb | 0xbe | 0xbf) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        let end = each(text.as_bytes(), |at| {
            found.push(at);
            ControlFlow::Continue(())
        });
        assert!(end.is_continue());
        found
    }

    #[test]
    fn finds_a_place_wherever_it_stands_in_its_block() {
        for shift in 0..100 {
            let text = format!("{}[", "x".repeat(shift));
            assert_eq!(places(&text), [shift]);
            let text = format!("{}1.2{}", "x".repeat(shift), " ".repeat(shift));
            assert_eq!(places(&text), [shift + 1]);
            let text = format!("{}{} ", " ".repeat(shift), "a1".repeat(16));
            assert!(!places(&text).is_empty(), "{text}");
        }
    }

    #[test]
    fn prose_has_no_places() {
        let text =
            "Twelve plans, ends. Begins: again; and 3 beads (no, not here) were faded at 12 pm.";
        assert_eq!(places(text), [text.find('(').unwrap()]);
    }

    #[test]
    fn marks_whatever_letters_may_change() {
        for letter in '\u{80}'..=char::MAX {
            for (before, after) in [('a', 'a'), ('[', ']'), ('1', '.')] {
                let text = format!("{before}{letter}{after}");
                if crate::letters::is_changed(&text, 1) {
                    assert!(places(&text).contains(&1), "U+{:04X}", u32::from(letter));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(text in "[ .:\\[\\](v{CVEe\\-19a&%}\\\\]{0,200}") {
            let bytes = text.as_bytes();
            let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
            let expected: Vec<usize> = (0..bytes.len()).filter(|&index| {
                let before = index.checked_sub(1).map_or(b' ', at);
                let after = at(index + 1);
                match bytes[index] {
                    b'[' | b'(' | b'{' | b'\\' | b'|' | b'%' | b'&' => true,
                    b'.' => after == b']' || (before.is_ascii_digit() && after > b' '),
                    b':' => after > b' ',
                    b'v' | b'V' => matches!(before, b'c' | b'C') && matches!(after, b'e' | b'E'),
                    _ => false,
                }
            }).collect();
            let mut found = places(&text);
            found.retain(|&index| !bytes[index].is_ascii_hexdigit() || expected.contains(&index));
            prop_assert_eq!(found, expected);
        }
    }
}
