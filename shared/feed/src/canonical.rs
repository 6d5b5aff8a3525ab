//! Writes entries of any format as Atom 1.0, has `feed-rs` read that, and takes over what it found.
//!
//! Atom for all of them, because it is the one of `feed-rs`'s formats that loses nothing: RSS 1.0 there drops items without
//! a link, RSS 2.0 splits authors by regular expression, and neither says which text is HTML. What a format means by its
//! elements is decided here, once.

use std::borrow::Cow;

use feed_rs::model;
use feed_rs::parser::{Builder, Parser};
use jiff::Timestamp;

use super::scan::attributes;
use super::text::{folded, html_to_text};
use super::value::{self, Markup, Untyped};
use super::walk::{Draft, Raw, Slot};
use super::{Chunk, Entry, Head, Kind, Media, Reject, Xml, date, head_of};

/// A date: understood, or as written.
#[derive(Debug, Default)]
pub(super) struct When {
    pub(super) stamp: Option<Timestamp>,
    pub(super) raw: Option<String>,
}

impl When {
    pub(super) fn of(text: &str) -> Self {
        match date::parse(text) {
            Some(stamp) => Self { stamp: Some(stamp), raw: None },
            None => Self { stamp: None, raw: Some(text.to_owned()).filter(|raw| !raw.is_empty()) },
        }
    }

    /// The first that is understood, else the first that is there.
    fn or(self, other: impl FnOnce() -> Self) -> Self {
        if self.stamp.is_some() {
            return self;
        }
        let other = other();
        if other.stamp.is_some() || self.raw.is_none() { other } else { self }
    }
}

/// One entry's values, in whatever format they stood.
#[derive(Debug, Default)]
pub(super) struct Values<'v> {
    pub(super) id: Option<Cow<'v, str>>,
    pub(super) title: Option<Markup<'v>>,
    pub(super) link: Option<Cow<'v, str>>,
    pub(super) original: Option<Cow<'v, str>>,
    pub(super) comments: Option<Cow<'v, str>>,
    pub(super) authors: Vec<Cow<'v, str>>,
    pub(super) categories: Vec<Cow<'v, str>>,
    pub(super) media: Vec<(Cow<'v, str>, Option<Cow<'v, str>>)>,
    pub(super) published: When,
    pub(super) updated: When,
    pub(super) summary: Option<Markup<'v>>,
    pub(super) content: Option<Markup<'v>>,
}

/// What goes round `feed-rs`: it has no place for it.
struct Beside {
    index: usize,
    from: usize,
    published_raw: Option<String>,
    updated_raw: Option<String>,
}

/// The canonical form of a chunk while it is written.
pub(super) struct Sheet {
    xml: String,
    beside: Vec<Beside>,
    rejects: Vec<Reject>,
}

const OPENING: &str = "<feed>";
const CLOSING: &str = "</feed>";

impl Sheet {
    /// `scratch` is an old sheet's text, whose memory is used again.
    pub(super) fn new(mut scratch: String) -> Self {
        scratch.clear();
        scratch.push_str(OPENING);
        Self { xml: scratch, beside: Vec::new(), rejects: Vec::new() }
    }

    pub(super) fn entries(&self) -> usize {
        self.beside.len() + self.rejects.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.xml.len()
    }

    pub(super) fn reject(&mut self, index: usize, reason: &str, raw: &str) {
        self.rejects.push(Reject { index, reason: reason.to_owned(), head: head_of(raw.trim()) });
    }

    pub(super) fn entry(&mut self, index: usize, draft: &Draft<'_>, kind: Kind, xml: &mut Xml) {
        let values = values(draft, kind, xml);
        self.write(index, values);
    }

    pub(super) fn item(&mut self, index: usize, item: super::json::Item<'_>) {
        match item {
            Ok(values) => self.write(index, *values),
            Err((reason, raw)) => self.reject(index, &reason, raw),
        }
    }

    fn write(&mut self, index: usize, values: Values<'_>) {
        let from = self.xml.len();
        let out = &mut self.xml;
        out.push_str("<entry>");
        write_common(&values, out);
        for author in &values.authors {
            out.push_str("<author><name>");
            write_cdata(author, out);
            out.push_str("</name></author>");
        }
        for category in &values.categories {
            out.push_str("<category term=\"");
            write_attribute(category, out);
            out.push_str("\"/>");
        }
        for (url, mime) in &values.media {
            write_link("enclosure", url, mime.as_deref(), out);
        }
        write_markup("content", values.content.as_ref(), out);
        out.push_str("</entry>");
        self.beside.push(Beside {
            index,
            from,
            published_raw: values.published.raw,
            updated_raw: values.updated.raw,
        });
    }

    #[cfg(test)]
    pub(super) fn write_for_test(&mut self, index: usize, xml: &str) {
        self.beside.push(Beside {
            index,
            from: self.xml.len(),
            published_raw: None,
            updated_raw: None,
        });
        self.xml.push_str(xml);
    }

    /// What `feed-rs` makes of it, and the text for the next sheet.
    pub(super) fn finish(mut self) -> (Chunk, String) {
        let mut chunk = Chunk {
            entries: Vec::with_capacity(self.beside.len()),
            rejects: std::mem::take(&mut self.rejects),
        };
        if self.beside.is_empty() {
            return (chunk, self.xml);
        }
        let end = self.xml.len();
        self.xml.push_str(CLOSING);
        match parser().parse(self.xml.as_bytes()) {
            Ok(feed) if feed.entries.len() == self.beside.len() => {
                chunk.entries.extend(
                    self.beside
                        .drain(..)
                        .zip(feed.entries)
                        .map(|(beside, entry)| taken(beside, entry)),
                );
            }
            _ => self.one_by_one(end, &mut chunk),
        }
        (chunk, self.xml)
    }

    /// The chunk would not do as a whole, so each entry has to speak for itself.
    fn one_by_one(&mut self, end: usize, chunk: &mut Chunk) {
        let ends: Vec<usize> =
            self.beside.iter().skip(1).map(|beside| beside.from).chain([end]).collect();
        for (beside, end) in self.beside.drain(..).zip(ends) {
            let written = &self.xml[beside.from..end];
            let alone = [OPENING, written, CLOSING].concat();
            // A parser that has failed keeps the state it failed in, hence a new one each time.
            match parser().parse(alone.as_bytes()) {
                Ok(mut feed) if feed.entries.len() == 1 => {
                    chunk.entries.extend(feed.entries.pop().map(|entry| taken(beside, entry)));
                }
                Ok(_) => chunk.rejects.push(Reject {
                    index: beside.index,
                    reason: "read by `feed-rs` as several".to_owned(),
                    head: head_of(written),
                }),
                Err(error) => {
                    chunk.rejects.push(Reject {
                        index: beside.index,
                        reason: error.to_string(),
                        head: head_of(written),
                    });
                }
            }
        }
    }
}

fn parser() -> Parser {
    Builder::new()
        .sanitize_content(false)
        // Ids are the feed's or none: what `feed-rs` would make up changes with the title.
        .id_generator(|_, _, _| String::new())
        // What arrives here is RFC 3339 of our own writing.
        .timestamp_parser(|text| text.parse().ok())
        .build()
}

/// The other direction of [`Sheet::write`].
fn taken(beside: Beside, entry: model::Entry) -> Entry {
    let mut taken = Entry {
        index: beside.index,
        guid: Some(entry.id).filter(|id| !id.is_empty()),
        published: entry.published.and_then(|when| {
            Timestamp::new(when.timestamp(), nanos(when.timestamp_subsec_nanos())).ok()
        }),
        published_raw: beside.published_raw,
        updated: entry.updated.and_then(|when| {
            Timestamp::new(when.timestamp(), nanos(when.timestamp_subsec_nanos())).ok()
        }),
        updated_raw: beside.updated_raw,
        authors: entry.authors.into_iter().filter_map(|person| person.name).collect(),
        categories: entry.categories.into_iter().map(|category| category.term).collect(),
        ..Entry::default()
    };
    if let Some(title) = entry.title {
        let html = title.content_type.subty() == "html";
        let plain = if html { html_to_text(&title.content) } else { folded(&title.content) };
        taken.title = Some(plain).filter(|title| !title.is_empty());
        taken.title_html = Some(title.content).filter(|_| html);
    }
    taken.summary_html =
        entry.summary.map(|text| as_html(text.content, text.content_type.subty() == "html"));
    taken.content_html = entry
        .content
        .and_then(|content| Some(as_html(content.body?, content.content_type.subty() == "html")));
    for link in entry.links {
        match link.rel.as_deref() {
            Some("enclosure") => taken.media.push(Media { url: link.href, mime: link.media_type }),
            Some("canonical") => taken.original_link = Some(link.href),
            Some("replies") => taken.comments = Some(link.href),
            _ => taken.link = Some(link.href),
        }
    }
    taken
}

fn nanos(value: u32) -> i32 {
    i32::try_from(value).unwrap_or_default()
}

fn as_html(content: String, html: bool) -> String {
    if html || memchr::memchr3(b'&', b'<', b'>', content.as_bytes()).is_none() {
        return content;
    }
    let mut out = String::with_capacity(content.len() + 16);
    value::escape_into(&content, &mut out);
    out
}

/// The parts that a feed and an entry have in common.
fn write_common(values: &Values<'_>, out: &mut String) {
    if let Some(id) = &values.id {
        out.push_str("<id>");
        write_cdata(id, out);
        out.push_str("</id>");
    }
    write_markup("title", values.title.as_ref(), out);
    for (rel, link) in [
        ("alternate", &values.link),
        ("canonical", &values.original),
        ("replies", &values.comments),
    ] {
        if let Some(link) = link {
            write_link(rel, link, None, out);
        }
    }
    for (name, when) in [("published", &values.published), ("updated", &values.updated)] {
        if let Some(stamp) = when.stamp {
            use std::fmt::Write as _;
            write!(out, "<{name}>{stamp}</{name}>").expect("writing to a string cannot fail");
        }
    }
    write_markup("summary", values.summary.as_ref(), out);
}

fn write_markup(name: &str, markup: Option<&Markup<'_>>, out: &mut String) {
    let Some(markup) = markup.filter(|markup| !markup.text.is_empty()) else { return };
    for piece in ["<", name, if markup.html { " type=\"html\">" } else { " type=\"text\">" }] {
        out.push_str(piece);
    }
    write_cdata(&markup.text, out);
    for piece in ["</", name, ">"] {
        out.push_str(piece);
    }
}

fn write_link(rel: &str, href: &str, mime: Option<&str>, out: &mut String) {
    for piece in ["<link rel=\"", rel, "\" href=\""] {
        out.push_str(piece);
    }
    write_attribute(href, out);
    if let Some(mime) = mime {
        out.push_str("\" type=\"");
        write_attribute(mime, out);
    }
    out.push_str("\"/>");
}

/// Short text without markup as it is, all else as CDATA: references would cost `feed-rs` an event each.
fn write_cdata(text: &str, out: &mut String) {
    if memchr::memchr3(b'<', b'&', b'>', text.as_bytes()).is_none() {
        out.push_str(text);
        return;
    }
    out.push_str("<![CDATA[");
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest.as_bytes(), b"]]>") {
        out.push_str(&rest[..at + 2]);
        out.push_str("]]><![CDATA[");
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    out.push_str("]]>");
}

fn write_attribute(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'&' | b'<' | b'"')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            _ => "&quot;",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// What the elements of an XML format mean.
fn values<'t>(draft: &Draft<'t>, kind: Kind, xml: &mut Xml) -> Values<'t> {
    let Xml { walker, declared, .. } = xml;
    let own = |wanted: &str| {
        attributes(draft.attributes)
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let untyped_text = if kind == Kind::Atom { Untyped::Text } else { Untyped::Html };
    let mut values = Values::default();

    let id = draft.id.raw.as_ref();
    values.id = id.map(|raw| value::plain(raw, declared)).filter(|id| !id.is_empty());
    if values.id.is_none() && !draft.attributes.is_empty() {
        values.id = own("rdf:about")
            .map(|about| value::attribute(about, declared))
            .filter(|id| !id.is_empty());
    }
    values.title = draft.title.raw.as_ref().map(|raw| {
        let untyped = if kind == Kind::Atom { Untyped::Text } else { Untyped::Guess };
        value::markup(raw, untyped, declared)
    });
    let mut link = None;
    let mut fallback = None;
    for raw in &draft.links {
        let (mut href, mut rel, mut mime) = (None, "alternate", "");
        for (name, value) in attributes(raw.attributes) {
            match name {
                "href" | "HREF" | "url" | "uri" => href = Some(value),
                "rel" => rel = value.trim(),
                "type" => mime = value.trim(),
                _ => {}
            }
        }
        let found = match href {
            Some(href) => value::attribute(href, declared),
            None => unescaped_twice(value::plain(raw, declared)),
        };
        if found.is_empty() {
            continue;
        }
        let found = value::resolved(found, walker.base(raw.base));
        if rel.eq_ignore_ascii_case("enclosure") {
            values.media.push((found, Some(Cow::Borrowed(mime)).filter(|mime| !mime.is_empty())));
        } else if !rel.eq_ignore_ascii_case("alternate") {
            // `self`, `replies`, `edit`, `hub`: not the article.
        } else if href.is_none() || mime.is_empty() || mime.contains("html") {
            link = Some(found);
        } else {
            fallback = Some(found);
        }
    }
    if link.is_none()
        && let Some(href) = own("href").filter(|_| kind == Kind::Cdf)
    {
        link = Some(value::resolved(value::attribute(href, declared), walker.base(draft.base)));
    }
    values.link = link.or(fallback).or_else(|| {
        let raw = id?;
        let not_a_link = attributes(raw.attributes).any(|(name, value)| {
            name.eq_ignore_ascii_case("isPermaLink") && !value.trim().eq_ignore_ascii_case("true")
        });
        let id = values.id.clone().filter(|_| !not_a_link)?;
        let web = id.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"))
            && id.contains("://");
        (web || id.starts_with('/')).then(|| value::resolved(id, walker.base(raw.base)))
    });
    values.original = text_of(&draft.original, declared);
    values.comments = text_of(&draft.comments, declared)
        .map(|link| value::resolved(link, walker.base(draft.base)));

    for raw in &draft.authors {
        let author = value::author(raw, declared);
        if !author.is_empty() && !values.authors.contains(&author) {
            values.authors.push(author);
        }
    }
    for raw in &draft.categories {
        let term = attributes(raw.attributes)
            .find(|(name, _)| *name == "term")
            .map(|(_, term)| value::attribute(term, declared));
        let category =
            term.filter(|term| !term.is_empty()).unwrap_or_else(|| value::plain(raw, declared));
        if !category.is_empty() && !values.categories.contains(&category) {
            values.categories.push(category);
        }
    }
    for raw in &draft.media {
        let (mut url, mut mime) = (None, None);
        for (name, value) in attributes(raw.attributes) {
            match name {
                "url" | "href" | "uri" => url = Some(value),
                "type" => mime = Some(value::attribute(value, declared)),
                _ => {}
            }
        }
        if let Some(url) =
            url.map(|url| value::resolved(value::attribute(url, declared), walker.base(raw.base)))
            && !url.is_empty()
            && !values.media.iter().any(|(known, _)| *known == url)
        {
            values.media.push((url, mime.filter(|mime| !mime.is_empty())));
        }
    }

    let mut when = |slot: &Slot<'t>| {
        text_of(slot, declared).map_or_else(When::default, |text| When::of(&text))
    };
    values.published = when(&draft.published).or(|| when(&draft.date));
    values.updated = when(&draft.updated).or(|| when(&draft.date));
    if kind == Kind::Cdf
        && let Some(modified) = own("lastmod")
    {
        values.updated = When::of(modified.trim());
    }
    let mut body = |raw: &Raw<'t>, untyped| value::markup(raw, untyped, declared);
    values.summary = draft.summary.raw.as_ref().map(|raw| body(raw, untyped_text));
    values.content = draft.content.raw.as_ref().map(|raw| body(raw, untyped_text));
    values
}

fn text_of<'t>(slot: &Slot<'t>, declared: &mut super::Declared) -> Option<Cow<'t, str>> {
    slot.raw.as_ref().map(|raw| value::plain(raw, declared)).filter(|text| !text.is_empty())
}

/// `&amp;amp;` in an address is never meant.
fn unescaped_twice(link: Cow<'_, str>) -> Cow<'_, str> {
    if link.contains("&amp;") { Cow::Owned(link.replace("&amp;", "&")) } else { link }
}

/// Fills in what `head` does not have yet.
pub(super) fn head(draft: &Draft<'_>, head: &mut Head, xml: &mut Xml) {
    if !draft.says_something() {
        return;
    }
    let values = values(draft, head.kind, xml);
    let declared = &mut xml.declared;
    let mut text = |slot: &Slot<'_>| text_of(slot, declared).map(Cow::into_owned);
    if head.language.is_none() {
        let attribute = attributes(draft.attributes)
            .find(|(name, _)| *name == "xml:lang")
            .map(|(_, value)| value.trim().to_owned());
        head.language = text(&draft.language).or(attribute).filter(|language| !language.is_empty());
    }
    if head.ttl_minutes.is_none() {
        let period = text(&draft.period).and_then(|period| period_minutes(&period));
        let times: u32 =
            text(&draft.frequency).and_then(|frequency| frequency.parse().ok()).unwrap_or(1);
        head.ttl_minutes = text(&draft.ttl)
            .and_then(|ttl| ttl.parse().ok())
            .or_else(|| Some(period? / times.max(1)));
    }
    from_values(&values, head);
}

/// Has `feed-rs` read the head as it reads entries.
pub(super) fn from_values(values: &Values<'_>, head: &mut Head) {
    let mut sheet = String::from(OPENING);
    write_common(values, &mut sheet);
    let sheet =
        sheet.replace("<summary", "<subtitle").replace("</summary>", "</subtitle>") + CLOSING;
    let Ok(feed) = parser().parse(sheet.as_bytes()) else { return };
    let plain = |text: model::Text| {
        let plain = if text.content_type.subty() == "html" {
            html_to_text(&text.content)
        } else {
            folded(&text.content)
        };
        Some(plain).filter(|plain| !plain.is_empty())
    };
    head.title = head.title.take().or_else(|| feed.title.and_then(plain));
    head.description = head.description.take().or_else(|| feed.description.and_then(plain));
    let link = feed.links.into_iter().find(|link| link.rel.as_deref() == Some("alternate"));
    head.link = head.link.take().or_else(|| link.map(|link| link.href));
    head.updated = head.updated.or(values.updated.stamp).or(values.published.stamp);
}

fn period_minutes(period: &str) -> Option<u32> {
    Some(match period.to_ascii_lowercase().as_str() {
        "hourly" => 60,
        "daily" => 24 * 60,
        "weekly" => 7 * 24 * 60,
        "monthly" => 30 * 24 * 60,
        "yearly" => 365 * 24 * 60,
        _ => return None,
    })
}
