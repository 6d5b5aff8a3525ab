//! The RSS family: security news from feeds of every age and make into `rss_articles`.

pub mod feed;
