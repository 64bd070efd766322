//! A request in the form that a sink sends: spans framed as OTLP protobuf, and compressed.

mod body;
pub(super) mod compress;
pub(super) mod pages;
pub(super) mod protobuf;

pub(super) use body::Body;
