//! Articles of the predecessor: each gets the id that the digits of its link give, under which the next sync meets it.

use serde_json::Value;
use stores::documents::{Adopter, Identify};
use url::Url;

use crate::article::{self, INDEX};
use crate::listing::post_address;

/// How the family knows its own.
pub(crate) const ADOPTER: Adopter = Adopter {
    index: INDEX,
    shared: &[],
    open: |_, _| {
        Box::pin(async {
            let identify: Identify = Box::new(|body| {
                let link = body.get("link").and_then(Value::as_str)?;
                let (post, _) = post_address(&Url::parse(link).ok()?, link)?;
                Some(article::id(post))
            });
            Ok(identify)
        })
    },
};
