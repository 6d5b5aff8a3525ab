//! Feeds: bytes in, entries out. RSS 0.9x to 2.0, RSS 0.90/1.0 (RDF), Atom 0.3 and 1.0, CDF and JSON Feed.
//!
//! `decode` finds the encoding, `scan` and `walk` take the document apart however broken it is, `values` gives the elements of
//! every format one meaning. One entry's damage stays with that entry; nothing is invented, no date is "now".

use std::borrow::Cow;

use url::Url;

mod decode;
mod entities;
mod entry;
mod json;
mod names;
mod page;
mod root;
mod scan;
pub mod text;
mod value;
mod values;
mod walk;

pub use self::entry::{Chunk, Entry, FeedError, Head, Kind, Media, Reject, Repair};
pub use self::page::{LinkedFeed, linked_feeds};

use self::entities::Declared;
use self::entry::Repairs;
use self::walk::{Draft, Stop, Walker, Xml};

/// Entries of a chunk at most, rejects counted: few enough to hold, however long the feed.
const CHUNK_ENTRIES: usize = 32;
/// A chunk ends early when it was read from this many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What is known of a body besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Hints<'a> {
    /// The HTTP header, of which only `charset` is believed.
    pub content_type: Option<&'a str>,
    /// Where it came from; relative links are resolved against it.
    pub url: &'a str,
}

/// The text of a body that is no feed, such as a web page, in whatever encoding it is.
pub fn decode_text<'a>(body: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    decode::decode(body, content_type).text
}

/// Reads the head; entries follow through [`Reader::next_chunk`].
pub fn open<'a>(body: &'a [u8], hints: &Hints<'_>) -> Result<Reader<'a>, FeedError> {
    let decoded = decode::decode(body, hints.content_type);
    let mut repairs = Repairs::default();
    for repair in decoded.repairs {
        repairs.add(repair);
    }
    let start = decoded.text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if start.is_empty() {
        return Err(FeedError::Empty);
    }
    // A relative link must not carry what the operator's address of the feed holds.
    let base = Url::parse(hints.url).ok().map(|url| base::address::without_secrets(&url));
    let mut head = Head {
        kind: Kind::Json,
        version: String::new(),
        title: None,
        description: None,
        link: None,
        language: None,
        encoding: decoded.encoding,
        repairs: Vec::new(),
    };
    if start.starts_with(['{', '[']) {
        let items = json::open(start, base, &mut head)?;
        let offset = decoded.text.len() - start.len();
        let source = Source::Json(items);
        return Ok(Reader {
            text: decoded.text,
            offset,
            head,
            source,
            repairs,
            next_index: 0,
            over: false,
        });
    }
    let mut declared = Declared::default();
    let root = root::find(&decoded.text, &mut declared)?;
    if root.junk_before {
        repairs.add(Repair::LeadingJunk);
    }
    head.kind = root.kind;
    head.version = root.version;
    let walker = Walker::new(base, root.position);
    let source = Source::Xml(Xml { walker, declared, in_entry: false, ids_seen: false });
    let mut reader =
        Reader { text: decoded.text, offset: 0, head, source, repairs, next_index: 0, over: false };
    reader.read_head()?;
    Ok(reader)
}

/// A feed being read. Holds its text and one chunk's work, never all entries.
pub struct Reader<'a> {
    text: Cow<'a, str>,
    /// Where in `text` the JSON begins.
    offset: usize,
    head: Head,
    source: Source,
    repairs: Repairs,
    next_index: usize,
    over: bool,
}

enum Source {
    Xml(Xml),
    Json(json::Items),
}

impl Source {
    /// How many bytes have been read.
    fn position(&self) -> usize {
        match self {
            Self::Xml(xml) => xml.walker.position.offset(),
            Self::Json(items) => items.at,
        }
    }
}

impl Reader<'_> {
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next entries and rejects, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`FeedError::TooDeep`], for which the whole source is to be refused.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, FeedError> {
        if self.over {
            return Ok(None);
        }
        let mut chunk = Chunk::default();
        let until = self.source.position() + CHUNK_BYTES;
        while !self.over && chunk.len() < CHUNK_ENTRIES && self.source.position() < until {
            let index = self.next_index;
            match &mut self.source {
                Source::Json(items) => match items.next(&self.text[self.offset..]) {
                    Some(Ok(values)) => chunk.entries.push(values.into_entry(index)),
                    Some(Err((reason, raw))) => chunk.reject(index, &reason, raw),
                    None => {
                        self.over = true;
                        if items.cut {
                            self.repairs.add(Repair::Truncated);
                        }
                        break;
                    }
                },
                Source::Xml(xml) if !xml.in_entry => {
                    self.read_head()?;
                    continue;
                }
                Source::Xml(xml) => {
                    let from = xml.walker.position.offset();
                    let mut draft = Draft::default();
                    let stop = xml.walker.read(&self.text, &mut draft)?;
                    xml.in_entry = false;
                    let raw = &self.text[from.min(xml.walker.position.offset())..];
                    let cut = stop == Stop::End { open: true };
                    self.over = matches!(stop, Stop::End { .. });
                    let has_id = draft.has_id();
                    if cut && xml.ids_seen && !has_id {
                        chunk.reject(index, "cut off before its id", raw);
                    } else if stop == Stop::EntryLeftOpen && draft.is_blank() {
                        // `</item>` that lost its slash looks like this.
                        chunk.reject(index, "not closed and without content", raw);
                    } else if cut && !draft.is_usable() {
                        chunk.reject(index, "cut off before a whole title or link", raw);
                    } else {
                        let values = values::values(
                            &draft,
                            self.head.kind,
                            self.head.language.as_deref(),
                            xml,
                        );
                        chunk.entries.push(values.into_entry(index));
                    }
                    xml.ids_seen |= has_id;
                }
            }
            self.next_index += 1;
        }
        self.note_repairs();
        Ok((chunk.len() > 0).then_some(chunk))
    }

    /// Reads what stands outside entries, up to the next one.
    fn read_head(&mut self) -> Result<(), FeedError> {
        let Source::Xml(xml) = &mut self.source else { return Ok(()) };
        let mut draft = Draft::default();
        let stop = xml.walker.read(&self.text, &mut draft)?;
        xml.in_entry = stop == Stop::EntryStarts;
        self.over = matches!(stop, Stop::End { .. });
        values::head(&draft, &mut self.head, xml);
        self.note_repairs();
        Ok(())
    }

    fn note_repairs(&mut self) {
        match &self.source {
            Source::Xml(xml) => {
                self.repairs.0 |= xml.walker.repairs.0;
                if xml.declared.bare {
                    self.repairs.add(Repair::BareAmpersands);
                }
            }
            Source::Json(items) if items.repaired => self.repairs.add(Repair::BrokenTexts),
            Source::Json(_) => {}
        }
        self.head.repairs = self.repairs.list();
    }
}

#[cfg(test)]
mod tests;
