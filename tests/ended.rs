//! Ending a span: it is final, and costs its thread next to nothing.
#![cfg(feature = "testing")]

mod support;

use std::{
    env,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use otlp::{Client, LogLevel, Span, Status, testing::Receiver};
use support::{LONG, assert_accounted, client_of, gate, waits};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// Not a test of its own: what the child process runs.
#[test]
fn child() {
    if env::var_os(ROLE).is_some() {
        let otlp = otlp::init().unwrap();
        let job = otlp.root("job");
        job.set_attribute("in time", true);
        drop(otlp);
        job.set_attribute("too late", true).add_event("too late", []).set_status(Status::Ok);
    }
}

#[test]
fn a_span_that_has_ended_is_out_of_reach_and_arrives_once_as_it_was_ended() {
    // SPAN-06: ending takes the span, and so does nothing else that changes it: afterwards there is none to change,
    // to end again or to race with.
    let _ends: fn(Span) = Span::end;
    let _ends_at: fn(Span, SystemTime) = Span::end_at;
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(5);
    let mut span = client.tracer("ended").span("once").start_time(UNIX_EPOCH).start();
    span.set_attribute("k", 1);
    // Dropped inside as well.
    span.end_at(end);
    assert!(client.flush(LONG).is_complete());
    assert_eq!(assert_accounted(&client).ended, 1);
    let [span] = receiver.spans().try_into().unwrap();
    assert_eq!((span.span.end_time_unix_nano, span.span.attributes.len()), (5_000_000_000, 1));
}

#[test]
fn a_process_span_that_has_ended_takes_nothing_more() {
    // SPAN-06
    let receiver = Receiver::start().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, "1");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    assert!(command.status().unwrap().success());
    let [job] = receiver.spans().try_into().unwrap();
    let keys: Vec<_> = job.span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!((keys, job.span.events.len(), job.span.status), (vec!["in time"], 0, None));
}

#[test]
fn ending_a_span_waits_for_neither_a_stuck_receiver_nor_a_name_that_is_not_known() {
    // SPAN-08
    const SPANS: usize = 200_000;
    let (keeper, gate) = gate();
    let stuck = Receiver::builder().respond_with(move |_| {
        gate.wait();
        otlp::testing::Response::ok()
    });
    let stuck = stuck.start().unwrap();
    for endpoint in [stuck.endpoint(), "http://collector.invalid:4318".to_owned()] {
        let client = Client::builder().with_endpoint(&endpoint).with_log_level(LogLevel::None).build().unwrap();
        let tracer = client.tracer("ending");
        let end = |_| {
            let span = tracer.start("span");
            let begun = Instant::now();
            span.end();
            begun.elapsed()
        };
        let before = waits();
        let mut took: Vec<_> = (0..SPANS).map(end).collect();
        let waits = waits() - before;
        took.sort_unstable();
        let half = took[SPANS / 2];
        let said = format!("{endpoint}: half of them within {half:?}, {waits} waits");
        // What the machine does meanwhile makes some take longer. They wait for nothing themselves, but where the system
        // gives out memory.
        assert!(half < Duration::from_micros(5) && waits < SPANS as u64 / 1000, "{said}");
        println!("{said}");
        client.shutdown(Duration::ZERO);
        assert_eq!(assert_accounted(&client).ended, SPANS as u64);
    }
    drop(keeper);
}
