//! The CaveiraTech family's tasks against a site on loopback, in each markup that is known and one that is not, behind each kind of
//! list; while its posts move, its layout changes, and its crawler is killed.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use base::Class;
use base::report::{Outcome, Report, Status};
use caveiratech::FAMILY;
use caveiratech::article::INDEX;
use rustix::process::Signal;
use serde_json::{Value, json};
use stores::documents::{Body, Index};
use task::testing::TestHome;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::adopt::fill;
use crate::documents::{Check, Place};
use crate::home::{Home, eventually_within, signal};
use crate::malpedia_stores::everything;
use crate::servers::address;

pub(crate) const TRIALS: &[crate::Case] = &[
    (
        "the_first_sync_reads_ten_pages_and_the_second_one_in_each_markup",
        the_first_sync_reads_ten_pages_and_the_second_one_in_each_markup,
    ),
    ("every_kind_of_list_gives_equal_documents", every_kind_of_list_gives_equal_documents),
    (
        "a_full_sync_that_is_killed_three_times_ends_complete",
        a_full_sync_that_is_killed_three_times_ends_complete,
    ),
    ("posts_that_move_between_pages_are_not_lost", posts_that_move_between_pages_are_not_lost),
    ("a_sync_that_was_cut_off_leaves_no_gap", a_sync_that_was_cut_off_leaves_no_gap),
    ("a_changed_layout_is_an_alarm", a_changed_layout_is_an_alarm),
    ("robots_txt_is_obeyed", robots_txt_is_obeyed),
    (
        "requests_come_a_second_apart_on_one_connection",
        requests_come_a_second_apart_on_one_connection,
    ),
    (
        "an_edited_post_is_read_again_and_one_that_failed_too",
        an_edited_post_is_read_again_and_one_that_failed_too,
    ),
    ("a_hostile_page_costs_its_post_alone", a_hostile_page_costs_its_post_alone),
    (
        "what_the_site_has_is_looked_for_again_after_a_week",
        what_the_site_has_is_looked_for_again_after_a_week,
    ),
    ("posts_are_made_anew_of_the_archive", posts_are_made_anew_of_the_archive),
];

pub(crate) const SERVER_CHECKS: &[(&str, Check)] = &[
    ("posts_are_stored_as_in_the_embedded_store", posts_are_stored_alike),
    ("adopted_posts_meet_their_sync_and_stay_enriched", adopted_posts_meet_their_sync),
];

const CLOCK: &str = "2026-03-01T12:00:00Z";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Markup {
    /// `div.post`, `div.date`, `h.post`, `p.summary_text`.
    Of2025,
    /// `div.post`, `b.post`, `span.ui.text.grey`, `p.post_details`.
    Of2021,
    /// Anything: `article`, `h2`, dates in words, JSON-LD on the post.
    Unknown,
}

/// A request as the site saw it.
#[derive(Clone)]
struct SiteRequest {
    path: String,
    at: Instant,
    agent: String,
}

/// What the site holds, and how it behaves.
struct Site {
    markup: Markup,
    /// Numbers of its posts, the newest first.
    posts: Vec<u64>,
    per_page: usize,
    robots: Option<String>,
    has_feed: bool,
    has_sitemap: bool,
    has_wordpress: bool,
    /// Titles that were edited.
    edited: BTreeMap<u64, String>,
    /// Statuses and bodies of single paths, before all else.
    answers: BTreeMap<String, (u16, String)>,
    /// Something happens at this request to a list page.
    at_page: BTreeMap<usize, fn(&mut Site)>,
    asked: Vec<SiteRequest>,
    pages_asked: usize,
    open: usize,
    open_most: usize,
}

impl Site {
    fn of(markup: Markup, pages: usize, per_page: usize) -> Self {
        let count = (pages * per_page) as u64;
        Self {
            markup,
            posts: (1..=count).rev().collect(),
            per_page,
            robots: Some("User-agent: *\nAllow: /\n".to_owned()),
            has_feed: false,
            has_sitemap: false,
            has_wordpress: false,
            edited: BTreeMap::new(),
            answers: BTreeMap::new(),
            at_page: BTreeMap::new(),
            asked: Vec::new(),
            pages_asked: 0,
            open: 0,
            open_most: 0,
        }
    }

    fn title(&self, number: u64) -> String {
        let edited = self.edited.get(&number).cloned();
        edited.unwrap_or_else(|| format!("Falha {number} explorada em produção"))
    }

    fn answer(&mut self, uri: &Uri, origin: &str) -> (u16, &'static str, String) {
        let path = uri.path().to_owned();
        let page = |body: String| (200, "text/html; charset=utf-8", body);
        if let Some((status, body)) = self.answers.get(&path) {
            return (*status, "text/html; charset=utf-8", body.clone());
        }
        let number = match path.as_str() {
            "/" => Some(1),
            _ => path.strip_prefix("/page/").and_then(|number| number.parse::<usize>().ok()),
        };
        if let Some(number) = number {
            self.pages_asked += 1;
            if let Some(happens) = self.at_page.get(&self.pages_asked).copied() {
                happens(self);
            }
            return page(self.list(number));
        }
        if let Some(slug) = path.strip_prefix("/post/") {
            let id: u64 =
                slug.rsplit('-').next().and_then(|id| id.parse().ok()).unwrap_or_default();
            let number = id.saturating_sub(6_000_000);
            return match self.posts.contains(&number) {
                true => page(self.post(number)),
                false => (404, "text/html", String::new()),
            };
        }
        match path.as_str() {
            "/robots.txt" => match &self.robots {
                Some(robots) => (200, "text/plain", robots.clone()),
                None => (404, "text/plain", String::new()),
            },
            "/rss.xml" if self.has_feed => (200, "application/rss+xml", self.feed(origin)),
            "/sitemap.xml" if self.has_sitemap => (
                200,
                "application/xml",
                format!(
                    "<sitemapindex><sitemap><loc>{origin}/sitemap-posts-1.xml</loc></sitemap></sitemapindex>"
                ),
            ),
            "/sitemap-posts-1.xml" if self.has_sitemap => {
                (200, "application/xml", self.sitemap(origin))
            }
            "/wp-json/wp/v2/posts" if self.has_wordpress => {
                let query: BTreeMap<String, String> =
                    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                        .into_owned()
                        .collect();
                self.wordpress(
                    origin,
                    query["page"].parse().unwrap(),
                    query["per_page"].parse().unwrap(),
                )
            }
            _ => (404, "text/html", "<html><body>Não encontrado</body></html>".to_owned()),
        }
    }

    fn list(&self, number: usize) -> String {
        let last = self.posts.len().div_ceil(self.per_page);
        // The last page for any number, as many sites do.
        let number = number.clamp(1, last);
        let from = (number - 1) * self.per_page;
        let mut body = "<!DOCTYPE html><html><head><title>CaveiraTech</title></head><body><div class=\"ui menu\"><a href=\"/\">Início</a></div>".to_owned();
        for post in self.posts.iter().skip(from).take(self.per_page) {
            let (title, link, day) = (self.title(*post), link(*post), day(*post));
            let summary = summary(*post);
            let _ = match self.markup {
                Markup::Of2025 => write!(
                    body,
                    "<div class=\"post\"><div class=\"date\">{day}</div><a href=\"{link}\"><h class=\"post\">🔹 {title}</h></a><p class=\"summary_text\">▪️ {summary}</p></div>"
                ),
                Markup::Of2021 => write!(
                    body,
                    "<div class=\"post\"><a href=\"{link}\"><b class=\"post\">{title}</b></a><span class=\"ui text grey\">{}</span><p>{summary}</p></div>",
                    with_slashes(&day)
                ),
                Markup::Unknown => write!(
                    body,
                    "<article class=\"card\"><header><h2><a href=\"{link}\">{title}</a></h2><small>{}</small></header><p>{summary}</p></article>",
                    in_words(&day)
                ),
            };
        }
        let _ = write!(
            body,
            "<a href=\"/page/2\">[2]</a> <a href=\"/page/{last}\">[{last}]</a></body></html>"
        );
        body
    }

    fn post(&self, number: u64) -> String {
        let (title, day, summary) = (self.title(number), day(number), summary(number));
        let text = text(number);
        let inner = match self.markup {
            Markup::Of2025 => format!(
                "<div class=\"post\"><div class=\"date\">{day}</div><h class=\"post\">🔹 {title}</h><p class=\"summary_text\">▪️ {summary}</p><div class=\"body\"><p>{text}</p><p>{text}</p></div></div>"
            ),
            Markup::Of2021 => format!(
                "<div class=\"post\"><b class=\"post\">{title}</b><span class=\"ui text grey\">{}</span><p class=\"summary_text\">{summary}</p><p class=\"post_details\">{text}</p><p class=\"post_details\">Veja <span class=\"cve-tooltip\" data-html=\"&lt;b&gt;CVE-2025-{:05}&lt;/b&gt;\" data-cvss=\"9.8\">a falha</span>.</p></div>",
                with_slashes(&day),
                20_000 + number
            ),
            Markup::Unknown => format!(
                "<script type=\"application/ld+json\">{{\"@type\":\"NewsArticle\",\"headline\":\"{title}\",\"description\":\"{summary}\",\"datePublished\":\"{day}\"}}</script><article><h1>{title}</h1><p>{text}</p><p>{text}</p></article>"
            ),
        };
        format!(
            "<!DOCTYPE html><html><head><title>{title}</title></head><body><div class=\"ui menu\"><a href=\"/\">Início</a></div>{inner}<footer>Grupo Solyd</footer></body></html>"
        )
    }

    fn feed(&self, origin: &str) -> String {
        let items: String = self.posts.iter().map(|post| format!(
            "<item><guid>{origin}{link}</guid><link>{origin}{link}?utm_source=rss</link><title>{}</title><description>&lt;p&gt;{}&lt;/p&gt;</description><pubDate>{}T12:00:00Z</pubDate></item>",
            self.title(*post), summary(*post), day(*post), link = link(*post)
        )).collect();
        format!("<rss version=\"2.0\"><channel><title>CaveiraTech</title>{items}</channel></rss>")
    }

    fn sitemap(&self, origin: &str) -> String {
        let urls: String = self
            .posts
            .iter()
            .map(|post| {
                format!(
                    "<url><loc>{origin}{}</loc><lastmod>{}</lastmod></url>",
                    link(*post),
                    day(*post)
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\"?><urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">{urls}</urlset>"
        )
    }

    fn wordpress(&self, origin: &str, page: usize, per_page: usize) -> (u16, &'static str, String) {
        let from = (page - 1) * per_page;
        if from >= self.posts.len() {
            return (
                400,
                "application/json",
                json!({"code": "rest_post_invalid_page_number"}).to_string(),
            );
        }
        let items = self.posts.iter().skip(from).take(per_page).map(|post| {
            json!({"id": post, "link": format!("{origin}{}", link(*post)), "date_gmt": format!("{}T12:00:00", day(*post)),
                "modified_gmt": format!("{}T12:00:00", day(*post)), "title": {"rendered": self.title(*post)},
                "excerpt": {"rendered": format!("<p>{}</p>", summary(*post))}})
        });
        (200, "application/json", Value::from_iter(items).to_string())
    }
}

fn link(number: u64) -> String {
    format!("/post/falha-explorada-{}", 6_000_000 + number)
}

fn day(number: u64) -> String {
    format!("20{:02}-{:02}-{:02}", 10 + number / 336 % 15, 1 + number / 28 % 12, 1 + number % 28)
}

fn with_slashes(day: &str) -> String {
    format!("{}/{}/{}", &day[8..], &day[5..7], &day[..4])
}

fn in_words(day: &str) -> String {
    let months = [
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ];
    let (month, date): (usize, u8) = (day[5..7].parse().unwrap(), day[8..].parse().unwrap());
    format!("{date} de {} de {}", months[month - 1], &day[..4])
}

fn summary(number: u64) -> String {
    format!("Servidores foram invadidos pela CVE-2025-{:05}.", 10_000 + number)
}

fn text(number: u64) -> String {
    format!(
        "O grupo número {number} usou o endereço 203[.]0[.]113[.]{} durante semanas, segundo a análise publicada nesta terça-feira por pesquisadores, que pedem a atualização imediata de todos os servidores expostos à Internet. <a href=\"https://research.example/{number}\">Leia a análise</a>, <a href=\"/page/2\">mais notícias</a>, <a href=\"https://wa.me/?text=x\">envie</a>.",
        number % 250
    )
}

type Shared = Arc<Mutex<Site>>;

/// A server that is one, on a runtime of its own.
struct Server {
    origin: String,
    site: Shared,
    _runtime: Runtime,
}

impl Server {
    fn start(site: Site) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let site = Arc::new(Mutex::new(site));
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(serve).with_state((origin.clone(), Arc::clone(&site)));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { origin, site, _runtime: runtime }
    }

    fn set<T>(&self, change: impl FnOnce(&mut Site) -> T) -> T {
        change(&mut self.site.lock().unwrap())
    }

    /// The paths since the last question.
    fn asked(&self) -> Vec<String> {
        self.set(|site| std::mem::take(&mut site.asked))
            .into_iter()
            .map(|asked| asked.path)
            .collect()
    }

    fn settings(&self, gap_ms: u32) -> Vec<(String, String)> {
        [
            ("CAVEIRATECH_URL", self.origin.clone()),
            ("CAVEIRATECH_GAP_MS", gap_ms.to_string()),
            ("MINERVA_CLOCK", CLOCK.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

async fn serve(
    State((origin, site)): State<(String, Shared)>,
    uri: Uri,
    headers: axum::http::HeaderMap,
) -> Response {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let (status, kind, body) = {
        let mut site = site.lock().unwrap();
        site.asked.push(SiteRequest { path: uri.path().to_owned(), at: Instant::now(), agent });
        site.open += 1;
        site.open_most = site.open_most.max(site.open);
        site.answer(&uri, &origin)
    };
    tokio::task::yield_now().await;
    site.lock().unwrap().open -= 1;
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], Html(body).0)
        .into_response()
}

/// A home beside a site.
struct Trial {
    server: Server,
    home: TestHome,
    runtime: Runtime,
}

impl Trial {
    fn of(site: Site) -> Self {
        Self::with(site, 0, &[])
    }

    fn with(site: Site, gap_ms: u32, more: &[(&str, &str)]) -> Self {
        let server = Server::start(site);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<(String, String)> = more.chain(server.settings(gap_ms)).collect();
        let home = runtime
            .block_on(TestHome::open(tempfile::tempdir().unwrap(), &settings, &[FAMILY.settings]))
            .unwrap();
        Self { server, home, runtime }
    }

    fn run_within(&self, task: &str, input: Value, time: Duration) -> Report {
        let task = FAMILY.tasks.iter().find(|known| known.name == task).unwrap();
        self.runtime.block_on(self.home.run_within(task, input, time))
    }

    fn run(&self, task: &str, input: Value) -> Report {
        self.run_within(task, input, Duration::from_secs(500))
    }

    #[track_caller]
    fn sync(&self) -> Report {
        let report = self.run("sync_caveiratech", Value::Null);
        assert_eq!(report.status, Status::Complete, "{report:?}");
        report
    }

    /// What is stored, by the post's number.
    fn stored(&self) -> BTreeMap<u64, Body> {
        let documents =
            self.runtime.block_on(self.home.documents(Index::named(INDEX).unwrap())).unwrap();
        documents
            .into_iter()
            .map(|one| {
                (
                    one.body["post_id"].as_str().unwrap().parse::<u64>().unwrap() - 6_000_000,
                    one.body,
                )
            })
            .collect()
    }

    fn numbers(&self) -> BTreeSet<u64> {
        self.stored().into_keys().collect()
    }
}

fn pages_of(asked: &[String]) -> Vec<&str> {
    asked
        .iter()
        .map(String::as_str)
        .filter(|path| *path == "/" || path.starts_with("/page/"))
        .collect()
}

fn posts_of(asked: &[String]) -> usize {
    asked.iter().filter(|path| path.starts_with("/post/")).count()
}

fn the_first_sync_reads_ten_pages_and_the_second_one_in_each_markup() {
    for markup in [Markup::Of2025, Markup::Of2021, Markup::Unknown] {
        let trial = Trial::of(Site::of(markup, 300, 3));
        let first = trial.sync();
        assert_eq!(first.counts.new, 30, "{markup:?}: {first:?}");
        let asked = trial.server.asked();
        assert_eq!(asked[0], "/robots.txt");
        let mut pages: Vec<String> = (2..=10).map(|page| format!("/page/{page}")).collect();
        pages.insert(0, "/".to_owned());
        // Looking for a feed reads the first page too, and the end reads it again.
        assert_eq!(pages_of(&asked)[1..11], pages, "{markup:?}");
        assert_eq!(pages_of(&asked).len(), 12, "{markup:?}: {asked:?}");
        assert_eq!(posts_of(&asked), 30, "{markup:?}");

        let second = trial.sync();
        let asked = trial.server.asked();
        assert_eq!(second.writes(), 0, "{markup:?}: {second:?}");
        assert_eq!(asked, ["/robots.txt", "/"], "{markup:?}");

        let stored = trial.stored();
        assert_eq!(stored.len(), 30);
        let newest = &stored[&900];
        assert_eq!(newest["title"], "Falha 900 explorada em produção", "{markup:?}");
        assert_eq!(newest["summary"], summary(900), "{markup:?}");
        assert_eq!(
            newest["published"],
            format!("{}T03:00:00Z", day(900)).replace("T03", zone(&day(900))),
            "{markup:?}"
        );
        assert_eq!(newest["published_from"], "source", "{markup:?}");
        assert_eq!(newest["link"], format!("{}{}", trial.server.origin, link(900)));
        let content = newest["content"].as_str().unwrap();
        assert!(
            content.contains("O grupo número 900") && !content.contains("Grupo Solyd"),
            "{markup:?}: {content}"
        );
        assert!(
            newest["cves"].as_array().unwrap().contains(&json!("CVE-2025-10900")),
            "{markup:?}: {newest:?}"
        );
        assert_eq!(newest["references"], json!(["https://research.example/900"]), "{markup:?}");
        assert_eq!(newest["iocs"][0]["value"], "203.0.113.150", "{markup:?}");
        if markup == Markup::Of2021 {
            assert!(
                newest["cves"].as_array().unwrap().contains(&json!("CVE-2025-20900")),
                "{newest:?}"
            );
        }
        let stats = trial.run("get_caveiratech_stats", Value::Null);
        assert_eq!(
            (&stats.detail["total_articles"], &stats.detail["with_text"]),
            (&json!(30), &json!(30))
        );
        assert_eq!(stats.detail["crawl"]["known_posts"], 30);
    }
}

/// A document without the hashes of what holds the site's port.
fn without_hashes(mut body: Body) -> Body {
    body.remove("owners");
    body.remove("content_hash");
    body
}

/// The hour in UTC at which a day begins in São Paulo: summer time ended there in 2019.
fn zone(day: &str) -> &'static str {
    let instant: jiff::civil::Date = day.parse().unwrap();
    let zone = jiff::tz::TimeZone::get("America/Sao_Paulo").unwrap();
    if instant.to_zoned(zone).unwrap().offset().seconds() == -7200 { "T02" } else { "T03" }
}

fn every_kind_of_list_gives_equal_documents() {
    let stored = |set: fn(&mut Site), way: &str, task: &str| {
        let mut site = Site::of(Markup::Of2025, 4, 5);
        set(&mut site);
        let trial = Trial::of(site);
        let report = trial.run(task, Value::Null);
        assert_eq!(report.status, Status::Complete, "{report:?}");
        let notes = report.sources[0].notes.join("\n");
        assert!(notes.contains(&format!("listed by {way}")), "{notes}");
        assert_eq!(report.counts.new, 20, "{way}: {report:?}");
        // Each post's page is asked for once, however many lists name it.
        assert_eq!(posts_of(&trial.server.asked()), 20, "{way}");
        let second = trial.run(task, Value::Null);
        assert_eq!(second.writes(), 0, "{way}: {second:?}");
        assert_eq!(posts_of(&trial.server.asked()), 0, "{way}");
        let text = serde_json::to_string(
            &trial.stored().into_values().map(without_hashes).collect::<Vec<_>>(),
        )
        .unwrap();
        text.replace(&trial.server.origin, "SITE")
    };
    for task in ["sync_caveiratech", "full_sync_caveiratech"] {
        let pages = stored(|_| (), "its pages", task);
        assert_eq!(stored(|site| site.has_sitemap = true, "the sitemap", task), pages);
        assert_eq!(stored(|site| site.has_wordpress = true, "WordPress's interface", task), pages);
    }
    let pages = stored(|_| (), "its pages", "sync_caveiratech");
    assert_eq!(stored(|site| site.has_feed = true, "the feed", "sync_caveiratech"), pages);
}

fn a_full_sync_that_is_killed_three_times_ends_complete() {
    let server = Server::start(Site::of(Markup::Of2025, 300, 2));
    let mut home = Home::of(&[]);
    for (name, value) in server.settings(0) {
        home = home.with(&name, value);
    }
    for kill in 1..=3 {
        let running = home.spawn(&["run", "full_sync_caveiratech", "--json"]);
        let until = kill * 120;
        let is_far = || {
            server.set(|site| {
                site.asked.iter().filter(|asked| asked.path.starts_with("/post/")).count()
            }) >= until
        };
        assert!(eventually_within(Duration::from_secs(120), is_far), "kill {kill}");
        let own = running.pid();
        home.processes()
            .into_iter()
            .filter(|pid| *pid != own)
            .for_each(|pid| signal(pid, Signal::KILL));
        assert_ne!(running.end().code, Some(0), "kill {kill}");
    }
    let report = home.report(&["full_sync_caveiratech"]);
    assert_eq!(report["status"], "complete", "{report}");
    assert!(report["sources"][0]["notes"].to_string().contains("goes on behind page"), "{report}");
    let asked = server.asked();
    let posts: Vec<&String> = asked.iter().filter(|path| path.starts_with("/post/")).collect();
    let distinct: BTreeSet<&String> = posts.iter().copied().collect();
    assert_eq!(distinct.len(), 600);
    // Of each kill at most the post whose page was on its way.
    assert!(posts.len() <= 603, "{} requests for 600 posts", posts.len());
    let stats = home.report(&["get_caveiratech_stats"]);
    assert_eq!(stats["detail"]["total_articles"], 600, "{stats}");
}

fn posts_that_move_between_pages_are_not_lost() {
    type Move = fn(&mut Site);
    fn comes(site: &mut Site) {
        let next = site.posts.iter().max().unwrap() + 1;
        site.posts.insert(0, next);
    }
    fn goes(site: &mut Site) {
        // The newest of those that were read already: all others move up.
        site.posts.remove(1);
    }
    let moves: [Move; 2] = [comes, goes];
    let [comes, goes] = moves;
    for (markup, task) in
        [(Markup::Of2025, "full_sync_caveiratech"), (Markup::Unknown, "sync_caveiratech")]
    {
        for moves in [[comes; 3], [goes; 3], [comes, goes, goes]] {
            let mut site = Site::of(markup, 8, 3);
            // The first request for a page is that of looking for a feed.
            site.at_page = [3, 5, 7].into_iter().zip(moves).collect();
            let trial = Trial::of(site);
            let report = trial.run(task, Value::Null);
            assert_eq!(report.status, Status::Complete, "{report:?}");
            let there: BTreeSet<u64> =
                trial.server.set(|site| site.posts.iter().copied().collect());
            let missing: Vec<u64> = there.difference(&trial.numbers()).copied().collect();
            assert_eq!(missing, [0; 0], "{task}: {report:?}");
            let asked = trial.server.asked();
            let posts: BTreeSet<&String> =
                asked.iter().filter(|path| path.starts_with("/post/")).collect();
            assert_eq!(posts.len(), posts_of(&asked), "no post is asked for twice");
        }
    }
}

fn a_sync_that_was_cut_off_leaves_no_gap() {
    let mut site = Site::of(Markup::Of2025, 30, 3);
    // The fifth page breaks off the first run.
    site.answers.insert("/page/5".to_owned(), (500, String::new()));
    let trial = Trial::of(site);
    let report = trial.run("sync_caveiratech", Value::Null);
    assert_eq!(
        (report.status, report.sources[0].outcome),
        (Status::Failed, Outcome::Status),
        "{report:?}"
    );
    assert_eq!(trial.numbers().len(), 12);
    trial.server.set(|site| site.answers.clear());
    // Its first pages bring nothing new, and it reads on all the same.
    trial.sync();
    assert_eq!(trial.numbers().len(), 30);
    trial.server.asked();
    trial.sync();
    assert_eq!(pages_of(&trial.server.asked()), ["/"]);
}

fn a_changed_layout_is_an_alarm() {
    let trial = Trial::of(Site::of(Markup::Of2025, 3, 3));
    trial.sync();
    let before = trial.stored();
    let page = "<!DOCTYPE html><html><head><title>Novo portal</title></head><body><div id=\"app\"></div></body></html>";
    trial.server.set(|site| site.answers.insert("/".to_owned(), (200, page.to_owned())));
    for task in ["sync_caveiratech", "full_sync_caveiratech"] {
        let report = trial.run(task, Value::Null);
        assert_eq!(
            (report.status, report.sources[0].outcome),
            (Status::Failed, Outcome::LayoutChanged),
            "{report:?}"
        );
        let problem = report.sources[0].problem.as_ref().unwrap();
        assert_eq!(problem.class, Class::Format);
        for word in ["the layout changed", "div.post a[href*", "Novo portal", "sha256"] {
            assert!(problem.message.contains(word), "{word}: {}", problem.message);
        }
        assert!(problem.hint.as_ref().unwrap().contains("<div id=\"app\">"), "{problem:?}");
    }
    assert_eq!(trial.stored(), before);
    let stats = trial.run("get_caveiratech_stats", Value::Null);
    assert!(
        stats.detail["last_error"].as_str().unwrap().contains("the layout changed"),
        "{stats:?}"
    );
    assert_eq!(stats.detail["crawl"]["layout_changed"]["title"], "Novo portal");
    // It is over when the page is what it was.
    trial.server.set(|site| site.answers.clear());
    trial.sync();
    let stats = trial.run("get_caveiratech_stats", Value::Null);
    assert_eq!(stats.detail["crawl"]["layout_changed"], Value::Null);
}

fn robots_txt_is_obeyed() {
    let with = |robots: Option<&str>| {
        let mut site = Site::of(Markup::Of2025, 2, 3);
        site.robots = robots.map(str::to_owned);
        Trial::of(site)
    };
    let trial = with(Some("User-agent: *\nDisallow: /\n"));
    let report = trial.run("sync_caveiratech", Value::Null);
    assert_eq!(
        (report.status, report.sources[0].outcome),
        (Status::Failed, Outcome::Blocked),
        "{report:?}"
    );
    assert_eq!(trial.server.asked(), ["/robots.txt"]);

    // Our own group goes before that of all.
    let trial = with(Some(
        "User-agent: minerva\nDisallow: /post/\nDisallow: /page/\nDisallow: /wp-json/\n\nUser-agent: *\nDisallow: /\n",
    ));
    trial.sync();
    let asked = trial.server.set(|site| std::mem::take(&mut site.asked));
    assert!(asked.iter().all(|one| !one.path.starts_with("/post/")
        && !one.path.starts_with("/page/")
        && !one.path.starts_with("/wp-json")));
    assert!(asked.iter().all(|one| one.agent.starts_with("Minerva/")), "an honest name");
    let stored = trial.stored();
    assert_eq!(stored.len(), 3);
    assert_eq!(
        (&stored[&6]["title"], &stored[&6]["content"]),
        (&json!("Falha 6 explorada em produção"), &Value::Null)
    );

    let trial = with(None);
    trial.sync();
    assert_eq!(trial.numbers().len(), 6);

    let trial = with(Some("User-agent: *\nCrawl-delay: 3600\n"));
    let report = trial.run("sync_caveiratech", Value::Null);
    assert_eq!(report.sources[0].outcome, Outcome::Blocked, "{report:?}");
    assert_eq!(trial.server.asked(), ["/robots.txt"]);

    let trial = with(Some(
        "User-agent: *\nCrawl-delay: 0.5\nDisallow: /feed\nDisallow: /rss\nDisallow: /sitemap\nDisallow: /wp-\n",
    ));
    trial.run("sync_caveiratech", json!({"max_pages": 1}));
    let gaps = gaps(&trial.server);
    assert!(
        gaps.len() >= 4 && gaps.iter().skip(1).all(|gap| *gap >= Duration::from_millis(490)),
        "{gaps:?}"
    );

    let trial = with(Some(""));
    trial.server.set(|site| site.answers.insert("/robots.txt".to_owned(), (503, String::new())));
    let report = trial.run("sync_caveiratech", Value::Null);
    assert_eq!(report.status, Status::Failed, "{report:?}");
    assert!(
        trial.server.asked().iter().all(|path| path == "/robots.txt"),
        "nobody knows what is allowed"
    );
}

fn gaps(server: &Server) -> Vec<Duration> {
    let times: Vec<Instant> = server.set(|site| site.asked.iter().map(|asked| asked.at).collect());
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// By the site's own clock, under the settings as they come, also when two tasks meet and when one follows another.
fn requests_come_a_second_apart_on_one_connection() {
    let mut site = Site::of(Markup::Of2025, 1, 2);
    let quiet = "User-agent: *\nDisallow: /feed\nDisallow: /rss\nDisallow: /sitemap\nDisallow: /wp-\nDisallow: /page/\n";
    site.robots = Some(quiet.to_owned());
    let server = Server::start(site);
    let home = Home::of(&[]).with("CAVEIRATECH_URL", server.origin.clone());
    let ran: Vec<Value> = thread::scope(|scope| {
        let both = ["sync_caveiratech", "full_sync_caveiratech"]
            .map(|task| scope.spawn(|| home.run(&["run", task, "--json"]).json()));
        both.map(|one| one.join().unwrap()).to_vec()
    });
    let outcomes: BTreeSet<&str> =
        ran.iter().map(|report| report["sources"][0]["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, BTreeSet::from(["busy", "stored"]), "{ran:?}");
    // Another process, right behind.
    home.run(&["run", "sync_caveiratech", "--json"]).ends_with(0);
    let gaps = gaps(&server);
    assert!(gaps.len() >= 5, "{gaps:?}");
    // The clock is read when a request arrived, which may be a little later than it was sent.
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(980)), "{gaps:?}");
    assert_eq!(server.set(|site| site.open_most), 1);
}

fn an_edited_post_is_read_again_and_one_that_failed_too() {
    let mut site = Site::of(Markup::Of2025, 2, 3);
    site.answers.insert(link(5), (500, String::new()));
    let trial = Trial::of(site);
    let report = trial.sync();
    // What the list says of it is kept until its page can be read.
    assert_eq!(trial.stored()[&5]["content"], Value::Null, "{report:?}");
    assert!(
        report.sources[0].notes.iter().any(|note| note.contains("asked for again")),
        "{report:?}"
    );
    trial.server.set(|site| site.answers.clear());
    trial.server.asked();
    let report = trial.sync();
    assert_eq!((report.counts.changed, posts_of(&trial.server.asked())), (1, 1), "{report:?}");
    assert!(trial.stored()[&5]["content"].as_str().unwrap().contains("número 5"));

    trial.server.set(|site| site.edited.insert(6, "Falha corrigida".to_owned()));
    let report = trial.sync();
    assert_eq!((report.counts.changed, posts_of(&trial.server.asked())), (1, 1), "{report:?}");
    assert_eq!(trial.stored()[&6]["title"], "Falha corrigida");
    assert_eq!(trial.numbers().len(), 6);
}

fn a_hostile_page_costs_its_post_alone() {
    let mut site = Site::of(Markup::Of2025, 1, 6);
    site.answers.insert(link(6), (200, "<div>".repeat(100_000)));
    site.answers.insert(
        link(5),
        (
            200,
            format!(
                "{}{}",
                (0..100).map(|n| format!("<b id={n}>")).collect::<String>(),
                "<p>x".repeat(500_000)
            ),
        ),
    );
    site.answers.insert(
        link(3),
        (
            200,
            format!(
                "<div class=post><h class=post>T</h><p class=post_details>{}</p></div>",
                "&eacute;&amp;".repeat(20_000)
            ),
        ),
    );
    let trial = Trial::of(site);
    let began = Instant::now();
    let report = trial.sync();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(report.counts.new, 6, "{report:?}");
    let stored = trial.stored();
    let has_text = |number: u64| !stored[&number]["content"].is_null();
    assert_eq!([6, 5, 4, 3].map(has_text), [false, false, true, true]);
    let notes = report.sources[0].notes.join("\n");
    assert!(notes.contains("nested more than") && notes.contains("6000006"), "{notes}");

    // A list like that is no list.
    trial.server.set(|site| site.answers.insert("/".to_owned(), (200, "<div>".repeat(100_000))));
    let report = trial.run("sync_caveiratech", Value::Null);
    assert_eq!(
        (report.status, report.sources[0].outcome),
        (Status::Failed, Outcome::TooDeep),
        "{report:?}"
    );
}

fn what_the_site_has_is_looked_for_again_after_a_week() {
    let trial = Trial::with(Site::of(Markup::Of2025, 2, 5), 0, &[("MINERVA_CLOCK", "slot")]);
    let sync = |time: &str| {
        let event = json!({"source": "aws.events", "detail-type": "Scheduled Event",
            "time": time, "detail": {}});
        let report = trial.run("sync_caveiratech", event);
        assert_eq!(report.status, Status::Complete, "{report:?}");
        let is_probed = trial.server.asked().iter().any(|path| path == "/rss.xml");
        (is_probed, report.sources[0].notes.join("\n"), report.counts.changed + report.counts.new)
    };
    let (is_probed, notes, new) = sync("2026-03-01T13:00:00Z");
    assert!(is_probed && notes.contains("listed by its pages"), "{notes}");
    assert_eq!(new, 10);
    trial.server.set(|site| site.has_feed = true);
    for time in ["2026-03-02T01:00:00Z", "2026-03-08T12:59:00Z"] {
        let (is_probed, notes, _) = sync(time);
        assert!(!is_probed && notes.contains("listed by its pages"), "{time}: {notes}");
    }
    let (is_probed, notes, written) = sync("2026-03-08T13:00:00Z");
    assert!(is_probed && notes.contains("listed by the feed"), "{notes}");
    assert_eq!(written, 0, "another list is no news");
    // A way that is gone is not used for the rest of the week.
    trial.server.set(|site| {
        site.has_feed = false;
        site.posts.insert(0, 11);
    });
    let (_, notes, written) = sync("2026-03-09T13:00:00Z");
    assert!(notes.contains("listed by its pages"), "{notes}");
    assert_eq!((written, trial.numbers().len()), (1, 11));
}

/// The runner beside a site.
fn home_beside(server: &Server) -> Home {
    let settings = server.settings(0).into_iter();
    settings.fold(Home::of(&[]), |home, (name, value)| home.with(&name, value))
}

fn posts_are_made_anew_of_the_archive() {
    for task in ["sync_caveiratech", "full_sync_caveiratech"] {
        let server = Server::start(Site::of(Markup::Of2025, 3, 4));
        let home = home_beside(&server);
        let archive = home.path("archive");
        let home = home.with("MINERVA_ARCHIVE", archive.to_str().unwrap());
        let first = home.run(&["run", task, "--json"]).ends_with(0).json();
        assert_eq!(first["new"], 12, "{first}");
        let asked = server.asked();
        assert_eq!(posts_of(&asked), 12);
        let fresh = home.path("fresh");
        let anew = ["--data-dir", fresh.to_str().unwrap()];
        let report = home.run(&[&["reparse", task, "--json"], &anew[..]].concat());
        let report = report.ends_with(0).json();
        assert_eq!((&report["status"], &report["new"]), (&json!("complete"), &json!(12)));
        assert_eq!(server.asked(), Vec::<String>::new(), "the network was used");
        let stored = home.documents_of(INDEX);
        let again = home.run(&[&["documents", INDEX], &anew[..]].concat());
        assert_eq!(again.ends_with(0).out, stored);
        // What is stored is made again of it, and is the same.
        let second = home.run(&["reparse", task, "--json"]).ends_with(0).json();
        assert_eq!((&second["new"], &second["changed"]), (&json!(0), &json!(0)), "{second}");
        // The site goes on from where it was.
        let next = home.run(&["run", task, "--json"]).ends_with(0).json();
        assert_eq!((&next["new"], &next["changed"]), (&json!(0), &json!(0)), "{next}");
        assert_eq!(posts_of(&server.asked()), 0);
    }
}

fn adopted_posts_meet_their_sync(place: &mut Place) {
    let server = Server::start(Site::of(Markup::Of2025, 2, 3));
    let home = home_beside(&server)
        .with("ES_URL", address(place).as_str())
        .with("ES_INDEX_PREFIX", &place.stores.es_index_prefix);
    // As the predecessor's crawler wrote them; the last is on the site no more.
    let old = |number: u64| {
        let (link, day) = (format!("{}{}", server.origin, link(number)), day(number));
        json!({
            "content_hash": format!("{number:064x}"), "link": link, "title": format!("Falha {number}"),
            "summary": summary(number), "published": format!("{day}T00:00:00Z"),
            "@timestamp": "2025-12-01T10:00:00.123456", "collected_at": "2025-12-01T10:00:00.123456",
            "feed_name": "CaveiraTech", "feed_link": server.origin, "feed_title": "CaveiraTech",
            "feed_description": "Notícias", "source_type": "crawler", "language": "pt",
            "category": "cybersecurity", "tags": ["ciberseguranca", "hacking", "tecnologia", "brasil"],
            "enriched_summary": format!("Sobre {number}"), "enriched_at": "2025-12-02T00:00:00Z",
            "actors_mentioned": ["APT 1"], "families_mentioned": ["win.emotet"], "descricao": "em português",
        })
    };
    let name = place.named(INDEX);
    fill(place, &name, &[6, 5, 400].map(old));
    let refused = home.run(&["run", "sync_caveiratech"]);
    assert!(refused.ends_with(2).out.contains("local-runner adopt"), "{refused:?}");
    let done = home.run(&["adopt", &name, "--json"]).ends_with(0).json();
    assert_eq!((&done["state"], &done["renamed"]), (&json!("adopted"), &json!(3)), "{done}");
    let report = home.report(&["sync_caveiratech"]);
    assert_eq!((&report["new"], &report["changed"]), (&json!(4), &json!(2)), "{report}");
    let stored = home.documents_of(INDEX);
    let stored: Vec<Value> =
        stored.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(stored.len(), 7, "nothing stands twice");
    for number in [6, 5, 400] {
        let end = link(number);
        let is_it = |body: &&Value| body["link"].as_str().is_some_and(|link| link.ends_with(&end));
        let met = stored.iter().find(is_it).unwrap_or_else(|| panic!("{number}: {stored:?}"));
        assert_eq!(met["enriched_summary"], format!("Sobre {number}"));
        assert_eq!(
            (&met["actors_mentioned"], &met["families_mentioned"], &met["descricao"]),
            (&json!(["APT 1"]), &json!(["win.emotet"]), &json!("em português"))
        );
        assert_eq!(met["collected_at"], "2025-12-01T10:00:00.123456");
        assert_eq!(met["content"].is_string(), number != 400, "{met}");
    }
    let again = home.report(&["sync_caveiratech"]);
    assert_eq!((&again["new"], &again["changed"]), (&json!(0), &json!(0)), "{again}");
}

fn posts_are_stored_alike(place: &mut Place) {
    let (url, prefix) = (address(place).to_string(), place.stores.es_index_prefix.clone());
    let of = |more: &[(&str, &str)]| Trial::with(Site::of(Markup::Of2021, 5, 4), 0, more);
    let embedded = of(&[]);
    let server = of(&[("ES_URL", url.as_str()), ("ES_INDEX_PREFIX", prefix.as_str())]);
    let all = |trial: &Trial| {
        let all = trial.runtime.block_on(everything(&trial.home, &[INDEX])).into_values();
        let bodies = all.flat_map(|(_, bodies)| bodies);
        bodies
            .map(|body| {
                serde_json::to_string(&without_hashes(body))
                    .unwrap()
                    .replace(&trial.server.origin, "SITE")
            })
            .collect::<Vec<String>>()
    };
    for round in 0..3 {
        if round == 2 {
            for trial in [&embedded, &server] {
                trial.server.set(|site| site.edited.insert(20, "Outra".to_owned()));
            }
        }
        let (ours, theirs) = (embedded.sync(), server.sync());
        assert_eq!(theirs.counts, ours.counts, "{theirs:?}");
        assert_eq!(round == 1, theirs.writes() == 0, "{theirs:?}");
        assert_eq!(all(&server), all(&embedded), "round {round}");
    }
}
