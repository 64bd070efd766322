//! A call of gRPC on its way in: its headers, and its message as far as it has come.

use std::io::{self, Read};

use super::{connection::BUFFER_KEPT, http::ENCODED_LIMIT};

/// In front of each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(super) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[derive(Debug)]
pub(super) struct Call {
    pub(super) headers: Vec<(String, String)>,
    pub(super) header_len: u64,
    pub(super) path: String,
    pub(super) method: String,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// The message behind its prefix.
    pub(super) body: Vec<u8>,
    /// Bytes that may be sent on its stream.
    pub(super) window: i64,
    pub(super) is_too_large: bool,
}

impl Call {
    pub(super) fn new(window: i64, header_len: u64) -> Self {
        Self {
            headers: Vec::new(),
            header_len,
            path: String::new(),
            method: String::new(),
            prefix: [0; PREFIX_BYTES],
            prefix_len: 0,
            body: Vec::new(),
            window,
            is_too_large: false,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Takes a part of so many bytes out of a reader that ends behind it. What is beyond the limit is read and not kept.
    pub(super) fn take(&mut self, mut part: impl Read, bytes: usize) -> io::Result<()> {
        let missing = (PREFIX_BYTES - self.prefix_len).min(bytes);
        if missing > 0 {
            part.read_exact(&mut self.prefix[self.prefix_len..][..missing])?;
            self.prefix_len += missing;
            // What a sender only says it will send costs no more than what is kept in any case.
            self.body.reserve(self.length().min(BUFFER_KEPT));
        }
        self.is_too_large |= self.body.len() + (bytes - missing) > ENCODED_LIMIT as usize;
        if self.is_too_large {
            io::copy(&mut part, &mut io::sink())?;
        } else {
            part.read_to_end(&mut self.body)?;
        }
        Ok(())
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.prefix[0] == 1
    }

    /// The bytes that the message is to have.
    fn length(&self) -> usize {
        let [_, a, b, c, d] = self.prefix;
        u32::from_be_bytes([a, b, c, d]) as usize
    }

    /// What is wrong with it, as far as it tells without decoding its message.
    pub(super) fn defect(&self) -> Option<(u16, String)> {
        if self.is_too_large {
            return Some((413, format!("the message is larger than {ENCODED_LIMIT} bytes")));
        }
        if self.method != "POST" || !(self.path.ends_with(TRACES) || self.path == METRICS) {
            return Some((404, format!("only {TRACES} is served")));
        }
        let content_type = self.header("content-type").unwrap_or_default();
        if !content_type.starts_with("application/grpc") {
            return Some((400, format!("content-type is {content_type:?} instead of application/grpc")));
        }
        if self.header("te") != Some("trailers") {
            return Some((400, "there is no te: trailers".to_owned()));
        }
        let is_one = self.prefix_len == PREFIX_BYTES && self.length() == self.body.len();
        if !is_one || self.is_compressed() && self.header("grpc-encoding").is_none() {
            return Some((400, "the body is not one message".to_owned()));
        }
        None
    }
}
