//! Bodies that are compressed and wait to be sent, or to be sent again, and who may send.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{destination::Pause, encode::Body, request::Request};
use crate::{
    capture::{MemoryBudget, Reservation},
    config::{DropStrategy, Settings},
};

/// Bodies that are kept for reuse, and how large one may be to be kept.
const SPARE_BODIES: usize = 8;
const SPARE_BYTES: usize = 256 * 1024;

pub(crate) struct Outbox {
    requests: VecDeque<Request>,
    /// Bytes of their bodies.
    bytes: usize,
    /// Bytes they may take. A quarter of the bound is kept free for rings, so that a backlog of bodies never
    /// stops recording and compression.
    max_bytes: usize,
    /// Whether the oldest request makes room for a new one.
    sheds_oldest: bool,
    /// Workers that are sending.
    senders: usize,
    /// Workers that may send at once: all but one, which goes on compressing when the receiver is slow. But for when
    /// somebody waits for delivery and there is nothing to compress.
    max_senders: usize,
    /// Connections there may be: no worker more may send, whoever waits.
    max_connections: usize,
    spare: Vec<Vec<u8>>,
    /// What they take.
    spare_memory: Reservation,
    /// Whether bodies are used again.
    recycles: bool,
    /// The receiver wants nothing for now.
    pause: Arc<Pause>,
}

/// What an [`Outbox`] keeps to.
pub(crate) struct OutboxLimits {
    /// Bytes that bodies may take.
    pub(crate) max_bytes: usize,
    pub(crate) drop_strategy: DropStrategy,
    /// Workers that may send at once while there is something to compress.
    pub(crate) max_senders: usize,
    pub(crate) max_connections: usize,
    /// Whether bodies are used again.
    pub(crate) recycles: bool,
}

impl OutboxLimits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            max_bytes: settings.max_memory_usage / 4 * 3,
            drop_strategy: settings.drop_strategy,
            max_senders: settings.max_senders(),
            max_connections: settings.connections.max_connections,
            recycles: settings.recycles,
        }
    }
}

impl Outbox {
    /// An empty one. What it keeps for later uses is accounted for in `budget`, and it hands nothing out in a `pause`.
    pub(crate) fn new(limits: OutboxLimits, budget: &Arc<MemoryBudget>, pause: Arc<Pause>) -> Self {
        Self {
            requests: VecDeque::new(),
            bytes: 0,
            max_bytes: limits.max_bytes,
            sheds_oldest: limits.drop_strategy == DropStrategy::OldestFirst,
            senders: 0,
            max_senders: limits.max_senders,
            max_connections: limits.max_connections,
            spare: Vec::new(),
            spare_memory: Reservation::hold(budget, 0),
            recycles: limits.recycles,
            pause,
        }
    }

    /// Whether another body may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.sheds_oldest || self.bytes < self.max_bytes
    }

    /// Whether more are due than may be sent at once: what is added now does not leave before they have, and a batch
    /// that is not full gains nothing by being packed.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        let senders = self.max_senders.min(self.max_connections);
        if self.pause.until(now).is_some() {
            return !self.requests.is_empty();
        }
        self.requests.iter().filter(|request| request.is_due(now)).nth(senders).is_some()
    }

    /// The oldest request, where the last one that was added took its room.
    pub(crate) fn take_shed(&mut self) -> Option<Request> {
        if self.sheds_oldest && self.bytes > self.max_bytes && self.requests.len() > 1 { self.shed() } else { None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a request; returns it where there is no memory for a longer list.
    #[expect(clippy::result_large_err, reason = "handed back as it came")]
    pub(crate) fn put(&mut self, mut request: Request) -> Result<(), Request> {
        if self.requests.try_reserve(1).is_err() {
            return Err(request);
        }
        // A backlog is kept tight. A few bodies are not worth the copy: their buffers are used again soon.
        if self.requests.len() >= SPARE_BODIES
            && let Some(buffer) = request.park()
        {
            self.keep(Body::Buffer(buffer));
        }
        self.bytes += request.memory();
        // One that comes back is as old as it was, and the halves of one go before what it was followed by.
        let at = self.requests.iter().rposition(|other| other.id < request.id).map_or(0, |before| before + 1);
        self.requests.insert(at, request);
        Ok(())
    }

    /// The oldest request, due or not, for whoever will not send it.
    pub(crate) fn pop_oldest(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        self.bytes -= request.memory();
        Some(request)
    }

    /// The oldest request, to be dropped: its buffer may serve again.
    pub(crate) fn shed(&mut self) -> Option<Request> {
        let mut request = self.pop_oldest()?;
        if let Body::Buffer(_) = request.body {
            let body = request.take_body();
            self.keep(body);
        }
        Some(request)
    }

    /// The oldest request that is due, if the caller may send it. The caller is a sender until `sent`.
    pub(crate) fn take(&mut self, now: Instant, all_hands: bool) -> Option<Request> {
        let at = self.due(now, all_hands)?;
        let request = self.requests.remove(at)?;
        self.bytes -= request.memory();
        self.senders += 1;
        Some(request)
    }

    /// Whether `take` would answer a request.
    pub(crate) fn can_take(&self, now: Instant, all_hands: bool) -> bool {
        self.due(now, all_hands).is_some()
    }

    /// Whether one more worker may send. With `all_hands` even the last one.
    fn has_place(&self, all_hands: bool) -> bool {
        (self.senders < self.max_senders || all_hands) && self.senders < self.max_connections
    }

    /// Changes how many workers may send at once, as many connections as there may be.
    pub(crate) fn set_max_connections(&mut self, connections: usize) {
        self.max_connections = connections.max(1);
    }

    fn due(&self, now: Instant, all_hands: bool) -> Option<usize> {
        if !self.has_place(all_hands) || self.pause.until(now).is_some() {
            return None;
        }
        self.requests.iter().position(|request| request.is_due(now))
    }

    /// The caller is no sender any more.
    pub(crate) fn sent(&mut self) {
        self.senders -= 1;
    }

    /// When the next request is due that is not yet; never while no other worker may send, since one that
    /// sends looks again when it is done.
    pub(crate) fn next_due(&self, now: Instant, all_hands: bool) -> Option<Instant> {
        if !self.has_place(all_hands) {
            return None;
        }
        if let Some(until) = self.pause.until(now) {
            // Until then it does not matter when they are due.
            return self.requests.front().map(|_| until);
        }
        self.requests.iter().filter_map(|request| request.not_before).min()
    }

    /// What waits because nobody listens is due at `by`, if not before.
    pub(crate) fn hurry(&mut self, by: Instant) {
        for request in self.requests.iter_mut().filter(|request| request.nobody_listens) {
            request.not_before = request.not_before.map(|not_before| not_before.min(by));
        }
    }

    /// Gives up everything that waits.
    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.bytes = 0;
    }

    /// An empty buffer for a body.
    pub(crate) fn spare_body(&mut self) -> Vec<u8> {
        let body = self.spare.pop().unwrap_or_default();
        self.account_for_spare();
        body
    }

    fn account_for_spare(&mut self) {
        self.spare_memory.resize(self.spare_bytes());
    }

    /// Takes a body's buffer back, if it is worth keeping.
    pub(crate) fn keep(&mut self, body: Body) {
        let Body::Buffer(body) = body else { return };
        // Together they take a small share of what bodies may, however little that is.
        let most = SPARE_BYTES.min(self.max_bytes / (8 * SPARE_BODIES));
        if self.recycles && self.spare.len() < SPARE_BODIES && body.capacity() <= most {
            self.spare.push(body);
            self.account_for_spare();
        }
    }

    /// Bytes of the bodies that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the buffers that wait to be used again.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.spare.iter().map(Vec::capacity).sum()
    }

    /// Frees the buffers that wait to be used again, and answers how many bytes they took.
    pub(crate) fn drop_spare(&mut self) -> usize {
        let bytes = self.spare_bytes();
        self.spare = Vec::new();
        self.account_for_spare();
        bytes
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capture::Pooling;

    fn outbox(limits: OutboxLimits) -> Outbox {
        Outbox::new(limits, &MemoryBudget::with_pool(1 << 20, Pooling::default()), Arc::default())
    }

    fn limits() -> OutboxLimits {
        OutboxLimits {
            max_bytes: 1 << 20,
            drop_strategy: DropStrategy::NewestFirst,
            max_senders: 3,
            max_connections: 4,
            recycles: true,
        }
    }

    #[test]
    fn a_buffer_is_kept_for_the_next_body_unless_the_memory_pool_is_off() {
        for (recycles, kept) in [(true, 1000), (false, 0)] {
            let mut outbox = outbox(OutboxLimits { recycles, ..limits() });
            outbox.keep(Body::Buffer(Vec::with_capacity(1000)));
            assert_eq!(outbox.spare_bytes(), kept);
            assert_eq!(outbox.spare_body().capacity(), kept);
        }
    }

    #[test]
    fn more_are_due_than_connections_are_open_once_fewer_are_allowed() {
        let mut outbox = outbox(limits());
        (0..3).for_each(|id| assert!(outbox.put(Request::new(id, 1, Vec::new())).is_ok()));
        let now = Instant::now();
        assert!(!outbox.is_behind(now), "three may be sent at once");
        outbox.set_max_connections(1);
        assert!(outbox.is_behind(now));
    }

    #[test]
    fn nothing_is_due_in_a_pause_and_all_of_it_after_that() {
        let pause = Arc::new(Pause::default());
        let budget = MemoryBudget::with_pool(1 << 20, Pooling::default());
        let mut outbox = Outbox::new(limits(), &budget, Arc::clone(&pause));
        (0..3).for_each(|id| assert!(outbox.put(Request::new(id, 1, Vec::new())).is_ok()));
        let now = Instant::now();
        assert_eq!(outbox.next_due(now, false), None, "they are due already");
        pause.begin(Duration::from_secs(60));
        assert!(outbox.take(now, true).is_none() && outbox.is_behind(now));
        let due = outbox.next_due(now, false).unwrap();
        assert!(due >= now + Duration::from_secs(60));
        assert!(outbox.take(due, false).is_some() && !outbox.is_behind(due));
    }

    #[test]
    fn spare_buffers_go_back_when_they_are_asked_for() {
        let mut outbox = outbox(limits());
        (0..3).for_each(|_| outbox.keep(Body::Buffer(Vec::with_capacity(1000))));
        assert_eq!((outbox.drop_spare(), outbox.spare_bytes(), outbox.drop_spare()), (3000, 0, 0));
    }
}
