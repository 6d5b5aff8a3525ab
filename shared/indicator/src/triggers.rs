//! Finds the few places of a text where an indicator may be, 32 bytes at a time.
//!
//! Each lane is compared with its two neighbours by arithmetic alone, which the compiler turns into vector
//! instructions; prose yields next to no places, so the rest of the extraction hardly runs.

const LANES: usize = 32;

/// Calls `visit` with the offset of each place, in order.
///
/// Places are: an opening bracket or backslash; `.` between digits or before `]`; `:` before anything but a space; the
/// `e` of `ve-` (as in `CVE-`) and of `ve` before a byte that opens U+2000 and up; the start of 16 hex digits in an
/// aligned block, of which each run of 31 or more holds one.
pub(super) fn each(bytes: &[u8], mut visit: impl FnMut(usize)) {
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
        let (marks, hex) = look(window);
        if marks != [0; LANES] {
            for (lane, mark) in marks.iter().enumerate() {
                if hex[lane / 16] && lane % 16 == 0 {
                    visit(at + lane);
                }
                if *mark != 0 {
                    visit(at + lane);
                }
            }
        } else if hex[0] {
            visit(at);
        } else if hex[1] {
            visit(at + 16);
        }
        at += LANES;
    }
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

#[inline(always)]
fn look(window: &[u8; LANES + 2]) -> ([u8; LANES], [bool; 2]) {
    let mut marks = [0_u8; LANES];
    let mut hex = [0_u8; LANES];
    for lane in 0..LANES {
        let (before, byte, after) = (window[lane], window[lane + 1], window[lane + 2]);
        // `[`, `\`, `{` and, for nothing, `|`.
        let open = u8::from((byte | 0x20).wrapping_sub(b'{') <= 1) | u8::from(byte == b'(');
        let between_digits =
            u8::from(before.wrapping_sub(b'0') <= 9) & u8::from(after.wrapping_sub(b'0') <= 9);
        let dot = u8::from(byte == b'.') & (between_digits | u8::from(after == b']'));
        let colon = u8::from(byte == b':') & u8::from(after > b' ');
        let cve = u8::from(byte | 0x20 == b'e')
            & u8::from(before | 0x20 == b'v')
            & (u8::from(after == b'-') | u8::from(after == 0xe2));
        marks[lane] = open | dot | colon | cve;
        hex[lane] = u8::from(byte.wrapping_sub(b'0') <= 9)
            | u8::from((byte | 0x20).wrapping_sub(b'a') <= 5);
    }
    let all = |half: &[u8]| half.iter().fold(1, |all, one| all & one) == 1;
    (marks, [all(&hex[..16]), all(&hex[16..])])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        each(text.as_bytes(), |at| found.push(at));
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
            "Twelve plans, ends. Begins: again; and 3 beads (no, not here) were faded at 12%.";
        assert_eq!(places(text), [text.find('(').unwrap()]);
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(text in "[ .:\\[\\](v{CVEe\\-19a–\\\\]{0,200}") {
            let bytes = text.as_bytes();
            let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
            let expected: Vec<usize> = (0..bytes.len()).filter(|&index| {
                let before = index.checked_sub(1).map_or(b' ', at);
                let after = at(index + 1);
                match bytes[index] {
                    b'[' | b'(' | b'{' | b'\\' | b'|' => true,
                    b'.' => after == b']' || (before.is_ascii_digit() && after.is_ascii_digit()),
                    b':' => after > b' ',
                    b'e' | b'E' => matches!(before, b'v' | b'V') && matches!(after, b'-' | 0xe2),
                    _ => false,
                }
            }).collect();
            let mut found = places(&text);
            found.retain(|&index| !bytes[index].is_ascii_hexdigit() || expected.contains(&index));
            prop_assert_eq!(found, expected);
        }
    }
}
