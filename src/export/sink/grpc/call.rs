//! One call, from its first frame to the end of its answer. Pure.

use super::fault::Broken;
use crate::http2::frame::FIRST_WINDOW;

/// In front of each message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Longer words of a receiver's are cut before they are kept.
const MOST_WORDS: usize = 4 * 1024;
/// The most of `grpc-status-details-bin` that is kept, in Base64.
const MOST_DETAILS: usize = 8 * 1024;

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) stream: u32,
    /// Bytes that may be sent, and that may come.
    pub(super) window: i64,
    pub(super) credit: i64,
    /// How it ended; none while it goes on.
    pub(super) end: Option<End>,
    pub(super) answer: Answer,
    /// The head of the answer has come; what headers follow are its trailers.
    has_head: bool,
    /// The block that is being read has a status of HTTP, as heads have and trailers have not.
    has_status: bool,
    /// Bytes of the body that are kept.
    most: usize,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With the end of its answer.
    Whole,
    /// The body is larger than what is kept.
    TooLarge,
    /// It was cut off, with a code of HTTP/2.
    Reset { code: u32 },
    /// The other side is going away, for this reason, and has not looked at the call.
    Untaken { code: u32 },
}

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status of HTTP; 0 if nothing came.
    pub(super) http: u16,
    pub(super) content: Content,
    /// The status of gRPC.
    pub(super) status: Option<u32>,
    /// What the receiver says to it, percent-encoded.
    pub(super) message: String,
    /// `google.rpc.Status` in Base64.
    pub(super) details: Vec<u8>,
    pub(super) retry_after: Option<String>,
    /// How the message is compressed, where it is.
    pub(super) encoding: Option<String>,
    /// As much of the body as came.
    pub(super) body: Vec<u8>,
}

/// What a body is, by its `content-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Content {
    Grpc,
    /// Something that proxies and web servers say.
    #[default]
    Other,
}

impl Call {
    pub(super) fn new(stream: u32, window: i64, most: usize) -> Self {
        Self {
            stream,
            window,
            credit: FIRST_WINDOW,
            end: None,
            answer: Answer::default(),
            has_head: false,
            has_status: false,
            most: most.saturating_add(PREFIX_BYTES),
        }
    }

    pub(super) fn begin_block(&mut self) {
        self.has_status = false;
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(&value[..value.len().min(MOST_WORDS)]).into_owned();
        let number = || str::from_utf8(value).ok().and_then(|value| value.trim().parse::<u32>().ok());
        let answer = &mut self.answer;
        match name {
            b":status" => {
                self.has_status = true;
                answer.http = number().and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
            }
            // `application/grpc+proto`, and whatever else follows.
            b"content-type" if value.to_ascii_lowercase().starts_with(b"application/grpc") => {
                answer.content = Content::Grpc;
            }
            // A number that is none is a status that is not known.
            b"grpc-status" => answer.status = Some(number().unwrap_or(UNKNOWN)),
            b"grpc-message" => answer.message = text(),
            b"grpc-status-details-bin" if value.len() <= MOST_DETAILS => answer.details = value.to_vec(),
            b"grpc-encoding" => answer.encoding = Some(text()),
            b"retry-after" => answer.retry_after = Some(text()),
            _ => {}
        }
    }

    /// Whether the block is the head of an answer that does not count (RFC 9110, 15.2).
    pub(super) fn is_interim(&self) -> bool {
        self.has_status && (100..200).contains(&self.answer.http)
    }

    pub(super) fn end_block(&mut self, ends_stream: bool) -> Result<(), Broken> {
        if self.is_interim() {
            self.answer = Answer::default();
            return if ends_stream { Err(Broken::Rules("an interim answer that ends the call")) } else { Ok(()) };
        }
        match (self.has_head, self.has_status) {
            (false, false) => return Err(Broken::Rules("an answer without a status")),
            (true, true) => return Err(Broken::Rules("two answers to one call")),
            _ => {}
        }
        // Trailers are the end, whether they say so or not.
        if ends_stream || self.has_head {
            self.end = Some(End::Whole);
        }
        self.has_head = true;
        Ok(())
    }

    pub(super) fn data(&mut self, data: &[u8], ends_stream: bool) -> Result<(), Broken> {
        if !self.has_head {
            return Err(Broken::Rules("data without headers"));
        }
        if data.len() > self.most - self.answer.body.len() {
            self.end = Some(End::TooLarge);
            return Ok(());
        }
        self.answer.body.extend_from_slice(data);
        if ends_stream {
            self.end = Some(End::Whole);
        }
        Ok(())
    }
}

/// The code of a status that is not known.
pub(super) const UNKNOWN: u32 = 2;
