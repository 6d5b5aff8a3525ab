//! Settings that do not hold their value but name where it stands: a file, or a store of secrets in the cloud.

use std::fmt;
use std::path::PathBuf;

use crate::config::{self, DeclaredSettings};

/// Where the value of a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `file:PATH`: the file's text.
    File(PathBuf),
    /// `ssm:/PATH/NAME`: a parameter of AWS Systems Manager, decrypted.
    Parameter(String),
    /// `aws-secretsmanager:ARN`: a secret of AWS Secrets Manager.
    Secret(String),
}

impl Place {
    /// The place that a setting's text names; none where the text is the value itself.
    ///
    /// # Errors
    /// What is wrong with a place.
    pub fn of(text: &str) -> Result<Option<Self>, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Some(Self::File(PathBuf::from(path))));
        }
        if let Some(path) = text.strip_prefix("ssm:") {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
            return if path.starts_with('/')
                && !path.ends_with('/')
                && !path.contains("//")
                && path.chars().all(is_letter)
            {
                Ok(Some(Self::Parameter(path.to_owned())))
            } else {
                Err("`ssm:` is followed by a parameter's whole name, as `ssm:/minerva/ES_PASSWORD`"
                    .to_owned())
            };
        }
        if let Some(arn) = text.strip_prefix("aws-secretsmanager:") {
            return if arn.starts_with("arn:") && !arn.contains(char::is_whitespace) {
                Ok(Some(Self::Secret(arn.to_owned())))
            } else {
                Err("`aws-secretsmanager:` is followed by the secret's ARN".to_owned())
            };
        }
        Ok(None)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Parameter(name) => write!(f, "ssm:{name}"),
            Self::Secret(arn) => write!(f, "aws-secretsmanager:{arn}"),
        }
    }
}

/// The settings that name a place, and what is wrong with those that try to.
pub fn named(
    lookup: &dyn Fn(&str) -> Option<String>,
    families: &[DeclaredSettings],
) -> Vec<(&'static str, Result<Place, String>)> {
    let general = config::all().into_iter().flat_map(|(_, list)| list);
    let declared = families.iter().flat_map(|declared| declared.list);
    let place = |name| Place::of(lookup(name)?.trim()).transpose().map(|place| (name, place));
    general.chain(declared).filter_map(|setting| place(setting.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_from_a_value() {
        let parameter = |path: &str| Ok(Some(Place::Parameter(path.to_owned())));
        assert_eq!(Place::of("ssm:/minerva/ES_PASSWORD"), parameter("/minerva/ES_PASSWORD"));
        assert_eq!(
            Place::of("file:/run/secrets/x"),
            Ok(Some(Place::File("/run/secrets/x".into())))
        );
        let arn = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:minerva-AbCdEf";
        assert_eq!(
            Place::of(&format!("aws-secretsmanager:{arn}")),
            Ok(Some(Place::Secret(arn.to_owned())))
        );
        for value in ["hunter2", "https://a/ssm:/x", "", "SSM:/x"] {
            assert_eq!(Place::of(value), Ok(None), "{value}");
        }
        for wrong in ["ssm:minerva/x", "ssm:/", "ssm:/a//b", "ssm:/a b", "aws-secretsmanager:x"] {
            Place::of(wrong).expect_err(wrong);
        }
    }
}
