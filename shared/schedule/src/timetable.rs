//! The timetable, `infra/schedule.toml`: one row a task, read whole and checked whole.
//!
//! Both homes run from it: the runner reads the file, the cloud's rules are rendered from it. So a row's `when` must be
//! one that a rule could take. Every problem is reported at once with its row and line, unknown keys among them: a
//! misspelt key is a setting that silently does not apply.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::nearest;
use super::{Api, Schedule, zone};

/// Lambda's limits.
const MEMORY_MB: RangeInclusive<u32> = 128..=10_240;
const TIMEOUT_S: RangeInclusive<u32> = 1..=900;
const NAME_LENGTH: RangeInclusive<usize> = 1..=64;

const DEFAULTS: &str = "defaults";
const KEYS_OF_DEFAULTS: [&str; 3] = ["memory_mb", "timeout_s", "zone"];
const KEYS_OF_A_ROW: [&str; 6] = ["does", "when", "memory_mb", "timeout_s", "catch_up", "built"];

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
    /// `None` for a task that runs on demand only.
    pub when: Option<Schedule>,
    pub memory_mb: u32,
    pub timeout_s: u32,
    pub catch_up: CatchUp,
    /// Whether the task exists yet; one that does not never fires.
    pub built: bool,
}

/// What becomes of firings that were missed while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUp {
    /// One run stands for all that were missed: each task looks at everything that is new.
    #[default]
    Once,
    Skip,
    All,
}

impl CatchUp {
    const ALL: [(&str, Self); 3] = [("once", Self::Once), ("skip", Self::Skip), ("all", Self::All)];

    pub fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Skip => "skip",
            Self::All => "all",
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
        let mut reader = Reader { text, problems: Vec::new() };
        let timetable = reader.timetable();
        match timetable {
            Some(timetable) if reader.problems.is_empty() => Ok(timetable),
            _ => {
                reader.problems.sort_by_key(|problem| problem.line);
                Err(TimetableError { problems: reader.problems })
            }
        }
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

    /// What is due after `from`, up to and including `to`, in order of time and then of rows; built rows only.
    ///
    /// The ends are those of a mark that moves: the next call starts from this one's `to` and misses and repeats nothing.
    pub fn firings(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Firing<'_>> {
        let mut due: Vec<(Firing<'_>, &Schedule)> = self
            .rows
            .iter()
            .filter(|row| row.built)
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
    pub line: usize,
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
        write!(f, "line {}", self.line)?;
        if let Some(row) = &self.row {
            write!(f, ", `{row}`")?;
        }
        write!(f, ": {}", self.message.trim_end().replace('\n', "\n  "))
    }
}

/// Reads on after a problem, so that all of them are found.
struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

/// One `[table]` of the file.
#[derive(Clone, Copy)]
struct Section<'a> {
    name: &'a str,
    span_start: usize,
    table: &'a DeTable<'a>,
}

impl Reader<'_> {
    fn timetable(&mut self) -> Option<Timetable> {
        let (document, faults) = DeTable::parse_recoverable(self.text);
        for fault in &faults {
            let at = fault.span().map_or(0, |span| span.start);
            let line = self.text.lines().nth(self.line(at) - 1).unwrap_or_default().trim();
            self.problem(None, at, format!("{}: `{line}`", fault.message()));
        }
        if !faults.is_empty() {
            return None;
        }
        let mut sections = Vec::new();
        for (name, value) in document.get_ref() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section {
                        name: name.get_ref(),
                        span_start: name.span().start,
                        table,
                    });
                }
                _ => {
                    let message = format!("`{}` stands outside of a row", name.get_ref());
                    self.problem(None, name.span().start, message);
                }
            }
        }
        // The map is in the order of names.
        sections.sort_by_key(|section| section.span_start);

        let defaults = sections.iter().find(|section| section.name == DEFAULTS).copied();
        let defaults = self.defaults(defaults);
        let rows: Vec<Option<Row>> = sections
            .iter()
            .filter(|section| section.name != DEFAULTS)
            .map(|section| self.row(*section, defaults.as_ref()))
            .collect();
        let rows = rows.into_iter().collect::<Option<Vec<Row>>>()?;
        Some(Timetable { zone: defaults?.zone, rows })
    }

    fn defaults(&mut self, section: Option<Section<'_>>) -> Option<Defaults> {
        let Some(section) = section else {
            self.problem(
                None,
                0,
                format!("`[{DEFAULTS}]` is missing: it gives {}", listed(&KEYS_OF_DEFAULTS)),
            );
            return None;
        };
        self.refuse_unknown_keys(section, &KEYS_OF_DEFAULTS);
        for key in KEYS_OF_DEFAULTS {
            if !section.table.contains_key(key) {
                self.problem(Some(section), section.span_start, format!("`{key}` is missing"));
            }
        }
        let memory_mb = self.number(section, "memory_mb", MEMORY_MB);
        let timeout_s = self.number(section, "timeout_s", TIMEOUT_S);
        let (name, span) = self.string(section, "zone")?;
        match zone(name) {
            Ok(zone) => Some(Defaults { memory_mb: memory_mb?, timeout_s: timeout_s?, zone }),
            Err(error) => {
                self.problem(Some(section), span.start, format!("`zone`: {error}"));
                None
            }
        }
    }

    fn row(&mut self, section: Section<'_>, defaults: Option<&Defaults>) -> Option<Row> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !section.name.chars().all(allowed) || !NAME_LENGTH.contains(&section.name.len()) {
            let message = "not a task's name: those have lower-case letters, digits and `_`, at most 64, as Lambda's functions do";
            self.problem(Some(section), section.span_start, message.to_owned());
        }
        self.refuse_unknown_keys(section, &KEYS_OF_A_ROW);
        if !section.table.contains_key("does") {
            let message = "`does` is missing: it says in one line what the task does";
            self.problem(Some(section), section.span_start, message.to_owned());
        }
        let does = self.string(section, "does").map(|(does, span)| {
            if does.trim().is_empty() || does.contains('\n') {
                self.problem(
                    Some(section),
                    span.start,
                    "`does` must be one line of text".to_owned(),
                );
            }
            does.to_owned()
        });
        let when = self.string(section, "when").and_then(|(when, span)| {
            match Schedule::parse(when, Api::Rule) {
                Ok(schedule) => Some(schedule),
                Err(error) => {
                    self.problem(Some(section), span.start, format!("`when`: {error}"));
                    None
                }
            }
        });
        let catch_up = self.string(section, "catch_up").and_then(|(given, span)| {
            let found = CatchUp::ALL.into_iter().find(|(name, _)| *name == given);
            if found.is_none() {
                let message = format!(
                    "`catch_up` is `{given}`: it is one of {}",
                    listed(&CatchUp::ALL.map(|(n, _)| n))
                );
                self.problem(Some(section), span.start, message);
            }
            found.map(|(_, catch_up)| catch_up)
        });
        let memory_mb = self.number(section, "memory_mb", MEMORY_MB);
        let timeout_s = self.number(section, "timeout_s", TIMEOUT_S);
        let built = self.flag(section, "built");
        let defaults = defaults?;
        Some(Row {
            name: section.name.to_owned(),
            does: does?,
            when,
            memory_mb: memory_mb.unwrap_or(defaults.memory_mb),
            timeout_s: timeout_s.unwrap_or(defaults.timeout_s),
            catch_up: catch_up.unwrap_or_default(),
            built: built.unwrap_or(true),
        })
    }

    fn refuse_unknown_keys(&mut self, section: Section<'_>, known: &[&str]) {
        for key in section.table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let hint = nearest(key.get_ref(), known.iter().copied())
                    .map(|near| format!("\nhint: `{near}`?"));
                let message =
                    format!("unknown key `{}`: the keys are {}", key.get_ref(), listed(known));
                self.problem(Some(section), key.span().start, message + &hint.unwrap_or_default());
            }
        }
    }

    fn string<'s>(&mut self, section: Section<'s>, key: &str) -> Option<(&'s str, Range<usize>)> {
        self.typed(section, key, "a text in quotes", DeValue::as_str)
    }

    fn flag(&mut self, section: Section<'_>, key: &str) -> Option<bool> {
        Some(self.typed(section, key, "`true` or `false`", DeValue::as_bool)?.0)
    }

    fn number(
        &mut self,
        section: Section<'_>,
        key: &str,
        allowed: RangeInclusive<u32>,
    ) -> Option<u32> {
        let wanted = format!("a whole number, {}-{}", allowed.start(), allowed.end());
        let read = |value: &DeValue<'_>| {
            let integer = value.as_integer()?;
            u32::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| allowed.contains(number))
        };
        Some(self.typed(section, key, &wanted, read)?.0)
    }

    /// A key's value, if it is there; a value of the wrong sort is a problem.
    fn typed<'s, T>(
        &mut self,
        section: Section<'s>,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'s DeValue<'s>) -> Option<T>,
    ) -> Option<(T, Range<usize>)> {
        let value: &Spanned<DeValue<'_>> = section.table.get(key)?;
        let span = value.span();
        let found = read(value.get_ref());
        if found.is_none() {
            let given =
                self.text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default();
            self.problem(
                Some(section),
                span.start,
                format!("`{key}` is `{given}`: it must be {wanted}"),
            );
        }
        found.map(|found| (found, span))
    }

    fn problem(&mut self, section: Option<Section<'_>>, at: usize, message: String) {
        self.problems.push(Problem {
            row: section.map(|section| section.name.to_owned()),
            line: self.line(at),
            message,
        });
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }
}

struct Defaults {
    memory_mb: u32,
    timeout_s: u32,
    zone: TimeZone,
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use expect_test::{Expect, expect};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{CatchUp, Firing, Row, Timetable};

    fn ours() -> Timetable {
        Timetable::parse(include_str!("../../../infra/schedule.toml"))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Our timetable with the rows that are not built yet.
    fn planned() -> Timetable {
        let mut timetable = ours();
        timetable.rows.iter_mut().for_each(|row| row.built = true);
        timetable
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
    fn built_rows_fire_next_at() {
        let timetable = ours();
        let mut shown = String::new();
        for row in timetable.rows().iter().filter(|row| row.built) {
            let Some(when) = &row.when else { continue };
            let next = when.firings_after(midnight(), timetable.zone()).take(3);
            let times: Vec<String> =
                next.map(|at| local(&timetable, at, "%m-%d %H:%M %:z")).collect();
            let times = times.join(", ");
            writeln!(shown, "{:<26}{times}", row.name).unwrap();
        }
        expect![[r#"
            collect_all_rss_feeds     11-24 02:00 -03:00, 11-24 04:00 -03:00, 11-24 06:00 -03:00
            sync_signature_base_yara  11-24 05:00 -03:00, 11-25 05:00 -03:00, 11-26 05:00 -03:00
            sync_signature_base_iocs  11-24 05:30 -03:00, 11-25 05:30 -03:00, 11-26 05:30 -03:00
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn a_day_of_all_rows_looks_like_this() {
        let timetable = planned();
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
built = "no"

[a_time]
does = ""
when = "at(2026-12-25T08:30:00)"
"#;
        let expected = expect![[r#"
                read the timetable: 13 problems
                line 2, `defaults`: `timeout_s` is missing
                line 3, `defaults`: `memory_mb` is `64`: it must be a whole number, 128-10240
                line 4, `defaults`: unknown key `timeout`: the keys are `memory_mb`, `timeout_s`, `zone`
                  hint: `timeout_s`?
                line 5, `defaults`: `zone`: read zone `America/Sao_Paolo`: there is none of this name: zones have IANA names, as `America/Sao_Paulo`
                  hint: `America/Sao_Paulo`?
                line 7, `Sync-Pulses`: not a task's name: those have lower-case letters, digits and `_`, at most 64, as Lambda's functions do
                line 9, `Sync-Pulses`: `when`: read `cron(0 25 * * ? *)`: `25` is not an hour: hours are 0-23
                    cron(0 25 * * ? *)
                           ^^ hours
                line 10, `Sync-Pulses`: `catch_up` is `twice`: it is one of `once`, `skip`, `all`
                line 12, `sync_feeds`: `does` is missing: it says in one line what the task does
                line 13, `sync_feeds`: unknown key `wen`: the keys are `does`, `when`, `memory_mb`, `timeout_s`, `catch_up`, `built`
                  hint: `when`?
                line 14, `sync_feeds`: `timeout_s` is `1000`: it must be a whole number, 1-900
                line 15, `sync_feeds`: `built` is `"no"`: it must be `true` or `false`
                line 18, `a_time`: `does` must be one line of text
                line 19, `a_time`: `when`: read `at(2026-12-25T08:30:00)`: `at` belongs to Scheduler: a rule is `cron(...)` or `rate(...)`
            "#]];
        refuses(text, &expected);
    }

    #[test]
    fn says_where_the_text_is_not_toml() {
        let expected = expect![[r#"
                read the timetable: 1 problem
                line 1: unclosed table, expected `]`: `[defaults`
            "#]];
        refuses("[defaults\nzone = UTC\n", &expected);
        let expected = expect![[r#"
                read the timetable: 2 problems
                line 7: duplicate key: `[a]`
                line 8: duplicate key: `does = "B"`
            "#]];
        refuses(&format!("{DEFAULTS}[a]\ndoes = \"A\"\n[a]\ndoes = \"B\"\n"), &expected);
        let expected = expect![[r#"
            read the timetable: 2 problems
            line 1: `memory_mb` stands outside of a row
            line 1: `[defaults]` is missing: it gives `memory_mb`, `timeout_s`, `zone`
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
            built: true,
        };
        assert_eq!(timetable.rows(), [row("b", 900, CatchUp::Skip), row("a", 300, CatchUp::Once)]);
    }

    #[test]
    fn marks_that_follow_each_other_miss_and_repeat_nothing() {
        let timetable = planned();
        let hour = jiff::SignedDuration::from_hours(1);
        let marks: Vec<Timestamp> = (0..=48).map(|n| midnight() + hour * n).collect();
        let stepwise: Vec<Firing<'_>> =
            marks.windows(2).flat_map(|mark| timetable.firings(mark[0], mark[1])).collect();
        let at_once: Vec<Firing<'_>> = timetable.firings(midnight(), marks[48]).collect();
        assert_eq!(stepwise, at_once);
        assert!(at_once.is_sorted_by_key(|firing| firing.at));
        assert!(ours().firings(midnight(), marks[48]).all(|firing| firing.row.built));
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
            if let Err(error) = Timetable::parse(&text) {
                prop_assert!(!error.problems.is_empty());
            }
        }
    }
}
