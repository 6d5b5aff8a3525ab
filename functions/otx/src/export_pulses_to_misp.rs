//! Gives pulses that may be passed on as MISP events: to a server, as a feed in a folder or bucket, or both.
//!
//! Reads   `otx_pulses` and the indicators of those that are new or changed; actors and families of Malpedia, for their names.
//! Writes  events to `MISP_URL`, `<uuid>.json`, `manifest.json` and `hashes.csv` to `MISP_EXPORT`; what went where into the pulse.
//! Twice   is harmless: ids follow from the pulse, one that went out is sent again when it changed, and then as an edit.
//! Quirk   private pulses and TLP:red never go out, and leave the feed when they become so; from a server nothing is taken back.

use std::collections::{BTreeSet, HashMap, HashSet};

use base::date::seconds;
use base::report::{Counts, Report};
use base::{Error, Result};
use indicator::IndicatorKind;
use ioc::Tlp;
use ioc::misp_feed::{self, Attribute, Event};
use jiff::Timestamp;
use serde_json::{Value, json};
use stores::documents::{Body, Document, Filter, Index, Owner, Pages, Scan, Write};
use task::{Chosen, Ctx, NoInput, Reaches, Source, Stop, Task, Visit};

use crate::misp_feed_folder::Feed;
use crate::misp_server::{REFUSED_SHOWN, Server, Unsent};
use crate::settings::Settings;
use crate::{indicators, pulse};

/// What the export notes in a pulse.
pub(crate) const OWNER: Owner = Owner {
    fields: &["exported_to_misp", "misp_event_uuid", "exported_revision", "exported_at", "export"],
    unhashed: &["exported_at"],
    ..Owner::named("otx_export")
};

/// Indicators that are held at once: those of one pulse, or of several small ones.
const INDICATORS_AT_ONCE: u64 = 20_000;
/// Attributes of an event; a server takes minutes for so many.
const ATTRIBUTES_MAX: usize = 50_000;
/// Letters of a description or a comment.
const TEXT_MAX: usize = 20_000;
/// Events in a row that a server fails over, after which it is left alone until the next run.
const FAILURES_MAX: u32 = 3;

/// What is read of an indicator.
const OF_INDICATOR: &[&str] =
    &["type", "value", "content", "pulses", "warninglists", "warninglist_hits"];

/// What is read of a pulse: what the sync and the export write, of the source's own words those that tell names of techniques.
fn fields() -> Vec<&'static str> {
    let of_sync = pulse::OWNER.fields.iter().filter(|name| **name != "raw");
    of_sync.chain(OWNER.fields).copied().chain(["raw.attack_ids"]).collect()
}

pub(crate) struct ExportPulsesToMisp;

impl Task for ExportPulsesToMisp {
    const NAME: &'static str = "export_pulses_to_misp";
    const REACHES: &'static [Reaches] = &[Reaches::Destinations, Reaches::Stores];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let settings: Settings = ctx.settings()?;
        let server = match (&settings.misp_url, &settings.misp_key) {
            (Some(url), Some(key)) => Some(Server::new(url.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(half("MISP_KEY")),
            (None, Some(_)) => return Err(half("MISP_URL")),
        };
        if server.is_none() && settings.misp_export.is_none() {
            return Err(Error::config("export pulses: nothing says where to").hint(
                "set `MISP_EXPORT` to a folder or `s3://bucket/prefix` for a feed, or `MISP_URL` and `MISP_KEY` for a server",
            ));
        }
        let to = Destinations { server, settings };
        ctx.each(Chosen::every(vec![Export]), 1, async |visit, _| export(visit, &to).await).await
    }
}

fn half(missing: &str) -> Error {
    Error::config(format!("export pulses to a MISP server: `{missing}` is unset"))
        .hint("set both `MISP_URL` and `MISP_KEY`, or neither")
}

/// The export as what is held, and as what has a health.
pub(crate) struct Export;

impl Export {
    /// Its id as a source of the family.
    pub(crate) const ID: &'static str = "misp-export";
}

impl Source for Export {
    fn id(&self) -> &'static str {
        Self::ID
    }

    fn indices(&self) -> &'static [&'static str] {
        &[pulse::INDEX]
    }
}

struct Destinations {
    server: Option<Server>,
    settings: Settings,
}

/// A pulse as it is stored.
struct Stored {
    id: String,
    body: Body,
}

impl Stored {
    fn text(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        match self.body.get(name) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) if !text.is_empty() => vec![text],
            _ => Vec::new(),
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.body.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The version of its event: the second of its last change.
    fn version(&self) -> i64 {
        let instant = |name: &str| self.text(name).parse::<Timestamp>().ok();
        instant("modified").or_else(|| instant("created")).map_or(0, Timestamp::as_second)
    }

    fn tlp(&self) -> Option<Tlp> {
        Tlp::read(self.text("tlp"))
    }

    /// Why it stays here, if it does.
    fn stays(&self) -> Option<&'static str> {
        let flag = |name: &str| self.body.get(name).and_then(Value::as_bool);
        if flag("public") == Some(false) {
            Some("private")
        } else if self.tlp() == Some(Tlp::Red) {
            Some("TLP:red")
        } else if flag("active") == Some(false) {
            Some("no longer on OTX")
        } else {
            None
        }
    }

    fn event_id(&self) -> uuid::Uuid {
        misp_feed::id(&["otx", self.text("pulse_id")])
    }

    /// What the export noted.
    fn noted(&self) -> &Value {
        self.body.get("export").unwrap_or(&Value::Null)
    }

    /// Whether this version is on that server, by what the export noted.
    fn is_on(&self, server: &Server) -> bool {
        let noted = self.noted();
        noted["server"] == json!(server.name()) && noted["server_version"] == json!(self.version())
    }

    /// Whether this version is in that feed.
    fn is_in(&self, feed: &Feed) -> bool {
        feed.version(self.event_id()) == Some(self.version())
    }
}

async fn export(visit: &mut Visit<'_>, to: &Destinations) -> Result<(), Stop> {
    let index = Index::named(pulse::INDEX)?;
    let config = std::sync::Arc::clone(&visit.ctx().config);
    let mut feed = match &to.settings.misp_export {
        Some(place) => Some(Feed::open(place, &config).await?),
        None => None,
    };
    let documents = std::sync::Arc::clone(&visit.ctx().documents);
    let mut names = None;
    let mut run = Run::default();
    let mut pages = Pages::new(documents.as_ref(), index, Scan::of(&fields()));
    'all: while let Some(page) = pages.next().await? {
        let mut due: Vec<Stored> = Vec::new();
        for Document { id, body } in page {
            let one = Stored { id, body };
            if let Some(why) = one.stays() {
                visit.found(index, 1);
                add(visit, index, Counts { filtered: 1, ..Counts::default() });
                *run.stayed.entry(why).or_default() += 1;
                withdraw(visit, &one, why, feed.as_mut()).await?;
                continue;
            }
            let is_current = one.noted()["version"] == json!(one.version())
                && to.server.as_ref().is_none_or(|server| one.is_on(server))
                && feed.as_ref().is_none_or(|feed| one.is_in(feed));
            if is_current {
                visit.found(index, 1);
                visit.unchanged(index, 1);
            } else {
                due.push(one);
            }
        }
        if names.is_none() && !due.is_empty() {
            names = Some(Names::read(visit.ctx()).await?);
        }
        let Some(names) = &names else { continue };
        for some in in_parts(due) {
            let mut held = indicators_of(visit.ctx(), &some).await?;
            for one in some {
                if visit.is_late() {
                    break 'all;
                }
                let mut told = Vec::new();
                let attributes = held.remove(one.text("pulse_id")).unwrap_or_default();
                let event = event(&one, names, &attributes, &to.settings, &mut told);
                told.into_iter().for_each(|note| visit.note(note));
                run.give(visit, to, &one, &event, feed.as_mut()).await?;
            }
        }
    }
    if let Some(feed) = feed
        && let Some(note) = feed.close().await?
    {
        visit.note(note);
    }
    for (why, count) in &run.stayed {
        visit.note(format!("{count} pulses do not go out: {why}"));
    }
    match run.stopped {
        Some(stop) => Err(stop),
        None => Ok(()),
    }
}

/// What a run has come to.
#[derive(Default)]
struct Run {
    stayed: std::collections::BTreeMap<&'static str, u64>,
    /// Why the server is left alone for the rest of the run.
    stopped: Option<Stop>,
    failures: u32,
}

impl Run {
    /// Gives one event to the server and into the feed, and notes it in the pulse.
    async fn give(
        &mut self,
        visit: &mut Visit<'_>,
        to: &Destinations,
        one: &Stored,
        event: &Event,
        feed: Option<&mut Feed>,
    ) -> Result<(), Stop> {
        let index = Index::named(pulse::INDEX)?;
        visit.found(index, 1);
        if let Some(feed) = feed.filter(|feed| !one.is_in(feed)) {
            feed.put(event).await?;
        }
        let name = format!("pulse {} `{}`", one.text("pulse_id"), event.info);
        let mut export = one.noted().clone();
        if let Some(server) = to.server.as_ref().filter(|server| !one.is_on(server)) {
            if self.stopped.is_some() {
                add(visit, index, Counts { failed: 1, ..Counts::default() });
                return Ok(());
            }
            match server.send(visit.ctx(), event).await {
                Ok(sent) => {
                    self.failures = 0;
                    let count = sent.refused.len();
                    for why in sent.refused.iter().take(REFUSED_SHOWN) {
                        visit.show_reject(format!("{name}: {why}"));
                    }
                    if count > 0 {
                        visit.note(format!(
                            "{name}: MISP refused {count} of {} attributes",
                            event.attributes.len()
                        ));
                    }
                    export = json!({
                        "server": server.name(), "server_version": event.timestamp,
                        "attributes": event.attributes.len(), "refused": count,
                    });
                }
                Err(Unsent::Refused(why)) => {
                    visit.reject(index, format!("{name}: {why}"));
                    return Ok(());
                }
                Err(Unsent::Failed(stop)) => {
                    add(visit, index, Counts { failed: 1, ..Counts::default() });
                    visit.note(format!("{name}: {}", stop.error));
                    self.failures += 1;
                    if self.failures >= FAILURES_MAX {
                        self.stopped = Some(stop);
                    }
                    return Ok(());
                }
                Err(Unsent::Stop(stop)) => {
                    add(visit, index, Counts { failed: 1, ..Counts::default() });
                    self.stopped = Some(stop);
                    return Ok(());
                }
            }
        }
        // Indexing makes an object of what is null.
        export["version"] = json!(event.timestamp);
        let fields = Body::from_iter([
            ("exported_to_misp".to_owned(), json!(true)),
            ("misp_event_uuid".to_owned(), json!(event.uuid.to_string())),
            (
                "exported_revision".to_owned(),
                one.body.get("pulse_revision").cloned().unwrap_or_default(),
            ),
            ("exported_at".to_owned(), json!(seconds(visit.ctx().now()))),
            ("export".to_owned(), export),
        ]);
        visit.store(index, &[Write::of(one.id.clone(), &OWNER, fields)]).await?;
        Ok(())
    }
}

/// Takes an event that must not be passed on any more out of the feed, and says where else it may be.
async fn withdraw(
    visit: &mut Visit<'_>,
    one: &Stored,
    why: &str,
    feed: Option<&mut Feed>,
) -> Result<(), Stop> {
    let id = one.event_id();
    if let Some(feed) = feed {
        feed.remove(id).await?;
    }
    let server = one.noted()["server"].as_str();
    if let Some(server) = server.filter(|_| why != "no longer on OTX") {
        visit.note(format!(
            "event {id} on `{server}` is of a pulse that is {why} now: delete it there"
        ));
    }
    Ok(())
}

/// Adds to what became of the items of an index.
fn add(visit: &mut Visit<'_>, index: &'static Index, more: Counts) {
    let mut counts = visit.counts(index);
    counts += more;
    visit.recount(index, counts);
}

/// Pulses in groups whose indicators are held at once.
fn in_parts(due: Vec<Stored>) -> Vec<Vec<Stored>> {
    let mut parts: Vec<Vec<Stored>> = Vec::new();
    let mut room = 0;
    for one in due {
        let count = one.number("indicator_count").max(1);
        match parts.last_mut() {
            Some(last) if count <= room => last.push(one),
            _ => {
                parts.push(vec![one]);
                room = INDICATORS_AT_ONCE;
            }
        }
        room = room.saturating_sub(count);
    }
    parts
}

/// An indicator as one pulse names it.
struct Named {
    kind: Option<IndicatorKind>,
    value: String,
    comment: String,
    role: String,
    first_seen: Option<Timestamp>,
    is_harmless: bool,
}

/// The indicators of pulses, by the pulse's id, in the order of their documents' ids.
async fn indicators_of(ctx: &Ctx, pulses: &[Stored]) -> Result<HashMap<String, Vec<Named>>> {
    let index = Index::named(indicators::INDEX)?;
    let ids: Vec<String> = pulses.iter().map(|one| one.text("pulse_id").to_owned()).collect();
    let wanted: HashSet<String> = ids.iter().cloned().collect();
    let scan = Scan {
        filters: vec![Filter::Terms("pulse_ids".to_owned(), ids)],
        ..Scan::of(OF_INDICATOR)
    };
    let mut pages = Pages::new(ctx.documents.as_ref(), index, scan);
    let mut held: HashMap<String, Vec<Named>> = HashMap::new();
    while let Some(page) = pages.next().await? {
        for document in page {
            for (id, named) in named(&document.body).filter(|(id, _)| wanted.contains(id)) {
                let of = held.entry(id).or_default();
                // One more than goes out, so that it is told.
                if of.len() <= ATTRIBUTES_MAX {
                    of.push(named);
                }
            }
        }
    }
    Ok(held)
}

/// What each pulse says of an indicator; what another one says of it, which may be private, is not said by this one.
fn named(body: &Body) -> impl Iterator<Item = (String, Named)> + '_ {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind: Option<IndicatorKind> = text("type").parse().ok();
    let content = text("content");
    // Of a rule the value is its hash.
    let value = if kind == Some(IndicatorKind::Yara) && !content.is_empty() {
        content
    } else {
        text("value")
    };
    let is_harmless = body
        .get("warninglists")
        .and_then(Value::as_array)
        .is_some_and(|lists| lists.iter().any(|list| list["category"] == "false_positive"));
    let pulses = body.get("pulses").and_then(Value::as_array).into_iter().flatten();
    pulses.filter(|of| of["left_at"].is_null()).filter_map(move |of| {
        let said = |name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let comments = [said("title"), said("description")];
        let comments: Vec<String> = comments.into_iter().filter(|text| !text.is_empty()).collect();
        Some((
            of["id"].as_str()?.to_owned(),
            Named {
                kind,
                value: value.to_owned(),
                comment: comments.join(": "),
                role: said("role"),
                first_seen: of["created"].as_str().and_then(|text| text.parse().ok()),
                is_harmless,
            },
        ))
    })
}

/// Names by which MISP's galaxies know actors and families, by any name that Malpedia has for them.
#[derive(Default)]
struct Names {
    actors: HashMap<String, String>,
    families: HashMap<String, String>,
}

impl Names {
    async fn read(ctx: &Ctx) -> Result<Self> {
        Ok(Self {
            actors: Self::of(ctx, "malpedia_actors", &["name"]).await?,
            families: Self::of(ctx, "malpedia_families", &["common_name", "name"]).await?,
        })
    }

    async fn of(ctx: &Ctx, index: &str, own: &[&str]) -> Result<HashMap<String, String>> {
        let fields = [own, &["names", "aka", "synonyms", "alt_names"]].concat();
        let index = Index::named(index)?;
        let mut names = HashMap::new();
        let mut pages = Pages::new(ctx.documents.as_ref(), index, Scan::of(&fields));
        while let Some(page) = pages.next().await? {
            for document in page {
                let one = Stored { id: document.id, body: document.body };
                let Some(name) =
                    own.iter().map(|name| one.text(name)).find(|name| !name.is_empty())
                else {
                    continue;
                };
                for other in fields.iter().flat_map(|field| one.texts(field)) {
                    // Its own name counts for more than that of another.
                    let is_own = other == name;
                    let key = other.to_lowercase();
                    if is_own || !names.contains_key(&key) {
                        names.insert(key, name.to_owned());
                    }
                }
            }
        }
        Ok(names)
    }
}

/// The event of a pulse; what it leaves out goes into `notes`.
fn event(
    one: &Stored,
    names: &Names,
    held: &[Named],
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Event {
    let uuid = one.event_id();
    let pulse_id = one.text("pulse_id");
    let name: String = one.text("name").split_whitespace().collect::<Vec<_>>().join(" ");
    let info = if name.is_empty() { format!("OTX pulse {pulse_id}") } else { name };
    let version = one.version();
    let day = |name: &str| one.text(name).get(..10).map(str::to_owned);
    let mut attributes = vec![Attribute::plain(uuid, "link", REPORT, &pulse::page(pulse_id))];
    let description: String = one.text("description").trim().chars().take(TEXT_MAX).collect();
    if !description.is_empty() {
        attributes.push(Attribute::plain(uuid, "comment", REPORT, &description));
    }
    for reference in one.texts("references") {
        let is_link = url::Url::parse(reference).is_ok_and(|url| url.has_host());
        attributes.push(Attribute::plain(
            uuid,
            if is_link { "link" } else { "text" },
            REPORT,
            reference.trim(),
        ));
    }
    for named in held {
        let kind = named.kind.unwrap_or(IndicatorKind::Other);
        let made = Attribute::of(uuid, kind, &named.value);
        let parts = [named.comment.as_str(), named.role.as_str()];
        let said: Vec<&str> = parts.into_iter().filter(|text| !text.is_empty()).collect();
        attributes.push(Attribute {
            to_ids: made.to_ids && !named.is_harmless,
            comment: said.join("; ").chars().take(TEXT_MAX).collect(),
            first_seen: named.first_seen,
            ..made
        });
    }
    // A server refuses the second of two that are equal, and with some databases it takes cases for equal.
    let mut seen = HashSet::new();
    attributes.retain(|one| {
        !one.value.is_empty() && seen.insert((one.category, one.kind, one.value.to_lowercase()))
    });
    if attributes.len() > ATTRIBUTES_MAX {
        notes.push(format!(
            "pulse {pulse_id} has more than {ATTRIBUTES_MAX} indicators: the rest does not go out"
        ));
        attributes.truncate(ATTRIBUTES_MAX);
    }
    for attribute in &mut attributes {
        attribute.timestamp = version;
    }
    Event {
        uuid,
        info,
        date: day("created").or_else(|| day("modified")).unwrap_or_else(|| "1970-01-01".to_owned()),
        timestamp: version,
        is_published: false,
        threat_level: if one.text("adversary").is_empty() { 3 } else { 2 },
        distribution: u8::try_from(settings.misp_distribution).ok(),
        tags: tags(one, names),
        attributes,
    }
}

const REPORT: &str = "External analysis";

/// The tags of a pulse. Those that its author made up are under `otx:`, as one may read `tlp:white` and mean nothing by it.
fn tags(one: &Stored, names: &Names) -> Vec<String> {
    let mut tags: Vec<String> =
        one.tlp().map(|tlp| format!("tlp:{}", tlp.as_str())).into_iter().collect();
    let quoted = |text: &str| text.replace('"', "'");
    let galaxy = |name: &str, cluster: &str| format!("misp-galaxy:{name}=\"{}\"", quoted(cluster));
    let own = |name: &str, value: &str| format!("otx:{name}=\"{}\"", quoted(value));
    for actor in one.texts("adversary") {
        tags.push(match names.actors.get(&actor.to_lowercase()) {
            Some(known) => galaxy("threat-actor", known),
            None => own("adversary", actor),
        });
    }
    for family in one.texts("malware_families") {
        tags.push(match names.families.get(&family.to_lowercase()) {
            Some(known) => galaxy("malpedia", known),
            None => own("malware-family", family),
        });
    }
    let techniques = techniques(&one.body);
    for technique in one.texts("attack_ids") {
        tags.push(match techniques.get(technique) {
            Some(name) => galaxy("mitre-attack-pattern", &format!("{name} - {technique}")),
            None => own("attack-id", technique),
        });
    }
    tags.extend(one.texts("industries").into_iter().map(|value| own("industry", value)));
    tags.extend(one.texts("targeted_countries").into_iter().map(|value| own("country", value)));
    tags.extend(one.texts("tags").into_iter().map(|value| format!("otx:{}", value.trim())));
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.to_lowercase()));
    tags
}

/// Names of techniques by their ids, where OTX gave both: `{id, name, display_name: "T1059 - Name"}`.
fn techniques(body: &Body) -> HashMap<&str, &str> {
    let all = body.get("raw").and_then(|raw| raw["attack_ids"].as_array());
    all.into_iter()
        .flatten()
        .filter_map(|one| {
            let id = one["id"].as_str()?;
            let name = one["name"].as_str().or_else(|| one["display_name"].as_str())?;
            let name =
                name.strip_prefix(id).map_or(name, |rest| rest.trim_start_matches([' ', '-']));
            (!name.is_empty()).then_some((id, name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &Value) -> Stored {
        Stored { id: "id".to_owned(), body: body.as_object().unwrap().clone() }
    }

    #[test]
    fn tags_say_what_galaxies_know_and_no_author_marks_a_pulse() {
        let names = Names {
            actors: HashMap::from([("sofacy".to_owned(), "APT28".to_owned())]),
            families: HashMap::from([("emotet".to_owned(), "Emotet".to_owned())]),
        };
        let one = stored(&json!({
            "tlp": "amber+strict", "adversary": "Sofacy", "malware_families": ["emotet", "New \"one\""],
            "attack_ids": ["T1059", "T1"], "tags": ["tlp:white", "TLP:White", "x"],
            "raw": {"attack_ids": [{"id": "T1059", "display_name": "T1059 - Command Line"}]},
        }));
        assert_eq!(
            tags(&one, &names),
            [
                "tlp:amber+strict",
                "misp-galaxy:threat-actor=\"APT28\"",
                "misp-galaxy:malpedia=\"Emotet\"",
                "otx:malware-family=\"New 'one'\"",
                "misp-galaxy:mitre-attack-pattern=\"Command Line - T1059\"",
                "otx:attack-id=\"T1\"",
                "otx:tlp:white",
                "otx:x",
            ]
        );
    }

    #[test]
    fn what_may_not_be_passed_on_stays() {
        for (pulse, why) in [
            (json!({"tlp": "green", "public": true, "active": true}), None),
            (json!({"tlp": "amber", "public": null}), None),
            (json!({"tlp": "red"}), Some("TLP:red")),
            (json!({"tlp": "clear", "public": false}), Some("private")),
            (json!({"tlp": "clear", "active": false}), Some("no longer on OTX")),
        ] {
            assert_eq!(stored(&pulse).stays(), why, "{pulse}");
        }
    }

    #[test]
    fn large_pulses_are_held_one_by_one() {
        let of = |count: u64| stored(&json!({"indicator_count": count}));
        let parts = in_parts(vec![of(10), of(19_000), of(1_000), of(90_000), of(1), of(0)]);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 2]);
    }
}
