//! HTTP/1.1 as far as an OTLP receiver needs it: the head and the body of a request out of a reader, an answer as
//! bytes. Nothing here knows a socket, so that everything can be tested on byte strings.

use std::io::{self, BufRead, Read, Write as _};

use flate2::bufread::MultiGzDecoder;

use super::exchange::Response;

/// The request line and headers together.
pub(super) const HEAD_LIMIT: u64 = 64 * 1024;
/// What HTTP/2 begins with, as far as it looks like a head.
pub(super) const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// A body as it is sent.
pub(super) const ENCODED_LIMIT: u64 = 64 * 1024 * 1024;
/// A body after decompression.
pub(super) const DECODED_LIMIT: u64 = 256 * 1024 * 1024;

const HEADERS_LIMIT: usize = 256;
const CHUNK_LINE_LIMIT: u64 = 1024;

/// Why no whole request was read.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The connection ended or broke inside a request: there is nobody to answer.
    Aborted,
    /// Answered with this status, for this reason.
    Answer(u16, String),
}

impl ReadFailure {
    fn malformed(reason: impl Into<String>) -> Self {
        Self::Answer(400, reason.into())
    }

    fn too_large(what: &str, limit: u64) -> Self {
        Self::Answer(413, format!("{what} is larger than {limit} bytes"))
    }
}

impl From<io::Error> for ReadFailure {
    fn from(_: io::Error) -> Self {
        Self::Aborted
    }
}

/// The request line and headers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) header_len: u64,
    /// The sender waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// The sender wants the connection closed after the answer.
    pub(super) close: bool,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

impl Head {
    /// Blocks until a head has arrived; `None` if the connection ends, or breaks, before its first byte.
    pub(super) fn read(reader: &mut impl BufRead) -> Result<Option<Self>, ReadFailure> {
        let mut bytes = Vec::with_capacity(512);
        let mut limited = reader.take(HEAD_LIMIT);
        loop {
            let before = bytes.len();
            match limited.read_until(b'\n', &mut bytes) {
                Ok(1..) if bytes.ends_with(b"\n") => {}
                Ok(_) if limited.limit() == 0 => return Err(ReadFailure::too_large("the header block", HEAD_LIMIT)),
                _ if bytes.is_empty() => return Ok(None),
                _ => return Err(ReadFailure::Aborted),
            }
            match &bytes[before..] {
                // Empty lines before the request line are allowed and mean nothing.
                b"\r\n" | b"\n" if before == 0 => bytes.clear(),
                b"\r\n" | b"\n" => return Self::parse(&bytes).map(Some),
                _ => {}
            }
        }
    }

    /// Whether it is what HTTP/2 begins with.
    pub(super) fn is_preface(&self) -> bool {
        self.method == "PRI"
    }

    fn parse(bytes: &[u8]) -> Result<Self, ReadFailure> {
        if bytes == PREFACE_HEAD {
            let (method, path) = ("PRI".to_owned(), "*".to_owned());
            let (header_len, expects_continue, close) = (bytes.len() as u64, false, false);
            return Ok(Self { method, path, headers: Vec::new(), header_len, expects_continue, close });
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(ReadFailure::malformed("the header block is incomplete")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(ReadFailure::Answer(413, format!("more than {HEADERS_LIMIT} headers")));
            }
            Err(error) => return Err(ReadFailure::malformed(format!("not HTTP/1.1: {error}"))),
        }
        let headers: Vec<_> = parsed
            .headers
            .iter()
            .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()))
            .collect();
        let lists = |name: &str, wanted: &str| {
            headers
                .iter()
                .filter(|(known, _)| known == name)
                .any(|(_, value)| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)))
        };
        Ok(Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: parsed.path.unwrap_or_default().to_owned(),
            header_len: bytes.len() as u64,
            expects_continue: lists("expect", "100-continue"),
            close: parsed.version == Some(0) || lists("connection", "close"),
            headers,
        })
    }
}

impl Framing {
    pub(super) fn of(head: &Head) -> Result<Self, ReadFailure> {
        let headers = &head.headers;
        let all = |name: &'static str| headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value);
        let mut lengths = all("content-length");
        let mut codings = all("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Self::Length(0)),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() => {
                Ok(Self::Chunked)
            }
            (Some(length), None) if lengths.all(|other| other == length) => {
                // `parse` alone would take a leading plus.
                let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let length = if digits { length.parse().unwrap_or(u64::MAX) } else { u64::MAX };
                match length {
                    _ if !digits => Err(ReadFailure::malformed("content-length is not a number")),
                    ENCODED_LIMIT.. if length > ENCODED_LIMIT => Err(ReadFailure::too_large("the body", ENCODED_LIMIT)),
                    _ => Ok(Self::Length(length)),
                }
            }
            (None, Some(coding)) => Err(ReadFailure::malformed(format!("transfer-encoding {coding} is not supported"))),
            (Some(_), None) => Err(ReadFailure::malformed("content-length is given twice")),
            (Some(_), Some(_)) => Err(ReadFailure::malformed("both content-length and transfer-encoding are given")),
        }
    }

    /// Blocks until the body has arrived; replaces what is in `body`.
    pub(super) fn read(self, reader: &mut impl BufRead, body: &mut Vec<u8>) -> Result<(), ReadFailure> {
        body.clear();
        match self {
            Self::Length(length) => read_exactly(reader, length, body),
            Self::Chunked => read_chunks(reader, body),
        }
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Result<(), ReadFailure> {
    let mut line = Vec::new();
    loop {
        read_line(reader, &mut line)?;
        let size = match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => size,
            _ => return Err(ReadFailure::malformed("a chunk does not begin with its size")),
        };
        if size == 0 {
            break;
        }
        if size.saturating_add(body.len() as u64) > ENCODED_LIMIT {
            return Err(ReadFailure::too_large("the body", ENCODED_LIMIT));
        }
        read_exactly(reader, size, body)?;
        read_line(reader, &mut line)?;
        if line != b"\r\n" && line != b"\n" {
            return Err(ReadFailure::malformed("a chunk is longer than its size"));
        }
    }
    // Trailers: read and forgotten.
    let mut remaining = HEAD_LIMIT;
    loop {
        read_line(reader, &mut line)?;
        if line == b"\r\n" || line == b"\n" {
            return Ok(());
        }
        remaining = match remaining.checked_sub(line.len() as u64) {
            Some(remaining) => remaining,
            None => return Err(ReadFailure::too_large("the trailer block", HEAD_LIMIT)),
        };
    }
}

fn read_exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> Result<(), ReadFailure> {
    let read = reader.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(ReadFailure::Aborted) }
}

fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<(), ReadFailure> {
    line.clear();
    reader.take(CHUNK_LINE_LIMIT).read_until(b'\n', line)?;
    match line.last() {
        Some(b'\n') => Ok(()),
        Some(_) if line.len() as u64 == CHUNK_LINE_LIMIT => Err(ReadFailure::malformed("a chunk line is too long")),
        _ => Err(ReadFailure::Aborted),
    }
}

/// Inflates a body of at most `limit` bytes, checksums included; replaces what is in `decoded`. False for a coding that
/// is not supported.
pub(super) fn inflate(coding: &str, encoded: &[u8], decoded: &mut Vec<u8>, limit: u64) -> Result<bool, ReadFailure> {
    decoded.clear();
    let read = match coding.to_ascii_lowercase().as_str() {
        "gzip" => MultiGzDecoder::new(encoded).take(limit + 1).read_to_end(decoded),
        #[cfg(feature = "brotli")]
        "br" => brotli::Decompressor::new(encoded, 4096).take(limit + 1).read_to_end(decoded),
        #[cfg(feature = "zstd")]
        "zstd" => zstd::stream::read::Decoder::new(encoded).and_then(|body| body.take(limit + 1).read_to_end(decoded)),
        _ => return Ok(false),
    };
    match read {
        Ok(_) if decoded.len() as u64 > limit => Err(ReadFailure::too_large("the inflated body", limit)),
        Ok(_) => Ok(true),
        Err(error) => Err(ReadFailure::malformed(format!("{coding} does not inflate: {error}"))),
    }
}

/// The answer as it goes over the wire.
pub(super) fn encode(response: &Response, close: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + response.body.len());
    let mut line = |text: std::fmt::Arguments<'_>| bytes.write_fmt(text).expect("a Vec grows");
    line(format_args!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status)));
    for (name, value) in &response.headers {
        line(format_args!("{name}: {value}\r\n"));
    }
    if response.find("content-type").is_none() {
        line(format_args!("content-type: application/x-protobuf\r\n"));
    }
    if response.find("content-length").is_none() && response.find("transfer-encoding").is_none() {
        line(format_args!("content-length: {}\r\n", response.body.len()));
    }
    if close && response.find("connection").is_none() {
        line(format_args!("connection: close\r\n"));
    }
    line(format_args!("\r\n"));
    bytes.extend_from_slice(&response.body);
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Scripted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request in `bytes`: its head and body.
    fn read(mut bytes: &[u8]) -> Result<Option<(Head, Vec<u8>)>, ReadFailure> {
        let Some(head) = Head::read(&mut bytes)? else { return Ok(None) };
        let mut body = Vec::new();
        Framing::of(&head)?.read(&mut bytes, &mut body)?;
        Ok(Some((head, body)))
    }

    fn status_of(bytes: &[u8]) -> u16 {
        match read(bytes) {
            Err(ReadFailure::Answer(status, _)) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_has_the_length_its_header_says() {
        let (head, body) = read(b"\r\nPOST /x HTTP/1.1\r\nContent-Length: 3\r\nA: b \r\n\r\nabcdef").unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str(), body.as_slice()), ("POST", "/x", b"abc".as_slice()));
        assert_eq!(head.headers[1], ("a".to_owned(), "b".to_owned()));
        assert_eq!((head.header_len, head.close), (46, false));
    }

    #[test]
    fn chunks_are_joined_and_extensions_and_trailers_skipped() {
        let (_, body) = read(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!(body, b"abc0123456789");
    }

    #[test]
    fn the_end_between_requests_is_a_close_and_inside_one_an_abort() {
        assert!(read(b"").unwrap().is_none());
        for bytes in [&b"POST / HT"[..], b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"] {
            assert!(matches!(read(bytes), Err(ReadFailure::Aborted)), "{bytes:?}");
        }
    }

    #[test]
    fn heads_that_are_not_http_are_malformed() {
        assert_eq!(status_of(b"\x16\x03\x01 \r\n\r\n"), 400);
        assert_eq!(status_of(b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc"), 400);
        assert_eq!(status_of(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), 400);
        assert_eq!(status_of(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
        assert_eq!(status_of(b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), 400);
    }

    #[test]
    fn chunks_that_do_not_fit_their_sizes_are_malformed() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status_of(format!("{head}xyz\r\n").as_bytes()), 400);
        assert_eq!(status_of(format!("{head}1\r\nabc\r\n0\r\n\r\n").as_bytes()), 400);
        assert_eq!(status_of(format!("{head}{}", "1".repeat(2000)).as_bytes()), 400);
    }

    #[test]
    fn what_is_larger_than_its_bound_is_refused_before_it_is_read() {
        assert_eq!(status_of(&[b'a'; HEAD_LIMIT as usize]), 413);
        assert_eq!(status_of(format!("POST / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(300)).as_bytes()), 413);
        for length in [ENCODED_LIMIT as u128 + 1, u64::MAX as u128 + 1] {
            assert_eq!(status_of(format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").as_bytes()), 413);
        }
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status_of(format!("{chunked}4000001\r\n").as_bytes()), 413);
    }

    #[test]
    fn gzip_inflates_up_to_the_limit_and_no_further() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[7; 1000]).unwrap();
        let twice = encoder.finish().unwrap().repeat(2);
        let mut decoded = vec![1, 2, 3];
        inflate("gzip", &twice, &mut decoded, 2000).unwrap();
        assert_eq!(decoded, [7; 2000]);
        assert!(matches!(inflate("gzip", &twice, &mut decoded, 1999), Err(ReadFailure::Answer(413, _))));
        let trailing = [&twice[..], b"more"].concat();
        assert!(matches!(inflate("gzip", &trailing, &mut decoded, 9999), Err(ReadFailure::Answer(400, _))));
    }

    #[test]
    fn an_answer_gets_the_headers_it_lacks() {
        let text = |response: &Response, close| String::from_utf8(encode(response, close)).unwrap();
        assert_eq!(
            text(&Response::ok(), false),
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(
            text(&Response::status(429).header("Content-Type", "text/plain").body("slow"), true),
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\ncontent-length: 4\r\nconnection: close\r\n\
             \r\nslow"
        );
    }
}
