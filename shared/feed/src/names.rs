//! Which element of a feed a name means, by namespace where one is declared and by custom where none is.

/// What a feed element is to us. Several spellings of as many formats come to one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Item,
    /// `rss`, `channel`, `feed`, `rdf:RDF`.
    Frame,
    Title,
    Link,
    Id,
    Summary,
    Content,
    Published,
    Updated,
    /// `dc:date`, which may mean either.
    Date,
    Author,
    Category,
    /// Says all in an attribute, and may hold more of its kind: `itunes:category`.
    Label,
    Enclosure,
    Original,
    /// Holds a title, a link or a date of something else: its inside is not ours.
    Foreign,
    Language,
    /// A feed's own, which nobody reads.
    Unread,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// RSS, Atom and CDF themselves, declared or not.
    Feed,
    Rdf,
    Dublin,
    Terms,
    Content,
    Media,
    Podcast,
    Feedburner,
    Syndication,
    Xhtml,
    Unknown,
}

/// How far an element stands behind the native one that says the same: 0 is native.
pub(super) type Rank = u8;

/// The rank of categories that stand in one text, parted by commas.
pub(super) const KEYWORDS: Rank = 4;

const NAME_MAX: usize = 24;

pub(super) fn classify(space: Space, local: &str) -> (Kind, Rank) {
    if local.len() > NAME_MAX {
        return (Kind::Other, 0);
    }
    let mut buffer = [0; NAME_MAX];
    let lower = &mut buffer[..local.len()];
    lower.copy_from_slice(local.as_bytes());
    lower.make_ascii_lowercase();
    let lower: &[u8] = lower;
    match space {
        Space::Feed => (native(lower), 0),
        Space::Rdf => (if lower == b"rdf" { Kind::Frame } else { Kind::Other }, 0),
        Space::Dublin => match lower {
            b"title" => (Kind::Title, 1),
            b"date" => (Kind::Date, 1),
            b"creator" | b"author" => (Kind::Author, 1),
            b"subject" => (Kind::Category, 1),
            b"description" => (Kind::Summary, 1),
            b"language" => (Kind::Language, 1),
            _ => (Kind::Other, 0),
        },
        Space::Terms => match lower {
            b"issued" => (Kind::Published, 1),
            b"modified" => (Kind::Updated, 1),
            _ => (Kind::Other, 0),
        },
        Space::Content => (if lower == b"encoded" { Kind::Content } else { Kind::Other }, 0),
        Space::Media => match lower {
            b"title" => (Kind::Title, 3),
            b"description" => (Kind::Summary, 3),
            b"content" => (Kind::Enclosure, 1),
            b"thumbnail" => (Kind::Enclosure, 2),
            b"category" => (Kind::Category, 1),
            b"keywords" => (Kind::Category, KEYWORDS),
            _ => (Kind::Other, 0),
        },
        Space::Podcast => match lower {
            b"title" => (Kind::Title, 2),
            b"author" => (Kind::Author, 2),
            b"summary" | b"subtitle" => (Kind::Summary, 2),
            b"owner" => (Kind::Foreign, 0),
            b"category" => (Kind::Label, 1),
            b"keywords" => (Kind::Category, KEYWORDS),
            _ => (Kind::Other, 0),
        },
        Space::Feedburner => (if lower == b"origlink" { Kind::Original } else { Kind::Other }, 0),
        Space::Syndication => match lower {
            b"updateperiod" | b"updatefrequency" => (Kind::Unread, 0),
            _ => (Kind::Other, 0),
        },
        Space::Xhtml => (if lower == b"body" { Kind::Content } else { Kind::Other }, 1),
        Space::Unknown => (Kind::Other, 0),
    }
}

fn native(lower: &[u8]) -> Kind {
    match lower {
        b"item" | b"entry" => Kind::Item,
        b"rss" | b"channel" | b"feed" | b"rdf" => Kind::Frame,
        b"title" => Kind::Title,
        b"link" => Kind::Link,
        b"guid" | b"id" => Kind::Id,
        b"description" | b"summary" | b"abstract" | b"subtitle" | b"tagline" => Kind::Summary,
        b"content" | b"fullitem" | b"body" => Kind::Content,
        b"pubdate" | b"published" | b"issued" => Kind::Published,
        b"updated" | b"modified" | b"lastbuilddate" => Kind::Updated,
        b"author" => Kind::Author,
        b"category" => Kind::Category,
        b"enclosure" => Kind::Enclosure,
        b"source" | b"image" | b"textinput" | b"contributor" | b"items" => Kind::Foreign,
        b"language" => Kind::Language,
        b"comments" | b"ttl" => Kind::Unread,
        _ => Kind::Other,
    }
}

/// A name that starts a feed's own element even in a broken tag.
pub(super) fn is_structural(name: &str) -> bool {
    let (prefix, local) = split(name);
    let (kind, _) = classify(customary(prefix), local);
    !matches!(kind, Kind::Other | Kind::Foreign)
}

/// A name that feeds have and HTML has not, or for something else: what stands inside is no part of a plain text around it.
pub(super) fn is_of_feeds(name: &str) -> bool {
    let (prefix, local) = split(name);
    classify(customary(prefix), local).0 != Kind::Other
}

pub(super) fn split(name: &str) -> (&str, &str) {
    match memchr::memchr(b':', name.as_bytes()) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    }
}

/// What a prefix means where nobody declared it.
pub(super) fn customary(prefix: &str) -> Space {
    match prefix {
        "" | "atom" | "atom10" | "atom03" | "rss" | "a10" | "ATOM" => Space::Feed,
        "rdf" | "RDF" => Space::Rdf,
        "dc" | "DC" => Space::Dublin,
        "dcterms" | "dct" => Space::Terms,
        "content" => Space::Content,
        "media" => Space::Media,
        "itunes" => Space::Podcast,
        "feedburner" => Space::Feedburner,
        "sy" => Space::Syndication,
        "xhtml" | "html" | "h" => Space::Xhtml,
        _ => Space::Unknown,
    }
}

/// A namespace by its URI, in whatever case and with or without the slash at its end.
pub(super) fn space(uri: &str, prefix: &str) -> Space {
    let lower = uri.trim().to_ascii_lowercase();
    let uri = lower.trim_end_matches(['/', '#']);
    if uri.contains("backend.userland.com/rss") {
        return Space::Feed;
    }
    let uri = uri.strip_prefix("https").or_else(|| uri.strip_prefix("http")).unwrap_or(uri);
    match uri {
        "://purl.org/rss/1.0"
        | "://my.netscape.com/rdf/simple/0.9"
        | "://channel.netscape.com/rdf/simple/0.9"
        | "://blogs.law.harvard.edu/tech/rss"
        | "://cyber.law.harvard.edu/rss"
        | "://example.com/newformat"
        | "://example.com/necho"
        | "://purl.org/echo"
        | "uri/of/echo/namespace"
        | "://purl.org/pie"
        | "://purl.org/atom/ns"
        | "://www.w3.org/2005/atom"
        | "://purl.org/rss/1.0/modules/rss091" => Space::Feed,
        "://www.w3.org/1999/02/22-rdf-syntax-ns" => Space::Rdf,
        "://purl.org/dc/elements/1.1" | "://purl.org/dc/elements/1.0" => Space::Dublin,
        "://purl.org/dc/terms" => Space::Terms,
        "://purl.org/rss/1.0/modules/content" => Space::Content,
        "://search.yahoo.com/mrss" => Space::Media,
        "://www.itunes.com/dtds/podcast-1.0.dtd" | "://example.com/dtds/podcast-1.0.dtd" => {
            Space::Podcast
        }
        "://rssnamespace.org/feedburner/ext/1.0" => Space::Feedburner,
        "://purl.org/rss/1.0/modules/syndication" => Space::Syndication,
        "://www.w3.org/1999/xhtml" => Space::Xhtml,
        // A default namespace nobody knows is most likely the feed's own, misspelt; a known one that is not ours is not.
        unknown if prefix.is_empty() && !unknown.starts_with("://www.w3.org/") => Space::Feed,
        _ => match customary(prefix) {
            // `xmlns:dc="http://purl.org/DC"`: the prefix says what was meant. The short ones say nothing.
            space @ (Space::Dublin
            | Space::Content
            | Space::Media
            | Space::Feedburner
            | Space::Terms) => space,
            _ => Space::Unknown,
        },
    }
}

/// HTML elements without an end tag: in unescaped HTML they must not be waited for.
pub(super) fn is_void(name: &str) -> bool {
    let known =
        ["br", "img", "hr", "input", "wbr", "col", "embed", "param", "area", "meta", "base"];
    known.iter().any(|void| void.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_in_any_case_and_with_any_end() {
        assert_eq!(space("HTTP://PURL.ORG/DC/ELEMENTS/1.1", "x"), Space::Dublin);
        assert_eq!(space("https://search.yahoo.com/mrss", "m"), Space::Media);
        assert_eq!(space("http://www.w3.org/2005/Atom/", ""), Space::Feed);
    }

    #[test]
    fn a_declared_meaning_beats_the_customary_one() {
        assert_eq!(space("http://example.org/recipes", "sy"), Space::Unknown);
        assert_eq!(space("http://example.org/unknown", ""), Space::Feed);
        assert_eq!(space("http://www.w3.org/2000/svg", ""), Space::Unknown);
    }

    #[test]
    fn spellings_of_all_formats_come_to_one_kind() {
        for name in ["pubDate", "PUBDATE", "published", "issued"] {
            assert_eq!(classify(Space::Feed, name), (Kind::Published, 0), "{name}");
        }
        assert!(is_structural("content:encoded") && !is_structural("foo:item"));
    }
}
