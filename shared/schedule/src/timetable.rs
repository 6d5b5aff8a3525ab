//! The timetable, `infra/schedule.toml`: one row a task, read whole and checked whole.
//!
//! Both homes run from it: the runner reads the file, the cloud's rules are rendered from it. So a row's `when` must be
//! one that a rule could take. An operator's file may lie over it, with what it changes and nothing else. Every problem is
//! reported at once with its row, line and column, unknown keys and tasks among them: a misspelt key is a setting that
//! silently does not apply.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::nearest;
use super::{Api, Schedule, ScheduleError, zone};

/// Lambda's limits.
type MemoryMb = Limited<128, 10_240>;
type TimeoutS = Limited<1, 900>;
/// A year at the most: what was missed before is news to nobody.
type CatchUpH = Limited<1, 8_784>;
/// Hours for which missed firings are made up for where a row does not say.
const CATCH_UP_H: u32 = 24;
const NAME_LENGTH: RangeInclusive<usize> = 1..=64;

const DEFAULTS: &str = "defaults";

/// When each task runs, in one zone.
#[derive(Debug, Clone)]
pub struct Timetable {
    zone: TimeZone,
    rows: Vec<Row>,
}

/// One task's row, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub does: String,
    /// `None` for a task that runs on demand only, and for one that is disabled.
    pub when: Option<Schedule>,
    pub memory_mb: u32,
    pub timeout_s: u32,
    pub catch_up: CatchUp,
    /// Hours for which missed firings are made up for.
    pub catch_up_h: u32,
    pub overlap: Overlap,
    /// Whether it may fire by itself; one that may not still runs on demand.
    pub enabled: bool,
}

impl Row {
    /// When it fires, in a word or two.
    pub fn shown_when(&self) -> String {
        match &self.when {
            Some(when) => when.to_string(),
            None if self.enabled => "on demand".to_owned(),
            None => "disabled".to_owned(),
        }
    }
}

/// What becomes of firings that were missed while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run stands for all that were missed: each task looks at everything that is new.
    #[default]
    Once,
    Skip,
    All,
}

impl CatchUp {
    pub fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Skip => "skip",
            Self::All => "all",
        }
    }
}

/// What becomes of a firing while the one before is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It waits: two runs of a task would wait for the same sources.
    #[default]
    Queue,
    /// It is missed.
    Skip,
    /// Both are run.
    Allow,
}

impl Overlap {
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Skip => "skip",
            Self::Allow => "allow",
        }
    }
}

/// One run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing<'a> {
    pub at: Timestamp,
    pub row: &'a Row,
}

impl Timetable {
    /// Reads the file's text, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TimetableError> {
        let mut reader = TimetableReader { text, problems: Vec::new() };
        let timetable = reader.sheet().and_then(|sheet| reader.timetable(sheet));
        reader.finish(timetable)
    }

    /// Reads a timetable and another over it, which changes what it names: `[defaults]`, and rows of the first. The first is
    /// right; what is wrong with the second is said, tasks that the first has no row for among it.
    pub fn overlaid(text: &str, over: &str) -> Result<Self, TimetableError> {
        let mut reader = TimetableReader { text, problems: Vec::new() };
        let base = reader.sheet();
        let Some(mut base) = base.filter(|_| reader.problems.is_empty()) else {
            return reader.finish(None);
        };
        let mut reader = TimetableReader { text: over, problems: Vec::new() };
        let Some(sheet) = reader.sheet() else { return reader.finish(None) };
        reader.lay(&mut base, sheet);
        let timetable = reader.timetable(base);
        reader.finish(timetable)
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// All rows, in the file's order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The timetable without the rows that `keep` refuses.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&Row) -> bool) -> Self {
        self.rows.retain(|row| keep(row));
        self
    }

    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// What is due after `from`, up to and including `to`, in order of time and then of rows.
    ///
    /// The ends are those of a mark that moves: the next call starts from this one's `to` and misses and repeats nothing.
    pub fn firings(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Firing<'_>> {
        let mut due: Vec<(Firing<'_>, &Schedule)> = self
            .rows
            .iter()
            .filter_map(|row| {
                let when = row.when.as_ref()?;
                Some((Firing { at: when.next_after(from, &self.zone)?, row }, when))
            })
            .collect();
        std::iter::from_fn(move || {
            // `min_by_key` keeps the first of equals, which is the file's order.
            let (index, _) = due.iter().enumerate().min_by_key(|(_, (firing, _))| firing.at)?;
            let (firing, when) = due[index];
            if firing.at > to {
                return None;
            }
            match when.next_after(firing.at, &self.zone) {
                Some(at) => due[index].0.at = at,
                None => drop(due.remove(index)),
            }
            Some(firing)
        })
    }
}

/// Everything that is wrong with a timetable, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimetableError {
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The row's name, or `defaults`; none where the text is not TOML.
    pub row: Option<String>,
    /// From 1, as is the column, which counts characters.
    pub line: usize,
    pub column: usize,
    /// May have several lines: a schedule's error points into the schedule.
    pub message: String,
}

impl std::error::Error for TimetableError {}

impl fmt::Display for TimetableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.problems.len() == 1 { "" } else { "s" };
        write!(f, "read the timetable: {} problem{s}", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if let Some(row) = &self.row {
            write!(f, ", `{row}`")?;
        }
        write!(f, ": {}", self.message.trim_end().replace('\n', "\n  "))
    }
}

/// What `[defaults]` holds; all keys are required, in an operator's file none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsFields {
    memory_mb: Field<MemoryMb>,
    timeout_s: Field<TimeoutS>,
    zone: Field<Zone>,
}

/// What a row holds; only `does` is required, in an operator's file nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowFields {
    does: Field<OneLine>,
    when: Field<Rule>,
    memory_mb: Field<MemoryMb>,
    timeout_s: Field<TimeoutS>,
    catch_up: Field<CatchUp>,
    catch_up_h: Field<CatchUpH>,
    overlap: Field<Overlap>,
    enabled: Field<bool>,
}

/// The rows of a file as they are written, in its order.
struct Sheet {
    defaults: Option<(Section, DefaultsFields)>,
    rows: Vec<(Section, RowFields)>,
}

type Field<T> = Option<Spanned<Checked<T>>>;

/// A value, or what is wrong with it: one wrong value does not keep the others from being read.
struct Checked<T>(Result<T, String>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        Ok(Self(T::deserialize(value).map_err(|error| error.message().to_owned())))
    }
}

/// A whole number from `LEAST` to `MOST`.
struct Limited<const LEAST: u32, const MOST: u32>(u32);

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Limited<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let fits = u32::try_from(number).ok().filter(|number| (LEAST..=MOST).contains(number));
        let outside = || D::Error::custom(format!("`{number}` is not in {LEAST}-{MOST}"));
        fits.map(Self).ok_or_else(outside)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct OneLine(String);

impl TryFrom<String> for OneLine {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() || text.contains('\n') {
            return Err("it must be one line of text");
        }
        Ok(Self(text))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Rule(Schedule);

impl TryFrom<String> for Rule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Schedule::parse(&text, Api::Rule).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Zone(TimeZone);

impl TryFrom<String> for Zone {
    type Error = ScheduleError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        zone(&name).map(Self)
    }
}

/// Reads on after a problem, so that all of them are found.
struct TimetableReader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

/// The heading of one `[table]` of the file.
struct Section {
    name: String,
    start: usize,
}

struct Defaults {
    memory_mb: u32,
    timeout_s: u32,
    zone: TimeZone,
}

impl<'a> TimetableReader<'a> {
    fn finish(mut self, timetable: Option<Timetable>) -> Result<Timetable, TimetableError> {
        match timetable {
            Some(timetable) if self.problems.is_empty() => Ok(timetable),
            _ => {
                self.problems.sort_by_key(|problem| (problem.line, problem.column));
                Err(TimetableError { problems: self.problems })
            }
        }
    }

    /// The file as it is written; nothing where it is no TOML.
    fn sheet(&mut self) -> Option<Sheet> {
        let (document, faults) = DeTable::parse_recoverable(self.text);
        for fault in &faults {
            let start = fault.span().map_or(0, |span| span.start);
            let (line, _) = self.place(start);
            let line = self.text.lines().nth(line - 1).unwrap_or_default().trim();
            self.problem(None, start, format!("{}: `{line}`", fault.message()));
        }
        if !faults.is_empty() {
            return None;
        }
        let mut sections: Vec<_> = document.into_inner().into_iter().collect();
        // The map is in the order of names.
        sections.sort_by_key(|(name, _)| name.span().start);

        let mut sheet = Sheet { defaults: None, rows: Vec::new() };
        for (name, value) in sections {
            let section = Section { name: name.get_ref().to_string(), start: name.span().start };
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) if section.name == DEFAULTS => {
                    let fields = self.fields(&section, table, span);
                    sheet.defaults = fields.map(|fields| (section, fields));
                }
                DeValue::Table(table) => {
                    let fields = self.fields(&section, table, span);
                    sheet.rows.extend(fields.map(|fields| (section, fields)));
                }
                _ => {
                    let message = format!("`{}` is outside of a row", section.name);
                    self.problem(None, section.start, message);
                }
            }
        }
        Some(sheet)
    }

    /// Lays an operator's sheet over one that is right: what it names replaces what was there.
    fn lay(&mut self, base: &mut Sheet, over: Sheet) {
        if let (Some((_, known)), Some((_, fields))) = (&mut base.defaults, over.defaults) {
            replace(&mut known.memory_mb, fields.memory_mb);
            replace(&mut known.timeout_s, fields.timeout_s);
            replace(&mut known.zone, fields.zone);
        }
        for (section, fields) in over.rows {
            let Some((known_section, known)) =
                base.rows.iter_mut().find(|(known, _)| known.name == section.name)
            else {
                let names = base.rows.iter().map(|(known, _)| known.name.as_str());
                let hint = match nearest(&section.name, names.chain([DEFAULTS])) {
                    Some(near) => format!("hint: did you mean `{near}`?"),
                    None => "hint: `local-runner tasks` lists them all".to_owned(),
                };
                let message = format!("there is no task of this name\n{hint}");
                self.problem(Some(&section), section.start, message);
                continue;
            };
            known_section.start = section.start;
            // An hour that is given is meant, whatever the row below says.
            if fields.when.is_some() && fields.enabled.is_none() {
                known.enabled = None;
            }
            replace(&mut known.does, fields.does);
            replace(&mut known.when, fields.when);
            replace(&mut known.memory_mb, fields.memory_mb);
            replace(&mut known.timeout_s, fields.timeout_s);
            replace(&mut known.catch_up, fields.catch_up);
            replace(&mut known.catch_up_h, fields.catch_up_h);
            replace(&mut known.overlap, fields.overlap);
            replace(&mut known.enabled, fields.enabled);
        }
    }

    fn timetable(&mut self, sheet: Sheet) -> Option<Timetable> {
        let has_defaults = sheet.defaults.is_some();
        let defaults = sheet.defaults.and_then(|(section, fields)| self.defaults(&section, fields));
        if !has_defaults
            && !self.problems.iter().any(|known| known.row.as_deref() == Some(DEFAULTS))
        {
            let message =
                format!("`[{DEFAULTS}]` is missing: it gives `memory_mb`, `timeout_s` and `zone`");
            self.problem(None, 0, message);
        }
        let rows: Vec<Option<Row>> = sheet
            .rows
            .into_iter()
            .map(|(section, fields)| self.row(section, fields, defaults.as_ref()))
            .collect();
        let rows = rows.into_iter().collect::<Option<Vec<Row>>>()?;
        Some(Timetable { zone: defaults?.zone, rows })
    }

    fn defaults(&mut self, section: &Section, fields: DefaultsFields) -> Option<Defaults> {
        let memory_mb = self.required(section, "memory_mb", fields.memory_mb);
        let timeout_s = self.required(section, "timeout_s", fields.timeout_s);
        let zone = self.required(section, "zone", fields.zone);
        Some(Defaults { memory_mb: memory_mb?.0, timeout_s: timeout_s?.0, zone: zone?.0 })
    }

    fn row(
        &mut self,
        section: Section,
        fields: RowFields,
        defaults: Option<&Defaults>,
    ) -> Option<Row> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !section.name.chars().all(allowed) || !NAME_LENGTH.contains(&section.name.len()) {
            let message = "not a task's name: those have lower-case letters, digits and `_`, at most 64, as Lambda's functions do";
            self.problem(Some(&section), section.start, message.to_owned());
        }
        let does = self.required(&section, "does", fields.does);
        let when = self.optional(&section, "when", fields.when);
        let memory_mb = self.optional(&section, "memory_mb", fields.memory_mb);
        let timeout_s = self.optional(&section, "timeout_s", fields.timeout_s);
        let catch_up = self.optional(&section, "catch_up", fields.catch_up);
        let catch_up_h = self.optional(&section, "catch_up_h", fields.catch_up_h);
        let overlap = self.optional(&section, "overlap", fields.overlap);
        let enabled = self.optional(&section, "enabled", fields.enabled).unwrap_or(true);
        let defaults = defaults?;
        Some(Row {
            name: section.name,
            does: does?.0,
            when: when.map(|rule| rule.0).filter(|_| enabled),
            memory_mb: memory_mb.map_or(defaults.memory_mb, |memory| memory.0),
            timeout_s: timeout_s.map_or(defaults.timeout_s, |timeout| timeout.0),
            catch_up: catch_up.unwrap_or_default(),
            catch_up_h: catch_up_h.map_or(CATCH_UP_H, |hours| hours.0),
            overlap: overlap.unwrap_or_default(),
            enabled,
        })
    }

    /// The fields of a section. A key that serde refuses is reported and left out, and the others are read again.
    fn fields<T: DeserializeOwned>(
        &mut self,
        section: &Section,
        mut table: DeTable<'a>,
        span: Range<usize>,
    ) -> Option<T> {
        loop {
            let whole = Spanned::new(span.clone(), DeValue::Table(table.clone()));
            let error = match T::deserialize(ValueDeserializer::from(whole)) {
                Ok(fields) => return Some(fields),
                Err(error) => error,
            };
            let place = error.span();
            let start = place.as_ref().map_or(section.start, |place| place.start);
            self.problem(Some(section), start, with_hint(error.message()));
            let refused = table.iter().find(|(key, value)| {
                [key.span(), value.span()].iter().any(|span| Some(span) == place.as_ref())
            });
            let key = refused?.0.get_ref().to_string();
            table.remove(key.as_str());
        }
    }

    fn required<T>(&mut self, section: &Section, key: &str, field: Field<T>) -> Option<T> {
        if field.is_none() {
            self.problem(Some(section), section.start, format!("`{key}` is missing"));
        }
        self.optional(section, key, field)
    }

    fn optional<T>(&mut self, section: &Section, key: &str, field: Field<T>) -> Option<T> {
        let field = field?;
        let start = field.span().start;
        let wrong = |message: String| format!("`{key}`: {}", with_hint(&message));
        field
            .into_inner()
            .0
            .map_err(|message| self.problem(Some(section), start, wrong(message)))
            .ok()
    }

    fn problem(&mut self, section: Option<&Section>, start: usize, message: String) {
        let (line, column) = self.place(start);
        let row = section.map(|section| section.name.clone());
        self.problems.push(Problem { row, line, column, message });
    }

    /// Line and column of a byte, both from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// What is written replaces what was there.
fn replace<T>(known: &mut Option<T>, written: Option<T>) {
    if written.is_some() {
        *known = written;
    }
}

/// The message, with the word that was probably meant where serde says "unknown field `x`, expected one of ...".
fn with_hint(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let near = words
        .next()
        .filter(|_| message.starts_with("unknown "))
        .and_then(|unknown| nearest(unknown, words));
    match near {
        Some(near) => format!("{message}\nhint: did you mean `{near}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use expect_test::{Expect, expect};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{CatchUp, Firing, Overlap, Row, Timetable};

    fn ours() -> Timetable {
        Timetable::parse(include_str!("../../../infra/schedule.toml"))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A midnight in São Paulo.
    fn midnight() -> Timestamp {
        "2026-11-24T03:00:00Z".parse().unwrap()
    }

    #[track_caller]
    fn refuses(text: &str, expected: &Expect) {
        expected.assert_eq(&format!("{}\n", Timetable::parse(text).unwrap_err()));
    }

    const DEFAULTS: &str =
        "[defaults]\nmemory_mb = 256\ntimeout_s = 300\nzone = \"America/Sao_Paulo\"\n";

    #[test]
    fn rows_fire_next_at() {
        let timetable = ours();
        let mut shown = String::new();
        for row in timetable.rows().iter() {
            let Some(when) = &row.when else { continue };
            let next = when.firings_after(midnight(), timetable.zone()).take(3);
            let times: Vec<String> =
                next.map(|at| local(&timetable, at, "%m-%d %H:%M %:z")).collect();
            let times = times.join(", ");
            writeln!(shown, "{:<26}{times}", row.name).unwrap();
        }
        expect![[r#"
            collect_all_rss_feeds     11-24 02:00 -03:00, 11-24 04:00 -03:00, 11-24 06:00 -03:00
            enrich_malpedia_library   11-24 02:00 -03:00, 11-25 02:00 -03:00, 11-26 02:00 -03:00
            sync_all_misp_feeds       11-24 02:00 -03:00, 11-24 04:00 -03:00, 11-24 06:00 -03:00
            reset_otx_daily_usage     11-25 00:00 -03:00, 11-26 00:00 -03:00, 11-27 00:00 -03:00
            bulk_enrich_iocs          11-24 03:00 -03:00, 11-25 03:00 -03:00, 11-26 03:00 -03:00
            export_pulses_to_misp     11-24 04:00 -03:00, 11-25 04:00 -03:00, 11-26 04:00 -03:00
            sync_otx_pulses           11-24 09:00 -03:00, 11-24 21:00 -03:00, 11-25 09:00 -03:00
            sync_signature_base_yara  11-24 05:00 -03:00, 11-25 05:00 -03:00, 11-26 05:00 -03:00
            sync_signature_base_iocs  11-24 05:30 -03:00, 11-25 05:30 -03:00, 11-26 05:30 -03:00
            sync_caveiratech          11-24 10:00 -03:00, 11-24 22:00 -03:00, 11-25 10:00 -03:00
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn a_day_of_all_rows_looks_like_this() {
        let timetable = ours();
        let just_before = midnight() - jiff::SignedDuration::from_secs(1);
        let firings =
            timetable.firings(just_before, just_before + jiff::SignedDuration::from_hours(24));
        let mut day: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for Firing { at, row } in firings {
            day.entry(local(&timetable, at, "%H:%M")).or_default().push(&row.name);
        }
        let shown: String =
            day.iter().map(|(time, names)| format!("{time}  {}\n", names.join(", "))).collect();
        expect![[r#"
            00:00  collect_all_rss_feeds, sync_all_misp_feeds, reset_otx_daily_usage
            02:00  collect_all_rss_feeds, enrich_malpedia_library, sync_all_misp_feeds
            03:00  bulk_enrich_iocs
            04:00  collect_all_rss_feeds, sync_all_misp_feeds, export_pulses_to_misp
            05:00  sync_signature_base_yara
            05:30  sync_signature_base_iocs
            06:00  collect_all_rss_feeds, sync_all_misp_feeds
            08:00  collect_all_rss_feeds, sync_all_misp_feeds
            09:00  sync_otx_pulses
            10:00  collect_all_rss_feeds, sync_all_misp_feeds, sync_caveiratech
            12:00  collect_all_rss_feeds, sync_all_misp_feeds
            14:00  collect_all_rss_feeds, sync_all_misp_feeds
            16:00  collect_all_rss_feeds, sync_all_misp_feeds
            18:00  collect_all_rss_feeds, sync_all_misp_feeds
            20:00  collect_all_rss_feeds, sync_all_misp_feeds
            21:00  sync_otx_pulses
            22:00  collect_all_rss_feeds, sync_all_misp_feeds, sync_caveiratech
        "#]]
        .assert_eq(&shown);
    }

    fn local(timetable: &Timetable, at: Timestamp, form: &str) -> String {
        at.to_zoned(timetable.zone().clone()).strftime(form).to_string()
    }

    #[test]
    fn has_a_row_for_each_task_of_the_requirement() {
        let required = [
            "collect_all_rss_feeds",
            "collect_category",
            "collect_specific_sources",
            "sync_malpedia_library_rss",
            "sync_malpedia_library_bibtex",
            "sync_malpedia_library_full",
            "enrich_malpedia_library",
            "get_malpedia_library_stats",
            "check_malpedia_status",
            "sync_malpedia_families_to_es",
            "sync_malpedia_actors_to_es",
            "sync_malpedia_all_to_es",
            "sync_all_misp_feeds",
            "sync_single_feed",
            "quick_sync_all_feeds",
            "reset_otx_daily_usage",
            "bulk_enrich_iocs",
            "export_pulses_to_misp",
            "sync_otx_pulses",
            "test_otx_connection",
            "sync_signature_base_yara",
            "sync_signature_base_iocs",
            "sync_signature_base_all",
            "get_signature_base_stats",
            "sync_caveiratech",
            "full_sync_caveiratech",
            "get_caveiratech_stats",
        ];
        let timetable = ours();
        let missing: Vec<_> =
            required.into_iter().filter(|name| timetable.row(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(timetable.row("defaults").is_none());
    }

    #[test]
    fn says_all_that_is_wrong_at_once() {
        let text = r#"
[defaults]
memory_mb = 64
timeout = 300
zone = "America/Sao_Paolo"

[Sync-Pulses]
does = "Sync pulses"
when = "cron(0 25 * * ? *)"
catch_up = "twice"

[sync_feeds]
wen = "cron(0 9 * * ? *)"
timeout_s = 1000
enabled = "no"

[a_time]
does = ""
when = "at(2026-12-25T08:30:00)"
"#;
        let expected = expect![[r#"
            read the timetable: 13 problems
            line 2, column 2, `defaults`: `timeout_s` is missing
            line 3, column 13, `defaults`: `memory_mb`: `64` is not in 128-10240
            line 4, column 1, `defaults`: unknown field `timeout`, expected one of `memory_mb`, `timeout_s`, `zone`
              hint: did you mean `timeout_s`?
            line 5, column 8, `defaults`: `zone`: read zone `America/Sao_Paolo`: there is none of this name: zones have IANA names, as `America/Sao_Paulo`
              hint: `America/Sao_Paulo`?
            line 7, column 2, `Sync-Pulses`: not a task's name: those have lower-case letters, digits and `_`, at most 64, as Lambda's functions do
            line 9, column 8, `Sync-Pulses`: `when`: read `cron(0 25 * * ? *)`: `25` is not an hour: hours are 0-23
                cron(0 25 * * ? *)
                       ^^ hours
            line 10, column 12, `Sync-Pulses`: `catch_up`: unknown variant `twice`, expected one of `once`, `skip`, `all`
            line 12, column 2, `sync_feeds`: `does` is missing
            line 13, column 1, `sync_feeds`: unknown field `wen`, expected one of `does`, `when`, `memory_mb`, `timeout_s`, `catch_up`, `catch_up_h`, `overlap`, `enabled`
              hint: did you mean `when`?
            line 14, column 13, `sync_feeds`: `timeout_s`: `1000` is not in 1-900
            line 15, column 11, `sync_feeds`: `enabled`: invalid type: string "no", expected a boolean
            line 18, column 8, `a_time`: `does`: it must be one line of text
            line 19, column 8, `a_time`: `when`: read `at(2026-12-25T08:30:00)`: `at` belongs to Scheduler: a rule is `cron(...)` or `rate(...)`
        "#]];
        refuses(text, &expected);
    }

    #[test]
    fn says_where_the_text_is_not_toml() {
        let expected = expect![[r#"
            read the timetable: 1 problem
            line 1, column 10: unclosed table, expected `]`: `[defaults`
        "#]];
        refuses("[defaults\nzone = UTC\n", &expected);
        let expected = expect![[r#"
            read the timetable: 2 problems
            line 7, column 2: duplicate key: `[a]`
            line 8, column 1: duplicate key: `does = "B"`
        "#]];
        refuses(&format!("{DEFAULTS}[a]\ndoes = \"A\"\n[a]\ndoes = \"B\"\n"), &expected);
        let expected = expect![[r#"
            read the timetable: 2 problems
            line 1, column 1: `memory_mb` is outside of a row
            line 1, column 1: `[defaults]` is missing: it gives `memory_mb`, `timeout_s` and `zone`
        "#]];
        refuses("memory_mb = 256\n", &expected);
    }

    #[test]
    fn a_row_takes_what_it_leaves_out_from_the_defaults() {
        let text = format!(
            "{DEFAULTS}[b]\ndoes = \"B\"\ntimeout_s = 900\ncatch_up = \"skip\"\n[a]\ndoes = \"A\"\n"
        );
        let timetable = Timetable::parse(&text).unwrap();
        let row = |name: &str, timeout_s, catch_up| Row {
            name: name.to_owned(),
            does: name.to_uppercase(),
            when: None,
            memory_mb: 256,
            timeout_s,
            catch_up,
            catch_up_h: 24,
            overlap: Overlap::Queue,
            enabled: true,
        };
        assert_eq!(timetable.rows(), [row("b", 900, CatchUp::Skip), row("a", 300, CatchUp::Once)]);
    }

    /// A timetable of two rows that is laid under others.
    fn base() -> String {
        format!(
            "{DEFAULTS}[daily]\ndoes = \"D\"\nwhen = \"cron(0 0 * * ? *)\"\ntimeout_s = 900\n[asked]\ndoes = \"A\"\n"
        )
    }

    #[test]
    fn what_lies_over_a_timetable_changes_what_it_names() {
        let shown = |over: &str| {
            let timetable =
                Timetable::overlaid(&base(), over).unwrap_or_else(|error| panic!("{error}"));
            let rows: Vec<String> = timetable
                .rows()
                .iter()
                .map(|row| {
                    format!(
                        "{} {} {}s {}",
                        row.name,
                        row.shown_when(),
                        row.timeout_s,
                        row.memory_mb
                    )
                })
                .collect();
            format!("{}; {}", timetable.zone().iana_name().unwrap(), rows.join("; "))
        };
        let expected =
            "America/Sao_Paulo; daily cron(0 0 * * ? *) 900s 256; asked on demand 300s 256";
        assert_eq!(shown(""), expected);
        assert_eq!(shown("# nothing but a comment\n"), expected);
        assert_eq!(
            shown("[daily]\nwhen = \"rate(2 hours)\"\n"),
            "America/Sao_Paulo; daily rate(2 hours) 900s 256; asked on demand 300s 256"
        );
        assert_eq!(
            shown(
                "[asked]\nwhen = \"cron(30 1 * * ? *)\"\nmemory_mb = 512\n[daily]\nenabled = false\n"
            ),
            "America/Sao_Paulo; daily disabled 900s 256; asked cron(30 1 * * ? *) 300s 512"
        );
        assert_eq!(
            shown("[defaults]\nzone = \"UTC\"\ntimeout_s = 60\n"),
            "UTC; daily cron(0 0 * * ? *) 900s 256; asked on demand 60s 256"
        );
    }

    #[test]
    fn what_is_wrong_with_an_overlay_is_named_with_its_place() {
        let over = r#"
[dayly]
when = "cron(0 1 * * ? *)"
[asked]
when = "cron(0 25 * * ? *)"
[nothing_of_the_kind]
enabled = false
[daily]
enable = false
[default]
zone = "UTC"
"#;
        let expected = expect![[r#"
            read the timetable: 6 problems
            line 2, column 2, `dayly`: there is no task of this name
              hint: did you mean `daily`?
            line 5, column 8, `asked`: `when`: read `cron(0 25 * * ? *)`: `25` is not an hour: hours are 0-23
                cron(0 25 * * ? *)
                       ^^ hours
            line 6, column 2, `nothing_of_the_kind`: there is no task of this name
              hint: `local-runner tasks` lists them all
            line 9, column 1, `daily`: unknown field `enable`, expected one of `does`, `when`, `memory_mb`, `timeout_s`, `catch_up`, `catch_up_h`, `overlap`, `enabled`
              hint: did you mean `enabled`?
            line 10, column 2, `default`: there is no task of this name
              hint: did you mean `defaults`?
            line 11, column 1, `default`: unknown field `zone`, expected one of `does`, `when`, `memory_mb`, `timeout_s`, `catch_up`, `catch_up_h`, `overlap`, `enabled`
        "#]];
        expected.assert_eq(&format!("{}\n", Timetable::overlaid(&base(), over).unwrap_err()));
    }

    #[test]
    fn marks_that_follow_each_other_miss_and_repeat_nothing() {
        let timetable = ours();
        let hour = jiff::SignedDuration::from_hours(1);
        let marks: Vec<Timestamp> = (0..=48).map(|n| midnight() + hour * n).collect();
        let stepwise: Vec<Firing<'_>> =
            marks.windows(2).flat_map(|mark| timetable.firings(mark[0], mark[1])).collect();
        let at_once: Vec<Firing<'_>> = timetable.firings(midnight(), marks[48]).collect();
        assert_eq!(stepwise, at_once);
        assert!(at_once.is_sorted_by_key(|firing| firing.at));
    }

    #[test]
    fn a_row_that_has_ended_leaves_the_others_going() {
        let text = format!(
            "{DEFAULTS}[once]\ndoes = \"O\"\nwhen = \"cron(0 0 24 11 ? 2026)\"\n[daily]\ndoes = \"D\"\nwhen = \"cron(0 0 * * ? *)\"\n"
        );
        let timetable = Timetable::parse(&text).unwrap();
        let from = midnight() - jiff::SignedDuration::from_secs(1);
        let names: Vec<&str> = timetable
            .firings(from, Timestamp::MAX)
            .take(3)
            .map(|firing| firing.row.name.as_str())
            .collect();
        assert_eq!(names, ["once", "daily", "daily"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}|([\\[\\]a-z_=\" \n0-9.{}]){0,120}") {
            for read in [Timetable::parse(&text), Timetable::overlaid(&base(), &text)] {
                if let Err(error) = read {
                    prop_assert!(!error.problems.is_empty());
                }
            }
        }
    }
}
