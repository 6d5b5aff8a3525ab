//! What a feed may cost: over the worst input for every construct that the parser knows, time grows with the input and no
//! faster, memory and documents are a stated multiple of it.
//!
//! Each input is read in a process of its own (`parse_feed`), whose processor time and peak are then its alone.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::process::Command;

use serde_json::Value;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("markup_costs_what_it_is_long", || hold(MARKUP)),
    ("entries_cost_what_they_are_long", || hold(ENTRIES)),
    ("json_costs_what_it_is_long", || hold(JSON)),
    ("encodings_cost_what_they_are_long", || hold(ENCODINGS)),
    ("what_stands_once_is_not_multiplied", || hold(ONCE)),
];

/// The sizes that are compared, in bytes; the second is four times the first.
const SIZES: [usize; 2] = [1 << 19, 1 << 21];

/// Linear is 4, quadratic 16.
const RATIO_MAX: u64 = 8;

/// Below this many milliseconds for the larger one, a ratio says nothing.
const LEAST_MS: u64 = 400;

/// The most a process may hold: so many bytes for a byte of input, and so many beside that.
const PEAK_PER_BYTE: usize = 8;
const PEAK_MAX: usize = 32 << 20;

/// The most that documents may hold for a byte of input, and beside that: what every document says of its source.
const BYTES_PER_BYTE: usize = 4;
const BYTES_MAX: usize = 4 << 20;

/// A construct: its name, what stands before it, what is repeated (`#` becomes a number), and what stands after.
type Construct = (&'static str, &'static str, &'static str, &'static str);

const CHANNEL: &str = "<rss version='2.0'><channel><title>t</title>";
const ITEM: &str = "<rss><channel><item><title>t</title><description>";

const MARKUP: &[Construct] = &[
    (
        "entity declarations",
        "<!DOCTYPE x [",
        "<!ENTITY",
        "]><rss><channel><item><title>t</title></item>",
    ),
    (
        "named entities",
        "<!DOCTYPE x [",
        "<!ENTITY a# \"v\">",
        "]><rss><channel><item><title>&a1;</title></item>",
    ),
    (
        "unnamed entities",
        "<!DOCTYPE x [",
        "<!ENTITY a# ",
        "]><rss><channel><item><title>t</title></item>",
    ),
    (
        "long entity names",
        "<!DOCTYPE x [",
        "<!ENTITY aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "]><rss>",
    ),
    (
        "entity uses",
        "<!DOCTYPE x [<!ENTITY a 'bbbbbbbbbbbbbbbbbbbbbbbbbbbb'><!ENTITY c '&a;&a;&a;&a;'>]><rss><channel><item><title>t</title><description>",
        "&c;",
        "</description></item>",
    ),
    ("doctypes", "<rss>", "<!DOCTYPE x [", "<channel>"),
    ("open tags before a root", "", "<a", ""),
    ("open tags", ITEM, "<a ", ""),
    ("open tags with a late end", ITEM, "<a ", ">"),
    ("open quotes", ITEM, "<a b=\"", ""),
    ("single quotes", ITEM, "<a b='", "'>"),
    ("quoted ends", ITEM, "<a b=\">", ""),
    ("stray ends", CHANNEL, "</x>", ""),
    ("stray ends within fields", ITEM, "</x#>", ""),
    ("open comments", ITEM, "<!--", ""),
    ("declarations", ITEM, "<!a ", ""),
    ("instructions", ITEM, "<?a ", ""),
    ("open cdata", ITEM, "<![CDATA[", ""),
    ("open cdata with a late end", ITEM, "<![CDATA[", "]]></description></item>"),
    ("cdata in items", CHANNEL, "<item><title><![CDATA[x</title></item>", ""),
    ("ampersands", ITEM, "&", ""),
    ("long references", ITEM, "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ""),
    ("escaped html", ITEM, "&lt;a ", "</description></item>"),
    ("escaped scripts", ITEM, "&lt;script&gt;", "</description></item>"),
    ("escaped comments", ITEM, "&lt;!--", "</description></item>"),
    ("escaped cdata", ITEM, "&lt;![CDATA[", "</description></item>"),
    ("escaped quotes", ITEM, "&lt;a b=\"", "&gt;</description></item>"),
    ("html entities twice", ITEM, "&amp;amp;", "</description></item>"),
    (
        "inline xhtml",
        "<feed><entry><title>t</title><content type='xhtml'><div>",
        "<b c='d'>e</b>",
        "</div></content></entry>",
    ),
    ("attributes", "<rss><channel><item ", "a#='b' ", "><title>t</title></item>"),
    ("namespaces", "<rss><channel>", "<a xmlns:b#='c'>x</a>", "<item/>"),
    (
        "namespaces in one tag",
        "<rss ",
        "xmlns:b#='http://purl.org/dc/elements/1.1/' ",
        "><channel><item><title>t</title></item>",
    ),
    ("names", "<rss><channel><item><title>t</title><", "a", ">x</item>"),
    ("words", ITEM, "word ", "</description></item>"),
    ("blanks", ITEM, " \n", "</description></item>"),
    ("levels", "<rss><channel><item><title>t</title>", "<a><b>x</b></a>", "</item>"),
    ("bases", CHANNEL, "<a xml:base='b/'>", ""),
    ("a web page", "<html><head><title>", "x<b>", ""),
    ("no feed", "", "text ", ""),
];

const ENTRIES: &[Construct] = &[
    ("empty items", CHANNEL, "<item/>", ""),
    ("open items", CHANNEL, "<item>", ""),
    ("items", CHANNEL, "<item><title>Title #</title><link>https://a.example/#</link></item>", ""),
    ("small items", CHANNEL, "<item><title>#", ""),
    ("one id", CHANNEL, "<item><guid>N/A</guid><title>#</title></item>", ""),
    ("one link", CHANNEL, "<item><link>https://a.example/</link><title>#</title></item>", ""),
    ("equal items", CHANNEL, "<item><title>a</title></item>", ""),
    ("categories", "<rss><channel><item><title>t</title>", "<category>#</category>", "</item>"),
    ("open categories", "<rss><channel><item><title>t</title>", "<category>c", "</item>"),
    (
        "nested categories",
        "<rss><channel><item><title>t</title>",
        "<category>c<image><title>i</title></image></category>",
        "</item>",
    ),
    (
        "nested and open",
        "<rss><channel><item><title>t</title>",
        "<category>c<image><title>i</title>",
        "</item>",
    ),
    (
        "keywords",
        "<rss><channel><item><title>t</title><media:keywords>",
        "#,",
        "</media:keywords></item>",
    ),
    ("labels", "<rss><channel><item><title>t</title>", "<itunes:category text='#'>", "</item>"),
    (
        "authors",
        "<rss><channel><item><title>t</title>",
        "<author>a#@a.example (Name #)</author>",
        "</item>",
    ),
    (
        "persons",
        "<feed><entry><title>t</title>",
        "<author><name>#</name><email>a@b.example</email></author>",
        "</entry>",
    ),
    ("open persons", "<feed><entry><title>t</title>", "<author><name>#", "</entry>"),
    ("links", "<feed><entry><title>t</title>", "<link href='/#'/>", "</entry>"),
    ("open links", "<rss><channel><item><title>t</title>", "<link>/#", "</item>"),
    (
        "enclosures",
        "<rss><channel><item><title>t</title>",
        "<enclosure url='/#' type='audio/mpeg'/>",
        "</item>",
    ),
    (
        "summaries",
        "<rss><channel><item><title>t</title>",
        "<description>#</description>",
        "</item>",
    ),
    ("titles", "<rss><channel><item>", "<title>#</title>", "</item>"),
    ("open titles", "<rss><channel><item>", "<title>#", "</item>"),
    (
        "dates",
        "<rss><channel><item><title>t</title>",
        "<pubDate>mar. 19 nov. 2024</pubDate>",
        "</item>",
    ),
    ("dates of items", CHANNEL, "<item><pubDate>mar. 19 nov. 2024</pubDate></item>", ""),
    ("long date", "<rss><channel><item><title>t</title><pubDate>", "mar. 19 ", "</pubDate></item>"),
    ("long guid", "<rss><channel><item><guid>", "guid #", "</guid></item>"),
    ("long title", "<rss><channel><item><title>", "title #", "</title></item>"),
    ("long link", "<rss><channel><item><link>https://a.example/", "a", "</link></item>"),
    (
        "query",
        "<rss><channel><item><link>https://a.example/?",
        "utm_a=#&amp;b=#&amp;",
        "</link></item>",
    ),
    ("addresses", ITEM, "192.0.2.1 198.51.100.7 a#.example.org ", "</description></item>"),
    ("numbers of cves", ITEM, "CVE-2024-1# ", "</description></item>"),
    ("unknown elements", "<rss><channel><item><title>t</title>", "<x:y z='#'>1</x:y>", "</item>"),
    ("base64", "<feed><entry><title mode='base64' type='text/html'>", "QUJD", "</title></entry>"),
    (
        "cdf",
        "<CHANNEL BASE='http://a.example/'>",
        "<ITEM HREF='#' LASTMOD='2000-01-02'><TITLE>#</TITLE></ITEM>",
        "</CHANNEL>",
    ),
    ("rdf", "<rdf:RDF>", "<item rdf:about='#'><title>#</title></item>", "</rdf:RDF>"),
];

const JSON: &[Construct] = &[
    ("tags", "{\"items\":[{\"id\":\"1\",\"tags\":[", "\"#\",", "\"\"]}]}"),
    ("authors", "{\"items\":[{\"id\":\"1\",\"authors\":[", "{\"name\":\"#\"},", "{}]}]}"),
    ("attachments", "{\"items\":[{\"id\":\"1\",\"attachments\":[", "{\"url\":\"#\"},", "{}]}]}"),
    ("items", "{\"items\":[", "{\"id\":\"#\"},", "{}]}"),
    ("no items", "{\"items\":[", "#,", "{}]}"),
    ("commas", "{\"items\":[", ",", "{}]}"),
    ("brackets", "{\"items\":[", "[", ""),
    ("closing brackets", "{\"items\":[", "}", ""),
    ("quotes", "{\"items\":[", "\"", ""),
    ("open texts", "{\"items\":[", "{\"a\":\"", ""),
    ("fields", "{\"items\":[{\"id\":\"1\"", ",\"a#\":1", "}]}"),
    ("fields before items", "{\"version\":\"x\"", ",\"a#\":1", ",\"items\":[{\"id\":\"1\"}]}"),
    ("halves of pairs", "{\"items\":[{\"id\":\"1\",\"content_text\":\"", "\\ud83d", "\"}]}"),
    ("escapes", "{\"items\":[{\"id\":\"1\",\"content_text\":\"", "\\'\\x", "\"}]}"),
    ("line breaks", "{\"items\":[{\"id\":\"1\",\"content_text\":\"", "a\n", "\"}]}"),
    ("zeros", "{\"items\":[{\"id\":\"1\",\"content_text\":\"", "\\u0000", "\"}]}"),
    ("deep values", "{\"items\":[{\"id\":\"1\",\"x\":", "[", "1"),
    ("numbers", "{\"items\":[{\"id\":\"1\",\"x\":", "9", "}]}"),
    ("no feed", "{\"error\":\"", "x", "\"}"),
];

/// The content type stands in place of the prefix; the pieces are bytes written as Latin-1.
const ENCODINGS: &[Construct] = &[
    ("lone surrogates", "utf-16le", "\u{0}\u{d8}", ""),
    ("lone surrogates, other end", "utf-16be", "\u{d8}\u{0}", ""),
    ("wrong gbk", "gbk", "\u{81}\u{20}", ""),
    ("wrong gbk bytes", "gbk", "\u{ff}", ""),
    ("wrong gb18030", "gb18030", "\u{81}\u{30}\u{81}", ""),
    ("wrong big5", "big5", "\u{81}\u{20}", ""),
    ("wrong euc-kr", "euc-kr", "\u{ff}\u{81}", ""),
    ("wrong euc-jp", "euc-jp", "\u{8f}\u{20}", ""),
    ("wrong shift_jis", "shift_jis", "\u{81}\u{20}", ""),
    ("wrong iso-2022-jp", "iso-2022-jp", "\u{1b}", ""),
    ("wrong iso-2022-jp escapes", "iso-2022-jp", "\u{1b}$B\u{1b}(B", ""),
    ("wrong iso-2022-jp bytes", "iso-2022-jp", "\u{80}", ""),
    ("wrong utf-8", "utf-8", "\u{e2}\u{82}x", ""),
    ("wrong windows-1253", "windows-1253", "\u{ff}", ""),
    ("control characters", "utf-8", "\u{1}", ""),
    ("undeclared bytes", "", "\u{c3}\u{28}\u{ff}", ""),
];

/// The repeated part stands once in the feed; its items are many.
const ONCE: &[Construct] = &[
    ("title of the channel", "<rss><channel><title>", "a", "</title>"),
    ("description of the channel", "<rss><channel><description>", "a", "</description>"),
    ("link of the channel", "<rss><channel><link>https://a.example/", "a", "</link>"),
    ("language of the channel", "<rss><channel><language>", "a", "</language>"),
    ("base", "<rss><channel xml:base='https://a.example/", "a", "'>"),
    ("base of a channel definition", "<CHANNEL BASE='https://a.example/", "a", "'>"),
    ("authors of the feed", "{\"authors\":[{\"name\":\"", "a", "\"}],\"items\":["),
    ("many authors of the feed", "{\"authors\":[", "{\"name\":\"#\"},", "{}],\"items\":["),
    ("an entity", "<!DOCTYPE x [<!ENTITY e \"", "a", "\">]><rss><channel>"),
];

/// The bytes of a construct of about this size.
fn body((name, before, piece, after): Construct, size: usize) -> (Vec<u8>, String) {
    let repeated = |bytes: usize| {
        let (mut text, mut number) = (String::with_capacity(bytes + piece.len()), 0);
        while text.len() < bytes {
            text.push_str(&piece.replace('#', &number.to_string()));
            number += 1;
        }
        text
    };
    if ENCODINGS.iter().any(|(known, ..)| *known == name) {
        let mut bytes: Vec<u8> = match before {
            "utf-16le" => {
                "<rss><channel><item><title>".bytes().flat_map(|byte| [byte, 0]).collect()
            }
            "utf-16be" => {
                "<rss><channel><item><title>".bytes().flat_map(|byte| [0, byte]).collect()
            }
            _ => b"<rss><channel><item><title>".to_vec(),
        };
        let latin: Vec<u8> = piece.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        bytes.extend(latin.repeat(size / latin.len()));
        return (bytes, format!("text/xml; charset={before}"));
    }
    let mut text =
        format!("{before}{}{after}", repeated(if is_once(name) { size / 2 } else { size }));
    if is_once(name) {
        let item = match () {
            () if text.starts_with('{') => "{\"url\":\"x\",\"attachments\":[{\"url\":\"y\"}]},",
            () if text.starts_with("<CHANNEL") => "<ITEM HREF='x'/>",
            () => "<item><link>x</link><title>&e;</title></item>",
        };
        while text.len() < size {
            text.push_str(item);
        }
    }
    (text.into_bytes(), "application/xml".to_owned())
}

fn is_once(name: &str) -> bool {
    ONCE.iter().any(|(known, ..)| *known == name)
}

/// Reads a body in a process of its own.
fn cost(body: &[u8], content_type: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed");
    std::fs::write(&path, body).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_parse_feed")).arg(path).arg(content_type).output();
    let ran = ran.unwrap();
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Holds each construct to the limits.
#[expect(clippy::print_stdout, reason = "with `--nocapture` the figures are worth a look")]
fn hold(constructs: &[Construct]) {
    let idle = usize::try_from(cost(b"<rss/>", "")["peak_kb"].as_u64().unwrap()).unwrap() << 10;
    let mut broken = Vec::new();
    for construct in constructs {
        let name = construct.0;
        let [small, large] = SIZES.map(|size| body(*construct, size));
        let mut ratio = u64::MAX;
        let mut times = [0, 0];
        // The best of three, where the first is not good enough.
        for _ in 0..3 {
            let costs = [&small, &large].map(|(body, kind)| cost(body, kind));
            let [least, most] = [0, 1].map(|at| costs[at]["ms"].as_u64().unwrap());
            if ratio == u64::MAX {
                times = [least, most];
                let limit = large.0.len() * PEAK_PER_BYTE + PEAK_MAX + idle;
                let peak = usize::try_from(costs[1]["peak_kb"].as_u64().unwrap()).unwrap() << 10;
                if peak > limit {
                    broken.push(format!("{name}: {peak} bytes of memory, not {limit}"));
                }
                for ((body, _), cost) in [&small, &large].into_iter().zip(&costs) {
                    let limit = body.len() * BYTES_PER_BYTE + BYTES_MAX;
                    let bytes = usize::try_from(cost["bytes"].as_u64().unwrap()).unwrap();
                    if bytes > limit {
                        broken.push(format!("{name}: {bytes} bytes of documents, not {limit}"));
                    }
                }
                println!("{name}: {} then {}", costs[0], costs[1]);
            }
            ratio = ratio.min(if most < LEAST_MS { 0 } else { most / least.max(1) });
            if ratio <= RATIO_MAX {
                break;
            }
        }
        if ratio > RATIO_MAX {
            broken.push(format!("{name}: {times:?} ms for one and for four times as much"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
