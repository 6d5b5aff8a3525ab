//! OPML, in which readers of feeds hand each other their lists: read with every part of it bounded, and written.

use std::fmt::Write as _;

use base::{Error, Result};
use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};
use task::catalog::SourceEntry;

/// Bytes of a file that is read.
pub(super) const BYTES_MAX: u64 = 8 << 20;

/// Feeds of one file.
const FEEDS_MAX: usize = 5_000;

/// Folders within folders; a list of feeds has two or three.
const DEPTH_MAX: usize = 64;

/// Attributes of one outline that are looked at.
const ATTRIBUTES_MAX: usize = 64;

/// Bytes of one attribute; what is longer is not taken.
const VALUE_MAX: usize = 4_096;

/// The names that ours stand under, beside OPML's own.
const NAMESPACE: &str = "urn:minerva:sources";

/// One feed of a file, as it stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) url: String,
    pub(super) name: String,
    /// Its own categories first, then the folders it is in, the nearest first.
    pub(super) folders: Vec<String>,
    pub(super) language: Option<String>,
    /// Its id and whether it is enabled, where a list of ours was written.
    pub(super) id: Option<String>,
    pub(super) is_disabled: bool,
}

/// Reads the feeds of a file, in its order.
///
/// # Errors
/// `Config`: no OPML, or more of something than is read.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Outline>> {
    let text = decoded(bytes)?;
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
    let (mut feeds, mut folders, mut is_opml) = (Vec::new(), Vec::new(), false);
    loop {
        let at = reader.buffer_position();
        let wrong = |why: String| {
            Error::config(format!("read the OPML: {why} at byte {at}"))
                .hint("it is what readers of feeds export: outlines with an `xmlUrl`")
        };
        let event =
            reader.read_event().map_err(|cause| wrong("it is broken".to_owned()).because(cause))?;
        let (tag, is_empty) = match event {
            Event::Start(tag) => (tag, false),
            Event::Empty(tag) => (tag, true),
            Event::End(tag) if is_outline(tag.local_name().as_ref()) => {
                folders.pop();
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        if !is_opml {
            is_opml = tag.local_name().as_ref().eq_ignore_ascii_case(b"opml");
            if !is_opml {
                return Err(wrong("there is something else where `<opml>` should be".to_owned()));
            }
        }
        if !is_outline(tag.local_name().as_ref()) {
            continue;
        }
        let (outline, name) = outline(&tag, &folders);
        if !outline.url.is_empty() {
            if feeds.len() == FEEDS_MAX {
                return Err(wrong(format!("there are more than {FEEDS_MAX} feeds")));
            }
            feeds.push(outline);
        }
        if !is_empty {
            if folders.len() == DEPTH_MAX {
                return Err(wrong(format!("folders are nested more than {DEPTH_MAX} deep")));
            }
            folders.push(name);
        }
    }
    if !is_opml {
        return Err(Error::config("read the OPML: there is no `<opml>` in it"));
    }
    Ok(feeds)
}

/// UTF-8, and what is not is taken for Latin-1, as old readers wrote it.
fn decoded(bytes: &[u8]) -> Result<String> {
    if [&[0xfe, 0xff], &[0xff, 0xfe]].iter().any(|mark| bytes.starts_with(*mark)) {
        return Err(Error::config("read the OPML: it is UTF-16").hint("save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    })
}

fn is_outline(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"outline")
}

/// An outline, and what it is called as a folder.
fn outline(tag: &BytesStart<'_>, folders: &[String]) -> (Outline, String) {
    let mut outline = Outline::default();
    let (mut title, mut text) = (String::new(), String::new());
    let mut attributes = tag.html_attributes();
    // The check for doubled names compares each with all before it.
    attributes.with_checks(false);
    for attribute in attributes.take(ATTRIBUTES_MAX).map_while(std::result::Result::ok) {
        if attribute.value.len() > VALUE_MAX {
            continue;
        }
        let raw = String::from_utf8_lossy(&attribute.value);
        // An `&` that begins no reference stands for itself; a file's own entities are not looked up.
        let value = unescape(&raw).map_or_else(|_| raw.to_string(), std::borrow::Cow::into_owned);
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        match attribute.key.as_ref().to_ascii_lowercase().as_slice() {
            b"xmlurl" => outline.url = value,
            b"title" => title = value,
            b"text" => text = value,
            b"language" => outline.language = Some(value).filter(|value| !value.is_empty()),
            b"category" => outline.folders.extend(
                value
                    .split([',', '/'])
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(ToOwned::to_owned),
            ),
            b"minerva:id" => outline.id = Some(value),
            b"minerva:enabled" => outline.is_disabled = value == "false",
            _ => {}
        }
    }
    outline.folders.extend(folders.iter().rev().filter(|folder| !folder.is_empty()).cloned());
    outline.name.clone_from(if title.is_empty() { &text } else { &title });
    let folder = if text.is_empty() { title } else { text };
    (outline, folder)
}

/// Writes sources as OPML: a folder a category, in the order in which they first come.
pub(super) fn write(entries: &[SourceEntry]) -> String {
    let mut opml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<opml version=\"2.0\" xmlns:minerva=\"{NAMESPACE}\">\n  <head><title>Minerva's sources</title></head>\n  <body>\n"
    );
    let category = |entry: &SourceEntry| entry.category.clone().unwrap_or_default();
    let mut categories: Vec<String> = Vec::new();
    for entry in entries {
        if !categories.contains(&category(entry)) {
            categories.push(category(entry));
        }
    }
    for name in categories {
        let _ = writeln!(opml, "    <outline text=\"{}\">", quoted(&name));
        for entry in entries.iter().filter(|entry| category(entry) == name) {
            let Some(url) = &entry.url else { continue };
            let title = quoted(&entry.name);
            let _ = write!(
                opml,
                "      <outline type=\"rss\" text=\"{title}\" title=\"{title}\" xmlUrl=\"{}\"",
                quoted(url.as_str())
            );
            if let Some(language) = &entry.language {
                let _ = write!(opml, " language=\"{}\"", quoted(language));
            }
            let _ = write!(opml, " minerva:id=\"{}\"", quoted(&entry.id));
            if !entry.enabled {
                opml.push_str(" minerva:enabled=\"false\"");
            }
            opml.push_str("/>\n");
        }
        opml.push_str("    </outline>\n");
    }
    opml.push_str("  </body>\n</opml>\n");
    opml
}

/// A value of an attribute; XML has no way to write control letters.
fn quoted(text: &str) -> String {
    escape(text.replace(char::is_control, " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(url: &str, name: &str, folders: &[&str]) -> Outline {
        Outline {
            url: url.to_owned(),
            name: name.to_owned(),
            folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
            ..Outline::default()
        }
    }

    #[test]
    fn what_readers_export_is_read() {
        let text = r#"<?xml version="1.0"?><!-- by hand --><OPML version="1.1"><head><title>x</title></head><body>
            <outline text="Security News"><outline TEXT="A &amp; B" title="" xmlURL=" https://a.example/feed?x=1&amp;y=2 "/>
              <outline text="Deep"><outline text="t" title="T & co" xmlUrl='https://b.example/?a=1&b=2' category="/malware,x/"></outline></outline>
            </outline>
            <outline text="https://c.example/feed" xmlUrl="https://c.example/feed" language="pt-BR" type=rss />
            <outline text="no feed" htmlUrl="https://d.example/"/>
          </body></OPML>"#;
        let feeds = read(text.as_bytes()).unwrap();
        assert_eq!(
            feeds,
            [
                feed("https://a.example/feed?x=1&y=2", "A & B", &["Security News"]),
                feed(
                    "https://b.example/?a=1&b=2",
                    "T & co",
                    &["malware", "x", "Deep", "Security News"]
                ),
                Outline {
                    language: Some("pt-BR".to_owned()),
                    ..feed("https://c.example/feed", "https://c.example/feed", &[])
                },
            ]
        );
        let latin = b"<opml><outline text=\"Not\xedcias\" xmlUrl=\"https://a.example/\"/></opml>";
        assert_eq!(read(latin).unwrap()[0].name, "Notícias");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let entry = |id: &str, name: &str, category: Option<&str>, enabled| SourceEntry {
            id: id.to_owned(),
            name: name.to_owned(),
            url: Some(format!("https://{id}.example/?a=1&b=%22").parse().unwrap()),
            category: category.map(ToOwned::to_owned),
            language: Some("pt-BR".to_owned()),
            enabled,
        };
        let text = write(&[
            entry("a", "\"A\" <b> & 'c'\u{1b}", Some("news"), true),
            entry("b", "Notícias", Some("brazil"), false),
            entry("c", "C", Some("news"), true),
        ]);
        let feeds = read(text.as_bytes()).unwrap();
        let shown: Vec<String> = feeds
            .iter()
            .map(|feed| {
                format!(
                    "{} {} {} {:?} {}",
                    feed.id.as_deref().unwrap(),
                    feed.name,
                    feed.url,
                    feed.folders,
                    feed.is_disabled
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a \"A\" <b> & 'c' https://a.example/?a=1&b=%22 [\"news\"] false",
                "c C https://c.example/?a=1&b=%22 [\"news\"] false",
                "b Notícias https://b.example/?a=1&b=%22 [\"brazil\"] true",
            ]
        );
        assert!(feeds.iter().all(|feed| feed.language.as_deref() == Some("pt-BR")));
    }

    #[test]
    fn a_hostile_file_is_refused_or_bounded() {
        let refused = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        for text in ["", "plain", "<html><body></body></html>", "{}"] {
            assert!(refused(text).contains("opml"), "{text}: {}", refused(text));
        }
        assert!(refused("<opml><body><outline xmlUrl=\"x").contains("broken"));
        let deep = format!("<opml>{}</opml>", "<outline text=\"a\">".repeat(5_000));
        assert!(refused(&deep).contains("more than 64 deep"));
        let many = format!("<opml>{}</opml>", "<outline xmlUrl=\"http://a/\"/>".repeat(20_000));
        assert!(refused(&many).contains("more than 5000 feeds"));
        assert!(read(b"\xff\xfe<\0").unwrap_err().to_string().contains("UTF-16"));
        // Entities that double, a megabyte of names, values and ends: one pass, nothing expanded.
        let bomb = r#"<!DOCTYPE opml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><opml><outline text="&b;" xmlUrl="http://a/"/></opml>"#;
        assert_eq!(read(bomb.as_bytes()).unwrap()[0].name, "&b;");
        let long = format!(
            "<opml><outline text=\"{}\" xmlUrl=\"http://a/\"/></opml>",
            "n".repeat(1 << 20)
        );
        assert_eq!(read(long.as_bytes()).unwrap(), [feed("http://a/", "", &[])]);
        let names: String = (0..100_000).map(|n| format!(" a{n}=\"\"")).collect();
        assert!(read(format!("<opml><outline{names}/></opml>").as_bytes()).unwrap().is_empty());
        assert!(
            read(format!("<opml>{}", "</outline>".repeat(100_000)).as_bytes()).unwrap().is_empty()
        );
    }
}
