//! The process-wide client: made once, closed however the process ends.

use std::{fmt, sync::OnceLock, thread};

use super::Client;
use crate::{
    capture::{Scope, Tracer, set_global},
    error::Error,
    exit::{self, Ending, ProcessSpan},
    fork, propagation,
};

/// The process-wide client.
static GLOBAL: OnceLock<Client> = OnceLock::new();

/// Makes the process-wide client from the environment. Keep what it answers until the end of `main`:
/// dropping it closes the client.
///
/// On Unix the client is also closed when the process exits without that, by [`std::process::exit`] or because the
/// guard was forgotten. Spans that are open then are not ended, but for the [process span](Guard::root). Signals and
/// panics that abort run no handler unless [`Guard::close_on_signals`] and [`Guard::flush_on_panic`] ask for it;
/// `abort`, SIGKILL and `exec` never do.
///
/// # Errors
/// [`Error::AlreadyInitialized`] for a second call. What the environment gets wrong is no error.
pub fn init() -> Result<Guard, Error> {
    if GLOBAL.get().is_some() {
        return Err(Error::AlreadyInitialized);
    }
    let client = Client::builder().build()?;
    let intake = client.engine.as_ref().map(|engine| engine.intake.clone());
    GLOBAL.set(client).map_err(|_| Error::AlreadyInitialized)?;
    set_global(intake);
    exit::at_exit(end);
    Ok(Guard { _private: () })
}

/// A tracer of the process-wide client. Before [`init`] it records nothing; it begins to when there is a
/// client. Allocates: make it once and keep it.
pub fn tracer(scope: impl Into<Scope>) -> Tracer {
    propagation::adopt(propagation::Propagators::global());
    Tracer::late(scope.into())
}

/// The process-wide client; a disabled one before [`init`].
pub fn client() -> &'static Client {
    static NONE: Client = Client { engine: None };
    GLOBAL.get().unwrap_or(&NONE)
}

fn end(ending: Ending<'_>) {
    ProcessSpan::end(ending);
    client().close();
}

/// Closes the process-wide client when it is dropped.
#[must_use = "dropping the guard closes the client"]
pub struct Guard {
    _private: (),
}

impl Guard {
    /// Starts the process span, which covers the job as a whole: it ends however the process ends, and spans
    /// without another parent are its children. It is itself a child of the
    /// [context](propagation::process_context) the process was started with, if there is one. There is one to a
    /// process; a second call answers the first.
    pub fn root(&self, name: &str) -> ProcessSpan {
        ProcessSpan::begin(&tracer(ProcessSpan::scope()), name)
    }

    /// Closes the client when SIGTERM or SIGINT comes, within the exit budget, and then lets the signal end the
    /// process as it would have, so that the exit status stays what it was. A second signal ends the process at
    /// once.
    ///
    /// Starts a thread that waits for signals. A signal that the program handles or ignores when this is called is
    /// left to it, and a handler that the program installs later replaces this one. In the child of a `fork` without
    /// `exec` the signals do what they do by default.
    ///
    /// # Errors
    /// [`Error::Signals`] if the handler or the thread cannot be had.
    #[cfg(unix)]
    pub fn close_on_signals(&self) -> Result<(), Error> {
        // A client that is disabled has not asked for it.
        fork::watch();
        exit::on_signals(end).map_err(|error| Error::Signals { message: error.to_string() })
    }

    /// Installs a panic hook, which flushes within the exit budget after the hook that is installed now has run. For
    /// programs that are compiled with `panic = "abort"`, where it also ends the process span and closes the client,
    /// and for panics where nothing can unwind (in destructors that run because of a panic, in `extern "C"`
    /// functions). Spans that are open on the panicking thread are not ended then: only unwinding does that.
    ///
    /// A program that unwinds and catches panics often should not use it: each of them waits for a flush.
    pub fn flush_on_panic(&self) {
        exit::on_panic(|ending| match ending {
            Some(ending) => end(ending),
            None => drop(client().flush_patiently()),
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        end(if thread::panicking() { Ending::Unwound } else { Ending::Returned });
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}
