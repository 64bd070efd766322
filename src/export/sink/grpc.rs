//! OTLP over gRPC: one unary call per attempt, over HTTP/2 connections that are kept, each for one call at a time.

mod call;
mod details;
mod exchange;
mod fault;
mod frame;
mod head;
mod hpack;
mod outgoing;
mod session;
mod status;
