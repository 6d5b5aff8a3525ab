//! The one source of each task, where it is, and where what it gives is stored.

use stores::documents::Owner;

/// The family's name, in ids of documents and sources too.
pub const NAME: &str = "example";

base::settings! {
    /// What the family is given.
    pub struct Settings {
        /// Where its upstream is.
        url: Option<url::Url> = "", "EXAMPLE_URL";
    }
}

/// The index of children, pulses and pages.
pub const PULSES: &str = "otx_pulses";

/// The index of what stands in them.
pub const INDICATORS: &str = "otx_indicators";

/// What the family writes into a pulse.
pub(super) const PULSE: Owner =
    Owner { fields: &["name", "description", "active"], ..Owner::named("example_pulse") };

/// What it writes into an indicator.
pub(super) const INDICATOR: Owner =
    Owner { name: "example_indicator", fields: &["value", "active"], ..PULSE };

/// The one source of each of its tasks.
#[derive(Clone, Copy)]
pub(super) struct Only {
    pub(super) id: &'static str,
    pub(super) indices: &'static [&'static str],
}

impl task::Source for Only {
    fn id(&self) -> &str {
        self.id
    }

    fn indices(&self) -> &'static [&'static str] {
        self.indices
    }
}

pub(super) fn url(ctx: &task::Ctx, path: &str) -> base::Result<url::Url> {
    let base = ctx.settings::<Settings>()?.url;
    let base =
        base.ok_or_else(|| base::Error::config("find the upstream: `EXAMPLE_URL` is unset"))?;
    base.join(path)
        .map_err(|cause| base::Error::config(format!("build the address `{path}`")).because(cause))
}
