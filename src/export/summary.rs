//! What is said of delivery as a whole: at the end what was lost and what helps, and for who asks what is sent where.

use super::{Exporter, encode::protobuf::Runs};
use crate::{
    capture::first_trace_id,
    error::{Count, DropReason, LogLevel, Subject},
    stats::Receipt,
};

impl Exporter {
    fn tells_everything(&self) -> bool {
        self.diagnostics.speaks(LogLevel::Debug)
    }

    /// Where to, before anything is sent.
    pub(crate) fn say_where_to(&self) {
        let settings = &self.settings;
        let (endpoint, compression, sampler) = (&settings.endpoint, settings.compression.name(), &settings.sampler);
        let way = settings.proxy.as_ref().map(|proxy| format!(" by way of the proxy {proxy}")).unwrap_or_default();
        if settings.exports {
            self.diagnostics.say(
                LogLevel::Debug,
                Subject::Config,
                format_args!(
                    "spans go to {endpoint}{way} over {}, compression {compression}, sampler {sampler:?}",
                    settings.protocol
                ),
            );
        } else {
            let line = format_args!("spans go to span processors only, since the traces exporter is none");
            self.diagnostics.say(LogLevel::Debug, Subject::Config, line);
        }
    }

    /// Remembers a trace to look for.
    pub(super) fn note_example(&self, runs: &Runs<'_>) {
        if self.tells_everything() && self.example.get().is_none() {
            let found = runs.iter().find_map(|(_, run)| first_trace_id(run));
            if let Some(id) = found {
                let _ = self.example.set(id);
            }
        }
    }

    /// Now and then, how many spans were sent so far.
    pub(super) fn say_progress(&self) {
        if self.tells_everything() {
            let stats = self.snapshot();
            let (spans, requests) = (Count(stats.exported, "span"), Count(stats.requests, "request"));
            let line = format_args!("{} accepted {spans} in {requests} so far", self.settings.endpoint);
            self.diagnostics.say(LogLevel::Debug, Subject::Progress, line);
        }
    }

    /// At the end, what was sent, a trace to look for, and what was not recorded, by whose decision.
    pub(super) fn say_delivered(&self) {
        if !self.tells_everything() {
            return;
        }
        let stats = self.snapshot();
        let say = |line: std::fmt::Arguments<'_>| self.diagnostics.say(LogLevel::Debug, Subject::Shutdown, line);
        let endpoint = &self.settings.endpoint;
        if stats.started == 0 && stats.ended == 0 {
            say(format_args!("no span was recorded, and nothing sent to {endpoint}"));
            return;
        }
        let (spans, requests) = (Count(stats.exported, "span"), Count(stats.requests, "request"));
        match (stats.exported, self.example.get()) {
            // It tried, or nothing was to be sent.
            (0, _) if stats.requests > 0 => {
                say(format_args!("{endpoint} accepted nothing, of {requests} that were tried"))
            }
            (0, _) => say(format_args!("nothing was sent to {endpoint}")),
            (_, id) => {
                let id = id.map_or_else(String::new, |id| format!("; one of the traces is {id}"));
                let wire = stats.wire_bytes;
                say(format_args!("{endpoint} accepted {spans} in {requests}, {wire} bytes in all{id}"))
            }
        };
        let (by_parents, by_sampler) = stats.started_by.dropped();
        if by_parents + by_sampler > 0 {
            let sampler = &self.settings.sampler;
            let spans = Count(by_parents + by_sampler, "span");
            let were = spans.were();
            say(format_args!(
                "{spans} {were} not sampled: {by_parents} as their parents were, {by_sampler} by the sampler {sampler:?}"
            ));
        }
    }

    /// At the end, one line for everything that was lost, why, and what helps. `pending` of it were given up.
    pub(super) fn say_lost(&self, receipt: &Receipt, pending: u64) {
        let Some((reason, _)) = receipt.dropped.iter().filter(|(_, lost)| *lost > 0).max_by_key(|(_, lost)| *lost)
        else {
            return;
        };
        let failure = self.failures.of(reason);
        let ended_late = failure.is_none() && pending == 0;
        let nobody_at_default = failure.as_ref().is_some_and(|failure| failure.nobody_at_default);
        let is_throttled = failure.as_ref().is_some_and(|failure| failure.is_throttled);
        let is_final = failure.as_ref().is_some_and(|failure| failure.is_final);
        let endpoint = &self.settings.endpoint;
        let why = failure.map_or_else(|| "did not answer in time".to_owned(), |failure| failure.message);
        let advice = match reason {
            DropReason::QueueFull => {
                "more was recorded than could be sent; raise OTLP_MAX_MEMORY_USAGE or OTEL_BSP_MAX_QUEUE_SIZE, or have \
                 threads wait for room with OTLP_DROP_STRATEGY=block:<ms>"
                    .to_owned()
            }
            DropReason::TooLarge => format!("{endpoint}: {why}"),
            DropReason::Rejected | DropReason::Refused => {
                format!("{endpoint} did not accept them: {why}")
            }
            DropReason::Shutdown if ended_late => {
                "they ended while the client was closed; end spans, and threads that record, before that".to_owned()
            }
            DropReason::Undelivered | DropReason::Shutdown if nobody_at_default => {
                let what = why.split("; ").next().unwrap_or_default();
                format!(
                    "{endpoint}: {what}; start a collector there, name another one with OTEL_EXPORTER_OTLP_ENDPOINT, or \
                     set OTEL_SDK_DISABLED=true"
                )
            }
            DropReason::Undelivered | DropReason::Shutdown if is_throttled => {
                format!("{endpoint}: {why}; it has more than it can take: allow more time, or send less")
            }
            DropReason::Undelivered | DropReason::Shutdown if is_final => format!("{endpoint}: {why}"),
            DropReason::Undelivered | DropReason::Shutdown => {
                let joint = if why.ends_with('?') { " " } else { "; " };
                format!("{endpoint}: {why}{joint}check OTEL_EXPORTER_OTLP_ENDPOINT, or allow more time")
            }
            DropReason::NoMemory => {
                "the system gave no more memory; lower OTLP_MAX_MEMORY_USAGE, or raise the limit of the process"
                    .to_owned()
            }
            DropReason::Nested => {
                "an allocator, or a signal handler, recorded them while others were recorded".to_owned()
            }
            DropReason::Expired => "they lay in the spool for too long; raise OTLP_SPOOL_MAX_AGE".to_owned(),
            DropReason::Panicked => "a fault in the exporter, which is a bug in otlp".to_owned(),
        };
        let (lost, dropped) = (Count(receipt.dropped_total(), "span"), &receipt.dropped);
        let were = lost.were();
        let level = self.level_of_loss(nobody_at_default);
        self.diagnostics.say(level, Subject::Shutdown, format_args!("{lost} {were} lost {dropped:?}: {advice}"));
    }

    /// How loudly a loss is told. Who runs a released program, asked for no collector and has none is left alone.
    pub(super) fn level_of_loss(&self, nobody_at_default: bool) -> LogLevel {
        if nobody_at_default && !self.settings.tells_author() { LogLevel::Debug } else { LogLevel::Error }
    }
}
