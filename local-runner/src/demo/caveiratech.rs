//! A small site in the markup of CaveiraTech's pages: its posts are invented. It gains a post between the two crawls of day one, and
//! has one of them edited.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::upstream::Slot;

/// Posts of a page.
const PER_PAGE: usize = 3;

/// The slots of day one from which the newest post is there, and the oldest is edited.
const COMES: usize = 8;
const IS_EDITED: usize = 10;

struct Post {
    id: u32,
    slug: &'static str,
    day: &'static str,
    title: &'static str,
    summary: &'static str,
    text: &'static str,
}

/// The newest first.
const POSTS: [Post; 7] = [
    Post {
        id: 7_000_007,
        slug: "banco-bloqueia-aplicativo-falso",
        day: "2026-03-01",
        title: "Banco bloqueia aplicativo falso",
        summary: "O aplicativo imitava o original e pedia a senha duas vezes.",
        text: "O aplicativo enviava as senhas a portal-seguro[.]example e foi retirado da loja depois do aviso de um cliente.",
    },
    Post {
        id: 7_000_006,
        slug: "grupo-explora-falha-em-servidores",
        day: "2026-02-28",
        title: "Grupo explora falha em servidores",
        summary: "Servidores sem a correção foram invadidos pela CVE-2026-10006.",
        text: "Depois da invasão, um programa se conecta a 203[.]0[.]113[.]66 e espera ordens. A correção existe desde janeiro.",
    },
    Post {
        id: 7_000_005,
        slug: "malware-burla-antivirus",
        day: "2026-02-27",
        title: "Malware burla antivírus",
        summary: "Uma nova família apaga os próprios rastros.",
        text: "O arquivo tem o hash 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 e chega por e-mail.",
    },
    Post {
        id: 7_000_004,
        slug: "prefeitura-fica-sem-sistema",
        day: "2026-02-26",
        title: "Prefeitura fica sem sistema",
        summary: "Um ransomware parou o atendimento por dois dias.",
        text: "As cópias de segurança estavam em outro prédio, e nenhum resgate foi pago.",
    },
    Post {
        id: 7_000_003,
        slug: "vazamento-de-dados-de-clientes",
        day: "2026-02-25",
        title: "Vazamento de dados de clientes",
        summary: "Dados de uma loja foram postos à venda.",
        text: "A loja trocou as senhas de todos e avisou a autoridade de proteção de dados.",
    },
    Post {
        id: 7_000_002,
        slug: "roteadores-antigos-em-botnet",
        day: "2026-02-24",
        title: "Roteadores antigos em botnet",
        summary: "Modelos sem atualização são usados em ataques, pela CVE-2019-10002.",
        text: "Os comandos vêm de http://198.51.100[.]20/cmd. Quem tem um desses modelos deve trocá-lo.",
    },
    Post {
        id: 7_000_001,
        slug: "curso-gratuito-de-analise-de-malware",
        day: "2026-02-23",
        title: "Curso gratuito de análise de malware",
        summary: "As aulas começam em março.",
        text: "A inscrição vai até sexta-feira, e as vagas são poucas.",
    },
];

/// The site's paths below `/caveiratech/`.
pub(super) fn routes() -> Router<Slot> {
    Router::new()
        .route("/caveiratech/", get(async |State(slot): State<Slot>| list(now(&slot), 1)))
        .route(
            "/caveiratech/page/{number}",
            get(async |State(slot): State<Slot>, Path(number): Path<usize>| {
                list(now(&slot), number)
            }),
        )
        .route(
            "/caveiratech/post/{slug}",
            get(async |State(slot): State<Slot>, Path(slug): Path<String>| post(now(&slot), &slug)),
        )
}

fn now(slot: &Slot) -> usize {
    slot.load(std::sync::atomic::Ordering::SeqCst)
}

fn posts(slot: usize) -> &'static [Post] {
    if slot >= COMES { &POSTS } else { &POSTS[1..] }
}

fn title(post: &Post, slot: usize) -> String {
    let is_edited = slot >= IS_EDITED && post.id == POSTS[1].id;
    format!("{}{}", post.title, if is_edited { " (atualizado)" } else { "" })
}

fn page(title: &str, body: &str) -> Response {
    let head = format!(
        "<!DOCTYPE html><html lang=\"pt-BR\"><head><meta charset=\"utf-8\"><title>{title}</title></head>"
    );
    Html(format!("{head}<body><div class=\"ui menu\">CaveiraTech</div>{body}</body></html>"))
        .into_response()
}

fn list(slot: usize, number: usize) -> Response {
    let all = posts(slot);
    let from = number.saturating_sub(1).saturating_mul(PER_PAGE);
    if number == 0 || from >= all.len() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut body = String::new();
    for post in all.iter().skip(from).take(PER_PAGE) {
        let Post { id, slug, day, summary, .. } = post;
        let title = title(post, slot);
        let _ = write!(
            body,
            "<div class=\"post\"><div class=\"date\">{day}</div><a href=\"/caveiratech/post/{slug}-{id}\"><h class=\"post\">🔹 {title}</h></a><p class=\"summary_text\">{summary}</p></div>"
        );
    }
    let last = all.len().div_ceil(PER_PAGE);
    let _ = write!(body, "<a href=\"/caveiratech/page/{last}\">[{last}]</a>");
    page("CaveiraTech", &body)
}

fn post(slot: usize, slug: &str) -> Response {
    let is_it = |post: &&Post| format!("{}-{}", post.slug, post.id) == slug;
    let Some(post) = posts(slot).iter().find(is_it) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Post { day, summary, text, .. } = post;
    let title = title(post, slot);
    page(
        &title,
        &format!(
            "<div class=\"post\"><div class=\"date\">{day}</div><h class=\"post\">🔹 {title}</h><p class=\"summary_text\">{summary}</p><p class=\"post_details\">{text}</p></div>"
        ),
    )
}
