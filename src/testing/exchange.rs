//! What was asked, what was answered, and what a request brought: the values a test looks at.

use std::time::Instant;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{InstrumentationScope, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;

/// One request as it arrived: of HTTP, or a call of gRPC.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// 1 for the first request this receiver got, counted over all connections.
    pub number: u64,
    /// The connection it came over: 1 for the first that was accepted.
    pub connection: u64,
    /// When the last byte of the request had been read.
    pub received_at: Instant,
    /// The method, as sent: `POST`.
    pub method: String,
    /// The request target, as sent: `/v1/traces`, or the method that is called:
    /// `/opentelemetry.proto.collector.trace.v1.TraceService/Export`.
    pub path: String,
    /// Names in lower case, values trimmed (bytes outside UTF-8 replaced), in the order they were sent.
    pub headers: Vec<(String, String)>,
    /// The request line and headers, in bytes, up to and including the empty line; over gRPC what they are compressed to.
    pub header_len: u64,
    /// The body in bytes as it was received: compressed if the sender compressed it, without framing.
    pub encoded_len: u64,
    /// The body in bytes after decompression: equal to `encoded_len` without compression, 0 if it did not inflate.
    pub decoded_len: u64,
    /// The spans in the message; 0 if the request is malformed.
    pub spans: u64,
    /// The decoded body. `None` with [`Keep::Ids`](crate::testing::Keep::Ids) or if it could not be decoded.
    pub message: Option<ExportTraceServiceRequest>,
    /// The status it was answered with; `None` while a scripted answer is being made.
    pub status: Option<u16>,
}

impl Request {
    /// The value of the first header of this name; upper and lower case are the same.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// True if the request was answered with a status from 200 to 299, so that its spans count as received.
    #[must_use]
    pub fn accepted(&self) -> bool {
        matches!(self.status, Some(200..=299))
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The HTTP status code. The spans of a request count as received if it is from 200 to 299. Over gRPC the status is
    /// sent that means about the same: 0 for these, 3 for 400, 16 for 401, 7 for 403, 12 for 404, 405 and 415, 8 for 413
    /// and 429, 14 for 502 to 504, and 13 for every other. [`grpc`](Self::grpc) gives another.
    pub status: u16,
    /// Sent as they are. `content-type: application/x-protobuf` and the right `content-length` are added unless
    /// headers of that name are here. After `connection: close` the receiver closes the connection. Over gRPC that and
    /// the seconds of `retry-after` are all that is told of them.
    pub headers: Vec<(String, String)>,
    /// Sent as it is, after the headers. Over gRPC it is the message, or the words of a failure.
    pub body: Vec<u8>,
}

impl Response {
    /// 200 with an empty `ExportTraceServiceResponse`: every span is accepted.
    #[must_use]
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// This status with an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 with a partial success: `rejected` spans were not accepted, for the reason in `message`.
    ///
    /// This is only what the sender is told. The receiver itself counts every span of the request as received.
    #[must_use]
    pub fn partial_success(rejected: i64, message: &str) -> Self {
        let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.to_owned() };
        let response = ExportTraceServiceResponse { partial_success: Some(partial) };
        Self { body: response.encode_to_vec(), ..Self::ok() }
    }

    /// Over gRPC exactly this status with this message; over HTTP 200 for 0, else 500. Whether the spans count as received
    /// goes by that, too.
    #[must_use]
    pub fn grpc(status: u32, message: &str) -> Self {
        let http = if status == 0 { 200 } else { 500 };
        Self::status(http).header("grpc-status", &status.to_string()).header("grpc-message", message)
    }

    /// Adds a header: `Response::status(429).header("Retry-After", "2")`.
    ///
    /// # Panics
    ///
    /// If the name or the value holds a line break: it would end the header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        assert!(![name, value].iter().any(|text| text.contains(['\r', '\n'])), "a header holds no line break");
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the answer's body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// An answer of the receiver's own: the body is a `google.rpc.Status` with only a message (field 2), as OTLP
    /// wants it of every 4xx and 5xx.
    pub(super) fn failure(status: u16, message: &str) -> Self {
        let mut body = vec![0x12];
        prost::encode_length_delimiter(message.len(), &mut body).expect("a Vec grows");
        body.extend_from_slice(message.as_bytes());
        Self { body, ..Self::status(status) }
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// A span together with the envelope it arrived in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReceivedSpan {
    /// The attributes of its resource.
    pub resource: Vec<KeyValue>,
    /// The span's instrumentation scope; empty if the sender gave none.
    pub scope: InstrumentationScope,
    /// The span itself.
    pub span: Span,
}

impl ReceivedSpan {
    /// The value of the span's first attribute of this name.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        value(&self.span.attributes, key)
    }

    /// The value of the resource's first attribute of this name.
    #[must_use]
    pub fn resource_attribute(&self, key: &str) -> Option<&Value> {
        value(&self.resource, key)
    }

    /// The spans of a message, each with its envelope.
    pub(super) fn flatten(message: &ExportTraceServiceRequest) -> impl Iterator<Item = Self> {
        message.resource_spans.iter().flat_map(|resource_spans| {
            let resource = resource_spans.resource.as_ref().map(|resource| resource.attributes.as_slice());
            resource_spans.scope_spans.iter().flat_map(move |scope_spans| {
                scope_spans.spans.iter().map(move |span| Self {
                    resource: resource.unwrap_or_default().to_vec(),
                    scope: scope_spans.scope.clone().unwrap_or_default(),
                    span: span.clone(),
                })
            })
        })
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_status_message_of_google_rpc() {
        let response = Response::failure(400, "no");
        assert_eq!((response.status, response.body.as_slice()), (400, b"\x12\x02no".as_slice()));
    }

    #[test]
    fn a_partial_success_decodes_to_what_was_given() {
        let response = Response::partial_success(3, "too old");
        let decoded = ExportTraceServiceResponse::decode(response.body.as_slice()).unwrap();
        let partial = decoded.partial_success.unwrap();
        assert_eq!((response.status, partial.rejected_spans, partial.error_message.as_str()), (200, 3, "too old"));
    }

    #[test]
    fn headers_are_found_in_any_case() {
        assert_eq!(Response::status(429).header("Retry-After", "2").find("retry-after"), Some("2"));
    }

    #[test]
    #[should_panic(expected = "line break")]
    fn a_line_break_in_a_header_is_refused() {
        let _ = Response::ok().header("a", "b\r\nc: d");
    }
}
