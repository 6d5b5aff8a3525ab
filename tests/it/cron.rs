//! The schedule grammar against the world: recorded vectors, and croner on what both of us read.

use std::fmt::Write;
use std::path::Path;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use schedule::{Api, Schedule, zone};

pub(crate) const TRIALS: &[crate::Case] =
    &[("passes_all_vectors", passes_all_vectors), ("agrees_with_croner", agrees_with_croner)];

/// Each row of `fixtures/cron/vectors.tsv` holds; the file's README explains its columns.
pub(crate) fn passes_all_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cron/vectors.tsv");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read `{}`: {error}", path.display()));
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), 148, "rows of vectors.tsv");
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|row| check_vector(row).err().map(|why| format!("{row}\n  {why}")))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} vectors fail:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}

fn check_vector(row: &str) -> Result<(), String> {
    let columns: Vec<&str> = row.split('\t').collect();
    let [_, kind, api, expression, zone_name, from, expected, ..] = columns[..] else {
        return Err("a row has ten columns".to_owned());
    };
    let apis = match api {
        "rule" => vec![Api::Rule],
        "scheduler" => vec![Api::Scheduler],
        _ => vec![Api::Rule, Api::Scheduler],
    };
    for api in apis {
        let read = Schedule::parse(expression, api);
        match kind {
            "valid" => drop(read.map_err(|error| error.to_string())?),
            "invalid" => {
                if read.is_ok() {
                    return Err(format!("{api:?} takes it"));
                }
            }
            _ => {
                let schedule = read.map_err(|error| error.to_string())?;
                let zone = zone(zone_name).map_err(|error| error.to_string())?;
                let instant =
                    |text: &str| text.parse::<Timestamp>().map_err(|error| error.to_string());
                // A rate counts from 1970 here, and Scheduler's from its start: the same steps, moved by their distance.
                let (start, after) = from
                    .strip_prefix("start=")
                    .and_then(|from| from.split_once(";after="))
                    .unwrap_or(("1970-01-01T00:00:00Z", from));
                let start = instant(start)?.duration_since(Timestamp::UNIX_EPOCH);
                let mut firings = schedule.firings_after(instant(after)? - start, &zone);
                for expected in expected.split(',') {
                    let found = firings
                        .next()
                        .map_or("none".to_owned(), |firing| (firing + start).to_string());
                    if found != expected {
                        return Err(format!("{api:?}: {found} instead of {expected}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Random expressions fire at the same instants here and in croner, an evaluator that shares no line with ours.
///
/// In UTC, as croner moves times out of a gap where AWS skips them. Left out of the expressions, because croner reads
/// them otherwise or not at all: ranges that wrap (`20-2`), `L-n`, a bare `L` among the days of the week, `L` beside `LW`
/// in one list (croner forgets the `L`), `*` inside a list, `*/4` among the years (croner counts it from year 1, not from
/// 1970), steps among the days of the week (which we refuse).
/// One difference is left and expected: see [`next_by_croner`].
pub(crate) fn agrees_with_croner() {
    let cases = setting("MINERVA_CRON_CASES", 20_000);
    let seed = setting("MINERVA_CRON_SEED", 20_261_123);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let stride = (first..cases).step_by(threads as usize);
                    stride.filter_map(|case| compare(seed, case).err()).take(5).collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a comparison only returns"))
            .collect()
    });
    assert!(
        failures.is_empty(),
        "of {cases} cases, with MINERVA_CRON_SEED={seed}, these differ (five a thread at most):\n{}",
        failures.join("\n")
    );
}

/// Per expression, from how many instants we search and how many firings in a row. Reading the expression takes croner
/// most of a case's time (its years are 5,000 bytes), so these come nearly free: a million cases are 15 million firings.
const STARTS: usize = 3;
const FIRINGS: usize = 5;

fn compare(seed: u64, case: u64) -> Result<(), String> {
    let mut random = Random::of(seed, case);
    let fields = random.expression();
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Required)
        .alternative_weekdays(true)
        .sloppy_ranges(true)
        .build();
    let expression = format!("cron({fields})");
    let ours =
        Schedule::parse(&expression, Api::Rule).map_err(|error| format!("case {case}: {error}"))?;
    let theirs = parser
        .parse(&format!("0 {fields}"))
        .map_err(|error| format!("case {case}: `{fields}`: {error}"))?;
    for _ in 0..STARTS {
        // From 1970 to the end of 2199, to the second.
        let start = Timestamp::from_second(random.below(7_258_118_400) as i64)
            .expect("it is in jiff's range");
        let mut from = Some(start);
        for _ in 0..FIRINGS {
            let Some(after) = from else { break };
            let mine = ours.next_after(after, &TimeZone::UTC);
            let other = next_by_croner(&theirs, after);
            if mine != other {
                let say = |firing: Option<Timestamp>| {
                    firing.map_or("none".to_owned(), |firing| firing.to_string())
                };
                let (mine, other) = (say(mine), say(other));
                return Err(format!(
                    "case {case}: {expression} after {after}: {mine} here, {other} there"
                ));
            }
            from = mine;
        }
    }
    Ok(())
}

/// croner's years end at 5000, AWS's at 2199: a later firing is none.
fn next_by_croner(cron: &croner::Cron, after: Timestamp) -> Option<Timestamp> {
    let after: Zoned = after.to_zoned(TimeZone::UTC);
    cron.find_next_occurrence(&after, false)
        .ok()
        .filter(|next| next.year() <= 2199)
        .map(|next| next.timestamp())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how many cases a test tries is no setting of the program"
)]
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: it must be a whole number"))
        }
        Err(_) => default,
    }
}

/// `SplitMix64`: enough for tests, and a case is repeated from its number alone.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seed: u64, case: u64) -> Self {
        Self(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Six fields of the grammar that croner and AWS read alike.
    pub(crate) fn expression(&mut self) -> String {
        const MONTHS: [&str; 12] =
            ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
        let minutes = self.numbers(0, 59, &[]);
        let hours = self.numbers(0, 23, &[]);
        let month = if self.one_in(2) { "*".to_owned() } else { self.numbers(1, 12, &MONTHS) };
        let year = if self.one_in(4) { self.years() } else { "*".to_owned() };
        let (day_of_month, day_of_week) = if self.one_in(2) {
            (self.days_of_month(), "?".to_owned())
        } else {
            ("?".to_owned(), self.days_of_week())
        };
        format!("{minutes} {hours} {day_of_month} {month} {day_of_week} {year}")
    }

    fn numbers(&mut self, least: u64, most: u64, names: &[&str]) -> String {
        if self.one_in(6) {
            return "*".to_owned();
        }
        self.list(|random| random.item(least, most, names))
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> String) -> String {
        let count = if self.one_in(3) { self.between(2, 4) } else { 1 };
        (0..count).map(|_| item(self)).collect::<Vec<_>>().join(",")
    }

    fn item(&mut self, least: u64, most: u64, names: &[&str]) -> String {
        let from = self.between(least, most);
        let to = self.between(from, most);
        let step = self.between(1, most.min(most - least + 1));
        let mut text = String::new();
        // Years have no `*/n` here: see `agrees_with_croner`.
        let form = if least == 1970 { self.between(1, 7) } else { self.below(8) };
        match form {
            0 => text.push('*'),
            1 | 2 => {
                text = format!("{}-{}", self.name(from, least, names), self.name(to, least, names));
            }
            _ => text = self.name(from, least, names),
        }
        if form == 0 || self.one_in(3) {
            let _infallible = write!(text, "/{step}");
        }
        text
    }

    fn name(&mut self, value: u64, least: u64, names: &[&str]) -> String {
        match names.get((value - least) as usize) {
            Some(name) if self.one_in(2) => (*name).to_owned(),
            _ if self.one_in(10) => format!("{value:02}"),
            _ => value.to_string(),
        }
    }

    fn years(&mut self) -> String {
        self.list(|random| random.item(1970, 2199, &[]))
    }

    fn days_of_month(&mut self) -> String {
        match self.below(8) {
            0 | 1 => "*".to_owned(),
            2 => "L".to_owned(),
            3 => "LW".to_owned(),
            4 => self.list(|random| format!("{}W", random.between(1, 31))),
            5 => self.list(|random| {
                if random.one_in(3) {
                    "L".to_owned()
                } else {
                    format!("{}W", random.between(1, 31))
                }
            }),
            6 => {
                self.list(
                    |random| {
                        if random.one_in(4) { "LW".to_owned() } else { random.item(1, 31, &[]) }
                    },
                )
            }
            _ => self.list(|random| random.item(1, 31, &[])),
        }
    }

    fn days_of_week(&mut self) -> String {
        const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
        match self.below(6) {
            0 => "*".to_owned(),
            1 => {
                let day = self.between(1, 7);
                format!("{}#{}", self.name(day, 1, &DAYS), self.between(1, 5))
            }
            2 => self.list(|random| {
                let day = random.between(1, 7);
                format!("{}L", random.name(day, 1, &DAYS))
            }),
            _ => self.list(|random| {
                let from = random.between(1, 7);
                let to = random.between(from, 7);
                let first = random.name(from, 1, &DAYS);
                match random.below(4) {
                    0 => format!("{first}L"),
                    1 => format!("{first}-{}", random.name(to, 1, &DAYS)),
                    _ => first,
                }
            }),
        }
    }
}
