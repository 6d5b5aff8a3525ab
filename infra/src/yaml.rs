//! A document whose keys keep their order, written as YAML for people and as JSON for programs.

use serde_json::Value;

/// A value of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Node {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Node {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Node {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<Vec<Node>> for Node {
    fn from(list: Vec<Node>) -> Self {
        Self::List(list)
    }
}

/// A map of these keys, in this order.
pub fn map<K: Into<String>, const N: usize>(entries: [(K, Node); N]) -> Node {
    Node::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// A list of texts.
pub fn texts(texts: &[&str]) -> Node {
    Node::List(texts.iter().map(|text| Node::from(*text)).collect())
}

impl Node {
    /// The same for a program; keys lose their order.
    pub fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Bool(bool) => (*bool).into(),
            Self::List(list) => list.iter().map(Self::json).collect(),
            Self::Map(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), value.json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// As YAML, block by block; ends with a line break.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        self.block(0, &mut text);
        text
    }

    fn is_block(&self) -> bool {
        match self {
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Text(_) | Self::Number(_) | Self::Bool(_) => false,
        }
    }

    /// Writes the lines of a list or a map, each so many spaces in.
    fn block(&self, indent: usize, out: &mut String) {
        let margin = " ".repeat(indent);
        match self {
            Self::Map(map) if !map.is_empty() => {
                for (key, value) in map {
                    out.push_str(&margin);
                    out.push_str(&scalar(key));
                    out.push(':');
                    value.after(indent + 2, out);
                }
            }
            Self::List(list) if !list.is_empty() => {
                for value in list {
                    // What stands in a list begins on its dash's line.
                    let mut inner = String::new();
                    if value.is_block() {
                        value.block(indent + 2, &mut inner);
                        out.push_str(&margin);
                        out.push_str("- ");
                        out.push_str(&inner[indent + 2..]);
                    } else {
                        out.push_str(&margin);
                        out.push('-');
                        value.after(indent + 2, out);
                    }
                }
            }
            _ => self.after(indent, out),
        }
    }

    /// Writes what stands behind a key or a dash.
    fn after(&self, indent: usize, out: &mut String) {
        if self.is_block() {
            out.push('\n');
            self.block(indent, out);
            return;
        }
        out.push(' ');
        out.push_str(&match self {
            Self::Text(text) => scalar(text),
            Self::Number(number) => number.to_string(),
            Self::Bool(bool) => bool.to_string(),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        });
        out.push('\n');
    }
}

/// A text as YAML reads it back: plain where nothing in it has a meaning, else in quotes, as in JSON.
fn scalar(text: &str) -> String {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_/.".contains(letter);
    let is_plain = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/')
        && text.chars().all(|letter| is_word(letter) || " -:(),$?+".contains(letter))
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' ']);
    let is_other = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    if is_plain && !is_other {
        return text.to_owned();
    }
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_under_their_keys() {
        let node = map([
            (
                "A",
                map([
                    ("B", Node::from("x: y")),
                    ("C", Node::from(vec![map([("D", 1_i64.into()), ("E", texts(&["on", "2"]))])])),
                ]),
            ),
            ("F", Node::List(Vec::new())),
            ("G", Node::from(vec![texts(&["a", "b"])])),
        ]);
        let expected = "A:\n  B: \"x: y\"\n  C:\n    - D: 1\n      E:\n        - \"on\"\n        - \"2\"\nF: []\nG:\n  - - a\n    - b\n";
        assert_eq!(node.yaml(), expected);
    }
}
