//! The table at the end.

use std::{fmt, time::Duration};

use otlp::Snapshot;

pub(crate) struct Report {
    pub(crate) stats: Snapshot,
    /// Unknown where spans went to somebody else's collector.
    pub(crate) received: Option<u64>,
    /// Until the last span had ended.
    pub(crate) job_time: Duration,
    /// Until the last span had arrived.
    pub(crate) delivery_time: Duration,
    /// Unknown where the system does not tell, as what follows it.
    pub(crate) exporter_cpu: Option<Duration>,
    /// The most bytes the client was seen to hold.
    pub(crate) held: u64,
    pub(crate) peak_memory: Option<u64>,
}

impl Report {
    /// Where every span went, in one line.
    pub(crate) fn balance(&self) -> String {
        let mut line = format!("{} ended = {} exported", grouped(self.stats.ended), grouped(self.stats.exported));
        if let Some(received) = self.received {
            line += &format!(" = {} received", grouped(received));
        }
        line
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { ended, exported, dropped, requests, uncompressed_bytes, sent_bytes, .. } = self.stats;
        row(f, "ended", &grouped(ended), "spans")?;
        row(f, "exported", &grouped(exported), "spans")?;
        match self.received {
            Some(received) => row(f, "received", &grouped(received), "spans")?,
            None => row(f, "received", "n/a", "only the collector knows")?,
        }
        row(f, "dropped", &grouped(dropped.total()), "spans")?;
        for (reason, spans) in dropped.iter().filter(|(_, spans)| *spans > 0) {
            row(f, &format!("  {reason}"), &grouped(spans), "spans")?;
        }
        let seconds = |time: Duration| format!("spans/s: {:.3} s", time.as_secs_f64());
        row(f, "recorded", &grouped(rate(ended, self.job_time)), &seconds(self.job_time))?;
        row(f, "delivered", &grouped(rate(exported, self.delivery_time)), &seconds(self.delivery_time))?;
        let cpu = self.exporter_cpu.unwrap_or_default();
        let note = format!("ns per span: {} ms on the exporter's threads", grouped(cpu.as_millis() as u64));
        row(f, "exporter CPU", &per(self.exporter_cpu.map(|cpu| cpu.as_nanos() as u64), exported), &note)?;
        for (name, bytes) in [("before gzip", uncompressed_bytes), ("after gzip", sent_bytes)] {
            row(f, name, &per(Some(bytes), exported), &format!("bytes per span: {} in all", megabytes(bytes)))?;
        }
        row(f, "requests", &grouped(requests), "")?;
        row(f, "client held", &megabytes(self.held), "at most; its default bound is 67.1 MB")?;
        let peak = self.peak_memory.map_or_else(|| "n/a".to_owned(), megabytes);
        let whole = if self.received.is_some() { "the whole process, receiver included" } else { "the whole process" };
        row(f, "peak memory", &peak, whole)?;
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &str, note: &str) -> fmt::Result {
    let line = format!("{name:<18}{value:>12} {note}");
    writeln!(f, "{}", line.trim_end())
}

/// With a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn rate(spans: u64, time: Duration) -> u64 {
    (spans as f64 / time.as_secs_f64().max(1e-9)) as u64
}

/// The share of each span; unknown if the amount is, or if there is no span.
fn per(amount: Option<u64>, spans: u64) -> String {
    let share = amount.and_then(|amount| amount.checked_div(spans));
    share.map_or_else(|| "n/a".to_owned(), grouped)
}
