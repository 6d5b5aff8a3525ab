//! The plainest of HTTP, for what tests ask of a server beside the store: is it up, what is in it, take it away.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

/// One answer, at the longest.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a server said.
#[derive(Debug)]
pub struct ServerAnswer {
    /// The status.
    pub status: u16,
    /// The body, null when it is not JSON.
    pub body: Value,
}

/// Asks a server at an `http` address; user and password may stand in it.
///
/// # Errors
/// When the connection fails.
pub fn call(url: &Url, method: &str, path: &str, body: &str) -> io::Result<ServerAnswer> {
    let (host, port) =
        (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80));
    let mut stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let authorization = url.password().map_or_else(String::new, |password| {
        let pair = STANDARD.encode(format!("{}:{password}", url.username()));
        format!("Authorization: Basic {pair}\r\n")
    });
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = answer.get(end + 4..).unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    // Long answers come in chunks, whatever version of HTTP was asked for.
    let whole =
        if head.contains("transfer-encoding: chunked") { joined(body) } else { body.to_vec() };
    Ok(ServerAnswer { status, body: serde_json::from_slice(&whole).unwrap_or_default() })
}

/// The chunks of a body without their lengths.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = chunks.windows(2).position(|window| window == b"\r\n") {
        let length = str::from_utf8(&chunks[..line])
            .ok()
            .and_then(|line| usize::from_str_radix(line, 16).ok());
        let Some(part) = length.and_then(|length| chunks.get(line + 2..line + 2 + length)) else {
            break;
        };
        if part.is_empty() {
            break;
        }
        whole.extend_from_slice(part);
        chunks = chunks.get(line + 4 + part.len()..).unwrap_or_default();
    }
    whole
}
