//! A connection of gRPC: calls over HTTP/2, any number at a time on the way in, answered in the order in which they are
//! whole.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read as _, Write as _},
    time::Instant,
};

use super::{
    connection::{Coding, Connection},
    exchange::{Request, Response},
    http::ENCODED_LIMIT,
    status,
};
use crate::http2::{
    frame::{
        self, FIRST_WINDOW, FrameHead, HEAD_BYTES, MOST_ID, MOST_PAYLOAD, MOST_WINDOW, flag, kind, put,
        put_window_update, setting,
    },
    hpack::{Decoder, MOST_LIST_BYTES, put_indexed, put_literal},
};

/// Streams that may be open at once.
const MOST_STREAMS: u32 = 256;
/// The largest payload of a frame that is taken.
const MOST_DATA: usize = 1024 * 1024;
/// In front of each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// The index of ":status: 200" in the static table.
const STATUS_200: u8 = 8;

/// Codes of HTTP/2 (RFC 9113, 7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Why a connection ends.
#[derive(Debug)]
enum Ends {
    /// It is closed, or broke.
    Gone,
    /// The client breaks the rules, and how.
    Malformed(&'static str),
}

impl From<io::Error> for Ends {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

pub(super) struct Calls<'a> {
    connection: Connection<'a>,
    decoder: Decoder,
    /// Calls on their way in, and those that are whole, in that order.
    open: BTreeMap<u32, Call>,
    whole: VecDeque<(u32, Call)>,
    last_stream: u32,
    /// What the client takes: bytes of a payload, and bytes that may be under way, of a new stream and of all.
    most_payload: usize,
    initial_window: i64,
    window: i64,
    /// Bytes that have come since the client was given room for them.
    taken: u32,
}

/// A call.
#[derive(Debug, Default)]
struct Call {
    headers: Vec<(String, String)>,
    header_len: u64,
    path: String,
    method: String,
    body: Vec<u8>,
    /// Bytes that may be sent on its stream.
    window: i64,
    is_too_large: bool,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl<'a> Calls<'a> {
    pub(super) fn new(connection: Connection<'a>) -> Self {
        Self {
            connection,
            decoder: Decoder::default(),
            open: BTreeMap::new(),
            whole: VecDeque::new(),
            last_stream: 0,
            most_payload: MOST_PAYLOAD,
            initial_window: FIRST_WINDOW,
            window: FIRST_WINDOW,
            taken: 0,
        }
    }

    /// Serves calls until either side wants the connection closed.
    pub(super) fn serve(mut self) {
        let Err(ends) = self.run() else { return };
        let shared = self.connection.shared;
        if let Ends::Malformed(how) = ends {
            shared.add_error(format!("connection {}: not HTTP/2: {how}", self.connection.number));
            let mut out = Vec::new();
            put(&mut out, kind::GOAWAY, 0, 0, &[self.last_stream.to_be_bytes(), PROTOCOL_ERROR.to_be_bytes()].concat());
            let _ = self.connection.stream.write_all(&out);
        }
        (0..self.open.len()).for_each(|_| shared.count_aborted());
    }

    fn run(&mut self) -> Result<(), Ends> {
        let mut out = Vec::new();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, MOST_STREAMS),
            (setting::INITIAL_WINDOW_SIZE, MOST_WINDOW as u32),
            (setting::MAX_FRAME_SIZE, MOST_DATA as u32),
            (setting::MAX_HEADER_LIST_SIZE, MOST_LIST_BYTES as u32),
        ];
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        put(&mut out, kind::SETTINGS, 0, 0, &payload);
        put_window_update(&mut out, 0, (MOST_WINDOW - FIRST_WINDOW) as u32);
        self.connection.stream.write_all(&out)?;
        loop {
            self.take_frame()?;
            while let Some((stream, call)) = self.whole.pop_front() {
                self.answer(stream, call)?;
                let is_idle = self.open.is_empty() && self.whole.is_empty();
                self.connection.shared.set_idle(self.connection.number, is_idle);
            }
        }
    }

    fn take_frame(&mut self) -> Result<(), Ends> {
        let mut head = [0; HEAD_BYTES];
        self.connection.reader.read_exact(&mut head)?;
        let head = FrameHead::read(head);
        if head.length > MOST_DATA {
            return Err(Ends::Malformed("a frame that is larger than what was offered"));
        }
        if head.kind == kind::DATA && !head.has(flag::PADDED) {
            return self.take_data(head);
        }
        let mut payload = vec![0; head.length];
        self.connection.reader.read_exact(&mut payload)?;
        match head.kind {
            kind::DATA => {
                let data = frame::without_padding(head, &payload).ok_or(Ends::Malformed("padding"))?;
                self.gave(head.length)?;
                if let Some(call) = self.open.get_mut(&head.stream) {
                    call.body.extend_from_slice(data);
                }
                self.end_if(head)
            }
            kind::HEADERS => self.take_headers(head, &payload),
            kind::SETTINGS if !head.has(flag::ACK) => self.take_settings(&payload),
            kind::PING if !head.has(flag::ACK) => self.send(kind::PING, flag::ACK, 0, &payload),
            kind::WINDOW_UPDATE => {
                let more = frame::number(&payload).ok_or(Ends::Malformed("a window that is cut off"))?;
                match head.stream {
                    0 => self.window += i64::from(more),
                    stream => {
                        if let Some(call) = self.open.get_mut(&stream) {
                            call.window += i64::from(more);
                        }
                    }
                }
                Ok(())
            }
            kind::RST_STREAM => {
                if self.open.remove(&head.stream).is_some() {
                    self.connection.shared.count_aborted();
                }
                self.whole.retain(|(stream, _)| *stream != head.stream);
                Ok(())
            }
            kind::GOAWAY => Err(Ends::Gone),
            kind::PUSH_PROMISE | kind::CONTINUATION => Err(Ends::Malformed("a frame that has no place there")),
            _ => Ok(()),
        }
    }

    /// A part of a message, straight into its body.
    fn take_data(&mut self, head: FrameHead) -> Result<(), Ends> {
        let mut part = (&mut self.connection.reader).take(head.length as u64);
        let most = ENCODED_LIMIT as usize + PREFIX_BYTES;
        let read = match self.open.get_mut(&head.stream) {
            Some(call) if call.body.len() + head.length <= most => part.read_to_end(&mut call.body)?,
            other => {
                if let Some(call) = other {
                    call.is_too_large = true;
                }
                io::copy(&mut part, &mut io::sink())? as usize
            }
        };
        if read < head.length {
            return Err(Ends::Gone);
        }
        self.gave(head.length)?;
        self.end_if(head)
    }

    fn end_if(&mut self, head: FrameHead) -> Result<(), Ends> {
        let is_over = self.open.get(&head.stream).is_some_and(|call| call.is_too_large) || head.has(flag::END_STREAM);
        if is_over && let Some(call) = self.open.remove(&head.stream) {
            self.whole.push_back((head.stream, call));
        }
        Ok(())
    }

    /// Room for what has come is given again when much of it is used up; of streams there is enough for any message.
    fn gave(&mut self, bytes: usize) -> Result<(), Ends> {
        self.taken += bytes as u32;
        if self.taken < 1 << 30 {
            return Ok(());
        }
        let mut out = Vec::new();
        put_window_update(&mut out, 0, std::mem::take(&mut self.taken));
        Ok(self.connection.stream.write_all(&out)?)
    }

    fn take_headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Ends> {
        let mut block = frame::without_padding(head, payload).ok_or(Ends::Malformed("padding"))?;
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Ends::Malformed("a priority that is cut off"))?;
        }
        let mut block = block.to_vec();
        let mut is_whole = head.has(flag::END_HEADERS);
        while !is_whole {
            let mut next = [0; HEAD_BYTES];
            self.connection.reader.read_exact(&mut next)?;
            let next = FrameHead::read(next);
            if (next.kind, next.stream) != (kind::CONTINUATION, head.stream)
                || block.len() + next.length > MOST_LIST_BYTES
            {
                return Err(Ends::Malformed("headers that do not end"));
            }
            let begun = block.len();
            block.resize(begun + next.length, 0);
            self.connection.reader.read_exact(&mut block[begun..])?;
            is_whole = next.has(flag::END_HEADERS);
        }
        let mut call = Call { window: self.initial_window, header_len: block.len() as u64, ..Call::default() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let take = |name: &[u8], value: &[u8]| match name {
            b":path" => call.path = text(value),
            b":method" => call.method = text(value),
            [b':', ..] => {}
            _ => call.headers.push((text(name), text(value))),
        };
        self.decoder.decode(&block, take).map_err(|_| Ends::Malformed("headers that cannot be read"))?;
        if head.stream.is_multiple_of(2) {
            return Err(Ends::Malformed("a stream that is the server's"));
        }
        if head.stream <= self.last_stream {
            // Trailers of a request, which say nothing.
            return self.end_if(head);
        }
        self.last_stream = head.stream;
        if self.open.len() >= MOST_STREAMS as usize {
            return self.send(kind::RST_STREAM, 0, head.stream, &REFUSED_STREAM.to_be_bytes());
        }
        self.connection.shared.set_idle(self.connection.number, false);
        self.open.insert(head.stream, call);
        self.end_if(head)
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Ends> {
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                setting::INITIAL_WINDOW_SIZE => {
                    let grown = i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                    let whole = self.whole.iter_mut().map(|(_, call)| call);
                    self.open.values_mut().chain(whole).for_each(|call| call.window += grown);
                }
                setting::MAX_FRAME_SIZE => self.most_payload = (value as usize).clamp(MOST_PAYLOAD, 1 << 20),
                _ => {}
            }
        }
        self.send(kind::SETTINGS, flag::ACK, 0, &[])
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Ends> {
        let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
        put(&mut out, kind, flags, stream, payload);
        Ok(self.connection.stream.write_all(&out)?)
    }

    /// Decides the answer to a call that is whole, and sends it.
    fn answer(&mut self, stream: u32, mut call: Call) -> Result<(), Ends> {
        let mut body = std::mem::take(&mut call.body);
        let prefix = body.first_chunk::<PREFIX_BYTES>().copied();
        body.drain(..PREFIX_BYTES.min(body.len()));
        let is_one = prefix.is_some_and(|[_, a, b, c, d]| u32::from_be_bytes([a, b, c, d]) as usize == body.len());
        let is_compressed = matches!(prefix, Some([1, ..]));
        self.connection.encoded = body;
        let coding = match call.header("grpc-encoding") {
            Some(coding) if is_compressed => Coding::By(coding.to_owned()),
            _ => Coding::Plain,
        };
        let response = if call.path == METRICS && is_one {
            self.connection.keep_metrics(&coding)
        } else {
            let defect = defect(&call, is_one, is_compressed);
            let mut request = self.request(&mut call);
            self.connection.settle(&mut request, defect, &coding)
        };
        if !self.connection.shared.pause() {
            return Err(Ends::Gone);
        }
        let is_cut = call.is_too_large;
        self.respond(stream, call.window, &response)?;
        if is_cut {
            return self.send(kind::RST_STREAM, 0, stream, &NO_ERROR.to_be_bytes());
        }
        let closes = response.find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closes {
            return Ok(());
        }
        self.send(kind::GOAWAY, 0, 0, &[(self.last_stream & MOST_ID).to_be_bytes(), NO_ERROR.to_be_bytes()].concat())?;
        Err(Ends::Gone)
    }

    fn request(&self, call: &mut Call) -> Request {
        let connection = &self.connection;
        Request {
            number: connection.shared.number_request(),
            connection: connection.number,
            received_at: Instant::now(),
            method: std::mem::take(&mut call.method),
            path: std::mem::take(&mut call.path),
            headers: std::mem::take(&mut call.headers),
            header_len: call.header_len,
            encoded_len: connection.encoded.len() as u64,
            decoded_len: 0,
            spans: 0,
            message: None,
            status: None,
        }
    }

    /// Sends an answer, within what the client has room for.
    fn respond(&mut self, stream: u32, mut window: i64, response: &Response) -> Result<(), Ends> {
        let mut out = Vec::new();
        let mut block = Vec::new();
        put_indexed(&mut block, STATUS_200);
        put_literal(&mut block, b"content-type", b"application/grpc", false);
        let trailers = status::trailers(response);
        if !(200..300).contains(&response.status) {
            trailers.iter().for_each(|(name, value)| put_literal(&mut block, name.as_bytes(), value.as_bytes(), false));
            put(&mut out, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block);
            return Ok(self.connection.stream.write_all(&out)?);
        }
        put(&mut out, kind::HEADERS, flag::END_HEADERS, stream, &block);
        let mut message = vec![0];
        message.extend((response.body.len() as u32).to_be_bytes());
        message.extend(&response.body);
        let mut rest = &message[..];
        while !rest.is_empty() {
            let room = usize::try_from(self.window.min(window)).unwrap_or(0);
            let (part, behind) = rest.split_at(rest.len().min(room).min(self.most_payload));
            if part.is_empty() {
                self.connection.stream.write_all(&std::mem::take(&mut out))?;
                // What else comes meanwhile is kept for later; room for this stream is only given by its own number.
                self.open.insert(stream, Call { window, ..Call::default() });
                self.take_frame()?;
                window = self.open.remove(&stream).map_or(window, |call| call.window);
                continue;
            }
            put(&mut out, kind::DATA, 0, stream, part);
            self.window -= part.len() as i64;
            window -= part.len() as i64;
            rest = behind;
        }
        let mut block = Vec::new();
        trailers.iter().for_each(|(name, value)| put_literal(&mut block, name.as_bytes(), value.as_bytes(), false));
        put(&mut out, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block);
        Ok(self.connection.stream.write_all(&out)?)
    }
}

/// What is wrong with a call, as far as it tells without its message.
fn defect(call: &Call, is_one: bool, is_compressed: bool) -> Option<(u16, String)> {
    if call.is_too_large {
        return Some((413, format!("the message is larger than {ENCODED_LIMIT} bytes")));
    }
    if call.method != "POST" || !call.path.ends_with(TRACES) {
        return Some((404, format!("only {TRACES} is served")));
    }
    let content_type = call.header("content-type").unwrap_or_default();
    if !content_type.starts_with("application/grpc") {
        return Some((400, format!("content-type is {content_type:?} instead of application/grpc")));
    }
    if call.header("te") != Some("trailers") {
        return Some((400, "there is no te: trailers".to_owned()));
    }
    if !is_one || is_compressed && call.header("grpc-encoding").is_none() {
        return Some((400, "the body is not one message".to_owned()));
    }
    None
}
