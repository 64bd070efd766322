//! One batch on its way: its body with the memory it takes, what was tried, and its halves where it is too large.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use memmap2::MmapMut;

use super::{
    encode::{
        Body,
        compress::{self, Encoder, NoMemory},
    },
    outcome::Outcome,
    spool::{Claimed, Contents},
};
use crate::{
    capture::{MemoryBudget, Reservation},
    config::{Compression, Effort, Encoding},
    error::Subject,
};

mod ages;
mod split;

pub(super) use ages::Ages;
use split::Plan;

/// Single spans of one batch that a receiver may find too large before the rest of the batch is not tried any more.
const TOO_LARGE_ALONE: u32 = 3;

/// What is set aside for each worker beside its stack and its encoder: so many bytes need not be asked for.
const SPARE_BYTES: usize = 256 * 1024;

/// What a request carries: it decides where the request goes, and what it counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans: the program's, and those of the client's own requests.
    Traces,
    /// The client's own metrics.
    Metrics,
}

impl Signal {
    /// What lines about it are about.
    pub(super) fn subject(self) -> Subject {
        match self {
            Self::Traces => Subject::Export,
            Self::Metrics => Subject::Metrics,
        }
    }
}

/// A batch that is ready to be sent.
pub(crate) struct Request {
    /// Which batch of the ledger it is, or is a part of.
    pub(super) id: u64,
    pub(super) signal: Signal,
    pub(super) spans: u64,
    pub(super) body: Body,
    pub(super) compression: Compression,
    /// Bytes of the body before compression.
    pub(super) uncompressed: usize,
    /// The file it was taken from, if it comes from the spool.
    pub(super) claimed: Option<Claimed>,
    /// Its requests are to be recorded as spans.
    pub(super) traced: bool,
    /// When its spans had ended, if latencies are measured.
    pub(super) ages: Option<Ages>,
    pub(super) attempts: u32,
    /// When delivery was first tried; the batch's time runs from there.
    begun: Option<Instant>,
    /// Whether a broken connection was replaced once, at no cost.
    pub(super) reconnected: bool,
    /// Whether it was sent once more, at no cost, since another connection may lead to another node.
    pub(super) moved: bool,
    /// It may have arrived, and was made again since or not.
    pub(super) arrival: Arrival,
    /// The last attempt found that nobody listens at a port of this machine.
    pub(super) nobody_listens: bool,
    /// When the thread that sends it wants to be back, if it is not a worker.
    pub(super) expires: Option<Instant>,
    /// Not to be tried again before.
    pub(super) not_before: Option<Instant>,
    /// Shared by all parts of a batch that was halved: how many single spans were too large for the receiver.
    too_large: Option<Arc<AtomicU32>>,
    /// The failure of an attempt that tells most of what is wrong.
    telling: Option<Box<Outcome>>,
    /// The memory it takes. None is accounted for before [`account`](Self::account).
    memory: Reservation,
}

/// What is known about whether a request that is not settled has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has not, as far as anybody said.
    Open,
    /// An attempt sent all of it, and nobody said what became of it.
    Possible,
    /// The same, and it was sent again since.
    PossiblyTwice,
}

impl Request {
    pub(super) fn new(id: u64, spans: u64, body: Vec<u8>) -> Self {
        Self {
            id,
            signal: Signal::Traces,
            spans,
            body: Body::Buffer(body),
            compression: Compression::None,
            uncompressed: 0,
            claimed: None,
            traced: false,
            ages: None,
            attempts: 0,
            begun: None,
            reconnected: false,
            moved: false,
            arrival: Arrival::Open,
            nobody_listens: false,
            expires: None,
            not_before: None,
            too_large: None,
            telling: None,
            memory: Reservation::default(),
        }
    }

    /// Bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.body.capacity() + self.ages.as_ref().map_or(0, Ages::memory)
    }

    /// Has `budget` know of the memory it takes, until it is gone.
    pub(super) fn account(&mut self, budget: &Arc<MemoryBudget>) {
        self.memory = Reservation::hold(budget, self.memory());
    }

    /// The memory it takes was reserved before.
    pub(super) fn take_over(&mut self, mut reserved: Reservation) {
        reserved.resize(self.memory());
        self.memory = reserved;
    }

    /// Makes the body take no more memory than it needs, and answers the buffer that was freed by that, if one was.
    pub(super) fn park(&mut self) -> Option<Vec<u8>> {
        let buffer = self.body.park();
        self.memory.resize(self.memory());
        buffer
    }

    /// Takes the body out, which is accounted for no longer. What is not used again is free by then.
    pub(super) fn take_body(&mut self) -> Body {
        let body = mem::take(&mut self.body).into_spare();
        self.memory.resize(self.memory());
        body
    }

    /// An attempt failed so.
    pub(super) fn note(&mut self, outcome: &Outcome) {
        let is_more = self.telling.as_deref().is_none_or(|telling| outcome.weight() >= telling.weight());
        if is_more && matches!(outcome, Outcome::Failed { .. }) {
            self.telling = Some(Box::new(outcome.clone()));
        }
    }

    /// What tells most of why its delivery failed: `last`, or what an earlier attempt came to.
    pub(super) fn most_telling<'a>(&'a self, last: &'a Outcome) -> &'a Outcome {
        self.telling.as_deref().filter(|telling| telling.weight() > last.weight()).unwrap_or(last)
    }

    /// How often it was sent before the attempt at hand.
    pub(super) fn resends(&self) -> u32 {
        self.attempts.saturating_sub(1)
    }

    /// Whether it was tried before.
    pub(super) fn is_retry(&self) -> bool {
        self.attempts > 0
    }

    /// Whether it may be sent `now`.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// When its time is over, of `time` that runs from its first attempt.
    pub(super) fn deadline(&mut self, time: Duration) -> Instant {
        *self.begun.get_or_insert_with(Instant::now) + time
    }

    /// Waits for the end of a pause that the receiver asked for. Its own time stands still meanwhile, and the attempt
    /// that was answered so is none of those it has.
    pub(super) fn wait_out(&mut self, pause: Duration) {
        self.not_before = Some(Instant::now() + pause);
        self.begun = self.begun.map(|begun| begun + pause);
        self.attempts -= 1;
    }

    /// Its time runs from then on.
    pub(super) fn begin_at(&mut self, begun: Instant) {
        self.begun = Some(begun);
    }

    /// For how long its delivery has been tried.
    pub(super) fn age(&self) -> Duration {
        // What begins after a pause has no age yet.
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// The receiver found it too large, and it cannot be halved.
    pub(super) fn is_too_large(&self) {
        if let Some(too_large) = &self.too_large {
            too_large.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether so many single spans of its batch were too large that the size is not what the receiver minds.
    pub(super) fn is_hopeless(&self) -> bool {
        self.too_large.as_ref().is_some_and(|too_large| too_large.load(Ordering::Relaxed) >= TOO_LARGE_ALONE)
    }

    /// Two requests with half of the spans each; none for a single span, or what is no request. They share the batch and
    /// its time. The body is read in pieces, and what that takes is reserved before.
    pub(super) fn halves(&mut self) -> Result<Option<[Self; 2]>, NoMemory> {
        if self.signal != Signal::Traces {
            return Ok(None);
        }
        let (body, compression, uncompressed) = (&self.body, self.compression, self.uncompressed);
        // Both halves together are about as long as the whole.
        let needed = body.len() + body.len() / 4 + split::MEMORY_BYTES;
        let coding =
            compress::decoder_bytes(compression, uncompressed) + compress::encoder_bytes(compression, body.len());
        let mut reserved = self.reserve_beside(needed + coding)?;
        let open = || compress::reader(body, compression);
        let Some(plan) = Plan::of(open, uncompressed, self.spans) else { return Ok(None) };
        let too_large = Arc::clone(self.too_large.get_or_insert_default());
        let mut encoder = Encoder::new(Encoding { compression, effort: Effort::Least });
        let mut half = |half| {
            let mut request = Self {
                begun: self.begun,
                traced: self.traced,
                too_large: Some(Arc::clone(&too_large)),
                ..Self::new(self.id, plan.spans(half), Vec::new())
            };
            (request.compression, request.uncompressed) = (encoder.compression(), plan.len(half));
            let (reader, mut written) = (open().ok_or(NoMemory)?, Ok(()));
            let write = |sink: &mut dyn FnMut(&[u8])| written = plan.write(half, reader, sink);
            encoder.encode_body(&mut request.body, request.uncompressed, write)?;
            written.map_err(|_| NoMemory)?;
            request.take_over(reserved.part(request.memory()));
            Ok(request)
        };
        Ok(Some([half(0)?, half(1)?]))
    }

    /// Makes the body one that every receiver understands; false if it is one, or there is no memory for another.
    pub(super) fn recompress(&mut self) -> bool {
        self.compression != Compression::Gzip && self.recompress_in_pieces().is_ok()
    }

    fn recompress_in_pieces(&mut self) -> Result<(), NoMemory> {
        let (from, len) = (self.compression, self.uncompressed);
        let needed = self.body.len() + compress::decoder_bytes(from, len) + compress::ENCODER_BYTES;
        let _reserved = self.reserve_beside(needed)?;
        let mut reader = compress::reader(&self.body, from).ok_or(NoMemory)?;
        let (mut encoder, mut body, mut poured) = (Encoder::new(Encoding::GZIP), Body::default(), Ok(()));
        let pour = |sink: &mut dyn FnMut(&[u8])| poured = compress::pour(&mut *reader, len, sink);
        encoder.encode_body(&mut body, len, pour)?;
        poured.map_err(|_| NoMemory)?;
        drop(reader);
        (self.compression, self.body) = (encoder.compression(), body);
        self.memory.resize(self.memory());
        Ok(())
    }

    /// Room for what its thread needs beside what is set aside for each.
    fn reserve_beside(&self, bytes: usize) -> Result<Reservation, NoMemory> {
        self.memory.reserve_beside(bytes.saturating_sub(SPARE_BYTES)).ok_or(NoMemory)
    }

    /// Sends the first `len` bytes of `pages` as they are.
    pub(super) fn lend(&mut self, pages: &Arc<MmapMut>, len: usize) {
        self.body = Body::Lent { pages: Arc::clone(pages), len };
    }

    /// What lies in the spool of it is not to be sent again.
    pub(super) fn leave_spool(&mut self) {
        if let Some(claimed) = self.claimed.take() {
            claimed.done();
        }
    }

    /// What the spool keeps of it.
    pub(super) fn contents(&self) -> Contents<'_> {
        let Self { spans, uncompressed, compression, ref body, .. } = *self;
        Contents { spans, uncompressed, compression, body }
    }
}
