//! The client's own metrics, as the semantic conventions name them
//! ([SDK metrics](https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/)), exported over OTLP.

use std::{
    borrow::Cow,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant, SystemTime},
};

mod message;

use message::{Attributes, Data, Distribution, Interval, Metric, Point};

use super::{
    Exporter,
    delivery::{Fate, Settle},
    destination::Destination,
    encode::compress::{Encoder, NoMemory},
    operations::Operation,
    outcome::{Code, Outcome},
    request::{Request, Signal},
    sink::Sink,
};
use crate::{
    capture::unix_nanos,
    config::{Compression, Encoding, Settings},
    error::{DropReason, LogLevel, Subject},
    stats::Snapshot,
    value::KeyValue,
    wire::Buffer,
};

/// Where metrics go: over connections of their own, so that they take none from the spans, do not count as their
/// progress, and do not make their connections doubted. `None` unless metrics are enabled.
pub(super) fn destination(settings: &Settings) -> Option<Destination> {
    let mut settings = Settings { endpoint: settings.metrics_endpoint()?, ..settings.clone() };
    settings.connections.prewarmed = 0;
    settings.connections.max_connections = 1;
    let sink = Sink::new(&settings, Signal::Metrics);
    Some(Destination::new(settings.endpoint, sink))
}

impl Exporter {
    /// Exports the metrics a last time, because the program may have run for less than an interval. Only if it has used
    /// the client.
    pub(super) fn export_last_metrics(&self, timeout: Duration) {
        if self.recorder.doorbell.has_worked() {
            // A fault of this crate must not unwind into the program.
            let _ = catch_unwind(AssertUnwindSafe(|| self.export_metrics(timeout)));
        }
    }

    /// Sends the current metrics, with the retries of spans, and blocks at most for `timeout`.
    pub(crate) fn export_metrics(&self, timeout: Duration) {
        if self.metrics.is_none() {
            return;
        }
        let until = Instant::now() + timeout.min(self.settings.export_timeout);
        match self.pack_metrics(SystemTime::now()) {
            Ok(request) => self.drive_here(request, Some(until), &mut OwnMetrics),
            Err(NoMemory) => {
                let line = format_args!("the client's own metrics were not sent: the system gives no memory for them");
                self.diagnostics.say(LogLevel::Debug, Subject::Metrics, line);
            }
        }
    }

    fn pack_metrics(&self, now: SystemTime) -> Result<Request, NoMemory> {
        let message = self.metrics(now);
        let plain = message.as_slice();
        // Independent of what the spans' receiver was found to accept: this may be another one.
        let encoding = if self.settings.compression == Compression::None { Encoding::NONE } else { Encoding::GZIP };
        let mut encoder = Encoder::new(encoding);
        let mut body = Vec::new();
        encoder.encode(&mut body, plain.len(), |sink| sink(plain))?;
        let mut request = Request::new(0, 0, body);
        request.signal = Signal::Metrics;
        (request.compression, request.uncompressed) = (encoder.compression(), plain.len());
        request.account(&self.recorder.budget);
        Ok(request)
    }

    /// An `ExportMetricsServiceRequest`.
    fn metrics(&self, now: SystemTime) -> Buffer {
        let interval = Interval { start: unix_nanos(self.began), now: unix_nanos(now) };
        message::request(&self.resource, &metrics(self), interval)
    }
}

/// The metrics to export.
fn metrics(exporter: &Exporter) -> Vec<Metric> {
    let (snapshot, recorder) = (exporter.snapshot(), &exporter.recorder);
    let processor = component("batching_span_processor", exporter.number);
    let mut sender = component(exporter.settings.protocol.component(), exporter.number);
    let (address, port) = exporter.settings.endpoint.address();
    sender.push(KeyValue::new("server.address", address.to_owned()));
    sender.push(KeyValue::new("server.port", port));

    let waiting = recorder.registry.waiting();
    let (_, handed_over) = recorder.stats.batches.totals();
    let full = snapshot.dropped.get(DropReason::QueueFull);
    let mut metrics = vec![
        counter(
            "otel.sdk.processor.span.processed",
            "{span}",
            [(handed_over, processor.clone()), (full, with_error(&processor, "queue_full"))],
        ),
        up_down("otel.sdk.processor.span.queue.size", "{span}", waiting, processor.clone()),
        up_down("otel.sdk.exporter.span.inflight", "{span}", exporter.ledger.spans(), sender.clone()),
        counter("otel.sdk.exporter.span.exported", "{span}", exported(exporter, &snapshot, &sender)),
        durations(exporter.operations.all(), &sender),
    ];
    let started = snapshot.started_by.by_kind();
    metrics.push(counter(
        "otel.sdk.span.started",
        "{span}",
        started.map(|(origin, result, spans)| {
            let attributes = [("otel.span.parent.origin", origin), ("otel.span.sampling_result", result)];
            (spans, attributes.map(|(key, value)| KeyValue::new(key, value)).into())
        }),
    ));
    let live = snapshot
        .live
        .by_result()
        .map(|(result, spans)| point(spans, vec![KeyValue::new("otel.span.sampling_result", result)]));
    metrics.push(sum("otel.sdk.span.live", "{span}", false, live.into()));
    if let Some(capacity) = recorder.quota.capacity() {
        let name = "otel.sdk.processor.span.queue.capacity";
        metrics.push(up_down(name, "{span}", capacity as u64, processor.clone()));
    }
    metrics.extend(own(exporter, &snapshot, &sender));
    metrics
}

/// Metrics that the conventions have no name for.
fn own(exporter: &Exporter, snapshot: &Snapshot, sender: &Attributes) -> Vec<Metric> {
    let tuning = exporter.tuning();
    let way = [("compression", tuning.compression.name()), ("effort", tuning.effort.name())];
    let way = sender.iter().cloned().chain(way.map(|(key, value)| KeyValue::new(key, value))).collect();
    vec![
        gauge("otlp.exporter.batch_size", "{span}", tuning.batch_size as u64, sender.clone()),
        gauge("otlp.exporter.connections", "{connection}", tuning.connections as u64, sender.clone()),
        // Its value is always 1: the attributes are the information.
        gauge("otlp.exporter.compression", "1", 1, way),
        gauge("otlp.exporter.memory", "By", snapshot.memory_bytes, sender.clone()),
        counter("otlp.exporter.requests", "{request}", [(snapshot.requests, sender.clone())]),
        counter("otlp.exporter.body.size", "By", [(snapshot.sent_bytes, sender.clone())]),
    ]
}

fn point(value: u64, attributes: Attributes) -> Point {
    Point { attributes, value: i64::try_from(value).unwrap_or(i64::MAX) }
}

fn sum(name: &'static str, unit: &'static str, is_monotonic: bool, points: Vec<Point>) -> Metric {
    Metric { name, unit, data: Data::Sum { points, is_monotonic } }
}

fn counter(name: &'static str, unit: &'static str, values: impl IntoIterator<Item = (u64, Attributes)>) -> Metric {
    sum(name, unit, true, values.into_iter().map(|(value, attributes)| point(value, attributes)).collect())
}

fn up_down(name: &'static str, unit: &'static str, value: u64, attributes: Attributes) -> Metric {
    sum(name, unit, false, vec![point(value, attributes)])
}

fn gauge(name: &'static str, unit: &'static str, value: u64, attributes: Attributes) -> Metric {
    Metric { name, unit, data: Data::Gauge(vec![point(value, attributes)]) }
}

/// One histogram without boundaries, as the conventions advise.
fn durations(operations: Vec<Operation>, sender: &Attributes) -> Metric {
    let distribution = |operation: Operation| {
        let mut attributes = sender.clone();
        attributes.extend(operation.error.map(|error| KeyValue::new("error.type", error)));
        attributes.extend(operation.code.map(Code::attribute));
        Distribution {
            attributes,
            count: operation.count,
            sum: operation.total.as_secs_f64(),
            min: operation.shortest.as_secs_f64(),
            max: operation.longest.as_secs_f64(),
        }
    };
    let data = Data::Histogram(operations.into_iter().map(distribution).collect());
    Metric { name: "otel.sdk.exporter.operation.duration", unit: "s", data }
}

/// Spans by their fate: each once, after the last attempt.
fn exported(exporter: &Exporter, snapshot: &Snapshot, sender: &Attributes) -> Vec<(u64, Attributes)> {
    let mut values = vec![(snapshot.exported, sender.clone())];
    values.extend(exporter.operations.lost().into_iter().map(|(error, spans)| (spans, with_error(sender, error))));
    // Spans lost without an attempt that decided it.
    for reason in [DropReason::Rejected, DropReason::Shutdown, DropReason::Panicked, DropReason::Expired] {
        let spans = snapshot.dropped.get(reason);
        if spans > 0 {
            values.push((spans, with_error(sender, reason.as_str())));
        }
    }
    values
}

/// The same name in every run of the program, and a different one for each of its clients.
fn component(kind: &'static str, client: usize) -> Attributes {
    let name = format!("{kind}/{client}");
    vec![KeyValue::new("otel.component.type", kind), KeyValue::new("otel.component.name", name)]
}

fn with_error(attributes: &Attributes, error: impl Into<Cow<'static, str>>) -> Attributes {
    attributes.iter().cloned().chain([KeyValue::new("error.type", error.into())]).collect()
}

/// Reports the fate of metrics. The next ones include the values of these.
struct OwnMetrics;

impl Settle for OwnMetrics {
    fn settle(&mut self, exporter: &Exporter, request: &mut Request, fate: Fate, outcome: &Outcome) -> ControlFlow<()> {
        let line = match (fate, outcome) {
            (Fate::Accepted { rejected: 0 }, Outcome::Accepted { message: None, .. }) => None,
            (Fate::Accepted { .. }, _) => Some("some of the client's own metrics were rejected"),
            (Fate::Lost(_), _) => Some("the client's own metrics of this interval were not delivered"),
        };
        if let Some(line) = line {
            // At the end of the program missing metrics matter least.
            let level = if exporter.recorder.is_closed() { LogLevel::Debug } else { LogLevel::Warn };
            exporter.say_failure(level, request, outcome, format_args!("{line}"));
        }
        ControlFlow::Continue(())
    }

    /// Newer metrics follow.
    fn waits_for_pauses(&self, _: &Exporter) -> bool {
        false
    }
}
