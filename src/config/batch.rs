//! How ended spans are gathered into requests, and how many may wait.

use std::time::Duration;

/// How ended spans are gathered into requests, and how many may wait.
///
/// [`strategy`](Self::strategy) decides when a batch leaves; in any case everything that waits leaves on a flush, and
/// when more than half of the queue is full. The specification's limit of 512 spans per request applies if
/// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` sets it. By default a request grows with the backlog, from 512 to 4096 spans,
/// because large requests compress better and a backlog is best sent in few of them.
///
/// Given in code, the whole struct counts and the environment's `OTEL_BSP_*` sizes and delay are ignored: if they are
/// set to different values, one line on stderr names them.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchConfig {
    /// The most spans of one request, at least 1. Default 4096. `strategy` decides how it affects the time at which a
    /// batch leaves. If `max_queue_size` is smaller, that is the limit. Environment: `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub max_batch_size: usize,
    /// The most bytes of one request before compression. Default 1 MiB; at least 1, at most 64 MiB. Capped at an eighth
    /// of `max_memory_usage`; more than `max_memory_usage` causes one line on stderr. A single larger span is sent
    /// alone. A request beyond [`max_request_bytes`](crate::ClientBuilder::with_max_request_bytes) is never sent. No
    /// environment variable.
    pub max_batch_bytes: usize,
    /// How long an ended span waits for its batch to become ready. Default 5 s; longer than zero. Environment:
    /// `OTEL_BSP_SCHEDULE_DELAY` in milliseconds, where 0 means 1 ms.
    pub batch_timeout: Duration,
    /// How many ended spans may be queued until they are accepted, including those being sent. Default `usize::MAX`:
    /// only `max_memory_usage` bounds them, in bytes, so that a burst fits; the specification's default is 2048. At
    /// least 1. Environment: `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub max_queue_size: usize,
    /// When a batch leaves. Default [`BatchStrategy::Growing`].
    pub strategy: BatchStrategy,
    /// Whether the most spans of one request follow the load and the latency, between 64 spans and the queue's size,
    /// starting from `max_batch_size`. Default false.
    pub adaptive_sizing: bool,
    /// Whether the rings of all threads are spread over all workers, each taking an equal share of every batch, so that
    /// a thread that records a flood does not delay the others. Default true. If false, each ring stays with one
    /// worker, and waits while that one is busy.
    pub load_balancing: bool,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_batch_size: 4096,
            max_batch_bytes: 1024 * 1024,
            batch_timeout: Duration::from_secs(5),
            max_queue_size: usize::MAX,
            strategy: BatchStrategy::default(),
            adaptive_sizing: false,
            load_balancing: true,
        }
    }
}

/// When a batch leaves. With every strategy, everything that waits leaves on a flush and when more than half of the
/// queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BatchStrategy {
    /// Everything that waits leaves whenever its oldest span has waited for `batch_timeout`: low latency, and requests
    /// of any size. `max_batch_size` only splits them.
    TimeFirst,
    /// Full batches of `max_batch_size` leave as soon as there are any. Of the rest only spans that have waited for
    /// `batch_timeout` leave, up to an eighth of that early: few requests, each as large as possible.
    SizeFirst,
    /// Everything that waits leaves when there are `max_batch_size` spans or the oldest has waited for `batch_timeout`,
    /// whichever comes first.
    Hybrid,
    /// Everything that waits leaves when there are 512 spans (or `max_batch_size`, if that is less), or the oldest has
    /// waited for `batch_timeout`. It goes into requests of up to `max_batch_size`: small ones while the workers keep
    /// up, few large ones from a backlog. The default.
    #[default]
    Growing,
}

/// The number of waiting spans at which a batch that may grow is ready; the specification's default batch size.
const READY_SPANS: usize = 512;

impl BatchConfig {
    /// The number of waiting spans that are worth a wake, whatever their age.
    pub(crate) fn ready_spans(&self) -> usize {
        self.ready_at(self.max_batch_size)
    }

    /// The number of waiting spans that are worth a wake while requests hold at most `size` spans.
    pub(crate) fn ready_at(&self, size: usize) -> usize {
        let ready = match self.strategy {
            BatchStrategy::TimeFirst => usize::MAX,
            BatchStrategy::Growing => size.min(READY_SPANS),
            BatchStrategy::Hybrid | BatchStrategy::SizeFirst => size,
        };
        // Beyond half of the queue it is drained at once.
        ready.min(self.max_queue_size / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_ready_at_its_size_and_at_half_the_queue_at_the_latest() {
        let ready = |strategy, max_batch_size, max_queue_size| {
            BatchConfig { strategy, max_batch_size, max_queue_size, ..BatchConfig::default() }.ready_spans()
        };
        use BatchStrategy::{Growing, Hybrid, SizeFirst, TimeFirst};
        assert_eq!(BatchConfig::default().ready_spans(), 512);
        assert_eq!((ready(Hybrid, 2000, usize::MAX), ready(SizeFirst, 4096, usize::MAX)), (2000, 4096));
        assert_eq!((ready(Hybrid, 4096, usize::MAX), ready(Hybrid, 4095, usize::MAX)), (4096, 4095));
        assert_eq!(
            [100, 511, 4095, 4096, 4097].map(|size| ready(Growing, size, usize::MAX)),
            [100, 511, 512, 512, 512]
        );
        assert_eq!((ready(Growing, 4096, 1000), ready(Growing, 4096, 2048)), (501, 512));
        assert_eq!((ready(Hybrid, 2000, 2500), ready(SizeFirst, 100, 100)), (1251, 51));
        assert_eq!((ready(TimeFirst, 100, usize::MAX), ready(TimeFirst, 100, 1000)), (usize::MAX / 2 + 1, 501));
    }
}
