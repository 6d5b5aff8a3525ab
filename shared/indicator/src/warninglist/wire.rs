//! A `list.json`: what stands about the list, and its entries one by one.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Category, Form, Kinds};

/// What a list says about itself. `description` and `list` are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    #[serde(deserialize_with = "word")]
    pub(super) name: String,
    /// A number, rarely written as a text.
    #[serde(default, deserialize_with = "number")]
    pub(super) version: u64,
    /// Few lists say it; without it a hit is a false positive, as in MISP.
    #[serde(default = "false_positive", deserialize_with = "category")]
    pub(super) category: Category,
    #[serde(rename = "type", deserialize_with = "form")]
    pub(super) form: Form,
    #[serde(rename = "matching_attributes", deserialize_with = "kinds")]
    pub(super) kinds: Kinds,
}

fn false_positive() -> Category {
    Category::FalsePositive
}

fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut word = String::new();
    Texts(&mut |text| text.clone_into(&mut word)).deserialize(deserializer)?;
    Ok(word)
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(word(deserializer)?.parse().unwrap_or_default())
}

fn category<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Category, D::Error> {
    let word = word(deserializer)?;
    // `known`, and `Known identifier` in the schema of the lists.
    let is_known = word.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("known"));
    Ok(if is_known { Category::Known } else { Category::FalsePositive })
}

fn form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Form, D::Error> {
    let word = word(deserializer)?;
    Ok(match word.as_str() {
        "cidr" => Form::Cidr,
        "hostname" => Form::Hostname,
        "string" => Form::String,
        "substring" => Form::Substring,
        "regex" => Form::Regex,
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(D::Error::custom(format_args!("a list of the type `{other}`")));
        }
    })
}

fn kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kinds, D::Error> {
    let mut kinds = Kinds::default();
    Texts(&mut |text| kinds = kinds.and(Kinds::of_attribute(text))).deserialize(deserializer)?;
    Ok(kinds)
}

/// Calls `take` with each entry of a list.
pub(super) fn each_entry(json: &str, take: &mut dyn FnMut(&str)) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(OfList(take))?;
    deserializer.end()
}

/// The object that a file holds.
struct OfList<'t>(&'t mut dyn FnMut(&str));

impl<'de> Visitor<'de> for OfList<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_list) = map.next_key_seed(IsList)? {
            if is_list {
                map.next_value_seed(Texts(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Whether a key is that of the entries.
struct IsList;

impl<'de> DeserializeSeed<'de> for IsList {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let mut is_list = false;
        Texts(&mut |key| is_list = key == "list").deserialize(deserializer)?;
        Ok(is_list)
    }
}

/// A text or a number, a list of them, or an object with them as values, as PHP writes a list with gaps.
struct Texts<'t>(&'t mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    /// Nothing, as a text: it is refused where a text must say something.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Texts(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Texts(&mut *self.0))?;
        }
        Ok(())
    }
}
