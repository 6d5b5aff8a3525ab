//! Links families and actors to each other, whichever side names the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stores::documents::{Body, Write, Written};
use task::Ctx;
use task::source::{Begun, Visit};

use super::owners::{LINKS_OF_ACTOR, LINKS_OF_FAMILY};
use super::{BATCH, Cursor, Row, What};
use crate::FAMILY;
use crate::reference::id;

/// How far the links were written.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Linked {
    digest: String,
    families: BTreeSet<String>,
    actors: BTreeSet<String>,
}

/// Writes each side's links to the other, from what both cursors say; nothing where neither changed, unless documents are
/// new: those of a store that was emptied have no links yet.
pub(super) async fn link(ctx: &Ctx, has_new: bool) -> Result<Value> {
    let rows = async |what: What| -> Result<Vec<Row>> {
        let state = ctx.state.source(&format!("{}/{}", FAMILY.name, what.name())).await?;
        let cursor: Option<Cursor> =
            state.cursor.and_then(|cursor| serde_json::from_value(cursor).ok());
        Ok(cursor.map(|cursor| cursor.rows.into_values().collect()).unwrap_or_default())
    };
    let (families, actors) = (rows(What::Families).await?, rows(What::Actors).await?);
    let (of_families, of_actors) = links(&families, &actors);
    let digest = id(&json!([of_families, of_actors]).to_string());
    let mut visit = match Visit::begin(ctx, FAMILY.name, "links", What::Families.index()?).await? {
        Begun::Visit(visit) => visit,
        Begun::Not(report) => return Ok(json!(report.outcome)),
    };
    let before: Linked = visit
        .cursor()
        .and_then(|cursor| serde_json::from_value(cursor.clone()).ok())
        .unwrap_or_default();
    let mut written = 0;
    if before.digest != digest || has_new {
        let now = Linked {
            digest,
            families: of_families.keys().cloned().collect(),
            actors: of_actors.keys().cloned().collect(),
        };
        // What had links before and has none now is written too, without any.
        let sides = [
            (What::Families, &LINKS_OF_FAMILY, of_families, before.families),
            (What::Actors, &LINKS_OF_ACTOR, of_actors, before.actors),
        ];
        for (what, owner, mut links, once) in sides {
            for natural in once {
                links.entry(natural).or_default();
            }
            let index = what.index()?;
            ctx.documents.ensure(index).await?;
            let writes: Vec<Write> = links
                .into_iter()
                .map(|(natural, fields)| Write::of(id(&natural), owner, fields))
                .collect();
            for batch in writes.chunks(BATCH) {
                let outcomes = ctx.documents.upsert(index, batch).await?;
                written += outcomes
                    .iter()
                    .filter(|outcome| !matches!(outcome, Written::Unchanged))
                    .count();
            }
        }
        visit.reach(json!(now));
    }
    visit.end(Ok(())).await?;
    Ok(json!(written))
}

type Sides = BTreeMap<String, Body>;

/// The links of families and of actors that are there, purely.
fn links(families: &[Row], actors: &[Row]) -> (Sides, Sides) {
    let names: HashMap<&str, &str> =
        families.iter().map(|row| (row.i.as_str(), row.n.as_str())).collect();
    let mut by_name: HashMap<String, BTreeSet<&str>> = HashMap::new();
    for actor in actors {
        by_name.entry(actor.n.to_lowercase()).or_default().insert(&actor.i);
    }
    // An actor names its families by id or by name.
    let mut families_by_name: HashMap<String, BTreeSet<&str>> = HashMap::new();
    for family in families {
        families_by_name.entry(family.n.to_lowercase()).or_default().insert(&family.i);
    }
    let actor_names: HashMap<&str, &str> =
        actors.iter().map(|row| (row.i.as_str(), row.n.as_str())).collect();
    // Pairs of family and actor, whichever side names the other.
    let mut pairs: BTreeSet<(&str, &str)> = BTreeSet::new();
    for actor in actors {
        for named in &actor.l {
            match names.get_key_value(named.as_str()) {
                Some((family, _)) => pairs.extend([(*family, actor.i.as_str())]),
                None => {
                    let same = families_by_name.get(&named.to_lowercase()).into_iter().flatten();
                    pairs.extend(same.map(|family| (*family, actor.i.as_str())));
                }
            }
        }
    }
    for family in families {
        let named = family.l.iter().filter_map(|name| by_name.get(&name.to_lowercase())).flatten();
        pairs.extend(named.map(|actor| (family.i.as_str(), *actor)));
    }
    let mut of_families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut of_actors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (family, actor) in pairs {
        of_families.entry(family).or_default().push(actor);
        of_actors.entry(actor).or_default().push(family);
    }
    let family_side = of_families.into_iter().map(|(family, actors)| {
        let shown: Vec<&str> = actors.iter().map(|actor| actor_names[actor]).collect();
        let fields = [("actor_ids", json!(actors)), ("actors", json!(shown))];
        (
            family.to_owned(),
            fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        )
    });
    let actor_side = of_actors.into_iter().map(|(actor, families)| {
        let shown: Vec<&str> = families.iter().map(|family| names[family]).collect();
        let both: Vec<&str> = families.iter().chain(&shown).copied().collect();
        let fields = [
            ("family_names", json!(shown)),
            ("families", json!(families)),
            ("familias_relacionadas", json!(both)),
        ];
        (
            actor.to_owned(),
            fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        )
    });
    (family_side.collect(), actor_side.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str, links: &[&str]) -> Row {
        let l = links.iter().map(|link| (*link).to_owned()).collect();
        Row { m: 0, s: 0, i: id.to_owned(), n: name.to_owned(), l }
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
