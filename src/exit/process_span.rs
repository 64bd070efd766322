//! The process span: it is never missing, because it ends with the process.

use std::{fmt, time::Duration};

use super::Ending;
use crate::{
    capture::{Scope, Span, SpanContext, Status, Tracer, end_process_span, set_process_span},
    fork,
    sync::locks::Mutex,
    value::{KeyValue, Value},
};

/// The longest wait for a thread that is setting something on the span. In the child of a fork that thread may be gone.
const PATIENCE: Duration = Duration::from_millis(100);

static OPEN: Mutex<Option<Open>> = Mutex::open_to_callbacks(None);

struct Open {
    span: Span,
    /// The process it was made in: the child of a fork does not end its parent's span.
    made_in: u32,
}

/// The span of the whole process, made by [`Guard::root`](crate::Guard::root).
///
/// It belongs to the process-wide client and not to this handle: dropping the handle does nothing. It ends when the
/// guard is dropped or the process exits, also by a panic, and by a signal if
/// [`Guard::close_on_signals`](crate::Guard::close_on_signals) asks for that. `process.exit.code` is set if
/// [`std::process::exit`] ends the process and the platform tells the code (glibc does). A process that panics, is
/// ended by a signal or exits with a code other than 0 gives the span the status error, unless it has a status.
///
/// Spans without another parent are its children, on every thread. Each method takes a lock briefly.
#[derive(Clone)]
pub struct ProcessSpan {
    context: SpanContext,
}

impl ProcessSpan {
    /// Returns the process span, begun by `tracer` unless there is one already.
    pub(crate) fn begin(tracer: &Tracer, name: &str) -> Self {
        let Some(mut open) = OPEN.try_lock_for(PATIENCE) else { return Self { context: SpanContext::INVALID } };
        let own = open.as_ref().filter(|open| open.made_in == fork::generation());
        if let Some(open) = own {
            return Self { context: open.span.context() };
        }
        let span = tracer.start(name);
        let context = span.context();
        if context.is_valid() {
            set_process_span(context.clone());
        }
        std::mem::forget(open.replace(Open { span, made_in: fork::generation() }));
        Self { context }
    }

    /// The scope of process spans.
    pub(crate) fn scope() -> Scope {
        Scope::new(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"))
    }

    /// The context that identifies the span, here and in other processes.
    pub fn context(&self) -> SpanContext {
        self.context.clone()
    }

    /// Sets an attribute; see [`Span::set_attribute`].
    pub fn set_attribute<'v>(&self, key: &str, value: impl Into<Value<'v>>) -> &Self {
        let value = value.into();
        self.change(|span| span.set_attribute(key, value))
    }

    /// Records that something happened now; see [`Span::add_event`].
    pub fn add_event<'v>(&self, name: &str, attributes: impl AsRef<[KeyValue<'v>]>) -> &Self {
        let attributes = attributes.as_ref();
        self.change(|span| span.add_event(name, attributes))
    }

    /// Sets the status; see [`Span::set_status`].
    pub fn set_status(&self, status: Status) -> &Self {
        self.change(|span| span.set_status(status))
    }

    /// Records a failure; see [`Span::record_error`].
    pub fn record_error<E: std::error::Error + ?Sized>(&self, error: &E) -> &Self {
        let message = error.to_string();
        self.change(|span| span.record_failure(std::any::type_name::<E>(), message, &[]))
    }

    /// Changes the span under its lock. `change` must not run code of the program, which could use the process span
    /// itself, or end the process, and find it locked.
    fn change(&self, change: impl FnOnce(&mut Span) -> &mut Span) -> &Self {
        let mut open = OPEN.try_lock_for(PATIENCE);
        let open = open.as_mut().and_then(|open| open.as_mut());
        if let Some(open) = open.filter(|open| open.made_in == fork::generation()) {
            change(&mut open.span);
        }
        self
    }

    /// Ends the process span, if there is one, and records how the process ends.
    pub(crate) fn end(ending: Ending<'_>) {
        let Some(mut open) = OPEN.try_lock_for(PATIENCE) else { return };
        let Some(open) = open.take() else { return };
        if open.made_in != fork::generation() {
            return std::mem::forget(open);
        }
        end_process_span();
        let mut span = open.span;
        match ending {
            Ending::Returned | Ending::Unwound | Ending::Exited(None) => {}
            Ending::Exited(Some(code)) => {
                span.set_attribute("process.exit.code", code);
                if code != 0 {
                    span.set_attribute("error.type", code.to_string());
                    span.fail(&format!("exit code {code}"));
                }
            }
            Ending::Signalled(name) => {
                span.set_attribute("error.type", name);
                span.fail(&format!("ended by {name}"));
            }
            Ending::Panicked(message) => {
                let message = [KeyValue::new("exception.type", "panic"), KeyValue::new("exception.message", message)];
                span.add_event("exception", message);
                span.set_attribute("error.type", "panic");
                span.fail("panicked");
            }
        }
    }
}

impl fmt::Debug for ProcessSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpan").field("context", &self.context).finish()
    }
}
