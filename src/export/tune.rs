//! What may change while a client runs, and how it takes effect.

use super::{Exporter, queue::BatchLimits};
use crate::{
    config::{Compression, Effort, Encoding, Settings, Tuning},
    error::{LogLevel, Subject},
};

/// The most bytes of a batch while the system gives little memory.
const BYTES_IN_WANT: usize = 64 * 1024;

/// What the heads of a request and of one scope usually come to, with room to spare.
const SCOPE_BYTES: usize = 128;

/// Where a client begins.
pub(super) fn initial(settings: &Settings) -> Tuning {
    Tuning {
        batch_size: settings.batch.max_batch_size,
        connections: settings.max_senders(),
        compression: settings.compression,
        effort: Effort::default(),
    }
}

impl Exporter {
    /// What is in force now.
    pub(crate) fn tuning(&self) -> Tuning {
        *self.tuning.lock()
    }

    /// Puts `tuning` in force, for what is packed and sent from now on. What makes no sense here is brought to the
    /// nearest that does.
    pub(crate) fn tune(&self, tuning: Tuning) {
        let batch = &self.settings.batch;
        // Under the lock: a compression that is refused meanwhile does not come back.
        let mut current = self.tuning.lock();
        let is_understood = self.understood().contains(&tuning.compression);
        let tuning = Tuning {
            batch_size: tuning.batch_size.clamp(1, batch.max_queue_size),
            connections: tuning.connections.clamp(1, self.settings.max_senders()),
            compression: if is_understood { tuning.compression } else { Compression::Gzip },
            effort: tuning.effort,
        };
        let before = std::mem::replace(&mut *current, tuning);
        self.recorder.arrivals.set_ready(batch.ready_at(tuning.batch_size));
        drop(current);
        if tuning.connections != before.connections {
            self.set_max_connections(tuning.connections);
        }
    }

    /// Changes how many connections may be in use at once, within what is configured. As many as workers may use are no
    /// limit to anybody.
    pub(super) fn set_max_connections(&self, connections: usize) {
        let configured = self.settings.connections.max_connections;
        let is_limited = connections < self.settings.max_senders();
        let connections = if is_limited { connections.clamp(1, configured) } else { configured };
        self.traces.sink.limit(connections);
        self.outbox.lock().set_max_connections(connections);
        // There may be room for another sender.
        self.recorder.doorbell.after_batch();
    }

    /// Says what was changed, and why; it can be looked up until the next time.
    pub(crate) fn explain(&self, decision: &str) {
        self.diagnostics.say(LogLevel::Info, Subject::Tuning, format_args!("{decision}"));
        *self.decision.lock() = Some(decision.to_owned());
    }

    /// What was last changed, and why.
    pub(crate) fn decision(&self) -> Option<String> {
        self.decision.lock().clone()
    }

    /// The compressions that are compiled in and that the receiver has not refused.
    pub(crate) fn understood(&self) -> Vec<Compression> {
        let only_gzip = self.traces.takes_only_gzip();
        let is_understood = |compression: &Compression| {
            compression.is_compiled_in() && (!only_gzip || *compression == Compression::Gzip)
        };
        Compression::ALL.into_iter().filter(is_understood).collect()
    }

    /// How bodies are compressed now.
    pub(super) fn encoding(&self) -> Encoding {
        self.tuning().encoding()
    }

    /// What one batch may hold now.
    pub(super) fn batch_limits(&self) -> BatchLimits {
        // Of a request the resource and a scope take a part. What other scopes take besides is not known yet: a batch
        // that exceeds the limit by that is halved.
        let envelope = self.resource.as_slice().len() + SCOPE_BYTES;
        let most = self.settings.max_request_bytes.saturating_sub(envelope).max(1);
        // Where there is little memory, what waits gives its own back in small steps.
        let most = if self.recorder.budget.is_in_want() { most.min(BYTES_IN_WANT) } else { most };
        BatchLimits { spans: self.tuning().batch_size, bytes: self.settings.batch.max_batch_bytes.min(most) }
    }
}
