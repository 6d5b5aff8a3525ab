//! The whole parser, from bytes to entries: every format, every kind of damage, any bytes at all.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn hints() -> Hints<'static> {
    Hints { content_type: None, url: "https://a.example/feed.xml" }
}

fn read(body: &[u8]) -> Result<(Head, Vec<Entry>, Vec<Reject>), FeedError> {
    let mut reader = open(body, &hints())?;
    let (mut entries, mut rejects) = (Vec::new(), Vec::new());
    while let Some(chunk) = reader.next_chunk()? {
        assert!(chunk.entries.len() + chunk.rejects.len() <= CHUNK_ENTRIES);
        entries.extend(chunk.entries);
        rejects.extend(chunk.rejects);
    }
    Ok((reader.head().clone(), entries, rejects))
}

/// What was found, a line a field, absent ones left out.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an Expect is written at the call")]
fn check(body: &str, expected: Expect) {
    expected.assert_eq(&shown(body.as_bytes()));
}

fn shown(body: &[u8]) -> String {
    use std::fmt::Write as _;
    let (head, entries, rejects) = match read(body) {
        Ok(found) => found,
        Err(error) => return error.to_string(),
    };
    let repairs: Vec<_> = head.repairs.iter().map(|repair| repair.name()).collect();
    let mut out =
        format!("{:?} {} {:?} {:?} {repairs:?}\n", head.kind, head.version, head.title, head.link);
    for entry in entries {
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                writeln!(out, "  {name} {value}").expect("writing to a string cannot fail");
            }
        };
        line("#", Some(entry.index.to_string()));
        line("guid", entry.guid);
        line("title", entry.title);
        line("link", entry.link);
        line("original", entry.original_link);
        line("authors", Some(entry.authors.join(", ")).filter(|names| !names.is_empty()));
        line("published", entry.published.map(|at| at.to_string()));
        line("published?", entry.published_raw);
        line("updated", entry.updated.map(|at| at.to_string()));
        line("summary", entry.summary_html);
        line("content", entry.content_html);
        line("categories", Some(entry.categories.join(", ")).filter(|names| !names.is_empty()));
        for media in entry.media {
            line("media", Some(format!("{} {:?}", media.url, media.mime)));
        }
    }
    for reject in rejects {
        writeln!(out, "  reject {} {}: {}", reject.index, reject.reason, reject.head)
            .expect("writing to a string cannot fail");
    }
    out
}

#[test]
fn reads_rss_with_all_its_modules() {
    check(
        r#"<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:content="http://purl.org/rss/1.0/modules/content/"
          xmlns:feedburner="http://rssnamespace.org/feedburner/ext/1.0" xmlns:media="http://search.yahoo.com/mrss"><channel>
          <title>News &amp; more</title><link>/</link><item><title>A &lt;b&gt;bold&lt;/b&gt; one</title><link>
          /a?b=1&amp;c=2 </link><guid isPermaLink="false">7</guid><pubDate>Wed, 16 Nov 2022 00:38:15 +0100</pubDate>
          <dc:date>2020-01-01</dc:date><dc:creator>Jane</dc:creator><author>j@a.example (Joe)</author>
          <category>x</category><category><![CDATA[y & z]]></category><description>&lt;p&gt;short&lt;/p&gt;</description>
          <content:encoded><![CDATA[<p>long</p>]]></content:encoded><feedburner:origLink>https://b.example/</feedburner:origLink>
          <enclosure url="/a.mp3" type="audio/mpeg" length="1"/><media:content url="/b.png"><media:title>no</media:title></media:content>
          </item></channel></rss>"#,
        expect![[r#"
            Rss 2.0 Some("News & more") Some("https://a.example/") []
              # 0
              guid 7
              title A bold one
              link https://a.example/a?b=1&c=2
              original https://b.example/
              authors Jane, Joe
              published 2022-11-15T23:38:15Z
              updated 2020-01-01T00:00:00Z
              summary <p>short</p>
              content <p>long</p>
              categories x, y & z
              media https://a.example/a.mp3 Some("audio/mpeg")
              media https://a.example/b.png None
        "#]],
    );
}

#[test]
fn reads_rdf_whose_items_stand_beside_the_channel() {
    check(
        r#"<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
          <channel rdf:about="https://a.example/"><title>R</title><link>https://a.example/</link><items><rdf:Seq><rdf:li resource="x"/></rdf:Seq></items></channel>
          <image><title>logo</title><link>https://a.example/logo</link></image>
          <item rdf:about="https://a.example/1"><title>One</title><link>https://a.example/1</link><dc:date>2022-11-16T00:38+09:00</dc:date></item>
          </rdf:RDF>"#,
        expect![[r#"
            Rdf 1.0 Some("R") Some("https://a.example/") []
              # 0
              guid https://a.example/1
              title One
              link https://a.example/1
              published 2022-11-15T15:38:00Z
              updated 2022-11-15T15:38:00Z
        "#]],
    );
}

#[test]
fn reads_atom_of_both_versions() {
    check(
        r#"<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://b.example/x/"><title type="html">&lt;i&gt;A&lt;/i&gt;</title>
          <link rel="self" href="feed"/><link href="./"/>
          <entry><id>urn:1</id><title>a &lt; b</title><link rel="alternate" href="1"/><link rel="enclosure" href="1.pdf" type="application/pdf"/>
          <updated>2022-11-16T00:38:15Z</updated><published>soon</published><author><name>Jane</name><email>j@a</email></author>
          <category term="t" label="T"/><summary>1 &lt; 2</summary>
          <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>x<br/>&amp;</p></div></content>
          <source><title>other</title><id>urn:other</id></source></entry></feed>"#,
        expect![[r#"
            Atom 1.0 Some("A") Some("https://b.example/x/") []
              # 0
              guid urn:1
              title a < b
              link https://b.example/x/1
              authors Jane
              published? soon
              updated 2022-11-16T00:38:15Z
              summary 1 &lt; 2
              content <p>x<br/>&amp;</p>
              categories t
              media https://b.example/x/1.pdf Some("application/pdf")
        "#]],
    );
    check(
        r#"<feed version="0.3" xmlns="http://purl.org/atom/ns#"><entry><title mode="base64" type="text/html">PGI+eDwvYj4=</title>
          <issued>2004-01-02</issued><modified>2004-01-03T04:05Z</modified><content type="text/html" mode="escaped">&lt;p&gt;y</content></entry></feed>"#,
        expect![[r#"
            Atom 0.3 None None []
              # 0
              title x
              published 2004-01-02T00:00:00Z
              updated 2004-01-03T04:05:00Z
              content <p>y
        "#]],
    );
}

#[test]
fn reads_cdf() {
    check(
        r#"<CHANNEL HREF="http://a.example/"><TITLE>C</TITLE><ITEM HREF="http://a.example/1" LASTMOD="2000-01-02T03:04"><TITLE>One</TITLE><ABSTRACT>Text</ABSTRACT></ITEM></CHANNEL>"#,
        expect![[r#"
            Cdf  Some("C") Some("http://a.example/") []
              # 0
              title One
              link http://a.example/1
              updated 2000-01-02T03:04:00Z
              summary Text
        "#]],
    );
}

#[test]
fn reads_json_feed_even_cut_off() {
    check(
        r#"{"version":"https://jsonfeed.org/version/1.1","title":"J","home_page_url":"https://a.example/","items":[
          {"id":1,"url":"/1","title":"x","content_html":"<p>","tags":["a"],"date_published":"2022-11-16T00:38:15+01:00"},
          {"id":"2","title":7,"authors":[{"name":"N"}],"attachments":[{"url":"m.mp3","mime_type":"audio/mpeg"}]},
          nonsense, {"id":"3","ti"#,
        expect![[r#"
            Json 1.1 Some("J") Some("https://a.example/") ["truncated"]
              # 0
              guid 1
              title x
              link https://a.example/1
              published 2022-11-15T23:38:15Z
              content <p>
              categories a
              # 1
              guid 2
              title 7
              authors N
              media https://a.example/m.mp3 Some("audio/mpeg")
              reject 2 expected ident at line 1 column 2: nonsense
              reject 3 cut off inside the item: {"id":"3","ti
        "#]],
    );
}

#[test]
fn repairs_what_can_be_repaired() {
    check(
        "<br />\n<b>Notice</b>: x in <b>y.php</b><?xml version='1.0'?><rss><channel><title>T&T</title>
          <item><title>1 < 2 & 3<link>http://a.example/1?a=1&b=2</link><content:encoded><![CDATA[<p>x</p></content:encoded></item>
          <item><title>two</title><pubDate>0000-00-00</pubDate><description><p>un<br>escaped & <a href='x'>so</a></description>
          <item><title>three</title></channel>",
        expect![[r#"
            Rss  Some("T&T") None ["leading junk", "bare ampersands", "unclosed tags", "unclosed cdata"]
              # 0
              title 1 < 2 & 3
              link http://a.example/1?a=1&b=2
              content <p>x</p>
              # 1
              title two
              published? 0000-00-00
              summary <p>un<br>escaped & <a href="x">so</a>
              # 2
              title three
        "#]],
    );
}

#[test]
fn what_is_cut_off_is_kept_only_whole() {
    let feed = "<rss><channel><item><guid>1</guid><title>a</title></item><item><guid>2</guid><title>b</title></item>";
    check(
        &feed[..feed.len() - 15],
        expect![[r#"
        Rss  None None ["truncated"]
          # 0
          guid 1
          title a
          reject 1 cut off before a whole title or link: <guid>2</guid><title>b
    "#]],
    );
    check(
        &feed[..feed.len() - 25],
        expect![[r#"
        Rss  None None ["truncated"]
          # 0
          guid 1
          title a
          reject 1 cut off before its id: <guid>2</gui
    "#]],
    );
    check(
        "<rss><channel><item><title>a</title><link>http://a.example/1</li",
        expect![[r#"
        Rss  None None ["truncated"]
          # 0
          title a
    "#]],
    );
    check(
        "<rss><channel><item><title>a",
        expect![[r#"
        Rss  None None ["truncated"]
          reject 0 cut off before a whole title or link: <title>a
    "#]],
    );
}

#[test]
fn what_is_no_feed_says_so() {
    check(" \u{feff}\n", expect!["the body is empty"]);
    check(
        "<!DOCTYPE html><html><head><title>Just a &quot;moment&quot;</title></head></html>",
        expect![[r#"the body is a web page titled `Just a "moment"`"#]],
    );
    check(
        r#"{"error":"unauthorized"}"#,
        expect!["the body is no feed but starts with `{ error: unauthorized }`"],
    );
    check("<opml><body/></opml>", expect!["the body is no feed but starts with `<opml>`"]);
    check("404 not found", expect!["the body is no feed but starts with `404 not found`"]);
    check(
        &format!("<rss><channel><item><title>{}", "<a>".repeat(600)),
        expect!["`a` is nested more than 512 deep"],
    );
}

/// Pieces that feeds are made of, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<rss version='2.0'>",
        "<feed xmlns='http://www.w3.org/2005/Atom'>",
        "<rdf:RDF>",
        "<channel>",
        "</channel>",
        "<item>",
        "</item>",
        "<entry>",
        "</entry>",
        "<title>",
        "</title>",
        "<title type='html'>",
        "<link>",
        "<link href=\"/x\"/>",
        "</link>",
        "<guid>",
        "</guid>",
        "<pubDate>",
        "Wed, 16 Nov 2022 00:38:15 +0100",
        "<dc:date>",
        "2022",
        "</dc:date>",
        "<content:encoded>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<!DOCTYPE x [",
        "<!ENTITY a \"&b;\">",
        "]>",
        "&a;",
        "&",
        "&#x10ffff;",
        "&#0;",
        "&nbsp;",
        "<",
        ">",
        "\"",
        "'",
        "=",
        "\u{a0}",
        "é",
        "\u{0}",
        "\u{fffd}",
        "<content type='xhtml'>",
        "</content>",
        "<content mode='base64'>",
        "YQ==",
        "<author><name>",
        "</author>",
        "<category term='x'/>",
        "<?",
        "?>",
        "xml:base='/y/'",
        "<x xmlns:y='z'>",
        "<script>",
        "</script>",
        "{\"items\":[",
        "{\"id\":1}",
        "]",
        "}",
        "\\",
        " ",
        "+",
        "-",
        "12:30",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(read(&body));
        drop(read(&[b"<rss><channel><item><title>", body.as_slice()].concat()));
    }

    #[test]
    fn any_order_of_pieces_is_survived(body in pieces()) {
        drop(read(body.as_bytes()));
        drop(read(format!("<rss>{body}").as_bytes()));
        drop(read(format!("{{\"items\":[{body}").as_bytes()));
        drop(text::html_to_text(&body));
    }
}
