//! Starting spans: the tracer, the builder, and what a new span inherits.

use std::{fmt, num::NonZero, sync::Arc, time::SystemTime};

use super::{
    binding::{Binding, Target},
    clock::Clock,
    context::{RANDOM, SAMPLED, SpanContext},
    generator,
    id::{RandomIds, SpanId},
    local::{self, Local},
    open_span::OpenSpan,
    record::Head,
    recorder::Recorder,
    sampler::{Sampling, SamplingDecision, SamplingInput, SamplingResult},
    scope::Scope,
    span::{Span, unix_nanos},
    status::SpanKind,
    tracestate::TraceState,
};
use crate::{
    stats::{Fate, Withheld},
    value::{KeyValue, Value},
};

/// Makes the spans of one [`Scope`]. Cheap to clone and to share between threads; make one per component and
/// keep it.
///
/// Starting a span takes no lock, makes no system call and, once the thread is warm, allocates nothing. The
/// first span of a thread registers the thread, and the first of a client starts a worker.
#[derive(Clone)]
pub struct Tracer(Arc<Binding>);

impl Tracer {
    /// Makes a tracer of one client; `None` if the client is disabled.
    pub(crate) fn bound(recorder: Option<&Arc<Recorder>>, scope: Scope) -> Self {
        Self(Arc::new(Binding::to(recorder, scope)))
    }

    /// Makes a tracer of the process-wide client, as soon as there is one, or of the thread's default.
    pub(crate) fn late(scope: Scope) -> Self {
        Self(Arc::new(Binding::late(scope)))
    }

    pub(super) fn scope(&self) -> &Scope {
        self.0.scope()
    }

    /// Whether spans started now would be recorded anywhere
    /// ([Enabled](https://opentelemetry.io/docs/specs/otel/trace/api/#enabled)).
    pub fn enabled(&self) -> bool {
        self.0.plain_target().is_some() || self.0.with_target(|target| target.is_some())
    }

    /// Starts a span called `name`. Its parent is the calling thread's current span, else the [process
    /// span](crate::ProcessSpan), else the [context](crate::propagation::process_context) the process was started with;
    /// without any of them it begins a trace. It does not become the current span.
    #[inline]
    pub fn start(&self, name: &str) -> Span {
        // Every start but that of a usual child of a recorded span takes the builder's way.
        let child = self.0.plain_target().and_then(|target| local::with(|local| start_child(local, target, name)));
        child.map_or_else(|| self.start_otherwise(name), Span::recording)
    }

    #[inline(never)]
    fn start_otherwise(&self, name: &str) -> Span {
        self.span(name).start()
    }

    /// Prepares a span called `name`. Attributes, links and other settings are given to the builder.
    #[inline]
    pub fn span(&self, name: &str) -> SpanBuilder<'_> {
        match self.0.plain_target() {
            Some(target) => self.prepare(Some(target), name),
            None => self.0.with_target(|target| self.prepare(target, name)),
        }
    }

    #[inline]
    fn prepare(&self, target: Option<&Target>, name: &str) -> SpanBuilder<'_> {
        let open =
            target.and_then(|target| local::with(|local| local.queues.at(&target.recorder).open(target.scope, name)));
        let has_target = target.is_some();
        SpanBuilder { tracer: self, open, has_target, parent: Parent::Current, kind: SpanKind::Internal, start: None }
    }

    /// Runs `f` inside a new span called `name`, which is current meanwhile and ends afterwards. If `f` panics, the
    /// span has the status error.
    #[inline]
    pub fn in_span<R>(&self, name: &str, f: impl FnOnce(&mut Span) -> R) -> R {
        let mut span = self.start(name);
        let _entered = span.enter();
        f(&mut span)
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("scope", self.0.scope()).field("enabled", &self.enabled()).finish()
    }
}

/// The parent of a span about to start.
enum Parent {
    /// The thread's current span, else the process span, else the context the process was started with, if there is
    /// one.
    Current,
    /// No parent: the span begins a trace, with this trace state.
    None(TraceState),
    Given(SpanContext),
}

/// A span about to start. Samplers see the attributes and links given here.
#[must_use = "nothing is recorded until `start` or `in_span` is called"]
pub struct SpanBuilder<'t> {
    tracer: &'t Tracer,
    open: Option<Box<OpenSpan>>,
    /// Whether there was a client when the name was given: if there is no record although there was one, memory was
    /// short.
    has_target: bool,
    parent: Parent,
    kind: SpanKind,
    start: Option<u64>,
}

impl SpanBuilder<'_> {
    /// Makes `parent` the span's parent, instead of the current span: a [`SpanContext`], a [`Span`], or the span of a
    /// [`Context`](crate::propagation::Context). An invalid parent begins a trace, which takes over its trace state:
    /// that is how explicit randomness is given.
    pub fn parent(mut self, parent: &(impl AsRef<SpanContext> + ?Sized)) -> Self {
        let parent = parent.as_ref();
        self.parent =
            if parent.is_valid() { Parent::Given(parent.clone()) } else { Parent::None(parent.trace_state().clone()) };
        self
    }

    /// Begins a trace, regardless of the current span.
    pub fn root(mut self) -> Self {
        self.parent = Parent::None(TraceState::EMPTY);
        self
    }

    /// Sets the span's kind. The default is [`SpanKind::Internal`].
    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets an attribute. Among equal keys, the last wins; an empty key is not recorded.
    pub fn attribute<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        if let Some(open) = &mut self.open {
            open.set_attribute(key, value.into());
        }
        self
    }

    /// Sets several attributes.
    pub fn attributes<'v>(mut self, attributes: impl IntoIterator<Item = KeyValue<'v>>) -> Self {
        if let Some(open) = &mut self.open {
            attributes.into_iter().for_each(|KeyValue { key, value }| open.set_attribute(&key, value));
        }
        self
    }

    /// Links the span to another one. Among attributes with the same key, the last wins.
    pub fn link<'v>(mut self, to: &SpanContext, attributes: impl AsRef<[KeyValue<'v>]>) -> Self {
        if let Some(open) = &mut self.open {
            open.add_link(to, attributes.as_ref());
        }
        self
    }

    /// Sets when the span began, if not now. Its end is then taken from the wall clock too.
    pub fn start_time(mut self, time: SystemTime) -> Self {
        self.start = Some(unix_nanos(time));
        self
    }

    /// Starts the span and runs `f` inside it. The span is current meanwhile and ends afterwards. If `f` panics, it has
    /// the status error.
    ///
    /// ```
    /// # use otlp::SpanKind;
    /// # let tracer = otlp::tracer("docs");
    /// let rows = tracer.span("GET").kind(SpanKind::Client).attribute("page", 2).in_span(|span| {
    ///     span.set_attribute("rows", 42);
    ///     42
    /// });
    /// # assert_eq!(rows, 42);
    /// ```
    #[inline]
    pub fn in_span<R>(self, f: impl FnOnce(&mut Span) -> R) -> R {
        let mut span = self.start();
        let _entered = span.enter();
        f(&mut span)
    }

    /// Starts the span.
    #[inline]
    pub fn start(mut self) -> Span {
        let plain = if self.has_target { self.tracer.0.plain_target() } else { None };
        let Some(target) = plain.filter(|target| self.is_for(target)) else { return self.start_otherwise() };
        let mut open = self.open.take();
        let parent = std::mem::replace(&mut self.parent, Parent::Current);
        let (kind, start) = (self.kind, self.start);
        local::with(|local| {
            let (parent, state) = match &parent {
                Parent::Current => (local.spans.parent(), &TraceState::EMPTY),
                Parent::None(state) => (None, state),
                Parent::Given(context) => (Some(context), &TraceState::EMPTY),
            };
            let context = context_of(parent, state.clone(), &mut local.ids, &target.recorder.sampling);
            let parent = parent.map(|parent| (parent.span_id(), parent.is_remote()));
            let queue = local.queues.at(&target.recorder);
            let is_sampled = context.is_sampled();
            let is_remote = parent.map(|(_, is_remote)| is_remote);
            queue.started(is_remote, if is_sampled { Fate::Exported } else { Fate::Dropped });
            match open.take() {
                Some(mut open) if is_sampled => {
                    open.context = context;
                    launch(&mut open, &mut local.clock, parent, kind, start);
                    return Span::recording(open);
                }
                None if is_sampled => queue.lose(),
                unused => unused.into_iter().for_each(|unused| queue.recycle(unused)),
            }
            Span::from_context(context)
        })
    }

    /// Whether the builder's record belongs to that client: one from before a fork is the parent's.
    #[inline]
    fn is_for(&self, target: &Target) -> bool {
        self.open.as_ref().is_none_or(|open| Arc::ptr_eq(&open.recorder, &target.recorder))
    }

    /// Starts the span as the client's sampler decides. The sampler runs while nothing of the thread is borrowed,
    /// because it may record spans itself. Without a client nothing is recorded.
    #[cold]
    #[inline(never)]
    fn start_otherwise(mut self) -> Span {
        let (parent, state) = match std::mem::replace(&mut self.parent, Parent::Current) {
            Parent::Current => (local::with(|local| local.spans.parent().cloned()), TraceState::EMPTY),
            Parent::None(state) => (None, state),
            Parent::Given(context) => (Some(context), TraceState::EMPTY),
        };
        let (tracer, has_target) = (self.tracer, self.has_target);
        let started = if has_target {
            tracer.0.with_target(|target| {
                let target = target.filter(|target| self.is_for(target))?;
                Some(self.start_at(target, parent.as_ref(), &state))
            })
        } else {
            None
        };
        started.unwrap_or_else(|| {
            tracer.0.note_untaken(parent.as_ref());
            Span::from_context(inherited(parent.as_ref()))
        })
    }

    fn start_at(mut self, target: &Target, parent: Option<&SpanContext>, state: &TraceState) -> Span {
        let sampling = &target.recorder.sampling;
        let ids = target.recorder.ids.as_deref();
        let (trace_id, random) = match parent {
            Some(parent) => (parent.trace_id(), parent.trace_flags() & RANDOM),
            None => generator::trace_id(ids, || local::with(|local| local.ids.trace_id())),
        };
        let mut open = self.open.take();
        let input =
            SamplingInput::new(trace_id, "").with_kind(self.kind).with_record(open.as_deref().map(OpenSpan::record));
        let input = match parent {
            Some(parent) => input.with_parent(parent),
            None => input.with_trace_state(state),
        };
        let input = input.with_notices(&target.recorder.notices);
        let SamplingResult { decision, attributes, trace_state, .. } = sampling.decide(&input);
        let span_id = generator::span_id(ids, || local::with(|local| local.ids.span_id()));
        let is_sampled = decision == SamplingDecision::RecordAndSample;
        let processors = target.recorder.processors.as_deref();
        let told = processors.filter(|processors| processors.are_told());
        let fate = match decision {
            SamplingDecision::Drop => Fate::Dropped,
            SamplingDecision::RecordOnly => Fate::Withheld(Withheld::Unsampled),
            SamplingDecision::RecordAndSample if processors.is_some_and(|processors| !processors.exports) => {
                Fate::Withheld(Withheld::Sampled)
            }
            SamplingDecision::RecordAndSample => Fate::Exported,
        };
        let flags = random | if is_sampled { SAMPLED } else { 0 };
        let context = SpanContext::new(trace_id, span_id, flags, false).with_trace_state(trace_state);
        let origin = parent.map(|parent| (parent.span_id(), parent.is_remote()));
        local::with(|local| {
            let queue = local.queues.at(&target.recorder);
            queue.started(origin.map(|(_, is_remote)| is_remote), fate);
            match &mut open {
                unused if fate == Fate::Dropped => {
                    unused.take().into_iter().for_each(|unused| queue.recycle(unused));
                }
                Some(open) => {
                    attributes.into_iter().for_each(|KeyValue { key, value }| open.set_attribute(&key, value));
                    open.context = context.clone();
                    launch(open, &mut local.clock, origin, self.kind, self.start);
                    if let Some(processors) = told {
                        open.watch(processors.watch(self.tracer, &context, parent));
                    }
                    if let Fate::Withheld(why) = fate {
                        open.withhold(why);
                    }
                }
                None => match fate {
                    Fate::Withheld(why) => queue.withhold(why),
                    _ => queue.lose(),
                },
            }
        });
        let mut span = open.map_or_else(|| Span::from_context(context), Span::recording);
        if let Some(processors) = told.filter(|_| span.is_recording()) {
            processors.on_start(&mut span, parent);
        }
        span
    }
}

impl fmt::Debug for SpanBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanBuilder").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The default sampler: parent-based, with roots sampled by probability. `state` is a root's trace state so far.
#[inline]
fn context_of(
    parent: Option<&SpanContext>,
    state: TraceState,
    ids: &mut RandomIds,
    sampling: &Sampling,
) -> SpanContext {
    match parent {
        Some(parent) => parent.child(ids.span_id()),
        None => sampling.root(state, ids),
    }
}

/// The context of a span without a client: its parent's, or the invalid one. Ids are never invented.
fn inherited(parent: Option<&SpanContext>) -> SpanContext {
    parent.cloned().unwrap_or(SpanContext::INVALID)
}

/// Starts a span below the thread's current one, if that is recorded and nothing has to be allocated.
#[inline]
fn start_child(local: &mut Local, target: &Target, name: &str) -> Option<Box<OpenSpan>> {
    let parent = local.spans.followed()?;
    let queue = local.queues.at(&target.recorder);
    let now = if queue.has_pooled() { local.clock.now() } else { return None };
    let mut open = queue.pooled(target.scope, name)?;
    queue.started(Some(false), Fate::Exported);
    open.context.follow(parent, local.ids.span_id());
    open.started = NonZero::new(now);
    let start = local.clock.unix(now);
    let parent = Some((parent.span_id(), false));
    open.record.set_fixed(&Head { context: &open.context, parent, kind: SpanKind::Internal, start });
    Some(open)
}

/// Sets a span's start and writes its fixed fields; its context is set already.
#[inline]
fn launch(open: &mut OpenSpan, clock: &mut Clock, parent: Option<(SpanId, bool)>, kind: SpanKind, start: Option<u64>) {
    let (started, start) = match start {
        Some(start) => (None, start),
        None => {
            let now = clock.now();
            (NonZero::new(now), clock.unix(now))
        }
    };
    open.started = started;
    open.record.set_head(&Head { context: &open.context, parent, kind, start });
}

/// Returns the context of the calling thread's current span, if one was entered.
pub fn current_span() -> Option<SpanContext> {
    local::with(|local| local.spans.current().cloned())
}

/// The parent that a span started now would have, if any. It is what is passed on to another process.
pub(crate) fn context_to_pass() -> Option<SpanContext> {
    local::with(|local| local.spans.parent().cloned())
}
