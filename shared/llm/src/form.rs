//! What an answer may hold: the fields of its schema, in their types, within their lengths. All else is dropped.

use serde_json::{Map, Value, json};

/// Letters of one text, where the schema says nothing of it.
const TEXT_MAX: u64 = 4_000;
/// Elements of one list, where the schema says nothing of it.
const ELEMENTS_MAX: u64 = 100;

/// Words of JSON Schema that not every server takes; what they say is seen to here.
const OURS: [&str; 3] = ["maxLength", "maxItems", "minLength"];

/// The schema as it is sent: every field required and no other allowed, as OpenAI's strict form wants it.
pub(crate) fn strict(schema: &Value) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    let mut sent = Map::new();
    for (word, value) in schema {
        match (word.as_str(), value) {
            (word, _) if OURS.contains(&word) => {}
            ("properties", Value::Object(fields)) => {
                let fields: Map<String, Value> =
                    fields.iter().map(|(name, form)| (name.clone(), strict(form))).collect();
                sent.insert("required".to_owned(), fields.keys().cloned().collect());
                sent.insert("additionalProperties".to_owned(), json!(false));
                sent.insert(word.clone(), Value::Object(fields));
            }
            ("required" | "additionalProperties", _) if schema.contains_key("properties") => {}
            ("items", form) => {
                sent.insert(word.clone(), strict(form));
            }
            _ => {
                sent.insert(word.clone(), value.clone());
            }
        }
    }
    Value::Object(sent)
}

/// The part of a value that its schema describes; `say` is what its texts are put through.
///
/// # Errors
/// What is missing or of another type, by its place.
pub(crate) fn fit(
    schema: &Value,
    value: Value,
    say: &dyn Fn(&str) -> String,
) -> Result<Value, String> {
    at(schema, value, say, "the answer")
}

fn at(
    schema: &Value,
    value: Value,
    say: &dyn Fn(&str) -> String,
    place: &str,
) -> Result<Value, String> {
    let most = |word: &str, usual: u64| {
        usize::try_from(schema[word].as_u64().unwrap_or(usual)).unwrap_or(usize::MAX)
    };
    let is_wanted = |kind: &str| match &schema["type"] {
        Value::String(wanted) => wanted == kind,
        Value::Array(wanted) => wanted.iter().any(|wanted| wanted == kind),
        _ => false,
    };
    match value {
        Value::Object(mut given) if is_wanted("object") => {
            let mut kept = Map::new();
            let required = schema["required"].as_array();
            for (name, form) in schema["properties"].as_object().into_iter().flatten() {
                let is_required = required.is_none_or(|all| all.iter().any(|one| one == name));
                match given.remove(name) {
                    // Many models write null for what they have nothing for.
                    None | Some(Value::Null) if !is_required => {}
                    None => return Err(format!("{place} has no `{name}`")),
                    Some(value) => {
                        kept.insert(name.clone(), at(form, value, say, &format!("`{name}`"))?);
                    }
                }
            }
            Ok(Value::Object(kept))
        }
        Value::Array(given) if is_wanted("array") => {
            let given = given.into_iter().take(most("maxItems", ELEMENTS_MAX));
            given.map(|one| at(&schema["items"], one, say, place)).collect()
        }
        Value::String(text) if is_wanted("string") => {
            let is_seen =
                |letter: &char| matches!(letter, '\n' | '\t') || !base::shown::steers(*letter);
            let text = say(&text);
            let text: String =
                text.chars().filter(is_seen).take(most("maxLength", TEXT_MAX)).collect();
            let text = json!(text.trim());
            match &schema["enum"] {
                Value::Array(all) if !all.contains(&text) => {
                    Err(format!("{place} holds none of the words that it may"))
                }
                _ => Ok(text),
            }
        }
        Value::Number(number) if is_wanted("number") => Ok(Value::Number(number)),
        Value::Number(number) if is_wanted("integer") && !number.is_f64() => {
            Ok(Value::Number(number))
        }
        Value::Bool(_) if is_wanted("boolean") => Ok(value),
        Value::Null if is_wanted("null") => Ok(value),
        _ => Err(format!("{place} is no {}", schema["type"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["summary", "actors"], "properties": {
            "summary": {"type": "string", "maxLength": 5},
            "actors": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
            "sure": {"type": ["boolean", "null"]},
        }})
    }

    #[track_caller]
    fn check(value: Value, expected: Result<Value, &str>) {
        let fitted = fit(&schema(), value, &|text| text.replace("key", "***"));
        assert_eq!(fitted, expected.map_err(ToOwned::to_owned));
    }

    #[test]
    fn an_answer_holds_what_its_schema_has_within_its_lengths() {
        check(
            json!({"summary": "ab\u{202e}çde f", "actors": ["a", "key", "c"], "id": 1, "sure": true}),
            Ok(json!({"summary": "abçde", "actors": ["a", "***"], "sure": true})),
        );
        check(
            json!({"summary": "", "actors": [], "sure": null}),
            Ok(json!({"summary": "", "actors": []})),
        );
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_named() {
        check(json!({"summary": "a"}), Err("the answer has no `actors`"));
        check(json!({"summary": null, "actors": []}), Err("`summary` is no \"string\""));
        check(json!({"summary": "a", "actors": "b"}), Err("`actors` is no \"array\""));
        check(json!({"summary": "a", "actors": [{}]}), Err("`actors` is no \"string\""));
        check(json!([]), Err("the answer is no \"object\""));
    }

    #[test]
    fn what_is_sent_is_strict_and_without_lengths() {
        let sent = strict(&schema());
        assert_eq!(sent["additionalProperties"], false);
        assert_eq!(sent["required"], json!(["actors", "summary", "sure"]));
        assert_eq!(
            sent["properties"]["actors"],
            json!({"type": "array", "items": {"type": "string"}})
        );
        assert_eq!(sent["properties"]["summary"], json!({"type": "string"}));
    }
}
