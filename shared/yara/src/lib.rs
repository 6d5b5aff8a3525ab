//! YARA rules for every family that has some: a file split into rules, what a rule says of itself, whether it compiles,
//! the document it becomes, and rules written out again so that compilers take them.
//!
//! - [`split()`] takes a file apart, to the exact text of each rule; a broken rule is a reject beside the others.
//! - [`About`] is what a rule's meta means: dates, authors, hashes, families.
//! - [`KnownRules`] tells what the names in a rule's condition stand for: other rules, modules, variables of the scanner.
//! - [`verdict`] asks a compiler, once for each text.
//! - [`apart`] is where that happens: a process of its own, whose end is not the task's.
//! - [`document`] writes into `cti_yara_rules`; [`export`] reads it back.
//! - [`link`] ties stored rules to the malware families that they name.
//!
//! A crate of its own, so that other functions carry neither parser nor compiler.

pub mod about;
pub mod apart;
mod classic;
mod condition;
pub mod date;
pub mod document;
pub mod export;
mod expression;
mod known;
pub mod link;
mod portable;
mod scan;
mod split;
pub mod store;
#[cfg(test)]
mod tests;
pub mod verdict;

pub use about::About;
pub use condition::{Meaning, Name};
pub use known::KnownRules;
pub use split::{
    CALLS_MAX, HEIGHT_MAX, Meta, REJECTS_MAX, RULE_BYTES_MAX, RULE_TOKENS_MAX, RULES_MAX, Reject,
    Rule, Split, split,
};
