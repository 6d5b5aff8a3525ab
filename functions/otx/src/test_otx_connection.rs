//! Tests whether OTX answers, and with which of the keys.
//!
//! Reads   `api/v1/users/me`, once with each key.
//! Writes  nothing but the count of the keys' uses.
//! Twice   is harmless, and two uses of each key.
//! Quirk   an API that does not answer is an answer of this task, not its failure. A key that rests or is used up is not asked.

use base::Result;
use base::report::{Outcome, Report};
use fetch::Request;
use serde_json::{Map, Value, json};
use task::{Ctx, KeyPool, NoInput, Reaches, Task};
use url::Url;

use crate::settings::Settings;

pub(crate) struct TestOtxConnection;

impl Task for TestOtxConnection {
    const NAME: &'static str = "test_otx_connection";
    const REACHES: &'static [Reaches] = &[Reaches::Network];
    type Input = NoInput;

    async fn run(ctx: &Ctx, _: NoInput) -> Result<Report> {
        let settings: Settings = ctx.settings()?;
        let pool = settings.pool_of_some()?;
        let url = settings.address("users/me")?;
        let mut keys = Vec::new();
        for one in pool.apart() {
            keys.push(key(ctx, &one, &url).await?);
        }
        let valid = keys.iter().filter(|key| key["status"] == "valid").count();
        Ok(Report::of_detail(json!({
            "url": base::address::shown(&url),
            "reachable": keys.iter().any(|key| key["reachable"] == true),
            "valid": valid,
            "keys": keys,
        })))
    }
}

/// What became of one key, which is named by its digest.
async fn key(ctx: &Ctx, pool: &KeyPool, url: &Url) -> Result<Value> {
    let answer = pool.ask(ctx, Request::get(url).accept("application/json")).await;
    let (day, _) = pool.day(ctx.now())?;
    let id = pool.ids().next().unwrap_or_default();
    let row = pool.standing(ctx).await?.into_iter();
    let row = row.filter(|row| row.id == id);
    let row = row.max_by_key(|row| row.window.as_deref() == Some(&day));
    let used = row.as_ref().filter(|row| row.window.as_deref() == Some(&day));
    let mut shown = Map::from_iter([
        ("key".to_owned(), json!(id)),
        ("used_today".to_owned(), json!(used.map_or(0, |row| row.spent))),
        ("limit".to_owned(), json!(pool.limit())),
    ]);
    let mut set = |name: &str, value: Value| {
        shown.insert(name.to_owned(), value);
    };
    match answer {
        Ok(response) => match serde_json::from_slice::<Value>(&response.body) {
            Ok(Value::Object(me)) => {
                set("status", json!("valid"));
                set("reachable", json!(true));
                set("user", me.get("username").cloned().unwrap_or(Value::Null));
            }
            Ok(_) | Err(_) => {
                set("status", json!("unknown"));
                set("reachable", json!(true));
                set(
                    "problem",
                    json!(format!("read `{}`: it is no JSON object", base::address::shown(url))),
                );
            }
        },
        Err(stop) => {
            let (status, is_reachable) = match stop.outcome {
                Outcome::Unauthorized => ("refused", json!(true)),
                Outcome::RateLimited => ("rate_limited", json!(true)),
                Outcome::Status => ("unknown", json!(true)),
                Outcome::BudgetSpent => ("resting", Value::Null),
                _ => ("unknown", json!(false)),
            };
            set("status", json!(status));
            set("reachable", is_reachable);
            set("problem", json!(stop.error.chain()));
            set("hint", json!(stop.error.hint_text()));
            if let Some(until) =
                row.and_then(|row| row.blocked_until).filter(|until| *until > ctx.now())
            {
                set("rests_until", json!(until));
            }
        }
    }
    Ok(Value::Object(shown))
}
