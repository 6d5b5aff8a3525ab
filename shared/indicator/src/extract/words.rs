//! Words that hold a defanged spelling: URLs, names, mail addresses and addresses inside them.

use std::net::Ipv4Addr;

use super::{MAX_WORD_BYTES, Search, digits, is_host_byte, is_separator, is_wide};
use crate::kind::IndicatorKind;
use crate::refang::{Copy, space_is_inside};
use crate::{OTHER_TOP_LEVELS, normal};

impl<'t> Search<'t> {
    /// Reads the word around `at`, which holds a defanged spelling.
    pub(super) fn word(&mut self, at: usize) {
        let start = self.word_start(at);
        let mut word = std::mem::take(&mut self.word);
        word.clear();
        let end = self.copy_word(start, &mut word);
        self.words_done = end.max(at + 1);
        if word.any_fanged
            && let Ok(text) = std::str::from_utf8(&word.out)
        {
            self.read_word(&Word { text, copy: &word, end });
            // A word read in pieces: what ends at the seam may go on behind it.
            if end >= start + MAX_WORD_BYTES
                && let Some((_, halved)) =
                    self.found.pop_if(|(at, last)| *at + last.raw.len() == end)
            {
                self.seen.remove(&(halved.kind, halved.value));
                self.cut = true;
            }
        }
        self.word = word;
    }

    fn word_start(&self, at: usize) -> usize {
        let floor = self.words_done.max(at.saturating_sub(MAX_WORD_BYTES));
        let mut start = at;
        // `name [dot] com`: the first such bracket is the first place looked at.
        if start > floor && self.byte(start - 1) == b' ' && space_is_inside(self.bytes, start - 1) {
            start -= 1;
        }
        let mut next = self.byte(start);
        let mut next_letter = char::from(next);
        while start > floor {
            let byte = self.byte(start - 1);
            if byte.is_ascii() {
                if is_separator(byte) || (is_wide(next_letter) && byte.is_ascii_alphanumeric()) {
                    break;
                }
                start -= 1;
                (next, next_letter) = (byte, char::from(byte));
            } else {
                let Some(letter) = self.text.get(..start).and_then(|text| text.chars().next_back())
                else {
                    break;
                };
                if !letter.is_alphanumeric() || (is_wide(letter) && next.is_ascii_alphanumeric()) {
                    break;
                }
                if start - letter.len_utf8() < floor {
                    break;
                }
                start -= letter.len_utf8();
                (next, next_letter) = (byte, letter);
            }
        }
        start
    }

    /// Copies the word at `start`, refanged; answers where it ends.
    fn copy_word(&self, start: usize, word: &mut Copy) -> usize {
        let mut at = start;
        let mut last = ' ';
        let limit = start + MAX_WORD_BYTES;
        while at < limit && at < self.bytes.len() {
            let byte = self.byte(at);
            if byte.is_ascii() {
                let inner_space = byte == b' ' && space_is_inside(self.bytes, at);
                if (is_separator(byte) && !inner_space)
                    || (is_wide(last) && byte.is_ascii_alphanumeric())
                {
                    break;
                }
                let place = u32::try_from(at).unwrap_or(u32::MAX);
                at += 1 + word.push(byte, place, false, self.after(at + 1));
                last = char::from(byte);
            } else {
                let Some(letter) = self.text.get(at..).and_then(|text| text.chars().next()) else {
                    break;
                };
                if !letter.is_alphanumeric() || (is_wide(letter) && last.is_ascii_alphanumeric()) {
                    break;
                }
                for offset in 0..letter.len_utf8() {
                    let place = u32::try_from(at + offset).unwrap_or(u32::MAX);
                    word.push(self.byte(at + offset), place, false, &[]);
                }
                at += letter.len_utf8();
                last = letter;
            }
        }
        at
    }

    fn read_word(&mut self, word: &Word<'_>) {
        // Each attempt reads to the end of the word; a list of URLs succeeds, only nonsense fails often.
        const MAX_FAILURES: usize = 8;
        let mut failures = 0;
        let mut done = 0;
        while failures < MAX_FAILURES
            && let Some(colon) =
                word.text.get(done..).and_then(|text| text.find("://")).map(|at| done + at)
        {
            let scheme = word.scheme_start(colon).max(done);
            let authority = colon + 3;
            let authority_end = word.find_from(authority, &['/', '?', '#', '\\']);
            if !word.is_fanged(scheme, authority_end) {
                self.read_names(word, done, scheme);
                done = authority_end;
                continue;
            }
            self.read_names(word, done, scheme);
            let end = word.url_end(scheme, authority_end);
            match word.text.get(scheme..end).and_then(|text| normal::url(text, false)) {
                Some(value) => {
                    self.claim_host(word.place(scheme), word.place(authority_end.min(end)));
                    self.add(word.place(scheme), word.place(end), IndicatorKind::Url, value);
                    done = end.max(authority);
                }
                // What follows the scheme may still be a name with something odd behind it.
                None => {
                    failures += 1;
                    done = authority;
                }
            }
        }
        self.read_names(word, done, word.text.len());
    }

    /// Reads the names, addresses and mail addresses in a part of a word that has no scheme.
    fn read_names(&mut self, word: &Word<'_>, from: usize, to: usize) {
        let mut done = from;
        while let Some(fanged) = word.next_fanged(done, to) {
            done = match word.byte(fanged) {
                b'@' => self.read_name(word, fanged + 1, done, to),
                b':' => self.read_fanged_colon(word, fanged, done, to),
                _ => self.read_name(word, fanged, done, to),
            }
            .max(fanged + 1);
        }
    }

    fn read_fanged_colon(
        &mut self,
        word: &Word<'_>,
        colon: usize,
        from: usize,
        to: usize,
    ) -> usize {
        const LONGEST: usize = 45;
        let inside = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let start = word.back_while(colon, from.max(colon.saturating_sub(LONGEST)), inside);
        let mut end = word.on_while(colon, to.min(colon + LONGEST), inside);
        while end > start && word.byte(end - 1) == b'.' {
            end -= 1;
        }
        if let Some((kind, value)) = word.text.get(start..end).and_then(normal::address) {
            self.add(word.place(start), word.place(end), kind, value);
            return end;
        }
        // `192.0.2.1[:]443`, `evil.com[:]8080`
        let host = word.back_while(colon, from, is_host_byte);
        if host < colon && word.byte(colon + 1).is_ascii_digit() {
            return self.read_name(word, colon - 1, from, to);
        }
        colon + 1
    }

    /// Reads the name around `at`; answers where it and what belongs to it end.
    fn read_name(&mut self, word: &Word<'_>, at: usize, from: usize, to: usize) -> usize {
        let run = (word.back_while(at, from, is_host_byte), word.on_while(at, to, is_host_byte));
        self.read_run(word, run, from, to).unwrap_or(run.1)
    }

    fn read_run(
        &mut self,
        word: &Word<'_>,
        run: (usize, usize),
        from: usize,
        to: usize,
    ) -> Option<usize> {
        let name = word.text.get(run.0..run.1)?;
        let head = name.len() - name.trim_start_matches(['.', '-', '_']).len();
        let (start, mut end) =
            (run.0 + head, run.0 + head + name.trim_matches(['.', '-', '_']).len());
        let name = word.text.get(start..end)?;
        if name.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit()) {
            let address = name.parse::<Ipv4Addr>().ok()?;
            return Some(self.add_with_tail(
                word,
                IndicatorKind::Ipv4,
                address.to_string(),
                start,
                end,
                to,
            ));
        }
        let (kind, value) = match normal::host(name) {
            Some(found) => found,
            None => {
                let shorter = without_glued_tail(name)?;
                end = start + shorter.len();
                normal::host(shorter)?
            }
        };
        if start > from && word.byte(start - 1) == b'@' {
            let local = word.back_while(start - 1, from, |byte| {
                byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte)
            });
            if let Some(value) = word
                .text
                .get(local..end)
                .and_then(|text| normal::email(text.trim_start_matches('.')))
            {
                self.add(word.place(local), word.place(end), IndicatorKind::Email, value);
                return Some(end);
            }
        }
        if end < start + name.len() {
            self.add(word.place(start), word.place(end), kind, value);
            return Some(end);
        }
        Some(self.add_with_tail(word, kind, value, start, end, to))
    }

    /// Adds a host with the port, prefix length or path after it.
    fn add_with_tail(
        &mut self,
        word: &Word<'_>,
        kind: IndicatorKind,
        value: String,
        start: usize,
        end: usize,
        to: usize,
    ) -> usize {
        let mut tail = end;
        if word.byte(end) == b':' {
            let length = word.text.as_bytes().get(end + 1..to).map_or(0, digits);
            if (1..=5).contains(&length) {
                tail = end + 1 + length;
            }
        }
        if word.byte(tail) == b'/' && tail < to {
            let length = word.text.as_bytes().get(tail + 1..to).map_or(0, digits);
            let after = tail + 1 + length;
            if kind == IndicatorKind::Ipv4
                && tail == end
                && (1..=2).contains(&length)
                && !matches!(word.byte(after), b'/' | b'_')
                && !word.byte(after).is_ascii_alphanumeric()
                && let Some((kind, value)) = word.text.get(start..after).and_then(normal::range)
            {
                self.add(word.place(start), word.place(after), kind, value);
                return after;
            }
            let url_end = word.url_end(start, tail).min(to);
            if url_end > tail + 1
                && !word.path_begins_with_name(tail + 1, url_end)
                && let Some(value) =
                    word.text.get(start..url_end).and_then(|text| normal::url(text, false))
            {
                self.claim_host(word.place(start), word.place(tail));
                self.add(word.place(start), word.place(url_end), IndicatorKind::Url, value);
                return url_end;
            }
        }
        if kind == IndicatorKind::Ipv4
            && tail > end
            && let Some((kind, value)) =
                word.text.get(start..tail).and_then(normal::address_with_port)
        {
            self.add(word.place(start), word.place(tail), kind, value);
            return tail;
        }
        self.claim_host(word.place(start), word.place(end));
        self.add(word.place(start), word.place(end), kind, value);
        end
    }
}

/// A refanged word and where its letters came from.
struct Word<'w> {
    text: &'w str,
    copy: &'w Copy,
    /// End of the original.
    end: usize,
}

impl Word<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(b' ')
    }

    /// Where in the original the byte at `at` begins.
    fn place(&self, at: usize) -> usize {
        self.copy.at.get(at).map_or(self.end, |place| usize::try_from(*place).unwrap_or(self.end))
    }

    fn is_fanged(&self, from: usize, to: usize) -> bool {
        self.copy.fanged.get(from..to).is_some_and(|range| range.contains(&true))
    }

    /// The next place that was defanged and may be within a name.
    fn next_fanged(&self, from: usize, to: usize) -> Option<usize> {
        let fanged = self.copy.fanged.get(from..to)?;
        fanged
            .iter()
            .enumerate()
            .find(|(index, fanged)| {
                **fanged && matches!(self.byte(from + index), b'.' | b'@' | b':')
            })
            .map(|(index, _)| from + index)
    }

    fn scheme_start(&self, colon: usize) -> usize {
        const SCHEMES: [&str; 10] =
            ["https", "http", "sftp", "ftps", "ftp", "wss", "ws", "tcp", "udp", "smb"];
        let before = self.text.as_bytes().get(..colon).unwrap_or_default();
        let length = SCHEMES
            .iter()
            .find(|scheme| {
                before
                    .len()
                    .checked_sub(scheme.len())
                    .and_then(|from| before.get(from..))
                    .is_some_and(|tail| tail.eq_ignore_ascii_case(scheme.as_bytes()))
            })
            .map_or(0, |scheme| scheme.len());
        colon - length
    }

    fn find_from(&self, from: usize, letters: &[char]) -> usize {
        self.text
            .get(from..)
            .and_then(|rest| rest.find(letters))
            .map_or(self.text.len(), |at| from + at)
    }

    /// The end of a URL without the punctuation of the sentence around it.
    fn url_end(&self, start: usize, authority_end: usize) -> usize {
        // A backslash is no part of a URL's path; it opens what was `\n` to the program that wrote the text.
        let mut end = self.find_from(authority_end, &['\\']);
        let mut from = authority_end;
        // `…/a;hxxp://…`: the next URL of a list.
        while let Some(colon) =
            self.text.get(from..end).and_then(|rest| rest.find("://")).map(|at| from + at)
        {
            let scheme = self.scheme_start(colon);
            if scheme > from
                && matches!(self.byte(scheme - 1), b';' | b')' | b']' | b'}')
                && self.is_fanged(scheme, colon + 3)
            {
                end = scheme - 1;
                break;
            }
            from = colon + 3;
        }
        let Some(mut text) = self.text.get(start..end) else { return end };
        let count = |letter: u8| memchr::memchr_iter(letter, text.as_bytes()).count();
        let mut surplus = [(b'(', b')'), (b'[', b']'), (b'{', b'}')]
            .map(|(open, close)| (char::from(close), count(close).saturating_sub(count(open))));
        while let Some(last) = text.chars().next_back() {
            let closing = surplus.iter_mut().find(|(close, left)| *close == last && *left > 0);
            match closing {
                Some((_, left)) => *left -= 1,
                None if matches!(
                    last,
                    '.' | ',' | ';' | ':' | '!' | '?' | '*' | '\\' | '(' | '[' | '{' | '='
                ) && last != '=' => {}
                None => break,
            }
            text = text.get(..text.len() - last.len_utf8()).unwrap_or_default();
        }
        start + text.len()
    }

    /// Whether the path's first part is itself a defanged name: `a[.]com/b[.]com` is a list.
    fn path_begins_with_name(&self, from: usize, to: usize) -> bool {
        let end = self.find_from(from, &['/']).min(to);
        self.is_fanged(from, end)
            && self.text.get(from..end).is_some_and(|part| {
                normal::host(part).is_some() || part.parse::<Ipv4Addr>().is_ok()
            })
    }

    fn back_while(&self, at: usize, floor: usize, inside: impl Fn(u8) -> bool) -> usize {
        let before = self.text.as_bytes().get(floor..at).unwrap_or_default();
        at - before.iter().rev().take_while(|byte| inside(**byte)).count()
    }

    fn on_while(&self, at: usize, limit: usize, inside: impl Fn(u8) -> bool) -> usize {
        let after = self.text.as_bytes().get(at..limit).unwrap_or_default();
        at + after.iter().take_while(|byte| inside(**byte)).count()
    }
}

/// The name in `evil.com-based` and, where markup glued words, in `evil.comThe`.
fn without_glued_tail(name: &str) -> Option<&str> {
    let top_at = name.rfind('.')? + 1;
    let top = name.get(top_at..)?;
    let hyphen = top.find('-');
    let capital = top
        .as_bytes()
        .windows(2)
        .position(|pair| matches!(pair, [before, after] if before.is_ascii_lowercase() && after.is_ascii_uppercase()))
        .map(|at| at + 1);
    let length = hyphen.or(capital)?;
    let short = name.get(..top_at + length)?;
    let top = short.get(top_at..)?;
    (top.len() >= 2 || OTHER_TOP_LEVELS.contains(&top)).then_some(short)
}
