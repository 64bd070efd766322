//! What travels with a request, as one value: a span's context and baggage.

use std::fmt;

use super::{Baggage, EnteredBaggage, Extractor, Injector, Propagator, Propagators, traceparent};
use crate::capture::{self, Entered, Span, SpanContext};

/// A span's context and baggage ([Context](https://opentelemetry.io/docs/specs/otel/context/)): what a request brings
/// along and what the requests made for it take on. It never changes: what would change it answers a new one.
///
/// Handling a request within its context is all that a service does:
///
/// ```
/// use otlp::propagation::{self, Context};
/// # let receiver = otlp::testing::Receiver::start().unwrap();
/// # let client = otlp::Client::builder().with_endpoint(receiver.endpoint()).build().unwrap();
/// # let tracer = client.tracer("shop");
/// # let incoming = vec![("baggage".to_owned(), "user=7".to_owned())];
///
/// let _request = Context::extract(&incoming).enter();
/// tracer.in_span("GET /stock", |_| {
///     let mut outgoing = Vec::new();
///     Context::current().inject(&mut outgoing); // traceparent, tracestate, baggage
///     assert_eq!(outgoing[1], ("baggage".to_owned(), "user=7".to_owned()));
/// });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Invalid if there is no span.
    span: SpanContext,
    baggage: Baggage,
}

impl Context {
    /// What holds on the calling thread: the context that a span started now would have as its parent, and the
    /// [current](Baggage::current) baggage. Copies both.
    pub fn current() -> Self {
        super::adopt(Propagators::global());
        Self { span: capture::context_to_pass().unwrap_or(SpanContext::INVALID), baggage: Baggage::current() }
    }

    /// The context of the span; [invalid](SpanContext::is_valid) if there is none.
    pub fn span_context(&self) -> &SpanContext {
        &self.span
    }

    /// The baggage; empty if there is none.
    pub fn baggage(&self) -> &Baggage {
        &self.baggage
    }

    /// This context with another span.
    #[must_use]
    pub fn with_span_context(&self, span: SpanContext) -> Self {
        Self { span, baggage: self.baggage.clone() }
    }

    /// This context with another baggage.
    #[must_use]
    pub fn with_baggage(&self, baggage: Baggage) -> Self {
        Self { span: self.span.clone(), baggage }
    }

    /// Makes this the current context of the calling thread until the guard is dropped
    /// ([Attach](https://opentelemetry.io/docs/specs/otel/context/#attach-context)): spans are children of its span, or
    /// begin a trace if it has none, and its baggage is current, empty or not. Guards may be dropped in any order.
    /// Allocates.
    pub fn enter(&self) -> EnteredContext {
        EnteredContext { _span: Span::from_context(self.span.clone()).enter(), _baggage: self.baggage.enter() }
    }

    /// The context that a carrier holds, by the [propagators](Propagators::global) of the process.
    pub fn extract(carrier: &(impl Extractor + ?Sized)) -> Self {
        Propagators::global().extract(&Self::default(), carrier)
    }

    /// Writes the context into a carrier, by the [propagators](Propagators::global) of the process. Allocates.
    pub fn inject(&self, carrier: &mut (impl Injector + ?Sized)) {
        Propagators::global().inject(self, carrier);
    }
}

/// The context of the span, as a parent.
impl AsRef<SpanContext> for Context {
    fn as_ref(&self) -> &SpanContext {
        &self.span
    }
}

/// No span and no baggage.
impl Default for Context {
    fn default() -> Self {
        Self { span: SpanContext::INVALID, baggage: Baggage::default() }
    }
}

impl Propagators {
    /// Has each write its part of `context` into a carrier, in order. An invalid span context and an empty baggage
    /// write nothing. Allocates.
    pub fn inject(&self, context: &Context, carrier: &mut (impl Injector + ?Sized)) {
        for propagator in self.iter() {
            match propagator {
                Propagator::TraceContext => traceparent::inject(&context.span, carrier),
                Propagator::Baggage => context.baggage.inject(carrier),
            }
        }
    }

    /// Has each read its part out of a carrier, in order. What the carrier does not hold, or not in a form that can be
    /// read, stays what it is in `context`.
    pub fn extract(&self, context: &Context, carrier: &(impl Extractor + ?Sized)) -> Context {
        let mut context = context.clone();
        for propagator in self.iter() {
            match propagator {
                Propagator::TraceContext => context.span = traceparent::extract(carrier).unwrap_or(context.span),
                Propagator::Baggage => {
                    let read = Baggage::extract(carrier);
                    context.baggage = if read.is_empty() { context.baggage } else { read };
                }
            }
        }
        context
    }
}

/// Keeps a [`Context`] current on its thread until it is dropped.
#[must_use = "dropping the guard leaves the context"]
pub struct EnteredContext {
    _span: Entered,
    _baggage: EnteredBaggage,
}

impl fmt::Debug for EnteredContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnteredContext")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{SpanId, TraceId};

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn span(id: u8) -> SpanContext {
        SpanContext::new(TraceId::from_bytes([id; 16]), SpanId::from_bytes([id; 8]), 1, false)
    }

    /// Writes down in which order it is set.
    #[derive(Default)]
    struct Order(Vec<String>);

    impl Injector for Order {
        fn set(&mut self, key: &str, _: String) {
            self.0.push(key.to_owned());
        }
    }

    #[test]
    fn what_cannot_be_read_leaves_what_is_there() {
        // CTX-01, CTX-03
        let here = Context::default().with_span_context(span(1)).with_baggage(Baggage::parse("k=v"));
        for garbage in [
            &[][..],
            &[("traceparent", "garbage"), ("tracestate", "a=1"), ("baggage", "garbage")],
            &[("traceparent", HEADER), ("traceparent", HEADER), ("baggage", "")],
        ] {
            assert_eq!(Propagators::default().extract(&here, &headers(garbage)), here);
        }
        let both = headers(&[("traceparent", HEADER), ("baggage", "l=w")]);
        let read = Propagators::default().extract(&here, &both);
        assert!(read.span_context().is_remote());
        assert_eq!((read.baggage().get("k"), read.baggage().get("l")), (None, Some("w")));
        assert_eq!(here.span_context(), &span(1));
    }

    #[test]
    fn propagators_run_in_their_order_each_once_and_only_those_there_are() {
        // CTX-04, SDKV-05, SDKV-06
        use Propagator::{Baggage as B, TraceContext as T};
        let full = Context::default().with_span_context(span(1)).with_baggage(Baggage::parse("k=v"));
        let incoming = headers(&[("traceparent", HEADER), ("baggage", "k=v")]);
        for (list, expected) in [
            (&[T, T, B][..], &["traceparent", "baggage"][..]),
            (&[B, T], &["baggage", "traceparent"]),
            (&[B], &["baggage"]),
            (&[T], &["traceparent"]),
            (&[], &[]),
        ] {
            let propagators = Propagators::new(list.iter().copied());
            let mut order = Order::default();
            propagators.inject(&full, &mut order);
            assert_eq!(order.0, expected, "{list:?}");
            let read = propagators.extract(&Context::default(), &incoming);
            assert_eq!(read.span_context().is_valid(), list.contains(&T), "{list:?}");
            assert_eq!(!read.baggage().is_empty(), list.contains(&B), "{list:?}");
        }
        let mut order = Order::default();
        Propagators::default().inject(&Context::default(), &mut order);
        assert!(order.0.is_empty(), "nothing is written for nothing");
    }

    #[test]
    fn an_entered_context_is_current_as_a_whole_and_only_until_it_is_left() {
        // CTX-02
        let before = Context::current();
        let outer = Context::default().with_span_context(span(1)).with_baggage(Baggage::parse("k=1"));
        let inner = Context::default().with_span_context(span(2));
        let outer_entered = outer.enter();
        assert_eq!(Context::current(), outer);
        let inner_entered = inner.enter();
        assert_eq!(Context::current(), inner, "without baggage");
        drop(outer_entered);
        assert_eq!(Context::current(), inner);
        let none = Context::default().enter();
        assert_eq!(Context::current(), Context::default(), "no span is a parent");
        drop((none, inner_entered));
        assert_eq!(Context::current(), before);
    }

    #[test]
    fn inject_passes_the_current_baggage_on() {
        // SDKV-05
        let _entered = Baggage::parse("k=v;m").enter();
        let mut sent = Vec::new();
        super::super::inject(&span(1), &mut sent);
        let names: Vec<_> = sent.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, sent[1].1.as_str()), (vec!["traceparent", "baggage"], "k=v;m"));
    }
}
