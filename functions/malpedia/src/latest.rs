//! Malpedia's feed of what is new in the library: plain RSS 2.0, read without minding a stray `&` or a missing end tag.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// Items that are read at most; the feed has a few dozen.
const ITEMS_MAX: usize = 10_000;

/// One item, its texts without markup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// What it is called.
    pub title: String,
    /// The reference's own address.
    pub link: String,
    /// What is said of it.
    pub description: String,
    /// Its date as it stands.
    pub date: String,
    /// Its id as it stands.
    pub guid: String,
}

impl Item {
    /// The date as an instant.
    pub fn published(&self) -> Option<Timestamp> {
        static PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);
        PARSER.parse_timestamp(&self.date).ok().or_else(|| self.date.parse().ok())
    }
}

/// The items of a feed; nothing where the text is no feed. What comes before the first broken tag is kept, with the error.
pub fn read(text: &str) -> Option<(Vec<Item>, Option<String>)> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}').trim_start());
    let settings = reader.config_mut();
    settings.allow_dangling_amp = true;
    settings.allow_unmatched_ends = true;
    settings.check_end_names = false;
    let (mut items, mut item, mut field) = (Vec::new(), None::<Item>, None);
    let mut is_feed = false;
    let broken = loop {
        let event = match reader.read_event() {
            Ok(Event::Eof) => break None,
            Ok(event) => event,
            Err(error) => break Some(error.to_string()),
        };
        match &event {
            Event::Start(tag) => match tag.local_name().as_ref() {
                "rss" | "channel" => is_feed = true,
                "item" => item = Some(Item::default()),
                name => field = Field::named(name),
            },
            Event::End(tag) if tag.local_name().as_ref() == "item" => {
                items.extend(item.take().map(Item::clean));
            }
            Event::End(_) => field = None,
            Event::Text(text) => add(&mut item, field, text),
            Event::CData(text) => add(&mut item, field, text),
            Event::GeneralRef(name) => add(&mut item, field, &resolved(name)),
            _ => {}
        }
        if items.len() >= ITEMS_MAX {
            break Some(format!("more than {ITEMS_MAX} items"));
        }
    };
    is_feed.then_some((items, broken))
}

#[derive(Clone, Copy)]
enum Field {
    Title,
    Link,
    Description,
    Date,
    Guid,
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "title" => Self::Title,
            "link" => Self::Link,
            "description" => Self::Description,
            "pubDate" | "date" => Self::Date,
            "guid" => Self::Guid,
            _ => return None,
        })
    }
}

fn add(item: &mut Option<Item>, field: Option<Field>, text: &str) {
    let (Some(item), Some(field)) = (item, field) else { return };
    let text_of = match field {
        Field::Title => &mut item.title,
        Field::Link => &mut item.link,
        Field::Description => &mut item.description,
        Field::Date => &mut item.date,
        Field::Guid => &mut item.guid,
    };
    text_of.push_str(text);
}

/// What a reference stands for; one that is not known is text.
fn resolved(name: &BytesRef<'_>) -> String {
    if let Ok(Some(letter)) = name.resolve_char_ref() {
        return letter.to_string();
    }
    match &**name {
        "amp" => "&".to_owned(),
        "lt" => "<".to_owned(),
        "gt" => ">".to_owned(),
        "quot" => "\"".to_owned(),
        "apos" => "'".to_owned(),
        "nbsp" => " ".to_owned(),
        other => format!("&{other};"),
    }
}

impl Item {
    fn clean(self) -> Self {
        Self {
            title: words(&self.title),
            link: self.link.trim().to_owned(),
            description: words(&without_tags(&self.description)),
            date: self.date.trim().to_owned(),
            guid: self.guid.trim().to_owned(),
        }
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('\0', "")
}

/// HTML's tags become blanks; a `<` that opens none is text.
fn without_tags(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        plain.push_str(&rest[..at]);
        let is_tag = rest[at + 1..]
            .starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
        match rest[at..].find('>').filter(|_| is_tag) {
            Some(end) => {
                plain.push(' ');
                rest = &rest[at + end + 1..];
            }
            None => {
                plain.push('<');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_feed_is_read_with_its_small_faults() {
        let (items, broken) = read(
            "\u{feff}<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Malpedia</title>\
             <item><title>A &amp; B & C &#8211; <![CDATA[<D>]]></title><link> https://e.org/?a=1&b=2 </link>\
             <description>&lt;p&gt;one&lt;/p&gt; 1 &lt; 2</description><pubDate>Mon, 23 Nov 2026 00:00:00 +0000</pubDate>\
             <guid>g:1</guid></item><item><title>cut",
        )
        .unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].title, "A & B & C – <D>");
        assert_eq!(
            (items[0].link.as_str(), items[0].guid.as_str()),
            ("https://e.org/?a=1&b=2", "g:1")
        );
        assert_eq!(items[0].description, "one 1 < 2");
        assert_eq!(items[0].published().unwrap().to_string(), "2026-11-23T00:00:00Z");
        assert_eq!(broken, None);
        assert_eq!(read("<html><body>no</body></html>"), None);
        assert_eq!(read(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(<|>|/|item|title|rss|link|&|;|#|x|!\\[CDATA\\[| ){0,80}") {
            read(&text);
            without_tags(&text);
        }
    }
}
