//! A part of a body: what is asked for, and whether the answer is that.

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};

use super::call::Request;
use super::failure::Reason;

/// From where on a body is asked for, and of which version.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    pub(super) from: u64,
    pub(super) validator: &'a str,
}

impl Range<'_> {
    /// Whether less than all is asked for: without a strong validator the parts could be of two versions.
    pub(super) fn is_asked_for(&self) -> bool {
        self.from > 0 && !self.validator.is_empty() && !self.validator.starts_with("W/")
    }
}

/// The part that a status 206 brings, in bytes of the whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) starts_at: u64,
    /// The end of the whole body where it is known, of this part otherwise.
    pub(super) ends_at: u64,
}

impl Part {
    /// Reads and checks what a status of the 2xx range brings; `None` is all of the body.
    pub(super) fn of(
        request: &Request<'_>,
        status: u16,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, Reason> {
        if status != 206 {
            return Ok(None);
        }
        let malformed = |what: &str| Reason::Malformed(what.to_owned());
        let range = request.range.as_ref().filter(|range| range.is_asked_for());
        let range = range.ok_or_else(|| malformed("a part of what was asked for whole"))?;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (first, last, total) = text(CONTENT_RANGE.as_str())
            .and_then(content_range)
            .ok_or_else(|| malformed("a part without a readable `Content-Range`"))?;
        if first != range.from {
            return Err(malformed("another part than the one that was asked for"));
        }
        let length = text(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length != last - first + 1) {
            return Err(malformed("a part of another length than its `Content-Range`"));
        }
        let is_etag = range.validator.starts_with('"');
        if is_etag && text(ETAG.as_str()).is_some_and(|etag| etag != range.validator) {
            return Err(malformed("a part of another version"));
        }
        let ends_at = total.unwrap_or(last + 1);
        if ends_at > request.limits.max_body {
            return Err(Reason::TooLarge { cap: request.limits.max_body });
        }
        Ok(Some(Self { starts_at: first, ends_at }))
    }
}

/// Reads `bytes 5-9/10` and `bytes 5-9/*`: first and last byte, and the length of the whole where it is known.
fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let number = |digits: &str| -> Option<u64> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (unit, range) = value.trim().split_once(' ')?;
    let (range, total) = range.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    let is_sound = first <= last && last < total.unwrap_or(u64::MAX);
    (unit.eq_ignore_ascii_case("bytes") && is_sound).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_content_range_is_read_or_refused() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range(" Bytes  5-9/* "), Some((5, 9, None)));
        assert_eq!(content_range("bytes 0-0/1"), Some((0, 0, Some(1))));
        for other in [
            "",
            "bytes",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes 5-9/",
            "bytes -5-9/10",
            "bytes +5-9/10",
            "bytes 5-9",
            "lines 5-9/10",
            "bytes 5-18446744073709551615/*",
            "bytes 5-99999999999999999999/*",
        ] {
            assert_eq!(content_range(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_is_survived(value: String, near in "bytes [0-9]{0,21}-[0-9]{0,21}/[0-9*]{0,21}") {
            for value in [value, near] {
                if let Some((first, last, total)) = content_range(&value) {
                    prop_assert!(first <= last && last < u64::MAX && total.is_none_or(|total| last < total));
                }
            }
        }
    }
}
