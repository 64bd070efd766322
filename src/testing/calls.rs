//! A connection of gRPC: calls over HTTP/2, any number at a time on the way in, answered in the order in which they are
//! whole.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read as _, Write as _},
    time::Instant,
};

use super::{
    call::{Call, METRICS},
    connection::{BUFFER_KEPT, Coding, Connection},
    exchange::{Request, Response},
    rules,
    shared::Farewell,
    status,
};
use crate::http2::{
    frame::{
        self, FIRST_WINDOW, FrameHead, HEAD_BYTES, MOST_PAYLOAD, MOST_WINDOW, flag, kind, put, put_window_update,
        setting,
    },
    hpack::{Decoder, MOST_LIST_BYTES, put_indexed, put_literal},
};

/// Streams that may be open at once.
const MOST_STREAMS: u32 = 256;
/// The largest payload of a frame that is taken.
const MOST_DATA: usize = 1024 * 1024;
/// The index of ":status: 200" in the static table.
const STATUS_200: u8 = 8;

/// Codes of HTTP/2 (RFC 9113, 7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;

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
    /// The stream whose answer is on its way, and the bytes there is room for on it; none once it was reset.
    answering: Option<(u32, i64)>,
    /// The memory of the last message, for the next one.
    spare: Vec<u8>,
    /// The client's settings have come, which are to be its first frame.
    has_settings: bool,
    is_idle: bool,
    /// What the client takes: bytes of a payload, and bytes that may be under way, of a new stream and of all.
    most_payload: usize,
    initial_window: i64,
    window: i64,
    /// Bytes that have come since the client was given room for them.
    taken: u32,
}

impl<'a> Calls<'a> {
    pub(super) fn new(connection: Connection<'a>) -> Self {
        Self {
            connection,
            decoder: Decoder::default(),
            open: BTreeMap::new(),
            whole: VecDeque::new(),
            last_stream: 0,
            answering: None,
            spare: Vec::new(),
            has_settings: false,
            is_idle: false,
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
            if self.connection.stream.write_all(&self.farewell(PROTOCOL_ERROR)).is_ok() {
                self.connection.linger();
            }
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
            self.note_idle();
            self.take_frame()?;
            while let Some((stream, call)) = self.whole.pop_front() {
                self.answer(stream, call)?;
            }
        }
    }

    /// Tells whether a call is under way, if that has changed.
    fn note_idle(&mut self) {
        let is_idle = self.open.is_empty() && self.whole.is_empty();
        if is_idle == self.is_idle {
            return;
        }
        self.is_idle = is_idle;
        let (shared, number) = (self.connection.shared, self.connection.number);
        if is_idle { shared.set_idle(number, Some(self.farewell(NO_ERROR))) } else { shared.set_busy(number) }
    }

    /// The last frame of the connection: which calls have been looked at, and why there are no more.
    fn farewell(&self, code: u32) -> Farewell {
        let mut out = Vec::with_capacity(HEAD_BYTES + 8);
        put(&mut out, kind::GOAWAY, 0, 0, &[self.last_stream.to_be_bytes(), code.to_be_bytes()].concat());
        out.try_into().expect("a head and two numbers")
    }

    fn take_frame(&mut self) -> Result<(), Ends> {
        let mut head = [0; HEAD_BYTES];
        self.connection.reader.read_exact(&mut head)?;
        let head = FrameHead::read(head);
        if head.length > MOST_DATA {
            return Err(Ends::Malformed("a frame that is larger than what was offered"));
        }
        if !self.has_settings && head.kind != kind::SETTINGS {
            return Err(Ends::Malformed("settings are not the first frame"));
        }
        if let Some(breach) = rules::breach(head, self.last_stream) {
            return Err(Ends::Malformed(breach));
        }
        if head.kind == kind::DATA && !head.has(flag::PADDED) {
            return self.take_data(head);
        }
        let mut payload = vec![0; head.length];
        self.connection.reader.read_exact(&mut payload)?;
        match head.kind {
            kind::DATA => {
                let data = frame::without_padding(head, &payload).ok_or(Ends::Malformed("padding"))?;
                if let Some(call) = self.open.get_mut(&head.stream) {
                    call.take(data, data.len())?;
                }
                self.gave(head.length)?;
                self.end_if(head)
            }
            kind::HEADERS => self.take_headers(head, &payload),
            kind::SETTINGS if !head.has(flag::ACK) => self.take_settings(&payload),
            kind::PING if !head.has(flag::ACK) => self.send(kind::PING, flag::ACK, 0, &payload),
            kind::WINDOW_UPDATE => self.take_room(head.stream, &payload),
            kind::RST_STREAM => {
                self.forget(head.stream);
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
        match self.open.get_mut(&head.stream) {
            Some(call) => call.take(&mut part, head.length)?,
            None => drop(io::copy(&mut part, &mut io::sink())?),
        }
        if part.limit() > 0 {
            return Err(Ends::Gone);
        }
        self.gave(head.length)?;
        self.end_if(head)
    }

    /// Room for more of the answers.
    fn take_room(&mut self, stream: u32, payload: &[u8]) -> Result<(), Ends> {
        let more = frame::number(payload).map_or(0, i64::from);
        let window = match (stream, &mut self.answering) {
            (0, _) => Some(&mut self.window),
            (stream, Some((answering, window))) if *answering == stream => Some(window),
            _ => {
                let whole = self.whole.iter_mut().find(|(whole, _)| *whole == stream).map(|(_, call)| call);
                self.open.get_mut(&stream).or(whole).map(|call| &mut call.window)
            }
        };
        // What was answered already needs none.
        let Some(window) = window else { return Ok(()) };
        *window += more;
        if more == 0 || *window > MOST_WINDOW { Err(Ends::Malformed("a window of no size there is")) } else { Ok(()) }
    }

    /// Nobody waits for this call any longer.
    fn forget(&mut self, stream: u32) {
        let waiting = self.open.len() + self.whole.len();
        self.open.remove(&stream);
        self.whole.retain(|(whole, _)| *whole != stream);
        self.answering = self.answering.filter(|(answering, _)| *answering != stream);
        if self.open.len() + self.whole.len() < waiting {
            self.connection.shared.count_aborted();
        }
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
        let mut call = Call::new(self.initial_window, block.len() as u64);
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
        call.body = std::mem::take(&mut self.spare);
        self.open.insert(head.stream, call);
        self.note_idle();
        self.end_if(head)
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Ends> {
        self.has_settings = true;
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                setting::INITIAL_WINDOW_SIZE if i64::from(value) > MOST_WINDOW => {
                    return Err(Ends::Malformed("a window of no size there is"));
                }
                setting::INITIAL_WINDOW_SIZE => {
                    let grown = i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                    let whole = self.whole.iter_mut().map(|(_, call)| call);
                    let windows = self.open.values_mut().chain(whole).map(|call| &mut call.window);
                    windows
                        .chain(self.answering.as_mut().map(|(_, window)| window))
                        .for_each(|window| *window += grown);
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
        let defect = call.defect();
        self.connection.encoded = std::mem::take(&mut call.body);
        let coding = match call.header("grpc-encoding") {
            Some(coding) if call.is_compressed() => Coding::By(coding.to_owned()),
            _ => Coding::Plain,
        };
        let response = if call.path == METRICS && defect.is_none() {
            self.connection.keep_metrics(&coding)
        } else {
            let mut request = self.request(&mut call);
            self.connection.settle(&mut request, defect, &coding)
        };
        self.spare = std::mem::take(&mut self.connection.encoded);
        self.spare.clear();
        self.spare.shrink_to(BUFFER_KEPT);
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
        self.connection.stream.write_all(&self.farewell(NO_ERROR))?;
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
    fn respond(&mut self, stream: u32, window: i64, response: &Response) -> Result<(), Ends> {
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
        self.answering = Some((stream, window));
        while !rest.is_empty() {
            // Reset while there was no room.
            let Some((_, window)) = &mut self.answering else { return Ok(()) };
            let room = usize::try_from(self.window.min(*window)).unwrap_or(0);
            let (part, behind) = rest.split_at(rest.len().min(room).min(self.most_payload));
            if part.is_empty() {
                self.connection.stream.write_all(&std::mem::take(&mut out))?;
                // What else comes meanwhile is kept for later.
                self.take_frame()?;
                continue;
            }
            put(&mut out, kind::DATA, 0, stream, part);
            self.window -= part.len() as i64;
            *window -= part.len() as i64;
            rest = behind;
        }
        self.answering = None;
        let mut block = Vec::new();
        trailers.iter().for_each(|(name, value)| put_literal(&mut block, name.as_bytes(), value.as_bytes(), false));
        put(&mut out, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block);
        Ok(self.connection.stream.write_all(&out)?)
    }
}
