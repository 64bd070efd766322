//! The client's own metrics, as the semantic conventions name them
//! ([SDK metrics](https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/)), exported over OTLP.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric, number_data_point,
    },
};
use prost::Message as _;

use super::{
    Exporter,
    compress::Encoder,
    operations::Operation,
    transport::{Failure, HttpTransport, Outcome},
};
use crate::{
    capture::unix_nanos,
    config::{Compression, Settings, Way},
    error::{DropReason, LogLevel, Subject},
    stats::Snapshot,
};

/// What a data point is about.
type Attributes = Vec<(&'static str, any_value::Value)>;

/// How metrics travel: over connections of their own, so that they take none from the spans, count as no progress of
/// theirs, and bring none of theirs into discredit. None unless somebody asked for metrics.
pub(super) fn transport(settings: &Settings) -> Option<HttpTransport> {
    let mut settings = Settings { endpoint: settings.metrics_endpoint()?, ..settings.clone() };
    settings.connections.prewarmed = 0;
    settings.connections.max_connections = 1;
    Some(HttpTransport::new(&settings))
}

impl Exporter {
    /// The last word, of a program that may have run for less than an interval; from one that has used the client.
    pub(super) fn export_last_metrics(&self, timeout: Duration) {
        if self.intake.doorbell.workers().0 > 0 {
            // A fault of ours must not unwind into the program.
            let _ = catch_unwind(AssertUnwindSafe(|| self.export_metrics(timeout)));
        }
    }

    /// Sends the metrics as they are now, and waits at most for `timeout`.
    pub(crate) fn export_metrics(&self, timeout: Duration) {
        let Some(transport) = &self.metrics_transport else { return };
        let request = self.metrics(SystemTime::now()).encode_to_vec();
        let (bytes, limit) = (request.len(), self.settings.max_request_bytes);
        if bytes > limit {
            let line =
                format_args!("the client's own metrics, {bytes} bytes, were not sent: max_request_bytes = {limit}");
            self.diagnostics.say(LogLevel::Warn, Subject::Metrics, line);
            return;
        }
        let mut body = Vec::new();
        // Whatever the spans' receiver was found to understand: this may be another one.
        let way = if self.settings.compression == Compression::None { Way::NONE } else { Way::GZIP };
        Encoder::new(way).encode(&mut body, |sink| sink(&request));
        let send = || transport.send(&body, way.compression, timeout.min(self.settings.export_timeout));
        let outcome = match send() {
            // The receiver had closed a connection that was kept alive.
            Outcome::Failed { failure: Failure::Gone, .. } => send(),
            outcome => outcome,
        };
        if !matches!(outcome, Outcome::Accepted { .. }) {
            let line = format_args!("the client's own metrics were not accepted: {outcome:?}");
            self.diagnostics.say(LogLevel::Debug, Subject::Metrics, line);
        }
    }

    fn metrics(&self, now: SystemTime) -> ExportMetricsServiceRequest {
        let metrics = Points { start: unix_nanos(self.began), now: unix_nanos(now) }.of(self);
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let (resource, schema_url) = self.resource.message();
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url }];
        ExportMetricsServiceRequest { resource_metrics }
    }
}

/// Makes data points of one time.
struct Points {
    start: u64,
    now: u64,
}

impl Points {
    fn of(&self, exporter: &Exporter) -> Vec<Metric> {
        let (snapshot, intake) = (exporter.snapshot(), &exporter.intake);
        let processor = component("batching_span_processor", exporter.number);
        let mut sender = component("otlp_http_span_exporter", exporter.number);
        let (address, port) = exporter.settings.endpoint.address();
        sender.push(("server.address", text(address)));
        sender.push(("server.port", number(port.into())));

        let waiting = intake.registry.waiting();
        let (_, handed_over) = intake.stats.batches.totals();
        let full = snapshot.dropped.get(DropReason::QueueFull);
        let mut metrics = vec![
            self.counter(
                "otel.sdk.processor.span.processed",
                "{span}",
                [(handed_over, processor.clone()), (full, with_error(&processor, "queue_full"))],
            ),
            self.up_down("otel.sdk.processor.span.queue.size", "{span}", waiting, processor.clone()),
            self.up_down("otel.sdk.exporter.span.inflight", "{span}", exporter.ledger.spans(), sender.clone()),
            self.counter("otel.sdk.exporter.span.exported", "{span}", exported(exporter, &snapshot, &sender)),
            self.durations(exporter.operations.all(), &sender),
        ];
        let started = snapshot.started_by.by_kind();
        metrics.push(self.counter(
            "otel.sdk.span.started",
            "{span}",
            started.map(|(origin, result, spans)| {
                let attributes = [("otel.span.parent.origin", origin), ("otel.span.sampling_result", result)];
                (spans, attributes.map(|(key, value)| (key, text(value))).into())
            }),
        ));
        let live = snapshot
            .live
            .by_result()
            .map(|(result, spans)| self.point(spans, vec![("otel.span.sampling_result", text(result))]));
        metrics.push(self.sum("otel.sdk.span.live", "{span}", false, live.into()));
        if let Some(capacity) = intake.quota.capacity() {
            let name = "otel.sdk.processor.span.queue.capacity";
            metrics.push(self.up_down(name, "{span}", capacity as u64, processor.clone()));
        }
        metrics.extend(self.own(exporter, &snapshot, &sender));
        metrics
    }

    /// What the conventions have no name for.
    fn own(&self, exporter: &Exporter, snapshot: &Snapshot, sender: &Attributes) -> Vec<Metric> {
        let tuning = exporter.tuning();
        let way = [("compression", tuning.compression.name()), ("effort", tuning.effort.name())];
        let way = sender.iter().cloned().chain(way.map(|(key, value)| (key, text(value)))).collect();
        vec![
            self.gauge("otlp.exporter.batch_size", "{span}", tuning.batch_size as u64, sender.clone()),
            self.gauge("otlp.exporter.connections", "{connection}", tuning.connections as u64, sender.clone()),
            // Its value is always 1: the attributes are what it tells.
            self.gauge("otlp.exporter.compression", "1", 1, way),
            self.gauge("otlp.exporter.memory", "By", snapshot.memory_bytes, sender.clone()),
            self.counter("otlp.exporter.requests", "{request}", [(snapshot.requests, sender.clone())]),
            self.counter("otlp.exporter.body.size", "By", [(snapshot.sent_bytes, sender.clone())]),
        ]
    }

    fn point(&self, value: u64, attributes: Attributes) -> NumberDataPoint {
        NumberDataPoint {
            attributes: messages(attributes),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
            ..NumberDataPoint::default()
        }
    }

    fn sum(&self, name: &str, unit: &str, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Metric {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        metric(name, unit, metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
    }

    fn counter(&self, name: &str, unit: &str, values: impl IntoIterator<Item = (u64, Attributes)>) -> Metric {
        let points = values.into_iter().map(|(value, attributes)| self.point(value, attributes)).collect();
        self.sum(name, unit, true, points)
    }

    fn up_down(&self, name: &str, unit: &str, value: u64, attributes: Attributes) -> Metric {
        self.sum(name, unit, false, vec![self.point(value, attributes)])
    }

    fn gauge(&self, name: &str, unit: &str, value: u64, attributes: Attributes) -> Metric {
        metric(name, unit, metric::Data::Gauge(Gauge { data_points: vec![self.point(value, attributes)] }))
    }

    /// One histogram without boundaries, as the conventions advise.
    fn durations(&self, operations: Vec<Operation>, sender: &Attributes) -> Metric {
        let points = operations.into_iter().map(|operation| {
            let mut attributes = sender.clone();
            if let Some(error) = &operation.error {
                attributes.push(("error.type", text(error)));
            }
            if let Some(status) = operation.status {
                attributes.push(("http.response.status_code", number(status.into())));
            }
            HistogramDataPoint {
                attributes: messages(attributes),
                start_time_unix_nano: self.start,
                time_unix_nano: self.now,
                count: operation.count,
                sum: Some(operation.total.as_secs_f64()),
                min: Some(operation.shortest.as_secs_f64()),
                max: Some(operation.longest.as_secs_f64()),
                bucket_counts: vec![operation.count],
                ..HistogramDataPoint::default()
            }
        });
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let histogram = Histogram { data_points: points.collect(), aggregation_temporality };
        metric("otel.sdk.exporter.operation.duration", "s", metric::Data::Histogram(histogram))
    }
}

/// Spans by what became of them: each once, after the last attempt.
fn exported(exporter: &Exporter, snapshot: &Snapshot, sender: &Attributes) -> Vec<(u64, Attributes)> {
    let mut values = vec![(snapshot.exported, sender.clone())];
    values.extend(exporter.operations.lost().into_iter().map(|(error, spans)| (spans, with_error(sender, &error))));
    // What was lost without an attempt that decided it.
    for reason in [DropReason::Rejected, DropReason::Shutdown, DropReason::Panicked, DropReason::Expired] {
        let spans = snapshot.dropped.get(reason);
        if spans > 0 {
            values.push((spans, with_error(sender, reason.as_str())));
        }
    }
    values
}

/// The same name in every run of the program, and another for each client of it.
fn component(kind: &'static str, client: usize) -> Attributes {
    vec![("otel.component.type", text(kind)), ("otel.component.name", text(&format!("{kind}/{client}")))]
}

fn with_error(attributes: &Attributes, error: &str) -> Attributes {
    attributes.iter().cloned().chain([("error.type", text(error))]).collect()
}

fn text(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.to_owned())
}

fn number(number: i64) -> any_value::Value {
    any_value::Value::IntValue(number)
}

fn messages(attributes: Attributes) -> Vec<KeyValue> {
    let message = |(key, value): (&str, _)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    attributes.into_iter().map(message).collect()
}

fn metric(name: &str, unit: &str, data: metric::Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}
