//! The client that a tracer records for if it was not given one: the default of the calling thread, else the
//! process-wide one.

use std::sync::{Arc, OnceLock, Weak};

use super::recorder::Recorder;
use crate::sync::{Latest, Version};

/// A current or former process-wide client: its recorder, or `None` if it is disabled.
pub(super) type Installed = Version<Option<Weak<Recorder>>>;

/// A replaced client is only remembered weakly: its memory is freed once nothing uses it.
static INSTALLED: Latest<Option<Weak<Recorder>>> = Latest::new();

/// Returns the calling thread's default client, if it has one: its recorder, or `None` if that client is disabled.
type DefaultOfThread = fn() -> Option<Option<Arc<Recorder>>>;

/// Set once a thread has a default of its own. From then on, all recording asks for it instead of taking the fast path.
static DEFAULT_OF_THREAD: OnceLock<DefaultOfThread> = OnceLock::new();

/// Makes `recorder` the process-wide one; `None` is a disabled client.
pub(crate) fn install(recorder: Option<&Arc<Recorder>>) {
    INSTALLED.replace(recorder.map(Arc::downgrade));
    if let Some(recorder) = recorder {
        ask_about(recorder);
    }
}

/// The recorder of the process-wide client, if there is or was one.
pub(super) fn installed() -> Option<&'static Installed> {
    INSTALLED.get()
}

/// Whether there is or was a process-wide client.
pub(crate) fn is_installed() -> bool {
    installed().is_some()
}

/// From now on, calls `default` to learn which client a thread records for.
pub(crate) fn ask_threads(default: DefaultOfThread) {
    let _ = DEFAULT_OF_THREAD.set(default);
    if let Some(process_wide) = installed().and_then(|installed| installed.value.as_ref()?.upgrade()) {
        ask_about(&process_wide);
    }
}

/// Has threads ask for their default before they record for this client, if threads may have defaults of their own.
pub(crate) fn ask_about(recorder: &Recorder) {
    if DEFAULT_OF_THREAD.get().is_some() {
        recorder.be_asked();
    }
}

/// The default of the calling thread, if it has one.
pub(super) fn default_of_thread() -> Option<Option<Arc<Recorder>>> {
    DEFAULT_OF_THREAD.get()?()
}
