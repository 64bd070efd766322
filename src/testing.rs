//! For tests and examples: a receiver that runs inside the process, and a way to look at what arrived.
//!
//! [`Receiver`] is a real server of OTLP, over HTTP and over gRPC, on a free port of 127.0.0.1. It decodes and checks every request,
//! remembers what it accepted, and answers as scripted:
//!
//! ```
//! use otlp::testing::{Receiver, Response};
//!
//! // Unavailable for the first request, then fine.
//! let receiver = Receiver::builder()
//!     .respond_with(|request| if request.number == 1 { Response::status(503) } else { Response::ok() })
//!     .start()?;
//!
//! let endpoint = receiver.endpoint(); // "http://127.0.0.1:PORT", to give to the exporter under test
//! assert!(endpoint.starts_with("http://127.0.0.1:"));
//! assert!(receiver.errors().is_empty());
//! # std::io::Result::Ok(())
//! ```
//!
//! [`waterfall()`] draws the spans of a trace as text. [`generate_test_spans()`] makes some to send.
//!
//! Nothing here is meant for production: the receiver keeps what it receives until it is dropped.

mod call;
mod calls;
mod connection;
mod exchange;
mod figures;
mod http;
mod message;
mod protocol;
mod receiver;
mod rules;
mod shared;
mod spans;
mod status;
mod waterfall;

#[cfg(test)]
mod tests;

pub use exchange::{ReceivedSpan, Request, Response};
pub use figures::{ConnectionCounts, Keep, Totals};
/// The message types that requests are decoded into.
pub use opentelemetry_proto::tonic as proto;
pub use receiver::{Receiver, ReceiverBuilder};
pub use spans::generate_test_spans;
pub use waterfall::waterfall;
