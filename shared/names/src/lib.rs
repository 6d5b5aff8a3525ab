//! Which families and actors a text means: an index of all their names and aliases, found as whole words.
//!
//! - [`Names`] is the index, over what is stored ([`Names::read`]) or over any [`Subject`]s.
//! - [`Names::find`] gives each place of a text where a name stands, and whether it counts ([`Found::counts`]).
//! - [`Names::link`] takes what is known of a reference beside its texts, and gives whom it means and who may be meant.
//!
//! A name that is a word, a phrase or an abbreviation of its own stands in `data/common.tsv`, with the reason. It counts only
//! with context, by `common::Needs`. `data/phrases.tsv` has phrases in which nothing counts, such as `Google Play`.
//!
//! A name is found however its parts are joined (`Agent Tesla`, `AgentTesla`, `APT 28`, `APT-28`), by one look-up for each run
//! of up to [`WORDS_MAX`] words: linear in the text, whatever the number of names. A list of patterns in an automaton would have
//! to hold each of those spellings.

mod common;
mod context;
mod index;
mod link;
#[cfg(test)]
mod measured;
mod stored;
mod words;

pub use index::{Found, Names, Subject, SubjectKind};
pub use link::{KnownSubjects, Linked};

/// Words of one name at the most; the longest known has eight.
pub const WORDS_MAX: usize = 8;
/// Bytes of a text that are looked at.
pub const TEXT_MAX: usize = 256 << 10;
/// Places in one text that are taken.
pub const FOUND_MAX: usize = 2_000;
/// Subjects that may bear one name and still all be meant, once their platforms are not told apart.
pub const NAMESAKES_MAX: usize = 5;
