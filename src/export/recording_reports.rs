//! What is said about recording, which cannot speak itself: workers look at its counts and say what is new.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    capture::{Notice, Recorder},
    error::{Diagnostics, DropReason, LogLevel, Subject},
};

/// Fuller than this the queue has not recovered.
const RECOVERED: f64 = 0.5;

/// No overflow is under way.
const NONE: u64 = u64::MAX;

/// What the counts were when they were last looked at.
pub(super) struct RecordingReports {
    /// Spans that were lost to a full queue.
    full: AtomicU64,
    /// Those that were lost before the overflow that is under way; [`NONE`] if none is.
    before_overflow: AtomicU64,
    /// Spans of which the limits left something out.
    limited: AtomicU64,
    /// Spans of which something was left out for want of memory.
    no_memory: AtomicU64,
}

impl Default for RecordingReports {
    fn default() -> Self {
        Self {
            full: AtomicU64::new(0),
            before_overflow: AtomicU64::new(NONE),
            limited: AtomicU64::new(0),
            no_memory: AtomicU64::new(0),
        }
    }
}

impl RecordingReports {
    /// Says what is new of `recorder`, whose queue is so full.
    pub(super) fn report(&self, recorder: &Recorder, load: f64, diagnostics: &Diagnostics) {
        self.report_on_queue(recorder, load, diagnostics);
        self.report_on_limits(recorder, diagnostics);
        self.report_on_memory(recorder, diagnostics);
        recorder.notices.take().for_each(|notice| report_on_use(notice, diagnostics));
    }

    /// Spans find no room, or do so again.
    fn report_on_queue(&self, recorder: &Recorder, load: f64, diagnostics: &Diagnostics) {
        let full = recorder.registry.totals().refused + recorder.stats.lost_so_far(DropReason::QueueFull);
        let before = self.full.swap(full, Ordering::Relaxed);
        let overflow = &self.before_overflow;
        if full > before {
            let _ = overflow.compare_exchange(NONE, before, Ordering::Relaxed, Ordering::Relaxed);
            let new = full - before;
            diagnostics.say(
                LogLevel::Warn,
                Subject::Queue,
                format_args!(
                    "the queue is full: {new} more spans were dropped, {full} in all; raise OTLP_MAX_MEMORY_USAGE \
                     or OTEL_BSP_MAX_QUEUE_SIZE if the receiver keeps up on average"
                ),
            );
        }
        let before = overflow.load(Ordering::Relaxed);
        if before == NONE || load >= RECOVERED {
            return;
        }
        let lost = full.saturating_sub(before);
        let line = format_args!("the queue has room again: {lost} spans were dropped while it was full");
        if diagnostics.say(LogLevel::Warn, Subject::Recovery, line) {
            overflow.store(NONE, Ordering::Relaxed);
        }
    }

    /// Spans were given more than the limits allow (LIM-05).
    fn report_on_limits(&self, recorder: &Recorder, diagnostics: &Diagnostics) {
        let limited = recorder.stats.limited();
        let new = limited.saturating_sub(self.limited.swap(limited, Ordering::Relaxed));
        if new > 0 {
            diagnostics.say(
                LogLevel::Warn,
                Subject::Limits,
                format_args!(
                    "{new} more spans go out without some of their attributes, events or links, {limited} in all, since \
                     there were too many; OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, OTEL_SPAN_EVENT_COUNT_LIMIT, \
                     OTEL_SPAN_LINK_COUNT_LIMIT, OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT and OTEL_LINK_ATTRIBUTE_COUNT_LIMIT \
                     say how many there may be"
                ),
            );
        }
    }

    /// Spans that are open found no memory to grow.
    fn report_on_memory(&self, recorder: &Recorder, diagnostics: &Diagnostics) {
        let lacking = recorder.stats.no_memory();
        let new = lacking.saturating_sub(self.no_memory.swap(lacking, Ordering::Relaxed));
        if new > 0 {
            diagnostics.say(
                LogLevel::Warn,
                Subject::Memory,
                format_args!(
                    "{new} more spans go out without some of their attributes, events or links, {lacking} in all, since \
                     there was no memory for them; raise OTLP_MAX_MEMORY_USAGE, or keep fewer large spans open at once"
                ),
            );
        }
    }
}

/// Something that a program should do otherwise.
fn report_on_use(notice: Notice, diagnostics: &Diagnostics) {
    let line = match notice {
        Notice::RatioOfAChild => {
            "TraceIdRatioBased decided about a span that has a parent: traces may be incomplete; make it the root \
             of a ParentBased sampler (OTEL_TRACES_SAMPLER=parentbased_traceidratio)"
        }
        Notice::PresumedRandomness => {
            "ProbabilitySampler presumed that a trace id is random: neither the Random flag of its traceparent nor \
             rv in its tracestate says so"
        }
        Notice::UnnamedTracer => "a tracer has no name; name it after the component that makes its spans",
    };
    // Each is said once, so that no limit is needed between them.
    diagnostics.say(LogLevel::Warn, Subject::Tracing, format_args!("{line}"));
}
