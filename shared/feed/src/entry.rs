//! What reading a feed gives: its head, its entries, and why it gives none.

use std::fmt;

use jiff::Timestamp;

/// Real feeds nest about 20 deep, pasted HTML included.
pub(crate) const DEPTH_MAX: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rss,
    Rdf,
    Atom,
    Cdf,
    Json,
}

/// What had to be repaired for a document to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    Encoding,
    ControlCharacters,
    LeadingJunk,
    BareAmpersands,
    UnclosedTags,
    StrayEndTags,
    UnclosedCdata,
    BrokenTexts,
    Truncated,
}

impl Repair {
    const ALL: [Self; 9] = [
        Self::Encoding,
        Self::ControlCharacters,
        Self::LeadingJunk,
        Self::BareAmpersands,
        Self::UnclosedTags,
        Self::StrayEndTags,
        Self::UnclosedCdata,
        Self::BrokenTexts,
        Self::Truncated,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Encoding => "wrong encoding",
            Self::ControlCharacters => "control characters",
            Self::LeadingJunk => "leading junk",
            Self::BareAmpersands => "bare ampersands",
            Self::UnclosedTags => "unclosed tags",
            Self::StrayEndTags => "stray end tags",
            Self::UnclosedCdata => "unclosed cdata",
            Self::BrokenTexts => "malformed JSON texts",
            Self::Truncated => "truncated",
        }
    }
}

/// A set of repairs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Repairs(pub(crate) u16);

impl Repairs {
    pub(crate) fn add(&mut self, repair: Repair) {
        self.0 |= 1 << repair as u8;
    }

    pub(crate) fn list(self) -> Vec<Repair> {
        Repair::ALL.into_iter().filter(|repair| self.0 & (1 << *repair as u8) != 0).collect()
    }
}

/// The feed itself. `repairs` grows while entries are read, and so may what a feed says only after its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    /// As written: `2.0`, `0.91`, `1.0`; empty if the document does not say.
    pub version: String,
    pub title: Option<String>,
    pub description: Option<String>,
    pub link: Option<String>,
    pub language: Option<String>,
    pub encoding: &'static str,
    pub repairs: Vec<Repair>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the document, rejects counted.
    pub index: usize,
    /// As the feed gives it; never made up.
    pub guid: Option<String>,
    /// Plain text.
    pub title: Option<String>,
    pub link: Option<String>,
    /// Where `link` leads if it goes through `FeedBurner`.
    pub original_link: Option<String>,
    pub authors: Vec<String>,
    pub published: Option<Timestamp>,
    /// Only if it is given and cannot be understood.
    pub published_raw: Option<String>,
    pub updated: Option<Timestamp>,
    pub summary_html: Option<String>,
    pub content_html: Option<String>,
    pub categories: Vec<String>,
    pub media: Vec<Media>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub url: String,
    pub mime: Option<String>,
}

/// An entry that could not be read, with enough of it to see why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    pub index: usize,
    pub reason: String,
    /// Its first 80 characters.
    pub head: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub entries: Vec<Entry>,
    pub rejects: Vec<Reject>,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.rejects.len()
    }

    /// Items that were read or rejected.
    pub fn items(&self) -> u64 {
        self.len() as u64
    }

    pub(crate) fn reject(&mut self, index: usize, reason: &str, raw: &str) {
        self.rejects.push(Reject { index, reason: reason.to_owned(), head: head_of(raw.trim()) });
    }
}

/// Why a body is no feed at all. Damage that costs single entries is a [`Reject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedError {
    Empty,
    Html { title: String },
    NotAFeed { root: String },
    TooDeep { name: String },
}

impl FeedError {
    pub(crate) fn html(title: &str) -> Self {
        Self::Html { title: head_of(title.trim()) }
    }

    pub(crate) fn not_a_feed(root: &str) -> Self {
        Self::NotAFeed { root: head_of(root) }
    }

    pub(crate) fn too_deep(name: &str) -> Self {
        Self::TooDeep { name: head_of(name) }
    }
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the body is empty"),
            Self::Html { title } if title.is_empty() => {
                f.write_str("the body is a web page without a title")
            }
            Self::Html { title } => write!(f, "the body is a web page titled `{title}`"),
            Self::NotAFeed { root } => {
                write!(f, "the body is no feed but starts with `{root}`")
            }
            Self::TooDeep { name } => {
                write!(f, "`{name}` is nested more than {DEPTH_MAX} deep")
            }
        }
    }
}

impl std::error::Error for FeedError {}

/// The first 80 characters, for messages.
fn head_of(text: &str) -> String {
    // It is shown within a sentence.
    text.chars().take(80).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
