//! A request in the form that a sink sends: spans framed as OTLP protobuf, and compressed.

pub(super) mod compress;
pub(super) mod protobuf;
