//! The way that redirects lead, followed by hand so that each hop is judged.

use url::Url;

use super::failure::{MAX_REDIRECTS, Reason};

/// The way from the configured URL to here.
pub(super) struct Route<'a> {
    pub(super) configured: &'a Url,
    pub(super) here: Url,
    seen: Vec<Url>,
    /// Every hop so far was permanent.
    is_permanent: bool,
    /// No hop so far has left the host that the operator wrote.
    pub(super) is_configured_host: bool,
}

impl<'a> Route<'a> {
    pub(super) fn from(configured: &'a Url) -> Self {
        let mut here = configured.clone();
        here.set_fragment(None);
        Self { configured, here, seen: Vec::new(), is_permanent: true, is_configured_host: true }
    }

    /// Takes a redirect, unless it leads round in a circle, too far, or out of https.
    pub(super) fn follow(mut self, location: &str, is_permanent: bool) -> Result<Self, Reason> {
        let next = self.target(location)?;
        if self.here.scheme() == "https" && next.scheme() == "http" {
            return Err(Reason::Downgraded);
        }
        self.seen.push(self.here);
        if self.seen.contains(&next) {
            return Err(Reason::RedirectLoop);
        }
        if self.seen.len() > MAX_REDIRECTS {
            return Err(Reason::TooManyRedirects);
        }
        self.is_permanent &= is_permanent;
        self.is_configured_host &= next.host() == self.configured.host();
        self.here = next;
        Ok(self)
    }

    /// Where a `Location` leads from here.
    pub(super) fn target(&self, location: &str) -> Result<Url, Reason> {
        let malformed = |error| Reason::Malformed(format!("a redirect to no URL: {error}"));
        let mut target = self.here.join(location).map_err(malformed)?;
        target.set_fragment(None);
        Ok(target)
    }

    pub(super) fn moved_to(&self) -> Option<Url> {
        (self.is_permanent && !self.seen.is_empty()).then(|| self.here.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_from_https_to_http_is_refused() {
        let secure = Url::parse("https://a.test/feed").unwrap();
        let downgraded =
            Route::from(&secure).follow("http://a.test/feed", true).map(|route| route.here);
        assert_eq!(downgraded, Err(Reason::Downgraded));
        let plain = Url::parse("http://a.test/feed").unwrap();
        let route = Route::from(&plain).follow("https://a.test/feed", true).unwrap();
        assert_eq!(route.moved_to(), Some(secure));
        assert!(route.is_configured_host);
        let away =
            route.follow("//b.test/", true).unwrap().follow("https://a.test/again", false).unwrap();
        assert!(
            !away.is_configured_host,
            "what another host sends back is not what the operator wrote"
        );
        assert_eq!(away.moved_to(), None);
    }
}
