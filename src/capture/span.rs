//! The live guard of a span: what a program holds between start and end.

use std::{
    error::Error,
    fmt::{self, Write as _},
    marker::PhantomData,
    num::NonZero,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    attribute::short::Scalar,
    clock::Clock,
    context::SpanContext,
    local,
    open_span::OpenSpan,
    record::key_bit,
    status::Status,
    untaken::{self, Untaken},
};
use crate::{
    error::DropReason,
    plugin::guarded,
    value::{KeyValue, Value},
};

/// An operation that is being recorded. Ending it, or dropping it, hands it to the exporter.
///
/// A span may be moved to and ended on another thread. No method fails, blocks or performs I/O, and none
/// allocates once the thread is warm, except where noted. A span that is not recorded (its trace is not
/// sampled, or the client is disabled or shut down) accepts every call and does nothing, but still has a
/// [`context`](Self::context) to pass on.
///
/// Attributes, events and links beyond the [limits](crate::SpanLimits), 128 of each by default, are left out and
/// counted in the span's dropped counts.
///
/// A span takes at most 4 MiB: longer text is cut at a character boundary, and what does not fit at all is
/// left out and counted in the span's dropped counts.
///
/// A span that is dropped while its thread panics has the status error.
#[must_use = "a span ends when it is dropped"]
pub struct Span(State);

enum State {
    Recording(Live),
    /// Nothing is recorded; the context is passed on.
    Carrying(SpanContext),
}

/// An open span, which ends when this is dropped. `None` once it has ended.
struct Live(Option<Box<OpenSpan>>);

impl Span {
    #[inline]
    pub(super) fn recording(open: Box<OpenSpan>) -> Self {
        Self(State::Recording(Live(Some(open))))
    }

    /// A span that only carries `context` on: nothing is recorded, children get the right parent
    /// ([Wrapping a
    /// SpanContext](https://opentelemetry.io/docs/specs/otel/trace/api/#wrapping-a-spancontext-in-a-span)).
    pub fn from_context(context: SpanContext) -> Self {
        Self(State::Carrying(context))
    }

    /// The open span, if anything is recorded.
    #[inline(always)]
    fn open(&mut self) -> Option<&mut OpenSpan> {
        match &mut self.0 {
            State::Recording(live) => live.0.as_deref_mut(),
            State::Carrying(_) => None,
        }
    }

    /// The context that identifies the span, here and in other processes. It stays valid after the span has ended.
    pub fn context(&self) -> SpanContext {
        self.as_ref().clone()
    }

    /// Whether the span records what is set on it. Use it to skip preparing costly values.
    pub fn is_recording(&self) -> bool {
        matches!(self.0, State::Recording(_))
    }

    /// Sets an attribute, replacing the value `key` has
    /// ([Set Attributes](https://opentelemetry.io/docs/specs/otel/trace/api/#set-attributes)). An empty key
    /// is not recorded. Attributes known at the start are better given to
    /// [`Tracer::span`](crate::Tracer::span), where samplers can see them.
    #[inline(always)]
    pub fn set_attribute<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) -> &mut Self {
        if let Some(open) = self.open() {
            open.set_attribute(key, value.into());
        }
        self
    }

    /// Sets several attributes, each as [`set_attribute`](Self::set_attribute) does.
    pub fn set_attributes<'v>(&mut self, attributes: impl IntoIterator<Item = KeyValue<'v>>) -> &mut Self {
        for KeyValue { key, value } in attributes {
            self.set_attribute(&key, value);
        }
        self
    }

    /// Records that something happened now ([Add
    /// Events](https://opentelemetry.io/docs/specs/otel/trace/api/#add-events)). Among attributes with the same key,
    /// the last wins. More than 128 of them at once allocate.
    pub fn add_event<'v>(&mut self, name: &str, attributes: impl AsRef<[KeyValue<'v>]>) -> &mut Self {
        if let Some(open) = self.open() {
            let now = local::with(|local| {
                let now = local.clock.now();
                local.clock.unix(now)
            });
            open.add_event(name, now, attributes.as_ref());
        }
        self
    }

    /// Records that something happened at `time`, which need not lie within the span. Among attributes with the same
    /// key, the last wins. More than 128 of them at once allocate.
    pub fn add_event_at<'v>(
        &mut self,
        name: &str,
        time: SystemTime,
        attributes: impl AsRef<[KeyValue<'v>]>,
    ) -> &mut Self {
        if let Some(open) = self.open() {
            open.add_event(name, unix_nanos(time), attributes.as_ref());
        }
        self
    }

    /// Links the span to another one, in this or another trace
    /// ([Link](https://opentelemetry.io/docs/specs/otel/trace/api/#link)). Links known at the start are better given to
    /// [`Tracer::span`](crate::Tracer::span), where samplers can see them. Among attributes with the same key, the last
    /// wins; more than 128 of them at once allocate.
    pub fn add_link<'v>(&mut self, to: &SpanContext, attributes: impl AsRef<[KeyValue<'v>]>) -> &mut Self {
        if let Some(open) = self.open() {
            open.add_link(to, attributes.as_ref());
        }
        self
    }

    /// Sets how the operation ended ([Set Status](https://opentelemetry.io/docs/specs/otel/trace/api/#set-status)).
    /// `Ok` is final, `Unset` changes nothing, and of several errors the last wins.
    pub fn set_status(&mut self, status: Status) -> &mut Self {
        if let Some(open) = self.open() {
            open.record.set_status(&status);
        }
        self
    }

    /// Records a failure: an `exception` event with the error's type and message, the attribute `error.type`, and the
    /// status error with the message, unless a status was set before ([exceptions on
    /// spans](https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/)). Formats the error, so it may
    /// allocate. A boxed error is given as `&*error`; its type is then that of the trait object, because nothing else
    /// is known of it. If the error's `Display` fails or panics, the text it had written until then is the message.
    pub fn record_error<E: Error + ?Sized>(&mut self, error: &E) -> &mut Self {
        self.record_error_with(error, [])
    }

    /// Records a failure like [`record_error`](Self::record_error), with more attributes of the event; among equal
    /// keys, these win. They change neither the attribute `error.type` nor the status.
    pub fn record_error_with<'v, E: Error + ?Sized>(
        &mut self,
        error: &E,
        attributes: impl AsRef<[KeyValue<'v>]>,
    ) -> &mut Self {
        if self.is_recording() {
            self.record_failure(std::any::type_name::<E>(), message(error), attributes.as_ref());
        }
        self
    }

    /// Records a failure with an error type and a message. `attributes` are added to the event.
    pub(crate) fn record_failure<'v>(
        &mut self,
        kind: &'static str,
        message: String,
        more: &[KeyValue<'v>],
    ) -> &mut Self {
        self.fail(&message);
        let own = [KeyValue::new("exception.type", kind), KeyValue::new("exception.message", message)];
        self.add_event("exception", own.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>());
        self.set_attribute("error.type", kind)
    }

    /// Sets the status to an error with this description, unless a status was set before.
    pub(crate) fn fail(&mut self, description: &str) {
        if let Some(open) = self.open()
            && !open.record.has_status()
        {
            open.record.set_error(description);
        }
    }

    /// Gives the span another name ([UpdateName](https://opentelemetry.io/docs/specs/otel/trace/api/#updatename)).
    /// Sampling decisions made with the old name stay.
    pub fn update_name(&mut self, name: &str) -> &mut Self {
        if let Some(open) = self.open() {
            open.record.rename(name);
        }
        self
    }

    /// Makes this span the current one of the calling thread until the guard is dropped: spans started
    /// meanwhile are its children. Dropping the guard does not end the span, and ending the span does not
    /// make it less current.
    #[inline]
    pub fn enter(&self) -> Entered {
        // If the thread was called back while it was recording, nothing is made current: 0 is no valid token.
        let token = local::with_own(|local| local.spans.enter(self.context())).unwrap_or(0);
        Entered { token, not_send: PhantomData }
    }

    /// Ends the span now ([End](https://opentelemetry.io/docs/specs/otel/trace/api/#end)), as dropping it does.
    #[inline]
    pub fn end(self) {}

    /// Ends the span at `time`, or at its start if that is later.
    pub fn end_at(mut self, time: SystemTime) {
        if let State::Recording(live) = &mut self.0
            && let Some(open) = live.0.take()
        {
            finish(open, Some(unix_nanos(time)));
        }
    }
}

/// The span's context, for use as a parent.
impl AsRef<SpanContext> for Span {
    fn as_ref(&self) -> &SpanContext {
        static INVALID: SpanContext = SpanContext::INVALID;
        match &self.0 {
            State::Recording(Live(Some(open))) => &open.context,
            State::Recording(Live(None)) => &INVALID,
            State::Carrying(context) => context,
        }
    }
}

impl OpenSpan {
    // Always inlined: if the caller's type and key are known, one arm is left, and no `Value` is made or dropped.
    #[inline(always)]
    pub(super) fn set_attribute(&mut self, key: &str, value: Value<'_>) {
        if key.is_empty() {
            return;
        }
        let bit = key_bit(key.as_bytes());
        match value {
            Value::String(text) => self.set_text(key, bit, &text),
            Value::I64(number) => self.set_scalar(key, bit, Scalar::int(number), value),
            Value::Bool(flag) => self.set_scalar(key, bit, Scalar::bool(flag), value),
            Value::F64(number) => self.set_scalar(key, bit, Scalar::float(number), value),
            other => self.set_any(key, bit, &other),
        }
    }

    #[inline(always)]
    fn set_scalar(&mut self, key: &str, bit: u64, scalar: Scalar, value: Value<'_>) {
        // Nothing in it needs dropping, which the compiler does not find out itself.
        std::mem::forget(value);
        self.set_short(key, bit, scalar);
    }

    // Not inlined: a program sets attributes in many places.
    #[inline(never)]
    fn set_text(&mut self, key: &str, bit: u64, text: &str) {
        if self.record.may_stop(bit) {
            self.set_known_text(key, bit, text);
        } else if !self.record.try_text(key, bit, text) {
            self.set_long_text(key, bit, text);
        }
    }

    #[inline(never)]
    fn set_short(&mut self, key: &str, bit: u64, scalar: Scalar) {
        if self.record.may_stop(bit) || !self.record.try_scalar(key, bit, scalar) {
            self.set_long_scalar(key, bit, scalar);
        }
    }

    // A function of its own, so that the compiler does not merge both tests.
    #[cold]
    #[inline(never)]
    fn set_known_text(&mut self, key: &str, bit: u64, text: &str) {
        self.set_any(key, bit, &Value::from(text));
    }

    #[inline(never)]
    fn set_long_text(&mut self, key: &str, bit: u64, text: &str) {
        self.set_any(key, bit, &Value::from(text));
    }

    #[inline(never)]
    fn set_long_scalar(&mut self, key: &str, bit: u64, scalar: Scalar) {
        self.set_any(key, bit, &scalar.value());
    }

    /// The general case: the key may be set already, and the record may grow.
    fn set_any(&mut self, key: &str, bit: u64, value: &Value<'_>) {
        self.record.attribute_otherwise(key, bit, value);
    }

    pub(super) fn add_event(&mut self, name: &str, time: u64, attributes: &[KeyValue<'_>]) {
        self.record.event(name, time, attributes);
    }

    pub(super) fn add_link(&mut self, to: &SpanContext, attributes: &[KeyValue<'_>]) {
        self.record.link(to, attributes);
    }
}

impl Drop for Live {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut open) = self.0.take() {
            if std::thread::panicking() {
                open.record.set_error("panicked");
            }
            finish(open, None);
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("context", self.as_ref()).field("is_recording", &self.is_recording()).finish()
    }
}

/// The message of an error. `to_string` would panic if its `Display` fails.
fn message<E: Error + ?Sized>(error: &E) -> String {
    let mut message = String::new();
    let _ = guarded(|| write!(message, "{error}"));
    message
}

#[inline]
fn finish(mut open: Box<OpenSpan>, end: Option<u64>) {
    match (end, open.started) {
        (None, Some(started)) if !open.recorder.is_closed() => local::with(move |local| {
            open.record.close_after(elapsed(started, &mut local.clock));
            local.queues.at(&open.recorder).hand_over(open);
        }),
        _ => finish_otherwise(open, end),
    }
}

/// The time since `started`, by the monotonic clock: a step of the wall clock does not change a duration.
#[inline]
fn elapsed(started: NonZero<u64>, clock: &mut Clock) -> u64 {
    clock.now().saturating_sub(started.get())
}

/// Ends a span in all unusual cases: the user gave a time, nothing is exported, processors are told, or the client was
/// shut down.
#[cold]
#[inline(never)]
fn finish_otherwise(mut open: Box<OpenSpan>, end: Option<u64>) {
    if open.recorder.is_closed() {
        return lose(&open);
    }
    let watch = open.watch.take();
    let started = open.started.or(watch.as_ref().and_then(|watch| watch.started));
    let end = end.unwrap_or_else(|| {
        local::with(|local| match started {
            Some(started) => open.record.start().saturating_add(elapsed(started, &mut local.clock)),
            None => {
                let now = local.clock.now();
                local.clock.unix(now)
            }
        })
    });
    open.record.close(end);
    // Called while nothing of the thread is borrowed: processors may record spans themselves.
    if let (Some(watch), Some(processors)) = (watch, &open.recorder.processors) {
        processors.on_end(&open.record, &watch);
    }
    local::with(move |local| {
        let queue = local.queues.at(&open.recorder);
        match open.withheld() {
            Some(why) => queue.discard(open, why),
            None => queue.hand_over(open),
        }
    });
}

/// Counts a span that ended too late. Not counted as lost: spans that a fork copied, which the parent counts; spans
/// that would not have been exported; and spans that the client's own threads record of their requests.
#[cold]
fn lose(open: &OpenSpan) {
    match open.withheld() {
        _ if open.recorder.is_inherited() => {}
        Some(why) => open.recorder.stats.withheld(why),
        None if local::is_own_thread() => open.recorder.stats.forgotten(),
        None => {
            open.recorder.stats.lost(DropReason::Shutdown);
            if open.recorder.has_said() {
                untaken::note(Untaken::Late);
            }
        }
    }
}

/// Nanoseconds since the UNIX epoch; 0 for earlier times, `u64::MAX` for times that are too late.
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Keeps a span current on the thread that entered it. Guards may be dropped in any order.
#[must_use = "the span is current as long as this guard lives"]
pub struct Entered {
    token: u64,
    /// The guard belongs to the stack of its thread, so it must not be sent.
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        local::with(|local| local.spans.leave(self.token));
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entered")
    }
}
