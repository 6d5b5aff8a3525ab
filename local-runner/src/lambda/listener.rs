//! The one listener: on loopback only, and closed to web pages that a browser on this machine has open.
//!
//! A page of another site can make the browser send requests here. Its requests carry its `Origin`, or, where it got a
//! name of its own to point at this machine (DNS rebinding), that name as `Host`. Both are refused. Small packets are
//! sent at once (`TCP_NODELAY`): an answer held back for an acknowledgement costs 40 ms.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::function::StartError;
use super::shared::Shared;
use super::wire::{ServiceError, text};
use super::{events_api, extensions_api, invoke_api, runtime_api};

/// How long open connections have to end once the runner stops.
const CLOSE: Duration = Duration::from_millis(500);

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
    tasks: JoinSet<std::io::Result<()>>,
}

/// Serves every route on every listener.
pub(super) fn serve(listeners: Vec<TcpListener>, shared: &Arc<Shared>, status: Router) -> Servers {
    let app = runtime_api::routes()
        .merge(extensions_api::routes())
        .merge(invoke_api::routes())
        .merge(events_api::routes())
        .with_state(Arc::clone(shared))
        .merge(status)
        .fallback(|uri: Uri| async move {
            ServiceError::not_found(format!("no such path: `{}`", uri.path()))
        })
        .layer(middleware::from_fn(guard));
    let stop = watch::Sender::new(false);
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "set TCP_NODELAY");
            }
        });
        let mut stopped = stop.subscribe();
        let signal = async move {
            // A sender that is gone means the same as the signal.
            let _ = stopped.wait_for(|&stopped| stopped).await;
        };
        let server = axum::serve(listener, app.clone()).with_graceful_shutdown(signal);
        tasks.spawn(server.into_future());
    }
    Servers { stop, tasks }
}

impl Servers {
    /// Takes no more requests, and gives those under way a moment to end.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        let _ = timeout(CLOSE, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.abort_all();
    }
}

async fn guard(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        Some(message) => ServiceError::denied(message).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<String> {
    let host = text(headers, HOST.as_str()).unwrap_or_default();
    if !is_loopback(host) {
        return Some(format!("`{host}` is no name of this machine"));
    }
    let origin = headers.get(ORIGIN)?;
    let same = origin.to_str().is_ok_and(|origin| {
        origin.strip_prefix("http://").is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    (!same).then(|| "requests from pages of another origin are refused".to_owned())
}

/// Whether `host`, with or without a port, can only mean this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
        Some(_) => return false,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, origin: Option<&str>, allowed: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(refusal(&headers).is_none(), allowed, "{host} {origin:?}");
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        check("localhost:9000", None, true);
        check("127.0.0.1:9000", None, true);
        check("[::1]:9000", None, true);
        check("127.0.0.1", None, true);
        check("evil.example:9000", None, false);
        check("127.0.0.1.evil.example", None, false);
        check("localhost.evil.example:9000", None, false);
        check("[::1]evil.example", None, false);
        check("0.0.0.0:9000", None, false);
        check("192.168.0.7:9000", None, false);
        assert!(refusal(&HeaderMap::new()).is_some());
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        check("localhost:9000", Some("http://localhost:9000"), true);
        check("localhost:9000", Some("http://localhost:8000"), false);
        check("localhost:9000", Some("http://127.0.0.1:9000"), false);
        check("localhost:9000", Some("https://evil.example"), false);
        check("localhost:9000", Some("null"), false);
    }
}
