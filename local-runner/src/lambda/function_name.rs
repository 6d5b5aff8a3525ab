//! The many ways to name a function: name, `name:alias`, partial ARN, full ARN, each perhaps with `?Qualifier=`.

use super::wire::ServiceError;

/// The longest form AWS takes.
const MAX_LENGTH: usize = 170;

/// The function's own name within what a caller wrote (already percent-decoded). Region, account and version are
/// checked for their form only: there is one of each here.
pub(super) fn parse(text: &str, qualifier: Option<&str>) -> Result<String, ServiceError> {
    let invalid = || {
        let shown: String = text.chars().take(MAX_LENGTH).collect();
        ServiceError::parameter(format!(
            "Value `{shown}` at `functionName` must be a function's name, `name:alias`, or an ARN of a function"
        ))
    };
    if text.len() > MAX_LENGTH {
        return Err(invalid());
    }
    let parts: Vec<&str> = text.split(':').collect();
    let rest = match parts.as_slice() {
        ["arn", partition, "lambda", _region, _account, "function", rest @ ..]
            if partition.starts_with("aws") =>
        {
            rest
        }
        ["arn", ..] => return Err(invalid()),
        [_, "function", rest @ ..] | ["function", rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let (name, own_qualifier) = match rest {
        [name] => (*name, None),
        [name, qualifier] => (*name, Some(*qualifier)),
        _ => return Err(invalid()),
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let sound = |qualifier: Option<&str>| {
        let Some(text) = qualifier else { return true };
        !text.is_empty() && (text == super::wire::VERSION || text.chars().all(plain))
    };
    if name.is_empty() || !name.chars().all(plain) || !sound(own_qualifier) || !sound(qualifier) {
        return Err(invalid());
    }
    match (own_qualifier, qualifier) {
        (Some(own), Some(other)) if own != other => Err(ServiceError::parameter(
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        _ => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_leads_to_the_function() {
        for text in [
            "f_1",
            "f_1:live",
            "f_1:$LATEST",
            "function:f_1",
            "000000000000:function:f_1",
            "000000000000:function:f_1:live",
            "arn:aws:lambda:local:000000000000:function:f_1",
            "arn:aws-us-gov:lambda:us-gov-west-1:000000000000:function:f_1:7",
        ] {
            assert_eq!(parse(text, None).unwrap(), "f_1", "{text}");
        }
        assert_eq!(parse("f:live", Some("live")).unwrap(), "f");
    }

    #[test]
    fn what_names_no_function_is_refused() {
        let long = "f".repeat(171);
        for text in [
            "",
            ":",
            "a b",
            "f:",
            "f:a:b",
            "arn:aws:s3:::bucket",
            "arn:aws:lambda:local:0:function:",
            "f/g",
            &long,
        ] {
            assert!(parse(text, None).is_err(), "{text}");
        }
        assert!(parse("f:live", Some("test")).is_err());
    }
}
