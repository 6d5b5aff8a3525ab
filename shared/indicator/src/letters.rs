//! A text as its reader sees it: without letters that nobody sees, with wide, encoded and look-alike marks made plain.
//!
//! A zero width space within a name splits it for a program and for no reader; taking what is left for the name would
//! store an innocent parent. So extraction reads the text of [`Visible`], and answers with what stands in the original.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::refang::ends_in_defanged_scheme;
use super::triggers;

/// Bytes of a percent-encoded or wide bracket with what it encloses.
const GROUP_BYTES_MAX: usize = 32;

/// Bytes of a percent-encoded URL.
const ENCODED_BYTES_MAX: usize = 4_096;

/// What a letter, entity or encoded group stands for, and how many bytes of the text it takes.
struct Change {
    length: usize,
    plain: Plain,
}

enum Plain {
    Nothing,
    Byte(u8),
    Text(String),
}

/// A text without what is hidden in it, and where its letters came from.
pub(super) struct Visible<'t> {
    pub(super) text: Cow<'t, str>,
    pieces: Vec<Piece>,
}

/// A part of the visible text, each byte of which stands for `stride` bytes of the original; or all for `GROUP`'s rest.
struct Piece {
    visible: u32,
    original: u32,
    stride: u32,
}

/// Marks the stride of a piece whose bytes stand together for that many bytes of the original.
const GROUP: u32 = 1 << 31;

impl<'t> Visible<'t> {
    /// Reads a text of less than 2 GiB; of a longer one nothing is changed.
    pub(super) fn of(original: &'t str) -> Self {
        let mut visible = Self { text: Cow::Borrowed(original), pieces: Vec::new() };
        let mut text = String::new();
        let mut copied = 0;
        let bytes = original.as_bytes();
        let read = triggers::each(bytes, |place| {
            let at = match bytes.get(place) {
                Some(b'&' | b'%' | 0x80..) => place,
                _ => return ControlFlow::Continue(()),
            };
            if at < copied {
                return ControlFlow::Continue(());
            }
            let Some(Change { length, plain }) = change(original, at) else {
                return ControlFlow::Continue(());
            };
            if bytes.len() >= GROUP as usize {
                return ControlFlow::Break(());
            }
            visible.copy(&mut text, original, copied, at);
            let stride = u32::try_from(length).unwrap_or(1);
            match plain {
                Plain::Nothing => {}
                Plain::Byte(byte) => {
                    visible.begin(text.len(), at, stride);
                    text.push(char::from(byte));
                }
                Plain::Text(plain) => {
                    visible.begin(text.len(), at, stride | GROUP);
                    text.push_str(&plain);
                }
            }
            copied = at + length;
            ControlFlow::Continue(())
        });
        if copied > 0 && read.is_continue() {
            visible.copy(&mut text, original, copied, original.len());
            visible.text = Cow::Owned(text);
        }
        visible
    }

    fn copy(&mut self, text: &mut String, original: &str, from: usize, to: usize) {
        if text.capacity() == 0 {
            text.reserve_exact(original.len());
        }
        if from < to {
            self.begin(text.len(), from, 1);
            text.push_str(original.get(from..to).unwrap_or_default());
        }
    }

    /// Begins a piece, if the last one does not go on so.
    fn begin(&mut self, visible: usize, original: usize, stride: u32) {
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (visible, original) = (short(visible), short(original));
        let goes_on = self.pieces.last().is_some_and(|last| {
            stride & GROUP == 0
                && last.stride == stride
                && last.original + (visible - last.visible) * stride == original
        });
        if !goes_on {
            self.pieces.push(Piece { visible, original, stride });
        }
    }

    /// Where in the original a part of the visible text stands.
    pub(super) fn original(&self, from: usize, to: usize) -> (usize, usize) {
        let start = self.piece(from).map_or(from, |piece| piece.original(from, 0));
        let last = to.saturating_sub(1);
        (start, self.piece(last).map_or(to, |piece| piece.original(last, 1)))
    }

    /// The piece that holds a byte of the visible text.
    fn piece(&self, at: usize) -> Option<&Piece> {
        let next = self.pieces.partition_point(|piece| piece.visible as usize <= at);
        self.pieces.get(next.checked_sub(1)?)
    }
}

impl Piece {
    /// Where what the byte stands for begins, or with `after` of 1 where it ends.
    fn original(&self, at: usize, after: usize) -> usize {
        let original = self.original as usize;
        if self.stride & GROUP == 0 {
            original + (at - self.visible as usize + after) * self.stride as usize
        } else {
            original + after * (self.stride & !GROUP) as usize
        }
    }
}

/// Whether what begins at `at` changes how the words around it read: a hidden letter beside a space does not.
pub(super) fn hides_something(text: &str, at: usize) -> bool {
    let Some(change) = change(text, at) else { return false };
    let is_space = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    let bytes = text.as_bytes();
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    !matches!(change.plain, Plain::Nothing)
        || !(is_space(before) || is_space(bytes.get(at + change.length)))
}

#[cfg(test)]
pub(super) fn is_changed(text: &str, at: usize) -> bool {
    change(text, at).is_some()
}

/// Letters without a shape: Unicode's `Default_Ignorable_Code_Point`, and the marks of interlinear notes.
const fn is_ignorable(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

fn change(text: &str, at: usize) -> Option<Change> {
    let bytes = text.as_bytes();
    match bytes.get(at)? {
        b'&' => entity(bytes, at),
        b'%' => encoded_group(bytes, at).or_else(|| encoded_url(text, at)),
        0xc2 | 0xcd | 0xd8 | 0xe1..=0xe3 | 0xef..=0xf3 => {
            let letter = text.get(at..)?.chars().next()?;
            let byte =
                |byte: u8| Some(Change { length: letter.len_utf8(), plain: Plain::Byte(byte) });
            match letter {
                _ if is_ignorable(letter) => {
                    Some(Change { length: letter.len_utf8(), plain: Plain::Nothing })
                }
                '\u{2024}' | '\u{fe52}' | '\u{ff0e}' => byte(b'.'),
                '\u{2010}' | '\u{2011}' | '\u{fe63}' => byte(b'-'),
                '\u{3002}' | '\u{ff61}' if is_dot(text, at, letter.len_utf8()) => byte(b'.'),
                '\u{ff10}'..='\u{ff19}' | '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' => {
                    byte(narrow(letter)?)
                }
                '\u{ff08}' | '\u{ff3b}' | '\u{ff5b}' | '\u{3010}' | '\u{300c}' => {
                    wide_group(text, at)
                }
                '\u{ff0d}' | '\u{ff0f}' | '\u{ff1a}' | '\u{ff20}' | '\u{ff3f}' => {
                    let next = text.get(at + letter.len_utf8()..)?.chars().next()?;
                    (next.is_ascii_graphic() || narrow(next).is_some())
                        .then(|| byte(narrow(letter)?))?
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The ASCII letter that a full-width one repeats.
fn narrow(letter: char) -> Option<u8> {
    const OFFSET: u32 = 0xfee0;
    ('\u{ff01}'..='\u{ff5e}')
        .contains(&letter)
        .then(|| u8::try_from(u32::from(letter) - OFFSET).ok())?
}

/// Whether an ideographic full stop is a dot of a name or address and no end of a sentence.
fn is_dot(text: &str, at: usize, length: usize) -> bool {
    const LOOK_BACK: usize = 64;
    let bytes = text.as_bytes();
    let (before, after) =
        (bytes.get(..at).unwrap_or_default(), bytes.get(at + length..).unwrap_or_default());
    let (Some(previous), Some(next)) = (before.last(), after.first()) else { return false };
    if matches!(previous, b'[' | b'(' | b'{') {
        return matches!(next, b']' | b')' | b'}');
    }
    if !previous.is_ascii_alphanumeric() || !next.is_ascii_alphanumeric() {
        return false;
    }
    // Stops are three bytes long and a host has no other such letters: `hxxp://evil。com`, `198。51。100。7`.
    let of_host = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-' || **byte >= 0x80;
    let left = before.iter().rev().take(LOOK_BACK).take_while(of_host).count();
    let right = after.iter().take(LOOK_BACK).take_while(of_host).count();
    let (from, to) = (at - left, at + length + right);
    let Some(host) = text.get(from..to) else { return false };
    let parts: Vec<&str> = host.split(['\u{3002}', '\u{ff61}']).collect();
    let is_octet = |part: &&str| part.len() <= 3 && part.parse::<u8>().is_ok();
    (parts.len() == 4 && parts.iter().all(is_octet))
        || (host.bytes().filter(|byte| *byte >= 0x80).count() == 3 * (parts.len() - 1)
            && bytes.get(..from).is_some_and(|before| {
                [b"://".as_slice(), b"]//", b"/]", b"\\\\"].iter().any(|end| before.ends_with(end))
            }))
}

/// What a bracket around a defanged mark may hold.
fn is_mark(inner: &str) -> bool {
    const MARKS: [&str; 12] =
        [".", ":", "/", "@", "://", ":/", "//", "dot", "at", "ponto", "punto", "arroba"];
    MARKS.iter().any(|mark| inner.trim().eq_ignore_ascii_case(mark))
}

/// `（.）`, `【。】`, `［dot］`: a bracket of another script around a mark.
fn wide_group(text: &str, at: usize) -> Option<Change> {
    /// What a mark may begin with; prose has such brackets around anything.
    const FIRST: &str = " .:/@adp\u{ff61}\u{ff0e}\u{ff1a}\u{ff20}";
    let first = text.get(at..)?.chars().nth(1)?.to_ascii_lowercase();
    if !FIRST.contains(first) && !is_ignorable(first) {
        return None;
    }
    let mut inner = String::new();
    let mut letters =
        text.get(at..)?.char_indices().take_while(|(offset, _)| *offset < GROUP_BYTES_MAX);
    let _opening = letters.next()?;
    for (offset, letter) in letters {
        match letter {
            '\u{ff09}' | '\u{ff3d}' | '\u{ff5d}' | '\u{3011}' | '\u{300d}' | ')' | ']' | '}' => {
                let length = offset + letter.len_utf8();
                return is_mark(&inner)
                    .then(|| Change { length, plain: Plain::Text(format!("[{}]", inner.trim())) });
            }
            '\u{3002}' | '\u{ff61}' => inner.push('.'),
            _ if is_ignorable(letter) => {}
            _ => inner.push(narrow(letter).map_or(letter, char::from)),
        }
    }
    None
}

/// An entity that is still one after markup was read: text that was escaped twice.
fn entity(bytes: &[u8], at: usize) -> Option<Change> {
    const NAMED: [(&[u8], char); 24] = [
        (b"period", '.'),
        (b"colon", ':'),
        (b"sol", '/'),
        (b"commat", '@'),
        (b"lsqb", '['),
        (b"lbrack", '['),
        (b"rsqb", ']'),
        (b"rbrack", ']'),
        (b"lpar", '('),
        (b"rpar", ')'),
        (b"lcub", '{'),
        (b"rcub", '}'),
        (b"lowbar", '_'),
        (b"hyphen", '-'),
        (b"shy", '\u{ad}'),
        (b"zwnj", '\u{200c}'),
        (b"zwj", '\u{200d}'),
        (b"ZeroWidthSpace", '\u{200b}'),
        (b"NoBreak", '\u{2060}'),
        (b"nbsp", ' '),
        (b"lt", '<'),
        (b"gt", '>'),
        (b"quot", '"'),
        (b"amp", '&'),
    ];
    const LONGEST: usize = 16;
    let rest = bytes.get(at + 1..)?;
    let end = rest.iter().take(LONGEST).position(|byte| *byte == b';')?;
    let name = rest.get(..end)?;
    let letter = match name {
        [b'#', b'x' | b'X', hex @ ..] => number(hex, 16)?,
        [b'#', digits @ ..] => number(digits, 10)?,
        _ => NAMED.iter().find(|(known, _)| *known == name)?.1,
    };
    let length = 1 + end + 1;
    // `&amp;#46;` stays: reading twice is reading once.
    let is_nested = || {
        let next = bytes.get(at + length..).unwrap_or_default();
        next.first() == Some(&b'#')
            || NAMED.iter().any(|(known, _)| {
                next.strip_prefix(*known).is_some_and(|rest| rest.first() == Some(&b';'))
            })
    };
    let plain = match letter {
        _ if is_ignorable(letter) => Plain::Nothing,
        '&' if is_nested() => return None,
        '0'..='9'
        | 'a'..='z'
        | 'A'..='Z'
        | '&'
        | ' '
        | '.'
        | ':'
        | '/'
        | '@'
        | '['
        | ']'
        | '('
        | ')'
        | '{'
        | '}'
        | '_'
        | '-'
        | '<'
        | '>'
        | '"'
        | '\'' => Plain::Byte(u8::try_from(letter).ok()?),
        _ => return None,
    };
    Some(Change { length, plain })
}

fn number(digits: &[u8], radix: u32) -> Option<char> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    let first = digits.chars().next()?;
    if !first.is_digit(radix) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}

/// The byte that `%41` stands for, or the byte that stands there, and how many it takes.
fn encoded_byte(bytes: &[u8]) -> Option<(u8, usize)> {
    let pair = match bytes {
        [b'%', pair @ ..] => pair.get(..2)?,
        [byte, ..] => return Some((*byte, 1)),
        [] => return None,
    };
    let hex = std::str::from_utf8(pair).ok()?;
    pair.iter()
        .all(u8::is_ascii_hexdigit)
        .then(|| u8::from_str_radix(hex, 16).ok())?
        .map(|byte| (byte, 3))
}

/// `%5B.%5D`, `%28dot%29`: a bracket that was percent-encoded, around a mark.
fn encoded_group(bytes: &[u8], at: usize) -> Option<Change> {
    let (b'[' | b'(' | b'{', 3) = encoded_byte(bytes.get(at..)?)? else { return None };
    let mut inner = String::new();
    let mut length = 3;
    while length < GROUP_BYTES_MAX {
        let (byte, used) = encoded_byte(bytes.get(at + length..)?)?;
        length += used;
        match byte {
            b']' | b')' | b'}' => {
                return is_mark(&inner)
                    .then(|| Change { length, plain: Plain::Text(format!("[{}]", inner.trim())) });
            }
            b' '..=b'~' => inner.push(char::from(byte)),
            _ => return None,
        }
    }
    None
}

/// `hxxp%3A%2F%2Fevil.com%2Fa`: what follows a defanged scheme, up to the end of the word or argument.
fn encoded_url(text: &str, at: usize) -> Option<Change> {
    let bytes = text.as_bytes();
    let mut rest = bytes.get(at..)?;
    for mark in *b"://" {
        let (byte, used) = encoded_byte(rest)?;
        rest = rest.get(used..)?;
        if byte != mark {
            return None;
        }
    }
    if !ends_in_defanged_scheme(bytes.get(..at)?) {
        return None;
    }
    let mut plain = String::from("://");
    let mut length = text.len() - at - rest.len();
    while length < ENCODED_BYTES_MAX {
        match encoded_byte(bytes.get(at + length..).unwrap_or_default()) {
            // The next argument of the URL that this one is an argument of.
            Some((b'&', 1)) => {
                plain.push(' ');
                break;
            }
            // What would be read otherwise the second time ends it.
            Some((b'%' | b'&', _)) => break,
            Some((byte @ b'!'..=b'~', used))
                if !(used == 1 && matches!(byte, b'"' | b'<' | b'>')) =>
            {
                plain.push(char::from(byte));
                length += used;
            }
            _ => break,
        }
    }
    Some(Change { length, plain: Plain::Text(plain) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let visible = Visible::of(text);
        assert_eq!(visible.text, expected, "{text:?}");
        assert_eq!(Visible::of(expected).text, expected, "read twice");
    }

    #[test]
    fn takes_out_what_nobody_sees_and_makes_marks_plain() {
        for (text, expected) in [
            ("ev\u{200b}il\u{ad}.\u{2060}c\u{202e}om\u{feff}", "evil.com"),
            ("e\u{34f}v\u{61c}i\u{180e}l\u{200d}.\u{3164}c\u{e0041}om", "evil.com"),
            (
                "evil&#46;com &#x5B;.&#x5d; ev&#8203;il ev&shy;il a&period;b &lsqb;.&rsqb;",
                "evil.com [.] evil evil a.b [.]",
            ),
            (
                "\u{ff45}vil\u{ff0e}com evil\u{ff3b}\u{ff0e}\u{ff3d}com\u{ff08}.\u{ff09}br",
                "evil.com evil[.]com[.]br",
            ),
            (
                "a[\u{3002}]b hxxp://evil\u{3002}com 198\u{3002}51\u{3002}100\u{3002}7",
                "a[.]b hxxp://evil.com 198.51.100.7",
            ),
            ("a\u{3010}dot\u{3011}b hxxp\u{ff1a}\u{ff0f}\u{ff0f}b", "a[dot]b hxxp://b"),
            ("evil%5B.%5Dcom evil%28%2e%29com", "evil[.]com evil[.]com"),
            ("u=hxxp%3A%2F%2Fevil.com%2Fa%3Fb&c", "u=hxxp://evil.com/a?b &c"),
            ("evil\u{2011}site.com a?b=1&amp;c=2", "evil-site.com a?b=1&c=2"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn leaves_text_alone() {
        for text in [
            "plain \u{201c}text\u{201d} \u{2013} caf\u{e9}\u{2026}",
            "\u{4f7f}\u{7528}Python\u{3002}Google\u{53d1}\u{5e03}\u{ff08}\u{793a}\u{4f8b}\u{ff09}\u{ff0c}5\u{3002}2019",
            "R&D AT&T &amp;#46; &unknown; &#0; 100% %5B1%5D %2e%2fa http%3A%2F%2Fgood.com a%20b",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn tells_where_it_stood() {
        let text = "x ev\u{200b}il&#46;c\u{ff4f}m\u{200b} y";
        let visible = Visible::of(text);
        let from = visible.text.find("evil").unwrap();
        let (start, end) = visible.original(from, from + "evil.com".len());
        assert_eq!(&text[start..end], "ev\u{200b}il&#46;c\u{ff4f}m");
        assert_eq!(visible.original(0, visible.text.len()), (0, text.len()));
        let (start, end) = visible.original(from + 5, from + 7);
        assert_eq!(&text[start..end], "c\u{ff4f}");
    }

    proptest! {
        #[test]
        fn each_part_has_its_place(parts in proptest::collection::vec(prop_oneof![
            Just("a"), Just(" "), Just("\u{200b}"), Just("&#46;"), Just("%5B.%5D"), Just("\u{ff0e}"), Just("\u{e9}"), Just("&amp;"),
            Just("hxxp"), Just("%3A%2F%2F"), Just("\u{3002}"), Just("1"), Just("\u{ff08}"), Just("\u{ff09}"), Just("["), Just("]"),
        ], 0..24)) {
            let text = parts.concat();
            let visible = Visible::of(&text);
            let mut last = 0;
            for (at, letter) in visible.text.char_indices() {
                let (start, end) = visible.original(at, at + letter.len_utf8());
                prop_assert!(start < end && start >= last && text.get(start..end).is_some());
                last = start;
            }
        }
    }
}
