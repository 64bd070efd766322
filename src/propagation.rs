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
//! inject(&call.context(), &mut headers); // traceparent, tracestate, baggage
//!
//! let caller = extract(&headers).unwrap_or(otlp::SpanContext::INVALID); // invalid: begins a trace
//! let handling = tracer.span("GET /stock").kind(otlp::SpanKind::Server).parent(&caller).start();
//! assert_eq!(handling.context().trace_id(), call.context().trace_id());
//! ```
//!
//! Baggage goes along as a part of the [`Context`] that is current on a thread: [`Baggage::enter`] and
//! [`Context::enter`] make it so, and both [`inject`] and [`Context::inject`] pass it on.
//!
//! What travels is decided by the [propagators](Propagators) of the process: `OTEL_PROPAGATORS`, by default
//! `tracecontext,baggage`.
//!
//! # Child processes
//!
//! What a process is started with is in its environment, in `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`
//! ([environment variables as carriers](https://opentelemetry.io/docs/specs/otel/context/env-carriers/)). They are read
//! once, when the first client or tracer is made: spans without a nearer parent are children of that context, also
//! where the client is disabled, and where it is not sampled they are not recorded. What is malformed is ignored.
//! [`process_context`] and [`process_baggage`] answer what was read.
//!
//! [`CommandExt::with_trace_context`] passes the context on to one child at a time. It changes the environment of the
//! child and never that of this process, so that children started side by side do not mix. Anybody who may look at a
//! process sees its environment: secrets do not belong into trace state or baggage.

use crate::capture::SpanContext;

mod baggage;
mod carrier;
mod command;
mod context;
mod current;
mod environment;
mod global;
mod incoming;
mod traceparent;

pub use baggage::Baggage;
pub use carrier::{Extractor, Injector};
pub use command::CommandExt;
pub use context::{Context, EnteredContext};
pub use current::EnteredBaggage;
pub use environment::EnvironmentCarrier;
pub(crate) use incoming::adopt;
pub use incoming::{process_baggage, process_context};

pub use crate::config::{Propagator, Propagators};

/// The names of the fields, as they are sent.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// Writes `context` into a carrier as `traceparent`, and as `tracestate` unless that is empty, and the
/// [current](Baggage::current) baggage of the calling thread as `baggage`: what a request for a span takes along, by
/// the [propagators](Propagators::global) of the process. An invalid context and an empty baggage write nothing.
/// Allocates.
pub fn inject(context: &SpanContext, carrier: &mut (impl Injector + ?Sized)) {
    Context::default().with_span_context(context.clone()).with_baggage(Baggage::current()).inject(carrier);
}

/// Reads the context that a carrier holds; it [is remote](SpanContext::is_remote).
///
/// `None` where `traceparent` is missing, given more than once, or malformed; `tracestate` then counts for nothing. A
/// malformed `tracestate` is dropped, and the rest kept. `None` too if `tracecontext` is not among the
/// [propagators](Propagators::global).
pub fn extract(carrier: &(impl Extractor + ?Sized)) -> Option<SpanContext> {
    Propagators::global().contains(Propagator::TraceContext).then(|| traceparent::extract(carrier))?
}

#[cfg(test)]
mod tests;
