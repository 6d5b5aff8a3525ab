//! Dates in Portuguese that count from now: `há 2 horas`, `ontem às 14h30`, `3 dias atrás`.
//!
//! What is said in minutes or hours is an instant, as exact as it was said; what is said in days or longer is the beginning of a
//! day where the reader is.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Words of such a date at most.
const WORDS_MAX: usize = 8;
/// Amounts beyond it are no dates.
const AMOUNT_MAX: i64 = 10_000;

/// The instant that a Portuguese text means at `now` in `zone`; `None` where it is no such date.
pub fn relative(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if text.len() > super::LENGTH_MAX {
        return None;
    }
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '.' | '(' | ')'))
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() || words.len() > WORDS_MAX {
        return None;
    }
    let here = now.to_zoned(zone.clone());
    day_named(&words, &here).or_else(|| ago(&words, &here)).map(|date| date.timestamp())
}

/// `hoje`, `ontem` or `anteontem`, and the time of day where it is said.
fn day_named(words: &[&str], here: &Zoned) -> Option<Zoned> {
    let (days, rest) = match words {
        ["hoje", rest @ ..] => (0, rest),
        ["ontem", rest @ ..] => (1, rest),
        ["anteontem", rest @ ..] | ["antes", "de", "ontem", rest @ ..] => (2, rest),
        _ => return None,
    };
    let day = here.checked_sub(days.days()).ok()?.start_of_day().ok()?;
    match rest {
        [] => Some(day),
        ["às" | "as" | "à" | "a", clock] | [clock] => {
            let (hour, minute) = clock.split_once([':', 'h']).unwrap_or((clock, ""));
            let minute = if minute.is_empty() { "0" } else { minute };
            day.with().hour(hour.parse().ok()?).minute(minute.parse().ok()?).build().ok()
        }
        _ => None,
    }
}

/// `há [cerca de] 2 horas`, `2 horas atrás`, `agora`.
fn ago(words: &[&str], here: &Zoned) -> Option<Zoned> {
    let rest = match words {
        ["agora"] | ["agora", "mesmo"] | ["há" | "ha", "pouco"] => return Some(here.clone()),
        ["há" | "ha" | "faz", rest @ ..] => rest,
        [rest @ .., "atrás" | "atras"] => rest,
        _ => return None,
    };
    let rest =
        rest.strip_suffix(&["atrás"]).or_else(|| rest.strip_suffix(&["atras"])).unwrap_or(rest);
    let rest = match rest {
        ["cerca" | "mais" | "quase", "de", rest @ ..] | ["quase", rest @ ..] => rest,
        rest => rest,
    };
    let (amount, unit) = match rest {
        [amount, unit] => (number(amount)?, *unit),
        _ => return None,
    };
    let back = |span: jiff::Span| here.checked_sub(span).ok();
    let day = |span: jiff::Span| back(span)?.start_of_day().ok();
    match unit {
        "segundo" | "segundos" | "seg" | "s" => back(amount.seconds()),
        "minuto" | "minutos" | "min" | "mins" => back(amount.minutes()),
        "hora" | "horas" | "h" => back(amount.hours()),
        "dia" | "dias" | "d" => day(amount.days()),
        "semana" | "semanas" => day(amount.weeks()),
        "mês" | "mes" | "meses" => day(amount.months()),
        "ano" | "anos" => day(amount.years()),
        _ => None,
    }
}

fn number(word: &str) -> Option<i64> {
    let words = ["um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove", "dez"];
    let amount = match word {
        "uma" => 1,
        "duas" => 2,
        "tres" => 3,
        _ => match words.iter().position(|known| *known == word) {
            Some(place) => i64::try_from(place).ok()? + 1,
            None => word.parse().ok()?,
        },
    };
    (0..=AMOUNT_MAX).contains(&amount).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portuguese_says_how_long_ago() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        // 22:30 of the day before in São Paulo.
        let now: Timestamp = "2025-03-12T01:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("há 2 horas", Some("2025-03-11T23:30:00Z")),
            ("Há cerca de uma hora", Some("2025-03-12T00:30:00Z")),
            ("5 minutos atrás", Some("2025-03-12T01:25:00Z")),
            ("há dez minutos atrás", Some("2025-03-12T01:20:00Z")),
            ("agora mesmo", Some("2025-03-12T01:30:00Z")),
            ("hoje", Some("2025-03-11T03:00:00Z")),
            ("Ontem", Some("2025-03-10T03:00:00Z")),
            ("ontem às 14h30", Some("2025-03-10T17:30:00Z")),
            ("hoje, 9:05", Some("2025-03-11T12:05:00Z")),
            ("anteontem", Some("2025-03-09T03:00:00Z")),
            ("há 3 dias", Some("2025-03-08T03:00:00Z")),
            ("há duas semanas", Some("2025-02-25T03:00:00Z")),
            ("há um mês", Some("2025-02-11T03:00:00Z")),
            ("há 99999 dias", None),
            ("há muito tempo", None),
            ("ontem às 99h", None),
            ("o ataque de ontem", None),
            ("12 de março de 2025", None),
            ("", None),
        ] {
            let found = relative(text, now, &zone).map(|date| date.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(há|ontem|hoje|faz|[0-9]{1,20}|horas|dias|anos|atrás|às|[0-9]{1,3}h|.| ){0,12}") {
            let zone = TimeZone::get("America/Sao_Paulo").unwrap();
            let _ = relative(&text, Timestamp::MAX, &zone);
            let _ = relative(&text, Timestamp::MIN, &zone);
        }
    }
}
