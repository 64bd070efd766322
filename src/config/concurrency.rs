//! How many threads send, and what happens if more is recorded than they can send.

use std::{fmt, str::FromStr, time::Duration};

use super::bounds::{SPANS, positive, within};
use crate::{
    env::{choice, milliseconds},
    error::{Error, ParseError, name_of},
};

/// What happens to spans for which there is no room: `max_queue_size` spans are queued already, or the memory held by
/// the client has reached `max_memory_usage`. Dropped spans are counted as
/// [`DropReason::QueueFull`](crate::DropReason::QueueFull).
///
/// Environment: `OTLP_DROP_STRATEGY`, one of `newest_first`, `oldest_first` and `block:` with a number of
/// milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropStrategy {
    /// The span that finds no room is dropped. The default: it costs the recording thread nothing.
    #[default]
    NewestFirst,
    /// The oldest data makes room: the oldest batch that is not being sent, or, if there is no batch, the oldest spans
    /// of this thread (else of another). For programs whose latest spans matter most. If two threads shed at once, one
    /// of them drops its own span instead of waiting.
    OldestFirst,
    /// Ending a span blocks until there is room, at most for this long each time; then that span is dropped. Starting a
    /// span blocks too if ended spans leave no memory for it. If spans that are still open fill the bound, it blocks
    /// 0.1 s at most: the thread might wait for itself. For batch jobs that must lose nothing and may be slowed down.
    /// Longer than zero.
    Block(Duration),
}

impl DropStrategy {
    /// The values of `OTLP_DROP_STRATEGY`, except the one with a number.
    const NAMES: [(&'static str, Self); 2] = [("newest_first", Self::NewestFirst), ("oldest_first", Self::OldestFirst)];
}

/// Parses a value of `OTLP_DROP_STRATEGY`, in any case: `newest_first`, `oldest_first`, or `block:` with a whole number
/// of milliseconds, at least 1.
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

/// Writes the value of `OTLP_DROP_STRATEGY`: milliseconds are rounded up.
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

/// The threads that send, and how much each takes at a time. What is not set here stays as it was set elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct WorkerPool {
    pub(crate) worker_count: Option<usize>,
    pub(crate) queue_size: Option<usize>,
    pub(crate) batch_size: Option<usize>,
    pub(crate) timeout: Option<Duration>,
}

impl WorkerPool {
    /// Makes settings that change nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many worker threads may be started, 1 to 64; see
    /// [`with_worker_count`](crate::ClientBuilder::with_worker_count).
    pub fn with_worker_count(mut self, workers: usize) -> Self {
        self.worker_count = Some(workers);
        self
    }

    /// Sets how many ended spans may be queued, at least 1; see [`max_queue_size`](super::BatchConfig::max_queue_size).
    pub fn with_queue_size(mut self, spans: usize) -> Self {
        self.queue_size = Some(spans);
        self
    }

    /// Sets the most spans a worker sends at a time, from 1 to the queue's size; see
    /// [`max_batch_size`](super::BatchConfig::max_batch_size).
    pub fn with_batch_size(mut self, spans: usize) -> Self {
        self.batch_size = Some(spans);
        self
    }

    /// Sets how long a worker may take for one batch, including all attempts and pauses; longer than zero; see
    /// [`with_request_timeout`](crate::ClientBuilder::with_request_timeout).
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
    /// The share of the queue beyond which throttling begins by default.
    pub(crate) const DEFAULT_THRESHOLD: f64 = 0.8;

    /// Makes settings that change nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many ended spans may be queued until they are accepted, including those being sent; at least 1; see
    /// [`max_queue_size`](super::BatchConfig::max_queue_size).
    pub fn with_max_queue_size(mut self, spans: usize) -> Self {
        self.max_queue_size = Some(spans);
        self
    }

    /// Sets the share of the queue beyond which throttling begins: above 0 and below 1. Default 0.8. If it is set
    /// without [`with_adaptive_throttling`](Self::with_adaptive_throttling), it only causes a line on stderr when it is
    /// exceeded, and 1 is allowed; if it is not set, nothing is logged.
    pub fn with_queue_threshold(mut self, share: f64) -> Self {
        self.queue_threshold = Some(share);
        self
    }

    /// Sets what happens to spans for which there is no room; see
    /// [`with_drop_strategy`](crate::ClientBuilder::with_drop_strategy).
    pub fn with_drop_strategy(mut self, strategy: DropStrategy) -> Self {
        self.drop_strategy = Some(strategy);
        self
    }

    /// Sets whether fewer new traces are sampled while the queue is filled beyond the threshold, by [consistent
    /// probability sampling](https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/): each
    /// span that arrives tells in its `tracestate` (`ot=th:…`) how many it stands for. Traces stay whole, and spans
    /// that are sampled out are not recorded. Default false.
    pub fn with_adaptive_throttling(mut self, is_on: bool) -> Self {
        self.adaptive_throttling = Some(is_on);
        self
    }

    /// Whether fewer traces are sampled under overload.
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
