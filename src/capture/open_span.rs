//! A span between its start and its end, in memory that is reused.

use std::{num::NonZero, sync::Arc};

use super::{
    context::SpanContext,
    local::{self, is_own_thread},
    memory::{Prospect, Shed},
    processor::Watch,
    record::{self, Lender, Record},
    recorder::Recorder,
};
use crate::{stats::Withheld, sync::holds_any};

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
}

impl OpenSpan {
    pub(super) const INITIAL_BYTES: usize = size_of::<Self>() + record::INITIAL_BYTES;

    pub(super) fn new(recorder: &Arc<Recorder>) -> Option<Box<Self>> {
        recorder.budget.reserve_span(Self::INITIAL_BYTES).then(|| {
            let lender: Arc<dyn Lender> = Arc::<Recorder>::clone(recorder);
            Box::new(Self {
                record: Record::borrowing(recorder.span_limits, lender, Self::INITIAL_BYTES),
                recorder: Arc::clone(recorder),
                context: SpanContext::INVALID,
                scope: 0,
                started: None,
                withheld: None,
                watch: None,
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
}

impl Lender for Recorder {
    fn lend(&self, bytes: usize, is_patient: bool) -> bool {
        self.budget.reserve_span(bytes) || is_patient && self.lend_patiently(bytes)
    }

    fn take_back(&self, bytes: usize) {
        self.budget.release_span(bytes);
        if !self.is_inherited() {
            self.overflow.made_room();
        }
    }
}

impl Recorder {
    /// As `lend`, where the drop strategy makes room: of what waits to be sent. Where other open spans stand in the way
    /// nobody waits for them, since they may be the calling thread's own.
    #[cold]
    fn lend_patiently(&self, bytes: usize) -> bool {
        // Who holds a lock of the client's, or was called back while recording, may be who others wait for.
        if self.overflow.drops_newest() || is_own_thread() || holds_any() || local::is_inside() || self.is_closed() {
            return false;
        }
        let prospect = self.budget.could_start(bytes);
        if prospect != Prospect::Room {
            return false;
        }
        let fullest = || self.registry.rings().into_iter().max_by_key(|ring| ring.waiting());
        let lent = self.overflow.retry(
            prospect,
            || fullest().map_or(Shed::Nothing, |ring| self.shed_records(&ring)),
            || self.doorbell.after_batch(),
            || if self.is_closed() { Some(false) } else { self.budget.reserve_span(bytes).then_some(true) },
        );
        lent == Some(true)
    }
}
