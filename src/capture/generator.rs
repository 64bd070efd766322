//! Ids from a generator that the program provides.

use std::fmt;

use super::{
    context::RANDOM,
    id::{SpanId, TraceId},
};
use crate::plugin::guarded;

/// Makes the ids of new traces and spans
/// ([IdGenerator](https://opentelemetry.io/docs/specs/otel/trace/sdk/#id-generators)); given to
/// [`ClientBuilder::with_id_generator`](crate::ClientBuilder::with_id_generator).
///
/// The generator is called on the thread that starts the span, by many threads at once. It should be fast and must not
/// block. If it returns an id that is all zero, or panics, a random id is used instead.
pub trait IdGenerator: Send + Sync {
    /// Returns a new trace id, other than zero.
    fn trace_id(&self) -> TraceId;

    /// Returns a new span id, other than zero.
    fn span_id(&self) -> SpanId;

    /// Whether the last seven bytes of each trace id are random, as defined by W3C Trace Context Level 2. Root spans
    /// then carry the Random flag, which probability samplers rely on. Default false.
    fn has_random_trace_ids(&self) -> bool {
        false
    }
}

impl fmt::Debug for dyn IdGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdGenerator")
    }
}

/// A new trace id and its flags: from `generator` if that gives a valid one, else from `random`.
pub(super) fn trace_id(generator: Option<&dyn IdGenerator>, random: impl FnOnce() -> TraceId) -> (TraceId, u8) {
    let make = |generator: &dyn IdGenerator| {
        guarded(|| (generator.trace_id(), generator.has_random_trace_ids())).filter(|(id, _)| id.is_valid())
    };
    match generator.and_then(make) {
        Some((id, is_random)) => (id, if is_random { RANDOM } else { 0 }),
        None => (random(), RANDOM),
    }
}

/// A new span id: from `generator` if that gives a valid one, else from `random`.
pub(super) fn span_id(generator: Option<&dyn IdGenerator>, random: impl FnOnce() -> SpanId) -> SpanId {
    let make = |generator: &dyn IdGenerator| guarded(|| generator.span_id()).filter(SpanId::is_valid);
    generator.and_then(make).unwrap_or_else(random)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    };

    use super::*;
    use crate::capture::{CaptureLimits, Recorder, Scope, SpanContext, Tracer, recorder::Recording};

    /// A generator that counts up from a number.
    struct Counting {
        next: AtomicU8,
        is_random: bool,
    }

    impl Counting {
        fn id<const N: usize>(&self) -> [u8; N] {
            [self.next.fetch_add(1, Ordering::Relaxed); N]
        }
    }

    impl IdGenerator for Counting {
        fn trace_id(&self) -> TraceId {
            TraceId::from_bytes(self.id())
        }

        fn span_id(&self) -> SpanId {
            SpanId::from_bytes(self.id())
        }

        fn has_random_trace_ids(&self) -> bool {
            self.is_random
        }
    }

    fn tracer(generator: impl IdGenerator + 'static) -> Tracer {
        let limits = CaptureLimits::default();
        let recording = Recording { ids: Some(Arc::new(generator)), ..Recording::default() };
        Tracer::bound(Some(&Recorder::recording(limits, recording)), Scope::new("test"))
    }

    #[test]
    fn a_generator_makes_the_ids_and_says_whether_they_are_random() {
        // ID-01, ID-02, ID-03
        for is_random in [false, true] {
            let tracer = tracer(Counting { next: AtomicU8::new(1), is_random });
            let root = tracer.start("root");
            let context = root.context();
            assert_eq!(
                (context.trace_id(), context.span_id()),
                (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]))
            );
            assert_eq!(context.trace_flags(), if is_random { 3 } else { 1 });
            let child = tracer.span("child").parent(&context).start().context();
            assert_eq!((child.trace_id(), child.span_id()), (context.trace_id(), SpanId::from_bytes([3; 8])));
            assert_eq!(child.trace_flags(), context.trace_flags());
            for flags in 0..4 {
                let remote = SpanContext::new(context.trace_id(), context.span_id(), flags, true);
                assert_eq!(tracer.span("child").parent(&remote).start().context().trace_flags(), flags);
            }
        }
    }

    #[test]
    fn in_place_of_zero_ids_and_of_panics_there_are_random_ids() {
        // ID-01, ERR-03
        struct Panicking;
        impl IdGenerator for Panicking {
            fn trace_id(&self) -> TraceId {
                panic!("a fault of the program's")
            }
            fn span_id(&self) -> SpanId {
                panic!("a fault of the program's")
            }
        }
        struct Zero;
        impl IdGenerator for Zero {
            fn trace_id(&self) -> TraceId {
                TraceId::INVALID
            }
            fn span_id(&self) -> SpanId {
                SpanId::INVALID
            }
        }
        for tracer in [tracer(Panicking), tracer(Zero)] {
            let (first, second) = (tracer.start("root").context(), tracer.start("root").context());
            assert!(first.is_valid() && second.is_valid());
            assert!(first.trace_id() != second.trace_id() && first.span_id() != second.span_id());
            assert_eq!(first.trace_flags(), 3);
        }
    }
}
