//! As much HTTP/1.1 as the service needs, both ends: requests out of a reader, answers and calls into a stream.

use std::{
    io::{self, BufRead, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use http::Uri;

/// Names as they came, values without spaces around them, in order.
pub(crate) type Headers = Vec<(String, String)>;

/// How long the other side may take for each step.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const HEAD_LIMIT: u64 = 64 * 1024;
const BODY_LIMIT: u64 = 1024 * 1024;
const HEADERS_LIMIT: usize = 256;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// Why a request is not served: the status to answer with, and a sentence.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl Request {
    /// Blocks until a request has arrived; `None` if the connection ends, or breaks, or nothing comes for too long.
    /// After a refusal nobody knows where the next request begins.
    pub(crate) fn read(reader: &mut impl BufRead) -> Result<Option<Self>, Refusal> {
        let head = match read_head(reader) {
            Ok(head) if head.len() as u64 >= HEAD_LIMIT => return Err(Refusal::new(431, "the head is too large")),
            Ok(head) if head.is_empty() => return Ok(None),
            Ok(head) => head,
            Err(_) => return Ok(None),
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&head) {
            Ok(status) if status.is_complete() => {}
            Ok(_) => return Err(Refusal::new(400, "the head is incomplete")),
            Err(error) => return Err(Refusal::new(400, format!("not HTTP/1.1: {error}"))),
        }
        let (method, path) = (parsed.method.unwrap_or_default().to_owned(), parsed.path.unwrap_or_default().to_owned());
        let text = |header: &httparse::Header<'_>| {
            (header.name.to_owned(), String::from_utf8_lossy(header.value).trim_matches([' ', '\t']).to_owned())
        };
        let mut request = Self { method, path, headers: parsed.headers.iter().map(text).collect(), body: Vec::new() };
        let length = request.body_length()?;
        match reader.take(length).read_to_end(&mut request.body) {
            Ok(read) if read as u64 == length => Ok(Some(request)),
            _ => Ok(None),
        }
    }

    fn body_length(&self) -> Result<u64, Refusal> {
        if self.values("transfer-encoding").next().is_some() {
            return Err(Refusal::new(411, "the body needs a content-length"));
        }
        let mut length = None;
        for value in self.values("content-length") {
            let parsed = value.bytes().all(|digit| digit.is_ascii_digit()).then(|| value.parse().ok()).flatten();
            if parsed.is_none() || length.is_some_and(|known| Some(known) != parsed) {
                return Err(Refusal::new(400, "the content-length makes no sense"));
            }
            length = parsed;
        }
        match length.unwrap_or(0) {
            length if length <= BODY_LIMIT => Ok(length),
            _ => Err(Refusal::new(413, "the body is too large")),
        }
    }

    /// Every value of `name`, which is in lower case.
    pub(crate) fn values<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Everything up to the empty line, at most as much as is allowed; what there was if the connection ends before.
fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut head, mut reader) = (Vec::new(), reader.take(HEAD_LIMIT));
    loop {
        let before = head.len();
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Ok(head);
        }
        match &head[before..] {
            // Empty lines before a request mean nothing.
            b"\r\n" | b"\n" if before == 0 => head.clear(),
            b"\r\n" | b"\n" => return Ok(head),
            _ => {}
        }
    }
}

/// Answers with a JSON body.
pub(crate) fn respond(stream: &mut impl Write, status: u16, body: &str, close: bool) -> io::Result<()> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("");
    let connection = if close { "connection: close\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{connection}\r\n"
    );
    stream.write_all((head + body).as_bytes())
}

/// Posts a JSON body and answers the status.
///
/// # Errors
/// Whatever goes wrong on the way, and an answer that is no HTTP.
pub(crate) fn post(url: &Uri, headers: &Headers, body: &str) -> io::Result<u16> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let authority = url.authority().ok_or_else(|| invalid("the URL names no host"))?;
    let mut addresses = (authority.host(), authority.port_u16().unwrap_or(80)).to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| invalid("the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;

    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\naccept: application/json\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    stream.write_all((request + "\r\n" + body).as_bytes())?;

    let mut answer = Vec::new();
    stream.take(HEAD_LIMIT + BODY_LIMIT).read_to_end(&mut answer)?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut parsed = httparse::Response::new(&mut headers);
    let is_http = parsed.parse(&answer).is_ok_and(|status| status.is_complete());
    parsed.code.filter(|_| is_http).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}
