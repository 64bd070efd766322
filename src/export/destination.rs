//! The receiver of one signal: its sink, and what was learnt about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    outcome::{Code, Outcome, StatusCode},
    sink::Sink,
};
use crate::{
    config::{Compression, Endpoint},
    sync::locks::Mutex,
};

/// The longest pause that is kept without asking again. If a receiver asks for more, perhaps by mistake, it is asked
/// again then.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

pub(crate) struct Destination {
    pub(super) endpoint: Endpoint,
    pub(super) sink: Sink,
    pub(super) pause: Arc<Pause>,
    /// Whether it does not support the chosen compression.
    only_gzip: AtomicBool,
    /// Whether it accepted a request with a compression that not every receiver knows.
    is_proven: AtomicBool,
}

impl Destination {
    pub(super) fn new(endpoint: Endpoint, sink: Sink) -> Self {
        Self {
            endpoint,
            sink,
            pause: Arc::default(),
            only_gzip: AtomicBool::new(false),
            is_proven: AtomicBool::new(false),
        }
    }

    /// Whether it only takes gzip.
    pub(super) fn takes_only_gzip(&self) -> bool {
        self.only_gzip.load(Ordering::Relaxed)
    }

    /// Remembers that it only takes gzip; false if that was known.
    pub(super) fn settle_for_gzip(&self) -> bool {
        !self.only_gzip.swap(true, Ordering::Relaxed)
    }

    /// Whether an answer may be due to the compression alone: it says so, or it calls the request bad while a
    /// compression that not every receiver knows has not been accepted yet.
    pub(super) fn may_not_know(&self, compression: Compression, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Refused { code: Code::Http(415), .. } => true,
            // gRPC: servers say the first for a compression they do not know, and grpcio the second.
            Outcome::Refused {
                code: Code::Http(400..=499) | Code::Grpc(StatusCode::UNIMPLEMENTED | StatusCode::INTERNAL),
                ..
            } => !is_usual(compression) && !self.is_proven.load(Ordering::Relaxed),
            _ => false,
        }
    }

    /// Notes an answer to a request with this compression.
    pub(super) fn note_answer(&self, compression: Compression, outcome: &Outcome) {
        if !is_usual(compression) && matches!(outcome, Outcome::Accepted { .. }) {
            self.is_proven.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether every receiver knows the compression.
fn is_usual(compression: Compression) -> bool {
    matches!(compression, Compression::None | Compression::Gzip)
}

/// A pause that the receiver asked for. It applies to all requests to that receiver ([OTLP/HTTP
/// throttling](https://opentelemetry.io/docs/specs/otlp/#otlphttp-throttling)).
#[derive(Debug, Default)]
pub(crate) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    /// Begins a pause of `time`, unless an earlier one ends later. Returns how long it lasts.
    pub(super) fn begin(&self, time: Duration) -> Duration {
        let now = Instant::now();
        let until = now + time.min(LONGEST_PAUSE);
        let mut pause = self.0.lock();
        let until = pause.map_or(until, |before| before.max(until));
        *pause = Some(until);
        until - now
    }

    /// When it ends, if that is after `now`.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.0.lock().filter(|until| *until > now)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        config::{Options, Settings},
        export::sink::Counting,
    };

    #[test]
    fn a_compression_that_not_everybody_knows_is_proven_by_its_own_acceptance_alone() {
        let (settings, _) = Settings::resolve(Options::default(), Default::default()).unwrap();
        let destination = Destination::new(settings.endpoint.clone(), Sink::Counting(Counting::default()));
        let (accepted, refused) = (
            Outcome::Accepted { rejected: 0, message: None },
            Outcome::Refused { code: Code::Http(400), message: String::new() },
        );
        // The tuning may begin with gzip, and try another one later.
        destination.note_answer(Compression::Gzip, &accepted);
        assert!(destination.may_not_know(Compression::Zstd, &refused));
        assert!(!destination.may_not_know(Compression::Gzip, &refused));
        destination.note_answer(Compression::Zstd, &accepted);
        assert!(!destination.may_not_know(Compression::Zstd, &refused), "then it is the request that is wrong");
        let unsupported = Outcome::Refused { code: Code::Http(415), message: String::new() };
        assert!(destination.may_not_know(Compression::Zstd, &unsupported));
    }

    #[test]
    fn of_pauses_that_overlap_the_later_end_counts_and_none_is_endless() {
        let (pause, now) = (Pause::default(), Instant::now());
        assert_eq!(pause.until(now), None);
        pause.begin(Duration::from_secs(60));
        pause.begin(Duration::from_secs(1));
        let until = pause.until(now).unwrap();
        assert!(until >= now + Duration::from_secs(60));
        assert_eq!(pause.until(until), None, "it is over");
        assert!(pause.begin(Duration::MAX) <= LONGEST_PAUSE);
    }
}
