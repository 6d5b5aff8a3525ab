//! The files of `iocs/`: a value a line, described by its own comment or by the comment lines above it.
//!
//! Three layouts, by the word in the file's name: `c2` (`value[;score]`), `hash` (`hash[;score];comment`) and `filename`
//! (`pattern[;score[;false positives]]`). What stands in a file is never changed but for space at its ends.

use std::borrow::Cow;
use std::sync::Arc;

use indicator::{self, Indicator, IndicatorKind};

/// Bytes of a line; the longest today has 1,100.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Lines of a file that hold a value; today's longest has 3,828.
pub const LINES_MAX: usize = 50_000;
/// Bytes of a comment, a line's own or the one above it; the longest today has 304.
pub const COMMENT_BYTES_MAX: usize = 4 << 10;
/// Malformed lines that are repeated; the rest is counted.
pub const REJECTS_MAX: usize = 100;
/// How many bytes of documents a byte of the file may become, but for what each document says in any case. A comment
/// stands once and describes many lines, so it is left away first.
pub const TEXT_PER_BYTE: usize = 4;
/// The same for a file of any length: those of today need up to 1.5 MB.
pub const TEXT_BYTES_MIN: usize = 2_000_000;
/// How often a document repeats a comment.
const COMMENT_COPIES: usize = 4;
/// How often a document repeats its value.
const VALUE_COPIES: usize = 2;
/// How much of a line a reject repeats.
const SHOWN_CHARS: usize = 80;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Command servers.
    C2,
    /// Hashes of files.
    Hash,
    /// Patterns for file names.
    Filename,
}

impl Layout {
    /// The layout of a file of the repository; none of one that holds no indicators.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix("iocs/")?.to_ascii_lowercase();
        if !name.ends_with(".txt") {
            return None;
        }
        [(Self::Hash, "hash"), (Self::Filename, "filename"), (Self::C2, "c2")]
            .into_iter()
            .find_map(|(layout, word)| name.contains(word).then_some(layout))
    }

    /// The word in the file's name, which the predecessor used as a type.
    pub fn name(self) -> &'static str {
        match self {
            Self::C2 => "c2",
            Self::Hash => "hash",
            Self::Filename => "filename",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The value, in normal form and as it is written.
    pub indicator: Indicator,
    /// Its score, if it has one, 0 to 100.
    pub score: Option<u32>,
    /// Its own comment, or the comment above it.
    pub comment: Option<Arc<str>>,
    /// What a match must not match as well.
    pub false_positive: Option<String>,
}

impl Line {
    /// How much text it brings, its comment included.
    pub fn text_bytes(&self) -> usize {
        let of = |text: Option<&str>| text.map_or(0, str::len);
        self.indicator.value.len()
            + self.indicator.raw.len()
            + of(self.comment.as_deref())
            + of(self.false_positive.as_deref())
    }
}

/// A file as it was read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Its lines, in order.
    pub lines: Vec<Line>,
    /// Malformed lines, with their numbers; the first [`REJECTS_MAX`].
    pub rejects: Vec<String>,
    /// How many malformed lines there are.
    pub rejected: u64,
    /// Lines beyond [`LINES_MAX`] or the limit of the documents' bytes.
    pub left_out: u64,
    /// Lines that a comment describes which is cut, or left away for the limit of the documents' bytes.
    pub comments_cut: u64,
}

/// Reads a file. Any bytes are survived.
pub fn parse(layout: Layout, body: &[u8]) -> Parsed {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut parsed = Parsed::default();
    let mut above = Above::default();
    let mut room =
        Room { bytes: (body.len() * TEXT_PER_BYTE).max(TEXT_BYTES_MIN), unread: body.len() };
    for (place, bytes) in body.split(|byte| *byte == b'\n').enumerate() {
        room.unread = room.unread.saturating_sub(bytes.len() + 1);
        // A byte that is no text is read as Latin-1, in which it is some letter.
        let text: Cow<'_, str> = std::str::from_utf8(bytes)
            .map_or_else(|_| bytes.iter().copied().map(char::from).collect(), Cow::Borrowed);
        let text = text.trim_end_matches(['\r', ' ', '\t']);
        if let Some(comment) = text.trim_start().strip_prefix('#') {
            above.comment(layout, comment);
            continue;
        }
        if text.trim().is_empty() {
            above.blank();
            continue;
        }
        above.close();
        if parsed.lines.len() == LINES_MAX {
            parsed.left_out += 1;
            continue;
        }
        let read = if text.len() > LINE_BYTES_MAX { None } else { line(layout, text) };
        let Some(Read { indicator, score, own, false_positive }) = read else {
            parsed.rejected += 1;
            if parsed.rejects.len() < REJECTS_MAX {
                let head: String = text.chars().take(SHOWN_CHARS).collect();
                parsed.rejects.push(format!("line {}: `{head}`", place + 1));
            }
            continue;
        };
        let false_positive_bytes = VALUE_COPIES * false_positive.map_or(0, json_bytes);
        let bytes = VALUE_COPIES * json_bytes(&indicator.value) + json_bytes(&indicator.raw);
        if !room.takes(bytes + false_positive_bytes) {
            parsed.left_out += 1;
            continue;
        }
        let (comment, is_cut) = match own {
            Some(own) => {
                let head = head(own, COMMENT_BYTES_MAX);
                (Some(Arc::from(head)), head.len() < own.len())
            }
            None => (above.description(), above.is_cut),
        };
        let comment = comment.filter(|comment: &Arc<str>| room.takes_comment(comment));
        let is_left_away = comment.is_none() && (own.is_some() || above.describes());
        parsed.comments_cut += u64::from(is_left_away || (is_cut && comment.is_some()));
        let false_positive = false_positive.map(ToOwned::to_owned);
        parsed.lines.push(Line { indicator, score, comment, false_positive });
    }
    parsed
}

/// How many bytes documents may still hold.
struct Room {
    bytes: usize,
    /// Bytes of the file that are not read yet.
    unread: usize,
}

impl Room {
    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }

    /// The values of the lines to come go before comments.
    fn takes_comment(&mut self, comment: &str) -> bool {
        let bytes = COMMENT_COPIES * json_bytes(comment);
        bytes + (VALUE_COPIES + 1) * self.unread <= self.bytes && self.takes(bytes)
    }
}

/// How long a text is as JSON.
fn json_bytes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            ..b' ' => 6,
            _ => 1,
        })
        .sum()
}

/// As much of a text as `bytes` hold.
fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The comment lines above a value, which describe all that follow until the next ones.
#[derive(Default)]
struct Above {
    text: String,
    /// The text once more, for the lines it describes.
    shared: Option<Arc<str>>,
    is_closed: bool,
    is_header: bool,
    is_cut: bool,
}

impl Above {
    fn comment(&mut self, layout: Layout, comment: &str) {
        let text = comment.trim_matches(|letter: char| letter.is_whitespace() || letter == '#');
        let is_rule = text.chars().all(|letter| matches!(letter, '-' | '=' | '*' | '#' | '_'));
        // A value that was commented out ends no description.
        if text.is_empty() || is_rule || is_switched_off(layout, text) {
            return;
        }
        if self.is_closed {
            *self = Self::default();
        }
        // What a file says of its own layout describes no value.
        self.is_header |= text.starts_with("FORMAT -") || text.starts_with("LOKI ");
        let room = COMMENT_BYTES_MAX.saturating_sub(self.text.len() + 1);
        let fitting = head(text, room);
        self.is_cut |= fitting.len() < text.len();
        if !self.text.is_empty() && !fitting.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(fitting);
    }

    fn blank(&mut self) {
        self.is_closed |= !self.text.is_empty();
    }

    fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether there is a description, be it kept or not.
    fn describes(&self) -> bool {
        !self.is_header && !self.text.is_empty()
    }

    fn description(&mut self) -> Option<Arc<str>> {
        if !self.describes() {
            return None;
        }
        Some(Arc::clone(self.shared.get_or_insert_with(|| Arc::from(self.text.as_str()))))
    }
}

/// Whether a comment is a value that was commented out.
fn is_switched_off(layout: Layout, text: &str) -> bool {
    if text.len() > LINE_BYTES_MAX {
        return false;
    }
    match layout {
        Layout::C2 => !text.contains(char::is_whitespace) && line(layout, text).is_some(),
        Layout::Hash => line(layout, text).is_some(),
        Layout::Filename => score_at(text).is_some(),
    }
}

/// What a line says by itself.
struct Read<'l> {
    indicator: Indicator,
    score: Option<u32>,
    own: Option<&'l str>,
    false_positive: Option<&'l str>,
}

fn line(layout: Layout, text: &str) -> Option<Read<'_>> {
    match layout {
        Layout::C2 => {
            let (value, score) = match text.split_once(';') {
                Some((value, rest)) => (value, Some(score(rest)?)),
                None => (text, None),
            };
            let is_server = |found: &Indicator| is_server(found.kind);
            // What stands here is a server, though its name may be one of a file elsewhere: `evil.zip`.
            let as_host = || indicator::parse(Some(IndicatorKind::Domain), value).ok();
            let indicator = indicator::parse(None, value).ok().filter(is_server).or_else(as_host);
            // Names that are none in the world's DNS, such as those with a wrong ending, are still what was given.
            let indicator = indicator.or_else(|| as_given(value))?;
            Some(Read { indicator, score, own: None, false_positive: None })
        }
        Layout::Hash => {
            let (value, rest) = text.split_once(';').unwrap_or((text, ""));
            let kind = IndicatorKind::of_hash_length(value.trim().len())?;
            let indicator = indicator::parse(Some(kind), value).ok()?;
            let (first, others) = rest.split_once(';').unwrap_or((rest, ""));
            let (score, comment) = match score(first) {
                Some(score) => (Some(score), others),
                None => (None, rest),
            };
            let own = Some(comment.trim()).filter(|text| !text.is_empty());
            Some(Read { indicator, score, own, false_positive: None })
        }
        Layout::Filename => {
            let (pattern, score, false_positive) = match score_at(text) {
                None => (text, None, None),
                Some((at, score, rest)) => (text.get(..at)?, Some(score), rest),
            };
            let indicator = indicator::parse(Some(IndicatorKind::FilenameRegex), pattern).ok()?;
            Some(Read { indicator, score, own: None, false_positive })
        }
    }
}

fn is_server(kind: IndicatorKind) -> bool {
    matches!(
        kind,
        IndicatorKind::Ipv4
            | IndicatorKind::Ipv6
            | IndicatorKind::IpPort
            | IndicatorKind::Cidr
            | IndicatorKind::Domain
            | IndicatorKind::Hostname
            | IndicatorKind::Url
    )
}

/// A name with a dot that is no name of the DNS, kept as `other`.
fn as_given(value: &str) -> Option<Indicator> {
    let value = value.trim();
    let is_name = value.contains('.')
        && !value.starts_with('.')
        && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'>');
    is_name.then(|| indicator::parse(Some(IndicatorKind::Other), value).ok())?
}

fn score(text: &str) -> Option<u32> {
    let text = text.trim();
    let is_number = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?.filter(|score| *score <= 100)
}

/// Where the score of a pattern stands: behind the first `;` that a score follows, as a pattern may hold one too.
fn score_at(text: &str) -> Option<(usize, u32, Option<&str>)> {
    text.match_indices(';').find_map(|(at, _)| {
        let rest = text.get(at + 1..)?;
        let (first, others) = rest.split_once(';').map_or((rest, None), |(a, b)| (a, Some(b)));
        Some((at, score(first)?, others.map(str::trim).filter(|text| !text.is_empty())))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(layout: Layout, body: &str, expected: &[(&str, Option<u32>, Option<&str>)]) {
        let parsed = parse(layout, body.as_bytes());
        let found: Vec<_> = parsed
            .lines
            .iter()
            .map(|line| (line.indicator.value.as_str(), line.score, line.comment.as_deref()))
            .collect();
        assert_eq!(found, expected, "{:?}", parsed.rejects);
    }

    #[test]
    fn the_comment_above_describes_until_the_next_one() {
        check(
            Layout::C2,
            "\u{feff}#\n# LOKI C2 IOCs\n#\n# FORMAT ---\n# c2-server.tld\n\nfirst.com\n\n# One report\n# http://a/\nEVIL.com\r\n\
             # commented-out.com\n1.2.3.4;65\n\n\n5.6.7.8\n# Two\n# -----\nb[.]example.com\n# Last Line",
            &[
                ("first.com", None, None),
                ("evil.com", None, Some("One report\nhttp://a/")),
                ("1.2.3.4", Some(65), Some("One report\nhttp://a/")),
                ("5.6.7.8", None, Some("One report\nhttp://a/")),
                ("b.example.com", None, Some("Two")),
            ],
        );
    }

    #[test]
    fn a_hash_may_have_a_score_before_its_comment_and_semicolons_in_it() {
        let md5 = "D41D8CD98F00B204E9800998ECF8427E";
        let low = "d41d8cd98f00b204e9800998ecf8427e";
        check(
            Layout::Hash,
            &format!("{md5};70;a; b\n{md5};a; b\n{md5};2015 report\n{md5}\n{md5}00;x\n"),
            &[
                (low, Some(70), Some("a; b")),
                (low, None, Some("a; b")),
                (low, None, Some("2015 report")),
                (low, None, None),
            ],
        );
    }

    #[test]
    fn a_pattern_stays_letter_for_letter() {
        let parsed = parse(
            Layout::Filename,
            "# Case\n# \\\\old\\.exe;70\n\\\\svch\u{f6}st;x\\.EXE$;80;(?i)C:\\\\Win;dows\n(?i)plain\n".as_bytes(),
        );
        let [one, two] = parsed.lines.as_slice() else { panic!("{parsed:?}") };
        assert_eq!(one.indicator.value, "\\\\svch\u{f6}st;x\\.EXE$");
        assert_eq!(
            (one.score, one.false_positive.as_deref()),
            (Some(80), Some("(?i)C:\\\\Win;dows"))
        );
        assert_eq!(
            (one.comment.as_deref(), one.indicator.kind),
            (Some("Case"), IndicatorKind::FilenameRegex)
        );
        assert_eq!((two.indicator.value.as_str(), two.score), ("(?i)plain", None));
    }

    #[test]
    fn a_name_that_is_also_a_file_is_a_server_here() {
        check(
            Layout::C2,
            "setup.zip\nevil.com\n",
            &[("setup.zip", None, None), ("evil.com", None, None)],
        );
        let kinds =
            parse(Layout::C2, b"setup.zip").lines.into_iter().map(|line| line.indicator.kind);
        assert_eq!(kinds.collect::<Vec<_>>(), [IndicatorKind::Domain]);
    }

    #[test]
    fn a_long_comment_is_cut_and_told() {
        let comment = format!("# {}\n", "word ".repeat(2_000));
        let parsed = parse(
            Layout::C2,
            format!("{comment}a.com\n\n{comment}b.com\n# short\nc.com").as_bytes(),
        );
        let lengths: Vec<_> =
            parsed.lines.iter().map(|line| line.comment.as_deref().map_or(0, str::len)).collect();
        assert!(
            lengths[0] <= COMMENT_BYTES_MAX && lengths[0] > COMMENT_BYTES_MAX - 8,
            "{lengths:?}"
        );
        assert_eq!((lengths[2], parsed.comments_cut, parsed.left_out), (5, 2, 0));
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let parsed = parse(Layout::Hash, format!("{md5};{}", "\u{e9}".repeat(3_000)).as_bytes());
        assert_eq!(
            (parsed.lines[0].comment.as_deref().map(str::len), parsed.comments_cut),
            (Some(COMMENT_BYTES_MAX), 1)
        );
    }

    #[test]
    fn lines_and_rejects_beyond_the_limits_are_counted() {
        let body: String = (0..LINES_MAX + 3).map(|number| format!("a{number}.com\n")).collect();
        let parsed = parse(Layout::C2, body.as_bytes());
        assert_eq!((parsed.lines.len(), parsed.left_out, parsed.rejected), (LINES_MAX, 3, 0));
        let parsed = parse(Layout::C2, "?\n".repeat(REJECTS_MAX + 3).as_bytes());
        assert_eq!((parsed.rejects.len(), parsed.rejected), (REJECTS_MAX, REJECTS_MAX as u64 + 3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            for layout in [Layout::C2, Layout::Hash, Layout::Filename] {
                parse(layout, &body);
            }
        }
    }
}
