//! What each family needs in the cloud: its tasks, the settings that its functions are given, the buckets it reaches.
//!
//! A list of its own, as no family is compiled here; `tests/it/cloud/roles.rs` holds it against what the families declare and do.

/// A family of tasks, which share one role.
pub struct Family {
    pub name: &'static str,
    pub tasks: &'static [&'static str],
    /// Settings that are secret, each a parameter of Systems Manager; given where the stack is told that it is there.
    pub secrets: &'static [&'static str],
    /// Settings that anyone may read, each a parameter of the stack.
    pub plain: &'static [&'static str],
    pub buckets: &'static [Bucket],
}

/// A setting that may be `s3://bucket/prefix`.
pub struct Bucket {
    pub setting: &'static str,
    pub access: Access,
}

/// What is asked of a bucket's objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They are listed and read.
    Read,
    /// One is read, written or removed by its name; nothing is listed but to tell a missing one from a forbidden one.
    Write,
}

impl Access {
    /// Actions on the objects.
    pub fn of_objects(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["s3:GetObject"],
            Self::Write => &["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
        }
    }
}

/// Parameters that every function needs: it has no store without them.
pub const STORES: &[&str] = &["DATABASE_URL", "ES_URL"];

/// Secrets of the search server, for those whose server asks for one.
pub const SHARED_SECRETS: &[&str] = &["ES_API_KEY", "ES_USERNAME", "ES_PASSWORD"];

/// Settings that every function may be given.
pub const SHARED_PLAIN: &[&str] = &["ES_INDEX_PREFIX", "MINERVA_CONTACT", "MINERVA_KEEP_DAYS"];

pub const FAMILIES: &[Family] = &[
    Family {
        name: "rss",
        tasks: &["collect_all_rss_feeds", "collect_category", "collect_specific_sources"],
        secrets: &[],
        plain: &[],
        buckets: &[],
    },
    Family {
        name: "malpedia",
        tasks: &[
            "sync_malpedia_library_rss",
            "sync_malpedia_library_bibtex",
            "sync_malpedia_library_full",
            "enrich_malpedia_library",
            "get_malpedia_library_stats",
            "check_malpedia_status",
            "sync_malpedia_families_to_es",
            "sync_malpedia_actors_to_es",
            "sync_malpedia_all_to_es",
        ],
        secrets: &["MALPEDIA_API_TOKEN", "LLM_API_KEY"],
        plain: &["LLM_PROVIDER", "LLM_URL", "LLM_MODEL"],
        buckets: &[Bucket { setting: "MALPEDIA_DIR", access: Access::Read }],
    },
    Family {
        name: "misp",
        tasks: &["sync_all_misp_feeds", "sync_single_feed", "quick_sync_all_feeds"],
        secrets: &[],
        plain: &[],
        buckets: &[],
    },
    Family {
        name: "otx",
        tasks: &[
            "reset_otx_daily_usage",
            "bulk_enrich_iocs",
            "export_pulses_to_misp",
            "sync_otx_pulses",
            "test_otx_connection",
        ],
        secrets: &["OTX_API_KEY", "MISP_KEY"],
        plain: &["MISP_URL"],
        buckets: &[Bucket { setting: "MISP_EXPORT", access: Access::Write }],
    },
    Family {
        name: "signature-base",
        tasks: &[
            "sync_signature_base_yara",
            "sync_signature_base_iocs",
            "sync_signature_base_all",
            "get_signature_base_stats",
        ],
        secrets: &[],
        plain: &[],
        buckets: &[],
    },
    Family {
        name: "caveiratech",
        tasks: &["sync_caveiratech", "full_sync_caveiratech", "get_caveiratech_stats"],
        secrets: &[],
        plain: &[],
        buckets: &[],
    },
];

/// The family of a task.
pub fn of_task(task: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.tasks.contains(&task))
}
