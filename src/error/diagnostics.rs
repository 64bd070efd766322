//! Diagnostics of the library: one line at a time, with levels and rate limits.

use std::{
    cell::Cell,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{ParseError, choice, door, name_of};
use crate::plugin::guarded;

/// How much the library logs about itself on stderr. `OTEL_LOG_LEVEL` sets it; the default is `Info`. Logging never
/// waits for stderr: a line that cannot be written at once is left out, counted in
/// [`Snapshot::diagnostics_lost`](crate::Snapshot::diagnostics_lost), and mentioned in the next line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Nothing is logged.
    None,
    /// Only what lost spans or made the configuration unusable.
    Error,
    /// Also what was ignored or replaced by a default.
    Warn,
    /// Also what a user may want to know once.
    #[default]
    Info,
    /// Also each batch that failed and will be retried.
    Debug,
}

impl LogLevel {
    /// The values of `OTEL_LOG_LEVEL`.
    const NAMES: [(&'static str, Self); 6] = [
        ("none", Self::None),
        ("off", Self::None),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];
}

/// Parses a value of `OTEL_LOG_LEVEL`, in any case: `none` or `off`, `error`, `warn`, `info`, `debug`.
impl FromStr for LogLevel {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        choice(text, &Self::NAMES)
    }
}

/// Writes the value of `OTEL_LOG_LEVEL`.
impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(name_of(self, &Self::NAMES))
    }
}

listed! {
    /// The subject of a diagnostic. Each has its own rate limit, so that a flood of one kind hides no other.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Subject {
        Config,
        Export,
        Queue,
        Worker,
        Shutdown,
        Spool,
        Memory,
        Tuning,
        Metrics,
        Limits,
        Recovery,
        Progress,
        Tracing,
    }
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Export | Self::Progress => "export",
            Self::Queue | Self::Recovery => "queue",
            Self::Worker => "worker",
            Self::Shutdown => "shutdown",
            Self::Spool => "spool",
            Self::Memory => "memory",
            Self::Tuning => "tuning",
            Self::Metrics => "metrics",
            Self::Limits => "limits",
            Self::Tracing => "tracing",
        }
    }
}

/// A number of things, in readable form: `1 span`, `2 spans`.
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str);

impl Count {
    /// The matching verb: `was` or `were`.
    pub(crate) fn were(&self) -> &'static str {
        if self.0 == 1 { "was" } else { "were" }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// One message of the library; given to the handler of
/// [`with_error_handler`](crate::ClientBuilder::with_error_handler). Its `Display` is the message.
#[derive(Debug, Clone, Copy)]
pub struct Diagnostic<'a> {
    level: LogLevel,
    subject: Subject,
    message: &'a str,
}

impl Diagnostic<'_> {
    /// Returns the severity; never [`LogLevel::None`].
    pub fn level(&self) -> LogLevel {
        self.level
    }

    /// Returns the subject: `config`, `export`, `queue`, `limits`, `memory`, `metrics`, `shutdown`, `spool`, `tracing`
    /// (invalid calls of the recording API), `tuning` or `worker`.
    pub fn subject(&self) -> &'static str {
        self.subject.name()
    }

    /// Returns the message, one line without secrets: what happened, where, and what helps.
    pub fn message(&self) -> &str {
        self.message
    }
}

impl fmt::Display for Diagnostic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

/// The handler that is called instead of writing to stderr.
pub(crate) type ErrorHandler = Arc<dyn Fn(&Diagnostic<'_>) + Send + Sync>;

/// All diagnostics of the library go through here: one line each on stderr, or to the program's handler, with levels,
/// and at most one line per subject in ten seconds except for one-time messages about configuration, about use, and at
/// the end. It never waits for stderr: lines that cannot be written at once are counted, and the next line mentions
/// them.
pub(crate) struct Diagnostics {
    level: LogLevel,
    handler: Option<ErrorHandler>,
    since: Instant,
    /// Lines that could not be written to stderr.
    lost: AtomicU64,
    /// How many of them no line has mentioned yet.
    untold: AtomicU64,
    /// Milliseconds after `since` before which a subject stays silent.
    silent_until: [AtomicU64; Subject::COUNT],
}

thread_local! {
    /// Whether the thread is in a handler, whose calls may cause diagnostics too.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

const QUIET: Duration = Duration::from_secs(10);

impl Diagnostics {
    pub(crate) fn new(level: LogLevel, handler: Option<ErrorHandler>) -> Self {
        door::notice();
        let silent_until = std::array::from_fn(|_| AtomicU64::new(0));
        let (lost, untold) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { level, handler, since: Instant::now(), lost, untold, silent_until }
    }

    /// Makes a copy without any history, for the child of a fork.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.level, self.handler.clone())
    }

    /// Writes one line, unless the level or the subject's rate limit forbids it. Returns whether it was written. Never
    /// waits for stderr; it does wait for a handler.
    pub(crate) fn say(&self, level: LogLevel, subject: Subject, line: fmt::Arguments<'_>) -> bool {
        if !self.admits(level, subject, self.since.elapsed()) {
            return false;
        }
        match &self.handler {
            Some(handler) if !IS_TELLING.replace(true) => {
                let message = line.to_string();
                let diagnostic = Diagnostic { level, subject, message: &message };
                guarded(|| handler(&diagnostic));
                IS_TELLING.set(false);
                true
            }
            _ => self.write(line),
        }
    }

    fn write(&self, line: fmt::Arguments<'_>) -> bool {
        let untold = self.untold.swap(0, Ordering::Relaxed);
        let is_written = door::write(line, untold);
        if !is_written {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.untold.fetch_add(untold + 1, Ordering::Relaxed);
        }
        is_written
    }

    /// How many lines could not be written to stderr.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether lines at this level are written.
    pub(crate) fn speaks(&self, level: LogLevel) -> bool {
        level != LogLevel::None && level <= self.level
    }

    fn admits(&self, level: LogLevel, subject: Subject, elapsed: Duration) -> bool {
        if !self.speaks(level) {
            return false;
        }
        if matches!(subject, Subject::Config | Subject::Shutdown | Subject::Tracing) {
            return true;
        }
        let now = elapsed.as_millis() as u64;
        let quiet = QUIET.as_millis() as u64;
        let until = &self.silent_until[subject as usize];
        until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| (now >= until).then_some(now + quiet)).is_ok()
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostics").field("level", &self.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_speaks_once_in_ten_seconds_and_hides_no_other() {
        let diagnostics = Diagnostics::new(LogLevel::Info, None);
        let at = Duration::from_secs;
        assert!(diagnostics.admits(LogLevel::Warn, Subject::Export, at(0)));
        assert!(!diagnostics.admits(LogLevel::Warn, Subject::Export, at(9)));
        assert!(diagnostics.admits(LogLevel::Warn, Subject::Queue, at(9)));
        assert!(diagnostics.admits(LogLevel::Warn, Subject::Export, at(10)));
    }

    #[test]
    fn the_names_of_subjects_are_those_that_are_documented() {
        let source = include_str!("diagnostics.rs");
        let documented = source.split("Returns the subject: ").nth(1).unwrap().split("pub fn").next().unwrap();
        let documented: std::collections::BTreeSet<_> = documented.split('`').skip(1).step_by(2).collect();
        assert_eq!(
            Subject::ALL.iter().map(|subject| subject.name()).collect::<std::collections::BTreeSet<_>>(),
            documented
        );
    }

    #[test]
    fn a_level_admits_itself_and_what_is_graver() {
        // SDKV-04
        let quiet = Diagnostics::new(LogLevel::Error, None);
        assert!(!quiet.admits(LogLevel::Warn, Subject::Config, Duration::ZERO));
        assert!(quiet.admits(LogLevel::Error, Subject::Config, Duration::ZERO));
        let none = Diagnostics::new(LogLevel::None, None);
        assert!(!none.admits(LogLevel::Error, Subject::Config, Duration::ZERO));
    }
}
