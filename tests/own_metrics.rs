//! The client's own metrics, as a receiver of `/v1/metrics` gets them.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    borrow::Cow,
    io::{self, BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use faults::{Answer, FaultServer, accept, answer};
use otlp::{
    BatchConfig, Client, LogLevel,
    config::MonitoringConfig,
    monitoring::PerformanceMonitor,
    sampling::{Sampler, SamplingDecision, SamplingInput, SamplingResult},
    testing::{
        Receiver, Request, Response,
        proto::{
            common::v1::{KeyValue, any_value},
            metrics::v1::{HistogramDataPoint, Metric, NumberDataPoint, metric::Data, number_data_point},
        },
    },
};
#[cfg(feature = "grpc")]
use support::assert_called;
use support::{LONG, assert_accounted, client_of, gate, wait_for_intervals};

const OFTEN: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

fn config(metrics_interval: Duration) -> MonitoringConfig {
    MonitoringConfig { enable_metrics: true, metrics_interval, ..MonitoringConfig::default() }
}

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("test");
    (0..spans).for_each(|_| tracer.start("span").end());
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

/// The metrics that arrived last.
fn last(receiver: &Receiver) -> Vec<Metric> {
    let request = receiver.metrics().pop().expect("metrics have arrived");
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).collect()
}

/// The values of a sum, each with its `error.type`, if it is there.
fn sums(metrics: &[Metric], name: &str) -> Option<Vec<(i64, Option<String>)>> {
    let metric = metrics.iter().find(|metric| metric.name == name)?;
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{name} is no sum") };
    let value = |value: &Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsInt(value)) => *value,
        other => panic!("{other:?}"),
    };
    Some(
        sum.data_points.iter().map(|point| (value(&point.value), attribute(&point.attributes, "error.type"))).collect(),
    )
}

#[track_caller]
fn sum(metrics: &[Metric], name: &str, error: Option<&str>) -> i64 {
    let values = sums(metrics, name).unwrap_or_else(|| panic!("{name} is missing"));
    values.iter().filter(|(_, of)| of.as_deref() == error).map(|(value, _)| value).sum()
}

fn durations(metrics: &[Metric]) -> Vec<HistogramDataPoint> {
    let metric = metrics.iter().find(|metric| metric.name == "otel.sdk.exporter.operation.duration").unwrap();
    assert_eq!(metric.unit, "s");
    let Some(Data::Histogram(histogram)) = &metric.data else { panic!("no histogram") };
    histogram.data_points.clone()
}

/// The first metrics that `are_right`.
#[track_caller]
fn metrics_until(receiver: &Receiver, are_right: impl Fn(&[Metric]) -> bool) -> Vec<Metric> {
    let begun = Instant::now();
    loop {
        let seen = receiver.metrics().len();
        assert!(receiver.wait_for_metrics(seen + 1, LONG));
        let metrics = last(receiver);
        if are_right(&metrics) {
            return metrics;
        }
        assert!(begun.elapsed() < LONG, "{metrics:?}");
    }
}

const EXPORTED: &str = "otel.sdk.exporter.span.exported";
const PROCESSED: &str = "otel.sdk.processor.span.processed";
const INFLIGHT: &str = "otel.sdk.exporter.span.inflight";
const QUEUE_SIZE: &str = "otel.sdk.processor.span.queue.size";
const QUEUE_CAPACITY: &str = "otel.sdk.processor.span.queue.capacity";

#[test]
fn what_was_recorded_sent_and_accepted_is_told_under_the_names_of_the_conventions() {
    // OBS-01, OBS-04, OBS-07, OBS-08
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(OFTEN)).build().unwrap();
    record(&client, 512);
    assert!(client.flush(LONG).is_complete());
    let metrics = metrics_until(&receiver, |metrics| sum(metrics, EXPORTED, None) == 512);
    assert_eq!(sums(&metrics, EXPORTED).unwrap().len(), 1, "nothing failed");
    assert_eq!((sum(&metrics, PROCESSED, None), sum(&metrics, PROCESSED, Some("queue_full"))), (512, 0));
    assert_eq!((sum(&metrics, INFLIGHT, None), sum(&metrics, QUEUE_SIZE, None)), (0, 0));
    assert!(sums(&metrics, QUEUE_CAPACITY).is_none(), "no bound in spans");
    let durations = durations(&metrics);
    assert_eq!(durations.iter().map(|point| point.count).sum::<u64>(), receiver.totals().requests);
    assert_eq!(attribute(&durations[0].attributes, "http.response.status_code").as_deref(), Some("200"));
    let stats = assert_accounted(&client);
    assert_eq!(stats.requests, receiver.totals().requests, "requests for metrics are none of the spans'");
}

#[cfg(feature = "grpc")]
#[test]
fn over_grpc_the_same_is_told_to_the_service_for_metrics() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_grpc_transport().with_monitoring_config(config(OFTEN)).build().unwrap();
    record(&client, 512);
    assert!(client.flush(LONG).is_complete());
    let metrics = metrics_until(&receiver, |metrics| sum(metrics, EXPORTED, None) == 512);
    assert_eq!(sum(&metrics, PROCESSED, None), 512);
    assert_eq!(durations(&metrics).iter().map(|point| point.count).sum::<u64>(), receiver.totals().requests);
    assert_called(&receiver);
    let stats = assert_accounted(&client);
    assert_eq!(stats.requests, receiver.totals().requests, "calls for metrics are none of the spans'");
    assert_eq!(receiver.errors(), Vec::<String>::new());
}

#[test]
fn nothing_is_told_unless_it_was_asked_for() {
    // OBS-01, PKG-02
    let receiver = Receiver::start().unwrap();
    let off = MonitoringConfig { enable_metrics: false, ..config(Duration::from_millis(1)) };
    let client = client_of(&receiver).with_monitoring_config(off).build().unwrap();
    record(&client, 10);
    assert!(client.close().is_complete());
    assert_eq!(receiver.metrics(), []);
}

#[test]
fn a_program_shorter_than_the_interval_tells_all_in_the_end() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(NEVER)).build().unwrap();
    record(&client, 10);
    assert!(client.close().is_complete());
    assert_eq!(receiver.metrics().len(), 1);
    assert_eq!(sum(&last(&receiver), EXPORTED, None), 10);
}

#[test]
fn rejected_spans_are_failures() {
    // OBS-07, OBS-08
    let receiver = Receiver::builder().respond_with(|_| Response::partial_success(3, "no")).start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(NEVER)).build().unwrap();
    record(&client, 512);
    client.close();
    let metrics = last(&receiver);
    let rejected = 3 * receiver.totals().requests as i64;
    assert_eq!(sum(&metrics, EXPORTED, Some("rejected")), rejected);
    assert_eq!(sum(&metrics, EXPORTED, None), 512 - rejected);
    assert_eq!(attribute(&durations(&metrics)[0].attributes, "error.type").as_deref(), Some("rejected"));
}

#[test]
fn an_export_counts_once_with_all_its_attempts_and_pauses() {
    // OBS-06, OBS-07, OBS-08
    let fail_twice = |request: &Request| if request.number <= 2 { Response::status(503) } else { Response::ok() };
    let receiver = Receiver::builder().respond_with(fail_twice).start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(OFTEN)).build().unwrap();
    record(&client, 500);
    let metrics =
        metrics_until(&receiver, |metrics| sum(metrics, EXPORTED, None) + sum(metrics, INFLIGHT, None) == 500);
    assert!(sum(&metrics, EXPORTED, None) == 0 || receiver.span_count() == 500);
    assert!(client.flush(LONG).is_complete());
    let metrics = metrics_until(&receiver, |metrics| sum(metrics, EXPORTED, None) == 500);
    assert_eq!((sums(&metrics, EXPORTED).unwrap().len(), sum(&metrics, INFLIGHT, None)), (1, 0));
    let [duration] = &durations(&metrics)[..] else { panic!("one kind of outcome") };
    // Two pauses of 100 and 200 ms, less a fifth.
    assert!(duration.count == 1 && duration.sum() >= 0.24, "{duration:?}");
}

#[test]
fn an_export_that_fails_tells_the_error_of_its_last_attempt() {
    // OBS-04, OBS-07, OBS-08, HTTP-09
    let receiver = Receiver::builder().respond_with(|_| Response::status(400)).start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(NEVER)).build().unwrap();
    record(&client, 20);
    client.close();
    let metrics = last(&receiver);
    assert_eq!((sum(&metrics, EXPORTED, Some("400")), sum(&metrics, EXPORTED, None)), (20, 0));
    assert_eq!(sum(&metrics, PROCESSED, None), 20, "handed over, whatever became of them");
    assert_eq!(attribute(&durations(&metrics)[0].attributes, "http.response.status_code").as_deref(), Some("400"));
}

#[test]
fn a_full_queue_is_told_with_its_size_and_its_bound() {
    // OBS-03, OBS-05
    let (keeper, gate) = gate();
    let hold = move |_: &Request| {
        gate.wait();
        Response::ok()
    };
    let receiver = Receiver::builder().respond_with(hold).start().unwrap();
    let batch = BatchConfig { max_queue_size: 100, batch_timeout: Duration::from_millis(1), ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).with_monitoring_config(config(OFTEN)).build().unwrap();
    record(&client, 300);
    let dropped = client.stats().dropped.total() as i64;
    assert!(dropped >= 200);
    let metrics = metrics_until(&receiver, |metrics| sum(metrics, PROCESSED, Some("queue_full")) == dropped);
    assert_eq!(sum(&metrics, QUEUE_CAPACITY, None), 100);
    assert_eq!(sum(&metrics, QUEUE_SIZE, None) + sum(&metrics, INFLIGHT, None), 300 - dropped);
    drop(keeper);
    client.flush(LONG);
    let metrics = metrics_until(&receiver, |metrics| sum(metrics, EXPORTED, None) == 300 - dropped);
    assert_eq!((sum(&metrics, QUEUE_SIZE, None), sum(&metrics, INFLIGHT, None)), (0, 0));
}

#[test]
fn components_have_names_of_their_own_and_say_where_they_send() {
    // OBS-09
    let receiver = Receiver::start().unwrap();
    let names = [(); 2].map(|()| {
        let client = client_of(&receiver).with_monitoring_config(config(NEVER)).build().unwrap();
        record(&client, 1);
        client.close();
        let metrics = last(&receiver);
        let of = |metric: &str, key| {
            let metric = metrics.iter().find(|other| other.name == metric).unwrap();
            let Some(Data::Sum(sum)) = &metric.data else { panic!("no sum") };
            attribute(&sum.data_points[0].attributes, key)
        };
        assert_eq!(of(EXPORTED, "server.address").as_deref(), Some("127.0.0.1"));
        assert_eq!(of(EXPORTED, "server.port"), Some(receiver.address().port().to_string()));
        [(EXPORTED, "otlp_http_span_exporter"), (PROCESSED, "batching_span_processor")].map(|(metric, kind)| {
            assert_eq!(of(metric, "otel.component.type").as_deref(), Some(kind));
            let name = of(metric, "otel.component.name").unwrap();
            let number = name.strip_prefix(&format!("{kind}/")).expect("the type and a number");
            assert!(number.parse::<u32>().is_ok(), "{name}");
            name
        })
    });
    assert!(names[0][0] != names[1][0] && names[0][1] != names[1][1], "{names:?}");
}

#[test]
fn what_is_in_force_is_told_too() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(NEVER)).build().unwrap();
    record(&client, 1);
    client.close();
    let metrics = last(&receiver);
    let way = metrics.iter().find(|metric| metric.name == "otlp.exporter.compression").unwrap();
    let Some(Data::Gauge(gauge)) = &way.data else { panic!("no gauge") };
    let attribute = |key| attribute(&gauge.data_points[0].attributes, key);
    assert_eq!((attribute("compression").as_deref(), attribute("effort").as_deref()), (Some("gzip"), Some("least")));
}

/// The value of the point of a sum that has these attributes.
#[track_caller]
fn point(metrics: &[Metric], name: &str, attributes: &[(&str, &str)]) -> i64 {
    let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{name} is no sum") };
    let is_it = |point: &&NumberDataPoint| {
        attributes.iter().all(|(key, value)| attribute(&point.attributes, key).as_deref() == Some(*value))
    };
    let mut found = sum.data_points.iter().filter(is_it);
    let (Some(point), None) = (found.next(), found.next()) else { panic!("{attributes:?} is not one of {sum:?}") };
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => value,
        _ => panic!("{point:?}"),
    }
}

/// Records whatever it keeps out of the export.
struct RecordsTheRest;

impl Sampler for RecordsTheRest {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let decision = match input.name() {
            "dropped" => SamplingDecision::Drop,
            "recorded" => SamplingDecision::RecordOnly,
            _ => SamplingDecision::RecordAndSample,
        };
        SamplingResult::new(decision, input)
    }

    fn description(&self) -> Cow<'_, str> {
        "RecordsTheRest".into()
    }
}

#[test]
fn spans_that_are_started_and_live_are_told() {
    // OBS-02
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(OFTEN)).with_sampler(RecordsTheRest);
    let client = client.build().unwrap();
    let tracer = client.tracer("test");
    let remote = otlp::SpanContext::new(otlp::TraceId::from_bytes([1; 16]), otlp::SpanId::from_bytes([1; 8]), 1, true);
    let root = tracer.start("root");
    let child = tracer.span("child").parent(&root.context()).start();
    let recorded = [1, 2, 3].map(|_| tracer.span("recorded").parent(&remote).start());
    let dropped = tracer.span("dropped").parent(&root.context()).start();
    // The metrics begin with the first worker, and that with the first span that ends.
    tracer.start("first").end();
    let live = |metrics: &[Metric]| {
        ["RECORD_AND_SAMPLE", "RECORD_ONLY"]
            .map(|result| point(metrics, "otel.sdk.span.live", &[("otel.span.sampling_result", result)]))
    };
    let metrics = metrics_until(&receiver, |metrics| live(metrics) == [2, 3]);
    assert_eq!(
        (sum(&metrics, "otel.sdk.span.live", None), client.stats().open),
        (5, 5),
        "never those that are dropped"
    );
    let mut told = 0;
    for (origin, result, spans) in [
        ("none", "RECORD_AND_SAMPLE", 2),
        ("local", "RECORD_AND_SAMPLE", 1),
        ("remote", "RECORD_ONLY", 3),
        ("local", "DROP", 1),
    ] {
        let attributes = [("otel.span.parent.origin", origin), ("otel.span.sampling_result", result)];
        assert_eq!(point(&metrics, "otel.sdk.span.started", &attributes), spans, "{attributes:?}");
        told += spans;
    }
    assert_eq!(sum(&metrics, "otel.sdk.span.started", None), told);
    drop((child, recorded));
    metrics_until(&receiver, |metrics| live(metrics) == [1, 0]);
    drop((root, dropped));
    metrics_until(&receiver, |metrics| live(metrics) == [0, 0]);
    assert!(client.flush(LONG).is_complete());
    let stats = assert_accounted(&client);
    assert_eq!((stats.started, stats.sampled_out, stats.ended, stats.open), (7, 4, 3, 0));
}

/// Listens and never answers; the first line of each request is in the channel.
fn silent() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, arriving) = mpsc::channel();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let heads = heads.clone();
            thread::spawn(move || {
                let mut connection = BufReader::new(connection);
                let mut head = String::new();
                let _ = connection.read_line(&mut head);
                let _ = heads.send(head);
                io::copy(&mut connection, &mut io::sink())
            });
        }
    });
    (address, arriving)
}

#[test]
fn a_receiver_that_does_not_take_metrics_holds_up_nothing_else() {
    let (address, heads) = silent();
    let monitor = PerformanceMonitor::new().with_metrics_interval(OFTEN);
    // It is also how long each report waits for its answer.
    let interval = Duration::from_secs(2);
    let client = Client::builder()
        .with_traces_endpoint(format!("http://{address}/v1/traces"))
        .with_monitoring_config(MonitoringConfig { log_level: LogLevel::None, ..config(interval) })
        .with_performance_monitor(monitor)
        .build()
        .unwrap();
    record(&client, 1);
    while !heads.recv_timeout(LONG).unwrap().contains("/v1/metrics") {}
    let begun = Instant::now();
    wait_for_intervals(&client, 5);
    assert!(begun.elapsed() < interval / 2, "{:?}", begun.elapsed());
    let ending = Instant::now();
    client.shutdown(Duration::from_millis(100));
    assert!(ending.elapsed() < Duration::from_secs(2), "{:?}", ending.elapsed());
}

#[test]
fn a_client_that_was_not_used_tells_nothing_in_the_end() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(NEVER)).build().unwrap();
    client.close();
    assert_eq!((receiver.metrics(), receiver.connections()), (Vec::new(), 0));
}

#[test]
fn metrics_take_no_connection_from_the_spans_and_count_as_none_of_their_bytes() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(config(OFTEN)).build().unwrap();
    record(&client, 10);
    assert!(client.flush(LONG).is_complete());
    let before = client.stats();
    assert!(receiver.wait_for_metrics(receiver.metrics().len() + 3, LONG));
    let after = client.stats();
    assert_eq!((after.wire_bytes, after.connections), (before.wire_bytes, before.connections));
}

#[test]
fn metrics_that_meet_a_busy_receiver_are_sent_again_like_spans() {
    // RTY-02
    let server = FaultServer::plain([accept(), answer(Answer::status(503)), accept()]);
    let client = Client::builder().with_endpoint(server.endpoint()).with_monitoring_config(config(NEVER));
    let client = client.build().unwrap();
    record(&client, 3);
    assert!(client.close().is_complete());
    let paths: Vec<_> = server.requests().iter().map(|seen| seen.head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/v1/traces", "/v1/metrics", "/v1/metrics"]);
    assert_accounted(&client);
}
