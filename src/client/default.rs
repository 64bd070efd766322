//! The default client of a thread: the one that `otlp::tracer` and `otlp::client` use on it instead of the process-wide
//! one.

use std::{
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use super::Client;
use crate::capture::{Recorder, ask_threads};

thread_local! {
    /// The thread's default clients; the last one counts.
    static DEFAULTS: RefCell<Vec<(u64, Client)>> = const { RefCell::new(Vec::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

impl Client {
    /// Makes this client the default of the calling thread until the returned guard is dropped:
    /// [`otlp::tracer`](crate::tracer) and [`otlp::client`](crate::client()) use it there, even tracers that were made
    /// before, and whether or not there is a process-wide client. For tests, which run in parallel in one process:
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # #[cfg(feature = "testing")] {
    /// let receiver = otlp::testing::Receiver::start()?;
    /// let client = otlp::Client::builder().with_endpoint(receiver.endpoint()).build()?;
    /// let _default = client.set_default();
    /// otlp::tracer("my-tool").start("work").end();   // what is tested does this
    /// std::thread::scope(|scope| {
    ///     let client = otlp::client();               // the default, for a thread that is to have it too
    ///     scope.spawn(move || {
    ///         let _default = client.set_default();
    ///         otlp::tracer("my-tool").start("part").end();
    ///     });
    /// });
    /// assert!(client.flush(std::time::Duration::from_secs(5)).is_complete());
    /// assert_eq!(receiver.spans().len(), 2);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Once a thread of the process has had a default, starting a span costs more on every thread: about twice as much.
    pub fn set_default(&self) -> DefaultGuard {
        let number = NEXT.try_with(|next| next.replace(next.get() + 1)).unwrap_or(0);
        ask_threads(intake_of_thread);
        let default = (number, self.clone());
        let _ = DEFAULTS.try_with(|defaults| defaults.borrow_mut().push(default));
        DefaultGuard { number, not_send: PhantomData }
    }
}

/// The default client of the calling thread, if it has one.
pub(super) fn of_thread() -> Option<Client> {
    // The borrow fails if an allocator that records spans is called while the list changes.
    DEFAULTS.try_with(|defaults| Some(defaults.try_borrow().ok()?.last()?.1.clone())).ok().flatten()
}

fn intake_of_thread() -> Option<Option<Arc<Recorder>>> {
    of_thread().map(|client| client.engine().map(|engine| engine.in_this_process().recorder.clone()))
}

/// Keeps a client the default of the thread that called [`Client::set_default`]. Guards may be dropped in any order.
#[must_use = "the client is the default as long as this guard lives"]
pub struct DefaultGuard {
    number: u64,
    /// The defaults belong to their thread, so the guard must not be sent.
    not_send: PhantomData<*const ()>,
}

impl Drop for DefaultGuard {
    fn drop(&mut self) {
        let taken = DEFAULTS.try_with(|defaults| {
            let mut defaults = defaults.borrow_mut();
            let at = defaults.iter().rposition(|(known, _)| *known == self.number)?;
            Some(defaults.remove(at))
        });
        // Dropped after the borrow: closing a client may come back here.
        drop(taken);
    }
}

impl fmt::Debug for DefaultGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DefaultGuard")
    }
}
