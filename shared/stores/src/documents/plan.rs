//! What a write changes, decided purely: owners, insert-only fields, shared lists, change-only writes.
//!
//! Several writers meet in one document: a sync brings what upstream says, an enrichment adds what it found out. Each has
//! its own declared fields and a hash over their meaning, so that neither overwrites the other and an equal write is no
//! write. What they share is a list to which each contributes; the document shows the union. Each contribution is kept
//! (`owners`), so a writer that gives up a value takes it out of the list, unless another still gives it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base::date::seconds;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::batches::weight;
use super::canonical::{CONTENT_HASH, hash, is_hash_of, versioned};
use super::contributions::{Contributions, LEFT_AT, union};
use super::document::{Body, Document, OWNERS};
use super::owner::Owner;

/// One document as its owners give it: stored as one, counted as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The document's id.
    pub id: String,
    /// What each owner gives, in the order in which it is laid over the document.
    pub parts: Vec<Part>,
}

/// What one owner gives to a document.
#[derive(Clone, Debug)]
pub struct Part {
    pub owner: &'static Owner,
    /// Whose contribution to shared lists this is; the owner's name unless it writes for several (a feed each).
    pub contributor: Option<String>,
    /// The owner's fields and its contributions to shared lists; none where it is retired.
    pub fields: Body,
    /// Since when the owner, or the contributor, no longer gives the document; see [`Write::retire`].
    pub retired_at: Option<Timestamp>,
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.owner.name == other.owner.name
            && self.contributor == other.contributor
            && self.fields == other.fields
            && self.retired_at == other.retired_at
    }
}

impl Part {
    fn of(owner: &'static Owner, fields: Body) -> Self {
        let part = Self { owner, contributor: None, fields, retired_at: None };
        part.check();
        part
    }

    /// Whose contributions these are.
    fn contributor(&self) -> &str {
        self.contributor.as_deref().unwrap_or(self.owner.name)
    }

    /// A field that is set and not declared would be dropped without a word.
    fn check(&self) {
        if cfg!(debug_assertions) {
            let unknown = self.fields.keys().find(|name| !self.owner.declares(name));
            debug_assert!(
                unknown.is_none(),
                "owner `{}` sets the field `{}` and does not declare it",
                self.owner.name,
                unknown.map_or("", String::as_str)
            );
        }
    }
}

impl Write {
    /// An owner's fields of a document.
    pub fn of(id: impl Into<String>, owner: &'static Owner, fields: Body) -> Self {
        Self { id: id.into(), parts: vec![Part::of(owner, fields)] }
    }

    /// A further owner's fields of the same document.
    #[must_use]
    pub fn and(mut self, owner: &'static Owner, fields: Body) -> Self {
        self.parts.push(Part::of(owner, fields));
        self
    }

    /// About how many bytes it has as JSON, for a batch that is bounded by them.
    pub fn weight(&self) -> usize {
        Intent::Write(self).weight()
    }

    /// Names the contributor of the last part.
    #[must_use]
    pub fn by(mut self, contributor: impl Into<String>) -> Self {
        if let Some(part) = self.parts.last_mut() {
            part.contributor = Some(contributor.into());
        }
        self
    }

    /// Marks a document that its source no longer gives. Nothing is written where there is no such document.
    ///
    /// Without a contributor, `active` becomes false and `left_at` the time, where the owner declares them, and its other
    /// fields and contributions stay. With one, `left_at` goes into each object that it contributed, and the owner's
    /// `derive` decides what follows. A later ordinary write brings the document back.
    pub fn retire(
        id: impl Into<String>,
        owner: &'static Owner,
        contributor: Option<String>,
        now: Timestamp,
    ) -> Self {
        let part = Part { owner, contributor, fields: Body::new(), retired_at: Some(now) };
        Self { id: id.into(), parts: vec![part] }
    }
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
pub(super) enum Intent<'a> {
    /// Whatever stands there, with its owners' parts in it.
    Write(&'a Write),
    /// This very document.
    Whole(&'a Document),
    Nothing(&'a str),
}

impl<'a> Intent<'a> {
    pub(super) fn id(&self) -> &'a str {
        match self {
            Self::Write(write) => &write.id,
            Self::Whole(document) => &document.id,
            Self::Nothing(id) => id,
        }
    }

    /// What is to be sent for it.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &'a Body> + use<'a> {
        let (parts, whole): (&'a [Part], Option<&'a Body>) = match self {
            Self::Write(write) => (&write.parts, None),
            Self::Whole(document) => (&[], Some(&document.body)),
            Self::Nothing(_) => (&[], None),
        };
        parts.iter().map(|part| &part.fields).chain(whole)
    }

    /// About how many bytes it has as JSON.
    pub(super) fn weight(&self) -> usize {
        let fields = self.bodies().flatten();
        let fields = fields.map(|(name, value)| name.len() + 4 + weight(value));
        100 + self.id().len() + fields.sum::<usize>()
    }

    /// Decides what it does to `stored`.
    pub(super) fn plan(&self, stored: Option<&Body>) -> Plan {
        match (self, stored) {
            (Self::Write(write), _) => plan(stored, write),
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
            Self::Write(write) => write.parts.iter().all(|part| {
                part.retired_at.is_none() && {
                    let hash = hash(part.owner, &part.fields);
                    is_equal(stored, part, &part.fields, &hash)
                }
            }),
            Self::Whole(_) | Self::Nothing(_) => false,
        }
    }
}

/// The document's id once more, as a field that every store can sort by.
pub(super) const ID: &str = "id";

/// How often a document was written.
const REVISION: &str = "revision";

/// Decides what `write` does to `stored`. However many parts it has, the document is written once.
pub fn plan(stored: Option<&Body>, write: &Write) -> Plan {
    let mut draft = Draft { stored, changed: None, laid: Vec::new() };
    for part in &write.parts {
        part.check();
        match (part.retired_at, &part.contributor) {
            (None, _) => draft.lay(part, &part.fields, None),
            (Some(at), None) => draft.retire(part, at),
            (Some(at), Some(contributor)) => draft.retire_contribution(part.owner, contributor, at),
        }
    }
    draft.finish();
    let Some(mut body) = draft.changed else { return Plan::Unchanged };
    let revision = stored.and_then(|stored| stored.get(REVISION)?.as_u64()).unwrap_or(0);
    body.insert(ID.to_owned(), Value::String(write.id.clone()));
    body.insert(REVISION.to_owned(), json!(revision + 1));
    if stored.is_some() { Plan::Update(body) } else { Plan::Create(body) }
}

/// A document on its way from what is stored to what should be.
///
/// What follows from all contributions is made once, behind the last part: a write with many parts is linear in them.
struct Draft<'a> {
    stored: Option<&'a Body>,
    changed: Option<Body>,
    /// Owners whose parts changed something, each once.
    laid: Vec<&'static Owner>,
}

impl<'a> Draft<'a> {
    fn current(&self) -> Option<&Body> {
        self.changed.as_ref().or(self.stored)
    }

    fn change(&mut self) -> &mut Body {
        self.changed.get_or_insert_with(|| self.stored.cloned().unwrap_or_default())
    }

    /// Lays an owner's fields over the document, unless it has them. `shown` is the hash that readers see, where it is not
    /// that of these fields.
    fn lay(&mut self, part: &Part, fields: &Body, shown: Option<&Value>) {
        let owner = part.owner;
        let hash = hash(owner, fields);
        if self.current().is_some_and(|current| is_equal(current, part, fields, &hash)) {
            return;
        }
        let given = |name: &str| match name {
            CONTENT_HASH => shown.cloned().unwrap_or_else(|| Value::String(hash.clone())),
            name => fields.get(name).cloned().unwrap_or(Value::Null),
        };
        let body = self.change();
        let is_new = body.is_empty();
        if is_new {
            // A map is made faster in one piece than by its parts.
            let names = owner.insert_only.iter().chain(owner.fields);
            *body = names.map(|name| ((*name).to_owned(), given(name))).collect();
        } else {
            for name in owner.insert_only {
                // A document that another owner created first has none of ours yet.
                if body.get(*name).is_none_or(Value::is_null) {
                    body.insert((*name).to_owned(), given(name));
                }
            }
        }
        let spared = others_gave(body, owner, fields, part.retired_at.is_some());
        if !is_new {
            for name in owner.fields.iter().filter(|name| !spared.contains(*name)) {
                body.insert((*name).to_owned(), given(name));
            }
        }
        for field in owner.shared {
            let given = settled(body, part, fields, field).into_owned();
            contribute(body, field, part.contributor(), given);
        }
        let hashes = child(child(body, OWNERS), "hashes");
        hashes.insert(owner.name.to_owned(), Value::String(versioned(&hash)));
        self.note(owner);
    }

    fn note(&mut self, owner: &'static Owner) {
        if self.laid.iter().all(|laid| laid.name != owner.name) {
            self.laid.push(owner);
        }
    }

    /// Shows the unions of shared lists, and sets what follows from them.
    fn finish(&mut self) {
        let Some(body) = &mut self.changed else { return };
        let mut shown: Vec<&str> = Vec::new();
        for field in self.laid.iter().flat_map(|owner| owner.shared) {
            if !shown.contains(field) {
                shown.push(field);
                show(body, field);
            }
        }
        for owner in &self.laid {
            derive(body, owner);
            for (name, from) in owner.fallback {
                if body.get(*name).is_none_or(Value::is_null) {
                    let value = body.get(*from).cloned().unwrap_or(Value::Null);
                    body.insert((*name).to_owned(), value);
                }
            }
        }
    }

    /// Lays the owner's own fields over the document as they stand in it, but for those that say it has left.
    fn retire(&mut self, part: &Part, at: Timestamp) {
        let Some(current) = self.current() else { return };
        let owner = part.owner;
        let own = owner.fields.iter().filter_map(|name| Some((*name, current.get(*name)?)));
        let mut fields: Body = own.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        for name in owner.shared {
            let own = contribution(current, name, part.contributor());
            fields.insert((*name).to_owned(), own.clone());
        }
        for (name, value) in [("active", json!(false)), (LEFT_AT, json!(seconds(at)))] {
            if owner.fields.contains(&name) {
                fields.insert(name.to_owned(), value);
            }
        }
        // What the source said last is what readers have seen.
        let shown = fields.get(CONTENT_HASH).unwrap_or(&Value::Null);
        self.lay(part, &fields, Some(shown));
    }

    /// Marks each object that a contributor gave, unless it is marked.
    fn retire_contribution(&mut self, owner: &'static Owner, contributor: &str, at: Timestamp) {
        let Some(current) = self.current() else { return };
        let marked: Vec<(&str, Value)> = owner
            .shared
            .iter()
            .filter_map(|field| {
                let part = contribution(current, field, contributor);
                let marked = mark(part, at);
                (marked != *part).then_some((*field, marked))
            })
            .collect();
        if marked.is_empty() {
            return;
        }
        let body = self.change();
        for (field, part) in marked {
            contribute(body, field, contributor, part);
        }
        self.note(owner);
    }
}

/// Whether the owner's part of `stored` is this; of `stored` it needs what stands under `owners` and nothing else.
fn is_equal(stored: &Body, part: &Part, fields: &Body, hash: &str) -> bool {
    let owner = part.owner;
    let stored_hash = |name: &str| stored.get(OWNERS)?.get("hashes")?.get(name)?.as_str();
    stored_hash(owner.name).is_some_and(|stored| is_hash_of(stored, owner, fields, hash))
        && owner.alternatives.iter().all(|other| stored_hash(other).is_none())
        && owner.shared.iter().all(|name| {
            let given = settled(stored, part, fields, name);
            contribution(stored, name, part.contributor()) == given.as_ref()
        })
}

/// What a part contributes to a field as it will stand: keys that its owner keeps are those of before, where it says nothing of
/// them.
fn settled<'f>(stored: &Body, part: &Part, fields: &'f Body, field: &str) -> Cow<'f, Value> {
    let given = fields.get(field).unwrap_or(&Value::Null);
    let kept = part.owner.kept;
    let Some(items) = given.as_array().filter(|_| !kept.is_empty()) else {
        return Cow::Borrowed(given);
    };
    let before = contribution(stored, field, part.contributor());
    let settle = |(place, item): (usize, &Value)| {
        let Value::Object(given) = item else { return item.clone() };
        let mut item = given.clone();
        for (key, from) in kept {
            if item.get(*key).is_none_or(Value::is_null) {
                let stood = before.get(place).and_then(|item| item.get(key));
                // A document of before there were contributions says it of itself.
                let own = || stored.get(*key).filter(|_| !is_contributed(stored, field));
                let first = || fields.get(*from);
                let is_said = |value: &&Value| !value.is_null();
                let stood = stood.filter(is_said).or_else(|| own().filter(is_said));
                if let Some(value) = stood.or_else(|| first().filter(is_said)) {
                    item.insert((*key).to_owned(), value.clone());
                }
            }
        }
        Value::Object(item)
    };
    Cow::Owned(Value::Array(items.iter().enumerate().map(settle).collect()))
}

/// The fields that an owner leaves alone as it has nothing to say of them and one of its alternatives has; from now on what it
/// says is its own, and the alternatives' writes count as changes, as this one lies over theirs.
///
/// `owners.gave` tells which fields an alternative gave. Documents of before there was that have the alternative's hash only:
/// there it may have given each field that is set.
fn others_gave(
    body: &mut Body,
    owner: &Owner,
    fields: &Body,
    is_retired: bool,
) -> BTreeSet<&'static str> {
    let mut spared = BTreeSet::new();
    if owner.alternatives.is_empty() {
        return spared;
    }
    let says = |fields: &Body, name: &str| fields.get(name).is_some_and(|value| !is_empty(value));
    let set: Vec<&str> = owner.fields.iter().copied().filter(|name| says(body, name)).collect();
    let owners = child(body, OWNERS);
    for other in owner.alternatives {
        let had_hash = child(owners, "hashes").remove(*other).is_some();
        let gave = child(owners, "gave");
        let before = gave.get(*other).and_then(Value::as_array);
        let gave_before = |name: &str| match before {
            Some(names) => names.iter().any(|one| one == name),
            None => had_hash && set.contains(&name),
        };
        let left: Vec<&'static str> = owner
            .fields
            .iter()
            .copied()
            .filter(|name| gave_before(name) && (is_retired || !says(fields, name)))
            .collect();
        if !is_retired {
            spared.extend(left.iter().copied());
        }
        gave.insert((*other).to_owned(), json!(left));
    }
    if !is_retired {
        let own: Vec<&str> =
            owner.fields.iter().copied().filter(|name| says(fields, name)).collect();
        child(owners, "gave").insert(owner.name.to_owned(), json!(own));
    }
    spared
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A contribution whose objects say since when they are no longer given.
fn mark(part: &Value, at: Timestamp) -> Value {
    let mut marked = part.clone();
    for item in marked.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if item.get(LEFT_AT).is_none_or(Value::is_null) {
            item.insert(LEFT_AT.to_owned(), json!(seconds(at)));
        }
    }
    marked
}

fn contribution<'a>(stored: &'a Body, field: &str, contributor: &str) -> &'a Value {
    stored
        .get(OWNERS)
        .and_then(|owners| owners.get("shared")?.get(field)?.get(contributor))
        .unwrap_or(&Value::Null)
}

/// Whether anybody contributed to a field.
fn is_contributed(stored: &Body, field: &str) -> bool {
    stored.get(OWNERS).is_some_and(|owners| owners["shared"].get(field).is_some())
}

pub(super) fn child<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    if !map.get(name).is_some_and(Value::is_object) {
        map.insert(name.to_owned(), Value::Object(Map::new()));
    }
    map.get_mut(name).and_then(Value::as_object_mut).expect("made an object just above")
}

/// Replaces a contributor's part of a shared list.
fn contribute(body: &mut Body, field: &str, contributor: &str, part: Value) {
    let parts = child(child(child(body, OWNERS), "shared"), field);
    match part {
        Value::Null => parts.remove(contributor),
        part => parts.insert(contributor.to_owned(), part),
    };
}

/// Shows the union of all parts of a shared list.
fn show(body: &mut Body, field: &str) {
    let union = union(child(child(child(body, OWNERS), "shared"), field));
    body.insert(field.to_owned(), union);
}

/// Sets what follows from all contributions.
fn derive(body: &mut Body, owner: &Owner) {
    let Some(derive) = owner.derive else { return };
    let mut derived = derive(&Contributions::of(body));
    for name in owner.derived {
        let absent = || ((*name).to_owned(), Value::Null);
        let (name, value) = derived.remove_entry(*name).unwrap_or_else(absent);
        body.insert(name, value);
    }
    debug_assert!(
        derived.is_empty(),
        "owner `{}` derives the field `{}` and does not declare it",
        owner.name,
        derived.keys().next().map_or("", String::as_str)
    );
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    const SYNC: Owner = Owner {
        fields: &["title", "seen", "published"],
        unhashed: &["seen"],
        insert_only: &["collected_at"],
        fallback: &[("published", "collected_at")],
        shared: &["tags"],
        ..Owner::named("sync")
    };
    const ENRICH: Owner =
        Owner { fields: &["summary_ai"], shared: &["tags"], ..Owner::named("enrich") };
    const SHOWN: Owner = Owner {
        fields: &["title", "active", "left_at", "content_hash"],
        unhashed: &["left_at", "content_hash"],
        shared: &["tags"],
        ..Owner::named("shown")
    };

    const BY_FILE: Owner = Owner {
        fields: &["title", "url", "aka", "rules"],
        alternatives: &["by_api"],
        ..Owner::named("by_file")
    };
    const BY_API: Owner = Owner {
        fields: &["title", "url", "aka"],
        alternatives: &["by_file"],
        ..Owner::named("by_api")
    };

    fn fields(fields: Value) -> Body {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        fields
    }

    fn sync(value: Value) -> Write {
        Write::of("1", &SYNC, fields(value))
    }

    fn enrich(value: Value) -> Write {
        Write::of("1", &ENRICH, fields(value))
    }

    fn body(plan: Plan) -> Body {
        match plan {
            Plan::Create(body) | Plan::Update(body) => body,
            Plan::Unchanged | Plan::Delete => panic!("nothing to write"),
        }
    }

    #[test]
    fn an_equal_write_is_no_write_even_when_unhashed_fields_differ() {
        let first = body(plan(None, &sync(json!({"title": "a", "seen": 1, "collected_at": "t0"}))));
        let same = sync(json!({"title": "a", "seen": 2, "collected_at": "t1"}));
        assert_eq!(plan(Some(&first), &same), Plan::Unchanged);
    }

    #[test]
    fn what_a_source_does_not_date_is_dated_once_for_each_contributor() {
        const DATED: Owner = Owner {
            insert_only: &["collected_at"],
            shared: &["sources"],
            kept: &[("first_seen", "collected_at")],
            ..Owner::named("dated")
        };
        let by = |name: &str, at: &str, item: Value| {
            Write::of("1", &DATED, fields(json!({"collected_at": at, "sources": [item]}))).by(name)
        };
        let undated = |name: &str, at: &str| by(name, at, json!({"id": name, "first_seen": null}));
        let first = body(plan(None, &undated("a", "t0")));
        assert_eq!(first["sources"], json!([{"id": "a", "first_seen": "t0"}]));
        assert_eq!(plan(Some(&first), &undated("a", "t1")), Plan::Unchanged);
        let second = body(plan(Some(&first), &undated("b", "t1")));
        assert_eq!(second["sources"][0]["first_seen"], "t0");
        assert_eq!(second["sources"][1]["first_seen"], "t1");
        let edited = by("a", "t2", json!({"id": "a", "first_seen": null, "comment": "c"}));
        let third = body(plan(Some(&second), &edited));
        assert_eq!(third["sources"][0], json!({"id": "a", "first_seen": "t0", "comment": "c"}));
        // Of before there were contributions, the document knows since when it has been there.
        let before =
            fields(json!({"first_seen": "s0", "collected_at": "t0", "sources": [{"id": "old"}]}));
        let moved = body(plan(Some(&before), &undated("a", "t4")));
        assert_eq!(moved["sources"], json!([{"id": "a", "first_seen": "s0"}]));
        let told = by("a", "t3", json!({"id": "a", "first_seen": "s"}));
        assert_eq!(body(plan(Some(&third), &told))["sources"][0]["first_seen"], "s");
    }

    #[test]
    fn what_another_way_gave_stays_where_this_one_says_nothing() {
        let by = |owner: &'static Owner, value: Value| Write::of("1", owner, fields(value));
        let file = by(&BY_FILE, json!({"title": "f", "url": "u", "aka": ["a"], "rules": ["r"]}));
        let api = by(&BY_API, json!({"title": "t", "url": null, "aka": []}));
        let shown = |body: &Body| ["title", "url", "aka", "rules"].map(|name| body[name].clone());
        let first = body(plan(None, &file));
        assert_eq!(plan(Some(&first), &file), Plan::Unchanged);
        let second = body(plan(Some(&first), &api));
        assert_eq!(shown(&second), [json!("t"), json!("u"), json!(["a"]), json!(["r"])]);
        assert_eq!(plan(Some(&second), &api), Plan::Unchanged);
        // Back to the unchanged file: what it says is there again.
        let third = body(plan(Some(&second), &file));
        assert_eq!(shown(&third), shown(&first));
        // What a way gives no more is gone, unless the other one gave it.
        let own = by(&BY_API, json!({"title": "t", "url": "v", "aka": []}));
        let fourth = body(plan(Some(&third), &own));
        let fifth = body(plan(Some(&fourth), &api));
        assert_eq!(shown(&fifth), [json!("t"), json!(null), json!(["a"]), json!(["r"])]);
        // What has left comes back by either way.
        let Plan::Update(gone) =
            plan(Some(&fifth), &Write::retire("1", &BY_FILE, None, Timestamp::UNIX_EPOCH))
        else {
            panic!("the file's hash is not there")
        };
        assert!(plan(Some(&gone), &api) != Plan::Unchanged);
    }

    #[test]
    fn a_document_of_both_ways_of_before_loses_nothing() {
        let by = |owner: &'static Owner, value: Value| Write::of("1", owner, fields(value));
        let api = by(&BY_API, json!({"title": "t", "url": null, "aka": []}));
        let mut stored = body(plan(
            None,
            &by(&BY_FILE, json!({"title": "f", "url": "u", "aka": ["a"], "rules": ["r"]})),
        ));
        stored[OWNERS].as_object_mut().unwrap().remove("gave");
        let next = body(plan(Some(&stored), &api));
        assert_eq!((&next["url"], &next["aka"]), (&json!("u"), &json!(["a"])));
    }

    #[test]
    fn a_field_that_was_added_later_keeps_the_hash_while_it_is_null() {
        const BEFORE: Owner = Owner { fields: &["title"], ..Owner::named("o") };
        const NOW: Owner =
            Owner { fields: &["title", "more"], optional: &["more"], ..Owner::named("o") };
        let stored = body(plan(None, &Write::of("1", &BEFORE, fields(json!({"title": "a"})))));
        let write = |value: Value| Write::of("1", &NOW, fields(value));
        let same = write(json!({"title": "a", "more": null}));
        assert_eq!(plan(Some(&stored), &same), Plan::Unchanged);
        let more = body(plan(Some(&stored), &write(json!({"title": "a", "more": 1}))));
        assert_eq!(body(plan(Some(&more), &same))["more"], Value::Null);
    }

    #[test]
    fn what_is_removed_upstream_becomes_null_and_insert_only_fields_stay() {
        let first = body(plan(None, &sync(json!({"title": "a", "collected_at": "t0"}))));
        let second = body(plan(Some(&first), &sync(json!({"collected_at": "t1"}))));
        assert_eq!(
            (&second["title"], &second["collected_at"], &second["revision"]),
            (&Value::Null, &json!("t0"), &json!(2))
        );
    }

    #[test]
    fn an_undated_item_takes_its_first_collection_and_keeps_it() {
        let first = body(plan(None, &sync(json!({"title": "a", "collected_at": "t0"}))));
        let edited = body(plan(Some(&first), &sync(json!({"title": "b", "collected_at": "t1"}))));
        assert_eq!((&first["published"], &edited["published"]), (&json!("t0"), &json!("t0")));
    }

    #[test]
    fn owners_do_not_touch_each_other_and_share_a_list() {
        let first = body(plan(None, &sync(json!({"title": "a", "tags": ["x", "y"]}))));
        let added = enrich(json!({"summary_ai": "s", "tags": ["y", "z"]}));
        let both = body(plan(Some(&first), &added));
        assert_eq!((&both["title"], &both["tags"]), (&json!("a"), &json!(["y", "z", "x"])));
        let same = sync(json!({"title": "a", "tags": ["x", "y"]}));
        assert_eq!(plan(Some(&both), &same), Plan::Unchanged);
        let less = body(plan(Some(&both), &sync(json!({"title": "a", "tags": []}))));
        assert_eq!((&less["tags"], &less["summary_ai"]), (&json!(["y", "z"]), &json!("s")));
    }

    #[test]
    fn writers_in_either_order_end_with_the_same_document() {
        let sync = sync(json!({"title": "a", "collected_at": "t0", "tags": ["x"]}));
        let enrich = enrich(json!({"summary_ai": "s", "tags": ["z"]}));
        let one = body(plan(Some(&body(plan(None, &sync))), &enrich));
        let other = body(plan(Some(&body(plan(None, &enrich))), &sync));
        assert_eq!(one, other);
    }

    #[test]
    fn parts_of_one_write_are_one_revision() {
        let summary = || fields(json!({"summary_ai": "s"}));
        let both = sync(json!({"title": "a", "tags": ["x"]})).and(&ENRICH, summary());
        let stored = body(plan(None, &both));
        assert_eq!(
            (&stored["title"], &stored["summary_ai"], &stored["revision"]),
            (&json!("a"), &json!("s"), &json!(1))
        );
        assert_eq!(plan(Some(&stored), &both), Plan::Unchanged);
        let edited = sync(json!({"title": "a", "tags": ["x"]}))
            .and(&ENRICH, fields(json!({"summary_ai": "t"})));
        let edited = body(plan(Some(&stored), &edited));
        assert_eq!((&edited["summary_ai"], &edited["revision"]), (&json!("t"), &json!(2)));
        let one_after_the_other = body(plan(
            Some(&body(plan(None, &sync(json!({"title": "a", "tags": ["x"]}))))),
            &enrich(json!({"summary_ai": "s"})),
        ));
        assert_eq!(one_after_the_other["owners"], stored["owners"]);
    }

    #[test]
    fn what_has_left_is_marked_keeps_what_it_had_and_comes_back() {
        let shown = Write::of(
            "1",
            &SHOWN,
            fields(json!({"title": "a", "active": true, "left_at": null, "tags": ["x"]})),
        );
        let first = body(plan(None, &shown));
        assert_eq!(first["content_hash"].as_str().unwrap().len(), 64);
        let stored = body(plan(Some(&first), &enrich(json!({"tags": ["y"]}))));
        let leaves = |at: &str| Write::retire("1", &SHOWN, None, at.parse().unwrap());
        let left = body(plan(Some(&stored), &leaves("2026-01-01T00:00:00.5Z")));
        let mut expected = stored.clone();
        expected.insert("active".to_owned(), json!(false));
        expected.insert("left_at".to_owned(), json!("2026-01-01T00:00:00Z"));
        expected.insert("revision".to_owned(), json!(3));
        expected["owners"]["hashes"]["shown"] = left["owners"]["hashes"]["shown"].clone();
        assert_eq!(left, expected);
        assert_eq!(plan(Some(&left), &leaves("2026-02-01T00:00:00Z")), Plan::Unchanged);
        assert_eq!(plan(None, &leaves("2026-02-01T00:00:00Z")), Plan::Unchanged);
        let mut back = body(plan(Some(&left), &shown));
        back.insert("revision".to_owned(), json!(2));
        assert_eq!(back, stored);
        let by_itself = Write::retire("1", &SYNC, None, Timestamp::UNIX_EPOCH);
        let Plan::Update(unmarked) = plan(Some(&stored), &by_itself) else {
            panic!("its first hash")
        };
        assert_eq!(unmarked["active"], true, "it is not its to say");
    }

    #[test]
    fn a_hash_of_the_version_before_is_no_reason_to_write() {
        let write = sync(json!({"title": "she said \"no\"", "tags": ["x"]}));
        let mut stored = body(plan(None, &write));
        assert!(stored["owners"]["hashes"]["sync"].as_str().unwrap().starts_with("2:"));
        let first_form = "title\u{1f}\"she said \"no\"\"\u{1e}published\u{1f}null\u{1e}";
        let hash = hex::encode(sha2::Sha256::digest(first_form));
        stored["owners"]["hashes"]["sync"] = json!(hash);
        assert_eq!(plan(Some(&stored), &write), Plan::Unchanged);
        assert!(Intent::Write(&write).is_unchanged(&stored));
        let edited = body(plan(Some(&stored), &sync(json!({"title": "yes", "tags": ["x"]}))));
        assert!(edited["owners"]["hashes"]["sync"].as_str().unwrap().starts_with("2:"));
    }

    #[test]
    fn a_field_that_is_not_declared_is_named() {
        let panic = std::panic::catch_unwind(|| sync(json!({"titel": "a"}))).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        assert_eq!(said, "owner `sync` sets the field `titel` and does not declare it");
    }

    #[test]
    fn what_an_owner_declares_is_one_list() {
        let declared: Vec<&str> = SYNC.declared().into_iter().collect();
        assert_eq!(declared, ["collected_at", "published", "seen", "tags", "title"]);
    }

    #[test]
    fn what_is_whole_replaces_what_differs_and_nothing_deletes() {
        let fields = fields(json!({"id": "1", "score": 0.1}));
        let document = Document { id: "1".to_owned(), body: fields.clone() };
        let whole = Intent::Whole(&document);
        assert_eq!(whole.plan(None), Plan::Create(fields.clone()));
        assert_eq!(whole.plan(Some(&fields)), Plan::Unchanged);
        assert_eq!(whole.plan(Some(&Body::new())), Plan::Update(fields.clone()));
        let nothing = Intent::Nothing("1");
        assert_eq!(nothing.plan(Some(&fields)), Plan::Delete);
        assert_eq!(nothing.plan(None), Plan::Unchanged);
    }

    #[test]
    fn the_hash_tells_a_string_from_a_number() {
        let text = hash(&SYNC, &fields(json!({"title": "1"})));
        assert_ne!(text, hash(&SYNC, &fields(json!({"title": 1}))));
    }
}
