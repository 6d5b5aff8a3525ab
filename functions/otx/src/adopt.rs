//! Pulses and indicators of the predecessor: each gets the id that the next sync gives to the same thing.
//!
//! It stored an indicator once for each pulse, as OTX wrote it; here all of one value meet.

use serde_json::Value;
use stores::documents::{Adopter, Body, Identify};

use crate::settings::NAME;
use crate::wire::indicator_of;
use crate::{indicators, pulse};

/// How the family knows its pulses.
pub(crate) const PULSES: Adopter = Adopter {
    index: pulse::INDEX,
    shared: &[],
    open: |_, _| {
        Box::pin(async {
            let identify: Identify = Box::new(|body| {
                text(body, &["pulse_id"]).map(|id| pulse::id(&id.to_ascii_lowercase()))
            });
            Ok(identify)
        })
    },
};

/// How it knows its indicators.
pub(crate) const INDICATORS: Adopter = Adopter {
    index: indicators::INDEX,
    shared: &["sources", "pulses"],
    open: |_, _| {
        Box::pin(async {
            let identify: Identify = Box::new(identify);
            Ok(identify)
        })
    },
};

fn identify(body: &Body) -> Option<String> {
    let value = text(body, &["indicator", "value", "ioc_value"])?;
    let kind = text(body, &["type_original", "type", "indicator_type", "ioc_type"])?;
    let one = indicator_of(kind, value, text(body, &["content"])).ok()?;
    Some(ioc::id(NAME, one.kind, &one.value))
}

fn text<'b>(body: &'b Body, names: &[&str]) -> Option<&'b str> {
    let text = |name: &&str| body.get(*name).and_then(Value::as_str).map(str::trim);
    names.iter().filter_map(text).find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use indicator::IndicatorKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_indicator_is_known_by_its_type_and_value_however_otx_wrote_them() {
        let of = |value: &Value| identify(value.as_object().unwrap());
        let id = Some(ioc::id(NAME, IndicatorKind::Domain, "evil.com"));
        assert_eq!(of(&json!({"indicator": "Evil.com", "type": "domain", "pulse_id": "x"})), id);
        assert_eq!(of(&json!({"indicator": "evil.com", "type": "hostname"})), id);
        assert_eq!(of(&json!({"indicator": "nothing", "type": "IPv4"})), None);
        assert_eq!(of(&json!({"type": "IPv4"})), None);
    }
}
