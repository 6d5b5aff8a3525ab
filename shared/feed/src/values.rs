//! What an entry or a feed says, whatever its format: the elements of XML are given their meaning here, once, and the values
//! of any format become an [`Entry`] or fill the [`Head`].

use std::borrow::Cow;

use jiff::Timestamp;
use url::Url;

use super::entities::Declared;
use super::entry::{Entry, Head, Kind, Media};
use super::names;
use super::scan::attributes;
use super::text::{folded, html_to_text};
use super::value::{self, Markup, Untyped};
use super::walk::{Draft, MANY_MAX, Raw, Slot, Xml};
use base::date;

/// A date: understood, or as written.
#[derive(Debug, Default)]
pub(super) struct When {
    pub(super) stamp: Option<Timestamp>,
    pub(super) raw: Option<String>,
}

impl When {
    pub(super) fn of(text: &str, language: Option<&str>) -> Self {
        match date::parse(text, language) {
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
    pub(super) authors: Vec<Cow<'v, str>>,
    pub(super) categories: Vec<Cow<'v, str>>,
    pub(super) media: Vec<(Cow<'v, str>, Option<Cow<'v, str>>)>,
    pub(super) published: When,
    pub(super) updated: When,
    pub(super) summary: Option<Markup<'v>>,
    /// Another summary: RSS items have `summary` beside `description`.
    pub(super) second_summary: Option<Markup<'v>>,
    pub(super) content: Option<Markup<'v>>,
}

impl Values<'_> {
    /// The entry they make; `index` is its place in the document.
    pub(super) fn into_entry(self, index: usize) -> Entry {
        let mut entry = Entry {
            index,
            guid: self.id.map(Cow::into_owned),
            link: self.link.map(normal),
            original_link: self.original.map(normal),
            published: self.published.stamp,
            published_raw: self.published.raw,
            updated: self.updated.stamp,
            summary_html: self.summary.and_then(Markup::into_html),
            content_html: self.content.and_then(Markup::into_html),
            ..Entry::default()
        };
        if let Some(second) = self.second_summary.and_then(Markup::into_html) {
            let first = entry.summary_html.take().unwrap_or_default();
            (entry.summary_html, entry.content_html) = match entry.content_html.take() {
                Some(content) => (Some(format!("{first}<br>{second}")), Some(content)),
                None if first.len() > second.len() => (Some(second), Some(first)),
                None => (Some(first), Some(second)),
            };
        }
        if let Some(title) = self.title.filter(|title| !title.text.is_empty()) {
            entry.title = title.to_plain();
        }
        let names = self.authors.into_iter().filter(|name| !name.is_empty());
        entry.authors = names.map(Cow::into_owned).collect();
        entry.categories = self.categories.into_iter().map(Cow::into_owned).collect();
        let media = self.media.into_iter();
        entry.media = media
            .map(|(url, mime)| Media { url: normal(url), mime: mime.map(Cow::into_owned) })
            .collect();
        entry
    }
}

impl Markup<'_> {
    /// As text to read; `None` if there is none.
    fn to_plain(&self) -> Option<String> {
        let plain = match self.html {
            true => html_to_text(&self.text),
            false => folded(&value::unwrapped_cdata(Cow::Borrowed(&self.text))),
        };
        Some(plain).filter(|plain| !plain.is_empty())
    }

    /// As HTML, which text becomes by escaping; `None` if there is none.
    fn into_html(self) -> Option<String> {
        if self.text.is_empty() {
            return None;
        }
        if self.html || memchr::memchr3(b'&', b'<', b'>', self.text.as_bytes()).is_none() {
            return Some(self.text.into_owned());
        }
        let mut out = String::with_capacity(self.text.len() + 16);
        value::escape_into(&self.text, &mut out);
        Some(out)
    }
}

/// An address in the form that the URL standard gives it; one that is no URL stays as it is.
fn normal(link: Cow<'_, str>) -> String {
    Url::parse(&link).map_or_else(|_| link.into_owned(), String::from)
}

/// What the elements of an XML format mean.
pub(super) fn values<'t>(
    draft: &Draft<'t>,
    kind: Kind,
    language: Option<&str>,
    xml: &mut Xml,
) -> Values<'t> {
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
    // Of several the last one, but none from within another element where the entry has its own.
    let mut link: Option<(Cow<'_, str>, usize)> = None;
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
            None => unescaped_twice(value::text(raw, declared)),
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
            if link.as_ref().is_none_or(|(_, depth)| raw.depth <= *depth) {
                link = Some((found, raw.depth));
            }
        } else {
            fallback = Some(found);
        }
    }
    let mut link = link.map(|(link, _)| link);
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

    for raw in &draft.authors {
        let author = value::author(raw, declared);
        if !author.is_empty() && !values.authors.contains(&author) {
            values.authors.push(author);
        }
    }
    for raw in &draft.categories {
        let mut named = |wanted: &[&str]| {
            let found = attributes(raw.attributes).find(|(name, _)| wanted.contains(name));
            found.map(|(_, term)| value::attribute(term, declared)).filter(|term| !term.is_empty())
        };
        // Atom's `term`, the `text` of `itunes:category`; the label of Atom and of `media:category` where there is no more.
        let (term, label) = (named(&["term", "text"]), named(&["label"]));
        let text = term.unwrap_or_else(|| value::text(raw, declared));
        let category = if text.is_empty() { label.unwrap_or(text) } else { text };
        let several = if raw.rank == names::KEYWORDS { ',' } else { '\0' };
        for category in category.split(several).map(str::trim) {
            if values.categories.len() >= MANY_MAX {
                break;
            }
            if !category.is_empty() && !values.categories.iter().any(|known| known == category) {
                values.categories.push(Cow::Owned(category.to_owned()));
            }
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
        text_of(slot, declared).map_or_else(When::default, |text| When::of(&text, language))
    };
    values.published = when(&draft.published).or(|| when(&draft.date));
    values.updated = when(&draft.updated).or(|| when(&draft.date));
    if kind == Kind::Cdf
        && let Some(modified) = own("lastmod")
    {
        values.updated = When::of(modified.trim(), language);
    }
    let mut body = |raw: &Raw<'t>, untyped| value::markup(raw, untyped, declared);
    values.summary = draft.summary.raw.as_ref().map(|raw| body(raw, untyped_text));
    values.second_summary = draft.summary.second.as_ref().map(|raw| body(raw, untyped_text));
    values.content = draft.content.raw.as_ref().map(|raw| body(raw, untyped_text));
    values
}

fn text_of<'t>(slot: &Slot<'t>, declared: &mut Declared) -> Option<Cow<'t, str>> {
    slot.raw.as_ref().map(|raw| value::text(raw, declared)).filter(|text| !text.is_empty())
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
    let values = values(draft, head.kind, head.language.as_deref(), xml);
    let declared = &mut xml.declared;
    let mut text = |slot: &Slot<'_>| text_of(slot, declared).map(Cow::into_owned);
    if head.language.is_none() {
        let attribute = attributes(draft.attributes)
            .find(|(name, _)| *name == "xml:lang")
            .map(|(_, value)| value.trim().to_owned());
        head.language = text(&draft.language).or(attribute).filter(|language| !language.is_empty());
    }
    from_values(values, head);
}

/// Fills in what `head` does not have yet from values in any format.
pub(super) fn from_values(values: Values<'_>, head: &mut Head) {
    let plain = |markup: Option<Markup<'_>>| markup.and_then(|markup| markup.to_plain());
    head.title = head.title.take().or_else(|| plain(values.title));
    head.description = head.description.take().or_else(|| plain(values.summary));
    head.link = head.link.take().or_else(|| values.link.map(normal));
}
