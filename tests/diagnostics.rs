//! What the library says about itself, and who is told.
#![cfg(feature = "testing")]

mod support;

use std::{
    env,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use otlp::{
    BatchConfig, ClientBuilder, KeyValue, LogLevel, SpanContext, SpanId, TraceId,
    sampling::{AlwaysOff, ParentBased, ProbabilitySampler, Sampler, TraceIdRatioBased},
    testing::{Keep, Receiver, Response},
};
use support::{LONG, assert_accounted, client_of, gate};

const ROLE: &str = "OTLP_TEST_DIAGNOSTICS";

/// What a handler was told: levels, subjects and messages.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(LogLevel, String, String)>>>);

impl Told {
    fn listening_to(&self, builder: ClientBuilder) -> ClientBuilder {
        let told = self.clone();
        builder.with_error_handler(move |said| {
            let line = (said.level(), said.subject().to_owned(), said.message().to_owned());
            told.0.lock().unwrap().push(line);
        })
    }

    /// The messages about `subject`.
    fn about(&self, subject: &str) -> Vec<String> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(_, about, _)| about == subject).map(|(_, _, message)| message.clone()).collect()
    }
}

/// Gets the configuration, delivery, the queue and the limits wrong.
fn misuse(builder: ClientBuilder) {
    let batch = BatchConfig { max_queue_size: 10, batch_timeout: LONG, ..BatchConfig::default() };
    // Nobody listens there.
    let builder = builder.with_endpoint("http://127.0.0.1:1").with_request_timeout(Duration::from_millis(50));
    let client = builder.with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("test");
    let mut span = tracer.start("too much");
    span.set_attributes((0..200).map(|at| KeyValue::new(format!("key {at}"), at)));
    span.end();
    (0..100).for_each(|_| tracer.start("one too many").end());
    client.flush(LONG);
    client.shutdown(LONG);
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("handler") => {
            let told = Told::default();
            misuse(told.listening_to(otlp::Client::builder()));
            for subject in ["config", "export", "queue", "limits", "shutdown"] {
                assert!(!told.about(subject).is_empty(), "nothing was told about {subject}");
            }
            assert!(told.about("config")[0].contains("OTEL_BSP_SCHEDULE_DELAY"), "{:?}", told.about("config"));
        }
        Ok("no handler") => misuse(otlp::Client::builder()),
        Ok("handler that panics") => misuse(otlp::Client::builder().with_error_handler(|_| panic!("in the handler"))),
        _ => {}
    }
}

fn run(role: &str) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture"]).env(ROLE, role).env("OTEL_BSP_SCHEDULE_DELAY", "soon");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The library's lines.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter(|line| line.contains("otlp: ")).map(str::to_owned).collect()
}

#[test]
fn a_handler_is_told_in_place_of_stderr_and_nobody_writes_to_stdout() {
    // ERR-05, ERR-06
    let unhandled = run("no handler");
    for part in ["OTEL_BSP_SCHEDULE_DELAY", "connection refused", "the queue is full", "ATTRIBUTE_COUNT_LIMIT"] {
        let told = lines(&unhandled.stderr);
        assert!(told.iter().any(|line| line.contains(part)), "{part}: {told:?}");
    }
    assert_eq!(lines(&unhandled.stdout), Vec::<String>::new());
    let handled = run("handler");
    assert_eq!(lines(&handled.stderr), Vec::<String>::new());
    assert_eq!(lines(&handled.stdout), Vec::<String>::new());
}

#[test]
fn a_handler_that_panics_harms_nobody() {
    // ERR-03
    assert!(String::from_utf8_lossy(&run("handler that panics").stderr).contains("in the handler"));
}

#[test]
fn a_handler_hears_what_the_level_admits() {
    // SDKV-04
    let told = Told::default();
    misuse(told.listening_to(otlp::Client::builder()).with_log_level(LogLevel::Error));
    let levels: Vec<_> = told.0.lock().unwrap().iter().map(|(level, _, _)| *level).collect();
    assert!(!levels.is_empty() && levels.iter().all(|level| *level == LogLevel::Error), "{levels:?}");
}

#[test]
fn what_the_limits_leave_out_of_a_span_is_said_once() {
    // LIM-05
    let told = Told::default();
    let receiver = Receiver::start().unwrap();
    let client = told.listening_to(client_of(&receiver)).build().unwrap();
    let mut span = client.tracer("test").start("too much");
    for at in 0..200 {
        span.set_attribute(&format!("key {at}"), at).add_event("event", []);
    }
    span.end();
    client.tracer("test").start("enough").end();
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(assert_accounted(&client).limited, 1);
    let about = told.about("limits");
    assert_eq!(about.len(), 1, "{about:?}");
    assert!(about[0].starts_with("1 more spans"), "{about:?}");
}

#[test]
fn a_full_queue_is_told_when_it_begins_and_when_it_is_over() {
    // PERF-02
    let told = Told::default();
    let (keeper, gate) = gate();
    let hold = move |_: &_| {
        gate.wait();
        Response::ok()
    };
    let receiver = Receiver::builder().keep(Keep::Ids).respond_with(hold).start().unwrap();
    let batch = BatchConfig { max_queue_size: 1_000, ..BatchConfig::default() };
    let client = told.listening_to(client_of(&receiver)).with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("test");
    (0..50_000).for_each(|_| tracer.start("span").end());
    let lost = client.stats().dropped.total();
    assert!(lost > 0);
    drop(keeper);
    client.flush(LONG);
    // What is recorded then finds room: that is told now, if not by whoever fetched the last of the others.
    tracer.start("one more").end();
    client.flush(LONG);
    let about = told.about("queue");
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(about[0].starts_with("the queue is full"), "{about:?}");
    assert_eq!(about[1], format!("the queue has room again: {lost} spans were dropped while it was full"));
    assert_accounted(&client);
}

/// What is said about tracing where `sampler` decides about a child of a remote parent.
fn told_about_a_child(sampler: impl Sampler + 'static, flags: u8) -> Vec<String> {
    let told = Told::default();
    let receiver = Receiver::start().unwrap();
    let client = told.listening_to(client_of(&receiver)).with_sampler(sampler).build().unwrap();
    let parent = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), flags, true);
    let tracer = client.tracer("test");
    (0..10).for_each(|_| tracer.span("child").parent(&parent).start().end());
    client.flush(LONG);
    client.shutdown(LONG);
    told.about("tracing")
}

#[test]
fn a_ratio_of_children_is_warned_of_once_and_one_of_roots_is_not() {
    // SMP-07
    let about = told_about_a_child(TraceIdRatioBased::new(1.0), 1);
    assert_eq!(about.len(), 1, "{about:?}");
    assert!(about[0].contains("TraceIdRatioBased"), "{about:?}");
    // Where nothing is recorded no worker is there to say it.
    assert_eq!(told_about_a_child(TraceIdRatioBased::new(0.0), 1).len(), 1);
    assert_eq!(told_about_a_child(ParentBased::new(TraceIdRatioBased::new(1.0)), 1), Vec::<String>::new());
}

#[test]
fn randomness_that_is_only_presumed_is_warned_of_once() {
    // SMP-12
    const SAMPLED: u8 = 1;
    const RANDOM: u8 = 2;
    let about = told_about_a_child(ProbabilitySampler::new(0.5), SAMPLED);
    assert_eq!(about.len(), 1, "{about:?}");
    assert!(about[0].contains("presumed"), "{about:?}");
    assert_eq!(told_about_a_child(ProbabilitySampler::new(0.5), SAMPLED | RANDOM), Vec::<String>::new());
    assert_eq!(told_about_a_child(AlwaysOff, SAMPLED), Vec::<String>::new());
}

#[test]
fn a_tracer_without_a_name_works_and_is_told_once() {
    // TPR-02
    let told = Told::default();
    let receiver = Receiver::start().unwrap();
    let client = told.listening_to(client_of(&receiver)).build().unwrap();
    (0..3).for_each(|_| client.tracer("").start("span").end());
    assert!(client.shutdown(LONG).is_complete());
    assert!(receiver.spans().iter().all(|span| span.scope.name.is_empty()));
    assert_eq!(receiver.span_count(), 3);
    assert_eq!(told.about("tracing").len(), 1, "{:?}", told.about("tracing"));
}
