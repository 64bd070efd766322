//! The processor that exports spans in batches, on a thread of its own.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::exporter::{SpanExporter, call};
use crate::{
    capture::{EndedSpan, SpanData, SpanProcessor, processing},
    error::ExportError,
    sync::{
        BEGIN_GRACE, LONGEST, Runs,
        locks::{Condvar, Mutex, MutexGuard},
        spawn, this_thread,
    },
    value::KeyValue,
};

/// How long dropping a processor waits for its lock.
const LOCK_GRACE: Duration = Duration::from_millis(20);

/// How long the thread stays for spans that may come. The next one starts another, and a process whose own threads have
/// all ended ends too.
const LINGER: Duration = Duration::from_secs(5);

/// Collects spans as they end and exports them in batches, on a thread of its own, which starts with the first span
/// ([Batching processor](https://opentelemetry.io/docs/specs/otel/trace/sdk/#batching-processor)).
///
/// Ending a span copies it and takes a lock, but never waits for the exporter: where the queue is full the new span is
/// dropped and [counted](Self::stats). A batch is exported once, whatever comes of it. The variables `OTEL_BSP_*` speak
/// of the client's own way to its receiver, not of this.
///
/// An exporter that never returns holds nobody up beyond the timeouts of flush and shutdown. One that flushes or shuts
/// down what it is called by is answered [`ExportError::TimedOut`] at once.
///
/// What waits is bounded by the number of spans, not by the client's `max_memory_usage`: a copy takes some times what
/// its span does when it is sent, and a span may take 4 MiB.
pub struct BatchSpanProcessor {
    shared: Arc<Shared>,
}

/// What a [`BatchSpanProcessor`] counted since it began: `ended = exported + failed + dropped + queued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProcessorStats {
    /// Spans that ended, of traces that are sampled.
    pub ended: u64,
    /// Spans that the exporter took.
    pub exported: u64,
    /// Spans that it did not take.
    pub failed: u64,
    /// Spans for which there was no room, or no time at the shutdown.
    pub dropped: u64,
    /// Spans that wait, or are being exported.
    pub queued: u64,
}

struct Shared {
    exporter: Box<dyn SpanExporter>,
    settings: BatchSettings,
    state: Mutex<State>,
    /// There may be something to do.
    work: Condvar,
    /// Something was done.
    done: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct BatchSettings {
    queue_size: usize,
    batch_size: usize,
    delay: Duration,
}

#[derive(Default)]
struct State {
    /// With the time at which each came.
    queue: VecDeque<(Instant, SpanData)>,
    stats: ProcessorStats,
    /// Spans that were taken in so far.
    taken: u64,
    /// As many are to be exported at once.
    wanted: u64,
    /// The thread that does; only one at a time.
    exporting: Option<usize>,
    /// Why the last batch that failed did, until somebody is told.
    failure: Option<ExportError>,
    thread: Thread,
    is_shut_down: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Thread {
    #[default]
    NotStarted,
    /// It was started at this time. It may never begin.
    Starting(Instant),
    Running,
    Left,
}

impl State {
    /// When to do its work on the thread that waits for it, where one was started: once it should have begun.
    fn patience(&self) -> Option<Instant> {
        match self.thread {
            Thread::Starting(at) => Some(at + BEGIN_GRACE).filter(|until| *until > Instant::now()),
            _ => None,
        }
    }

    /// Whether a thread is to be started: there is none, or none that begins.
    fn lacks_thread(&self) -> bool {
        match self.thread {
            Thread::NotStarted => true,
            Thread::Starting(_) => self.patience().is_none(),
            Thread::Running | Thread::Left => false,
        }
    }

    /// Of the spans that were taken in, those whose fate is decided: the oldest.
    fn settled(&self) -> u64 {
        self.taken - self.stats.queued
    }

    /// Whether there is nothing for the thread to do.
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.exporting.is_none() && !self.is_shut_down
    }
}

impl BatchSpanProcessor {
    /// Exports to `exporter`: up to 512 spans at a time, each at most 5 s after its end, out of a queue of 2048.
    pub fn new(exporter: impl SpanExporter + 'static) -> Self {
        let settings = BatchSettings { queue_size: 2048, batch_size: 512, delay: Duration::from_secs(5) };
        Self::with(Box::new(exporter), settings)
    }

    fn with(exporter: Box<dyn SpanExporter>, settings: BatchSettings) -> Self {
        let (work, done) = (Condvar::new(), Condvar::new());
        Self { shared: Arc::new(Shared { exporter, settings, state: Mutex::new(State::default()), work, done }) }
    }

    /// The same with other settings, as long as nobody else has it: it is being built.
    fn set(mut self, set: impl FnOnce(&mut BatchSettings)) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            set(&mut shared.settings);
        }
        self
    }

    /// How many spans may wait, at least 1; those beyond are dropped. Default 2048.
    #[must_use]
    pub fn with_max_queue_size(self, spans: usize) -> Self {
        self.set(|settings| settings.queue_size = spans.max(1))
    }

    /// How many spans are exported at once, at least 1, and at most as many as may wait. As many that wait are exported
    /// at once. Default 512.
    #[must_use]
    pub fn with_max_export_batch_size(self, spans: usize) -> Self {
        self.set(|settings| settings.batch_size = spans.max(1))
    }

    /// How long a span waits for its batch to fill, at most. Default 5 s.
    #[must_use]
    pub fn with_schedule_delay(self, delay: Duration) -> Self {
        self.set(|settings| settings.delay = delay.min(LONGEST))
    }

    /// What was counted so far. Takes a lock.
    pub fn stats(&self) -> ProcessorStats {
        self.shared.state.lock().stats
    }
}

impl SpanProcessor for BatchSpanProcessor {
    fn set_resource(&self, resource: &[KeyValue<'static>]) {
        self.shared.exporter.set_resource(resource);
    }

    fn on_end(&self, span: &EndedSpan<'_>) {
        if span.context().is_sampled() {
            Shared::take(&self.shared, || span.to_data());
        }
    }

    /// # Errors
    /// [`ExportError::TimedOut`] if the spans that ended before have not been exported in time; else why one was not,
    /// since the last call; else as the exporter's.
    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        let deadline = Instant::now() + timeout.min(LONGEST);
        if self.shared.state.lock().is_shut_down {
            return Ok(());
        }
        let flushed = self.shared.flush(deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        flushed.and(call(|| self.shared.exporter.force_flush(left)))
    }

    /// # Errors
    /// Those of [`force_flush`](Self::force_flush). What has not been exported by then is dropped.
    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        let deadline = Instant::now() + timeout.min(LONGEST);
        if mem::replace(&mut self.shared.state.lock().is_shut_down, true) {
            return Ok(());
        }
        let flushed = self.shared.flush(deadline);
        self.shared.drop_rest();
        let left = deadline.saturating_duration_since(Instant::now());
        flushed.and(call(|| self.shared.exporter.shutdown(left)))
    }
}

/// Without a shutdown what waits is still exported, in the background.
impl Drop for BatchSpanProcessor {
    fn drop(&mut self) {
        // Nobody holds it for long, but in the child of a fork, where its thread may be gone.
        if let Some(mut state) = self.shared.state.try_lock_for(LOCK_GRACE) {
            state.is_shut_down = true;
            state.wanted = state.taken;
            self.shared.work.notify_all();
        }
    }
}

impl fmt::Debug for BatchSpanProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchSpanProcessor").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl Shared {
    fn batch_size(&self) -> usize {
        self.settings.batch_size.min(self.settings.queue_size)
    }

    /// Takes a span in, if there is room for it.
    fn take(shared: &Arc<Self>, span: impl FnOnce() -> SpanData) {
        let has_room = |state: &State| !state.is_shut_down && state.stats.queued < shared.settings.queue_size as u64;
        let is_taken = {
            let state = shared.state.lock();
            if state.is_shut_down {
                return;
            }
            has_room(&state)
        };
        // Not under the lock: copying a large span takes its time.
        let span = is_taken.then(span);
        let mut state = shared.state.lock();
        state.stats.ended += 1;
        // Where no thread can be had it is asked for again and again, but not for each span.
        let is_time = state.queue.is_empty() || state.stats.ended.is_multiple_of(shared.batch_size() as u64);
        if is_time && !state.is_shut_down && state.lacks_thread() {
            Self::start(shared, &mut state);
        }
        let Some(span) = span.filter(|_| has_room(&state)) else {
            state.stats.dropped += 1;
            return;
        };
        state.stats.queued += 1;
        state.taken += 1;
        state.queue.push_back((Instant::now(), span));
        let (waiting, is_first) = (state.queue.len(), state.queue.len() == 1);
        drop(state);
        if is_first || waiting == shared.batch_size() {
            shared.work.notify_one();
        }
    }

    /// Where none can be had, whoever flushes exports.
    fn start(shared: &Arc<Self>, state: &mut State) {
        let exporting = Arc::clone(shared);
        let run = move || processing(|| exporting.run());
        if spawn("otlp-processor", Runs::Plugins, run).is_ok() {
            state.thread = Thread::Starting(Instant::now());
        }
    }

    fn run(&self) {
        let mut state = self.state.lock();
        if !matches!(state.thread, Thread::Starting(_)) {
            // Another one took its place, as it took so long to begin.
            return;
        }
        state.thread = Thread::Running;
        loop {
            let due = state.queue.front().map(|(came, _)| *came + self.settings.delay);
            let is_due = due.is_some_and(|due| state.settled() < state.wanted || due <= Instant::now());
            match due {
                _ if state.exporting.is_some() => self.work.wait(&mut state),
                Some(_) if is_due || state.queue.len() >= self.batch_size() => state = self.export_one(state),
                Some(due) => {
                    self.work.wait_until(&mut state, due);
                }
                None if state.is_shut_down => break,
                None => {
                    let over = Instant::now() + LINGER;
                    if self.work.wait_until(&mut state, over).timed_out() && state.is_idle() {
                        state.thread = Thread::NotStarted;
                        return;
                    }
                }
            }
        }
        state.thread = Thread::Left;
        self.done.notify_all();
    }

    /// Exports one batch, without the lock.
    fn export_one<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let size = state.queue.len().min(self.batch_size());
        let batch: Vec<_> = state.queue.drain(..size).map(|(_, span)| span).collect();
        state.exporting = Some(this_thread());
        drop(state);
        let exported = call(|| self.exporter.export(&batch));
        let spans = batch.len() as u64;
        drop(batch);
        let mut state = self.state.lock();
        state.exporting = None;
        // A shutdown that could not wait has counted them.
        let spans = spans.min(state.stats.queued);
        state.stats.queued -= spans;
        match exported {
            Ok(()) => state.stats.exported += spans,
            Err(failure) => {
                state.stats.failed += spans;
                state.failure = Some(failure);
            }
        }
        self.work.notify_all();
        self.done.notify_all();
        state
    }

    /// Waits until what has ended is exported.
    fn flush(&self, deadline: Instant) -> Result<(), ExportError> {
        let mut state = self.state.lock();
        let wanted = state.taken;
        state.wanted = state.wanted.max(wanted);
        self.work.notify_all();
        // An exporter that flushes would wait for itself.
        let is_own = state.exporting == Some(this_thread());
        while state.settled() < wanted && !is_own && Instant::now() < deadline {
            if state.thread == Thread::Running || state.exporting.is_some() {
                self.done.wait_until(&mut state, deadline);
            } else if let Some(until) = state.patience() {
                self.done.wait_until(&mut state, until.min(deadline));
            } else {
                // Spans that an allocator records must not come back here: the lock is held.
                state = processing(|| self.export_one(state));
            }
        }
        if state.settled() < wanted {
            return Err(ExportError::TimedOut);
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Nothing is exported any more.
    fn drop_rest(&self) {
        let mut state = self.state.lock();
        let rest = mem::take(&mut state.stats.queued);
        state.stats.dropped += rest;
        let queue = mem::take(&mut state.queue);
        self.work.notify_all();
        drop(state);
        drop(queue);
    }
}
