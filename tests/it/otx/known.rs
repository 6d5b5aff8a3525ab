//! What OTX knows of the indicators of all families, asked for and stored beside them.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use base::report::Status;
use ioc::{Observation, SourceName};
use otx::indicators;
use serde_json::json;
use stores::documents::{Body, Index, Owner};

use super::{Home, NOW, id, numbered};
use crate::documents::block_on;
use crate::misp::again::warn;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "what_is_known_goes_into_every_index_that_holds_the_value",
        what_is_known_goes_into_every_index_that_holds_the_value,
    ),
    (
        "high_priority_comes_first_and_nothing_is_asked_twice",
        high_priority_comes_first_and_nothing_is_asked_twice,
    ),
    (
        "other_warninglists_tag_what_is_stored_though_no_pulse_changed",
        other_warninglists_tag_what_is_stored_though_no_pulse_changed,
    ),
];

/// An indicator of another family, as its sync would store it.
async fn put(
    home: &Home,
    index: &'static str,
    family: &str,
    value: &str,
    to_ids: bool,
    seen: &str,
) {
    const OWNER: Owner = ioc::owner("another");
    let observation = Observation {
        indicator: ::indicator::parse(None, value).unwrap(),
        type_original: "word".to_owned(),
        source: SourceName { id: "feed".to_owned(), name: "Feed".to_owned(), reference: None },
        event: None,
        first_seen: None,
        last_seen: Some(seen.parse().unwrap()),
        tlp: None,
        confidence: None,
        expires_at: None,
        is_listed: true,
        to_ids: Some(to_ids),
        tags: vec!["c2".to_owned()],
        references: Vec::new(),
        malware_families: Vec::new(),
        actors: Vec::new(),
        comment: None,
        more: Vec::new(),
    };
    let id = ioc::id(family, observation.indicator.kind, &observation.indicator.value);
    let write =
        ioc::write(&OWNER, id, "feed", vec![observation], &[], NOW.parse().unwrap(), Body::new());
    let index = Index::named(index).unwrap();
    home.home.home.documents.ensure(index).await.unwrap();
    home.home.home.documents.upsert(index, &[write.unwrap()]).await.unwrap();
}

async fn of_value(home: &Home, index: &str, value: &str) -> Body {
    home.stored(index).await.into_iter().find(|body| body["value"] == value).unwrap()
}

const MISP: &str = "cti_misp_iocs";
const SIGNATURE_BASE: &str = "signature_base_iocs";

fn other_warninglists_tag_what_is_stored_though_no_pulse_changed() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let lists = [("WARNINGLISTS", folder.path().to_str().unwrap())];
        warn(folder.path(), &["8.8.4.4"]);
        // Of two days of which no window holds both.
        let [old, new] = [numbered(0, &["8.8.4.4", "203.0.113.9"]), numbered(7_200, &["8.8.4.4"])];
        let pulses = vec![new, old];
        let home = Home::with(pulses.clone(), &lists).await;
        home.sync().await;
        assert_eq!(home.indicators().await["8.8.4.4"]["warninglist_hits"], json!(["Known"]));

        warn(folder.path(), &["203.0.113.9"]);
        let report = home.sync().await;
        assert_eq!((report.counts.changed, report.writes()), (2, 2), "{report:?}");
        let fresh = Home::with(pulses, &lists).await;
        fresh.sync().await;
        let [again, fresh_ones] =
            [home.indicators().await, fresh.indicators().await].map(|mut all| {
                all.values_mut().for_each(|body| drop(body.remove("revision")));
                all
            });
        assert_eq!(again, fresh_ones, "as if they had always been these");
        assert_eq!(home.sync().await.writes(), 0);
    });
}

fn what_is_known_goes_into_every_index_that_holds_the_value() {
    block_on(async {
        let url = "http://invoice-mail.com/a?b=c%20d";
        let mut given = numbered(1, &["8.8.4.4"]);
        given["indicators"][0]["created"] = json!("2026-02-27T00:00:00");
        let more = json!([{"id": 2, "indicator": url, "type": "URL"}, {"id": 3, "indicator": "a@invoice-mail.com", "type": "email"}]);
        given["indicators"].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
        let home = Home::of(vec![given]).await;
        home.sync().await;
        put(&home, MISP, "misp", "8.8.4.4", true, "2026-02-28T00:00:00Z").await;
        put(&home, SIGNATURE_BASE, "signature-base", "8.8.4.4", false, "2026-02-01T00:00:00Z")
            .await;
        home.server.asked();
        let general = json!({"indicator": "8.8.4.4", "country_code": "US", "asn": "AS15169 GOOGLE", "validation":
            [{"source": "alexa", "name": "n"}], "pulse_info": {"count": 40, "pulses": [{"name": "p", "tags": ["t"]}]}});
        home.server.set(|otx| {
            otx.known.insert("IPv4/8.8.4.4/general".to_owned(), general);
            otx.known.insert(
                "IPv4/8.8.4.4/passive_dns".to_owned(),
                json!({"passive_dns": [{"hostname": "h"}], "count": 1}),
            );
            otx.known.insert("IPv4/8.8.4.4/malware".to_owned(), json!(500));
        });
        let report = home.run("bulk_enrich_iocs").await;
        assert_eq!(report.status, Status::Complete, "{report:?}");
        for index in [MISP, SIGNATURE_BASE, indicators::INDEX] {
            let body = of_value(&home, index, "8.8.4.4").await;
            assert_eq!(
                (&body["enriched_at"], &body["otx_pulse_count"]),
                (&json!(NOW), &json!(40)),
                "{index}"
            );
            assert_eq!(
                (&body["otx_country"], &body["otx_validation"]),
                (&json!("US"), &json!(["alexa"]))
            );
            assert!(
                body["tags"].as_array().unwrap().contains(&json!("otx:benign")),
                "{index}: {body:?}"
            );
            let kept = &body["enrichment"]["otx"];
            assert_eq!(
                (&kept["passive_dns"]["count"], &kept["failed_sections"]),
                (&json!(1), &json!(["malware"]))
            );
            // What the sync says of it stands beside that.
            assert_eq!(body["active"], true);
        }
        // A URL is escaped whole; what OTX does not know is remembered too; what has no address there costs no request.
        let asked = home.server.asked();
        let of_url: Vec<&String> = asked.iter().filter(|one| one.contains("/url/")).collect();
        assert_eq!(
            of_url,
            ["indicators/url/http%3A%2F%2Finvoice-mail.com%2Fa%3Fb%3Dc%2520d/general"]
        );
        assert!(
            !asked.iter().any(|one| one.contains("geo") || one.contains("invoice-mail.com/")),
            "{asked:?}"
        );
        let unknown = of_value(&home, indicators::INDEX, url).await;
        assert_eq!((&unknown["otx_found"], &unknown["enriched_at"]), (&json!(false), &json!(NOW)));
        let mail = of_value(&home, indicators::INDEX, "a@invoice-mail.com").await;
        assert_eq!(mail.get("enriched_at"), None);
        // The sync takes nothing of it away, and the next run has nothing to ask.
        assert_eq!(home.sync().await.writes(), 0);
        let mut edited = numbered(90, &["8.8.4.4"]);
        edited["id"] = json!(id(1));
        home.server.set(|otx| otx.pulses = vec![edited]);
        home.sync().await;
        let body = of_value(&home, indicators::INDEX, "8.8.4.4").await;
        assert_eq!(body["otx_pulse_count"], 40);
        assert!(body["tags"].as_array().unwrap().contains(&json!("otx:benign")));
        home.server.asked();
        assert_eq!(home.run("bulk_enrich_iocs").await.writes(), 0);
        assert!(home.server.asked().is_empty());
    });
}

fn high_priority_comes_first_and_nothing_is_asked_twice() {
    block_on(async {
        let home =
            Home::with(Vec::new(), &[("OTX_ENRICH_LIMIT", "2"), ("OTX_ENRICH_DAYS", "3")]).await;
        let old = "2025-01-01T00:00:00Z";
        let fresh = "2026-02-28T00:00:00Z";
        put(&home, MISP, "misp", "old-plain.com", false, old).await;
        put(&home, MISP, "misp", "fresh-plain.com", false, fresh).await;
        put(&home, MISP, "misp", "old-meant.com", true, old).await;
        put(&home, MISP, "misp", "fresh-meant.com", true, fresh).await;
        put(&home, SIGNATURE_BASE, "signature-base", "192.168.7.7", true, fresh).await;
        let names = |asked: Vec<String>| -> Vec<String> {
            asked.iter().map(|one| one.split('/').nth(2).unwrap().to_owned()).collect()
        };
        home.run("bulk_enrich_iocs").await;
        assert_eq!(
            names(home.server.asked()),
            ["fresh-meant.com"],
            "and the address of nobody, unasked"
        );
        home.run("bulk_enrich_iocs").await;
        assert_eq!(names(home.server.asked()), ["fresh-plain.com", "old-meant.com"]);
        home.run("bulk_enrich_iocs").await;
        assert_eq!(names(home.server.asked()), ["old-plain.com"]);
        home.run("bulk_enrich_iocs").await;
        assert!(home.server.asked().is_empty());
        // When the days are over, the first come first again.
        let home = home
            .reopened(&[("OTX_ENRICH_LIMIT", "1"), ("MINERVA_CLOCK", "2026-03-05T12:00:00Z")])
            .await;
        home.run("bulk_enrich_iocs").await;
        home.run("bulk_enrich_iocs").await;
        assert_eq!(names(home.server.asked()), [""; 0], "a week is not over");
        let home = home
            .reopened(&[
                ("OTX_ENRICH_LIMIT", "3"),
                ("OTX_ENRICH_DAYS", "3"),
                ("MINERVA_CLOCK", "2026-03-05T12:00:00Z"),
            ])
            .await;
        home.run("bulk_enrich_iocs").await;
        assert_eq!(names(home.server.asked()), ["fresh-meant.com", "fresh-plain.com"]);
        // A value that is refused by itself does not hold the others up; a server that refuses all is a failure.
        home.server
            .set(|otx| otx.known.insert("domain/old-meant.com/general".to_owned(), json!(400)));
        home.run("bulk_enrich_iocs").await;
        assert_eq!(names(home.server.asked()), ["old-meant.com", "old-plain.com"]);
        let refused = of_value(&home, MISP, "old-meant.com").await;
        assert_eq!(refused["enrichment"]["otx"]["why"], "not answered");
        put(&home, MISP, "misp", "new-one.com", true, fresh).await;
        home.server
            .set(|otx| otx.known.insert("domain/new-one.com/general".to_owned(), json!(500)));
        let report = home.run("bulk_enrich_iocs").await;
        assert_eq!((report.status, report.writes()), (Status::Failed, 0), "{report:?}");
    });
}
