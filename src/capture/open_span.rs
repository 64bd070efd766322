//! A span between its start and its end, in memory that is used again and again.

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
    /// The thread clock's reading at the start; `None` where the user gave the start time, or nothing is exported.
    pub(super) started: Option<NonZero<u64>>,
    /// Why it is recorded, but not to be exported; `None` if it is.
    pub(super) withheld: Option<Withheld>,
    /// What processors have to be told of its end; `None` where nobody was told of its start.
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

    /// Nothing of the span is exported. Nor is there a start to reckon from: its end has to look twice.
    pub(super) fn withhold(&mut self, why: Withheld) {
        self.started = None;
        self.withheld = Some(why);
    }

    /// Processors are told of the span. There is no start to reckon from then: its end has to look twice.
    pub(super) fn watch(&mut self, mut watch: Watch) {
        watch.started = self.started.take();
        self.watch = Some(Box::new(watch));
    }

    /// Why nothing of the span is exported, if that is so.
    pub(super) fn withheld(&self) -> Option<Withheld> {
        self.withheld
    }

    /// Tells the budget if the record has grown. Memory the span already has is held, not refused.
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
