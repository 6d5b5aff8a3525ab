//! What the names in conditions stand for, once all rules of a source are read.

use std::collections::{HashMap, HashSet};

use super::{Meaning, Name, Rule};

/// Variables that scanners define for rules: those that THOR and LOKI give to every file. A name among them is no rule of another file.
const VARIABLES: &[(&str, Meaning)] = &[
    ("filename", Meaning::Text),
    ("filepath", Meaning::Text),
    ("extension", Meaning::Text),
    ("filetype", Meaning::Text),
    ("owner", Meaning::Text),
];

/// Rules that one rule may need by itself; one that needs more has no verdict.
pub(super) const NEEDS_MAX: usize = 200;

/// A rule's name within its file.
type InFile = HashMap<String, HashSet<String>>;

/// The rules of a source by name.
#[derive(Debug, Default)]
pub struct KnownRules {
    in_file: InFile,
    anywhere: HashSet<String>,
}

/// What a rule needs beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Rules, by name.
    pub rules: Vec<String>,
    /// What the names of rules before it in its file begin with, all of which it needs.
    pub sets: Vec<String>,
    /// Modules that it uses.
    pub modules: Vec<String>,
    /// Variables that a scanner must define, with what they are used as.
    pub variables: Vec<(String, Meaning)>,
}

impl KnownRules {
    /// Makes a rule of `file` known.
    pub fn add(&mut self, file: &str, name: &str) {
        self.anywhere.insert(name.to_owned());
        self.in_file.entry(file.to_owned()).or_default().insert(name.to_owned());
    }

    /// What a rule of `file` needs.
    ///
    /// A name is a rule of its own file first, then a variable that scanners are known to define, then a rule of another
    /// file, and else a variable.
    pub fn needs(&self, file: &str, rule: &Rule) -> Needs {
        let mut needs = Needs::default();
        let siblings = self.in_file.get(file);
        for Name { name, meaning } in &rule.names {
            match meaning {
                Meaning::Module => needs.modules.push(name.clone()),
                Meaning::Rules => needs.sets.push(name.clone()),
                Meaning::Text | Meaning::Integer | Meaning::Bool => {}
            }
            if matches!(meaning, Meaning::Module | Meaning::Rules) {
                continue;
            }
            let is_sibling = siblings.is_some_and(|siblings| siblings.contains(name));
            let variable = VARIABLES.iter().find(|(known, _)| known == name);
            let is_rule = *meaning == Meaning::Bool
                && (is_sibling || (variable.is_none() && self.anywhere.contains(name)));
            if is_rule {
                needs.rules.push(name.clone());
            } else {
                needs.variables.push((name.clone(), kind(*meaning, variable)));
            }
        }
        needs
    }
}

/// Numbers are as a scanner defines them; else the use decides, or what is customary where that says little.
fn kind(used: Meaning, customary: Option<&(&str, Meaning)>) -> Meaning {
    match (used, customary) {
        (Meaning::Bool, Some((_, meaning))) => *meaning,
        (used, _) => used,
    }
}
