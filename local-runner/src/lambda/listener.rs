//! The one listener: on loopback only, for its own user only, and closed to web pages that a browser here has open.
//!
//! What another user of the machine opens is refused unread. A page of another site can make this user's browser send
//! requests here. They carry its `Origin` or `Sec-Fetch-Site`, or, where it got a name of its own to point at this
//! machine (DNS rebinding), that name as `Host`: each is refused. Small packets are sent at once (`TCP_NODELAY`): an
//! answer held back for an acknowledgement costs 40 ms.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connections::{Connection, Connections, Place, RequestBody};
use super::function::StartError;
use super::peer::Peers;
use super::shared::Shared;
use super::wire::ServiceError;
use super::{events_api, extensions_api, invoke_api, runtime_api};

/// How long open connections have to end once the runner stops.
const CLOSE: Duration = Duration::from_millis(500);
/// The head of a request, and what is read of its body at a time.
const MAX_HEAD: usize = 64 * 1024;
/// The wait after no connection could be taken, as when the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a browser sends along: whether its request was made by a page of this origin, or by the user.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Opens every address, all of which must be this machine's own. An address family that the machine lacks is left out
/// as long as one address is open.
pub(super) async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    if let Some(&address) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        return Err(StartError::NotLoopback(address));
    }
    let mut listeners = Vec::new();
    let mut lacking = None;
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && is_without_family(&error) => {
                lacking = Some((address, error));
            }
            Err(error) => return Err(StartError::Bind(address, error)),
        }
    }
    match lacking {
        Some((address, error)) if listeners.is_empty() => Err(StartError::Bind(address, error)),
        None if listeners.is_empty() => Err(StartError::NoAddress),
        _ => Ok(listeners),
    }
}

fn is_without_family(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || code == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// The running servers.
pub(super) struct Servers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What is done with every connection.
struct Server {
    app: TowerToHyperService<Router>,
    peers: Peers,
    connections: Arc<Connections>,
    stopped: watch::Receiver<bool>,
}

/// Serves every route on every listener.
pub(super) fn serve(
    listeners: Vec<TcpListener>,
    shared: &Arc<Shared>,
    status: Router,
) -> Result<Servers, StartError> {
    let bound: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let peers = bound.first().and_then(|listener| Peers::of(*listener));
    let guarded = Guarded { shared: Arc::clone(shared), bound: bound.into() };
    let app = runtime_api::routes()
        .merge(extensions_api::routes())
        .merge(invoke_api::routes())
        .merge(events_api::routes())
        .with_state(Arc::clone(shared))
        .merge(status)
        .fallback(|uri: Uri| async move {
            ServiceError::not_found(format!("no such path: `{}`", uri.path()))
        })
        .layer(middleware::from_fn_with_state(guarded, guard));
    let stop = watch::Sender::new(false);
    let server = Arc::new(Server {
        app: TowerToHyperService::new(app),
        peers: peers.ok_or(StartError::UnknownPeers)?,
        connections: Connections::new(),
        stopped: stop.subscribe(),
    });
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(Arc::clone(&server).listen(listener));
    }
    Ok(Servers { stop, tasks })
}

impl Servers {
    /// Takes no more requests, and gives those under way a moment to end.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let _ = timeout(CLOSE, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.abort_all();
    }
}

impl Server {
    /// Takes connections until it is stopped, and then waits for those that are open.
    async fn listen(self: Arc<Self>, listener: TcpListener) {
        let mut stopped = self.stopped.clone();
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // A sender that is gone means the same as the signal.
                _ = stopped.wait_for(|&stopped| stopped) => break,
                Some(_) = open.join_next() => continue,
            };
            match accepted {
                Ok((stream, client)) => match self.admit(&stream, client) {
                    Ok(place) => drop(open.spawn(Arc::clone(&self).carry(stream, place))),
                    Err(refusal) => turn_away(stream, &refusal),
                },
                Err(error) => {
                    tracing::warn!(%error, "take a connection");
                    let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                }
            }
            // Those that were taken read their requests before more are taken.
            tokio::task::yield_now().await;
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    fn admit(&self, stream: &TcpStream, client: SocketAddr) -> Result<Place, ServiceError> {
        let is_own = stream.local_addr().is_ok_and(|server| self.peers.is_own(client, server));
        if !is_own {
            return Err(ServiceError::denied(
                "only the user who started this runner may call it: run the client as that user",
            ));
        }
        let full = || ServiceError::too_many("ConcurrentInvocationLimitExceeded");
        self.connections.admit().ok_or_else(full)
    }

    /// Serves one connection to its end.
    async fn carry(self: Arc<Self>, stream: TcpStream, place: Place) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "set TCP_NODELAY");
        }
        let connection = &place.connection;
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(connection)));
            request.extensions_mut().insert(Arc::clone(connection));
            let answer = self.app.call(request);
            async {
                let answer = answer.await;
                connection.answered();
                answer
            }
        });
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD);
        let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut stopped = self.stopped.clone();
        let mut is_stopping = false;
        loop {
            tokio::select! {
                _ = served.as_mut() => return,
                () = connection.closes() => return,
                _ = stopped.wait_for(|&stopped| stopped), if !is_stopping => {
                    is_stopping = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Says why, to a client of which nothing was read, and closes.
fn turn_away(stream: TcpStream, refusal: &ServiceError) {
    // As much as this fits into the buffer of a new connection; a client that hung up needs none.
    let _ = stream.into_std().and_then(|mut stream| {
        stream.write_all(refusal.whole_answer().as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)
    });
}

/// What the guard of every request knows.
#[derive(Clone)]
struct Guarded {
    shared: Arc<Shared>,
    bound: Arc<[SocketAddr]>,
}

async fn guard(State(guarded): State<Guarded>, request: Request, next: Next) -> Response {
    if let Some(message) = refusal(request.uri(), request.headers(), &guarded.bound) {
        return ServiceError::denied(message).into_response();
    }
    let mut path = request.uri().path().splitn(5, '/').skip(1);
    if let (Some("f"), Some(function), Some(instance)) = (path.next(), path.next(), path.next())
        && guarded.shared.pool.find(function, instance).is_some()
        && let Some(connection) = request.extensions().get::<Arc<Connection>>()
    {
        connection.exempt();
    }
    next.run(request).await
}

fn refusal(uri: &Uri, headers: &HeaderMap, bound: &[SocketAddr]) -> Option<String> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some("a request has one `Host`".to_owned());
    };
    let host = host.to_str().unwrap_or_default();
    // The target may name a host as well, which then counts.
    let target = uri.authority().map(axum::http::uri::Authority::as_str);
    if let Some(other) =
        [Some(host), target].into_iter().flatten().find(|name| !is_bound(name, bound))
    {
        return Some(format!("`{other}` is not where this runner listens"));
    }
    let is_foreign_site = headers
        .get_all(FETCH_SITE)
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    let is_foreign_origin = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        !origin.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    (is_foreign_site || is_foreign_origin)
        .then(|| "requests from pages of another origin are refused".to_owned())
}

/// Whether `host` is an address that is listened on, or `localhost`; with its port, or without any.
fn is_bound(host: &str, bound: &[SocketAddr]) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let literal = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.parse().map(IpAddr::V6),
        None => name.parse().map(IpAddr::V4),
    };
    let is_name = |address: &SocketAddr| match literal {
        Ok(ip) => ip == address.ip(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    bound.iter().any(|address| {
        is_name(address) && port.is_none_or(|port| port == address.port().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a request for `target` as if `127.0.0.1:9000` and `[::1]:9000` were listened on.
    #[track_caller]
    fn judge(target: &str, given: &[(&str, &str)], allowed: bool) {
        let bound = ["127.0.0.1:9000".parse().unwrap(), "[::1]:9000".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let refusal = refusal(&target.parse().unwrap(), &headers, &bound);
        assert_eq!(refusal.is_none(), allowed, "{target} {given:?}");
    }

    #[test]
    fn only_addresses_that_are_listened_on_are_hosts() {
        for host in [
            "localhost:9000",
            "LocalHost:9000",
            "127.0.0.1:9000",
            "[::1]:9000",
            "[0:0:0:0:0:0:0:1]:9000",
            "127.0.0.1",
            "localhost",
            "[::1]",
        ] {
            judge("/", &[("host", host)], true);
        }
        for host in [
            "",
            ":9000",
            "localhost:",
            "localhost:9001",
            "localhost:09000",
            "localhost:+9000",
            "localhost:9000:9000",
            "localhost.:9000",
            "localhost.evil.example:9000",
            "evil.example:9000",
            "evil.example@localhost:9000",
            "localhost:9000@evil.example",
            "localhost:9000/",
            "localhost:9000,evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2:9000",
            "127.1:9000",
            "0177.0.0.1:9000",
            "2130706433:9000",
            "0.0.0.0:9000",
            "192.168.0.7:9000",
            "::1",
            "::1:9000",
            "[::1",
            "[::1]evil.example",
            "[::ffff:127.0.0.1]:9000",
            "[127.0.0.1]:9000",
            "[localhost]:9000",
        ] {
            judge("/", &[("host", host)], false);
        }
        judge("/", &[], false);
        judge("/", &[("host", "localhost:9000"), ("host", "localhost:9000")], false);
    }

    #[test]
    fn a_target_that_names_a_host_must_name_this_one() {
        let host = [("host", "localhost:9000")];
        judge("http://localhost:9000/", &host, true);
        judge("http://evil.example/", &host, false);
        judge("http://evil.example@localhost:9000/", &host, false);
        judge("evil.example:443", &host, false);
        judge("http://localhost:9000/", &[("host", "evil.example")], false);
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for (name, value, allowed) in [
            ("origin", "http://localhost:9000", true),
            ("origin", "http://LOCALHOST:9000", true),
            ("origin", "http://localhost:8000", false),
            ("origin", "http://127.0.0.1:9000", false),
            ("origin", "https://localhost:9000", false),
            ("origin", "https://evil.example", false),
            ("origin", "null", false),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
        ] {
            judge("/", &[("host", "localhost:9000"), (name, value)], allowed);
        }
        let both = [("origin", "http://localhost:9000"), ("origin", "https://evil.example")];
        judge("/", &[&[("host", "localhost:9000")][..], &both].concat(), false);
    }
}
