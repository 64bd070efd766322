//! Which client a tracer records for that was not given one: the default of the calling thread, else the process-wide
//! one.

use std::sync::{Arc, OnceLock, Weak};

use super::recorder::Recorder;
use crate::sync::{Latest, Version};

/// A process-wide client there is or was: its recorder, or `None` if it is disabled.
pub(super) type Installed = Version<Option<Weak<Recorder>>>;

/// A replaced one is only remembered: its memory is free once nobody uses it.
static INSTALLED: Latest<Option<Weak<Recorder>>> = Latest::new();

/// What is asked for a thread's default: the recorder, or `None` inside if it is that of a disabled client.
type DefaultOfThread = fn() -> Option<Option<Arc<Recorder>>>;

/// Set once a thread has a default of its own. From then on no recording takes the shortest way, on which nobody asks.
static DEFAULT_OF_THREAD: OnceLock<DefaultOfThread> = OnceLock::new();

/// Makes `recorder` the process-wide one, that of a disabled client if it is none.
pub(crate) fn install(recorder: Option<&Arc<Recorder>>) {
    INSTALLED.replace(recorder.map(Arc::downgrade));
    if let Some(recorder) = recorder {
        ask_about(recorder);
    }
}

/// The process-wide client's, if there is or was one.
pub(super) fn installed() -> Option<&'static Installed> {
    INSTALLED.get()
}

/// Whether there is or was a process-wide client.
pub(crate) fn is_installed() -> bool {
    installed().is_some()
}

/// Has `default` asked which client a thread records for, from now on.
pub(crate) fn ask_threads(default: DefaultOfThread) {
    let _ = DEFAULT_OF_THREAD.set(default);
    if let Some(process_wide) = installed().and_then(|installed| installed.value.as_ref()?.upgrade()) {
        ask_about(&process_wide);
    }
}

/// Has threads asked before they record for a client, if threads may have defaults of their own.
pub(crate) fn ask_about(recorder: &Recorder) {
    if DEFAULT_OF_THREAD.get().is_some() {
        recorder.be_asked();
    }
}

/// The default of the calling thread, if it has one.
pub(super) fn default_of_thread() -> Option<Option<Arc<Recorder>>> {
    DEFAULT_OF_THREAD.get()?()
}
