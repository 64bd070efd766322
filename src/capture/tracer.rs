//! Starting spans: the tracer, the builder, and what a new span inherits.

use std::{fmt, sync::Arc, time::SystemTime};

// Not the standard library's: a fork in the middle of its initialisation would leave the child waiting for a thread
// that is gone.
use once_cell::race::OnceBox;

use super::{
    context::{RANDOM, SAMPLED, SpanContext, process_span},
    id::SpanId,
    intake::{self, Intake},
    local::{self, Local, OpenSpan},
    record::Head,
    scope::Scope,
    span::{Span, unix_nanos},
    status::SpanKind,
};
use crate::value::{KeyValue, Value};

/// Makes the spans of one [`Scope`]. Cheap to clone and to share between threads; make one per component and
/// keep it.
///
/// Starting a span takes no lock, makes no system call and, once the thread is warm, allocates nothing. The
/// first span of a thread registers the thread, and the first of a client starts a worker.
#[derive(Clone)]
pub struct Tracer(Arc<Binding>);

struct Binding {
    scope: Scope,
    /// Where spans go. Empty until there is a process-wide client; `None` inside for a disabled client.
    target: OnceBox<Option<Target>>,
}

struct Target {
    intake: Arc<Intake>,
    scope: u32,
    /// Where they go in the child of a fork.
    heir: OnceBox<Target>,
}

impl Tracer {
    /// A tracer of one client; `None` where the client is disabled.
    pub(crate) fn bound(intake: Option<&Arc<Intake>>, scope: Scope) -> Self {
        let target = OnceBox::with_value(Box::new(intake.map(|intake| Target::new(intake, &scope))));
        Self(Arc::new(Binding { scope, target }))
    }

    /// A tracer of the process-wide client, whenever there is one.
    pub(crate) fn late(scope: Scope) -> Self {
        Self(Arc::new(Binding { scope, target: OnceBox::new() }))
    }

    #[inline]
    fn target(&self) -> Option<&Target> {
        let target = self.0.target.get().or_else(|| self.bind())?.as_ref()?;
        if target.intake.is_closed() { self.heir(target) } else { Some(target) }
    }

    /// Where spans go in the child of a fork; nowhere once the client is shut down.
    #[cold]
    #[inline(never)]
    fn heir<'t>(&'t self, mut target: &'t Target) -> Option<&'t Target> {
        while target.intake.is_inherited() {
            let heir = || target.intake.heir().map(|intake| Box::new(Target::new(&intake, &self.0.scope))).ok_or(());
            target = target.heir.get_or_try_init(heir).ok()?;
        }
        (!target.intake.is_closed()).then_some(target)
    }

    #[cold]
    #[inline(never)]
    fn bind(&self) -> Option<&Option<Target>> {
        let mut intake = intake::global()?.clone();
        while let Some(inherited) = intake.take_if(|intake| intake.is_inherited()) {
            intake = inherited.heir();
        }
        Some(self.0.target.get_or_init(|| Box::new(intake.map(|intake| Target::new(&intake, &self.0.scope)))))
    }

    /// Whether spans started now would go anywhere
    /// ([Enabled](https://opentelemetry.io/docs/specs/otel/trace/api/#enabled)).
    pub fn enabled(&self) -> bool {
        self.target().is_some()
    }

    /// Starts a span called `name`. Its parent is the calling thread's current span, else the
    /// [process span](crate::ProcessSpan), else it begins a trace. It does not become current itself.
    #[inline]
    pub fn start(&self, name: &str) -> Span {
        local::with(|local| {
            let Some(target) = self.target() else { return unrecorded(&parent_of(local, Parent::Current)) };
            let parent = parent_of(local, Parent::Current);
            let open = if is_sampled(&parent) { local.seat(&target.intake).open(target.scope, name) } else { None };
            launch(local, open, &parent, SpanKind::Internal, None)
        })
    }

    /// Prepares a span called `name`, to be given what is known at its start.
    #[inline]
    pub fn span(&self, name: &str) -> SpanBuilder<'_> {
        let open =
            self.target().and_then(|target| local::with(|local| local.seat(&target.intake).open(target.scope, name)));
        SpanBuilder { tracer: self, open, parent: Parent::Current, kind: SpanKind::Internal, start: None }
    }

    /// Runs `f` inside a new span called `name`, which is current meanwhile and ends afterwards; with status
    /// error if `f` panics.
    #[inline]
    pub fn in_span<R>(&self, name: &str, f: impl FnOnce(&mut Span) -> R) -> R {
        let mut span = self.start(name);
        let _entered = span.enter();
        f(&mut span)
    }
}

impl Target {
    fn new(intake: &Arc<Intake>, scope: &Scope) -> Self {
        Self { intake: Arc::clone(intake), scope: intake.scopes.id(scope), heir: OnceBox::new() }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("scope", &self.0.scope).field("enabled", &self.enabled()).finish()
    }
}

/// Where a span's parent comes from.
enum Parent {
    /// The thread's current span, else the process span, if any.
    Current,
    /// None: the span begins a trace.
    None,
    Given(SpanContext),
}

/// A span about to start. Attributes and links given here are what samplers see.
#[must_use = "nothing is recorded until `start` is called"]
pub struct SpanBuilder<'t> {
    tracer: &'t Tracer,
    open: Option<Box<OpenSpan>>,
    parent: Parent,
    kind: SpanKind,
    start: Option<u64>,
}

impl SpanBuilder<'_> {
    /// Makes the span a child of `parent`, whatever is current. An invalid context begins a trace.
    pub fn parent(mut self, parent: &SpanContext) -> Self {
        self.parent = if parent.is_valid() { Parent::Given(parent.clone()) } else { Parent::None };
        self
    }

    /// Begins a trace, whatever is current.
    pub fn root(mut self) -> Self {
        self.parent = Parent::None;
        self
    }

    /// Says what the span does, seen from this process. The default is [`SpanKind::Internal`].
    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets an attribute; of equal keys the last wins, and an empty key is not recorded.
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

    /// Links the span to another one.
    pub fn link<'v>(mut self, to: &SpanContext, attributes: impl AsRef<[KeyValue<'v>]>) -> Self {
        if let Some(open) = &mut self.open {
            open.add_link(to, attributes.as_ref());
        }
        self
    }

    /// Says when the span began, if not now. It then ends by the wall clock too.
    pub fn start_time(mut self, time: SystemTime) -> Self {
        self.start = Some(unix_nanos(time));
        self
    }

    /// Starts the span.
    #[inline]
    pub fn start(mut self) -> Span {
        let open = self.open.take();
        let parent = std::mem::replace(&mut self.parent, Parent::None);
        let (kind, start) = (self.kind, self.start);
        local::with(|local| {
            let parent = parent_of(local, parent);
            if !self.tracer.enabled() {
                return unrecorded(&parent);
            }
            if is_sampled(&parent) {
                return launch(local, open, &parent, kind, start);
            }
            if let Some(open) = open {
                let intake = Arc::clone(&open.intake);
                local.seat(&intake).recycle(open);
            }
            launch(local, None, &parent, kind, start)
        })
    }
}

impl fmt::Debug for SpanBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanBuilder").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[inline]
fn parent_of(local: &Local, parent: Parent) -> Option<SpanContext> {
    match parent {
        Parent::Current => match local.spans.current() {
            Some(current) => Some(current).filter(|current| current.is_valid()).cloned(),
            None => process_span().cloned(),
        },
        Parent::None => None,
        Parent::Given(context) => Some(context),
    }
}

/// The default sampler, parent-based with every root sampled.
#[inline]
fn is_sampled(parent: &Option<SpanContext>) -> bool {
    parent.as_ref().is_none_or(SpanContext::is_sampled)
}

/// Without a client a span carries its parent's context, or none: ids are never invented.
fn unrecorded(parent: &Option<SpanContext>) -> Span {
    Span::from_context(parent.clone().unwrap_or(SpanContext::INVALID))
}

/// Gives the span its ids and its start.
#[inline]
fn launch(
    local: &mut Local,
    mut open: Option<Box<OpenSpan>>,
    parent: &Option<SpanContext>,
    kind: SpanKind,
    start: Option<u64>,
) -> Span {
    let span_id = local.ids.span_id();
    let sampled = if is_sampled(parent) { SAMPLED } else { 0 };
    let context = match parent {
        Some(parent) => SpanContext::new(parent.trace_id(), span_id, parent.trace_flags() & RANDOM | sampled, false)
            .with_trace_state(parent.trace_state().clone()),
        None => SpanContext::new(local.ids.trace_id(), span_id, RANDOM | sampled, false),
    };
    if let Some(open) = &mut open {
        let (started, start) = match start {
            Some(start) => (None, start),
            None => {
                let now = local.clock.now();
                (Some(now), local.clock.unix(now))
            }
        };
        open.started = started;
        let parent: Option<(SpanId, bool)> = parent.as_ref().map(|parent| (parent.span_id(), parent.is_remote()));
        open.record.set_head(Head { context: &context, parent, kind, start });
    }
    Span::new(open, context)
}

/// The calling thread's current span, if one was entered.
pub fn current_span() -> Option<SpanContext> {
    local::with(|local| local.spans.current().cloned())
}
