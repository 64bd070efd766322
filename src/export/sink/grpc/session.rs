//! An HTTP/2 connection ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113)) as a client sees it that makes one call at a
//! time: what both sides agreed on, and what comes. Pure: bytes in; what is to be answered, and the call's answer, out.

use super::{
    call::{Call, End},
    fault::{Broken, Foreign},
};
use crate::http2::{
    frame::{
        self, FIRST_WINDOW, FrameHead, HEAD_BYTES, MOST_ID, MOST_PAYLOAD, MOST_WINDOW, PREFACE, flag, kind, put,
        put_window_update, setting,
    },
    hpack::{self, Decoder, Unreadable},
};

/// The other side gets room again when so much of it is used up.
const WORTH_GIVING: i64 = FIRST_WINDOW / 2;

/// How many frames may come during a call that are not its answer, and how many more for each frame that was sent.
const PATIENCE: u32 = 1_000;
const PATIENCE_PER_FRAME: u32 = 8;

/// What holds for a connection from one call to the next.
#[derive(Debug)]
pub(super) struct Session {
    /// The preface was put out.
    is_greeted: bool,
    /// The other side's first settings have come.
    is_met: bool,
    next_stream: u32,
    /// What the other side takes: bytes of a payload, bytes that a new stream may have under way, and whether streams
    /// may be opened at all.
    most_payload: usize,
    initial_window: i64,
    opens_streams: bool,
    /// Bytes that may be sent, and that may come, over all streams.
    window: i64,
    credit: i64,
    decoder: Decoder,
    /// A block of headers that goes on in the next frame.
    block: Option<Block>,
    /// The last stream that the other side looked at, or will: it wants no new ones.
    last_stream: Option<u32>,
    /// Answers to what came, to be sent.
    replies: Vec<u8>,
    patience: u32,
}

/// A part of a block of headers.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            is_greeted: false,
            is_met: false,
            next_stream: 1,
            most_payload: MOST_PAYLOAD,
            initial_window: FIRST_WINDOW,
            opens_streams: true,
            window: FIRST_WINDOW,
            credit: FIRST_WINDOW,
            decoder: Decoder::default(),
            block: None,
            last_stream: None,
            replies: Vec::new(),
            patience: PATIENCE,
        }
    }
}

impl Session {
    /// Whether the connection was begun.
    pub(super) fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Appends what a connection begins with, unless that was done.
    pub(super) fn greet(&mut self, out: &mut Vec<u8>) {
        if self.is_greeted {
            return;
        }
        self.is_greeted = true;
        out.extend_from_slice(PREFACE);
        let mut settings = Vec::with_capacity(12);
        for (name, value) in [(setting::ENABLE_PUSH, 0), (setting::MAX_HEADER_LIST_SIZE, hpack::MOST_LIST_BYTES as u32)]
        {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        put(out, kind::SETTINGS, 0, 0, &settings);
    }

    /// Whether a call may begin now. Where the other side takes no stream for the moment, it may say so later.
    pub(super) fn takes_calls(&self) -> bool {
        self.opens_streams
    }

    /// Whether it serves another call.
    pub(super) fn is_usable(&self) -> bool {
        self.last_stream.is_none() && self.next_stream <= MOST_ID && self.block.is_none()
    }

    /// Begins a call with this block of headers, of whose answer at most `most` bytes are kept: appends what is to be
    /// sent for it.
    pub(super) fn begin(&mut self, block: &[u8], most: usize, out: &mut Vec<u8>) -> Call {
        self.patience = PATIENCE;
        let stream = self.next_stream;
        self.next_stream += 2;
        let (first, mut rest) = block.split_at(block.len().min(self.most_payload));
        let end = |rest: &[u8]| if rest.is_empty() { flag::END_HEADERS } else { 0 };
        put(out, kind::HEADERS, end(rest), stream, first);
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(self.most_payload));
            put(out, kind::CONTINUATION, end(behind), stream, part);
            rest = behind;
        }
        Call::new(stream, self.initial_window, most)
    }

    /// How many of `left` bytes of a call the next frame may carry now.
    pub(super) fn room(&self, call: &Call, left: usize) -> usize {
        let window = usize::try_from(self.window.min(call.window)).unwrap_or(0);
        left.min(self.most_payload).min(window)
    }

    /// A frame with so many bytes of a call is on its way.
    pub(super) fn sent(&mut self, call: &mut Call, bytes: usize) {
        self.window -= bytes as i64;
        call.window -= bytes as i64;
        self.patience = self.patience.saturating_add(PATIENCE_PER_FRAME);
    }

    /// What the other side is to be answered, beginning with what came first.
    pub(super) fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// Takes what has come, as far as it is whole, for the call that is under way, if one is. Answers how many bytes that
    /// was.
    pub(super) fn take(&mut self, input: &[u8], mut call: Option<&mut Call>) -> Result<usize, Broken> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if !self.is_met
                && let Some(foreign) = Foreign::recognised(rest)
            {
                return Err(Broken::Foreign(foreign));
            }
            let Some((head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() else { return Ok(used) };
            let head = FrameHead::read(*head);
            if !self.is_met && (head.kind != kind::SETTINGS || head.stream != 0 || head.has(flag::ACK)) {
                return Err(Broken::Foreign(Foreign::Unknown));
            }
            if head.length > MOST_PAYLOAD {
                return Err(Broken::Rules("a frame that is larger than what was offered"));
            }
            let Some(payload) = behind.get(..head.length) else { return Ok(used) };
            used += HEAD_BYTES + head.length;
            self.frame(head, payload, call.as_deref_mut())?;
            if call.as_ref().is_some_and(|call| call.end.is_some()) {
                return Ok(used);
            }
        }
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        let is_expected = match &self.block {
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.stream,
            None => head.kind != kind::CONTINUATION,
        };
        if !is_expected {
            return Err(Broken::Rules("headers that are broken off"));
        }
        let call = call.filter(|call| call.stream == head.stream || head.stream == 0);
        match head.kind {
            kind::DATA => return self.data(head, payload, call),
            kind::HEADERS => return self.headers(head, payload, call),
            kind::CONTINUATION => return self.continuation(head, payload, call),
            _ => {}
        }
        self.bear()?;
        match head.kind {
            kind::SETTINGS => self.settings(head, payload, call),
            kind::WINDOW_UPDATE => self.window_update(head, payload, call),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(head, payload, call),
            kind::RST_STREAM => self.reset(head, payload, call),
            kind::PUSH_PROMISE => Err(Broken::Rules("a promise that nobody asked for")),
            kind::PRIORITY if head.stream == 0 => Err(Broken::Rules("a priority of nothing")),
            // Nor is one of a type that is not known (section 4.1).
            _ => Ok(()),
        }
    }

    /// One more frame that brings the call no further.
    fn bear(&mut self) -> Result<(), Broken> {
        self.patience = self.patience.checked_sub(1).ok_or(Broken::Flood)?;
        Ok(())
    }

    /// Whether there is, or was, such a stream.
    fn is_known(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream < self.next_stream
    }

    fn data(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        if !self.is_known(head.stream) {
            return Err(Broken::Rules("data of no stream"));
        }
        // Padding counts (section 6.9.1).
        let bytes = head.length as i64;
        self.credit -= bytes;
        if self.credit < 0 {
            return Err(Broken::Rules("more data than there was room for"));
        }
        if FIRST_WINDOW - self.credit >= WORTH_GIVING {
            put_window_update(&mut self.replies, 0, (FIRST_WINDOW - self.credit) as u32);
            self.credit = FIRST_WINDOW;
        }
        let data =
            frame::without_padding(head, payload).ok_or(Broken::Rules("padding that is longer than its frame"))?;
        let ends = head.has(flag::END_STREAM);
        if data.is_empty() && !ends {
            self.bear()?;
        }
        let Some(call) = call else { return self.bear() };
        call.credit -= bytes;
        if call.credit < 0 {
            return Err(Broken::Rules("more data than there was room for"));
        }
        if !ends && FIRST_WINDOW - call.credit >= WORTH_GIVING {
            put_window_update(&mut self.replies, call.stream, (FIRST_WINDOW - call.credit) as u32);
            call.credit = FIRST_WINDOW;
        }
        call.data(data, ends)
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        if !self.is_known(head.stream) {
            return Err(Broken::Rules("headers of no stream"));
        }
        let mut block =
            frame::without_padding(head, payload).ok_or(Broken::Rules("padding that is longer than its frame"))?;
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Broken::Rules("a priority that is cut off"))?;
        }
        let ends_stream = head.has(flag::END_STREAM);
        if !head.has(flag::END_HEADERS) {
            self.block = Some(Block { stream: head.stream, ends_stream, bytes: block.to_vec() });
            return self.bear();
        }
        self.block_is_whole(block, ends_stream, call)
    }

    fn continuation(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        self.bear()?;
        let Some(block) = &mut self.block else { return Ok(()) };
        if block.bytes.len() + payload.len() > hpack::MOST_LIST_BYTES {
            return Err(Broken::Endless);
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(());
        }
        let Some(block) = self.block.take() else { return Ok(()) };
        self.block_is_whole(&block.bytes, block.ends_stream, call)
    }

    /// Of a call that is over the block is read as well: later ones may refer to it.
    fn block_is_whole(&mut self, block: &[u8], ends_stream: bool, call: Option<&mut Call>) -> Result<(), Broken> {
        let unreadable = |why| match why {
            Unreadable::Malformed => Broken::Rules("headers that cannot be read"),
            Unreadable::TooLong => Broken::Endless,
        };
        let Some(call) = call else {
            self.bear()?;
            return self.decoder.decode(block, |_, _| {}).map_err(unreadable);
        };
        call.begin_block();
        self.decoder.decode(block, |name, value| call.field(name, value)).map_err(unreadable)?;
        if call.is_interim() {
            self.bear()?;
        }
        call.end_block(ends_stream)
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8], mut call: Option<&mut Call>) -> Result<(), Broken> {
        if head.stream != 0 || !payload.len().is_multiple_of(6) || head.has(flag::ACK) && !payload.is_empty() {
            return Err(Broken::Rules("settings that are none"));
        }
        if head.has(flag::ACK) {
            return Ok(());
        }
        self.is_met = true;
        for setting in payload.chunks_exact(6) {
            let (name, value) = setting.split_at(2);
            let name = u16::from_be_bytes([name[0], name[1]]);
            let value = u32::from_be_bytes([value[0], value[1], value[2], value[3]]);
            match name {
                setting::ENABLE_PUSH if value != 0 => return Err(Broken::Rules("a setting that is a client's")),
                setting::MAX_CONCURRENT_STREAMS => self.opens_streams = value > 0,
                setting::INITIAL_WINDOW_SIZE => {
                    let window = i64::from(value);
                    if window > MOST_WINDOW {
                        return Err(Broken::Rules("a window that is too large"));
                    }
                    if let Some(call) = &mut call {
                        call.window += window - self.initial_window;
                        if call.window > MOST_WINDOW {
                            return Err(Broken::Rules("a window that is too large"));
                        }
                    }
                    self.initial_window = window;
                }
                setting::MAX_FRAME_SIZE => {
                    if !(16_384..1 << 24).contains(&value) {
                        return Err(Broken::Rules("a size of frames that is none"));
                    }
                    self.most_payload = value as usize;
                }
                _ => {}
            }
        }
        put(&mut self.replies, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        let more = match (payload.len(), frame::number(payload)) {
            (4, Some(more @ 1..)) => i64::from(more),
            _ => return Err(Broken::Rules("a window that does not grow")),
        };
        let window = match (head.stream, call) {
            (0, _) => &mut self.window,
            (_, Some(call)) => &mut call.window,
            (stream, None) if self.is_known(stream) => return Ok(()),
            _ => return Err(Broken::Rules("a window of no stream")),
        };
        *window += more;
        if *window > MOST_WINDOW { Err(Broken::Rules("a window that is too large")) } else { Ok(()) }
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 || payload.len() != 8 {
            return Err(Broken::Rules("a ping that is none"));
        }
        if !head.has(flag::ACK) {
            put(&mut self.replies, kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    /// The first of two may name the last of all streams; the second then says which of them were looked at.
    fn goaway(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        let (Some(last), Some(code)) = (frame::number(payload), payload.get(4..8).and_then(|code| code.first_chunk()))
        else {
            return Err(Broken::Rules("a farewell that is cut off"));
        };
        if head.stream != 0 {
            return Err(Broken::Rules("a farewell of a stream"));
        }
        self.last_stream = Some(self.last_stream.map_or(last, |before| before.min(last)));
        if let Some(call) = call
            && call.stream > last
        {
            call.end = Some(End::Untaken { code: u32::from_be_bytes(*code) });
        }
        Ok(())
    }

    fn reset(&mut self, head: FrameHead, payload: &[u8], call: Option<&mut Call>) -> Result<(), Broken> {
        let code = match payload.first_chunk() {
            Some(code) if payload.len() == 4 => u32::from_be_bytes(*code),
            _ => return Err(Broken::Rules("a reset that is none")),
        };
        match call {
            Some(call) if head.stream != 0 => call.end = Some(End::Reset { code }),
            // It may come behind an answer that is whole, which stands.
            _ if self.is_known(head.stream) => {}
            _ => return Err(Broken::Rules("a reset of no stream")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
