//! What this process was started with.

// Not the standard library's cells: a fork in the middle of their initialisation would leave the child waiting.
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::race::OnceBox;

use super::{BAGGAGE, Baggage, EnvironmentCarrier, Extractor as _, Propagators, TRACEPARENT, traceparent};
use crate::{capture, capture::SpanContext, env};

static INCOMING: OnceBox<Incoming> = OnceBox::new();

/// The trace context in the environment, as it was when it was first asked for.
struct Incoming {
    context: Option<SpanContext>,
    baggage: Baggage,
    /// The header to pass on: as it came, where all of it is valid.
    baggage_header: String,
    /// There is a `TRACEPARENT`, and it is ignored.
    is_malformed: bool,
}

impl Incoming {
    /// `carrier` holds only what the propagators of the process are about.
    fn read(carrier: &EnvironmentCarrier) -> Self {
        let context = traceparent::extract(carrier);
        let header = carrier.get(BAGGAGE).unwrap_or_default();
        let (baggage, is_whole) = Baggage::read(header);
        let baggage_header = match is_whole && !baggage.is_empty() && !header.contains(['\n', '\r']) {
            true => header.to_owned(),
            false => baggage.to_string(),
        };
        let is_malformed = context.is_none() && carrier.get(TRACEPARENT).is_some_and(|header| !header.is_empty());
        Self { context, baggage, baggage_header, is_malformed }
    }
}

fn incoming() -> &'static Incoming {
    INCOMING.get_or_init(|| {
        // One by one: the whole environment may be large.
        let name = |field| EnvironmentCarrier::key(field);
        let pair = |field| Some((name(field), env::variable(&name(field))?));
        let fields = Propagators::global().fields();
        let carrier = EnvironmentCarrier::from_pairs(fields.into_iter().filter_map(pair));
        Box::new(Incoming::read(&carrier))
    })
}

/// Makes the context this process was started with the parent of spans for which nothing nearer is found. True once if
/// there is one that makes no sense. `propagators` are the process's, unless those are known already.
pub(crate) fn adopt(propagators: Propagators) -> bool {
    static SAID: AtomicBool = AtomicBool::new(false);
    propagators.settle();
    let incoming = incoming();
    if let Some(context) = &incoming.context {
        capture::set_incoming(context);
    }
    incoming.is_malformed && !SAID.swap(true, Ordering::Relaxed)
}

/// The context this process was started with, from `TRACEPARENT` and `TRACESTATE` in its environment; `None` if there
/// is none that is valid, or `tracecontext` is not among the [propagators](Propagators::global). Read once: later
/// changes of the environment do not count.
pub fn process_context() -> Option<SpanContext> {
    incoming().context.clone()
}

/// The baggage this process was started with, from `BAGGAGE` in its environment; empty if there is none, or `baggage`
/// is not among the [propagators](Propagators::global). Read once: later changes of the environment do not count.
pub fn process_baggage() -> Baggage {
    incoming().baggage.clone()
}

/// The baggage to pass on, byte for byte as it came where it is valid.
pub(super) fn baggage_header() -> Option<&'static str> {
    Some(incoming().baggage_header.as_str()).filter(|header| !header.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(pairs: &[(&str, &str)]) -> Incoming {
        Incoming::read(&EnvironmentCarrier::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn the_context_of_the_process_is_remote_and_has_its_trace_state() {
        // ENVC-02
        let incoming = read(&[("TRACEPARENT", TRACE), ("TRACESTATE", "a=1,b=2"), ("BAGGAGE", "k = v%20w ;m")]);
        let context = incoming.context.unwrap();
        assert!(context.is_remote() && context.is_sampled() && !incoming.is_malformed);
        assert_eq!(context.trace_state().header(), "a=1,b=2");
        assert_eq!((incoming.baggage.get("k"), incoming.baggage_header.as_str()), (Some("v w"), "k = v%20w ;m"));
        assert!(read(&[("traceparent", TRACE)]).context.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_ignored_and_only_that() {
        // W3C-05, W3C-07, ENVC-03
        let garbage = read(&[("TRACEPARENT", "garbage"), ("TRACESTATE", "a=1"), ("BAGGAGE", "a=1,nonsense,b=2")]);
        assert!(garbage.context.is_none() && garbage.is_malformed);
        assert_eq!(garbage.baggage_header, "a=1,b=2");
        let state = read(&[("TRACEPARENT", TRACE), ("TRACESTATE", "===")]);
        assert!(state.context.unwrap().trace_state().is_empty() && !state.is_malformed);
        let empty = read(&[("TRACEPARENT", ""), ("BAGGAGE", "")]);
        assert!(empty.context.is_none() && !empty.is_malformed && empty.baggage_header.is_empty());
    }
}
