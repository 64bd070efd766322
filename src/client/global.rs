//! The process-wide client: at most one at a time, closed however the process ends.

use std::{
    fmt,
    sync::{
        Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{Client, ClientBuilder, Owner, State, default, ending};
use crate::{
    capture::{Scope, Tracer, install, when_first_untaken},
    error::Error,
    exit::{self, Ending, ProcessSpan},
    fork, propagation,
    sync::{Latest, locks::Mutex},
};

/// The current or former process-wide client; `None` if it is disabled.
static INSTALLED: Latest<Option<Weak<Owner>>> = Latest::new();

/// Whether a guard of the process-wide client is alive.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The process-wide client that was closed last. Its counts can be read until there is another one.
static LAST: Mutex<Option<Client>> = Mutex::new(None);

/// Makes the process-wide client from the environment: `Client::builder().install()`. Keep the returned guard until the
/// end of `main`: dropping it closes the client.
///
/// # Errors
/// The errors of [`ClientBuilder::install`]. An invalid environment variable is not an error.
pub fn init() -> Result<Guard, Error> {
    Client::builder().install()
}

impl ClientBuilder {
    /// Makes the client, and makes it the process-wide one: [`otlp::tracer`](crate::tracer) and
    /// [`otlp::client`](crate::client()) use it on every thread without a [default](Client::set_default) of its own,
    /// even tracers that were made before. Keep the returned guard until the end of `main`: dropping it closes the
    /// client, and makes room for another one.
    ///
    /// On Unix this client, like every other, is also closed when the process exits while the guard is alive, by
    /// [`std::process::exit`] or because the guard was forgotten. Spans that are open then are not ended, except the
    /// [process span](Guard::root). Signals and panics that abort run no exit handler unless
    /// [`Guard::close_on_signals`] and [`Guard::flush_on_panic`] ask for it; `abort`, SIGKILL and `exec` never do.
    ///
    /// # Errors
    /// [`Error::Config`] under the conditions of [`build`](Self::build), and [`Error::AlreadyInitialized`] while the
    /// guard of another process-wide client is alive.
    pub fn install(self) -> Result<Guard, Error> {
        // Checked before anything is logged about a configuration that will not be used.
        if IS_TAKEN.load(Ordering::Acquire) {
            return Err(Error::AlreadyInitialized);
        }
        let client = self.build()?;
        if IS_TAKEN.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyInitialized);
        }
        INSTALLED.replace(client.owner().map(std::sync::Arc::downgrade));
        install(client.engine().map(|engine| &engine.recorder));
        // Replaced only now: late tracers still looked for the old one.
        let before = LAST.try_lock().and_then(|mut last| last.take());
        drop(before);
        Ok(Guard { client })
    }
}

/// Returns a tracer of the process-wide client, or of the calling thread's [default](Client::set_default). It records
/// nothing before [`init`], and begins to record when there is a client. Allocates: make it once and keep it.
pub fn tracer(scope: impl Into<Scope>) -> Tracer {
    propagation::adopt(propagation::Propagators::global());
    when_first_untaken(|| {
        fork::watch();
        exit::at_exit(ending::end_process);
    });
    Tracer::late(scope.into())
}

/// Returns the default client of the calling thread, else the process-wide client, even if that is closed. Before
/// [`init`], returns a client that records nothing, whose receipts say so.
pub fn client() -> Client {
    default::of_thread().unwrap_or_else(|| {
        Client(match INSTALLED.get().map(|installed| &installed.value) {
            Some(Some(owner)) => owner.upgrade().map_or(State::Missing, State::Enabled),
            Some(None) => State::Disabled,
            None => State::Missing,
        })
    })
}

/// Closes the process-wide client when dropped.
#[must_use = "dropping the guard closes the client, and `let _ =` drops it at once: bind it to a name, as in `let _guard = otlp::init()?;`"]
pub struct Guard {
    client: Client,
}

impl Guard {
    /// Returns the process-wide client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Starts the process span, which covers the job as a whole: it ends however the process ends, and spans without
    /// another parent are its children. It is itself a child of the [context](propagation::process_context) the process
    /// was started with, if there is one. A process has one process span; a second call returns the first.
    pub fn root(&self, name: &str) -> ProcessSpan {
        ProcessSpan::begin(&self.client.tracer(ProcessSpan::scope()), name)
    }

    /// Closes the client on SIGTERM, SIGINT or SIGHUP, within the exit budget, and then lets the signal end the process
    /// as usual, so that the exit status does not change. A second signal ends the process at once.
    ///
    /// Starts a thread that waits for signals. A signal that the program handles, ignores (as `nohup` has it do) or, on
    /// this thread, blocks when this is called is left to the program, and a handler that the program installs later
    /// replaces this one, even if it calls the previous handler. A program that waits for these signals itself, with
    /// `sigwait` or a `signalfd`, must block them before it calls this. In the child of a `fork` without `exec` the
    /// signals have their default effect. SIGQUIT, which asks for a core dump, does so at once.
    ///
    /// A program that is process 1 of a container gets no signal for which it has no handler: the kernel discards
    /// SIGTERM, so stopping the container has no effect until it is killed. With this handler the signals end it, with
    /// exit code 128 + signal.
    ///
    /// Does nothing if the client is disabled: signals then have their usual effect.
    ///
    /// # Errors
    /// [`Error::Signals`] if the handler cannot be installed or the thread cannot be started.
    #[cfg(unix)]
    pub fn close_on_signals(&self) -> Result<(), Error> {
        if self.client.engine().is_none() {
            return Ok(());
        }
        fork::watch();
        exit::on_signals(ending::end_process).map_err(|source| Error::Signals { source })
    }

    /// Installs a panic hook, which flushes within the exit budget after the hook that is installed now has run. It is
    /// meant for programs that are compiled with `panic = "abort"`, where it also ends the process span and closes the
    /// client, and for panics where nothing can unwind (in destructors that run because of a panic, in `extern "C"`
    /// functions). Spans that are open on the panicking thread are not ended then: only unwinding does that.
    ///
    /// A program that unwinds and catches panics often should not use it: each panic waits for a flush.
    pub fn flush_on_panic(&self) {
        exit::on_panic(|ending| match ending {
            Some(ending) => ending::end_process(ending),
            None => drop(client().flush_patiently()),
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        ProcessSpan::end(if thread::panicking() { Ending::Unwound } else { Ending::Returned });
        self.client.close();
        let before = LAST.try_lock().and_then(|mut last| last.replace(self.client.clone()));
        drop(before);
        IS_TAKEN.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("client", &self.client).finish()
    }
}
