//! JSON as models write it: in fences, in prose, with single quotes, trailing commas, bare words and line breaks in strings.
//!
//! One pass over the text, whatever it holds: what was read once is not read again.

use serde_json::{Map, Value};

/// Lists and objects in one another.
const DEPTH_MAX: u32 = 16;
/// Letters that are looked at beyond a quote, to tell whether it ends a string.
const AHEAD_MAX: usize = 32;

/// The first object of a text that `is_it` takes, and whether it had to be looked for or repaired.
pub(crate) fn object(
    text: &str,
    is_it: impl Fn(&Map<String, Value>) -> bool,
) -> Option<(Value, bool)> {
    if let Ok(value @ Value::Object(_)) = serde_json::from_str(text) {
        return Some((value, false));
    }
    let mut reader = Reader { letters: text.chars().collect(), at: 0 };
    while reader.skip_to('{') {
        if let Some(Value::Object(object)) = reader.value(0)
            && is_it(&object)
        {
            return Some((Value::Object(object), true));
        }
    }
    None
}

struct Reader {
    letters: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(letter)
    }

    fn skip_to(&mut self, wanted: char) -> bool {
        while self.peek().is_some_and(|letter| letter != wanted) {
            self.at += 1;
        }
        self.peek().is_some()
    }

    fn skip_space(&mut self, and: &[char]) {
        while self.peek().is_some_and(|letter| letter.is_whitespace() || and.contains(&letter)) {
            self.at += 1;
        }
    }

    /// Reads a value; `None` where there is none, and then at least one letter of it was passed.
    fn value(&mut self, depth: u32) -> Option<Value> {
        self.skip_space(&[]);
        match self.peek()? {
            '{' | '[' if depth == DEPTH_MAX => {
                self.at += 1;
                None
            }
            '{' => self.fields(depth).map(Value::Object),
            '[' => self.elements(depth).map(Value::Array),
            quote if end_of(quote).is_some() => self.string().map(Value::String),
            _ => Some(self.word()),
        }
    }

    fn fields(&mut self, depth: u32) -> Option<Map<String, Value>> {
        self.at += 1;
        let mut fields = Map::new();
        loop {
            self.skip_space(&[',']);
            let name = match self.peek()? {
                '}' => {
                    self.at += 1;
                    return Some(fields);
                }
                quote if end_of(quote).is_some() => self.string()?,
                _ => self.bare(&[':', ',', '{', '}', '[', ']']),
            };
            self.skip_space(&[]);
            if self.peek()? != ':' {
                return None;
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            fields.insert(name, value);
        }
    }

    fn elements(&mut self, depth: u32) -> Option<Vec<Value>> {
        self.at += 1;
        let mut elements = Vec::new();
        loop {
            self.skip_space(&[',']);
            match self.peek()? {
                ']' => {
                    self.at += 1;
                    return Some(elements);
                }
                '}' | ':' => return None,
                _ => elements.push(self.value(depth + 1)?),
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let end = end_of(self.next()?)?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '\\' => text.extend(self.escaped()?),
                letter if letter == end && self.ends_here() => return Some(text),
                letter => text.push(letter),
            }
        }
    }

    /// Whether what follows a quote is what follows a string.
    fn ends_here(&self) -> bool {
        let ahead = self.letters[self.at..].iter().take(AHEAD_MAX);
        let next = ahead.copied().find(|letter| !letter.is_whitespace());
        next.is_none_or(|letter| matches!(letter, ',' | ':' | '}' | ']'))
    }

    fn escaped(&mut self) -> Option<Option<char>> {
        Some(Some(match self.next()? {
            'n' => '\n',
            't' => '\t',
            'r' | 'b' | 'f' => ' ',
            'u' => {
                let high = self.hex()?;
                let is_pair = (0xd800..0xdc00).contains(&high)
                    && self.letters[self.at..].starts_with(&['\\', 'u']);
                if is_pair {
                    self.at += 2;
                    let low = self.hex()?;
                    return Some(char::decode_utf16([high, low]).next().and_then(Result::ok));
                }
                return Some(char::from_u32(high.into()));
            }
            letter => letter,
        }))
    }

    fn hex(&mut self) -> Option<u16> {
        let digits: String = self.letters.get(self.at..self.at + 4)?.iter().collect();
        self.at += 4;
        u16::from_str_radix(&digits, 16).ok()
    }

    /// Text up to one of these letters, which is not taken, or to the line's end.
    fn bare(&mut self, until: &[char]) -> String {
        let from = self.at;
        while self.peek().is_some_and(|letter| letter != '\n' && !until.contains(&letter)) {
            self.at += 1;
        }
        let text: String = self.letters[from..self.at].iter().collect();
        text.trim().to_owned()
    }

    fn word(&mut self) -> Value {
        let from = self.at;
        let word = self.bare(&[',', '{', '}', '[', ']', ':']);
        if from == self.at {
            self.at += 1;
        }
        match word.as_str() {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "null" | "None" | "undefined" | "" => Value::Null,
            _ => word.parse().map_or(Value::String(word), Value::Number),
        }
    }
}

fn end_of(quote: char) -> Option<char> {
    match quote {
        '"' | '\'' | '`' => Some(quote),
        '\u{201c}' => Some('\u{201d}'),
        '\u{2018}' => Some('\u{2019}'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Option<Value> {
        object(text, |object| object.contains_key("summary")).map(|(value, _)| value)
    }

    #[track_caller]
    fn check(text: &str, expected: Value) {
        assert_eq!(read(text), Some(expected), "{text}");
    }

    #[test]
    fn an_object_is_found_and_repaired() {
        let plain = json!({"summary": "a", "actors": ["b"]});
        for text in [
            r#"{"summary":"a","actors":["b"]}"#,
            "```json\n{\"summary\": \"a\", \"actors\": [\"b\"]}\n```",
            "Sure! Here it is:\n{\"summary\": \"a\", \"actors\": [\"b\",],}\nI hope {this} helps.",
            "{'summary': 'a', 'actors': ['b']}",
            "{summary: \"a\", actors: [b]}",
            "{\u{201c}summary\u{201d}: \u{201c}a\u{201d}, \u{201c}actors\u{201d}: [\u{201c}b\u{201d}]}",
            "<think>perhaps {\"x\": 1}</think>{\"summary\": \"a\", \"actors\": [\"b\" ]}",
        ] {
            check(text, plain.clone());
        }
        check("{'summary': 'it's \"here\"'}", json!({"summary": "it's \"here\""}));
        check(
            "{\"summary\": \"he said \"no\" twice\"}",
            json!({"summary": "he said \"no\" twice"}),
        );
        check(
            "{\"summary\": \"two\nlines \\u00e9\\ud83d\\ude00\",}",
            json!({"summary": "two\nlines é😀"}),
        );
        check(
            "{\"summary\": None, \"n\": 1.5, \"t\": True}",
            json!({"summary": null, "n": 1.5, "t": true}),
        );
    }

    #[test]
    fn what_is_no_whole_object_is_none() {
        for text in ["", "no", "{\"summary\": \"cut o", "{\"summary\"}", "[\"summary\"]", "null"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        for part in [
            "{",
            "[",
            "{\"a\":",
            "\"",
            "{'",
            "\\",
            "{\"a\":\"\" ",
            "{a",
            "{\"summary\":[[[[",
            "\\u12",
            "` ",
        ] {
            let text = format!("x{}", part.repeat((1 << 20) / part.len()));
            let begun = Instant::now();
            let _ = read(&text);
            assert!(begun.elapsed() < Duration::from_secs(5), "{part}: {:?}", begun.elapsed());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[{}\\[\\]\"'`:,a\\\\u0 \n]{0,60}|.{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_json_is_read_as_it_is(summary in "\\PC*", n in any::<i32>()) {
            let value = json!({"summary": summary, "n": n});
            check(&format!("Here: {value}."), value);
        }
    }
}
