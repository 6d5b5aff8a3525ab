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
    while let Some((block, BlockMarks { marks, hex })) = next(bytes, at) {
        for (place, lanes) in marks.chunks_exact(WORD).enumerate() {
            if place % 2 == 0 && hex >> (place / 2) & 1 == 1 {
                visit(block + place * WORD)?;
            }
            let mut lanes = word(lanes);
            // A mark is one bit, the lowest of its byte.
            while lanes != 0 {
                visit(block + place * WORD + lanes.trailing_zeros() as usize / 8)?;
                lanes &= lanes - 1;
            }
        }
        at = block + LANES;
    }
    ControlFlow::Continue(())
}

/// The next block that holds a place, from a block's start on. Compiled for 32 byte vectors too, which most processors have.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn next(bytes: &[u8], from: usize) -> Option<(usize, BlockMarks)> {
    let mut at = from;
    while at < bytes.len() {
        let padded;
        let window = match bytes.get(at.wrapping_sub(1)..).and_then(<[u8]>::first_chunk) {
            Some(window) => window,
            None => {
                padded = padded_window(bytes, at);
                &padded
            }
        };
        let seen = look(window);
        if seen.marks != [0; LANES] || seen.hex != 0 {
            return Some((at, seen));
        }
        at += LANES;
    }
    None
}

/// The block at `at` with a byte before and after it, filled up with spaces.
#[cold]
fn padded_window(bytes: &[u8], at: usize) -> [u8; LANES + 4] {
    let mut window = [b' '; LANES + 4];
    let skipped = usize::from(at == 0);
    let from = at.saturating_sub(1);
    let text = bytes.get(from..).unwrap_or_default();
    for (slot, byte) in window.iter_mut().skip(skipped).zip(text) {
        *slot = *byte;
    }
    window
}

/// What a block holds.
struct BlockMarks {
    /// 1 where there is a place.
    marks: [u8; LANES],
    /// Which half is nothing but hex digits, a bit each: two flags in memory, read as one number, cost 15 cycles a block.
    hex: u8,
}

#[inline(always)]
fn look(window: &[u8; LANES + 4]) -> BlockMarks {
    let mut marks = [0_u8; LANES];
    let mut hex = [0_u8; LANES];
    for lane in 0..LANES {
        let [before, byte, after] = [window[lane], window[lane + 1], window[lane + 2]];
        let (third, next) = (window[lane + 3], window[lane + 4]);
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
        marks[lane] = open | dot | colon | cve | may_change([byte, after, third, next]);
        hex[lane] = u8::from(byte.wrapping_sub(b'0') <= 9)
            | u8::from((byte | 0x20).wrapping_sub(b'a') <= 5);
    }
    let all = |half: &[u8]| u8::from(half == [1; LANES / 2]);
    BlockMarks { marks, hex: all(&hex[..LANES / 2]) | all(&hex[LANES / 2..]) << 1 }
}

/// Whether four bytes may begin a letter that is hidden or stands for a plain one: generous, as it is looked at again, but
/// not of what prose is full of: dashes and quotes, ideographs, their commas and stops.
#[inline(always)]
fn may_change([first, second, third, fourth]: [u8; 4]) -> u8 {
    let is = |byte: u8, wanted: u8| u8::from(byte == wanted);
    let within = |byte: u8, from: u8, to: u8| u8::from(byte.wrapping_sub(from) <= to - from);
    // In prose of east Asia most such marks have another ideograph behind them.
    let is_plain = within(fourth, b'!', b'~') | is(fourth, 0xef);
    (is(first, 0xc2) & is(second, 0xad))
        | is(first, 0xcd)
        | (is(first, 0xd8) & is(second, 0x9c))
        | (is(first, 0xe1) & within(second, 0x85, 0xa0))
        | (is(first, 0xe2)
            & (is(second, 0x81)
                | (is(second, 0x80)
                    & (within(third, 0x8b, 0x91) | is(third, 0xa4) | within(third, 0xaa, 0xaf)))))
        | (is(first, 0xe3) & (is_plain | is(second, 0x85)))
        | (is(first, 0xef)
            & (is_plain
                | (1 - is(second, 0xbc))
                | within(third, 0x90, 0x99)
                | u8::from(third >= 0xa0)))
        | (u8::from(first >= 0xf0) & (1 - is(second, 0x9f)))
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
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
