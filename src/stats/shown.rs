//! Counts as people read them.

use std::fmt;

use super::{Dropped, Receipt, Snapshot};

/// The reasons that lost something, as `queue_full 3, shutdown 1`; `none` where none did.
impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lost = self.iter().filter(|(_, spans)| *spans > 0);
        let Some((reason, spans)) = lost.next() else { return f.write_str("none") };
        write!(f, "{reason} {spans}")?;
        lost.try_for_each(|(reason, spans)| write!(f, ", {reason} {spans}"))
    }
}

/// `5 dropped`, and why where it is any.
struct Lost<'a>(&'a Dropped);

impl fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.total() {
            0 => f.write_str("0 dropped"),
            total => write!(f, "{total} dropped ({})", self.0),
        }
    }
}

/// One line: `42 exported, 0 rejected, 3 dropped (queue_full 3), 0 pending`, and what lies in the spool or did not
/// finish where there is any.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_client {
            return f.write_str("there is no client: nothing was recorded");
        }
        let Self { exported, rejected, dropped, pending, spooled, failed_processors, .. } = self;
        write!(f, "{exported} exported, {rejected} rejected, {}, {pending} pending", Lost(dropped))?;
        if *spooled > 0 {
            write!(f, ", {spooled} in the spool")?;
        }
        if *failed_processors > 0 {
            write!(f, ", {failed_processors} span processors did not finish")?;
        }
        Ok(())
    }
}

/// One line, with the balance of all spans: `12 started, 2 not sampled, 0 open; 10 ended = 10 exported + 0 dropped + 0
/// queued; 1 requests, 1480 bytes, 310 compressed; 40960 bytes held`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} started, {} not sampled, {} open; ", self.started, self.sampled_out, self.open)?;
        write!(f, "{} ended", self.ended)?;
        if self.restored > 0 {
            write!(f, " + {} restored", self.restored)?;
        }
        write!(f, " = {} exported + {} + {} queued", self.exported, Lost(&self.dropped), self.queued)?;
        if self.spooled > 0 {
            write!(f, " + {} spooled", self.spooled)?;
        }
        let (plain, sent) = (self.uncompressed_bytes, self.sent_bytes);
        write!(f, "; {} requests, {plain} bytes, {sent} compressed; {} bytes held", self.requests, self.memory_bytes)
    }
}

/// The public fields.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            started,
            sampled_out,
            open,
            started_by: _,
            live: _,
            ended,
            exported,
            dropped,
            queued,
            spooled,
            restored,
            truncated,
            limited,
            no_memory,
            requests,
            uncompressed_bytes,
            sent_bytes,
            wire_bytes,
            connections,
            idle_connections,
            copied_bytes,
            possible_duplicates,
            memory_bytes,
            diagnostics_lost,
        } = self;
        f.debug_struct("Snapshot")
            .field("started", started)
            .field("sampled_out", sampled_out)
            .field("open", open)
            .field("ended", ended)
            .field("exported", exported)
            .field("dropped", dropped)
            .field("queued", queued)
            .field("spooled", spooled)
            .field("restored", restored)
            .field("truncated", truncated)
            .field("limited", limited)
            .field("no_memory", no_memory)
            .field("requests", requests)
            .field("uncompressed_bytes", uncompressed_bytes)
            .field("sent_bytes", sent_bytes)
            .field("wire_bytes", wire_bytes)
            .field("connections", connections)
            .field("idle_connections", idle_connections)
            .field("copied_bytes", copied_bytes)
            .field("possible_duplicates", possible_duplicates)
            .field("memory_bytes", memory_bytes)
            .field("diagnostics_lost", diagnostics_lost)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::DropReason,
        stats::{Stats, Totals},
    };

    #[test]
    fn a_receipt_and_a_snapshot_read_as_one_line_that_adds_up() {
        let stats = Stats::default();
        stats.exported(42);
        let all = stats.snapshot(|| Totals { pushed: 42, ..Totals::default() });
        let receipt = Receipt::new(&all, 0);
        assert_eq!(receipt.to_string(), "42 exported, 0 rejected, 0 dropped, 0 pending");
        stats.dropped(DropReason::Rejected, 2);
        stats.lost(DropReason::Shutdown);
        let all = stats.snapshot(|| Totals { pushed: 45, ..Totals::default() });
        let receipt = Receipt { spooled: 3, failed_processors: 1, ..Receipt::new(&all, 1) };
        assert_eq!(
            receipt.to_string(),
            "42 exported, 2 rejected, 3 dropped (rejected 2, shutdown 1), 1 pending, 3 in the spool, 1 span processors \
             did not finish"
        );
        assert_eq!(
            Snapshot { queued: 1, ..all }.to_string(),
            "0 started, 0 not sampled, 0 open; 46 ended = 42 exported + 3 dropped (rejected 2, shutdown 1) + 1 queued; \
             0 requests, 0 bytes, 0 compressed; 0 bytes held"
        );
        assert_eq!(Dropped::default().to_string(), "none");
    }

    #[test]
    fn a_receipt_of_nothing_says_so() {
        let receipt = Receipt { has_client: false, ..Receipt::default() };
        assert_eq!(receipt.to_string(), "there is no client: nothing was recorded");
        assert!(!receipt.is_complete() && Receipt::default().is_complete());
    }

    #[test]
    fn debug_output_shows_what_is_public_and_nothing_else() {
        let shown = format!("{:?}", Snapshot::default());
        assert!(shown.starts_with("Snapshot { started: 0, sampled_out: 0, open: 0, ended: 0,"), "{shown}");
        assert!(!shown.contains("started_by") && !shown.contains("live"), "{shown}");
    }
}
