//! A replay of ready-made bulk requests, and the processor time that a client and its server spend: what ways of writing are
//! held against.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use tests::services::search;
use url::Url;

/// What one way of writing took.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) s: f64,
    /// Time on processors: of the client, and of the server meanwhile.
    pub(crate) client_s: f64,
    pub(crate) server_s: f64,
}

/// Sends the requests, one after the other on one connection, and reads of each answer only that nothing failed.
pub(crate) fn replay(url: &Url, index: &str, bodies: &[Vec<u8>]) {
    let path = format!("/{index}/_bulk?filter_path=errors");
    let mut line = Line::open(url).expect("the server listens");
    for body in bodies {
        let answer = line.post(&path, body).expect("the server answers");
        assert_eq!(answer, br#"{"errors":false}"#);
    }
}

/// One kept connection, and as little HTTP on it as there can be.
struct Line {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Line {
    fn open(url: &Url) -> io::Result<Self> {
        let host = format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(80));
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host })
    }

    fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap_or(0);
            }
            is_chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut answer = Vec::new();
        if !is_chunked {
            answer.resize(length, 0);
            self.stream.read_exact(&mut answer)?;
            return Ok(answer);
        }
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; length];
            self.stream.read_exact(&mut chunk)?;
            self.line()?;
            if length == 0 {
                return Ok(answer);
            }
            answer.append(&mut chunk);
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_lowercase())
    }
}

/// The time that passes, and what processors spend of it.
pub(crate) struct Timer<'a> {
    server: &'a str,
    began: Instant,
    client_s: f64,
    server_s: f64,
}

impl<'a> Timer<'a> {
    pub(crate) fn start(server: &'a str) -> Self {
        let (client_s, server_s) = (processor_s("self"), processor_s(server));
        Self { server, client_s, server_s, began: Instant::now() }
    }

    pub(crate) fn end(&self) -> Took {
        let s = self.began.elapsed().as_secs_f64();
        let client_s = processor_s("self") - self.client_s;
        Took { s, client_s, server_s: processor_s(self.server) - self.server_s }
    }
}

/// Seconds that a process has been on a processor; Linux counts in hundredths.
fn processor_s(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the program's name, which may hold anything, user and system time are the twelfth and thirteenth.
    let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    times.filter_map(|time| time.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The process that serves on this machine, as it tells itself.
pub(crate) fn server_process(url: &Url) -> String {
    let path = "/_nodes/process?filter_path=nodes.*.process.id";
    let said = search::call(url, "GET", path, "").expect("the server answers").body;
    let node = said["nodes"].as_object().and_then(|nodes| nodes.values().next().cloned());
    node.map_or_else(String::new, |node| node["process"]["id"].to_string())
}
