//! The index over what is stored.

use base::Result;
use serde_json::Value;
use stores::documents::{Body, DocumentReader, Index, MALWARE_FAMILIES, Pages, Scan};

use crate::index::{Names, Subject, SubjectKind};

/// Where actors are stored.
const ACTORS: &str = "malpedia_actors";
/// Documents that are read together.
const PAGE: u32 = 1_000;
/// Bytes of a name that is taken; a longer one is none.
const NAME_MAX: usize = 128;
/// Other names of one subject that are taken.
const ALIASES_MAX: usize = 200;

impl Names {
    /// Reads the names of all stored families and actors.
    ///
    /// # Errors
    /// `Store`, when they cannot be read.
    pub async fn read(documents: &dyn DocumentReader) -> Result<Self> {
        let mut subjects = Vec::new();
        for (kind, index) in [(SubjectKind::Family, MALWARE_FAMILIES), (SubjectKind::Actor, ACTORS)]
        {
            let fields =
                ["family_id", "actor_id", "name", "common_name", "aka", "mitre_aliases", "active"];
            let mut pages = Pages::new(
                documents,
                Index::named(index)?,
                Scan { limit: PAGE, ..Scan::of(&fields) },
            );
            while let Some(page) = pages.next().await? {
                subjects.extend(page.iter().filter_map(|document| subject(kind, &document.body)));
            }
        }
        Ok(Self::of(subjects))
    }
}

fn subject(kind: SubjectKind, body: &Body) -> Option<Subject> {
    let text = |name: &str| {
        let text = body.get(name).and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty() && text.len() <= NAME_MAX)
    };
    if body.get("active").and_then(Value::as_bool) == Some(false) {
        return None;
    }
    let id = text(if kind == SubjectKind::Family { "family_id" } else { "actor_id" })
        .unwrap_or_default();
    let name =
        text("common_name").or_else(|| text("name")).or(Some(id).filter(|id| !id.is_empty()))?;
    let lists = ["aka", "mitre_aliases"].into_iter().filter_map(|list| body.get(list)?.as_array());
    let aliases = lists.flatten().filter_map(Value::as_str).map(str::trim);
    let aliases =
        aliases.filter(|alias| !alias.is_empty() && alias.len() <= NAME_MAX).take(ALIASES_MAX);
    let mut aliases: Vec<String> = aliases.map(ToOwned::to_owned).collect();
    aliases.extend(
        text("name").filter(|other| *other != name && !other.contains('.')).map(ToOwned::to_owned),
    );
    // The id of an actor is a name in small letters, and no id of its own.
    let is_technical = kind == SubjectKind::Family && id.contains('.');
    Some(Subject {
        kind,
        id: if is_technical { id.to_owned() } else { String::new() },
        name: name.to_owned(),
        aliases,
    })
}
