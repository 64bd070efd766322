//! Limits that depend on one another: queue, batch, memory, time, disk.

use std::{fmt, time::Duration};

use super::chooser::{Chooser, Source};
use crate::{
    config::{
        BatchConfig, ExitBudget, MemoryPool, SpanLimits, SpoolConfig, ZeroCopyBuffer,
        bounds::{BATCH_BYTES, SHORTEST_DELAY, SPANS, SPOOL_BYTES, positive, within},
        options::Sizes,
    },
    env::{self, Rejected, allowed, milliseconds, timeout, whole_number},
    error::Error,
    sync::LONGEST,
};

/// Memory of rings comes in whole pages.
const PAGE_BYTES: usize = 4 * 1024;
/// The bound leaves room for at least this many chunks, whatever their size.
const CHUNKS_AT_LEAST: usize = 8;

/// How many batches of the largest size the memory bound has room for, at least.
const BATCHES_IN_MEMORY: usize = 8;

impl Chooser<'_> {
    /// Resolves the batch config from code, environment and default, with the sizes that companions asked for.
    pub(super) fn batch(
        &mut self,
        code: Option<BatchConfig>,
        companions: Sizes,
        max_memory_usage: usize,
    ) -> Result<BatchConfig, Error> {
        let default = BatchConfig::default();
        let code = code.as_ref();
        let (queue_knob, queue_size) = match (companions.queue, code) {
            (Some((knob, spans)), _) => (knob, Some(spans)),
            (None, code) => ("with_batch_config.max_queue_size", code.map(|batch| batch.max_queue_size)),
        };
        let (batch_knob, batch_size) = match (companions.batch, code) {
            (Some((knob, spans)), _) => (knob, Some(spans)),
            (None, code) => ("with_batch_config.max_batch_size", code.map(|batch| batch.max_batch_size)),
        };
        within(batch_knob, batch_size, SPANS)?;
        within(queue_knob, queue_size, SPANS)?;
        within("with_batch_config.max_batch_bytes", code.map(|batch| batch.max_batch_bytes), BATCH_BYTES)?;
        let batch_timeout = positive("with_batch_config.batch_timeout", code.map(|batch| batch.batch_timeout))?;

        let section = code.map(|_| "BatchConfig");
        self.section = section;
        let batch_timeout = self.one(batch_timeout, env::BSP_SCHEDULE_DELAY, schedule_delay, default.batch_timeout);
        self.section = section.filter(|_| companions.queue.is_none());
        let spans = |_, text: &str| whole_number(text, SPANS).map(Spans);
        let (Spans(max_queue_size), queue_source) =
            self.value(queue_size.map(Spans), &[env::BSP_MAX_QUEUE_SIZE], spans, Spans(default.max_queue_size));
        // In a struct the size is only an upper bound; a size that is set alone is meant exactly.
        if let Some((_, size)) = companions.batch
            && size > max_queue_size
            && queue_source == Source::Code
        {
            let allowed = format!("must be at most max_queue_size, which is {max_queue_size}");
            return Err(Error::config(batch_knob, size, allowed));
        }
        self.section = section.filter(|_| companions.batch.is_none());
        let (Spans(mut max_batch_size), source) = self.value(
            batch_size.map(Spans),
            &[env::BSP_MAX_EXPORT_BATCH_SIZE],
            spans,
            Spans(default.max_batch_size.min(max_queue_size)),
        );
        self.section = None;
        if max_batch_size > max_queue_size {
            if let Source::Variable(name) = source {
                self.warnings.push(format!(
                    "{name}=\"{max_batch_size}\": must be at most the queue size, which is {max_queue_size}; \
                     using {max_queue_size}"
                ));
            }
            max_batch_size = max_queue_size;
        }
        let mut batch = BatchConfig {
            max_batch_size,
            batch_timeout: batch_timeout.min(LONGEST),
            max_queue_size,
            ..code.cloned().unwrap_or_default()
        };
        // A batch and the body made of it are held at the same time.
        let most_bytes = max_memory_usage / BATCHES_IN_MEMORY;
        if batch.max_batch_bytes > max_memory_usage {
            self.warnings.push(format!(
                "with_batch_config.max_batch_bytes = {}: is more than the memory bound; using {most_bytes}, which is a \
                 {BATCHES_IN_MEMORY}th of it",
                batch.max_batch_bytes
            ));
        }
        batch.max_batch_bytes = batch.max_batch_bytes.min(most_bytes);
        Ok(batch)
    }

    /// Resolves the sizes of the pool, none of which exceeds the bound.
    pub(super) fn memory_pool(
        &mut self,
        code: Option<MemoryPool>,
        max_memory_usage: usize,
    ) -> Result<MemoryPool, Error> {
        let mut pool = code.unwrap_or_default();
        pool.check()?;
        if let Some(bytes) = &mut pool.chunk_size {
            *bytes = bytes.next_multiple_of(PAGE_BYTES);
            let most = max_memory_usage / CHUNKS_AT_LEAST / PAGE_BYTES * PAGE_BYTES;
            if *bytes > most {
                let knob = "with_memory_pool.chunk_size";
                self.warnings
                    .push(format!("{knob} = {bytes}: is more than an eighth of the memory bound; using {most}"));
                *bytes = most;
            }
        }
        for (knob, bytes) in [
            ("with_memory_pool.max_size", &mut pool.max_size),
            ("with_memory_pool.initial_size", &mut pool.initial_size),
        ] {
            if let Some(bytes) = bytes {
                self.cap(knob, bytes, max_memory_usage);
            }
        }
        Ok(pool)
    }

    pub(super) fn zero_copy_buffer(
        &mut self,
        code: Option<ZeroCopyBuffer>,
        max_memory_usage: usize,
    ) -> Result<ZeroCopyBuffer, Error> {
        let mut buffer = code.unwrap_or_default();
        let usual = ZeroCopyBuffer::USUAL_CAPACITY.min(max_memory_usage / CHUNKS_AT_LEAST);
        buffer.check(usual)?;
        let mut capacity = buffer.capacity.unwrap_or(usual);
        self.cap("with_zero_copy_buffer.capacity", &mut capacity, max_memory_usage);
        buffer.capacity = Some(capacity);
        buffer.prefetch_size = buffer.prefetch_size.min(capacity);
        Ok(buffer)
    }

    /// Caps a size at the memory bound, and reports it.
    fn cap(&mut self, knob: &str, bytes: &mut usize, max_memory_usage: usize) {
        if *bytes > max_memory_usage {
            self.warnings.push(format!("{knob} = {bytes}: is more than the memory bound; using {max_memory_usage}"));
            *bytes = max_memory_usage;
        }
    }

    pub(super) fn exit_budget(&mut self, code: Option<ExitBudget>) -> Result<ExitBudget, Error> {
        let default = ExitBudget::default();
        let total = positive("with_exit_budget.total", code.as_ref().map(|budget| budget.total))?;
        let stall = positive("with_exit_budget.stall", code.as_ref().map(|budget| budget.stall))?;
        self.section = code.as_ref().map(|_| "ExitBudget");
        let total = self.one(total, env::EXIT_TIMEOUT, timeout, default.total).min(LONGEST);
        let within_total = |text: &str| timeout(text).map(|stall| stall.min(total));
        let stall = stall.map(|stall| stall.min(total));
        let stall = self.one(stall, env::EXIT_STALL_TIMEOUT, within_total, default.stall.min(total));
        self.section = None;
        Ok(ExitBudget { stall, total })
    }

    /// Resolves the limits of one span: the span's own variable, then the general one if there is one (LIMV-03).
    pub(super) fn span_limits(&mut self, code: Option<SpanLimits>) -> SpanLimits {
        let default = SpanLimits::default();
        self.section = code.as_ref().map(|_| "SpanLimits");
        let mut count = |variables: &[&'static str], of: fn(&SpanLimits) -> usize| {
            let read = |_, text: &str| whole_number(text, 0..=usize::MAX);
            self.value(code.as_ref().map(of), variables, read, of(&default)).0
        };
        let limits = SpanLimits {
            // It has no variable.
            attribute_depth_limit: code.as_ref().unwrap_or(&default).attribute_depth_limit,
            attribute_count_limit: count(&[env::SPAN_ATTRIBUTE_COUNT_LIMIT, env::ATTRIBUTE_COUNT_LIMIT], |limits| {
                limits.attribute_count_limit
            }),
            event_count_limit: count(&[env::SPAN_EVENT_COUNT_LIMIT], |limits| limits.event_count_limit),
            link_count_limit: count(&[env::SPAN_LINK_COUNT_LIMIT], |limits| limits.link_count_limit),
            event_attribute_count_limit: count(&[env::EVENT_ATTRIBUTE_COUNT_LIMIT], |limits| {
                limits.event_attribute_count_limit
            }),
            link_attribute_count_limit: count(&[env::LINK_ATTRIBUTE_COUNT_LIMIT], |limits| {
                limits.link_attribute_count_limit
            }),
            attribute_value_length_limit: {
                let variables = [env::SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, env::ATTRIBUTE_VALUE_LENGTH_LIMIT];
                let read = |_, text: &str| whole_number(text, 0..=usize::MAX).map(|length| Length(Some(length)));
                let code = code.as_ref().map(|limits| Length(limits.attribute_value_length_limit));
                self.value(code, &variables, read, Length(default.attribute_value_length_limit)).0.0
            },
        };
        self.section = None;
        limits
    }

    pub(super) fn spool(&mut self, code: Option<SpoolConfig>) -> Result<SpoolConfig, Error> {
        if let Some(spool) = &code {
            if spool.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
                return Err(Error::config("with_spool_config.dir", "\"\"", "must not be empty"));
            }
            if spool.max_bytes == 0 {
                return Err(Error::config("with_spool_config.max_bytes", 0, allowed(&SPOOL_BYTES)));
            }
        }
        let default = SpoolConfig::default();
        let code = code.as_ref();
        let path = |text: &str| Ok(Some(text.into()));
        let bytes = |text: &str| whole_number(text, SPOOL_BYTES).map(|bytes| bytes as u64);
        self.section = code.map(|_| "SpoolConfig");
        let spool = SpoolConfig {
            dir: self.one(code.map(|spool| spool.dir.clone()), env::SPOOL_DIR, path, None),
            max_bytes: self.one(code.map(|spool| spool.max_bytes), env::SPOOL_MAX_BYTES, bytes, default.max_bytes),
            max_age: self.one(code.map(|spool| spool.max_age), env::SPOOL_MAX_AGE, milliseconds, default.max_age),
            fsync: self.one(code.map(|spool| spool.fsync), env::SPOOL_FSYNC, env::boolean, default.fsync),
        };
        self.section = None;
        Ok(spool)
    }
}

/// Reads how long a span waits for its batch; zero means as soon as possible.
pub(super) fn schedule_delay(text: &str) -> Result<Duration, Rejected> {
    Ok(milliseconds(text)?.max(SHORTEST_DELAY))
}

/// A number of spans, shown as "no limit" if there is none.
struct Spans(usize);

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            usize::MAX => f.write_str("no limit"),
            spans => spans.fmt(f),
        }
    }
}

/// A number of characters, shown as "no limit" if there is none.
struct Length(Option<usize>);

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("no limit"),
            Some(length) => length.fmt(f),
        }
    }
}
