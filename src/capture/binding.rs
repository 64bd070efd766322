//! Where a tracer's spans go: to a client of its own, or to the process-wide one.

use std::sync::Arc;

// Not the standard library's: a fork in the middle of its initialisation would leave the child waiting for a thread
// that is gone.
use once_cell::race::OnceBox;

use super::{
    context::SpanContext,
    installed::{self, Installed},
    local,
    notice::Notice,
    recorder::Recorder,
    scope::Scope,
    untaken::{self, Untaken},
};

/// The client or clients that a tracer's spans go to.
pub(super) struct Binding {
    scope: Scope,
    /// Whether spans go to the process-wide client, or to the thread's default.
    is_late: bool,
    /// The first client the tracer was bound to. Empty until there is a process-wide client.
    first: OnceBox<Bound>,
}

/// The client a tracer was bound to when it was asked.
struct Bound {
    /// `None` for a disabled client.
    target: Option<Target>,
    /// The process-wide client, if the tracer was bound to that one.
    installed: Option<&'static Installed>,
    /// The client it was bound to after the process-wide client was replaced.
    next: OnceBox<Bound>,
}

/// A client, and the number of the tracer's scope there.
pub(super) struct Target {
    pub(super) recorder: Arc<Recorder>,
    pub(super) scope: u32,
    /// The target in the child of a fork.
    heir: OnceBox<Target>,
}

impl Binding {
    /// Binds to one client; `None` if that client is disabled.
    pub(super) fn to(recorder: Option<&Arc<Recorder>>, scope: Scope) -> Self {
        let target = recorder.map(|recorder| Target::new(recorder, &scope));
        let first = OnceBox::with_value(Box::new(Bound { target, installed: None, next: OnceBox::new() }));
        Self { scope, is_late: false, first }
    }

    /// Binds to the process-wide client, as soon as there is one, or to the thread's default.
    pub(super) fn late(scope: Scope) -> Self {
        Self { scope, is_late: true, first: OnceBox::new() }
    }

    #[inline]
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The target of spans in the usual case: same process, no default of the thread.
    #[inline]
    pub(super) fn plain_target(&self) -> Option<&Target> {
        let target = self.first.get()?.target.as_ref()?;
        target.recorder.is_plain().then_some(target)
    }

    /// Calls `f` with the target of spans, or with `None` if they go nowhere.
    #[cold]
    #[inline(never)]
    pub(super) fn with_target<R>(&self, f: impl FnOnce(Option<&Target>) -> R) -> R {
        let default = if self.is_late { installed::default_of_thread() } else { None };
        match default {
            Some(recorder) => {
                let recorder = recorder.and_then(in_this_process).filter(|recorder| !recorder.is_closed());
                // A call from code that recording itself runs (an allocator, for example) goes nowhere.
                let recorder = recorder.filter(|_| !local::is_inside());
                f(local::inside(|| recorder.map(|recorder| Target::new(&recorder, &self.scope))).as_ref())
            }
            None => f(self.target()),
        }
    }

    fn target(&self) -> Option<&Target> {
        let mut cell = &self.first;
        loop {
            let bound = cell.get().or_else(|| self.bind(cell))?;
            if bound.installed.is_none_or(Installed::is_latest) {
                let target = bound.target.as_ref()?;
                return if target.recorder.is_closed() { self.heir(target) } else { Some(target) };
            }
            cell = &bound.next;
        }
    }

    /// The target in the child of a fork; `None` once the client is shut down.
    fn heir<'t>(&'t self, mut target: &'t Target) -> Option<&'t Target> {
        while target.recorder.is_inherited() {
            if target.heir.get().is_none() && local::is_inside() {
                // Called back while the target is being made.
                return None;
            }
            let heir =
                || target.recorder.heir().map(|recorder| Box::new(Target::new(&recorder, &self.scope))).ok_or(());
            target = local::inside(|| target.heir.get_or_try_init(heir)).ok()?;
        }
        (!target.recorder.is_closed()).then_some(target)
    }

    /// Binds the tracer to the current process-wide client.
    fn bind<'t>(&self, cell: &'t OnceBox<Bound>) -> Option<&'t Bound> {
        let installed = installed::installed()?;
        if local::is_inside() {
            // Called back while the binding is made, or by another allocation of the recording side.
            return None;
        }
        let recorder = match &installed.value {
            Some(recorder) => in_this_process(recorder.upgrade()?),
            None => None,
        };
        let make = || {
            let target = recorder.map(|recorder| Target::new(&recorder, &self.scope));
            Box::new(Bound { target, installed: Some(installed), next: OnceBox::new() })
        };
        Some(local::inside(|| cell.get_or_init(make)))
    }

    /// Counts a span that went nowhere, unless that is intended: because the client is disabled, or because the span
    /// belongs to a trace that is not sampled.
    #[cold]
    pub(super) fn note_untaken(&self, parent: Option<&SpanContext>) {
        if parent.is_some_and(|parent| !parent.is_sampled()) {
            return;
        }
        let default = if self.is_late { installed::default_of_thread() } else { None };
        let (is_closed, is_disabled) = match (default, self.is_late) {
            (Some(default), _) => (default.is_some(), default.is_none()),
            (None, true) => {
                let installed = installed::installed();
                let is_disabled = installed.is_some_and(|installed| installed.value.is_none());
                (installed.is_some() && !is_disabled, is_disabled)
            }
            (None, false) => {
                let is_disabled = self.first.get().is_some_and(|bound| bound.target.is_none());
                (!is_disabled, is_disabled)
            }
        };
        if !is_disabled {
            untaken::note(if is_closed { Untaken::Late } else { Untaken::Early });
        }
    }
}

impl Target {
    fn new(recorder: &Arc<Recorder>, scope: &Scope) -> Self {
        if scope.name().is_empty() {
            recorder.notices.note(Notice::UnnamedTracer);
        }
        Self { recorder: Arc::clone(recorder), scope: recorder.scopes.id(scope), heir: OnceBox::new() }
    }
}

/// The recorder that takes over from one that a fork copied; `None` if its client is gone.
fn in_this_process(mut recorder: Arc<Recorder>) -> Option<Arc<Recorder>> {
    while recorder.is_inherited() {
        recorder = recorder.heir()?;
    }
    Some(recorder)
}
