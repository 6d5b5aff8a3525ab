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

#[test]
fn nested_elements_stay_with_their_own() {
    let own = "<title>own</title><link>http://e.example/own</link>";
    let inner = "<image><title>img</title><link>http://e.example/img</link></image>";
    for item in [
        format!("{own}<category>c{inner}</category>"),
        format!("<category>c{inner}</category>{own}"),
        format!("{own}<category>c<x:any>{inner}</x:any></category>"),
    ] {
        let (head, entries, _) =
            read(format!("<rss><channel><item>{item}</item></channel></rss>").as_bytes()).unwrap();
        let entry = &entries[0];
        assert_eq!(entry.title.as_deref(), Some("own"), "{item}");
        assert_eq!(entry.link.as_deref(), Some("http://e.example/own"), "{item}");
        assert_eq!(entry.categories, ["c"], "{item}");
        assert_eq!(head.repairs, [], "{item}");
    }
    check(
        "<rss><channel><item><title>own</title><link>http://e.example/own</link>
          <x:more><title>other</title><link>http://e.example/other</link></x:more>
          <description><svg><title>drawn</title></svg><p>text</p></description>
          <guid><x:a><link>http://e.example/no</link></x:a>7</guid></item>
          <item><title>two<link>http://e.example/2</link><category>c<image><title>i</title></image></item></channel></rss>",
        expect![[r#"
            Rss  None None ["unclosed tags", "stray end tags"]
              # 0
              guid 7
              title own
              link http://e.example/own
              summary <svg><title>drawn</title></svg><p>text</p>
              # 1
              title two
              link http://e.example/2
              categories c
        "#]],
    );
}

#[test]
fn a_channel_definition_has_a_base() {
    check(
        r#"<CHANNEL BASE="http://base.example.org/x/"><TITLE>C</TITLE><ITEM HREF="/item/1"><TITLE>One</TITLE></ITEM>
          <CHANNEL BASE="y/"><ITEM HREF="2"><TITLE>Two</TITLE></ITEM></CHANNEL><ITEM HREF="3"><TITLE>Three</TITLE></ITEM></CHANNEL>"#,
        expect![[r#"
            Cdf  Some("C") None []
              # 0
              title One
              link http://base.example.org/item/1
              # 1
              title Two
              link http://base.example.org/x/y/2
              # 2
              title Three
              link http://base.example.org/x/3
        "#]],
    );
}

#[test]
fn a_feed_is_one_whatever_its_doctype_says() {
    for root in ["<rss><channel>", "<rdf:RDF>", "<feed>"] {
        let entry = if root == "<feed>" { "entry" } else { "item" };
        let body = format!("<!DOCTYPE html>\n{root}<{entry}><title>x</title></{entry}>");
        assert_eq!(read(body.as_bytes()).unwrap().1.len(), 1, "{root}");
    }
    check(
        "<!DOCTYPE html><html><body><feed><entry><title>x</title></entry></feed></body></html>",
        expect!["the body is a web page titled `x`"],
    );
}

#[test]
fn categories_of_media_and_podcasts_are_categories() {
    check(
        r#"<rss xmlns:media="http://search.yahoo.com/mrss/" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><item><title>x</title>
          <category>own</category><media:group><media:category scheme="s">music/artist</media:category><media:category label="L"/></media:group>
          <media:keywords>one, two words, own</media:keywords><itunes:category text="Technology"><itunes:category text="Podcasting"/></itunes:category>
          <itunes:keywords>three</itunes:keywords></item></channel></rss>"#,
        expect![[r#"
            Rss  None None []
              # 0
              title x
              categories own, music/artist, L, one, two words, Technology, Podcasting, three
        "#]],
    );
    check(
        r#"<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>x</title><category label="Only label"/><category term="t" label="T"/></entry></feed>"#,
        expect![[r#"
            Atom 1.0 None None []
              # 0
              title x
              categories Only label, t
        "#]],
    );
}

#[test]
fn a_creator_is_parted_as_an_author_is() {
    check(
        "<rss><channel><item><title>x</title><dc:creator>Jane Doe (jane@a.example)</dc:creator>
          <author>joe@a.example (Joe)</author><dc:creator>Ann &lt;ann@a.example></dc:creator><author>Jane Doe</author></item></channel></rss>",
        expect![[r#"
            Rss  None None []
              # 0
              title x
              authors Jane Doe, Joe, Ann
        "#]],
    );
}

#[test]
fn a_summary_beside_a_description_is_kept() {
    check(
        "<rss><channel><item><title>1</title><summary>short</summary><description>a longer text</description></item>
          <item><title>2</title><description>a longer text</description><summary>short</summary></item>
          <item><title>3</title><description>same</description><summary>same</summary></item>
          <item><title>4</title><description>b</description><summary>a</summary><content:encoded>c</content:encoded></item></channel></rss>",
        expect![[r#"
            Rss  None None []
              # 0
              title 1
              summary short
              content a longer text
              # 1
              title 2
              summary short
              content a longer text
              # 2
              title 3
              summary same
              # 3
              title 4
              summary b<br>a
              content c
        "#]],
    );
}

#[test]
fn a_cdata_section_written_as_references_or_within_another_gives_its_text() {
    for text in [
        "&lt;![CDATA[the quay is flooded]]&gt;",
        "<![CDATA[<![CDATA[the quay is flooded]]>]]>",
        "&lt;![CDATA[&lt;b&gt;the quay&lt;/b&gt; is flooded]]&gt;",
        "&#60;![CDATA[ the quay is flooded ]]&gt;",
        "&amp;lt;![CDATA[the quay is flooded]]&amp;gt;",
    ] {
        let body = format!(
            "<rss><channel><item><guid>1</guid><title>{text}</title><description>{text}</description><category>{text}</category></item></channel></rss>"
        );
        let (_, entries, _) = read(body.as_bytes()).unwrap();
        let summary = entries[0].summary_html.as_deref().map(text::html_to_text);
        assert_eq!(summary.as_deref(), Some("the quay is flooded"), "{text}");
        assert_eq!(entries[0].title.as_deref(), Some("the quay is flooded"), "{text}");
        if !text.contains("b&gt;") && !text.starts_with("&amp;") {
            assert_eq!(entries[0].categories, ["the quay is flooded"], "{text}");
        }
    }
}

#[test]
fn odd_texts_of_json_cost_no_item() {
    check(
        "{\"version\":\"https://jsonfeed.org/version/1.1\",\"title\":\"a \\ud83d b\",\"items\":[
          {\"id\":\"1\",\"title\":\"half \\ud83d pair\",\"content_text\":\"\\udc00 and \\ud83d\\ude00\"},
          {\"id\":\"2\",\"title\":\"n\\u0000ul\",\"tags\":[\"t\\u0000ag\",\"\\u0000\"],\"authors\":[{\"name\":\"A\\u0000\"},\"B\\u0007\"]},
          {\"id\":\"3\",\"title\":\"a line\nbreak\tand \\'quotes\\' \\x41 \\u12\"},
          {\"id\":\"4\",\"title\":\"\\ud83d\\ud83d\\ude00 \\\\ud83d\"}]}",
        expect![[r#"
            Json 1.1 Some("a � b") None ["malformed JSON texts"]
              # 0
              guid 1
              title half � pair
              content � and 😀
              # 1
              guid 2
              title nul
              authors A, B
              categories tag
              # 2
              guid 3
              title a line break and 'quotes' x41 u12
              # 3
              guid 4
              title �😀 \ud83d
        "#]],
    );
}

#[test]
fn links_do_not_carry_the_secrets_of_the_feeds_address() {
    let url = "https://user:pass@a.example/feed?key=SECRET&page=1";
    let body = "<rss><channel><link>?x</link><item><link>/1</link></item><item><link>#two</link></item></channel></rss>";
    let mut reader = open(body.as_bytes(), &Hints { content_type: None, url }).unwrap();
    let chunk = reader.next_chunk().unwrap().unwrap();
    let links: Vec<_> = chunk.entries.iter().filter_map(|entry| entry.link.as_deref()).collect();
    assert_eq!(links, ["https://a.example/1", "https://a.example/feed?page=1#two"]);
    assert_eq!(reader.head().link.as_deref(), Some("https://a.example/feed?x"));
}

#[test]
fn the_language_of_a_feed_settles_its_dates() {
    let item = "<item><title>x</title><pubDate>19 listopada 2024</pubDate></item>";
    for (language, date) in
        [("pl", Some("2024-11-19T00:00:00Z")), ("hr", Some("2024-10-19T00:00:00Z")), ("de", None)]
    {
        let body = format!("<rss><channel><language>{language}</language>{item}</channel></rss>");
        let (_, entries, _) = read(body.as_bytes()).unwrap();
        assert_eq!(
            entries[0].published.map(|date| date.to_string()).as_deref(),
            date,
            "{language}"
        );
        assert_eq!(entries[0].published_raw.is_none(), date.is_some());
    }
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
