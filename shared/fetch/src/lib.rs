//! The only HTTP client that tasks use (`ctx.http`): what it fetches is hostile, and it takes nobody's time for granted.
//!
//! A call is `http.get(Get::new(&url))`. What holds for every call, whatever the caller asks for:
//!
//! - only public addresses are reached, also after redirects and DNS ([`AllowNets`] excepts);
//! - at most [`MAX_REDIRECTS`] hops, none from https to http, followed by hand so that each is judged;
//! - time, body and memory have limits ([`Limits`], [`LARGE_BODIES`]), before and after decompression;
//! - a host sees two requests at once and two starts a second at most;
//! - one second try, for what passes in a moment; everything else is for the next tick;
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
mod route;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base::config::{Network, Secret};
use base::nets::AllowNets;
use base::{Error, Result};
use jiff::Timestamp;
use reqwest::Client;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

pub use self::body::{LARGE_BODIES, SMALL_BODY};
pub use self::call::{Fetched, Get, Limits, NotModified, Response, WaitInBody};
pub use self::conditional::{RETRY_AFTER_MAX, Validators, retry_after};
pub use self::failure::{Failure, Limit, Phase, Reason, shown};
pub use self::route::MAX_REDIRECTS;

use self::body::Memory;
use self::guard::{GuardedResolver, Lookup};
use self::pace::{Pace, Turn};
use self::route::Route;

/// A wait that is asked for is waited within the call up to its whole time divided by this: 20 s for a feed, 80 s for a
/// library, whose throttle asks for 16 s and more.
const RETRY_AFTER_SHARE: u32 = 3;

/// Until a connection stands, TLS included; shared by all addresses of a name, so a dead first one costs half of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the second try; up to half of it is added by chance.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Idle connections older than this are closed: a frozen function must not wake up to dead ones.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
/// The longest body of a refusal that is read for the wait it asks for.
const REFUSAL_MAX: u64 = 4 << 10;
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
    pace: Pace,
    memory: Memory,
    retry_pause: Duration,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// What tests replace.
struct Workings {
    lookup: Lookup,
    roots: RootCertStore,
    gap: Duration,
    retry_pause: Duration,
    slow_for: Duration,
}

impl Default for Workings {
    /// The roots are those compiled in: to look for a certificate store would cost a cold start its time.
    fn default() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        Self {
            lookup: Lookup::System,
            roots,
            gap: pace::GAP,
            retry_pause: RETRY_PAUSE,
            slow_for: body::SLOW_FOR,
        }
    }
}

/// How far a call has come; outlives the call's future when time runs out.
#[derive(Default)]
struct Progress {
    requests: u32,
    phase: Phase,
    last_url: Option<Url>,
}

/// Where a hop leads on to.
struct Redirect {
    location: String,
    is_permanent: bool,
}

impl Http {
    /// Builds the client; `now` is asked when a `Retry-After` holds a date.
    pub fn new(
        network: &Network,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::build(network, now, Workings::default())
    }

    fn build(
        network: &Network,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        workings: Workings,
    ) -> Result<Self> {
        let Workings { lookup, roots, gap, retry_pause, slow_for } = workings;
        let tls = tls_config(roots);
        let mut resolver = GuardedResolver {
            allow: network.allow_nets.clone(),
            nets_count: true,
            proxy: network
                .proxy
                .as_ref()
                .and_then(|proxy| proxy.expose().host_str().map(str::to_owned)),
            lookup,
        };
        let configured = client(network, tls.clone(), resolver.clone())?;
        resolver.nets_count = false;
        let redirected = client(network, tls, resolver)?;
        let inner = Inner {
            allow: network.allow_nets.clone(),
            configured,
            redirected,
            pace: Pace::new(gap),
            memory: Memory::new(slow_for),
            retry_pause,
            now: Box::new(now),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Fetches a URL. Dropping the future ends the request.
    pub async fn get(&self, get: Get<'_>) -> Result<Fetched, Failure> {
        let mut progress = Progress::default();
        // A host's slowness to others is not this call's: the time starts with the first turn.
        guard::check(get.url, &self.inner.allow)
            .map_err(|reason| Failure::new(reason, 0, get.url, None))?;
        let turn = self.inner.turn(get.url).await;
        let total = get.limits.total_timeout;
        let deadline = Instant::now() + total;
        let call = Box::pin(self.inner.follow(&get, turn, deadline, &mut progress));
        let result = match timeout_at(deadline, call).await {
            Ok(result) => result,
            Err(_) => Err(Reason::TimedOut { limit: Limit::Total(progress.phase), after: total }),
        };
        result.map_err(|reason| {
            Failure::new(reason, progress.requests, get.url, progress.last_url.as_ref())
        })
    }
}

impl Inner {
    async fn follow(
        &self,
        get: &Get<'_>,
        first_turn: Turn,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<Fetched, Reason> {
        let mut route = Route::from(get.url);
        let mut is_second_try = false;
        let mut turn = Some(first_turn);
        loop {
            progress.last_url = Some(route.here.clone());
            guard::check(&route.here, &self.allow)?;
            let reason = match self.hop(get, &route, turn.take(), progress).await {
                Ok(ControlFlow::Continue(Redirect { location, is_permanent })) => {
                    // The place that was refused is the one to be shown.
                    progress.last_url = route.here.join(&location).ok();
                    route = route.follow(&location, is_permanent)?;
                    continue;
                }
                Ok(ControlFlow::Break(fetched)) => return Ok(fetched),
                Err(reason) => reason,
            };
            let pause = self.retry_pause + jitter(self.retry_pause / 2);
            let wait = match reason {
                Reason::RateLimited { retry_after: Some(asked), .. }
                    if asked <= get.limits.total_timeout / RETRY_AFTER_SHARE =>
                {
                    asked.max(pause)
                }
                _ if reason.is_passing() => pause,
                _ => return Err(reason),
            };
            let start = Instant::now() + wait;
            if is_second_try || start >= deadline {
                return Err(reason);
            }
            is_second_try = true;
            progress.phase = Phase::Pause;
            if matches!(reason, Reason::RateLimited { .. }) {
                self.pace.quiet(&route.here, wait).await;
            }
            sleep_until(start).await;
        }
    }

    async fn turn(&self, url: &Url) -> Turn {
        self.pace.turn(url, !self.allow.has_host(url)).await
    }

    /// One request and its answer, within the host's turn.
    async fn hop(
        &self,
        get: &Get<'_>,
        route: &Route<'_>,
        turn: Option<Turn>,
        progress: &mut Progress,
    ) -> Result<ControlFlow<Fetched, Redirect>, Reason> {
        let headers = headers(get, route)?;
        progress.phase = Phase::Turn;
        let _turn = match turn {
            Some(turn) => turn,
            None => self.turn(&route.here).await,
        };

        progress.phase = Phase::Head;
        progress.requests += 1;
        let client = if route.is_configured_host { &self.configured } else { &self.redirected };
        let sent = client.get(route.here.clone()).headers(headers).send();
        let response = match timeout(get.limits.head_timeout, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Reason::of(&error, CONNECT_TIMEOUT)),
            Err(_) => {
                return Err(Reason::TimedOut {
                    limit: Limit::Head,
                    after: get.limits.head_timeout,
                });
            }
        };

        let status = response.status().as_u16();
        let moved_to = route.moved_to();
        let final_url = route.here.clone();
        let validators = Validators::of(response.headers());
        let requests = progress.requests;
        match status {
            200..=299 => {}
            304 if get.validators.is_some_and(|validators| !validators.is_empty()) => {
                let not_modified = NotModified { final_url, moved_to, validators, requests };
                return Ok(ControlFlow::Break(Fetched::NotModified(not_modified)));
            }
            301 | 302 | 303 | 307 | 308 => {
                let location =
                    response.headers().get(LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
                if location.is_empty() || location.len() > LOCATION_MAX {
                    return Err(Reason::Malformed("a redirect without a usable `Location`".into()));
                }
                let location = String::from_utf8_lossy(location).into_owned();
                let is_permanent = matches!(status, 301 | 308);
                return Ok(ControlFlow::Continue(Redirect { location, is_permanent }));
            }
            _ => {
                let refusal = self.refusal(status, response.headers());
                return Err(self.with_wait(refusal, response, get, progress).await);
            }
        }

        progress.phase = Phase::Body;
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type =
            content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let body = body::read(response, &get.limits, &self.memory, progress).await?;
        Ok(ControlFlow::Break(Fetched::Body(Response {
            status,
            final_url,
            moved_to,
            validators: if body.truncated { Validators::default() } else { validators },
            content_type,
            body: body.bytes,
            truncated: body.truncated,
            bytes_on_wire: body.on_wire,
            requests,
            share: body.share,
        })))
    }

    /// The refusal with the wait that its body names, where a header names none and the caller can read the body.
    async fn with_wait(
        &self,
        refusal: Reason,
        response: reqwest::Response,
        get: &Get<'_>,
        progress: &mut Progress,
    ) -> Reason {
        let (Reason::RateLimited { status, retry_after: None }, Some(read)) =
            (&refusal, get.wait_in_body)
        else {
            return refusal;
        };
        let limits = Limits { max_body: REFUSAL_MAX, ..get.limits };
        match body::read(response, &limits, &self.memory, progress).await {
            Ok(body) => {
                let wait = read(&body.bytes).map(|wait| wait.min(RETRY_AFTER_MAX));
                Reason::RateLimited { status: *status, retry_after: wait }
            }
            Err(_) => refusal,
        }
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

fn headers(get: &Get<'_>, route: &Route<'_>) -> Result<HeaderMap, Reason> {
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: &str| {
        let invalid = |_| Reason::InvalidRequest(format!("the value of header `{name}`"));
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(invalid)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    };
    insert(ACCEPT, get.accept)?;
    insert(ACCEPT_ENCODING, body::ACCEPT_ENCODING)?;
    if let Some(validators) = get.validators {
        if let Some(etag) = &validators.etag {
            insert(IF_NONE_MATCH, etag)?;
        }
        if let Some(last_modified) = &validators.last_modified {
            insert(IF_MODIFIED_SINCE, last_modified)?;
        }
    }
    if route.here.origin() == route.configured.origin() {
        for (name, value) in &get.headers {
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
