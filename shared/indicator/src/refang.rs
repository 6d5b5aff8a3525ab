//! Undoes defanging: `hxxp[://]evil[.]com` becomes `http://evil.com`.
//!
//! Text is copied byte by byte, and each byte is looked at together with the end of what was copied so far. When both
//! make a defanged spelling, that end is taken back and the plain spelling is copied instead, by the same rule. So a
//! finished copy holds nothing the rule would change (refanging twice is refanging once, however brackets are nested),
//! and each byte is handled a bounded number of times.

use std::borrow::Cow;

use memchr::{memchr2, memchr3, memmem};

use super::letters::Visible;

/// Spellings of a scheme that keep a link from being clicked, lower-case, and what they stand for.
const SCHEMES: [(&[u8], &[u8]); 22] = [
    (b"hxxp", b"http"),
    (b"hxxps", b"https"),
    (b"hxp", b"http"),
    (b"hxps", b"https"),
    (b"htxp", b"http"),
    (b"htxps", b"https"),
    (b"hxtp", b"http"),
    (b"hxtps", b"https"),
    (b"hxxxp", b"http"),
    (b"hxxxps", b"https"),
    (b"h**p", b"http"),
    (b"h**ps", b"https"),
    (b"h__p", b"http"),
    (b"h__ps", b"https"),
    (b"hzzp", b"http"),
    (b"hzzps", b"https"),
    (b"meow", b"http"),
    (b"meows", b"https"),
    (b"fxp", b"ftp"),
    (b"fxps", b"ftps"),
    (b"ftx", b"ftp"),
    (b"sfxp", b"sftp"),
];

/// The longest spelling in [`SCHEMES`].
const LONGEST_SCHEME: usize = 6;

/// The longest bracketed spelling looked for, without its opening bracket: ` https:// \]`.
const LONGEST_CORE: usize = 12;

/// The longest pile of brackets around one dot: `[[[.]]]`.
const LONGEST_PILE: usize = 8;

/// Undoes defanging in a text of any length; borrowed when there is nothing to undo.
///
/// Known spellings: `hxxp`, `hXXps`, `h**p`, `meow`, `fxp` and the like before `://`; `[.]`, `(.)`, `{.}`, `[dot]`,
/// `(dot)`, `[ dot ]`, ` [dot] `, ` [.] `, `[ponto]`, `\.`, `\[.\]`, piles of them such as `[[.]]`, and `[.` or `.]`
/// between letters; `[:]`, `[::]`, `[://]`, `[/]`, `[@]`, `(at)`, `[at]`, `h[tt]p`, `[http]://`, `[hxxp://]`; any case,
/// mixed and nested. Letters that nobody sees go, and full-width and encoded marks are read as the plain ones.
pub fn refang(text: &str) -> Cow<'_, str> {
    // A mark that becomes plain may make another: `&#91;.&#93;` within `%5B`. More than two rounds are nonsense.
    const ROUNDS: usize = 4;
    let mut refanged = Cow::Borrowed(text);
    for _ in 0..ROUNDS {
        let visible = Visible::of(&refanged).text;
        let plain = undo(&visible);
        if *plain == *refanged {
            break;
        }
        refanged = Cow::Owned(plain.into_owned());
    }
    refanged
}

/// Undoes defanging in a text without hidden letters.
fn undo(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if memchr3(b'[', b'(', b'{', bytes).is_none()
        && memchr2(b'\\', b']', bytes).is_none()
        && memmem::find(bytes, b"://").is_none()
        && memchr2(b')', b'}', bytes).is_none()
    {
        return Cow::Borrowed(text);
    }
    let mut copy = Copy::without_places();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1 + copy.push(byte, 0, false, bytes.get(at + 1..).unwrap_or_default());
        // Where no rule can apply, `push` would append byte after byte.
        if !matches!(copy.out.last(), Some(b'.' | b']' | b'[' | b')' | b'}' | b'(' | b'{')) {
            let rest = bytes.get(at..).unwrap_or_default();
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b']' | b')' | b'}' | b'/' | b'\\' | b'.'))
                .unwrap_or(rest.len());
            copy.out.extend_from_slice(rest.get(..plain).unwrap_or_default());
            at += plain;
        }
    }
    if copy.out == bytes {
        return Cow::Borrowed(text);
    }
    match String::from_utf8(copy.out) {
        Ok(refanged) => Cow::Owned(refanged),
        // Only ASCII is ever taken back, so the copy of valid text is valid.
        Err(_) => Cow::Borrowed(text),
    }
}

/// Whether the word before `://` is a defanged scheme; `before` ends where the colon stands.
pub(super) fn ends_in_defanged_scheme(before: &[u8]) -> bool {
    scheme_at_end(before).is_some()
}

/// Whether a bracket or backslash at `at` may open a defanged spelling. Cheap, and wrong only on the generous side.
pub(super) fn may_open(bytes: &[u8], at: usize) -> bool {
    let mut next = at + 1;
    while matches!(bytes.get(next), Some(b'[' | b'(' | b'{' | b'\\' | b' ')) && next < at + 4 {
        next += 1;
    }
    let rest = bytes.get(next..).unwrap_or_default();
    let Some(first) = rest.first() else { return false };
    match first.to_ascii_lowercase() {
        b'.' | b':' | b'/' | b'@' => true,
        b'd' => starts(rest, b"dot"),
        b'a' => {
            starts(rest, b"at") && matches!(rest.get(2), Some(b']' | b')' | b'}' | b' ' | b'\\'))
                || starts(rest, b"arroba")
        }
        b'p' => starts(rest, b"ponto") || starts(rest, b"punto"),
        b'h' => starts(rest, b"http") || starts(rest, b"hxxp"),
        b't' => starts(rest, b"tt]"),
        b'x' => starts(rest, b"xx]"),
        b's' => starts(rest, b"s]"),
        _ => false,
    }
}

/// Whether a space at `at` belongs to a defanged spelling: `a [dot] b`, `a[ dot ]b`.
pub(super) fn space_is_inside(bytes: &[u8], at: usize) -> bool {
    let after = bytes.get(at + 1..).unwrap_or_default();
    match after.first() {
        Some(b'[' | b'(' | b'{') => {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            before.is_some_and(|byte| is_word(*byte)) && spaced_word(after).is_some()
        }
        // `[ dot ]`: after the opening bracket, or before the closing one.
        Some(byte) => {
            let before = bytes.get(at.saturating_sub(6)..at).unwrap_or_default();
            if matches!(byte, b']' | b')' | b'}') {
                before.iter().any(|byte| matches!(byte, b'[' | b'(' | b'{'))
            } else {
                matches!(before.last(), Some(b'[' | b'(' | b'{'))
                    && after.iter().take(8).any(|byte| matches!(byte, b']' | b')' | b'}'))
            }
        }
        None => false,
    }
}

/// Length of a bracketed word (`[dot]`, `(at)`, `[.]`) which stands free, with a space and a name's part after it.
fn spaced_word(bytes: &[u8]) -> Option<usize> {
    let end =
        bytes.iter().take(LONGEST_CORE).position(|byte| matches!(byte, b']' | b')' | b'}'))?;
    spaced_mark(trim(bytes.get(1..end)?))?;
    joins(bytes.get(end + 1..)?).then_some(end + 1)
}

/// What stands for a dot or `@` also with spaces around its brackets.
fn spaced_mark(inner: &[u8]) -> Option<&'static [u8]> {
    plain_word(inner).or((inner == b".").then_some(b".".as_slice()))
}

/// Whether ` com…` goes on with a name: `use [.] in names` does not, though `in` is a top level.
fn joins(rest: &[u8]) -> bool {
    const WORDS: [&[u8]; 22] = [
        b"am", b"an", b"and", b"as", b"at", b"be", b"by", b"do", b"for", b"in", b"is", b"it",
        b"me", b"my", b"no", b"of", b"or", b"so", b"the", b"to", b"us", b"with",
    ];
    let Some((b' ', next)) = rest.split_first() else { return false };
    let length = next.iter().take_while(|byte| is_word(**byte)).count();
    let word = next.get(..length).unwrap_or_default();
    length > 0 && (matches!(next.get(length), Some(b'[' | b'(' | b'-')) || !WORDS.contains(&word))
}

/// A copy of a text with the defanging undone, and optionally where each byte came from.
#[derive(Debug, Default)]
pub(super) struct Copy {
    pub(super) out: Vec<u8>,
    /// Where in the original each byte of `out` begins.
    pub(super) at: Vec<u32>,
    /// Whether that byte stands for a defanged spelling.
    pub(super) fanged: Vec<bool>,
    pub(super) any_fanged: bool,
    places: bool,
    /// Where the last bracketed spelling ended.
    pile_end: usize,
}

impl Copy {
    pub(super) fn with_places() -> Self {
        Self { places: true, ..Self::default() }
    }

    fn without_places() -> Self {
        Self::default()
    }

    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.at.clear();
        self.fanged.clear();
        self.any_fanged = false;
        self.pile_end = 0;
    }

    /// Copies one byte; `rest` is what follows it. Answers how many bytes of `rest` are used up with it.
    pub(super) fn push(&mut self, byte: u8, at: u32, fanged: bool, rest: &[u8]) -> usize {
        match byte {
            b']' | b')' | b'}' => {
                if let Some(element) = self.element() {
                    return self.rewrite(&element, rest);
                }
                // `[.]]`: the rest of a pile, if the name goes on behind it.
                if self.pile_end == self.out.len() && self.out.last() == Some(&b'.') {
                    let closers =
                        rest.iter().take(LONGEST_PILE).take_while(|byte| is_closer(**byte));
                    let count = closers.count();
                    if rest.get(count).is_some_and(|byte| is_word(*byte)) {
                        return count;
                    }
                }
            }
            b'/' | b'\\' => {
                let separator: &[u8] = if byte == b'/' { b":/" } else { b":\\" };
                if let Some(before) = self.out.strip_suffix(separator)
                    && let Some((length, plain)) = scheme_at_end(before)
                {
                    let start = before.len() - length;
                    let first = self.place(start);
                    self.truncate(start);
                    for byte in plain.iter().chain(b"://") {
                        self.append(*byte, first, true);
                    }
                    return 0;
                }
            }
            b'.' => {
                if let [.., before, b'\\'] = *self.out
                    && (is_word(before) || matches!(before, b'[' | b'(' | b'{'))
                {
                    let start = self.out.len() - 1;
                    let first = self.place(start);
                    self.truncate(start);
                    self.append(b'.', first, true);
                    return 0;
                }
            }
            _ if is_word(byte) => {
                if let Some(start) = self.pile(byte) {
                    let first = self.place(start);
                    self.truncate(start);
                    self.append(b'.', first, true);
                }
            }
            _ => {}
        }
        self.append(byte, at, fanged);
        0
    }

    /// Where brackets begin that belong to a dot without making a pair with it: `a[.com`, `1.]]]2`, `a[.[.com`.
    ///
    /// Round and curly ones, which prose has too, only between digits.
    fn pile(&self, next: u8) -> Option<usize> {
        let is_part = |byte: u8| byte == b'.' || is_opener(byte) || is_closer(byte);
        let length =
            self.out.iter().rev().take(LONGEST_PILE + 1).take_while(|byte| is_part(**byte)).count();
        if !(2..=LONGEST_PILE).contains(&length) {
            return None;
        }
        let start = self.out.len() - length;
        let (before, pile) = self.out.split_at_checked(start)?;
        let last = *before.last().filter(|byte| is_word(**byte))?;
        let of_digits = last.is_ascii_digit() && next.is_ascii_digit();
        let fits = pile.iter().all(|byte| matches!(byte, b'.' | b'[' | b']')) || of_digits;
        let pairs = || pile.windows(2);
        let has_dot = pairs().any(|pair| match *pair {
            [b'.', other] => is_closer(other),
            [other, b'.'] => is_opener(other),
            _ => false,
        });
        let is_two = pairs().any(|pair| is_closer(pair[0]) && is_opener(pair[1]))
            || pile.ends_with(b"].")
            || pile.ends_with(b").")
            || pile.ends_with(b"}.");
        // `[as noted.]In short`
        let is_sentence =
            pile.contains(&b']') && last.is_ascii_lowercase() && next.is_ascii_uppercase();
        (fits && has_dot && !is_two && !is_sentence).then_some(start)
    }

    /// The bracketed spelling that a closing bracket would complete now.
    fn element(&self) -> Option<Element> {
        let end = self.out.len();
        let window = self.out.get(end.saturating_sub(LONGEST_CORE)..)?;
        let open_from_end =
            window.iter().rev().position(|byte| matches!(byte, b'[' | b'(' | b'{'))?;
        let open = end - 1 - open_from_end;
        let inner = self.out.get(open + 1..)?;
        let inner = trim(inner.strip_suffix(b"\\").unwrap_or(inner));
        let before = self.out.get(..open)?;
        let word = spaced_mark(inner);
        let plain: &'static [u8] = match inner {
            _ if word.is_some() => word?,
            b":" => b":",
            // `[::]` on its own is an address in brackets.
            b"::" if before.last().is_some_and(u8::is_ascii_hexdigit) => b"::",
            b"://" => b"://",
            b":/" => b":/",
            b"/" => b"/",
            b"//" => b"//",
            b"@" => b"@",
            _ if inner.eq_ignore_ascii_case(b"s") && ends(before, b"xxp") => b"s",
            _ if (inner.eq_ignore_ascii_case(b"tt") || inner.eq_ignore_ascii_case(b"xx"))
                && ends(before, b"h") =>
            {
                b"tt"
            }
            _ => {
                let scheme = inner.strip_suffix(b"://").unwrap_or(inner);
                let with_colon = scheme.len() < inner.len();
                match (scheme.to_ascii_lowercase().as_slice(), with_colon) {
                    (b"http" | b"hxxp", false) => b"http",
                    (b"https" | b"hxxps", false) => b"https",
                    (b"http" | b"hxxp", true) => b"http://",
                    (b"https" | b"hxxps", true) => b"https://",
                    _ => return None,
                }
            }
        };
        let mut start = if before.last() == Some(&b'\\') { open - 1 } else { open };
        if plain == b"." {
            // `a((.)com`
            let more =
                before.iter().rev().take(LONGEST_PILE).take_while(|byte| is_opener(**byte)).count();
            let name_before = start.checked_sub(more + 1).and_then(|at| self.out.get(at));
            if start == open && name_before.is_some_and(|byte| is_word(*byte)) {
                start -= more;
            }
        }
        Some(Element { start, plain, word: word.is_some() })
    }

    fn rewrite(&mut self, element: &Element, rest: &[u8]) -> usize {
        let mut start = element.start;
        let mut used = 0;
        // `name [dot] com`: both spaces go, or neither.
        if element.word
            && matches!(self.out.get(..start), Some([.., letter, b' ']) if is_word(*letter))
            && joins(rest)
        {
            start -= 1;
            used = 1;
        }
        let first = self.place(start);
        self.truncate(start);
        for byte in element.plain {
            self.push(*byte, first, true, &[]);
        }
        self.pile_end = self.out.len();
        used
    }

    fn place(&self, index: usize) -> u32 {
        self.at.get(index).copied().unwrap_or_default()
    }

    fn truncate(&mut self, length: usize) {
        self.out.truncate(length);
        if self.places {
            self.at.truncate(length);
            self.fanged.truncate(length);
        }
    }

    fn append(&mut self, byte: u8, at: u32, fanged: bool) {
        self.out.push(byte);
        if self.places {
            self.at.push(at);
            self.fanged.push(fanged);
            self.any_fanged |= fanged;
        }
    }
}

/// A bracketed spelling at the end of a copy.
struct Element {
    start: usize,
    plain: &'static [u8],
    word: bool,
}

/// What a bracketed word stands for, in the languages of the feeds we read.
fn plain_word(word: &[u8]) -> Option<&'static [u8]> {
    const DOTS: [&[u8]; 3] = [b"dot", b"ponto", b"punto"];
    const ATS: [&[u8]; 2] = [b"at", b"arroba"];
    if DOTS.iter().any(|dot| word.eq_ignore_ascii_case(dot)) {
        Some(b".")
    } else if ATS.iter().any(|at| word.eq_ignore_ascii_case(at)) {
        Some(b"@")
    } else {
        None
    }
}

/// Length of the defanged scheme at the end of `before`, and its plain spelling.
fn scheme_at_end(before: &[u8]) -> Option<(usize, &'static [u8])> {
    let tail = before.get(before.len().saturating_sub(LONGEST_SCHEME + 2)..)?;
    SCHEMES.iter().find_map(|(fanged, plain)| {
        let boundary = tail.len().checked_sub(fanged.len())?;
        let (left, word) = tail.split_at_checked(boundary)?;
        // `\nhxxp://` is a line end that stayed escaped.
        let free = match left {
            [.., b'\\', b'n' | b'r' | b't'] => true,
            _ => left.last().is_none_or(|byte| !byte.is_ascii_alphanumeric()),
        };
        (free && word.eq_ignore_ascii_case(fanged)).then_some((fanged.len(), *plain))
    })
}

fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    bytes.strip_suffix(b" ").unwrap_or(bytes)
}

fn starts(bytes: &[u8], word: &[u8]) -> bool {
    bytes.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

fn ends(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .len()
        .checked_sub(word.len())
        .and_then(|from| bytes.get(from..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(word))
}

const fn is_opener(byte: u8) -> bool {
    matches!(byte, b'[' | b'(' | b'{')
}

const fn is_closer(byte: u8) -> bool {
    matches!(byte, b']' | b')' | b'}')
}

/// A letter or digit; bytes beyond ASCII count as letters.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(refang(text), expected);
        assert_eq!(refang(expected), expected, "refanging twice");
    }

    #[test]
    fn undoes_each_known_spelling() {
        for text in [
            "http://evil.com/a",
            "hxxp://evil.com/a",
            "hXXp://evil[.]com/a",
            "HXXP://evil(.)com/a",
            "h**p://evil{.}com/a",
            "meow://evil[dot]com/a",
            "hxxp[:]//evil(dot)com/a",
            "hxxp[://]evil[ dot ]com/a",
            "h[tt]p://evil [dot] com/a",
            "[hxxp://]evil\\.com/a",
            "[http]://evil[.com/a",
            "hxxp:\\\\evil.]com/a",
            "hxxp:[//]evil[[.]]com[/]a",
            "htxp://evil\\[.\\]com/a",
            "http://evil[\\.]com/a",
            "http://evil [ponto] com/a",
        ] {
            check(text, "http://evil.com/a");
        }
        check("hxxps[:]//a[.]b", "https://a.b");
        check("hxxp[s]://a.b", "https://a.b");
        check("fxp://a[.]b", "ftp://a.b");
        check(
            "eve[@]evil[.]com eve(at)evil.com eve [at] evil [dot] com",
            "eve@evil.com eve@evil.com eve@evil.com",
        );
        check("2001[:]db8[::]1", "2001:db8::1");
        check(
            "ev\u{200b}il[\u{3002}]com evil&#91;.&#93;com evil%5B.%5Dcom",
            "evil.com evil.com evil.com",
        );
    }

    #[test]
    fn undoes_piles_of_brackets() {
        for text in [
            "1[.]2",
            "1[[.]]2",
            "1(.)2",
            "1((.))2",
            "1{[.]}2",
            "1[(.)]2",
            "1.]]]2",
            "1[[[.2",
            "1[.[.]2",
            "1[.[.2",
            "1.))2",
            "1((.2",
            "1[.)2",
            "1{.]2",
            "1[[dot]]2",
            "1[[.]2",
            "1[.]]]2",
            "1((.)2",
            "1\\[.\\]2",
            "1[ . ]2",
            "1 [.] 2",
            "1 [ . ] 2",
        ] {
            check(text, "1.2");
        }
        check("a[[.]]com b.]]com c[.[.com d((.))com e[.]]com", "a.com b.com c.com d.com e.com");
    }

    #[test]
    fn leaves_prose_and_code_alone() {
        for text in [
            "as reported [1] (see below.) and [sic]",
            "a[i].b(c) {d}",
            "http[s]://docs",
            "shxxp://x",
            "it was hxxp, he said",
            "C:\\Windows\\System32",
            "(at the time) a dot com",
            "listen [::]:80",
            "see f(x).[1] or a[0].b; (as noted.)Then [as noted.]Then text.[12] x.(type) word(.com",
        ] {
            check(text, text);
            assert!(matches!(refang(text), Cow::Borrowed(_)));
        }
    }

    proptest! {
        #[test]
        fn refanging_twice_is_refanging_once(
            parts in proptest::collection::vec(prop_oneof![
                Just("["), Just("]"), Just("("), Just(")"), Just("{"), Just("}"), Just("."), Just("dot"), Just(" "),
                Just("\\"), Just(":"), Just("/"), Just("://"), Just("@"), Just("at"), Just("hxxp"), Just("h"), Just("tt"),
                Just("xx"), Just("p"), Just("s"), Just("meow"), Just("com"), Just("é"), Just("http"), Just("*"), Just("[.]"),
            ], 0..40)
        ) {
            let text = parts.concat();
            let once = refang(&text).into_owned();
            prop_assert_eq!(refang(&once), once.as_str());
        }

        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let once = refang(&text).into_owned();
            prop_assert_eq!(refang(&once), once.as_str());
        }
    }
}
