//! The only HTTP client that tasks use (`ctx.http`): what it fetches is hostile, and it takes nobody's time for granted.
//!
//! A call is `http.send(Request::get(&url))`, or `http.stream(…)` for a body of any length. What holds for every call, whatever the caller asks for:
//!
//! - only public addresses are reached, also after redirects and DNS ([`AllowNets`] and [`Request::trusted`] except);
//! - at most [`MAX_REDIRECTS`] hops, none from https to http, followed by hand so that each is judged;
//! - time, body and memory have limits ([`Limits`], [`LARGE_BODIES`]), before and after decompression;
//! - a host sees two requests at once and two starts a second at most, or fewer ([`Request::pace`]);
//! - one second try, for what passes in a moment and may arrive twice; everything else is for the next tick;
//! - no cookies, no `Referer`, no environment variable; certificates are verified against the roots compiled in.
//!
//! Header limits are hyper's: HTTP/1.1 takes 100 fields in 408 KiB, HTTP/2 takes 16 KiB. A process builds one [`Http`] and
//! clones it: pace and memory are counted per `Http`.

mod body;
mod call;
mod conditional;
mod failure;
mod guard;
mod pace;
mod range;
mod route;
mod stream;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base::address::shown;
use base::config::{Network, Secret};
use base::nets::AllowNets;
use base::{Error, Result};
use jiff::Timestamp;
use reqwest::Client;
pub use reqwest::Method;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

pub use base::validators::Validators;

pub use self::body::{LARGE_BODIES, REFUSAL_MAX, SMALL_BODY};
pub use self::call::{Fetched, Headers, Limits, NotModified, Request, Response, WaitInBody};
pub use self::conditional::{RETRY_AFTER_MAX, retry_after};
pub use self::failure::{Failure, Limit, MAX_REDIRECTS, Phase, Reason};
pub use self::pace::{GAP_MAX, Pace};
pub use self::stream::{CHUNK_BYTES_MAX, LINE_BYTES_MAX, Line, Stream, Streamed};

use self::body::{Body, Memory};
use self::failure::Progress;
use self::guard::{GuardedResolver, Lookup, Names};
use self::pace::{Hosts, Turn};
use self::range::Part;
use self::route::Route;
use self::stream::{Head, Source};

/// A wait that is asked for is waited within the call up to its whole time divided by this: 20 s for a feed, 80 s for a
/// library, whose throttle asks for 16 s and more.
const RETRY_AFTER_SHARE: u32 = 3;
/// The longest wait within a call, for those whose whole time is a stream's.
const RETRY_AFTER_WITHIN: Duration = Duration::from_secs(80);

/// Until a connection stands, TLS included; shared by all addresses of a name, so a dead first one costs half of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the second try; up to half of it is added by chance.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Idle connections older than this are closed: a frozen function must not wake up to dead ones.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
/// The longest target of a redirect.
const LOCATION_MAX: usize = 8 << 10;
/// What HTTP/2 may send ahead of the reader, a stream and a connection; hyper's 2 and 5 MiB times 60 sources are too much.
const HTTP2_STREAM_WINDOW: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW: u32 = 512 << 10;

/// The client; a clone shares connections, pace and memory with the original.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    allow: AllowNets,
    /// For configured URLs: their names may resolve into the listed networks.
    configured: Client,
    /// For names that only redirects brought. A client of its own, so that it shares no connection with the other.
    redirected: Client,
    /// For endpoints that the operator set.
    trusted: Client,
    pace: Pace,
    hosts: Hosts,
    memory: Memory,
    retry_pause: Duration,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The parts that tests replace.
struct Parts {
    lookup: Lookup,
    roots: RootCertStore,
    gap: Duration,
    retry_pause: Duration,
    slow_for: Duration,
}

impl Default for Parts {
    /// The roots are those compiled in: to look for a certificate store would cost a cold start its time.
    fn default() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self {
            lookup: Lookup::System,
            roots,
            gap: pace::GAP,
            retry_pause: RETRY_PAUSE,
            slow_for: body::SLOW_FOR,
        }
    }
}

/// Where a hop leads on to.
struct Redirect {
    location: String,
    is_permanent: bool,
}

/// What a call came to, with the body as it was received.
enum Answer<B> {
    NotModified(Box<NotModified>),
    Body(B),
    Refused(Box<Response>),
}

/// A request that brought no answer.
struct NoAnswer {
    reason: Reason,
    /// The refusal itself, where the caller wants to see it.
    refused: Option<Box<Response>>,
}

impl From<Reason> for NoAnswer {
    fn from(reason: Reason) -> Self {
        Self { reason, refused: None }
    }
}

/// An answer whose header is there and whose body is not.
struct Opened<'a> {
    request: &'a Request<'a>,
    head: Head,
    part: Option<Part>,
    response: reqwest::Response,
    turn: Turn,
    deadline: Instant,
}

/// How a body is received.
trait Receive {
    type Body: Send;

    fn receive(
        inner: &Inner,
        opened: Opened<'_>,
        progress: &mut Progress,
    ) -> impl Future<Output = Result<Self::Body, Reason>> + Send;
}

/// All of it at once.
struct Whole;

impl Receive for Whole {
    type Body = Response;

    async fn receive(
        inner: &Inner,
        opened: Opened<'_>,
        progress: &mut Progress,
    ) -> Result<Response, Reason> {
        let Opened { request, mut head, response, turn, .. } = opened;
        let body = body::read(response, &request.limits, &inner.memory, progress).await?;
        drop(turn);
        if body.truncated {
            head.validators = Validators::default();
        }
        Ok(assemble(head, body))
    }
}

/// As it comes.
struct AsStream;

impl Receive for AsStream {
    type Body = Stream;

    async fn receive(_: &Inner, opened: Opened<'_>, _: &mut Progress) -> Result<Stream, Reason> {
        let Opened { request, mut head, part, response, turn, deadline } = opened;
        let limits = request.limits;
        let body = body::open(response, &limits, part.is_some()).await?;
        head.starts_at = part.map_or(0, |part| part.starts_at);
        let source = Source {
            decoder: body.decoder,
            is_plain: body.is_plain,
            on_wire: body.on_wire,
            url: request.url.clone(),
            limits,
            deadline,
            ends_at: part.map(|part| part.ends_at),
            _turn: turn,
        };
        Ok(Stream::new(head, source))
    }
}

impl Http {
    /// Builds the client; `now` is asked when a `Retry-After` holds a date.
    pub fn new(
        network: &Network,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::build(network, now, Parts::default())
    }

    fn build(
        network: &Network,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        parts: Parts,
    ) -> Result<Self> {
        let Parts { lookup, roots, gap, retry_pause, slow_for } = parts;
        let tls = tls_config(roots);
        let mut resolver = GuardedResolver {
            allow: network.allow_nets.clone(),
            names: Names::Configured,
            proxy: network
                .proxy
                .as_ref()
                .and_then(|proxy| proxy.expose().host_str().map(str::to_owned)),
            lookup,
        };
        let configured = client(network, tls.clone(), resolver.clone())?;
        resolver.names = Names::Redirected;
        let redirected = client(network, tls.clone(), resolver.clone())?;
        resolver.names = Names::Trusted;
        let trusted = client(network, tls, resolver)?;
        let inner = Inner {
            allow: network.allow_nets.clone(),
            configured,
            redirected,
            trusted,
            pace: Pace { gap, ..Pace::USUAL },
            hosts: Hosts::default(),
            memory: Memory::new(slow_for),
            retry_pause,
            now: Box::new(now),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends a request and reads the answer. Dropping the future ends the request.
    pub async fn send(&self, request: Request<'_>) -> Result<Fetched, Failure> {
        if request.range.is_some() {
            let reason = Reason::InvalidRequest("a range of a body that is not streamed".into());
            return Err(Failure::new(reason, 0, request.url, None));
        }
        Ok(match self.call::<Whole>(&request).await? {
            Answer::NotModified(answer) => Fetched::NotModified(*answer),
            Answer::Body(response) => Fetched::Body(response),
            Answer::Refused(response) => Fetched::Refused(*response),
        })
    }

    /// Sends a request and hands out the body as it comes; a refusal is always a failure.
    ///
    /// A failure before the first byte is tried again as for [`Http::send`], one in the middle is the stream's. Until it is
    /// dropped, a stream takes one of the two places at its host.
    pub async fn stream(&self, request: Request<'_>) -> Result<Streamed, Failure> {
        match self.call::<AsStream>(&request).await? {
            Answer::NotModified(answer) => Ok(Streamed::NotModified(*answer)),
            Answer::Body(stream) => Ok(Streamed::Open(stream)),
            Answer::Refused(response) => Err(response.refused()),
        }
    }

    async fn call<R: Receive>(&self, request: &Request<'_>) -> Result<Answer<R::Body>, Failure> {
        let mut progress = Progress::default();
        let failure = |reason, progress: &Progress| {
            let failure =
                Failure::new(reason, progress.requests, request.url, progress.last_url.as_ref());
            if request.is_plain() { failure } else { failure.of_sending() }
        };
        // A host's slowness to others is not this call's: the time starts with the first turn.
        self.inner.check(request, request.url).map_err(|reason| failure(reason, &progress))?;
        let turn = self.inner.turn(request, request.url).await;
        let total = request.limits.total_timeout;
        let deadline = Instant::now() + total;
        let call = Box::pin(self.inner.follow::<R>(request, turn, deadline, &mut progress));
        let result = match timeout_at(deadline, call).await {
            Ok(result) => result,
            Err(_) => Err(Reason::TimedOut { limit: Limit::Total(progress.phase), after: total }),
        };
        result.map_err(|reason| failure(reason, &progress))
    }
}

impl Inner {
    async fn follow<R: Receive>(
        &self,
        request: &Request<'_>,
        first_turn: Turn,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<Answer<R::Body>, Reason> {
        let mut route = Route::from(request.url);
        let mut may_try_again = request.has_second_try();
        let longest_wait = request.limits.total_timeout / RETRY_AFTER_SHARE;
        let longest_wait = longest_wait.min(RETRY_AFTER_WITHIN);
        let mut turn = Some(first_turn);
        loop {
            progress.last_url = Some(route.here.clone());
            self.check(request, &route.here)?;
            let NoAnswer { reason, refused } =
                match self.hop::<R>(request, &route, turn.take(), deadline, progress).await {
                    Ok(ControlFlow::Continue(Redirect { location, is_permanent })) => {
                        // The place that was refused is the one to be shown.
                        progress.last_url = route.here.join(&location).ok();
                        route = route.follow(&location, is_permanent)?;
                        continue;
                    }
                    Ok(ControlFlow::Break(answer)) => return Ok(answer),
                    Err(no_answer) => no_answer,
                };
            let pause = self.retry_pause + jitter(self.retry_pause / 2);
            let wait = match reason {
                Reason::RateLimited { retry_after: Some(asked), .. } if asked <= longest_wait => {
                    Some(asked.max(pause))
                }
                _ => reason.is_passing().then_some(pause),
            };
            let start = wait.map(|wait| Instant::now() + wait);
            let (Some(wait), Some(start), true) =
                (wait, start.filter(|start| *start < deadline), may_try_again)
            else {
                return refused.map(Answer::Refused).ok_or(reason);
            };
            may_try_again = false;
            progress.phase = Phase::Pause;
            if matches!(reason, Reason::RateLimited { .. }) {
                self.hosts.quiet(&route.here, wait);
            }
            sleep_until(start).await;
        }
    }

    /// Judges what can be judged of a URL without DNS.
    fn check(&self, request: &Request<'_>, url: &Url) -> Result<(), Reason> {
        if request.is_trusted { guard::check_form(url) } else { guard::check(url, &self.allow) }
    }

    async fn turn(&self, request: &Request<'_>, url: &Url) -> Turn {
        if request.is_trusted && request.is_unpaced {
            return Turn::FREE;
        }
        let is_operators_own = request.is_trusted || self.allow.has_host(url);
        let gap = if is_operators_own { Duration::ZERO } else { self.pace.gap };
        self.hosts.turn(url, Pace { gap, ..self.pace }, request.pace).await
    }

    /// One request and its answer, within the host's turn.
    async fn hop<R: Receive>(
        &self,
        request: &Request<'_>,
        route: &Route<'_>,
        turn: Option<Turn>,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<ControlFlow<Answer<R::Body>, Redirect>, NoAnswer> {
        let headers = headers(request, route)?;
        progress.phase = Phase::Turn;
        let turn = match turn {
            Some(turn) => turn,
            None => self.turn(request, &route.here).await,
        };

        progress.phase = Phase::Head;
        progress.requests += 1;
        let client = match (request.is_trusted, route.is_configured_host) {
            (true, _) => &self.trusted,
            (false, true) => &self.configured,
            (false, false) => &self.redirected,
        };
        let mut sent = client.request(request.method.clone(), route.here.clone()).headers(headers);
        if let Some(body) = &request.body {
            sent = sent.body(body.bytes.clone());
        }
        let head_timeout = request.limits.head_timeout;
        let response = match timeout(head_timeout, sent.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Reason::of(&error, CONNECT_TIMEOUT).into()),
            Err(_) => {
                return Err(Reason::TimedOut { limit: Limit::Head, after: head_timeout }.into());
            }
        };

        let head = head(&response, route, progress.requests);
        match head.status {
            200..=299 => {}
            304 if request.validators.is_some_and(|validators| !validators.is_empty()) => {
                return Ok(ControlFlow::Break(Answer::NotModified(Box::new(NotModified {
                    final_url: head.final_url,
                    moved_to: head.moved_to,
                    validators: head.validators,
                    requests: head.requests,
                }))));
            }
            301 | 302 | 303 | 307 | 308 => {
                let redirect = redirect(head.status, response.headers())?;
                if !follows(request, route, head.status, &redirect) {
                    let to = route.target(&redirect.location)?;
                    return Err(Reason::Redirected { to: shown(&to) }.into());
                }
                return Ok(ControlFlow::Continue(redirect));
            }
            _ => return Err(self.refused(request, head, response, progress).await),
        }

        progress.phase = Phase::Body;
        let part = Part::of(request, head.status, response.headers())?;
        let opened = Opened { request, head, part, response, turn, deadline };
        let body = R::receive(self, opened, progress).await?;
        Ok(ControlFlow::Break(Answer::Body(body)))
    }

    /// What a refusal means, with the wait that its body names where a header names none and the caller can read the body.
    async fn refused(
        &self,
        request: &Request<'_>,
        mut head: Head,
        response: reqwest::Response,
        progress: &mut Progress,
    ) -> NoAnswer {
        let mut reason = self.refusal(head.status, response.headers());
        let wait_in_body = match reason {
            Reason::RateLimited { retry_after: None, .. } => request.wait_in_body,
            _ => None,
        };
        // An unasked 304 has nothing to show.
        let hands_back = request.hands_back_refusals && head.status != 304;
        if wait_in_body.is_none() && !hands_back {
            return reason.into();
        }
        progress.phase = Phase::Body;
        let body = body::read_refusal(response).await;
        if let (Some(read), Reason::RateLimited { retry_after, .. }) = (wait_in_body, &mut reason) {
            *retry_after = read(&body.bytes).map(|wait| wait.min(RETRY_AFTER_MAX));
        }
        let refused = hands_back.then(|| {
            head.validators = Validators::default();
            let mut response = assemble(head, body);
            response.refusal = Some(reason.clone());
            Box::new(response)
        });
        NoAnswer { reason, refused }
    }

    /// A status that is no answer.
    fn refusal(&self, status: u16, headers: &HeaderMap) -> Reason {
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after =
            retry_after.and_then(|value| conditional::retry_after(value, (self.now)()));
        match status {
            401 | 403 => Reason::Unauthorized(status),
            404 => Reason::NotFound,
            410 => Reason::Gone,
            429 => Reason::RateLimited { status, retry_after },
            502..=504 if retry_after.is_some() => Reason::RateLimited { status, retry_after },
            _ => Reason::Status(status),
        }
    }
}

fn head(response: &reqwest::Response, route: &Route<'_>, requests: u32) -> Head {
    let headers = response.headers();
    let content_type = headers.get(CONTENT_TYPE);
    let content_type =
        content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Head {
        status: response.status().as_u16(),
        final_url: route.here.clone(),
        moved_to: route.moved_to(),
        validators: conditional::validators(headers),
        content_type,
        headers: Headers(headers.clone()),
        requests,
        starts_at: 0,
    }
}

fn assemble(head: Head, body: Body) -> Response {
    Response {
        status: head.status,
        final_url: head.final_url,
        moved_to: head.moved_to,
        validators: head.validators,
        content_type: head.content_type,
        headers: head.headers,
        body: body.bytes,
        truncated: body.truncated,
        bytes_on_wire: body.on_wire,
        requests: head.requests,
        refusal: None,
        share: body.share,
    }
}

fn redirect(status: u16, headers: &HeaderMap) -> Result<Redirect, Reason> {
    let location = headers.get(LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
    if location.is_empty() || location.len() > LOCATION_MAX {
        return Err(Reason::Malformed("a redirect without a usable `Location`".into()));
    }
    let location = String::from_utf8_lossy(location).into_owned();
    Ok(Redirect { location, is_permanent: matches!(status, 301 | 308) })
}

/// Whether the request goes where it is sent on to.
///
/// With a body or another method than GET it goes only where both stay (307, 308), and only within its origin: nobody
/// else is given what was meant for that one.
fn follows(request: &Request<'_>, route: &Route<'_>, status: u16, redirect: &Redirect) -> bool {
    let is_within_origin = || {
        let target = route.target(&redirect.location);
        target.is_ok_and(|target| target.origin() == request.url.origin())
    };
    request.follows_redirects()
        && (request.is_plain() || matches!(status, 307 | 308) && is_within_origin())
}

fn headers(request: &Request<'_>, route: &Route<'_>) -> Result<HeaderMap, Reason> {
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: &str| {
        let invalid = |_| Reason::InvalidRequest(format!("the value of header `{name}`"));
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(invalid)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    };
    insert(ACCEPT, request.accept)?;
    match &request.range {
        None => insert(ACCEPT_ENCODING, body::ACCEPT_ENCODING)?,
        Some(range) => {
            insert(ACCEPT_ENCODING, "identity")?;
            if range.is_asked_for() {
                insert(RANGE, &format!("bytes={}-", range.from))?;
                insert(IF_RANGE, range.validator)?;
            }
        }
    }
    if let Some(body) = &request.body {
        insert(CONTENT_TYPE, body.content_type)?;
    }
    if let Some(validators) = request.validators {
        if let Some(etag) = &validators.etag {
            insert(IF_NONE_MATCH, etag)?;
        }
        if let Some(last_modified) = &validators.last_modified {
            insert(IF_MODIFIED_SINCE, last_modified)?;
        }
    }
    if route.here.origin() == route.configured.origin() {
        for (name, value) in &request.headers {
            let invalid =
                |_| Reason::InvalidRequest(format!("the header name `{}`", name.escape_debug()));
            insert(HeaderName::from_bytes(name.as_bytes()).map_err(invalid)?, value)?;
        }
    }
    Ok(headers)
}

/// A part of `most`, by chance; the standard library's hash keys are random enough to spread retries.
fn jitter(most: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) >> 32;
    most.mul_f64(chance as f64 / f64::from(u32::MAX))
}

/// Makes ring the process's cryptography; any number of calls do what one does.
///
/// With two providers compiled in, rustls cannot choose and panics at first use.
pub fn install_tls() {
    // An error says that a provider is installed already, which is what is wanted.
    let _ = ring::default_provider().install_default();
}

fn tls_config(roots: RootCertStore) -> ClientConfig {
    install_tls();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

fn client(network: &Network, tls: ClientConfig, resolver: GuardedResolver) -> Result<Client> {
    let version = env!("CARGO_PKG_VERSION");
    let user_agent = match &network.contact {
        Some(contact) => format!("Minerva/{version} (+{contact})"),
        None => format!("Minerva/{version}"),
    };
    let user_agent = HeaderValue::from_str(&user_agent).map_err(|_| {
        Error::config("put the contact into a `User-Agent`").hint("use plain ASCII on one line")
    })?;
    let mut builder = Client::builder()
        .user_agent(user_agent)
        .tls_backend_preconfigured(tls)
        .dns_resolver(resolver)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(pace::IN_FLIGHT)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
    if let Some(proxy) = network.proxy.as_ref().map(Secret::expose) {
        if !matches!(proxy.scheme(), "http" | "https") {
            // Without a scheme of its own, a user is taken for it and the password for a path: no more is shown.
            let scheme = proxy.scheme();
            return Err(Error::config(format!(
                "use the proxy of `HTTPS_PROXY`: it begins with `{scheme}:`"
            ))
            .hint("only http and https proxies are known: `http://user:password@host:port`"));
        }
        let (allow, proxy) = (network.allow_nets.clone(), proxy.clone());
        builder = builder.proxy(reqwest::Proxy::custom(move |url| {
            (!allow.has_host(url)).then(|| proxy.clone())
        }));
    }
    builder.build().map_err(|error| Error::config("build the HTTP client").because(error))
}
