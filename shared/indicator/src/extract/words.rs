//! Words that hold a defanged spelling: URLs, names, mail addresses and addresses inside them.

use std::net::Ipv4Addr;

use super::vocabulary::{bare, is_link, says_host};
use super::{MAX_WORD_BYTES, Search, digits, is_host_byte, is_mark, is_separator, is_wide};
use crate::files::{Likeness, likeness, says_file};
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
                && let Some(halved) = self.found.pop_if(|last| last.to == end)
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
                if !is_letter(letter) || (is_wide(letter) && next.is_ascii_alphanumeric()) {
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
                if !is_letter(letter) || (is_wide(letter) && last.is_ascii_alphanumeric()) {
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
        // From where on names count that stand outside of URLs.
        let mut names = 0;
        while failures < MAX_FAILURES
            && let Some(colon) =
                word.text.get(done..).and_then(|text| text.find("://")).map(|at| done + at)
        {
            let scheme = word.scheme_start(colon).max(done);
            let authority = colon + 3;
            let authority_end = word.find_from(authority, &['/', '?', '#', '\\']);
            self.read_names(word, names, scheme);
            if scheme == colon {
                (done, names) = (authority, authority);
                continue;
            }
            if !word.is_fanged(scheme, authority_end) {
                (done, names) = (authority_end, authority_end);
                continue;
            }
            let end = word.url_end(scheme, authority_end);
            match word.text.get(scheme..end).and_then(|text| normal::url(text, false)) {
                Some(value) => {
                    self.claim_host(word.place(scheme), word.place(authority_end.min(end)));
                    self.add(word.place(scheme), word.place(end), IndicatorKind::Url, value);
                    done = end.max(authority);
                    names = done;
                }
                // The host of a URL that is none counts only if nothing hangs on it: `github.com:port/evil` is no `github.com`.
                None => {
                    failures += 1;
                    done = authority;
                    let hangs = authority_end + 1 < end
                        || word
                            .text
                            .get(authority..authority_end)
                            .is_some_and(|host| host.contains(':'));
                    names = if hangs { authority_end } else { authority };
                }
            }
        }
        self.read_names(word, names.max(done), word.text.len());
    }

    /// Reads the names, addresses and mail addresses in a part of a word that has no scheme.
    fn read_names(&mut self, word: &Word<'_>, from: usize, to: usize) {
        let mut done = from;
        while let Some(fanged) = word.next_fanged(done, to) {
            let part = Part { floor: from, from: done, to };
            done = match word.byte(fanged) {
                b'@' => self.read_name(word, fanged + 1, part),
                b':' => self.read_fanged_colon(word, fanged, part),
                _ => self.read_name(word, fanged, part),
            }
            .max(fanged + 1);
        }
    }

    fn read_fanged_colon(&mut self, word: &Word<'_>, colon: usize, part: Part) -> usize {
        const LONGEST: usize = 45;
        let Part { from, to, .. } = part;
        let inside = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let start = word.back_while(colon, from.max(colon.saturating_sub(LONGEST)), inside);
        let mut end = word.on_while(colon, to.min(colon + LONGEST), inside);
        while end > start && word.byte(end - 1) == b'.' {
            end -= 1;
        }
        if let Some((kind, value)) = word.text.get(start..end).and_then(normal::address) {
            let digits_at =
                |at: usize| digits(word.text.as_bytes().get(at..to).unwrap_or_default());
            if word.byte(end) == b'/' && (1..=3).contains(&digits_at(end + 1)) {
                let end = end + 1 + digits_at(end + 1);
                if let Some((kind, value)) = word.text.get(start..end).and_then(normal::range) {
                    self.add(word.place(start), word.place(end), kind, value);
                    return end;
                }
            }
            if start > from
                && word.byte(start - 1) == b'['
                && word.byte(end) == b']'
                && word.byte(end + 1) == b':'
            {
                let end = end + 2 + digits_at(end + 2);
                if let Some((kind, value)) =
                    word.text.get(start - 1..end).and_then(normal::address_with_port)
                {
                    self.add(word.place(start - 1), word.place(end), kind, value);
                    return end;
                }
            }
            self.add(word.place(start), word.place(end), kind, value);
            return end;
        }
        // `192.0.2.1[:]443`, `evil.com[:]8080`
        let host = word.back_while(colon, from, is_host_byte);
        if host < colon && word.byte(colon + 1).is_ascii_digit() {
            return self.read_name(word, colon - 1, part);
        }
        colon + 1
    }

    /// Reads the name around `at`; answers where it and what belongs to it end.
    fn read_name(&mut self, word: &Word<'_>, mut at: usize, mut part: Part) -> usize {
        loop {
            let run = (
                word.back_while(at, part.from, is_host_byte),
                word.on_while(at, part.to, is_host_byte),
            );
            // `first[.]last@…`: the name so far belongs to a mail address.
            let local_end = word.on_while(run.1, part.to.min(run.1 + LONGEST_LOCAL), is_local);
            let next = local_end + 1;
            if word.byte(local_end) != b'@' || next >= part.to || !is_host_byte(word.byte(next)) {
                return self.read_run(word, run, part).unwrap_or(run.1);
            }
            (at, part.from) = (next, next);
        }
    }

    fn read_run(&mut self, word: &Word<'_>, run: (usize, usize), part: Part) -> Option<usize> {
        let name = word.text.get(run.0..run.1)?;
        let head = name.len() - name.trim_start_matches(['.', '-', '_']).len();
        let (mut start, mut end) =
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
                part.to,
            ));
        }
        start += self.escaped_head(word, start)?;
        let name = word.text.get(start..end)?;
        let (kind, value) = match normal::host(name) {
            Some(found) => found,
            None => {
                let shorter = without_glued_tail(name)?;
                end = start + shorter.len();
                normal::host(shorter)?
            }
        };
        if start > part.floor && word.byte(start - 1) == b'@' {
            let local = word.back_while(start - 1, part.floor, is_local);
            let is_broken = local > 0 && {
                let before = word.byte(local - 1);
                !before.is_ascii() || matches!(before, b'*' | b'#' | b'$' | b'!' | b'~' | b'^')
            };
            if let Some(value) = word
                .text
                .get(local..end)
                .filter(|text| !is_broken && !text.starts_with(".."))
                .and_then(|text| normal::email(text.trim_start_matches('.')))
            {
                self.add(word.place(local), word.place(end), IndicatorKind::Email, value);
                return Some(end);
            }
            // The provider of an address that is none is innocent; `@evil.com` alone names the host.
            if local < start - 1 || is_broken {
                return Some(end);
            }
        }
        if self.is_broken(word, (run.0, start), (end, run.1))
            || self.is_file(word, &value, start, end)
        {
            return Some(end);
        }
        if end < start + name.len() {
            self.add(word.place(start), word.place(end), kind, value);
            return Some(end);
        }
        Some(self.add_with_tail(word, kind, value, start, end, part.to))
    }

    /// How much of a name's head belongs to an escape before it: `\nevil.com`, `%20evil.com`. None if its head is encoded.
    fn escaped_head(&self, word: &Word<'_>, start: usize) -> Option<usize> {
        let before = word.text.get(..start)?;
        if before.ends_with('%') {
            let byte = u8::from_str_radix(word.text.get(start..start + 2)?, 16).ok()?;
            return (!is_host_byte(byte)).then_some(2);
        }
        let is_escape = before.ends_with('\\')
            && !before.ends_with("\\\\")
            && matches!(word.byte(start), b'n' | b'r' | b't')
            && !before.contains(":\\");
        Some(usize::from(is_escape))
    }

    /// Whether what stands around a name shows that a part of it is missing.
    ///
    /// `before` is what was taken off the run's head, `after` off its end.
    fn is_broken(&self, word: &Word<'_>, before: (usize, usize), after: (usize, usize)) -> bool {
        let letter = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        let head = word.text.get(before.0..before.1).unwrap_or_default();
        let left = self.text.get(..word.place(before.0)).unwrap_or_default();
        let mut lefts = left.chars().rev();
        let next_left = lefts.next();
        if head.contains("..")
            || (word.is_fanged(before.0, before.1)
                && next_left.is_none_or(char::is_whitespace)
                && head.contains('.'))
        {
            return true;
        }
        let is_cut_left = match next_left {
            Some('\u{2026}' | '\u{fffd}') => true,
            Some('*') => letter(left.trim_end_matches('*').chars().next_back()),
            Some('~' | '!' | '$' | '^' | '+' | '#') => letter(lefts.next()),
            Some('>') => {
                left.len() >= 4
                    && left.get(left.len() - 4..).is_some_and(|at| at.eq_ignore_ascii_case("<at>"))
            }
            Some(other) => !is_around(other) && letter(lefts.next()),
            None => false,
        };
        let tail = word.text.get(after.0..after.1).unwrap_or_default();
        let right = self.text.get(word.place(after.1)..).unwrap_or_default();
        let mut rights = right.chars();
        let next_right = rights.next();
        let is_cut_right = match next_right {
            Some('\u{fffd}') => true,
            Some('*') => letter(right.trim_start_matches('*').chars().next()),
            Some('%') => right
                .get(1..3)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                .is_some_and(is_host_byte),
            Some(other) if !is_around(other) => letter(rights.next()),
            _ => false,
        };
        // `evil[.]com[.]{br,mx}`
        let goes_on = tail.contains('.')
            && word.is_fanged(after.0, after.1)
            && next_right
                .is_some_and(|next| matches!(next, '{' | '[' | '<' | '(' | '*' | '?' | '%' | '$'));
        is_cut_left || is_cut_right || goes_on
    }

    /// Whether a name without scheme is rather a file's.
    fn is_file(&self, word: &Word<'_>, name: &str, start: usize, end: usize) -> bool {
        const WORDS: usize = 6;
        let likeness = likeness(name);
        if likeness == Likeness::Host || matches!(word.byte(end), b':' | b'/') {
            return false;
        }
        if matches!(word.byte(start.wrapping_sub(1)), b'/' | b'\\') {
            return !word
                .text
                .get(..start)
                .is_some_and(|before| before.ends_with("//") || before.ends_with("\\\\"));
        }
        let (from, to) = (word.place(start), word.place(end));
        if self.found.last().is_some_and(|last| {
            matches!(last.kind, IndicatorKind::Domain | IndicatorKind::Hostname)
                && self.continues_a_list(last.to, from)
        }) {
            return false;
        }
        let mut linked_from = false;
        for near in self.words_before(from).take(WORDS) {
            let plain = bare(near);
            if let Some(is_from) = is_link(&plain) {
                linked_from |= is_from;
            } else if says_file(&plain) {
                return true;
            } else if says_host(&plain, linked_from) {
                return false;
            } else if !plain.is_empty() {
                break;
            }
        }
        let mut next =
            self.text_after(to).split([' ', '\n', '\t']).map(bare).filter(|word| !word.is_empty());
        let next = next.next().unwrap_or_default();
        if says_file(&next) {
            return true;
        }
        likeness == Likeness::MostlyFile && !says_host(&next, false)
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
            if url_end > tail + 1 && !word.path_begins_with_name(tail + 1, url_end) {
                if let Some(value) =
                    word.text.get(start..url_end).and_then(|text| normal::url(text, false))
                {
                    self.claim_host(word.place(start), word.place(tail));
                    self.add(word.place(start), word.place(url_end), IndicatorKind::Url, value);
                }
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

/// The longest part of a mail address before the `@`, RFC 5321 §4.5.3.1.1.
const LONGEST_LOCAL: usize = 64;

/// A part of a word without scheme: where it begins, from where on it is not read yet, where it ends.
#[derive(Clone, Copy)]
struct Part {
    floor: usize,
    from: usize,
    to: usize,
}

/// What may stand directly beside a whole name: ASCII marks, quotes, dashes, and the marks of scripts without spaces.
fn is_around(letter: char) -> bool {
    letter.is_ascii()
        || letter.is_whitespace()
        || is_wide(letter)
        || matches!(letter, '\u{ab}' | '\u{bb}' | '\u{2014}' | '\u{2015}' | '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}'
            | '\u{3000}'..='\u{303f}')
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

    /// Where the scheme before `://` begins; `colon` itself if there is none.
    fn scheme_start(&self, colon: usize) -> usize {
        const LONGEST: usize = 24;
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-');
        let start = self.back_while(colon, colon.saturating_sub(LONGEST), inside);
        let Some(run) = self.text.get(start..colon) else { return colon };
        // Markup that was taken away leaves words glued together: `seehttp://`.
        for scheme in ["https", "http"] {
            let glued = run.len().checked_sub(scheme.len());
            if glued.is_some_and(|at| {
                run.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(scheme))
                    && !run.get(..at).is_some_and(|before| before.ends_with('+'))
            }) {
                return colon - scheme.len();
            }
        }
        // `${lower:l}dap://`: a part of the scheme is missing.
        if start > 0 && self.byte(start - 1) == b'}' {
            return colon;
        }
        colon - run.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic()).len()
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
                normal::host(part).is_some_and(|(_, name)| likeness(&name) == Likeness::Host)
                    || part.parse::<Ipv4Addr>().is_ok()
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

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || is_mark(letter)
}

/// What the part of a mail address before the `@` is made of.
const fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
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
