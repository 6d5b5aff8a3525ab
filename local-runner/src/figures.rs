//! What a report says beside its counts, as lines for a person: names and figures as in the JSON, lists cut short.

use serde_json::{Map, Value};

/// Members of a list that are shown.
const SHOWN: usize = 25;

/// The lines of a report's detail, indented under the report's head.
pub(crate) fn lines(detail: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in detail {
        tell(&mut lines, 1, name, value);
    }
    lines
}

fn tell(lines: &mut Vec<String>, depth: usize, name: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    if let Some(text) = short(value) {
        if !text.is_empty() {
            lines.push(format!("{indent}{name}: {text}"));
        }
        return;
    }
    match value {
        Value::Object(members) => {
            let counts = counts(members);
            let space = if counts.is_empty() { "" } else { " " };
            lines.push(format!("{indent}{name}:{space}{}", counts.join(", ")));
            for (name, value) in members.iter().filter(|(_, value)| !value.is_number()) {
                tell(lines, depth + 1, name, value);
            }
        }
        Value::Array(members) => {
            lines.push(format!("{indent}{name}:"));
            for member in members.iter().take(SHOWN) {
                match short(member) {
                    Some(text) => lines.push(format!("{indent}  {text}")),
                    None => tell(lines, depth + 1, "-", member),
                }
            }
            lines.extend(more(members.len()).map(|more| format!("{indent}  {more}")));
        }
        _ => {}
    }
}

/// A value that fits on its name's line; empty where there is nothing to tell.
fn short(value: &Value) -> Option<String> {
    let texts: Vec<String> = match value {
        Value::Object(members) if members.values().all(Value::is_number) => counts(members),
        Value::Object(members) => {
            let shown = members.iter().filter(|(_, value)| !value.is_null());
            let texts: Option<Vec<_>> =
                shown.map(|(name, value)| Some(format!("{name} {}", plain(value)?))).collect();
            return Some(texts?.join("; "));
        }
        Value::Array(members) => {
            let shown = members.iter().take(SHOWN);
            let texts: Option<Vec<_>> =
                shown.map(|member| plain(member).or_else(|| counted(member))).collect();
            texts?.into_iter().chain(more(members.len())).collect()
        }
        Value::Null => Vec::new(),
        one => return plain(one),
    };
    Some(texts.join(", "))
}

fn counts(members: &Map<String, Value>) -> Vec<String> {
    let numbers = members.iter().filter(|(_, value)| value.is_number());
    numbers.map(|(name, count)| format!("{name} ({count})")).collect()
}

/// A value and how often it is there, as `{"year": "2024", "count": 12}`.
fn counted(value: &Value) -> Option<String> {
    let members = value.as_object().filter(|members| members.len() == 2)?;
    let count = members.values().find(|member| member.is_number())?;
    let name = members.values().find_map(Value::as_str)?;
    Some(format!("{name} ({count})"))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.replace(['\n', '\r', '\t'], " ")),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn more(members: usize) -> Option<String> {
    members.checked_sub(SHOWN).filter(|more| *more > 0).map(|more| format!("and {more} more"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::lines;

    fn shown(detail: &serde_json::Value) -> Vec<String> {
        lines(detail.as_object().expect("an object"))
    }

    #[test]
    fn counts_of_a_kind_are_one_line() {
        let detail = json!({"families": {"changed": 0, "new": 3}, "years": [{"year": "2024", "count": 2}, {"year": "2023", "count": 1}]});
        assert_eq!(
            shown(&detail),
            ["  families: changed (0), new (3)", "  years: 2024 (2), 2023 (1)"]
        );
    }

    #[test]
    fn what_is_deeper_is_indented() {
        let detail = json!({"families": {"gone": ["a", "b"], "new": 3}, "api": {"reachable": false, "version": null}});
        assert_eq!(
            shown(&detail),
            ["  api: reachable false", "  families: new (3)", "    gone: a, b"]
        );
    }

    #[test]
    fn things_of_a_list_have_a_line_each() {
        let detail = json!({"newest": [{"date": "2024-01-02", "name": "a\nb"}, {"date": "2024-01-01", "name": "c"}]});
        assert_eq!(
            shown(&detail),
            ["  newest:", "    date 2024-01-02; name a b", "    date 2024-01-01; name c"]
        );
    }

    #[test]
    fn a_long_list_says_how_many_are_left_out() {
        let names: Vec<String> = (0..27).map(|number| number.to_string()).collect();
        let lines = shown(&json!({ "gone": names }));
        assert!(lines[0].ends_with("23, 24, and 2 more"), "{lines:?}");
    }

    #[test]
    fn what_is_empty_is_left_out() {
        assert!(shown(&json!({"gone": [], "message": null, "by": {}})).is_empty());
    }
}
