//! Bytes to text: which encoding a feed is really in, whatever it says.
//!
//! In order: byte order mark, the shape of utf-16/32 without one, HTTP charset, XML declaration, utf-8 if it is valid, a guess.
//! Bytes that do not fit the encoding are read as windows-1252 one by one, so no text is lost to U+FFFD.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::entry::Repair;

/// What windows-1252 makes of the bytes 0x80 to 0x9f.
pub(super) const WINDOWS_1252_HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// How far into the document an XML declaration is looked for: comments and PHP notices may stand before it.
const DECLARATION_WITHIN: usize = 4096;
/// How much of an undeclared document the guess is made from.
const GUESS_FROM: usize = 256 * 1024;

/// How much a decoder is given after a byte that is wrong, doubled as long as all is well: some look at all that they are given
/// before they find the first wrong byte, which for a body of wrong bytes alone would be each byte time and again.
const WINDOW_LEAST: usize = 64;

/// What is decoded at a time.
const DECODED_BYTES: usize = 8 << 10;

pub(super) struct Decoded<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) encoding: &'static str,
    pub(super) repairs: Vec<Repair>,
}

pub(super) fn decode<'a>(body: &'a [u8], content_type: Option<&str>) -> Decoded<'a> {
    let mut repairs = Vec::new();
    let (text, encoding) = to_text(body, content_type, &mut repairs);
    let length = text.len();
    let text = without_controls(text);
    if text.len() < length {
        repairs.push(Repair::ControlCharacters);
    }
    Decoded { text, encoding, repairs }
}

fn to_text<'a>(
    body: &'a [u8],
    content_type: Option<&str>,
    repairs: &mut Vec<Repair>,
) -> (Cow<'a, str>, &'static str) {
    match body {
        [0, 0, 0xfe, 0xff, rest @ ..] => {
            return (utf_32(rest, u32::from_be_bytes).into(), "utf-32be");
        }
        [0xff, 0xfe, 0, 0, rest @ ..] => {
            return (utf_32(rest, u32::from_le_bytes).into(), "utf-32le");
        }
        [0, 0, 0, b'<' | b' ' | b'\n', ..] => {
            return (utf_32(body, u32::from_be_bytes).into(), "utf-32be");
        }
        [b'<' | b' ' | b'\n', 0, 0, 0, ..] => {
            return (utf_32(body, u32::from_le_bytes).into(), "utf-32le");
        }
        [0xfe, 0xff, rest @ ..] => return (repaired(UTF_16BE, rest, repairs), "utf-16be"),
        [0xff, 0xfe, rest @ ..] => return (repaired(UTF_16LE, rest, repairs), "utf-16le"),
        [0, b'<' | b' ' | b'\n' | b'{', ..] => {
            return (repaired(UTF_16BE, body, repairs), "utf-16be");
        }
        [b'<' | b' ' | b'\n' | b'{', 0, ..] => {
            return (repaired(UTF_16LE, body, repairs), "utf-16le");
        }
        _ => {}
    }
    let (body, marked) = match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => (rest, true),
        _ => (body, false),
    };
    let named = content_type.and_then(charset).or_else(|| declared(body)).filter(|_| !marked);
    let encoding = named.and_then(|label| Encoding::for_label(label.as_bytes()));
    let valid = std::str::from_utf8(body);
    match encoding {
        // A utf-16 label on bytes that are plainly not utf-16 says nothing.
        Some(encoding) if encoding != UTF_8 && encoding != UTF_16BE && encoding != UTF_16LE => {
            match valid {
                // Text in an 8-bit encoding is next to never valid utf-8 by chance.
                Ok(text)
                    if !text.is_ascii()
                        && encoding.is_ascii_compatible()
                        && encoding != encoding_rs::ISO_2022_JP =>
                {
                    repairs.push(Repair::Encoding);
                    (Cow::Borrowed(text), "utf-8")
                }
                _ => (repaired(encoding, body, repairs), label(encoding)),
            }
        }
        _ => match valid {
            Ok(text) => (Cow::Borrowed(text), "utf-8"),
            Err(_) => {
                repairs.push(Repair::Encoding);
                let guessed = guess(body);
                (repaired(guessed, body, &mut Vec::new()), label(guessed))
            }
        },
    }
}

fn label(encoding: &'static Encoding) -> &'static str {
    if encoding == UTF_8 { "utf-8" } else { encoding.name() }
}

/// Not valid utf-8: is it utf-8 with some bad bytes, or something else?
fn guess(body: &[u8]) -> &'static Encoding {
    let (mut good, mut bad) = (0_usize, 0_usize);
    let sample = &body[..body.len().min(GUESS_FROM)];
    for chunk in sample.utf8_chunks() {
        good += chunk.valid().bytes().filter(|byte| *byte >= 0xc2).count();
        bad += chunk.invalid().len();
    }
    if good >= bad {
        return UTF_8;
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(sample, true);
    // A handful of accented letters is no evidence for an exotic encoding.
    if bad >= 8 { detector.guess(None, chardetng::Utf8Detection::Deny) } else { WINDOWS_1252 }
}

/// Decodes; a byte sequence that is wrong in `encoding` is read as windows-1252.
fn repaired<'a>(
    encoding: &'static Encoding,
    body: &'a [u8],
    repairs: &mut Vec<Repair>,
) -> Cow<'a, str> {
    if encoding == UTF_8 {
        let mut text = String::with_capacity(body.len() + body.len() / 16);
        let mut chunks = body.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            // At the very end it is a letter cut in half, not a wrong byte.
            if chunks.peek().is_some() || chunk.invalid().len() < 2 {
                text.extend(chunk.invalid().iter().map(|byte| windows_1252(*byte)));
            }
        }
        return text.into();
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(body.len() + body.len() / 8 + 16);
    let mut rest = body;
    let mut wrong = false;
    let mut window = WINDOW_LEAST;
    // Decoding into the text itself would fill all its room with zeros at each call.
    let mut decoded = [0; DECODED_BYTES];
    loop {
        let part = &rest[..rest.len().min(window)];
        let is_last = part.len() == rest.len();
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(part, &mut decoded, is_last);
        rest = &rest[read..];
        text.push_str(&String::from_utf8_lossy(&decoded[..written]));
        match result {
            encoding_rs::DecoderResult::InputEmpty if is_last => break,
            encoding_rs::DecoderResult::InputEmpty => window = window.saturating_mul(2),
            encoding_rs::DecoderResult::OutputFull => {}
            encoding_rs::DecoderResult::Malformed(bad, after) => {
                wrong = true;
                window = WINDOW_LEAST;
                let end = body.len() - rest.len() - usize::from(after);
                let start = end.saturating_sub(usize::from(bad));
                if encoding != UTF_16BE && encoding != UTF_16LE {
                    text.extend(body[start..end].iter().map(|byte| windows_1252(*byte)));
                }
                // A new decoder starts right after the bad bytes, whatever the old one had read ahead.
                rest = &body[end..];
                decoder = encoding.new_decoder_without_bom_handling();
            }
        }
    }
    if wrong {
        repairs.push(Repair::Encoding);
    }
    text.into()
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252_HIGH[usize::from(byte) - 0x80],
        _ => char::from(byte),
    }
}

fn utf_32(body: &[u8], read: fn([u8; 4]) -> u32) -> String {
    let units = body.chunks_exact(4).map(|unit| read([unit[0], unit[1], unit[2], unit[3]]));
    units.filter_map(char::from_u32).filter(|c| *c != '\u{feff}').collect()
}

fn charset(content_type: &str) -> Option<&str> {
    let at = find_ignoring_case(content_type.as_bytes(), b"charset=")?;
    let value = content_type.get(at + 8..)?.trim_start_matches(['"', '\'', ' ']);
    let end = value.find(['"', '\'', ';', ' ']).unwrap_or(value.len());
    Some(&value[..end]).filter(|label| !label.is_empty())
}

fn declared(body: &[u8]) -> Option<&str> {
    let head = &body[..body.len().min(DECLARATION_WITHIN)];
    let start = memchr::memmem::find(head, b"<?xml")?;
    let end = start + memchr::memchr(b'>', &head[start..])?;
    let declaration = &head[start..end];
    let at = find_ignoring_case(declaration, b"encoding")?;
    let rest = std::str::from_utf8(&declaration[at + 8..]).ok()?;
    let value = rest.trim_start().strip_prefix('=')?.trim_start();
    let value = value.trim_start_matches(['"', '\'']);
    let end = value.find(['"', '\'', '?', ' ']).unwrap_or(value.len());
    Some(value[..end].trim()).filter(|label| !label.is_empty())
}

fn find_ignoring_case(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}

/// Control characters are legal in no XML and mean nothing in any feed.
pub(super) fn without_controls(text: Cow<'_, str>) -> Cow<'_, str> {
    let unwanted = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    // A fold without a branch lets the compiler vectorise this pass over the whole document.
    let is = |byte: u8| {
        u8::from(byte < 0x20) & u8::from(byte.wrapping_sub(b'\t') > 1) & u8::from(byte != b'\r')
    };
    let found = text
        .as_bytes()
        .chunks(4096)
        .any(|chunk| chunk.iter().fold(0, |any, byte| any | is(*byte)) != 0);
    if !found {
        return text;
    }
    text.chars().filter(|c| !(c.is_ascii() && unwanted(*c as u8))).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &[u8], content_type: Option<&str>, encoding: &str, text: &str) {
        let decoded = decode(body, content_type);
        assert_eq!((decoded.encoding, decoded.text.as_ref()), (encoding, text));
    }

    #[test]
    fn a_byte_order_mark_beats_everything() {
        check(
            b"\xef\xbb\xbf<?xml version='1.0' encoding='iso-8859-1'?>\xc3\xa9",
            Some("text/xml; charset=koi8-r"),
            "utf-8",
            "<?xml version='1.0' encoding='iso-8859-1'?>é",
        );
        check(b"\xff\xfe<\0a\0", None, "utf-16le", "<a");
        check(b"\0\0\xfe\xff\0\0\0<\0\0\0a", None, "utf-32be", "<a");
    }

    #[test]
    fn the_charset_of_http_beats_the_declaration() {
        check(
            b"<?xml encoding='utf-8'?>\xc1",
            Some("text/xml; charset=\"koi8-r\""),
            "KOI8-R",
            "<?xml encoding='utf-8'?>а",
        );
    }

    #[test]
    fn a_wrong_utf_8_declaration_costs_no_letter() {
        check(
            "<?xml encoding='utf-8'?>caf\u{e9} \u{201c}na\u{ef}ve"
                .replace('\u{201c}', "Q")
                .chars()
                .map(|c| c as u8)
                .collect::<Vec<_>>()
                .as_slice(),
            None,
            "windows-1252",
            "<?xml encoding='utf-8'?>café Qnaïve",
        );
        check(b"<a>caf\xc3\xa9 don\x92t \xe2\x82\xac</a>", None, "utf-8", "<a>café don’t €</a>");
    }

    #[test]
    fn utf_8_declared_as_latin_1_is_seen_through() {
        check(
            "<?xml encoding='iso-8859-1'?>é€".as_bytes(),
            None,
            "utf-8",
            "<?xml encoding='iso-8859-1'?>é€",
        );
    }

    #[test]
    fn bad_bytes_in_a_declared_encoding_are_read_as_windows_1252() {
        let decoded = decode(b"<?xml encoding='euc-kr'?>\xb0\xa1\xff\xb0\xa2", None);
        assert_eq!(decoded.text, "<?xml encoding='euc-kr'?>가ÿ각");
        assert_eq!(decoded.repairs, [Repair::Encoding]);
    }
}
