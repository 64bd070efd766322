//! What a receiver counts, and how much it keeps.

/// How much of what it receives a [`Receiver`](super::Receiver) keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// Every request with its decoded message: some kilobytes per span.
    #[default]
    Everything,
    /// For runs of many spans: of each span its ids (24 bytes), of each request its headers and sizes.
    /// Complete are only spans of the trace that was accepted first, and of those the first 1,000.
    /// Messages are checked as with `Everything`, except inside attributes, events and status.
    Ids,
}

/// Sums over everything received so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Requests, whatever they were answered. Not counted are those whose headers could not be read.
    pub requests: u64,
    /// Spans in requests that were answered 2xx.
    pub spans: u64,
    /// Bodies as received, in bytes.
    pub encoded_bytes: u64,
    /// Bodies after decompression, in bytes.
    pub decoded_bytes: u64,
    /// Request lines and headers, in bytes.
    pub header_bytes: u64,
    /// Requests cut off by the sender: the connection ended inside them. They are not in `requests`.
    pub aborted: u64,
}

/// The connections of a [`Receiver`](super::Receiver).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Connections accepted since it began.
    pub accepted: u64,
    /// Connections that neither side has closed.
    pub open: u64,
    /// Open connections on which no request is under way: none has begun, or the last one's answer has been sent.
    pub idle: u64,
    /// The most connections that were open at once.
    pub peak_open: u64,
    /// The most requests that were under way at once, from their first byte to their answer.
    pub peak_requests: u64,
}
