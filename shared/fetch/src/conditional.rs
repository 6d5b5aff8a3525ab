//! What a server says about time and sameness: validators, `Retry-After`.

use std::time::Duration;

use base::validators::Validators;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use reqwest::header::{ETAG, HeaderMap, HeaderName, LAST_MODIFIED};

/// The longest `Retry-After` that is believed; a source must not be able to silence itself for years.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest validator that is returned; they are stored for each source.
const VALIDATOR_MAX: usize = 1024;

/// What the server says to tell this version of the body from the next.
pub(super) fn validators(headers: &HeaderMap) -> Validators {
    Validators { etag: text(headers, ETAG), last_modified: text(headers, LAST_MODIFIED) }
}

/// The header's value as it came, if it is UTF-8 and of a sensible length.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
    (!value.is_empty() && value.len() <= VALIDATOR_MAX).then(|| value.to_owned())
}

/// Reads `Retry-After` in both its forms, seconds and HTTP-date, capped at [`RETRY_AFTER_MAX`]; a date gone by is zero.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = match seconds(value) {
        Some(wait) => wait,
        None => Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Digits only; more of them than fit are the largest number.
fn seconds(value: &str) -> Option<Duration> {
    let digits = value.trim();
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

/// Reads RFC 9110's three date forms; all are in UTC.
fn http_date(value: &str) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);
    let value = value.trim();
    if let Ok(timestamp) = PARSER.parse_timestamp(value) {
        return Some(timestamp);
    }
    let civil = |format, value| -> Option<DateTime> {
        strtime::parse(format, value).ok()?.to_datetime().ok()
    };
    let rfc_850 = || civil("%d-%b-%y %H:%M:%S GMT", value.split_once(", ")?.1);
    let asctime = || civil("%b %e %H:%M:%S %Y", value.split_once(' ')?.1);
    rfc_850().or_else(asctime)?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";

    #[track_caller]
    fn check(value: &str, expected: Option<u64>) {
        let wait = retry_after(value, NOW.parse().unwrap());
        assert_eq!(wait, expected.map(Duration::from_secs), "{value}");
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("86401", Some(86400));
        check("99999999999999999999999", Some(86400));
        check("Mon, 23 Nov 2026 12:00:07 GMT", Some(7));
        check("Sun, 23 Nov 2026 12:00:07 GMT", Some(7));
        check("Monday, 23-Nov-26 12:00:07 GMT", Some(7));
        check("Mon Nov 23 12:00:07 2026", Some(7));
        check("Thu Dec  3 12:00:07 2026", Some(86400));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0));
        check("Sun, 06 Nov 9994 08:49:37 GMT", Some(86400));
        for malformed in
            ["", "-1", "1.5", "soon", "1s", "+5", "Mon, 99 Nov 2026 12:00:07 GMT", "２"]
        {
            check(malformed, None);
        }
    }

    proptest! {
        #[test]
        fn retry_after_survives_any_string(value: String, second in -377_705_000_000i64..253_400_000_000) {
            let wait = retry_after(&value, Timestamp::from_second(second).unwrap());
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }

        #[test]
        fn retry_after_survives_what_looks_like_a_date(value in "[A-Z][a-z]{2,8},? [0-9]{1,3}[- ][A-Z][a-z]{2}[- ][0-9]{1,5} [0-9]{1,2}:[0-9:]{1,5} ?(GMT)?[0-9]{0,5}") {
            let wait = retry_after(&value, NOW.parse().unwrap());
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }

        #[test]
        fn every_second_is_read_back_from_its_http_date(ahead in 0i64..86_400) {
            let now: Timestamp = NOW.parse().unwrap();
            let then = Timestamp::from_second(now.as_second() + ahead).unwrap();
            for format in ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
                let value = then.strftime(format).to_string();
                prop_assert_eq!(retry_after(&value, now), Some(Duration::from_secs(ahead as u64)), "{}", value);
            }
        }
    }

    #[test]
    fn validators_are_kept_verbatim_unless_absurd() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_bytes("W/\"é\"".as_bytes()).unwrap());
        headers.insert(LAST_MODIFIED, HeaderValue::from_static("yesterday-ish"));
        let validators = validators(&headers);
        assert_eq!(validators.etag.as_deref(), Some("W/\"é\""));
        assert_eq!(validators.last_modified.as_deref(), Some("yesterday-ish"));
        headers.insert(ETAG, HeaderValue::from_str(&"x".repeat(VALIDATOR_MAX + 1)).unwrap());
        headers.insert(LAST_MODIFIED, HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(super::validators(&headers).is_empty());
    }
}
