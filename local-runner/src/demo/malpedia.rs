//! A small library in Malpedia's forms: known families and actors, and invented notes about what else the demo bundles.

use std::path::Path;

use axum::Router;
use axum::routing::get;
use base::{Error, Result};
use serde_json::{Value, json};

use super::upstream::Slot;

/// Tasks that run once before the first slot, as a person would who sets up the library: the timetable has none of them.
pub(super) const FIRST: [&str; 3] =
    ["sync_malpedia_families_to_es", "sync_malpedia_actors_to_es", "sync_malpedia_library_bibtex"];

/// Families by id, with name, other names, system and what they are.
const FAMILIES: [(&str, &str, &[&str], &str, &str); 4] = [
    (
        "win.emotet",
        "Emotet",
        &["Geodo", "Heodo"],
        "Windows",
        "A loader that began as a banking trojan.",
    ),
    ("win.conti", "Conti", &[], "Windows", "Ransomware that was sold as a service until 2022."),
    (
        "win.sunburst",
        "SUNBURST",
        &["Solorigate"],
        "Windows",
        "A backdoor in an update of SolarWinds Orion.",
    ),
    (
        "win.cobalt_strike",
        "Cobalt Strike",
        &["CobaltStrike", "Beacon"],
        "Windows",
        "A commercial tool of red teams that many intruders use.",
    ),
];

const ACTORS: [(&str, &[&str], &[&str]); 2] = [
    ("MUMMY SPIDER", &["TA542"], &["win.emotet"]),
    ("WIZARD SPIDER", &["GOLD ULRICK"], &["win.conti"]),
];

/// Notes: key, date, title, and the families that the library itself joins to them.
const NOTES: [(&str, &str, &str, &[&str]); 7] = [
    (
        "notes:20221006:emotet:0000001",
        "2022-10-06",
        "What Emotet's loaders of October 2022 left behind",
        &["win.emotet"],
    ),
    (
        "notes:20220301:leaks:0000002",
        "2022-03-01",
        "Reading the Conti leaks, a glossary",
        &["win.conti"],
    ),
    ("notes:20201214:orion:0000003", "2020-12-14", "Solorigate: hosts of the first week", &[]),
    (
        "notes:20210512:beacon:0000004",
        "2021-05-12",
        "Finding Cobalt Strike servers by their certificates",
        &[],
    ),
    (
        "notes:20220810:chain:0000005",
        "2022-08-10",
        "From Emotet to Conti by way of Cobalt Strike",
        &[],
    ),
    ("notes:20230119:spider:0000006", "2023-01-19", "TA542 após a pausa: o que mudou", &[]),
    ("notes:20240202:policy:0000007", "2024-02-02", "How we number our notes", &[]),
];

fn url(key: &str) -> String {
    format!("https://notes.example/{}", key.replace(':', "/"))
}

/// The bibliography, and what its entries are about.
pub(super) fn routes() -> Router<Slot> {
    Router::new()
        .route("/malpedia/library/download", get(async || bibliography()))
        .route("/malpedia/api/get/references", get(async || references().to_string()))
}

fn bibliography() -> String {
    let entry = |(key, date, title, _): &(&str, &str, &str, &[&str])| {
        let url = url(key);
        format!(
            "@online{{{key},\n   author = {{Minerva's Notes}},\n   title = {{{{{title}}}}},\n   date = {{{date}}},\n   organization = {{Minerva's Notes}},\n   url = {{{url}}},\n   language = {{English}},\n   urldate = {{{date}}}\n}}\n\n"
        )
    };
    NOTES.iter().map(entry).collect()
}

fn references() -> Value {
    let family = |id: &&str| {
        let known = FAMILIES.iter().find(|family| family.0 == *id);
        let (name, aka) = known.map_or(("", &[][..]), |family| (family.1, family.2));
        json!({"type": "family", "id": id, "common_name": name, "alt_names": aka, "url": null})
    };
    let joined = NOTES.iter().filter(|note| !note.3.is_empty());
    let about = joined.map(|(key, _, _, ids)| (url(key), ids.iter().map(family).collect()));
    Value::Object(about.collect())
}

/// Writes families and actors as files, as Malpedia's users keep them.
pub(super) fn write(folder: &Path) -> Result<()> {
    let families = FAMILIES.map(|(id, name, aka, os, about)| {
        let file = json!({"name": id, "common_name": name, "alt_names": aka, "os": os, "description": about});
        ("families_enriched", id.to_owned(), file)
    });
    let actors = ACTORS.map(|(name, aka, families)| {
        let file = json!({"name": name, "synonyms": aka, "families": families});
        ("actors_enriched", name.to_lowercase().replace(' ', "_"), file)
    });
    for (kind, name, file) in families.into_iter().chain(actors) {
        let folder = folder.join(kind);
        let path = folder.join(format!("{name}.json"));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, file.to_string()))
            .map_err(|cause| Error::config(format!("write `{}`", path.display())).because(cause))?;
    }
    Ok(())
}
