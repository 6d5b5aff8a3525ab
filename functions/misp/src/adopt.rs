//! Indicators of the predecessor: each gets the id that its type and value give, under which a sync meets it again.

use indicator::{IndicatorKind, parse};
use serde_json::Value;
use stores::documents::{Adopter, Body, Identify};

use crate::feeds::{INDEX, NAME};

/// How the family knows its own.
pub(crate) const ADOPTER: Adopter = Adopter {
    index: INDEX,
    shared: &[],
    open: |_, _| {
        Box::pin(async {
            let identify: Identify = Box::new(identify);
            Ok(identify)
        })
    },
};

/// The id under which an indicator will be synced again. The predecessor stored values with quotes, defanged, and of the wrong
/// type, so the value is read anew: its own word for the type only tells what it may be.
fn identify(body: &Body) -> Option<String> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::trim);
    let value = text("ioc_value").or_else(|| text("value")).filter(|value| !value.is_empty())?;
    let value = value.trim_matches(['"', '\'', ' ']);
    let kind = match text("ioc_subtype").or_else(|| text("ioc_type")).or_else(|| text("type"))? {
        "ip" | "ip-dst" | "ip-src" => Some(IndicatorKind::Ipv4),
        "domain" | "hostname" => Some(IndicatorKind::Domain),
        "url" => Some(IndicatorKind::Url),
        "email" | "email-src" | "email-dst" => Some(IndicatorKind::Email),
        _ => None,
    };
    let found = kind.and_then(|kind| parse(Some(kind), value).ok());
    let found = found.or_else(|| parse(None, value).ok())?;
    Some(ioc::id(NAME, found.kind, &found.value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_indicator_is_known_by_its_value_however_it_was_stored() {
        let of = |value: Value| identify(value.as_object().unwrap());
        let url = Some(ioc::id(NAME, IndicatorKind::Url, "http://evil.com/a"));
        assert_eq!(of(json!({"ioc_value": "hxxp://evil[.]com/a", "ioc_type": "url"})), url);
        assert_eq!(of(json!({"ioc_value": " \"http://evil.com/a", "ioc_type": "other"})), url);
        assert_eq!(
            of(json!({"ioc_value": "D41D8CD98F00B204E9800998ECF8427E", "ioc_type": "hash"})),
            Some(ioc::id(NAME, IndicatorKind::Md5, "d41d8cd98f00b204e9800998ecf8427e"))
        );
        assert_eq!(of(json!({"ioc_value": " ", "ioc_type": "url"})), None);
        assert_eq!(of(json!({"ioc_value": "x"})), None);
    }
}
