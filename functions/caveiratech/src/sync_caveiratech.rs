//! Syncs the newest posts of CaveiraTech, page by page, until a page brings nothing new.
//!
//! Reads   `robots.txt`; then, whatever the site has of it, a feed, a sitemap, WordPress's interface or its list pages; and the
//!         page of each post that is new or changed. What the site has is looked for once a week.
//! Writes  `caveiratech_news`, one document a post, by the digits at the end of its address.
//! Twice   is harmless: posts that are known and unchanged are not asked for again.
//! Quirk   the site has changed its markup before: no post on its first page is an alarm, and `detail` of
//!         `get_caveiratech_stats` keeps the page's head.

use base::report::Report;
use base::{Error, Result};
use serde::Deserialize;
use task::{Ctx, Reaches, Task};

use crate::crawl::{Depth, crawl};

/// List pages that one run may read.
const PAGES_MAX: u32 = 1_000;

pub(crate) struct SyncCaveiratech;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Input {
    /// List pages at most; of what has no pages, ten posts each.
    max_pages: u32,
}

impl Default for Input {
    fn default() -> Self {
        Self { max_pages: 10 }
    }
}

impl Task for SyncCaveiratech {
    const NAME: &'static str = "sync_caveiratech";
    const REACHES: &'static [Reaches] = &[Reaches::Network, Reaches::Stores];
    type Input = Input;

    async fn run(ctx: &Ctx, input: Input) -> Result<Report> {
        if !(1..=PAGES_MAX).contains(&input.max_pages) {
            return Err(Error::config(format!("read `{}` pages", input.max_pages))
                .hint(format!("`max_pages` is 1 to {PAGES_MAX}")));
        }
        crawl(ctx, Depth::Newest(input.max_pages)).await
    }
}
