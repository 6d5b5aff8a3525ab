//! The files of `iocs/`: a value a line, described by its own comment or by the comment lines above it.
//!
//! Three layouts, by the word in the file's name: `c2` (`value[;score]`), `hash` (`hash[;score];comment`) and `filename`
//! (`pattern[;score[;false positives]]`). What stands in a file is never changed but for space at its ends.

use indicator::{self, Indicator, IndicatorKind};

/// Bytes of a line; the longest today has 1,100.
pub const LINE_BYTES_MAX: usize = 16 << 10;
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
    pub comment: Option<String>,
    /// What a match must not match as well.
    pub false_positive: Option<String>,
}

/// A file as it was read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Its lines, in order.
    pub lines: Vec<Line>,
    /// Malformed lines, with their numbers.
    pub rejects: Vec<String>,
}

/// Reads a file. Any bytes are survived.
pub fn parse(layout: Layout, body: &[u8]) -> Parsed {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut parsed = Parsed::default();
    let mut above = Above::default();
    for (place, bytes) in body.split(|byte| *byte == b'\n').enumerate() {
        // A byte that is no text is read as Latin-1, in which it is some letter.
        let text = std::str::from_utf8(bytes)
            .map_or_else(|_| bytes.iter().copied().map(char::from).collect(), ToOwned::to_owned);
        let text = text.trim_end_matches(['\r', ' ', '\t']);
        if let Some(comment) = text.trim_start().strip_prefix('#') {
            above.comment(layout, comment);
            continue;
        }
        if text.trim().is_empty() {
            above.blank();
            continue;
        }
        let line = if text.len() > LINE_BYTES_MAX {
            None
        } else {
            line(layout, text, above.description())
        };
        match line {
            Some(line) => parsed.lines.push(line),
            None => {
                let head: String = text.chars().take(SHOWN_CHARS).collect();
                parsed.rejects.push(format!("line {}: `{head}`", place + 1));
            }
        }
    }
    parsed
}

/// The comment lines above a value, which describe all that follow until the next ones.
#[derive(Default)]
struct Above {
    lines: Vec<String>,
    is_closed: bool,
    is_header: bool,
}

impl Above {
    fn comment(&mut self, layout: Layout, comment: &str) {
        let text = comment.trim_matches(|letter: char| letter.is_whitespace() || letter == '#');
        let is_rule = text.chars().all(|letter| matches!(letter, '-' | '=' | '*' | '#' | '_'));
        // A value that was commented out ends no description.
        if text.is_empty() || is_rule || is_switched_off(layout, text) {
            return;
        }
        if std::mem::take(&mut self.is_closed) {
            self.lines.clear();
            self.is_header = false;
        }
        // What a file says of its own layout describes no value.
        self.is_header |= text.starts_with("FORMAT -") || text.starts_with("LOKI ");
        self.lines.push(text.to_owned());
    }

    fn blank(&mut self) {
        if !self.lines.is_empty() {
            self.is_closed = true;
        }
    }

    fn description(&mut self) -> Option<String> {
        self.is_closed = true;
        (!self.is_header && !self.lines.is_empty()).then(|| self.lines.join("\n"))
    }
}

/// Whether a comment is a value that was commented out.
fn is_switched_off(layout: Layout, text: &str) -> bool {
    match layout {
        Layout::C2 => !text.contains(char::is_whitespace) && line(layout, text, None).is_some(),
        Layout::Hash => line(layout, text, None).is_some(),
        Layout::Filename => score_at(text).is_some(),
    }
}

fn line(layout: Layout, text: &str, above: Option<String>) -> Option<Line> {
    match layout {
        Layout::C2 => {
            let (value, score) = match text.split_once(';') {
                Some((value, rest)) => (value, Some(score(rest)?)),
                None => (text, None),
            };
            let indicator =
                indicator::parse(None, value).ok().filter(|found| is_server(found.kind));
            // Names that are none in the world's DNS, such as those with a wrong ending, are still what was given.
            let indicator = indicator.or_else(|| as_given(value))?;
            Some(Line { indicator, score, comment: above, false_positive: None })
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
            let comment = Some(comment.trim()).filter(|text| !text.is_empty());
            let comment = comment.map(ToOwned::to_owned).or(above);
            Some(Line { indicator, score, comment, false_positive: None })
        }
        Layout::Filename => {
            let (pattern, score, false_positive) = match score_at(text) {
                None => (text, None, None),
                Some((at, score, rest)) => (text.get(..at)?, Some(score), rest),
            };
            let indicator = indicator::parse(Some(IndicatorKind::FilenameRegex), pattern).ok()?;
            let false_positive = false_positive.map(ToOwned::to_owned);
            Some(Line { indicator, score, comment: above, false_positive })
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

    proptest! {
        #[test]
        fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            for layout in [Layout::C2, Layout::Hash, Layout::Filename] {
                parse(layout, &body);
            }
        }
    }
}
