//! The server's end of HTTP/2 as far as one call at a time needs it: frames in, the text of a head as HTTP/1.1 would have
//! it, and answers as a gRPC server gives them. Independent of what the library has for its own end.

use std::io;

use super::script::{After, Answer};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// In front of each message: whether it is compressed, and its length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = (self.payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Takes the first frame out of `input`, if it is whole.
    pub(crate) fn take(input: &mut Vec<u8>) -> Option<Self> {
        let head: [u8; 9] = *input.first_chunk()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if input.len() < 9 + length {
            return None;
        }
        let payload = input[9..9 + length].to_vec();
        input.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Self { kind: head[3], flags: head[4], stream, payload })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Frame {
    let payload = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    Frame::new(SETTINGS, 0, 0, payload.collect::<Vec<_>>())
}

pub(crate) fn window_update(stream: u32, more: u32) -> Frame {
    Frame::new(WINDOW_UPDATE, 0, stream, more.to_be_bytes())
}

pub(crate) fn goaway(last: u32, code: u32) -> Frame {
    Frame::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(crate) fn reset(stream: u32, code: u32) -> Frame {
    Frame::new(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// Headers of one frame.
pub(crate) fn headers(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Frame {
    Frame::new(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, block(fields))
}

/// A block of headers as literals, none of which is remembered.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            put_integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Of seven bits, and what follows them.
fn put_integer(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(127) else { return block.push(number as u8) };
    block.push(127);
    while rest >= 128 {
        block.push(rest as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

fn take_integer(rest: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let first = usize::from(rest[0]) & most;
    *rest = &rest[1..];
    if first < most {
        return first;
    }
    let (mut number, mut shift) = (most, 0);
    loop {
        let byte = rest[0];
        *rest = &rest[1..];
        number += usize::from(byte & 127) << shift;
        shift += 7;
        if byte < 128 {
            return number;
        }
    }
}

fn take_text(rest: &mut &[u8]) -> String {
    assert!(rest[0] < 128, "Huffman's code, which nothing here needs");
    let length = take_integer(rest, 7);
    let text = String::from_utf8(rest[..length].to_vec()).expect("text");
    *rest = &rest[length..];
    text
}

/// Those entries of the static table (RFC 7541, appendix A) that requests refer to.
fn of_table(index: usize) -> (&'static str, &'static str) {
    match index {
        1 => (":authority", ""),
        3 => (":method", "POST"),
        4 => (":path", "/"),
        6 => (":scheme", "http"),
        7 => (":scheme", "https"),
        31 => ("content-type", ""),
        58 => ("user-agent", ""),
        other => panic!("index {other}"),
    }
}

/// The fields of a request, which refers to nothing but the static table.
pub(crate) fn fields(mut block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(first) = block.first() {
        if first & 128 != 0 {
            let (name, value) = of_table(take_integer(&mut block, 7));
            fields.push((name.to_owned(), value.to_owned()));
            continue;
        }
        assert_eq!(first & 0b1100_0000, 0, "a literal that is to be remembered");
        let name = match take_integer(&mut block, 4) {
            0 => take_text(&mut block),
            index => of_table(index).0.to_owned(),
        };
        let value = take_text(&mut block);
        fields.push((name, value));
    }
    fields
}

/// A call on its way in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Call {
    pub(crate) stream: u32,
    pub(crate) is_whole: bool,
}

/// The head of a call as HTTP/1.1 would have it, in lower case.
pub(crate) fn head(block: &[u8]) -> String {
    let fields = fields(block);
    let of = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
    let mut head = format!("{} {} http/2\r\n", of(":method"), of(":path"));
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(':')) {
        head += &format!("{name}: {value}\r\n");
    }
    if !of("grpc-encoding").is_empty() {
        head += &format!("content-encoding: {}\r\n", of("grpc-encoding"));
    }
    head.to_lowercase()
}

/// What a gRPC server says where one of HTTP says `status`, and its words.
pub(crate) fn grpc_status(status: u16) -> (u32, &'static str) {
    match status {
        200..=299 => (0, ""),
        400 => (3, "bad"),
        401 => (16, "who are you"),
        403 => (7, "not you"),
        404 => (12, "unknown service"),
        413 => (8, "Received message larger than max (9 vs 4)"),
        429 => (8, "slow down"),
        502..=504 => (14, "not now"),
        _ => (13, "broken"),
    }
}

/// `google.rpc.Status` with a RetryInfo of so many seconds, in Base64.
pub(crate) fn retry_info(seconds: u64) -> String {
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let mut duration = vec![8];
    let mut rest = seconds;
    while rest >= 128 {
        duration.push(rest as u8 | 128);
        rest >>= 7;
    }
    duration.push(rest as u8);
    let info = [&[10, duration.len() as u8][..], &duration].concat();
    let any = [&[10, url.len() as u8][..], url, &[18, info.len() as u8], &info].concat();
    base64(&[&[8, 14, 26, any.len() as u8][..], &any].concat())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        (0..=group.len()).for_each(|at| text.push(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63].into()));
    }
    text
}

impl Answer {
    /// Whether its receiver learns the status from these frames, if it waits.
    pub(super) fn is_decided_by(&self, frames: &[u8]) -> bool {
        self.status > 0 && frames.len() < self.cut() && !matches!(self.after, After::Reset)
    }

    /// The answer as a gRPC server gives it, to a call on this stream.
    pub(super) fn frames(&self, stream: u32) -> Vec<u8> {
        if self.status == 0 {
            return self.bytes();
        }
        let (status, words) = grpc_status(self.status);
        let status = status.to_string();
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        let pause = self.find("retry-after").map(|seconds| retry_info(seconds.parse().expect("seconds")));
        let pause = pause.or_else(|| (self.status == 429).then(|| retry_info(0)));
        let mut trailers = vec![("grpc-status", status.as_str()), ("grpc-message", words)];
        trailers.extend(pause.as_deref().map(|pause| ("grpc-status-details-bin", pause)));
        let mut bytes = if (200..300).contains(&self.status) {
            let mut message = vec![0];
            message.extend((self.message().len() as u32).to_be_bytes());
            message.extend(self.message());
            let (head, data) = (headers(stream, false, &head), Frame::new(DATA, 0, stream, message));
            [head.bytes(), data.bytes(), headers(stream, true, &trailers).bytes()].concat()
        } else {
            headers(stream, true, &[&head[..], &trailers].concat()).bytes()
        };
        bytes.truncate(self.cut());
        bytes
    }
}

/// An error for what no client of ours sends.
pub(crate) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
