//! Links families and actors to each other, whichever side names the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::{Body, Write};
use task::{Ctx, Stop, Visit};

use super::kind::{ACTORS, Cursor, FAMILIES, RecordKind, StoredRecord};
use crate::reference::id;
use crate::settings::NAME;

/// Records of one name that are meant by it; a name of more says nothing.
const NAMESAKES_MAX: usize = 16;

/// Links that one document lists of the other side.
const LISTED_MAX: usize = 2_000;

/// How far the links were written.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Linked {
    digest: String,
    families: BTreeSet<String>,
    actors: BTreeSet<String>,
}

/// Writes each side's links to the other, from what both cursors say; nothing where neither changed. Gives how many were
/// written.
pub(super) async fn link(ctx: &Ctx) -> Result<Value> {
    let indices = [FAMILIES.index, ACTORS.index];
    let written = ctx.pass(&format!("{NAME}/links"), &indices, write_links).await?;
    Ok(written.map_or_else(|outcome| json!(outcome), |written| json!(written)))
}

async fn write_links(visit: &mut Visit<'_>) -> Result<u64, Stop> {
    let (families, actors) = (rows(visit, &FAMILIES).await?, rows(visit, &ACTORS).await?);
    let (of_families, of_actors) = links(&families, &actors);
    let digest = id(&json!([of_families, of_actors]).to_string());
    let before: Linked = visit.cursor().unwrap_or_default();
    if before.digest == digest {
        return Ok(0);
    }
    visit.reach(json!(Linked {
        digest,
        families: of_families.keys().cloned().collect(),
        actors: of_actors.keys().cloned().collect(),
    }));
    let sides = [(FAMILIES, of_families, before.families), (ACTORS, of_actors, before.actors)];
    let mut written = 0;
    for (kind, mut links, once) in sides {
        // What had links before and has none now is written too, without any.
        for natural in once {
            links.entry(natural).or_default();
        }
        let write =
            |(natural, fields): (String, Body)| Write::of(id(&natural), kind.of_links, fields);
        let writes: Vec<Write> = links.into_iter().map(write).collect();
        written += visit.amend(kind.source.index()?, &writes).await?;
    }
    Ok(written)
}

/// The records of one kind that are stored.
async fn rows(visit: &Visit<'_>, kind: &RecordKind) -> Result<Vec<StoredRecord>> {
    let state = visit.ctx().ledger.source(&kind.source.state()).await?;
    let cursor = state.cursor.and_then(|cursor| serde_json::from_value::<Cursor>(cursor).ok());
    Ok(cursor.map(|cursor| cursor.rows.into_values().collect()).unwrap_or_default())
}

type Sides = BTreeMap<String, Body>;

/// The links of families and of actors that are there, purely.
fn links(families: &[StoredRecord], actors: &[StoredRecord]) -> (Sides, Sides) {
    let (family_names, ids_of_families) = names(families);
    let (actor_names, ids_of_actors) = names(actors);
    // Pairs of family and actor, whichever side names the other.
    let mut pairs: BTreeSet<(&str, &str)> = BTreeSet::new();
    for actor in actors {
        for named in &actor.links {
            // An actor names its families by id or by name.
            match family_names.get_key_value(named.as_str()) {
                Some((family, _)) => pairs.extend([(*family, actor.id.as_str())]),
                None => {
                    let same = namesakes(&ids_of_families, named);
                    pairs.extend(same.map(|family| (family, actor.id.as_str())));
                }
            }
        }
    }
    for family in families {
        let named = family.links.iter().flat_map(|name| namesakes(&ids_of_actors, name));
        pairs.extend(named.map(|actor| (family.id.as_str(), actor)));
    }
    let mut of_families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut of_actors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (family, actor) in pairs {
        for (list, one) in [
            (of_families.entry(family).or_default(), actor),
            (of_actors.entry(actor).or_default(), family),
        ] {
            if list.len() < LISTED_MAX {
                list.push(one);
            }
        }
    }
    let family_side = of_families.into_iter().map(|(family, actors)| {
        let shown: Vec<&str> = actors.iter().map(|actor| actor_names[actor]).collect();
        (family.to_owned(), body([("actor_ids", json!(actors)), ("actors", json!(shown))]))
    });
    let actor_side = of_actors.into_iter().map(|(actor, families)| {
        let shown: Vec<&str> = families.iter().map(|family| family_names[family]).collect();
        let both: Vec<&str> = families.iter().chain(&shown).copied().collect();
        let fields = [
            ("family_names", json!(shown)),
            ("families", json!(families)),
            ("familias_relacionadas", json!(both)),
        ];
        (actor.to_owned(), body(fields))
    });
    (family_side.collect(), actor_side.collect())
}

type IdsByName<'a> = HashMap<String, BTreeSet<&'a str>>;

fn namesakes<'a>(ids: &IdsByName<'a>, name: &str) -> impl Iterator<Item = &'a str> {
    let same = ids.get(&name.to_lowercase()).filter(|same| same.len() <= NAMESAKES_MAX);
    same.cloned().into_iter().flatten()
}

/// The name under each id, and the ids under each name whatever its case.
fn names(rows: &[StoredRecord]) -> (HashMap<&str, &str>, IdsByName<'_>) {
    let mut ids = IdsByName::new();
    for row in rows {
        let same = ids.entry(row.name.to_lowercase()).or_default();
        if same.len() <= NAMESAKES_MAX {
            same.insert(&row.id);
        }
    }
    (rows.iter().map(|row| (row.id.as_str(), row.name.as_str())).collect(), ids)
}

fn body<const N: usize>(fields: [(&str, Value); N]) -> Body {
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str, links: &[&str]) -> StoredRecord {
        let links = links.iter().map(|link| (*link).to_owned()).collect();
        let (id, name) = (id.to_owned(), name.to_owned());
        StoredRecord { id, name, links, ..StoredRecord::default() }
    }

    #[test]
    fn a_name_of_too_many_says_nothing() {
        for (count, linked) in [(NAMESAKES_MAX, NAMESAKES_MAX), (NAMESAKES_MAX + 1, 0)] {
            let families: Vec<_> =
                (0..count).map(|n| row(&format!("win.a{n}"), "Agent", &[])).collect();
            let (of_families, _) = links(&families, &[row("a", "Actor A", &["agent"])]);
            assert_eq!(of_families.len(), linked);
        }
    }

    #[test]
    fn an_actor_names_families_by_id_or_by_name() {
        let families = [row("win.isaacwiper", "IsaacWiper", &[]), row("win.x", "X", &["actor b"])];
        let actors =
            [row("a", "Actor A", &["isaacwiper", "win.x", "none"]), row("b", "Actor B", &[])];
        let (of_families, of_actors) = links(&families, &actors);
        assert_eq!(of_families["win.isaacwiper"]["actors"], json!(["Actor A"]));
        assert_eq!(of_families["win.x"]["actor_ids"], json!(["a", "b"]));
        assert_eq!(of_actors["a"]["families"], json!(["win.isaacwiper", "win.x"]));
    }
}
