//! Whether a rule compiles: asked of `boreal`, a compiler of its own kind, once for each text.
//!
//! A rule is compiled with no more than it needs: the modules it uses, the rules it names before it, the variables that a
//! scanner would define. It reads no file: an `include` is an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use boreal::compiler::{CompilerBuilder, CompilerParams, ExternalValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Meaning;

/// The compiler and its version, part of every [`Unit::key`]: another one asks anew.
pub const COMPILER: &str = "boreal 1.4";

/// How much of a compiler's words is kept.
const ERROR_CHARS: usize = 500;

/// Whether a rule compiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// By itself.
    Alone,
    /// With the rules that it names.
    WithRules,
    /// With variables that a scanner must define, and the rules that it names.
    WithVariables,
    /// Not at all, for this reason.
    Broken(String),
}

impl Verdict {
    /// What [`Verdict::name`] may be.
    pub const NAMES: [&str; 4] =
        ["compiles", "compiles_with_rules", "compiles_with_variables", "broken"];

    /// As it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alone => "compiles",
            Self::WithRules => "compiles_with_rules",
            Self::WithVariables => "compiles_with_variables",
            Self::Broken(_) => "broken",
        }
    }

    /// As [`Verdict::name`] and an error say it.
    pub fn read(name: &str, error: Option<&str>) -> Option<Self> {
        Some(match name {
            "compiles" => Self::Alone,
            "compiles_with_rules" => Self::WithRules,
            "compiles_with_variables" => Self::WithVariables,
            "broken" => Self::Broken(error.unwrap_or_default().to_owned()),
            _ => return None,
        })
    }

    /// Why it does not compile.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Broken(error) => Some(error),
            Self::Alone | Self::WithRules | Self::WithVariables => None,
        }
    }
}

/// What is given to the compiler.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unit {
    source: String,
    variables: Vec<(String, Meaning)>,
    names_rules: bool,
    /// What it compiles as where it compiles.
    verdict: Verdict,
}

impl Unit {
    /// A rule behind the modules that it imports and the rules that it names, each with its own verdict.
    ///
    /// A rule is no more to another than true or false, so one of that name stands for it: each rule is compiled once,
    /// however many stand on it.
    pub fn new<'t>(
        modules: impl IntoIterator<Item = &'t str>,
        rules: impl IntoIterator<Item = (&'t str, &'t Verdict)>,
        rule: &str,
        variables: Vec<(String, Meaning)>,
    ) -> Self {
        let mut source = String::with_capacity(rule.len() + 64);
        for module in modules {
            source.push_str(&format!("import \"{module}\"\n"));
        }
        let mut verdict =
            if variables.is_empty() { Verdict::Alone } else { Verdict::WithVariables };
        let mut names_rules = false;
        for (name, its) in rules {
            names_rules = true;
            source.push_str(&format!("rule {name} {{ condition: true }}\n"));
            if verdict == Verdict::Alone || *its == Verdict::WithVariables {
                verdict = if *its == Verdict::WithVariables {
                    Verdict::WithVariables
                } else {
                    Verdict::WithRules
                };
            }
        }
        source.push_str(rule);
        Self { source, variables, names_rules, verdict }
    }

    /// What the key of a rule that names others begins with; before, it was made of the whole texts of those.
    pub const NAMES_RULES: &str = "2:";

    /// Hex SHA-256 over all that a verdict depends on.
    pub fn key(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(COMPILER);
        for (name, meaning) in &self.variables {
            hasher.update(format!("\u{1f}{name}={meaning:?}"));
        }
        if self.variables.is_empty() && self.verdict == Verdict::WithVariables {
            hasher.update("\u{1f}");
        }
        hasher.update("\u{1e}");
        hasher.update(&self.source);
        let form = if self.names_rules { Self::NAMES_RULES } else { "" };
        format!("{form}{}", hex::encode(hasher.finalize()))
    }

    /// Asks the compiler.
    pub fn check(&self) -> Verdict {
        // A hostile rule may find a hole in the compiler; it is one rule's matter.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.compile()))
            .unwrap_or_else(|_| Err("the compiler panicked".to_owned()));
        match outcome {
            Err(error) => Verdict::Broken(error.chars().take(ERROR_CHARS).collect()),
            Ok(()) => self.verdict.clone(),
        }
    }

    fn compile(&self) -> Result<(), String> {
        let console = boreal::module::Console::with_callback(|_| ());
        let mut compiler = CompilerBuilder::new().add_module(console).build();
        compiler.set_params(
            CompilerParams::default().disable_includes(true).disable_unknown_escape_warning(true),
        );
        for (name, meaning) in &self.variables {
            let value = match meaning {
                Meaning::Integer => ExternalValue::Integer(0),
                Meaning::Bool | Meaning::Rules => ExternalValue::Boolean(false),
                Meaning::Text | Meaning::Module => ExternalValue::Bytes(Vec::new()),
            };
            compiler.define_symbol(name, value);
        }
        compiler.add_rules_str(&self.source).map(drop).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &[&str], rule: &str, variables: &[(&str, Meaning)]) -> Verdict {
        let variables = variables.iter().map(|(name, meaning)| ((*name).to_owned(), *meaning));
        let rules = rules.iter().map(|name| (*name, &Verdict::Alone));
        Unit::new(["pe"], rules, rule, variables.collect()).check()
    }

    #[test]
    fn a_compiler_has_the_last_word() {
        assert_eq!(check(&[], "rule A { condition: pe.is_pe }", &[]), Verdict::Alone);
        assert_eq!(check(&["A"], "rule B { condition: A }", &[]), Verdict::WithRules);
        let external = "rule C { condition: filename contains \"x\" }";
        let variable = [("filename", Meaning::Text)];
        assert_eq!(check(&[], external, &variable), Verdict::WithVariables);
        let broken = check(&[], "rule D { strings: $a = \"x\" condition: $b }", &[]);
        assert!(broken.error().is_some_and(|error| error.contains("b")), "{broken:?}");
        let told = check(&[], "import \"console\" rule F { condition: console.log(\"x\") }", &[]);
        assert_eq!(told, Verdict::Alone);
        let included = check(&[], "include \"other.yar\" rule E { condition: true }", &[]);
        assert!(included.error().is_some(), "{included:?}");
    }

    #[test]
    fn the_named_compiler_is_the_one_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let version = COMPILER.trim_start_matches("boreal ");
        assert!(lock.contains(&format!("name = \"boreal\"\nversion = \"{version}.")));
    }
}
