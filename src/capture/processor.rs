//! Span processors: told of spans as they start and end, on the thread that starts or ends them.

use std::{
    cell::Cell,
    num::NonZero,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{context::SpanContext, ended::EndedSpan, local, record::Record, span::Span, tracer::Tracer};
use crate::{error::ExportError, plugin::guarded, value::KeyValue};

/// Is told of each span that is recorded ([Span
/// processor](https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-processor)); given to
/// [`ClientBuilder::with_span_processor`](crate::ClientBuilder::with_span_processor).
///
/// Processors are called synchronously, on the thread that starts or ends the span, in the order in which they were
/// given, and by many threads at once: they should be fast and must not block. Spans that a processor records go to the
/// client and to no processor. A panic in a processor is caught. In the child of a `fork` no processors are called,
/// because their threads and locks are those of the parent; a program should not call one that it kept there either.
pub trait SpanProcessor: Send + Sync {
    /// Tells the client's resource, which all its spans share. Called once, before the first span.
    fn set_resource(&self, resource: &[KeyValue<'static>]) {
        let _ = resource;
    }

    /// Called when a span was started, below `parent` if it is not the root of a trace. Whatever is set on it is
    /// exported. Baggage that is current is found at [`Context::current`](crate::propagation::Context::current).
    fn on_start(&self, span: &mut Span, parent: Option<&SpanContext>) {
        let _ = (span, parent);
    }

    /// Called when a span has ended. This includes spans of traces that are not sampled, if they [are
    /// recorded](crate::sampling::SamplingDecision::RecordOnly).
    fn on_end(&self, span: &EndedSpan<'_>);

    /// Finishes the spans that ended before the call, within `timeout`. The client calls its processors one after the
    /// other, before it flushes itself, and gives each an equal share of the time that is left.
    ///
    /// # Errors
    /// [`ExportError::TimedOut`] if it was not finished in time, another error if it failed.
    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        let _ = timeout;
        Ok(())
    }

    /// Finishes the spans that ended before the call, within `timeout`, and ends. Called once. Afterwards the processor
    /// is told only of spans that other threads were ending at that moment.
    ///
    /// # Errors
    /// The errors of [`force_flush`](Self::force_flush).
    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        self.force_flush(timeout)
    }
}

impl<P: SpanProcessor + ?Sized> SpanProcessor for Arc<P> {
    fn set_resource(&self, resource: &[KeyValue<'static>]) {
        (**self).set_resource(resource);
    }

    fn on_start(&self, span: &mut Span, parent: Option<&SpanContext>) {
        (**self).on_start(span, parent);
    }

    fn on_end(&self, span: &EndedSpan<'_>) {
        (**self).on_end(span);
    }

    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        (**self).force_flush(timeout)
    }

    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        (**self).shutdown(timeout)
    }
}

thread_local! {
    /// Whether the thread is inside a processor, or belongs to one.
    static IS_PROCESSING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` as part of a processor: no processor is told of its spans.
pub(crate) fn processing<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = IS_PROCESSING.try_with(|is| is.set(self.0));
        }
    }
    let _restore = Restore(IS_PROCESSING.try_with(|is| is.replace(true)).unwrap_or(true));
    f()
}

fn is_processing() -> bool {
    IS_PROCESSING.try_with(Cell::get).unwrap_or(true)
}

/// Calls a processor; `None` if it panics, which ends here.
fn call<R>(f: impl FnOnce() -> R) -> Option<R> {
    guarded(|| processing(f))
}

/// The processors of one client.
pub(crate) struct Processors {
    /// The processors, in the order in which they are told.
    members: Vec<Arc<dyn SpanProcessor>>,
    /// The client's resource. Set once, at assembly.
    resource: OnceLock<Vec<KeyValue<'static>>>,
    /// Whether the client itself exports spans too.
    pub(super) exports: bool,
}

/// What is kept of a span that processors were told of, until it ends.
pub(super) struct Watch {
    context: SpanContext,
    parent: Option<SpanContext>,
    /// The tracer that started the span, for its scope.
    tracer: Tracer,
    /// The thread clock's reading at the start; `None` if the user gave the start time.
    pub(super) started: Option<NonZero<u64>>,
}

impl Processors {
    /// Makes the list; `None` if there are no `members`.
    pub(crate) fn new(members: Vec<Arc<dyn SpanProcessor>>, exports: bool) -> Option<Arc<Self>> {
        let resource = OnceLock::new();
        (!members.is_empty()).then(|| Arc::new(Self { members, resource, exports }))
    }

    /// Tells all processors the resource.
    pub(crate) fn set_resource(&self, resource: Vec<KeyValue<'static>>) {
        let resource = self.resource.get_or_init(|| resource);
        for member in &self.members {
            call(|| member.set_resource(resource));
        }
    }

    /// Whether processors are told of spans that the calling thread starts.
    pub(super) fn are_told(&self) -> bool {
        !is_processing() && !local::is_own_thread()
    }

    pub(super) fn watch(&self, tracer: &Tracer, context: &SpanContext, parent: Option<&SpanContext>) -> Watch {
        Watch { context: context.clone(), parent: parent.cloned(), tracer: tracer.clone(), started: None }
    }

    pub(super) fn on_start(&self, span: &mut Span, parent: Option<&SpanContext>) {
        for member in &self.members {
            call(|| member.on_start(span, parent));
        }
    }

    /// Tells all processors of a span's end. `record` is closed.
    pub(super) fn on_end(&self, record: &Record, watch: &Watch) {
        let Watch { context, parent, tracer, .. } = watch;
        let resource = self.resource.get().map_or(&[][..], Vec::as_slice);
        let ended = EndedSpan { record, context, parent: parent.as_ref(), scope: tracer.scope(), resource };
        for member in &self.members {
            call(|| member.on_end(&ended));
        }
    }

    /// The number of processors.
    pub(crate) fn count(&self) -> u32 {
        self.members.len() as u32
    }

    /// Has all processors finish, one after the other and each within its share of the time. Returns the number of each
    /// that failed, counted from 1, and its error.
    pub(crate) fn force_flush(&self, deadline: Instant) -> Vec<(u32, ExportError)> {
        self.each(deadline, |member, left| member.force_flush(left))
    }

    /// Ends all processors, one after the other and each within its share of the time. Returns the number of each that
    /// failed, counted from 1, and its error.
    pub(crate) fn shutdown(&self, deadline: Instant) -> Vec<(u32, ExportError)> {
        self.each(deadline, |member, left| member.shutdown(left))
    }

    fn each(
        &self,
        deadline: Instant,
        act: impl Fn(&dyn SpanProcessor, Duration) -> Result<(), ExportError>,
    ) -> Vec<(u32, ExportError)> {
        let act = |(member, number): (&Arc<dyn SpanProcessor>, u32)| {
            let left = deadline.saturating_duration_since(Instant::now());
            // If one takes all its time, each of the others still gets an equal share.
            let share = left / (self.count() - number + 1);
            let done = call(|| act(&**member, share)).unwrap_or_else(|| Err(ExportError::failed("it panicked")));
            Some((number, done.err()?))
        };
        self.members.iter().zip(1..).filter_map(act).collect()
    }
}
