//! A span between its start and its end, in memory that is reused.

use std::{num::NonZero, sync::Arc};

use super::{
    context::SpanContext,
    processor::Watch,
    record::{self, Record},
    recorder::Recorder,
};
use crate::stats::Withheld;

/// A span that is open: its bytes so far, and what is needed to end it.
pub(crate) struct OpenSpan {
    pub(super) record: Record,
    pub(super) recorder: Arc<Recorder>,
    pub(super) context: SpanContext,
    pub(super) scope: u32,
    /// The thread clock's reading at the start; `None` if the user gave the start time, or nothing is exported.
    pub(super) started: Option<NonZero<u64>>,
    /// Why the span is recorded but not exported; `None` if it is exported.
    pub(super) withheld: Option<Withheld>,
    /// What is needed to tell processors of the end; `None` if none was told of the start.
    pub(super) watch: Option<Box<Watch>>,
    /// Bytes of the record that the budget knows of.
    pub(super) accounted: usize,
}

impl OpenSpan {
    pub(super) const INITIAL_BYTES: usize = size_of::<Self>() + record::INITIAL_BYTES;

    pub(super) fn new(recorder: &Arc<Recorder>) -> Option<Box<Self>> {
        let accounted = Self::INITIAL_BYTES;
        recorder.budget.reserve_span(accounted).then(|| {
            Box::new(Self {
                record: Record::within(recorder.span_limits),
                recorder: Arc::clone(recorder),
                context: SpanContext::INVALID,
                scope: 0,
                started: None,
                withheld: None,
                watch: None,
                accounted,
            })
        })
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Keeps the span from being exported. Clears the clock's reading, so that its end takes the slow path.
    pub(super) fn withhold(&mut self, why: Withheld) {
        self.started = None;
        self.withheld = Some(why);
    }

    /// Has processors told of the span's end. Clears the clock's reading, so that its end takes the slow path.
    pub(super) fn watch(&mut self, mut watch: Watch) {
        watch.started = self.started.take();
        self.watch = Some(Box::new(watch));
    }

    /// Why nothing of the span is exported; `None` if it is exported.
    pub(super) fn withheld(&self) -> Option<Withheld> {
        self.withheld
    }

    /// Tells the budget if the record has grown. This cannot fail: the memory is there already.
    #[inline]
    pub(super) fn account(&mut self) {
        let bytes = size_of::<Self>() + self.record.memory();
        if bytes != self.accounted {
            self.recorder.budget.resize_span(self.accounted, bytes);
            self.accounted = bytes;
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.recorder.budget.release_span(self.accounted);
        if !self.recorder.is_inherited() {
            self.recorder.overflow.made_room();
        }
    }
}
