//! Indices as this version wants them: created where missing, widened where fields were added, refused where a field
//! changed its type.

use base::{Error, Result};
use elasticsearch::http::Method;
use serde_json::{Map, Value, json};

use super::Elastic;
use super::client::reason;
use crate::documents::Index;

/// Tries at reading what is there: a lost race is one, and every race is won by somebody.
const TRIES: u32 = 5;

/// Settings of a field that a stored mapping takes over: they say which values are passed over.
const TOLERANCES: [&str; 2] = ["ignore_above", "ignore_malformed"];

/// What must happen to a stored mapping.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Nothing.
    None,
    /// Fields or settings were added.
    Added,
    /// This field cannot become what it should be: its path, what it is, what it should be.
    Changed(String, String, String),
}

impl Elastic {
    /// The alias under which an index is known.
    pub(super) fn alias(&self, index: &Index) -> String {
        format!("{}{}", self.prefix, index.name)
    }

    /// The aliases over several indices, this one among them.
    fn groups(&self, index: &Index) -> impl Iterator<Item = String> {
        Index::groups()
            .iter()
            .filter(|group| group.several.contains(&index.name))
            .map(|group| self.alias(group))
    }

    /// Creates or widens the index.
    pub(super) async fn make(&self, index: &Index) -> Result<()> {
        let alias = self.alias(index);
        for _ in 0..TRIES {
            match self.found(&alias).await? {
                Some(found) => return self.fit(index, &alias, &found).await,
                None => self.create(index, &alias).await?,
            }
        }
        Err(Error::store(format!("create index `{alias}`: it was not there after {TRIES} tries")))
    }

    /// What stands behind an alias: physical indices with their aliases, mappings and settings; `None` when there is none.
    pub(super) async fn found(&self, alias: &str) -> Result<Option<Value>> {
        let answer = self.client.request(Method::Get, &format!("/{alias}"), &[], None).await?;
        let said = answer.json();
        let is_index = |found: &Value| found["mappings"].is_object();
        match answer.status {
            200 if said.as_object().is_some_and(|all| all.values().all(is_index)) => Ok(Some(said)),
            404 if answer.is_refusal() => Ok(None),
            _ if answer.is_refusal() => Err(refused(&format!("read index `{alias}`"), &said)),
            _ => Err(self.client.no_search_server(&answer)),
        }
    }

    async fn create(&self, index: &Index, alias: &str) -> Result<()> {
        let mut aliases = self.shared_aliases(index);
        aliases.insert(alias.to_owned(), json!({}));
        self.build(index, &format!("{alias}-v1"), &aliases, None).await
    }

    /// The aliases over several indices to which this one belongs.
    pub(super) fn shared_aliases(&self, index: &Index) -> Map<String, Value> {
        self.groups(index).map(|group| (group, json!({}))).collect()
    }

    /// Creates a physical index, unless it is there; `copy_of` is noted in its mapping.
    pub(super) async fn build(
        &self,
        index: &Index,
        name: &str,
        aliases: &Map<String, Value>,
        copy_of: Option<&str>,
    ) -> Result<()> {
        let path = format!("/{name}");
        for folds_accents in [true, false] {
            let mut mappings = index.mapping.clone();
            mappings["_meta"]["folds_accents"] = json!(folds_accents);
            if let Some(copy_of) = copy_of {
                mappings["_meta"]["copy_of"] = json!(copy_of);
            }
            let mut body = json!({"aliases": aliases, "mappings": mappings, "settings": {}});
            if folds_accents {
                body["settings"]["analysis"]["analyzer"]["default"] = json!({
                    "type": "custom", "tokenizer": "standard", "filter": ["lowercase", "asciifolding"],
                });
            }
            let answer = self.client.request(Method::Put, &path, &[], Some(&body)).await?;
            let said = answer.json();
            if answer.is_good() || said["error"]["type"] == "resource_already_exists_exception" {
                return Ok(());
            }
            // A server without this filter gets the standard analyser; `doctor` says so.
            if !(folds_accents && reason(&said).contains("asciifolding")) {
                return Err(refused(&format!("create index `{name}`"), &said));
            }
        }
        Ok(())
    }

    /// Gives the physical index those aliases over several that it lacks.
    async fn join_groups(&self, index: &Index, name: &str, aliases: &Value) -> Result<()> {
        let lacking: Vec<Value> = self
            .groups(index)
            .filter(|group| aliases.get(group).is_none())
            .map(|group| json!({"add": {"index": name, "alias": group}}))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let body = json!({"actions": lacking});
        let answer = self.client.request(Method::Post, "/_aliases", &[], Some(&body)).await?;
        if answer.is_good() {
            return Ok(());
        }
        Err(refused(&format!("give `{name}` the aliases that readers use"), &answer.json()))
    }

    async fn fit(&self, index: &Index, alias: &str, found: &Value) -> Result<()> {
        let (name, stored, difference) = fitting(index, alias, found)?;
        self.join_groups(index, name, &stored["aliases"]).await?;
        let stored = &stored["mappings"];
        let version = |mapping: &Value| mapping["_meta"]["version"].as_u64().unwrap_or(0);
        // A newer version has been here: it only added, so its mapping serves us.
        if version(stored) > version(&index.mapping)
            || (difference == Difference::None && version(stored) == version(&index.mapping))
        {
            return Ok(());
        }
        let mut mapping = index.mapping.clone();
        mapping["_meta"]["folds_accents"] = stored["_meta"]["folds_accents"].clone();
        let path = format!("/{name}/_mapping");
        let answer = self.client.request(Method::Put, &path, &[], Some(&mapping)).await?;
        if answer.is_good() {
            return Ok(());
        }
        Err(refused(&format!("widen the mapping of `{name}`"), &answer.json()))
    }
}

/// The one physical index behind an alias of ours, as it is stored, and what must happen to its mapping.
///
/// # Errors
/// `Config`, when it is no index of ours or its mapping cannot become this version's.
pub(super) fn fitting<'f>(
    index: &Index,
    alias: &str,
    found: &'f Value,
) -> Result<(&'f str, &'f Value, Difference)> {
    let mut physical = found.as_object().into_iter().flatten();
    let (Some((name, stored)), None) = (physical.next(), physical.next()) else {
        return Err(Error::config(format!(
            "write to `{alias}`: this alias stands for several indices"
        ))
        .hint("leave one of them in it"));
    };
    if name == alias {
        return Err(Error::config(format!("write to `{alias}`: it is an index of that name, not an alias of ours"))
                .hint("`local-runner adopt` takes over an index of the predecessor; or set another `ES_INDEX_PREFIX`"));
    }
    match compare("", &index.mapping, &stored["mappings"]) {
        Difference::Changed(field, is, should) => Err(Error::config(format!(
            "use index `{name}`: its field `{field}` is `{is}`, and this version needs `{should}`"
        ))
        .hint(format!(
            "`local-runner reindex {}` builds it anew beside the old one and swaps the alias",
            index.name
        ))),
        difference => Ok((name, stored, difference)),
    }
}

/// An error for a refusal that has no better word.
pub(super) fn refused(what: &str, said: &Value) -> Error {
    Error::store(format!("{what}{}", reason(said)))
}

/// Compares what is wanted with what is stored; what is stored beyond that does not matter.
pub(super) fn compare(path: &str, wanted: &Value, stored: &Value) -> Difference {
    let mut difference = Difference::None;
    for part in ["properties", "fields"] {
        for (field, form) in wanted[part].as_object().into_iter().flatten() {
            let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
            let Some(known) = stored[part].get(field) else {
                difference = Difference::Added;
                continue;
            };
            let (is, should) = (described(known), described(form));
            if is != should {
                return Difference::Changed(path, is, should);
            }
            if TOLERANCES.iter().any(|setting| form.get(setting) != known.get(setting)) {
                difference = Difference::Added;
            }
            match compare(&path, form, known) {
                Difference::None => {}
                Difference::Added => difference = Difference::Added,
                changed @ Difference::Changed(..) => return changed,
            }
        }
    }
    difference
}

/// A field's type, and those of its settings that no server changes once they are set.
fn described(form: &Value) -> String {
    let mut text = form["type"].as_str().unwrap_or("object").to_owned();
    for setting in ["enabled", "index", "doc_values"] {
        if form[setting] == false {
            text.push_str(", without ");
            text.push_str(setting);
        }
    }
    if let Some(path) = form["path"].as_str() {
        text.push_str(" of ");
        text.push_str(path);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_may_be_added_and_may_not_change() {
        let stored = json!({"properties": {"a": {"type": "text"}, "o": {"properties": {"x": {"type": "keyword"}}}, "extra": {"type": "ip"}}});
        let wanted = |a: &str| json!({"properties": {"a": {"type": a}, "o": {"properties": {"x": {"type": "keyword"}}}}});
        assert_eq!(compare("", &wanted("text"), &stored), Difference::None);
        assert_eq!(
            compare("", &wanted("keyword"), &stored),
            Difference::Changed("a".into(), "text".into(), "keyword".into())
        );
        let deeper = json!({"properties": {"o": {"properties": {"y": {"type": "date"}}}}});
        assert_eq!(compare("", &deeper, &stored), Difference::Added);
        let short = json!({"properties": {"o": {"properties": {"x": {"type": "keyword", "ignore_above": 9}}}}});
        assert_eq!(compare("", &short, &stored), Difference::Added);
        assert_eq!(compare("", &short, &short), Difference::None);
        let alias = json!({"properties": {"a": {"type": "alias", "path": "b"}}});
        assert_eq!(
            compare("", &alias, &stored),
            Difference::Changed("a".into(), "text".into(), "alias of b".into())
        );
    }
}
