//! What Malpedia's two telling tasks say: the figures of a filled library, and whether the API takes the token.

use axum::http::{HeaderMap, StatusCode, Uri};
use base::report::Status;
use serde_json::{Value, json};

use crate::documents::block_on;
use crate::malpedia::{fixture, home, malpedia, run};

pub(crate) const TRIALS: &[crate::Case] = &[
    ("the_figures_of_a_library_are_exact", the_figures_of_a_library_are_exact),
    ("a_right_and_a_wrong_token_are_told_apart", a_right_and_a_wrong_token_are_told_apart),
];

/// Entries that a count must not take for dated, sound or readable.
const ODD: &str = "
@online{nobody::undated:0000001, author = {Nobody}, title = {{Undated}}, date = {soon}, url = {https://nobody.example/1}}
@online{nobody:19010203:early:0000002, author = {Nobody}, title = {{Early}}, date = {1901-02-03}, url = {https://nobody.example/2}}
@online{nobody:2020:broken:0000003, title = {{Broken}, date = {2020}
";

fn counted(name: &str, expected: &[(&str, u64)]) -> Value {
    expected.iter().map(|(value, count)| json!({name: value, "count": count})).collect()
}

fn the_figures_of_a_library_are_exact() {
    block_on(async {
        let mut bib = fixture("library.bib");
        bib.extend_from_slice(ODD.as_bytes());
        let (_upstream, home) = malpedia(bib).await;
        let full = run(&home, "sync_malpedia_library_full").await;
        assert_eq!((full.status, full.counts.rejected), (Status::Complete, 1), "{full:?}");
        let detail = run(&home, "get_malpedia_library_stats").await.detail;
        for (name, expected) in [
            ("total_articles", json!(24)),
            ("undated", json!(1)),
            ("suspect_dates", json!(1)),
            ("oldest_article", json!("1901-02-03T00:00:00Z")),
            ("latest_article", json!("2025-03-26T00:00:00Z")),
            (
                "articles_by_year",
                counted(
                    "year",
                    &[
                        ("2025", 1),
                        ("2024", 3),
                        ("2023", 2),
                        ("2022", 3),
                        ("2021", 4),
                        ("2020", 1),
                        ("2019", 4),
                        ("2018", 1),
                        ("2017", 1),
                        ("2016", 1),
                        ("1901", 1),
                    ],
                ),
            ),
            ("articles_by_type", counted("type", &[("online", 19), ("techreport", 4)])),
            (
                "articles_by_kind",
                counted(
                    "kind",
                    &[("blog", 14), ("report", 4), ("code", 3), ("tweet", 2), ("video", 1)],
                ),
            ),
            ("articles_by_language", counted("language", &[("en", 19), ("es", 1), ("pt", 1)])),
            (
                "articles_by_organization",
                counted(
                    "organization",
                    &[
                        ("Gale Intelligence", 2),
                        ("Lantern Labs", 2),
                        ("Tidewater", 2),
                        ("Twitter (@otter_0x)", 2),
                        ("0v3r Blog", 1),
                        ("0x0ak", 1),
                        ("Baltic News Desk", 1),
                        ("Bell's R&D", 1),
                        ("Blue Lantern Blog", 1),
                        ("Farol Tecnologia", 1),
                        ("Github (0quill)", 1),
                        ("Github (quill)", 1),
                        ("Guardia Marina", 1),
                        ("HarborLab", 1),
                        ("Medium hart", 1),
                        ("Youtube (0v3r_)", 1),
                    ],
                ),
            ),
            (
                "families_most_cited",
                counted(
                    "family",
                    &[("win.brass_stealer", 2), ("win.amber_heron", 1), ("win.papermill", 1)],
                ),
            ),
            ("actors_most_cited", counted("actor", &[("paper_falcon", 2)])),
        ] {
            assert_eq!(detail[name], expected, "{name}");
        }
        let newest: Vec<(&str, &str)> = detail["newest"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| {
                (one["published"].as_str().unwrap_or(""), one["title"].as_str().unwrap_or(""))
            })
            .collect();
        assert_eq!(
            newest,
            [
                ("2025-03-26T00:00:00Z", "ffdgf"),
                ("2024-06-21T00:00:00Z", "[0001] AmberHeron -> QuartzOwl -> BrassStealer"),
                ("2024-04-09T10:00:00Z", "An item that the bibliography does not have yet"),
                ("2024-04-03T00:00:00Z", "Willow Wren and its new anti-emulation trick"),
                ("2024-01-04T00:00:00Z", "No-Pardon Wiper - Wiper attack by an APT)"),
                ("2023-12-08T00:00:00Z", "Tweet naming the family"),
                (
                    "2023-09-04T00:00:00Z",
                    "Activist groups attack — again — the institutions of a state"
                ),
                ("2022-12-25T00:00:00Z", "BrassStealer"),
                ("2022-04-19T00:00:00Z", "MetaHeron, Redfern's double"),
                ("2022-01-01T00:00:00Z", "Jackal Stealer Malware Research 2022"),
            ]
        );
        assert_eq!(detail["rejects"]["sync_malpedia_library_full"]["rejected"], 1, "{detail}");
    });
}

/// Malpedia's API, to which this token is the right one and any other is refused everywhere.
async fn api(token: &'static str) -> String {
    let listener =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
    let routes = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap| async move {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        let is_right = given == Some(&format!("apitoken {token}"));
        match (uri.path(), is_right || given.is_none()) {
            (_, false) => (StatusCode::FORBIDDEN, r#"{"detail":"Invalid token."}"#),
            ("/api/get/version", _) => (StatusCode::OK, r#"{"version":25472,"date":"2026-08-06"}"#),
            ("/api/check/apikey", _) if is_right => {
                (StatusCode::OK, r#"{"detail":"Valid token."}"#)
            }
            _ => (StatusCode::NOT_FOUND, "{}"),
        }
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    origin
}

fn a_right_and_a_wrong_token_are_told_apart() {
    block_on(async {
        let origin = api("the-right-one").await;
        for (token, expected) in [
            ("the-right-one", "valid"),
            ("wrong-one", "refused: unset MALPEDIA_API_TOKEN, or correct it"),
            ("", "not set"),
        ] {
            let home = home(&origin, &[("MALPEDIA_API_TOKEN", token)]).await;
            let report = run(&home, "check_malpedia_status").await;
            assert_eq!(report.status, Status::Complete, "{report:?}");
            let detail = &report.detail;
            assert_eq!(
                (&detail["token"], &detail["api"]["version"]),
                (&json!(expected), &json!(25472)),
                "{detail}"
            );
            assert!(token.is_empty() || !format!("{report:?}").contains(token));
        }
        // Nobody is there.
        let home = home("http://127.0.0.1:1", &[("MALPEDIA_API_TOKEN", "the-right-one")]).await;
        let report = run(&home, "check_malpedia_status").await;
        assert_eq!(
            (report.status, &report.detail["api"]["reachable"]),
            (Status::Complete, &json!(false)),
            "{report:?}"
        );
        assert!(
            report.detail["token"].as_str().is_some_and(|said| said.starts_with("unknown: ")),
            "{report:?}"
        );
    });
}
