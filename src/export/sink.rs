//! Where requests go: bytes in, a typed outcome out.

mod answer;
mod classify;
mod http;

pub(crate) use http::HttpTransport;
