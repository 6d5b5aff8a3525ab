//! Whether a rule compiles: asked of `boreal`, a compiler of its own kind, once for each text.
//!
//! A rule is compiled with no more than it needs: the modules it uses, the rules it names before it, the variables that a
//! scanner would define. It reads no file: an `include` is an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use boreal::compiler::{CompilerBuilder, CompilerParams, ExternalValue};
use sha2::{Digest, Sha256};

use super::Meaning;

/// The compiler and its version, part of every [`Unit::key`]: another one asks anew.
pub const COMPILER: &str = "boreal 1.4";

/// How much of a compiler's words is kept.
const ERROR_CHARS: usize = 500;

/// Whether a rule compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct Unit {
    source: String,
    has_rules: bool,
    variables: Vec<(String, Meaning)>,
}

impl Unit {
    /// A rule behind the modules and the rules that it needs, in the order in which they need each other.
    pub fn new<'t>(
        modules: impl IntoIterator<Item = &'t str>,
        rules: impl IntoIterator<Item = &'t str>,
        rule: &str,
        variables: Vec<(String, Meaning)>,
    ) -> Self {
        let mut source = String::with_capacity(rule.len() + 64);
        for module in modules {
            source.push_str(&format!("import \"{module}\"\n"));
        }
        let before = source.len();
        for needed in rules {
            source.push_str(needed);
            source.push('\n');
        }
        let has_rules = source.len() > before;
        source.push_str(rule);
        Self { source, has_rules, variables }
    }

    /// Hex SHA-256 over all that a verdict depends on.
    pub fn key(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(COMPILER);
        for (name, meaning) in &self.variables {
            hasher.update(format!("\u{1f}{name}={meaning:?}"));
        }
        hasher.update("\u{1e}");
        hasher.update(&self.source);
        hex::encode(hasher.finalize())
    }

    /// Asks the compiler.
    pub fn check(&self) -> Verdict {
        // A hostile rule may find a hole in the compiler; it is one rule's matter.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.compile()))
            .unwrap_or_else(|_| Err("the compiler panicked".to_owned()));
        match outcome {
            Err(error) => Verdict::Broken(error.chars().take(ERROR_CHARS).collect()),
            Ok(()) if !self.variables.is_empty() => Verdict::WithVariables,
            Ok(()) if self.has_rules => Verdict::WithRules,
            Ok(()) => Verdict::Alone,
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
                Meaning::Bool => ExternalValue::Boolean(false),
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
        Unit::new(["pe"], rules.iter().copied(), rule, variables.collect()).check()
    }

    #[test]
    fn a_compiler_has_the_last_word() {
        assert_eq!(check(&[], "rule A { condition: pe.is_pe }", &[]), Verdict::Alone);
        let needed = "private rule A { condition: true }";
        assert_eq!(check(&[needed], "rule B { condition: A }", &[]), Verdict::WithRules);
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
