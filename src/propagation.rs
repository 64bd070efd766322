//! Trace context across processes: [W3C Trace Context Level 2](https://www.w3.org/TR/trace-context-2/) and
//! [W3C Baggage](https://www.w3.org/TR/baggage/), in the headers of requests and in the environment of child processes.
//!
//! A request carries the context of the span it is made in, and the other side goes on from there:
//!
//! ```
//! use std::collections::HashMap;
//! use otlp::propagation::{extract, inject};
//! # let receiver = otlp::testing::Receiver::start().unwrap();
//! # let client = otlp::Client::builder().with_endpoint(receiver.endpoint()).build().unwrap();
//! # let tracer = client.tracer("shop");
//!
//! let call = tracer.span("GET /stock").kind(otlp::SpanKind::Client).start();
//! let mut headers = HashMap::new();
//! inject(&call.context(), &mut headers); // traceparent, tracestate
//!
//! let caller = extract(&headers).unwrap_or(otlp::SpanContext::INVALID); // invalid: begins a trace
//! let handling = tracer.span("GET /stock").kind(otlp::SpanKind::Server).parent(&caller).start();
//! assert_eq!(handling.context().trace_id(), call.context().trace_id());
//! ```
//!
//! # Child processes
//!
//! What a process is started with is in its environment, in `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`
//! ([environment variables as carriers](https://opentelemetry.io/docs/specs/otel/context/env-carriers/)). They are read
//! once, when the first client or tracer is made: spans without a nearer parent are children of that context, also where
//! the client is disabled, and where it is not sampled they are not recorded. What is malformed is ignored.
//! [`process_context`] and [`process_baggage`] answer what was read.
//!
//! [`CommandExt::with_trace_context`] passes the context on to one child at a time. It changes the environment of the
//! child and never that of this process, so that children started side by side do not mix. Anybody who may look at a
//! process sees its environment: secrets do not belong into trace state or baggage.

use crate::capture::{SpanContext, TraceState};

mod baggage;
mod carrier;
mod command;
mod environment;
mod incoming;
mod traceparent;

pub use baggage::Baggage;
pub use carrier::{Extractor, Injector};
pub use command::CommandExt;
pub use environment::EnvironmentCarrier;
pub(crate) use incoming::adopt;
pub use incoming::{process_baggage, process_context};

/// The names of the fields, as they are sent.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// Writes `context` into a carrier as `traceparent`, and as `tracestate` unless that is empty. An invalid context writes
/// nothing. Allocates.
pub fn inject(context: &SpanContext, carrier: &mut (impl Injector + ?Sized)) {
    if !context.is_valid() {
        return;
    }
    carrier.set(TRACEPARENT, traceparent::write(context));
    if !context.trace_state().is_empty() {
        carrier.set(TRACESTATE, context.trace_state().to_string());
    }
}

/// Reads the context that a carrier holds; it [is remote](SpanContext::is_remote).
///
/// `None` where `traceparent` is missing, given more than once, or malformed; `tracestate` then counts for nothing. A
/// malformed `tracestate` is dropped, and the rest kept.
pub fn extract(carrier: &(impl Extractor + ?Sized)) -> Option<SpanContext> {
    let [header] = carrier.get_all(TRACEPARENT)[..] else { return None };
    let context = traceparent::read(header)?;
    // Several headers are one list.
    let state = TraceState::parse(&carrier.get_all(TRACESTATE).join(","));
    Some(context.with_trace_state(state.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
