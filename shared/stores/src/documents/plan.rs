//! What a write changes, decided purely: owners, insert-only fields, shared lists, change-only writes.
//!
//! Several writers meet in one document: a sync brings what upstream says, an enrichment adds what it found out. Each has
//! its own declared fields and a hash over their meaning, so that neither overwrites the other and an equal write is no
//! write. What they share is a list to which each contributes; the document shows the union. Each contribution is kept
//! (`owners`), so a writer that gives up a value takes it out of the list, unless another still gives it.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Body, Document};

/// Who writes, and what belongs to it. Field names are top-level.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The writer's name, stable for ever: it stands in stored documents.
    pub name: &'static str,
    /// Fields of its own. What a write leaves out becomes null, so nothing removed upstream lingers.
    pub fields: &'static [&'static str],
    /// Fields of its own that may differ without the document counting as changed (fetch times, counters, feed titles).
    /// They are written when something else changes.
    pub unhashed: &'static [&'static str],
    /// Fields that the first write sets for good.
    pub insert_only: &'static [&'static str],
    /// Fields that, when the write has null, take the value of another field of the document.
    pub fallback: &'static [(&'static str, &'static str)],
    /// Lists that several writers share.
    pub shared: &'static [&'static str],
}

/// One document as its owner gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The document's id.
    pub id: String,
    /// Whose contribution to shared lists this is; the owner's name unless it writes for several (a feed each).
    pub contributor: Option<String>,
    /// The owner's fields and its contributions to shared lists.
    pub fields: Body,
}

/// What a write amounts to.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// There is no such document: create this one.
    Create(Body),
    /// It differs: replace it by this one.
    Update(Body),
    /// It is equal: write nothing.
    Unchanged,
    /// It is there, and should not be.
    Delete,
}

/// What should stand under an id.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Whatever stands there, with an owner's part in it.
    Part(&'a Owner, &'a Write),
    /// This very document.
    Whole(&'a Document),
    /// Nothing.
    Nothing(&'a str),
}

impl<'a> Wanted<'a> {
    pub(super) fn id(&self) -> &'a str {
        match self {
            Self::Part(_, write) => &write.id,
            Self::Whole(document) => &document.id,
            Self::Nothing(id) => id,
        }
    }

    /// What is to be sent for it.
    pub(super) fn fields(&self) -> Option<&'a Body> {
        match self {
            Self::Part(_, write) => Some(&write.fields),
            Self::Whole(document) => Some(&document.body),
            Self::Nothing(_) => None,
        }
    }

    /// Decides what it does to `stored`.
    pub(super) fn plan(&self, stored: Option<&Body>) -> Plan {
        match (self, stored) {
            (Self::Part(owner, write), _) => plan(stored, owner, write),
            (Self::Whole(document), None) => Plan::Create(document.body.clone()),
            (Self::Whole(document), Some(stored)) if *stored == document.body => Plan::Unchanged,
            (Self::Whole(document), Some(_)) => Plan::Update(document.body.clone()),
            (Self::Nothing(_), Some(_)) => Plan::Delete,
            (Self::Nothing(_), None) => Plan::Unchanged,
        }
    }

    /// Whether `stored`, of which nothing but `owners` need be known, tells that there is nothing to write.
    pub(super) fn is_unchanged(&self, stored: &Body) -> bool {
        match self {
            Self::Part(owner, write) => is_unchanged(stored, owner, write),
            Self::Whole(_) | Self::Nothing(_) => false,
        }
    }
}

/// Where the store keeps each owner's hash and contributions within a document.
pub(super) const OWNERS: &str = "owners";

/// The document's id once more, as a field that every store can sort by.
pub(super) const ID: &str = "id";

/// Hex SHA-256 over the meaning of an owner's fields: those of `fields` that are not `unhashed`, absent ones as null.
pub fn hash(owner: &Owner, fields: &Body) -> String {
    let mut canonical = String::with_capacity(2048);
    for name in owner.fields.iter().filter(|name| !owner.unhashed.contains(*name)) {
        canonical.push_str(name);
        canonical.push('\u{1f}');
        write_canonical(fields.get(*name).unwrap_or(&Value::Null), &mut canonical);
        canonical.push('\u{1e}');
    }
    hex::encode(Sha256::digest(canonical.as_bytes()))
}

/// A hash over documents, given in the order of their ids: equal documents have equal ones whatever store they are read from.
#[derive(Clone, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Takes in the next document.
    pub fn add(&mut self, document: &Document) {
        let mut canonical = String::with_capacity(2048);
        canonical.push_str(&document.id);
        canonical.push('\u{1f}');
        write_object(&document.body, &mut canonical);
        canonical.push('\u{1e}');
        self.0.update(canonical.as_bytes());
    }

    /// The hash of all that was given, in hexadecimal.
    pub fn hex(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }
}

/// JSON with the keys of objects in order, whatever order the map keeps them in.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => write_object(map, out),
        // A prefix tells the string `1` from the number 1; the rest of JSON's escaping is not needed to tell values apart.
        Value::String(text) => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

fn write_object(map: &Map<String, Value>, out: &mut String) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push('{');
    for (key, item) in entries {
        out.push_str(key);
        out.push('\u{1f}');
        write_canonical(item, out);
        out.push(',');
    }
    out.push('}');
}

/// Whether `write` would change nothing; of `stored` it needs what stands under `owners` and nothing else.
fn is_unchanged(stored: &Body, owner: &Owner, write: &Write) -> bool {
    let contributor = write.contributor.as_deref().unwrap_or(owner.name);
    is_equal(stored, owner, contributor, write, &hash(owner, &write.fields))
}

fn is_equal(stored: &Body, owner: &Owner, contributor: &str, write: &Write, hash: &str) -> bool {
    stored_hash(stored, owner) == Some(hash)
        && owner
            .shared
            .iter()
            .all(|name| contribution(stored, name, contributor) == &given(write, name))
}

/// Decides what `write` does to `stored`.
pub fn plan(stored: Option<&Body>, owner: &Owner, write: &Write) -> Plan {
    let contributor = write.contributor.as_deref().unwrap_or(owner.name);
    let new_hash = hash(owner, &write.fields);
    let Some(stored) = stored else {
        let mut body = Body::new();
        for name in owner.insert_only {
            body.insert((*name).to_owned(), given(write, name));
        }
        set_fields(&mut body, owner, write);
        contribute(&mut body, owner, contributor, write);
        set_hash(&mut body, owner, new_hash);
        body.insert(ID.to_owned(), Value::String(write.id.clone()));
        body.insert("revision".to_owned(), json!(1));
        return Plan::Create(body);
    };

    if is_equal(stored, owner, contributor, write, &new_hash) {
        return Plan::Unchanged;
    }
    let mut body = stored.clone();
    for name in owner.insert_only {
        // A document that another owner created first has none of ours yet.
        if body.get(*name).is_none_or(Value::is_null) {
            body.insert((*name).to_owned(), given(write, name));
        }
    }
    set_fields(&mut body, owner, write);
    contribute(&mut body, owner, contributor, write);
    set_hash(&mut body, owner, new_hash);
    body.insert(ID.to_owned(), Value::String(write.id.clone()));
    let revision = stored.get("revision").and_then(Value::as_u64).unwrap_or(0);
    body.insert("revision".to_owned(), json!(revision + 1));
    Plan::Update(body)
}

fn given(write: &Write, name: &str) -> Value {
    write.fields.get(name).cloned().unwrap_or(Value::Null)
}

fn set_fields(body: &mut Body, owner: &Owner, write: &Write) {
    for name in owner.fields {
        body.insert((*name).to_owned(), given(write, name));
    }
    for (name, from) in owner.fallback {
        if body.get(*name).is_none_or(Value::is_null) {
            let value = body.get(*from).cloned().unwrap_or(Value::Null);
            body.insert((*name).to_owned(), value);
        }
    }
}

fn stored_hash<'a>(stored: &'a Body, owner: &Owner) -> Option<&'a str> {
    stored.get(OWNERS)?.get("hashes")?.get(owner.name)?.as_str()
}

fn contribution<'a>(stored: &'a Body, field: &str, contributor: &str) -> &'a Value {
    stored
        .get(OWNERS)
        .and_then(|owners| owners.get("shared")?.get(field)?.get(contributor))
        .unwrap_or(&Value::Null)
}

pub(super) fn child<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let slot = map.entry(name).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("made an object just above")
}

fn set_hash(body: &mut Body, owner: &Owner, hash: String) {
    child(child(body, OWNERS), "hashes").insert(owner.name.to_owned(), Value::String(hash));
}

/// Replaces this contributor's part of each shared list and shows the union of all parts.
fn contribute(body: &mut Body, owner: &Owner, contributor: &str, write: &Write) {
    for field in owner.shared {
        let parts = child(child(child(body, OWNERS), "shared"), field);
        match given(write, field) {
            Value::Null => parts.remove(contributor),
            part => parts.insert(contributor.to_owned(), part),
        };
        let union = union(parts);
        body.insert((*field).to_owned(), union);
    }
}

/// Every distinct value of all parts, in the order of the contributors' names.
pub(super) fn union(parts: &Map<String, Value>) -> Value {
    let mut contributors: Vec<_> = parts.iter().collect();
    contributors.sort_unstable_by_key(|(name, _)| *name);
    let mut values: Vec<Value> = Vec::new();
    for value in contributors.into_iter().filter_map(|(_, part)| part.as_array()).flatten() {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    Value::Array(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Owner = Owner {
        name: "sync",
        fields: &["title", "seen", "published"],
        unhashed: &["seen"],
        insert_only: &["collected_at"],
        fallback: &[("published", "collected_at")],
        shared: &["tags"],
    };
    const ENRICH: Owner = Owner {
        name: "enrich",
        fields: &["summary_ai"],
        unhashed: &[],
        insert_only: &[],
        fallback: &[],
        shared: &["tags"],
    };

    fn write(fields: Value) -> Write {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        Write { id: "1".to_owned(), contributor: None, fields }
    }

    fn body(plan: Plan) -> Body {
        match plan {
            Plan::Create(body) | Plan::Update(body) => body,
            Plan::Unchanged | Plan::Delete => panic!("nothing to write"),
        }
    }

    #[test]
    fn an_equal_write_is_no_write_even_when_unhashed_fields_differ() {
        let first =
            body(plan(None, &SYNC, &write(json!({"title": "a", "seen": 1, "collected_at": "t0"}))));
        assert_eq!(
            plan(
                Some(&first),
                &SYNC,
                &write(json!({"title": "a", "seen": 2, "collected_at": "t1"}))
            ),
            Plan::Unchanged
        );
    }

    #[test]
    fn what_is_removed_upstream_becomes_null_and_insert_only_fields_stay() {
        let first = body(plan(None, &SYNC, &write(json!({"title": "a", "collected_at": "t0"}))));
        let second = body(plan(Some(&first), &SYNC, &write(json!({"collected_at": "t1"}))));
        assert_eq!(
            (&second["title"], &second["collected_at"], &second["revision"]),
            (&Value::Null, &json!("t0"), &json!(2))
        );
    }

    #[test]
    fn an_undated_item_takes_its_first_collection_and_keeps_it() {
        let first = body(plan(None, &SYNC, &write(json!({"title": "a", "collected_at": "t0"}))));
        let edited =
            body(plan(Some(&first), &SYNC, &write(json!({"title": "b", "collected_at": "t1"}))));
        assert_eq!((&first["published"], &edited["published"]), (&json!("t0"), &json!("t0")));
    }

    #[test]
    fn owners_do_not_touch_each_other_and_share_a_list() {
        let first = body(plan(None, &SYNC, &write(json!({"title": "a", "tags": ["x", "y"]}))));
        let both = body(plan(
            Some(&first),
            &ENRICH,
            &write(json!({"summary_ai": "s", "tags": ["y", "z"]})),
        ));
        assert_eq!((&both["title"], &both["tags"]), (&json!("a"), &json!(["y", "z", "x"])));
        assert_eq!(
            plan(Some(&both), &SYNC, &write(json!({"title": "a", "tags": ["x", "y"]}))),
            Plan::Unchanged
        );
        let less = body(plan(Some(&both), &SYNC, &write(json!({"title": "a", "tags": []}))));
        assert_eq!((&less["tags"], &less["summary_ai"]), (&json!(["y", "z"]), &json!("s")));
    }

    #[test]
    fn writers_in_either_order_end_with_the_same_document() {
        let sync = write(json!({"title": "a", "collected_at": "t0", "tags": ["x"]}));
        let enrich = write(json!({"summary_ai": "s", "tags": ["z"]}));
        let one = body(plan(Some(&body(plan(None, &SYNC, &sync))), &ENRICH, &enrich));
        let other = body(plan(Some(&body(plan(None, &ENRICH, &enrich))), &SYNC, &sync));
        assert_eq!(one, other);
    }

    #[test]
    fn what_is_whole_replaces_what_differs_and_nothing_deletes() {
        let Value::Object(fields) = json!({"id": "1", "score": 0.1}) else { panic!("an object") };
        let document = Document { id: "1".to_owned(), body: fields.clone() };
        let whole = Wanted::Whole(&document);
        assert_eq!(whole.plan(None), Plan::Create(fields.clone()));
        assert_eq!(whole.plan(Some(&fields)), Plan::Unchanged);
        assert_eq!(whole.plan(Some(&Body::new())), Plan::Update(fields.clone()));
        let nothing = Wanted::Nothing("1");
        assert_eq!(nothing.plan(Some(&fields)), Plan::Delete);
        assert_eq!(nothing.plan(None), Plan::Unchanged);
    }

    #[test]
    fn a_fingerprint_tells_a_value_a_name_and_a_boundary_from_another() {
        let print = |documents: &[Value]| {
            let mut print = Fingerprint::default();
            for body in documents {
                let body = body.as_object().unwrap().clone();
                print.add(&Document { id: "1".to_owned(), body });
            }
            print.hex()
        };
        let one = print(&[json!({"a": 1, "b": [2.5]})]);
        assert_eq!(one, print(&[serde_json::from_str(r#"{"b":[2.5],"a":1}"#).unwrap()]));
        for other in [
            &[json!({"a": "1", "b": [2.5]})][..],
            &[json!({"a": 1, "b": 2.5})],
            &[json!({"a": 1}), json!({"b": [2.5]})],
            &[],
        ] {
            assert_ne!(one, print(other), "{other:?}");
        }
    }

    #[test]
    fn the_hash_tells_a_string_from_a_number() {
        let text = hash(&SYNC, &write(json!({"title": "1"})).fields);
        assert_ne!(text, hash(&SYNC, &write(json!({"title": 1})).fields));
    }
}
