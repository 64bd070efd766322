//! Trace context for child processes.

use std::process::Command;

use super::{
    BAGGAGE, Baggage, Context, EnvironmentCarrier, Propagator, Propagators, TRACEPARENT, TRACESTATE, current,
    incoming::baggage_header,
};

/// Trace context for a child process. It is for [`Command`] alone.
pub trait CommandExt: sealed::Sealed {
    /// Has the child go on with the trace of the calling thread: sets `TRACEPARENT`, `TRACESTATE` and `BAGGAGE` in the
    /// environment the child will have.
    ///
    /// The parent is what a span started now on this thread would have: its current span, else the
    /// [process span](crate::ProcessSpan), else the [context](super::process_context) this process was started with. A
    /// trace that is not sampled is passed on as such. The baggage is the thread's [current](super::Baggage::current)
    /// one, by default that of the process as it came, unless the command was given a `BAGGAGE` before, by whomever.
    ///
    /// Where there is nothing to pass on, or its propagator is not among the [global](Propagators::global) ones, the
    /// variables are removed: the child does not take what happens to be in this process's environment, or what an
    /// earlier call had set, for its parent.
    ///
    /// Starts nothing, and leaves the environment of this process as it is. Allocates.
    ///
    /// ```
    /// use otlp::propagation::CommandExt as _;
    /// # #[cfg(unix)] {
    /// std::process::Command::new("env").with_trace_context().spawn()?.wait()?; // TRACEPARENT, TRACESTATE, BAGGAGE
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    fn with_trace_context(&mut self) -> &mut Self;
}

mod sealed {
    /// Nobody else has to follow where the trait above grows.
    pub trait Sealed {}

    impl Sealed for std::process::Command {}
}

impl CommandExt for Command {
    fn with_trace_context(&mut self) -> &mut Self {
        let propagators = Propagators::global();
        for field in [TRACEPARENT, TRACESTATE] {
            self.env_remove(EnvironmentCarrier::key(field));
        }
        let mut carrier = EnvironmentCarrier::default();
        let context = Context::current();
        propagators.inject(&context.with_baggage(Baggage::default()), &mut carrier);
        self.envs(&carrier);
        let name = EnvironmentCarrier::key(BAGGAGE);
        if self.get_envs().any(|(known, _)| known == name.as_str()) {
            return self;
        }
        match baggage_to_pass(propagators) {
            Some(header) => self.env(name, header),
            None => self.env_remove(name),
        }
    }
}

/// The header of the current baggage; that of the process byte for byte as it came, where it is valid.
fn baggage_to_pass(propagators: Propagators) -> Option<String> {
    let header = match current::entered() {
        Some(entered) => entered.to_string(),
        None => baggage_header()?.to_owned(),
    };
    let is_passed = propagators.contains(Propagator::Baggage) && !header.is_empty();
    is_passed.then_some(header)
}
