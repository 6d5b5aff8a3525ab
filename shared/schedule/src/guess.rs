//! What a text that is no schedule was probably meant to be. Only what reads as a schedule is proposed.

use super::Schedule;
use super::cron::WEEKDAYS;
use super::grammar::{Api, MAX_LENGTH};

/// A hint for the usual slips: no wrapper, the five fields of unix, the seven of Quartz, a nickname.
pub(super) fn what_was_meant(text: &str, api: Api) -> Option<String> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = inside_of_cron(text).unwrap_or(text).split_ascii_whitespace().collect();
    if let Some(meant) = nickname(&lower) {
        return Some(format!("`{meant}`"));
    }
    if let Some(meant) = from_unix(&words) {
        return Some(format!("unix cron has five fields, AWS six: `{meant}`"));
    }
    // Quartz and Spring put seconds first; a `*` too many is the other way to get seven.
    if words.len() == 7 {
        let without_seconds = format!("cron({})", words[1..].join(" "));
        if reads(&without_seconds, api) {
            return Some(format!("AWS has no seconds: `{without_seconds}`"));
        }
        let without_last = format!("cron({})", words[..6].join(" "));
        return reads(&without_last, api).then(|| format!("`{without_last}`"));
    }
    let bare = lower.strip_prefix("every ").unwrap_or(&lower);
    [
        format!("cron({text})"),
        format!("rate({bare})"),
        format!("at({text})"),
        lower.clone(),
        format!("{text})"),
    ]
    .into_iter()
    .find(|meant| reads(meant, api))
    .map(|meant| format!("`{meant}`"))
}

fn nickname(text: &str) -> Option<&'static str> {
    Some(match text {
        "@hourly" => "cron(0 * * * ? *)",
        "@daily" | "@midnight" => "cron(0 0 * * ? *)",
        "@weekly" => "cron(0 0 ? * SUN *)",
        "@monthly" => "cron(0 0 1 * ? *)",
        "@yearly" | "@annually" => "cron(0 0 1 1 ? *)",
        _ => return None,
    })
}

/// What a five-field unix line means here, if it can be said.
fn from_unix(words: &[&str]) -> Option<String> {
    let [minutes, hours, day_of_month, month, day_of_week] = words else { return None };
    let with_year = |day_of_month: &str, day_of_week: &str| {
        let text = format!("cron({minutes} {hours} {day_of_month} {month} {day_of_week} *)");
        reads(&text, Api::Rule).then_some(text)
    };
    match (*day_of_month, *day_of_week) {
        // Written for AWS already, the year left out.
        ("?", _) | (_, "?") => with_year(day_of_month, day_of_week),
        (_, "*") => with_year(day_of_month, "?"),
        ("*", days) => with_year("?", &weekdays_by_name(days)),
        // Unix takes either day; AWS cannot say that in one schedule.
        _ => None,
    }
}

/// Unix counts weekdays from 0 = Sunday (7 as well), AWS from 1: names mean the same to both.
fn weekdays_by_name(days: &str) -> String {
    let name = |c: char| c.to_digit(8).map(|day| WEEKDAYS[day as usize % 7].to_owned());
    days.chars().map(|c| name(c).unwrap_or_else(|| c.to_string())).collect()
}

fn inside_of_cron(text: &str) -> Option<&str> {
    text.strip_prefix("cron(")?.strip_suffix(')')
}

fn reads(text: &str, api: Api) -> bool {
    Schedule::read(text, api).is_ok()
}
