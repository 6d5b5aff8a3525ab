//! What a month costs at list price: the timetable's runs by how long they take, and what stands in the template.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schedule::Timetable;
use serde::Serialize;

use crate::template::Architecture;
use crate::utc::FROM;
use crate::yaml::Node;

/// List prices in US dollars of us-east-1, early 2026; sources in docs/CLOUD.md.
mod price {
    /// A second of a GB of memory.
    pub(super) const ARM_GB_S: f64 = 0.000_013_333_4;
    pub(super) const X86_GB_S: f64 = 0.000_016_666_7;
    pub(super) const REQUEST: f64 = 0.20 / 1e6;
    pub(super) const EVENT: f64 = 1.0 / 1e6;
    pub(super) const LOGS_GB: f64 = 0.50;
    pub(super) const ALARM: f64 = 0.10;
    pub(super) const METRIC: f64 = 0.30;
    pub(super) const SECRET: f64 = 0.40;
    pub(super) const STORED_GB: f64 = 0.023;
    /// A NAT gateway for a month of 730 hours, without what goes through it.
    pub(super) const NAT: f64 = 0.045 * 730.0;
}

/// What the stack may cost in a month without its stores.
pub const LIMIT: f64 = 1.0;

/// Memory that comes with the whole of one processor, in MB. Source: AWS's "Configure Lambda function memory".
const PROCESSOR_MB: f64 = 1_769.0;

/// What a scheduled run takes, in seconds.
struct Run {
    task: &'static str,
    /// Until sources and stores have answered: assumed, with room.
    waits_s: f64,
    /// Its own work on a whole processor, measured: docs/CLOUD.md says on what.
    works_s: f64,
}

const fn run(task: &'static str, waits_s: f64, works_s: f64) -> Run {
    Run { task, waits_s, works_s }
}

const RUNS: &[Run] = &[
    run("collect_all_rss_feeds", 20.0, 0.53),
    run("sync_all_misp_feeds", 60.0, 2.44),
    run("sync_otx_pulses", 120.0, 1.65),
    run("bulk_enrich_iocs", 600.0, 0.33),
    run("enrich_malpedia_library", 300.0, 0.81),
    run("export_pulses_to_misp", 60.0, 0.10),
    run("sync_signature_base_yara", 10.0, 2.69),
    run("sync_signature_base_iocs", 10.0, 2.69),
    run("sync_caveiratech", 30.0, 0.84),
    run("reset_otx_daily_usage", 5.0, 0.25),
];

/// Bytes that a run logs.
const LOG_BYTES: f64 = 10e3;

/// Bytes of all artefacts, zipped, with some room: 219 MB were measured for arm64, 232 MB for `x86_64`.
const ARTEFACT_BYTES: f64 = 250e6;

/// A row's share of the bill.
#[derive(Clone, Debug, Serialize)]
pub struct RowCost {
    pub task: String,
    pub runs: f64,
    /// Billed for each run.
    pub seconds: f64,
    /// Of these its own work, had it a whole processor.
    pub works_s: f64,
    pub gb_s: f64,
    pub dollars: f64,
}

/// Something else that is billed.
#[derive(Clone, Debug, Serialize)]
pub struct ItemCost {
    pub what: String,
    pub dollars: f64,
}

/// A month's bill.
#[derive(Clone, Debug, Serialize)]
pub struct Bill {
    pub rows: Vec<RowCost>,
    pub items: Vec<ItemCost>,
    pub dollars: f64,
}

/// The bill of a timetable and the template that was made of it, free tiers left out.
pub fn bill(timetable: &Timetable, template: &Node, architecture: Architecture) -> Bill {
    let gb_s_price = match architecture {
        Architecture::Arm64 => price::ARM_GB_S,
        Architecture::X86 => price::X86_GB_S,
    };
    let mut rows = Vec::new();
    for row in timetable.rows() {
        let Some(when) = &row.when else { continue };
        let end: Timestamp = FROM + SignedDuration::from_hours(24 * 365);
        let before = FROM - SignedDuration::from_secs(1);
        let in_a_year =
            when.firings_after(before, timetable.zone()).take_while(|firing| *firing < end).count();
        let runs = in_a_year as f64 / 12.0;
        // One that is not listed is billed for as long as it may run.
        let limit = f64::from(row.timeout_s);
        let share = (f64::from(row.memory_mb) / PROCESSOR_MB).min(1.0);
        let listed = RUNS.iter().find(|run| run.task == row.name);
        let seconds = listed.map_or(limit, |run| run.waits_s + run.works_s / share).min(limit);
        let works_s = listed.map_or(0.0, |run| run.works_s);
        let gb_s = runs * seconds * f64::from(row.memory_mb) / 1024.0;
        rows.push(RowCost {
            task: row.name.clone(),
            runs,
            seconds,
            works_s,
            gb_s,
            dollars: gb_s * gb_s_price,
        });
    }
    let runs: f64 = rows.iter().map(|row| row.runs).sum();
    let compute: f64 = rows.iter().map(|row| row.dollars).sum();
    let counted = kinds(template);
    let count = |kind: &str| counted.get(kind).copied().unwrap_or(0) as f64;
    let (alarms, metrics) = (count("AWS::CloudWatch::Alarm"), count("AWS::Logs::MetricFilter"));
    let secrets = count("AWS::SecretsManager::Secret");
    let nats = count("AWS::EC2::NatGateway");
    let item = |what: String, dollars: f64| ItemCost { what, dollars };
    let items = vec![
        item(format!("compute, {runs:.0} runs"), compute),
        item(
            "requests and events, one continuation a run".to_owned(),
            runs * 2.0 * (price::REQUEST + price::EVENT),
        ),
        item(
            format!("logs, {:.0} kB a run", LOG_BYTES / 1e3),
            runs * LOG_BYTES / 1e9 * price::LOGS_GB,
        ),
        item(format!("alarms: {alarms}"), alarms * price::ALARM),
        item(format!("metrics: {metrics}"), metrics * price::METRIC),
        item(format!("secrets: {secrets}"), secrets * price::SECRET),
        item(format!("NAT gateways: {nats}"), nats * price::NAT),
        item(
            format!("artefacts, {:.0} MB", ARTEFACT_BYTES / 1e6),
            ARTEFACT_BYTES / 1e9 * price::STORED_GB,
        ),
    ];
    let dollars = items.iter().map(|item| item.dollars).sum();
    Bill { rows, items, dollars }
}

/// How many resources of each type a template has.
pub fn kinds(template: &Node) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    let Node::Map(sections) = template else { return counted };
    let resources = sections.iter().find(|(name, _)| name == "Resources");
    if let Some((_, Node::Map(resources))) = resources {
        for (_, resource) in resources {
            let Node::Map(resource) = resource else { continue };
            if let Some((_, Node::Text(kind))) = resource.iter().find(|(key, _)| key == "Type") {
                *counted.entry(kind.clone()).or_default() += 1;
            }
        }
    }
    counted
}

impl Bill {
    /// The bill as tables of Markdown.
    pub fn page(&self) -> String {
        let mut page =
            "| row | runs a month | work, s | billed, s | GB-s | $ |\n|---|---|---|---|---|---|\n"
                .to_owned();
        for row in &self.rows {
            page.push_str(&format!(
                "| `{}` | {:.0} | {:.2} | {:.0} | {:.0} | {:.3} |\n",
                row.task, row.runs, row.works_s, row.seconds, row.gb_s, row.dollars
            ));
        }
        page.push_str("\n| item | $ a month |\n|---|---|\n");
        for item in &self.items {
            page.push_str(&format!("| {} | {:.3} |\n", item.what, item.dollars));
        }
        page.push_str(&format!("| **all** | **{:.2}** |\n", self.dollars));
        page
    }
}
