//! How many threads send, and what happens where more is recorded than they can send.

use std::{fmt, str::FromStr, time::Duration};

use super::bounds::{SPANS, positive, within};
use crate::{
    env::{choice, milliseconds},
    error::{Error, ParseError, name_of},
};

/// What becomes of spans for which there is no room: `max_queue_size` spans wait already, or what the client holds
/// has reached `max_memory_usage`. Whatever is dropped is counted as
/// [`DropReason::QueueFull`](crate::DropReason::QueueFull).
///
/// Environment: `OTLP_DROP_STRATEGY`, one of `newest_first`, `oldest_first` and `block:` with a number of
/// milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropStrategy {
    /// The span that finds no room is dropped. The default: it costs the thread that records nothing.
    #[default]
    NewestFirst,
    /// What waits longest makes room: the oldest batch that is not being sent, and the oldest spans of this thread
    /// (else of another) only when there is no batch. For those who look at what happened last. Where two threads
    /// shed at once, one of them drops its own span instead of waiting.
    OldestFirst,
    /// Ending a span waits for room, at most for so long each time; then that span is dropped. Starting one waits too,
    /// where what has ended leaves no memory for it. Where spans that are still open fill the bound, it waits 0.1 s at
    /// most: the thread might wait for itself. For batch jobs that must lose nothing and may rather be slowed down.
    /// Longer than zero.
    Block(Duration),
}

impl DropStrategy {
    /// The words of `OTLP_DROP_STRATEGY`, but for the one with a number.
    const NAMES: [(&'static str, Self); 2] = [("newest_first", Self::NewestFirst), ("oldest_first", Self::OldestFirst)];
}

/// The words of `OTLP_DROP_STRATEGY`, in any case: `newest_first`, `oldest_first`, or `block:` with a whole number of
/// milliseconds, at least 1.
impl FromStr for DropStrategy {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some((name, timeout)) = text.split_once(':')
            && name.trim().eq_ignore_ascii_case("block")
        {
            let timeout = milliseconds(timeout).ok().filter(|timeout| !timeout.is_zero());
            return timeout
                .map(Self::Block)
                .ok_or_else(|| ParseError::new(text, "must be block: and a whole number of milliseconds, at least 1"));
        }
        let must = "must be newest_first, oldest_first or block:<ms>";
        choice(text, &Self::NAMES).map_err(|_| ParseError::new(text, must))
    }
}

/// Shows the words that `OTLP_DROP_STRATEGY` takes: a part of a millisecond counts as a whole one.
impl fmt::Display for DropStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(timeout) => {
                let millis = timeout.as_nanos().div_ceil(1_000_000).min(u64::MAX.into());
                f.pad(&format!("block:{millis}"))
            }
            other => f.pad(name_of(other, &Self::NAMES)),
        }
    }
}

/// The threads that send, and what they take at a time. What is not set here stays as it was set elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct WorkerPool {
    pub(crate) worker_count: Option<usize>,
    pub(crate) queue_size: Option<usize>,
    pub(crate) batch_size: Option<usize>,
    pub(crate) timeout: Option<Duration>,
}

impl WorkerPool {
    /// Settings that change nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many worker threads may be started, as
    /// [`with_worker_count`](crate::ClientBuilder::with_worker_count): 1 to 64.
    pub fn with_worker_count(mut self, workers: usize) -> Self {
        self.worker_count = Some(workers);
        self
    }

    /// How many ended spans may wait, as [`max_queue_size`](super::BatchConfig::max_queue_size): at least 1.
    pub fn with_queue_size(mut self, spans: usize) -> Self {
        self.queue_size = Some(spans);
        self
    }

    /// The most spans a worker sends at a time, as [`max_batch_size`](super::BatchConfig::max_batch_size): from 1 to
    /// the queue's size.
    pub fn with_batch_size(mut self, spans: usize) -> Self {
        self.batch_size = Some(spans);
        self
    }

    /// How long a worker may take for one batch, all attempts and pauses included, as
    /// [`with_request_timeout`](crate::ClientBuilder::with_request_timeout): longer than zero.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// What happens when more is recorded than can be sent. What is not set here stays as it was set elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct BackpressureController {
    pub(crate) max_queue_size: Option<usize>,
    pub(crate) queue_threshold: Option<f64>,
    pub(crate) drop_strategy: Option<DropStrategy>,
    pub(crate) adaptive_throttling: Option<bool>,
}

impl BackpressureController {
    /// The share of the queue beyond which throttling begins, if nothing else is set.
    pub(crate) const DEFAULT_THRESHOLD: f64 = 0.8;

    /// Settings that change nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many ended spans may wait until they are accepted, wherever they are, as
    /// [`max_queue_size`](super::BatchConfig::max_queue_size): at least 1.
    pub fn with_max_queue_size(mut self, spans: usize) -> Self {
        self.max_queue_size = Some(spans);
        self
    }

    /// The share of the queue beyond which throttling begins: above 0 and below 1. Default 0.8. Where it is set without
    /// [`with_adaptive_throttling`](Self::with_adaptive_throttling) a line on stderr says that it was passed, and 1 is
    /// allowed; where it is not set nothing is said.
    pub fn with_queue_threshold(mut self, share: f64) -> Self {
        self.queue_threshold = Some(share);
        self
    }

    /// What becomes of spans for which there is no room, as
    /// [`with_drop_strategy`](crate::ClientBuilder::with_drop_strategy).
    pub fn with_drop_strategy(mut self, strategy: DropStrategy) -> Self {
        self.drop_strategy = Some(strategy);
        self
    }

    /// Whether fewer new traces are sampled while the queue is filled beyond the threshold, by
    /// [consistent probability
    /// sampling](https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/): each span that
    /// arrives says in its `tracestate` (`ot=th:…`) how many it stands for. Traces stay whole, and spans that were
    /// sampled out were never recorded. Default false.
    pub fn with_adaptive_throttling(mut self, is_on: bool) -> Self {
        self.adaptive_throttling = Some(is_on);
        self
    }

    /// Whether fewer traces are to be sampled under overload.
    pub(crate) fn throttles(&self) -> bool {
        self.adaptive_throttling.unwrap_or(false)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        within("with_backpressure_controller.max_queue_size", self.max_queue_size, SPANS)?;
        if let Some(DropStrategy::Block(timeout)) = self.drop_strategy {
            positive("with_backpressure_controller.drop_strategy", Some(timeout))?;
        }
        match self.queue_threshold {
            Some(share) if !(share > 0.0 && share <= 1.0) => {
                let allowed = "must be above 0 and at most 1";
                Err(Error::config("with_backpressure_controller.queue_threshold", share, allowed))
            }
            _ => Ok(()),
        }
    }
}
