//! Walks the tokens of one document and collects, as slices, what belongs to the head and to each entry.
//!
//! Tags may be missing, crossed or left open: an entry ends where its end tag, the next entry or the text's end is, and a
//! field ends where its end tag or a field that cannot be inside it is.

use memchr::memmem;
use url::Url;

use super::entities::Declared;
use super::entry::{DEPTH_MAX, FeedError, Repair, Repairs};
use super::names::{self, Kind, Rank, Space};
use super::scan::{Position, Scanner, Tag, Token, attributes};

/// A document of markup being read.
pub(super) struct Xml {
    pub(super) walker: Walker,
    pub(super) declared: Declared,
    pub(super) in_entry: bool,
    /// Entries of this feed have ids, so one cut off before its id must not get another identity.
    pub(super) ids_seen: bool,
}

/// Links, categories and the like of one entry beyond this are not read.
pub(super) const MANY_MAX: usize = 256;
/// A longer base is none: what stands once must not be copied into the links of every entry.
const BASE_LENGTH_MAX: usize = 2048;
/// Bases kept before those of closed elements are dropped.
const BASES_MAX: usize = 1024;
const BINDINGS_MAX: usize = 512;

/// The inside of one element, still as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'t> {
    pub(super) text: &'t str,
    pub(super) attributes: &'t str,
    /// Holds CDATA, comments or the like, so it is more than text with references.
    pub(super) mixed: bool,
    /// Holds elements.
    pub(super) markup: bool,
    pub(super) rank: Rank,
    /// Which `xml:base` held there.
    pub(super) base: Option<usize>,
    /// How many elements are around it.
    pub(super) depth: usize,
}

#[derive(Debug, Default)]
pub(super) struct Slot<'t> {
    pub(super) raw: Option<Raw<'t>>,
    /// Another one of the same rank and place, with another text.
    pub(super) second: Option<Raw<'t>>,
}

#[derive(Debug, Default)]
pub(super) struct Draft<'t> {
    pub(super) id: Slot<'t>,
    pub(super) title: Slot<'t>,
    pub(super) summary: Slot<'t>,
    pub(super) content: Slot<'t>,
    pub(super) published: Slot<'t>,
    pub(super) updated: Slot<'t>,
    pub(super) date: Slot<'t>,
    pub(super) original: Slot<'t>,
    pub(super) language: Slot<'t>,
    pub(super) links: Vec<Raw<'t>>,
    pub(super) authors: Vec<Raw<'t>>,
    pub(super) categories: Vec<Raw<'t>>,
    pub(super) media: Vec<Raw<'t>>,
    /// Those of the entry's own tag: `rdf:about`, and the `HREF` and `LASTMOD` of CDF.
    pub(super) attributes: &'t str,
    pub(super) base: Option<usize>,
}

impl Draft<'_> {
    pub(super) fn has_id(&self) -> bool {
        self.id.has_text() || attributes(self.attributes).any(|(name, _)| name == "rdf:about")
    }

    /// Whether half an entry is worth keeping.
    pub(super) fn is_usable(&self) -> bool {
        self.title.has_text()
            || self
                .links
                .iter()
                .any(|link| !link.text.is_empty() || link.attributes.contains("href"))
    }

    /// Whether there is nothing that could be an article.
    pub(super) fn is_blank(&self) -> bool {
        !self.is_usable()
            && !self.has_id()
            && self.summary.raw.is_none()
            && self.content.raw.is_none()
    }

    /// Whether a head adds anything to what is known.
    pub(super) fn says_something(&self) -> bool {
        let slots = [
            &self.title,
            &self.summary,
            &self.published,
            &self.updated,
            &self.date,
            &self.language,
        ];
        !self.attributes.is_empty()
            || !self.links.is_empty()
            || slots.iter().any(|slot| slot.raw.is_some())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    EntryStarts,
    EntryEnds,
    /// The next entry starts without this one having ended.
    EntryLeftOpen,
    /// The text is over; `open` if an entry had not ended.
    End {
        open: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Level {
    name: u32,
    bindings: usize,
    base: Option<usize>,
}

/// A field whose end has not come yet.
struct Open<'t> {
    kind: Kind,
    rank: Rank,
    /// Its place in `levels`.
    level: usize,
    tag: Tag<'t>,
    mixed: bool,
    markup: bool,
    /// Its `type` says that elements are to be expected.
    typed_xml: bool,
    /// All up to its own end tag is well-formed, so what stands inside belongs there.
    whole: bool,
}

pub(super) struct Walker {
    levels: Vec<Level>,
    bindings: Vec<(String, Space)>,
    bases: Vec<Url>,
    base: Option<usize>,
    entry: Option<usize>,
    entry_is_empty: bool,
    /// Where the attributes of the entry about to be read are.
    entry_attributes: (usize, usize),
    /// A field that was looked at to its end was not well-formed; no other one of this entry is looked at.
    malformed: bool,
    pub(super) position: Position,
    pub(super) repairs: Repairs,
}

impl Walker {
    pub(super) fn new(base: Option<Url>, position: Position) -> Self {
        let bases: Vec<Url> = base.into_iter().collect();
        let base = if bases.is_empty() { None } else { Some(0) };
        Self {
            levels: Vec::with_capacity(32),
            bindings: Vec::new(),
            bases,
            base,
            entry: None,
            entry_is_empty: false,
            entry_attributes: (0, 0),
            malformed: false,
            position,
            repairs: Repairs::default(),
        }
    }

    pub(super) fn base(&self, index: Option<usize>) -> Option<&Url> {
        self.bases.get(index?)
    }

    /// Reads on into `draft` until an entry starts or ends, or the text does.
    pub(super) fn read<'t>(
        &mut self,
        text: &'t str,
        draft: &mut Draft<'t>,
    ) -> Result<Stop, FeedError> {
        let mut scanner = Scanner::resume(text, self.position);
        self.malformed = false;
        let stop = self.run(text, &mut scanner, draft);
        self.position = scanner.position();
        stop
    }

    fn run<'t>(
        &mut self,
        text: &'t str,
        scanner: &mut Scanner<'t>,
        draft: &mut Draft<'t>,
    ) -> Result<Stop, FeedError> {
        if self.entry.is_some() {
            draft.attributes = &text[self.entry_attributes.0..self.entry_attributes.1];
            draft.base = self.base;
            if std::mem::take(&mut self.entry_is_empty) {
                self.leave_entry();
                return Ok(Stop::EntryEnds);
            }
        }
        let mut open: Option<Open<'t>> = None;
        loop {
            match scanner.next() {
                Token::Start(tag) => {
                    if let Some(stop) = self.start(text, scanner, draft, &mut open, tag)? {
                        return Ok(stop);
                    }
                }
                Token::End(tag) => {
                    let name = hash(tag.name);
                    let Some(at) = self.levels.iter().rposition(|level| level.name == name) else {
                        self.repairs.add(Repair::StrayEndTags);
                        continue;
                    };
                    if at + 1 != self.levels.len() {
                        self.repairs.add(Repair::UnclosedTags);
                    }
                    if let Some(field) = open.take_if(|field| at <= field.level) {
                        self.close(text, draft, &field, tag.from);
                    }
                    if self.entry.is_some_and(|entry| at <= entry) {
                        self.leave_entry();
                        self.leave(at);
                        return Ok(Stop::EntryEnds);
                    }
                    self.leave(at);
                }
                Token::Text(_) | Token::Doctype(_) => {}
                Token::Nothing => {
                    if let Some(field) = &mut open {
                        field.mixed = true;
                    }
                }
                Token::Cdata { text: inside, closed, from } => match &mut open {
                    Some(field) => {
                        field.mixed = true;
                        if let Some(to) = cdata_end(inside, closed, field.tag.name) {
                            self.repairs.add(Repair::UnclosedCdata);
                            scanner.jump(from + to);
                        }
                    }
                    None if !closed => scanner.jump(from),
                    None => {}
                },
                Token::Eof { cut } => {
                    let unfinished = open.is_some() || self.entry.is_some();
                    if cut || unfinished {
                        self.repairs.add(Repair::Truncated);
                    }
                    if let Some(field) = open.take()
                        && matches!(field.kind, Kind::Summary | Kind::Content)
                    {
                        self.close(text, draft, &field, text.len());
                    }
                    let open = self.entry.is_some();
                    self.leave_entry();
                    return Ok(Stop::End { open });
                }
            }
        }
    }

    fn start<'t>(
        &mut self,
        text: &'t str,
        scanner: &mut Scanner<'t>,
        draft: &mut Draft<'t>,
        open: &mut Option<Open<'t>>,
        tag: Tag<'t>,
    ) -> Result<Option<Stop>, FeedError> {
        let (prefix, local) = names::split(tag.name);
        let bindings = self.bindings.len();
        let base = self.base;
        if !tag.attributes.is_empty() {
            self.declare(tag.attributes);
        }
        let (kind, rank) = names::classify(self.space(prefix), local);
        if matches!(kind, Kind::Frame | Kind::Item)
            && let Some((_, value)) = attributes(tag.attributes)
                .find(|(name, value)| name.eq_ignore_ascii_case("base") && !value.trim().is_empty())
        {
            // CDF's own.
            self.rebase(value);
        }
        if let Some(field) = open.as_mut() {
            if field.whole
                || !interrupts(field, kind, rank, local, &tag)
                || self.is_whole(text, scanner.position(), field)
            {
                field.markup = true;
                let implied = self.levels.last().is_some_and(|level| level.name == hash(tag.name))
                    && ends_itself(local);
                if tag.empty || names::is_void(local) || implied {
                    self.bindings.truncate(bindings);
                    self.base = base;
                } else {
                    self.enter(tag.name, bindings, base)?;
                }
                return Ok(None);
            }
            self.repairs.add(Repair::UnclosedTags);
            let level = field.level;
            if let Some(field) = open.take() {
                self.close(text, draft, &field, tag.from);
            }
            self.leave(level);
        }
        match kind {
            Kind::Item => {
                if let Some(entry) = self.entry {
                    self.repairs.add(Repair::UnclosedTags);
                    self.leave_entry();
                    self.leave(entry);
                    scanner.jump(tag.from);
                    return Ok(Some(Stop::EntryLeftOpen));
                }
                self.forget_bases();
                self.entry = Some(self.levels.len());
                self.entry_is_empty = tag.empty;
                let from = tag.from + 1 + tag.name.len();
                self.entry_attributes = (from, from + tag.attributes.len());
                self.enter(tag.name, bindings, base)?;
                return Ok(Some(Stop::EntryStarts));
            }
            Kind::Frame | Kind::Other | Kind::Enclosure | Kind::Label => {
                // All is in the attributes, and `media:content` may hold a title or a thumbnail of its own.
                let list = match kind {
                    Kind::Enclosure => Some(&mut draft.media),
                    Kind::Label => Some(&mut draft.categories),
                    _ => None,
                };
                if let Some(list) = list {
                    let (attributes, base, depth) = (tag.attributes, self.base, self.levels.len());
                    let raw = Raw {
                        text: "",
                        attributes,
                        mixed: false,
                        markup: false,
                        rank,
                        base,
                        depth,
                    };
                    push(list, raw);
                }
                if kind == Kind::Frame && self.entry.is_none() && draft.attributes.is_empty() {
                    draft.attributes = tag.attributes;
                    draft.base = self.base;
                }
                if tag.empty {
                    self.bindings.truncate(bindings);
                    self.base = base;
                } else {
                    self.enter(tag.name, bindings, base)?;
                }
            }
            _ => {
                let field = Open {
                    kind,
                    rank,
                    level: self.levels.len(),
                    tag,
                    mixed: false,
                    markup: false,
                    typed_xml: ["xhtml", "xml\"", "xml'"]
                        .iter()
                        .any(|kind| tag.attributes.contains(kind)),
                    whole: false,
                };
                if tag.empty {
                    self.close(text, draft, &field, tag.to);
                    self.bindings.truncate(bindings);
                    self.base = base;
                } else {
                    self.enter(tag.name, bindings, base)?;
                    *open = Some(field);
                }
            }
        }
        Ok(None)
    }

    fn close<'t>(&mut self, text: &'t str, draft: &mut Draft<'t>, field: &Open<'t>, to: usize) {
        let raw = Raw {
            text: text[field.tag.to.min(to)..to].trim(),
            attributes: field.tag.attributes,
            mixed: field.mixed,
            markup: field.markup,
            rank: field.rank,
            base: self.base,
            depth: field.level,
        };
        match field.kind {
            Kind::Id => draft.id.put(raw, false),
            Kind::Title => draft.title.put(raw, false),
            Kind::Summary => draft.summary.put(raw, false),
            Kind::Content => draft.content.put(raw, false),
            Kind::Published => draft.published.put(raw, true),
            Kind::Updated => draft.updated.put(raw, true),
            Kind::Date => draft.date.put(raw, true),
            Kind::Original => draft.original.put(raw, false),
            Kind::Language => draft.language.put(raw, false),
            Kind::Link => push(&mut draft.links, raw),
            Kind::Author => push(&mut draft.authors, raw),
            Kind::Category => push(&mut draft.categories, raw),
            Kind::Item
            | Kind::Frame
            | Kind::Foreign
            | Kind::Enclosure
            | Kind::Label
            | Kind::Unread
            | Kind::Other => {}
        }
    }

    /// Whether an open field is well-formed from here to its own end tag. Asked once for a field, and no more in an entry once
    /// the answer was no, so each byte is looked at twice at most.
    fn is_whole(&mut self, text: &str, from: Position, field: &mut Open<'_>) -> bool {
        if self.malformed {
            return false;
        }
        let mut scanner = Scanner::resume(text, from);
        scanner.jump(field.tag.to);
        let mut open = vec![hash(field.tag.name)];
        loop {
            match scanner.next() {
                Token::Start(tag) => {
                    let (prefix, local) = names::split(tag.name);
                    let is_entry = names::classify(self.space(prefix), local).0 == Kind::Item;
                    // A tag that ends where the next begins has lost its `>`.
                    if is_entry || !text[..tag.to].ends_with('>') || open.len() >= DEPTH_MAX {
                        break;
                    }
                    if !tag.empty {
                        open.push(hash(tag.name));
                    }
                }
                Token::End(tag) => {
                    if open.pop() != Some(hash(tag.name)) {
                        break;
                    }
                    if open.is_empty() {
                        field.whole = true;
                        return true;
                    }
                }
                Token::Eof { .. } | Token::Cdata { closed: false, .. } => break,
                _ => {}
            }
        }
        self.malformed = true;
        false
    }

    /// Takes up `xmlns`, `xmlns:x` and `xml:base` of a tag.
    fn declare(&mut self, written: &str) {
        let bytes = written.as_bytes();
        if memchr::memchr(b':', bytes).is_none() && memmem::find(bytes, b"xmlns").is_none() {
            return;
        }
        if memmem::find(bytes, b"xmlns").is_some() {
            for (name, value) in attributes(written) {
                let prefix = match name.strip_prefix("xmlns") {
                    Some("") => "",
                    Some(rest) => rest.strip_prefix(':').unwrap_or(rest),
                    None => continue,
                };
                if self.bindings.len() < BINDINGS_MAX {
                    self.bindings.push((prefix.to_owned(), names::space(value, prefix)));
                }
            }
        }
        if memmem::find(bytes, b"xml:base").is_some() {
            for (name, value) in attributes(written) {
                if name == "xml:base" && !value.trim().is_empty() {
                    self.rebase(value);
                }
            }
        }
    }

    pub(super) fn rebase(&mut self, value: &str) {
        if value.len() > BASE_LENGTH_MAX {
            return;
        }
        let joined = match self.base(self.base) {
            Some(base) => base.join(value.trim()),
            None => Url::parse(value.trim()),
        };
        // A base of another kind (`javascript:`, `file:`) would make every link in the feed one of that kind.
        if let Ok(url) = joined
            && matches!(url.scheme(), "http" | "https" | "ftp")
            && url.as_str().len() <= BASE_LENGTH_MAX
            && self.bases.len() < BASES_MAX
        {
            self.bases.push(url);
            self.base = Some(self.bases.len() - 1);
        }
    }

    /// Entries before this one have been read out, so only what encloses us is still in use.
    fn forget_bases(&mut self) {
        if self.bases.len() > BASES_MAX / 2 {
            let used =
                self.levels.iter().map(|level| level.base).chain([self.base]).flatten().max();
            self.bases.truncate(used.map_or(1, |index| index + 1));
        }
    }

    fn space(&self, prefix: &str) -> Space {
        match self.bindings.iter().rev().find(|(bound, _)| bound == prefix) {
            Some((_, space)) => *space,
            None => names::customary(prefix),
        }
    }

    fn enter(&mut self, name: &str, bindings: usize, base: Option<usize>) -> Result<(), FeedError> {
        if self.levels.len() >= DEPTH_MAX {
            return Err(FeedError::too_deep(name));
        }
        self.levels.push(Level { name: hash(name), bindings, base });
        Ok(())
    }

    /// Closes the level `at` and all inside it.
    fn leave(&mut self, at: usize) {
        if let Some(level) = self.levels.get(at) {
            self.bindings.truncate(level.bindings);
            self.base = level.base;
            self.levels.truncate(at);
        }
    }

    fn leave_entry(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.leave(entry);
        }
    }
}

impl<'t> Slot<'t> {
    fn has_text(&self) -> bool {
        self.raw.as_ref().is_some_and(|raw| !raw.text.is_empty())
    }

    /// Nearer to the entry and nearer to the format is better; of equals the first with content stands, or the last.
    fn put(&mut self, raw: Raw<'t>, last: bool) {
        let Some(old) = &self.raw else {
            self.raw = Some(raw);
            return;
        };
        let (new_place, old_place) = ((raw.rank, raw.depth), (old.rank, old.depth));
        let better = if raw.text.is_empty() {
            old.text.is_empty() && new_place < old_place
        } else {
            old.text.is_empty() || new_place < old_place || (last && new_place == old_place)
        };
        if better {
            *self = Self { raw: Some(raw), second: None };
        } else if new_place == old_place && !raw.text.is_empty() && raw.text != old.text {
            self.second.get_or_insert(raw);
        }
    }
}

fn push<'t>(list: &mut Vec<Raw<'t>>, raw: Raw<'t>) {
    if list.len() < MANY_MAX {
        list.push(raw);
    }
}

/// Whether a tag inside an open field shows that the field's end tag is missing.
fn interrupts(field: &Open<'_>, kind: Kind, rank: Rank, local: &str, tag: &Tag<'_>) -> bool {
    match (field.kind, kind) {
        (_, Kind::Other | Kind::Frame | Kind::Foreign) => false,
        (_, Kind::Item) => {
            !(field.typed_xml && memmem::find(field.tag.attributes.as_bytes(), b"atom").is_some())
        }
        (Kind::Foreign, _) => false,
        (Kind::Title | Kind::Summary | Kind::Content, _) if field.typed_xml => false,
        (Kind::Title | Kind::Summary | Kind::Content, Kind::Title) => {
            rank == 0 && tag.attributes.is_empty()
        }
        (Kind::Title | Kind::Summary | Kind::Content, Kind::Link) => {
            !tag.attributes.contains("stylesheet")
        }
        // HTML has elements of these names.
        (Kind::Title | Kind::Summary | Kind::Content, Kind::Summary) => {
            !local.eq_ignore_ascii_case("summary")
        }
        (Kind::Title | Kind::Summary | Kind::Content, Kind::Content) => {
            !local.eq_ignore_ascii_case("body")
        }
        _ => true,
    }
}

/// Elements of HTML which the next of their kind closes.
fn ends_itself(local: &str) -> bool {
    ["p", "li", "td", "tr", "dt", "dd", "option", "th"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(local))
}

/// Where a CDATA section without an end of its own stops: at the end tag of its element.
fn cdata_end(inside: &str, closed: bool, name: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let searched = match memmem::find(bytes, b"<![CDATA[") {
        Some(next) => &bytes[..next],
        None if closed => return None,
        None => bytes,
    };
    let mut at = 0;
    while let Some(found) = memmem::find(&searched[at..], b"</") {
        at += found;
        let rest = &searched[at + 2..];
        if rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
            return Some(at);
        }
        at += 2;
    }
    None
}

/// FNV-1a over the name in lower case: RSS is written in any.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}
