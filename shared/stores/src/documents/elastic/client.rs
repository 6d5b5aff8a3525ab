//! Requests to the server: several addresses, who we are, what is waited out, and what its refusals mean.
//!
//! The `elasticsearch` crate sends; it neither retries nor fails over, answers `Ok` to any status, and cannot be kept from
//! following a redirect, so an answer from elsewhere is refused afterwards.

use std::error::Error as _;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base::config::{Secret, Stores};
use base::secrets::hidden;
use base::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

/// One request, from its first byte to the last of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server that answered before is waited for: a restart, an overload.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one is waited for that never answered: more likely its address is wrong.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// The first wait; each is twice the one before.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What each part of a refusal's text may add to a message: what the server says, and why.
const REASON_MAX: usize = 200;

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as JSON, null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it is a JSON document, as every answer of a search server is.
    pub(super) fn is_json(&self) -> bool {
        serde_json::from_slice::<serde::de::IgnoredAny>(&self.body).is_ok()
    }

    /// Whether it is the refusal of a search server, in its form.
    pub(super) fn is_refusal(&self) -> bool {
        self.json()["error"]["type"].is_string()
    }

    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer to work with.
pub(super) enum Trouble {
    /// The connection failed: whether the request was carried out is not known.
    Lost(Error),
    /// The server has too much to do.
    Overloaded(Error, Option<Duration>),
    /// Trying again will not help.
    Final(Error),
}

impl Trouble {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Overloaded(error, _) | Self::Final(error) => error,
        }
    }
}

/// Waits with a limit: each longer than the one before, with chance in it so that 27 functions do not return together.
pub(super) struct Patience {
    until: Instant,
    wait: Duration,
}

impl Patience {
    /// Waits, and says whether there is any point in trying again.
    pub(super) async fn wait(&mut self, asked: Option<Duration>) -> bool {
        let chance = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 512.0;
        let wait = asked.unwrap_or(self.wait).min(WAIT_MAX).mul_f64(1.0 + chance);
        self.wait = (self.wait * 2).min(WAIT_MAX);
        let next = Instant::now() + wait;
        if next > self.until {
            return false;
        }
        sleep_until(next).await;
        true
    }
}

struct Node {
    transport: Transport,
    url: Url,
    /// What we log in with, in each form in which it is sent.
    secrets: Vec<String>,
}

/// The server, by all its addresses.
pub(super) struct Client {
    nodes: Vec<Node>,
    /// The address that answered last.
    preferred: AtomicUsize,
    has_answered: AtomicBool,
}

impl Client {
    pub(super) fn new(stores: &Stores) -> Result<Self> {
        let given = stores.es_url.as_ref().map(Secret::expose).filter(|urls| !urls.is_empty());
        let urls =
            given.ok_or_else(|| Error::config("open the document server: `ES_URL` is empty"))?;
        let authority = authority(stores)?;
        let mut nodes = Vec::with_capacity(urls.len());
        for given in urls {
            let mut url = given.clone();
            // What stands in the address would stand in error messages.
            let user = percent_decoded(url.username());
            let password = percent_decoded(url.password().unwrap_or_default());
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            cleared.map_err(|()| Error::config("read `ES_URL`: it has no host"))?;
            let in_url = Some(Credentials::Basic(user, password)).filter(|_| &url != given);
            let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.clone()))
                .timeout(REQUEST_TIMEOUT)
                .enable_meta_header(false);
            let mut secrets = Vec::new();
            if let Some(credentials) = credentials(stores)?.or(in_url) {
                secrets = sent(&credentials);
                builder = builder.auth(credentials);
            }
            if let Some(authority) = &authority {
                let authority = Certificate::from_pem(authority).map_err(|cause| {
                    Error::config("read the certificate of `ES_CA_CERT`").because(cause)
                })?;
                builder = builder.cert_validation(CertificateValidation::Full(authority));
            }
            if is_loopback(&url) {
                builder = builder.disable_proxy();
            }
            let transport = builder.build().map_err(|cause| {
                Error::config(format!("prepare requests to `{url}`")).because(cause)
            })?;
            nodes.push(Node { transport, url, secrets });
        }
        Ok(Self { nodes, preferred: AtomicUsize::new(0), has_answered: AtomicBool::new(false) })
    }

    /// The addresses, without passwords.
    pub(super) fn shown(&self) -> String {
        let urls: Vec<&str> = self.nodes.iter().map(|node| node.url.as_str()).collect();
        urls.join(", ")
    }

    pub(super) fn patience(&self) -> Patience {
        let limit =
            if self.has_answered.load(Ordering::Relaxed) { PATIENCE } else { FIRST_PATIENCE };
        Patience { until: Instant::now() + limit, wait: WAIT_FIRST }
    }

    /// Sends a request that is harmless to repeat, waiting out overload and restarts. Any status that means neither comes
    /// back as an answer.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answer = self.ask(method, path, query, body).await?;
        if answer.is_json() { Ok(answer) } else { Err(self.no_search_server(&answer)) }
    }

    /// As [`Self::request`], for one who reads the answer anyway: it may be no JSON.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer> {
        let mut patience = self.patience();
        loop {
            let (error, asked) = match self.send(method, path, query, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Overloaded(error, asked)) => (error, asked),
                Err(Trouble::Lost(error)) => (error, None),
            };
            if !patience.wait(asked).await {
                return Err(error);
            }
        }
    }

    /// The error of a server that answers as no search server does.
    pub(super) fn no_search_server(&self, answer: &Answer) -> Error {
        let what =
            if answer.is_json() { "with other JSON than a search server" } else { "without JSON" };
        Error::config(format!(
            "use `{}` as the document server: it answers {what} (status `{}`)",
            self.shown(),
            answer.status
        ))
        .hint(
            "`ES_URL` must name Elasticsearch or OpenSearch itself, not a dashboard or a web server: `curl ADDRESS` shows its name and version",
        )
    }

    /// Sends once. An address at which no connection is to be had is passed over for the next.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer, Trouble> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut trouble = None;
        for step in 0..self.nodes.len() {
            let place = (first + step) % self.nodes.len();
            let node = &self.nodes[place];
            match send_to(node, method, path, query, body.clone()).await {
                Err(Trouble::Lost(error)) if error.class() == base::Class::Store => {
                    tracing::debug!(url = %node.url, error = error.chain(), "no answer");
                    trouble.get_or_insert(Trouble::Lost(error));
                }
                settled => {
                    self.preferred.store(place, Ordering::Relaxed);
                    self.has_answered.store(true, Ordering::Relaxed);
                    return settled;
                }
            }
        }
        Err(trouble.expect("there is an address, or `new` had refused"))
    }

    /// Addresses that do not answer, with why; for `doctor`.
    pub(super) async fn silent(&self) -> Vec<String> {
        let mut silent = Vec::new();
        for node in &self.nodes {
            if let Err(Trouble::Lost(error)) =
                send_to(node, Method::Get, "/_cluster/health", &[], None).await
            {
                silent.push(error.chain());
            }
        }
        silent
    }
}

async fn send_to(
    node: &Node,
    method: Method,
    path: &str,
    query: &[(&str, &str)],
    body: Option<Bytes>,
) -> Result<Answer, Trouble> {
    let mut headers = HeaderMap::new();
    if path.ends_with("/_bulk") {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    }
    let lost = |cause: elasticsearch::Error| {
        let chain = chain(&cause);
        let error = format!("reach the document server at `{}`: {chain}", node.url);
        let lower = chain.to_lowercase();
        if lower.contains("certificate") || lower.contains("unknownissuer") {
            return Trouble::Final(Error::config(error).hint(
                "set `ES_CA_CERT` to the PEM file of the authority that signed the server's certificate, and use in `ES_URL` a name that stands in it",
            ));
        }
        // Something answers there, in another language.
        if ["invalid http", "http parse", "unexpected message"]
            .iter()
            .any(|words| lower.contains(words))
        {
            return Trouble::Final(Error::config(error).hint(
                "what listens there does not speak HTTP: `ES_URL` must name the port of Elasticsearch or OpenSearch, usually 9200",
            ));
        }
        if lower.contains("invalidcontenttype") {
            return Trouble::Final(
                Error::config(error)
                    .hint("is `ES_URL` right, `https` against `http` included? what listens there does not speak TLS"),
            );
        }
        let hint = if lower.contains("message completed") {
            "the connection was closed unanswered: does the server want `https://` in `ES_URL`, and is that its port?"
        } else if lower.contains("refused") {
            "nothing listens there: is the server running, and is it `ES_URL`'s port?"
        } else {
            "is `ES_URL` right, `https` against `http` included, and does a firewall let it through?"
        };
        Trouble::Lost(Error::unreachable(error).hint(hint))
    };
    let response =
        node.transport.send(method, path, headers, Some(query), body, None).await.map_err(lost)?;
    let status = response.status_code().as_u16();
    let asked = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    if response.url().origin() != node.url.origin() || (300..400).contains(&status) {
        let error = format!("use `{}`: it sends us on to another address", node.url);
        return Err(Trouble::Final(
            Error::config(error)
                .hint("set `ES_URL` to the server itself; redirects are not followed"),
        ));
    }
    let mut body = response.bytes().await.map_err(lost)?;
    if status >= 400 {
        // An error may repeat our request, headers and all.
        body =
            hidden(&String::from_utf8_lossy(&body), node.secrets.iter().map(String::as_str)).into();
    }
    let answer = Answer { status, body };
    let said = || format!("`{}` answered status `{status}`{}", node.url, reason(&answer.json()));
    match status {
        401 => Err(Trouble::Final(
            Error::config(format!("log in: {}", said())).hint(
                "check `ES_USERNAME` and `ES_PASSWORD`, or `ES_API_KEY`: the server does not know them",
            ),
        )),
        403 | 429 if is_block(&answer.json()["error"]) => Err(Trouble::Final(read_only(&said()))),
        403 => Err(Trouble::Final(
            Error::config(format!("use the document server: {}", said()))
                .hint("the user lacks a right: on the indices it needs `create_index`, `write`, `read`, `manage`"),
        )),
        // A gateway's time-out says nothing about what became of the request.
        502 | 504 => Err(Trouble::Lost(Error::unreachable(format!("reach the document server: {}", said())))),
        429 | 503 => Err(Trouble::Overloaded(
            Error::unreachable(format!("get the document server's attention: {}", said()))
                .hint("it has too much to do, or is not ready; the next tick tries again"),
            asked,
        )),
        _ => Ok(answer),
    }
}

/// Whether an error of the server says that an index takes no writes.
pub(super) fn is_block(error: &Value) -> bool {
    error["type"] == "cluster_block_exception"
        && error["reason"].as_str().is_none_or(|reason| !reason.contains("SERVICE_UNAVAILABLE"))
}

/// An index that takes no writes: waiting does not help, a person does.
pub(super) fn read_only(said: &str) -> Error {
    // A block of a person's, or of ours while an index is built anew; a full disk sets another one.
    if said.contains("index write (api)") || said.contains("block `write`") {
        return Error::store(format!("write to an index that takes no writes for now: {said}")).hint(
            "`local-runner reindex` closes it for the last step, and the next tick tries again; if none is at work, run it once more, or ask `PUT INDEX/_settings {\"index.blocks.write\": null}`",
        );
    }
    Error::store(format!("write to an index that is read-only: {said}")).hint(
        "the server's disk is nearly full: free some; the server then lifts the block by itself, or ask `PUT INDEX/_settings {\"index.blocks.read_only_allow_delete\": null}`",
    )
}

/// What the server says was wrong, as `: type: reason`.
pub(super) fn reason(body: &Value) -> String {
    let error = &body["error"];
    let root = &error["root_cause"][0];
    // A part repeats the value that it refuses, which may be long; the next must be seen all the same.
    let cut = |text: &str| text.chars().take(REASON_MAX).collect::<String>();
    let text = match error {
        Value::String(text) => cut(text),
        Value::Object(_) => {
            let mut text = format!(
                "{}: {}",
                error["type"].as_str().unwrap_or("error"),
                cut(error["reason"].as_str().or(root["reason"].as_str()).unwrap_or_default())
            );
            if let Some(cause) = error["caused_by"]["reason"].as_str() {
                text.push_str(": ");
                text.push_str(&cut(cause));
            }
            text
        }
        _ => return String::new(),
    };
    format!(": {text}")
}

fn chain(error: &elasticsearch::Error) -> String {
    // The crate's outer layers repeat the address; what happened stands at the end.
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        cause = inner.source();
    }
    if causes.len() > 2 { causes.split_off(causes.len() - 2).join(": ") } else { causes.join(": ") }
}

fn authority(stores: &Stores) -> Result<Option<Vec<u8>>> {
    let Some(path) = &stores.es_ca_cert else { return Ok(None) };
    fs::read(path).map(Some).map_err(|cause| {
        Error::config(format!("read `ES_CA_CERT`, the file `{}`", path.display())).because(cause)
    })
}

/// Who we are by the settings, the API key first.
fn credentials(stores: &Stores) -> Result<Option<Credentials>> {
    let exposed = |secret: &Option<Secret<String>>| secret.as_ref().map(|s| s.expose().clone());
    if let Some(key) = exposed(&stores.es_api_key) {
        if !key.chars().all(|letter| letter.is_ascii_graphic()) {
            return Err(Error::config(
                "read `ES_API_KEY`: it holds a space or a letter that no key has",
            ));
        }
        return Ok(Some(match key.split_once(':') {
            Some((id, key)) => Credentials::ApiKey(id.to_owned(), key.to_owned()),
            None => Credentials::EncodedApiKey(key),
        }));
    }
    match (&stores.es_username, exposed(&stores.es_password)) {
        (Some(user), Some(password)) => Ok(Some(Credentials::Basic(user.clone(), password))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::config(
            "log in to the document server: `ES_USERNAME` is set and `ES_PASSWORD` is not",
        )),
        (None, Some(_)) => Err(Error::config(
            "log in to the document server: `ES_PASSWORD` is set and `ES_USERNAME` is not",
        )),
    }
}

/// The secrets of credentials, as they are and as a header holds them.
fn sent(credentials: &Credentials) -> Vec<String> {
    let pair = |id: &str, key: &str| vec![key.to_owned(), BASE64.encode(format!("{id}:{key}"))];
    match credentials {
        Credentials::Basic(user, password) => pair(user, password),
        Credentials::ApiKey(id, key) => pair(id, key),
        Credentials::EncodedApiKey(key) => vec![key.clone()],
        _ => Vec::new(),
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str()
        .is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."))
}

/// User and password as they were before they were put into an address.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let code = (bytes[place] == b'%')
            .then(|| text.get(place + 1..place + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.unwrap_or(bytes[place]));
        place += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_in_the_address_is_not_shown() {
        let stores = Stores {
            es_url: Some(Secret::new(vec!["https://u:hunter%402@es:9200".parse().unwrap()])),
            ..Stores::default()
        };
        assert_eq!(Client::new(&stores).unwrap().shown(), "https://es:9200/");
        assert_eq!(percent_decoded("hunter%402%"), "hunter@2%");
    }

    #[tokio::test]
    async fn a_server_that_repeats_our_headers_shows_no_secret() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).to_string();
                let reason = head.lines().find(|line| line.starts_with("authorization: "));
                let body = json!({"error": {"type": "echo", "reason": reason}}).to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 401 No\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        let url =
            |login: &str| Secret::new(vec![format!("http://{login}{address}").parse().unwrap()]);
        let secret = |text: &str| Some(Secret::new(text.to_owned()));
        for (stores, sent) in [
            (
                Stores { es_url: Some(url("ana:hunter2@")), ..Stores::default() },
                BASE64.encode("ana:hunter2"),
            ),
            (
                Stores {
                    es_url: Some(url("")),
                    es_api_key: secret("id:opens-it"),
                    ..Stores::default()
                },
                BASE64.encode("id:opens-it"),
            ),
            (
                Stores {
                    es_url: Some(url("")),
                    es_api_key: secret("ZW5jb2RlZA"),
                    ..Stores::default()
                },
                "ZW5jb2RlZA".to_owned(),
            ),
        ] {
            let client = Client::new(&stores).unwrap();
            let error = client.request(Method::Get, "/", &[], None).await.err().unwrap();
            let told = error.chain();
            assert!(told.contains("authorization: ") && told.contains("***"), "{told}");
            assert!(!told.contains(&sent) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn half_a_login_is_a_wrong_setting() {
        let stores = Stores {
            es_url: Some(Secret::new(vec!["http://es:9200".parse().unwrap()])),
            es_username: Some("elastic".to_owned()),
            ..Stores::default()
        };
        assert!(Client::new(&stores).err().unwrap().chain().contains("`ES_PASSWORD` is not"));
    }

    #[test]
    fn a_full_disk_is_told_from_an_overload_and_from_a_start() {
        let error = |reason: &str| json!({"type": "cluster_block_exception", "reason": reason});
        assert!(is_block(&error(
            "index [a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]"
        )));
        assert!(!is_block(&error(
            "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];"
        )));
        assert!(!is_block(&json!({"type": "es_rejected_execution_exception"})));
    }
}
