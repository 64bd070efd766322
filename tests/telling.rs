//! It tells what it does: what was lost and what helps to whoever can do something about it, and everything to who asks.
//! Each case is a process of its own.
#![cfg(feature = "testing")]
#![cfg(unix)]

#[path = "support/child.rs"]
mod child_process;
mod support;

use std::{net::TcpStream, process::Output};

use child_process::{role, said, stderr};
use otlp::{Client, SpanContext, SpanId, TraceId, testing::Receiver};
use support::LONG;

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match role().as_deref() {
        Some("job") => {
            let _otlp = otlp::init().unwrap();
            record(3);
        }
        Some("only if configured") => {
            let otlp = Client::builder().with_endpoint_required(true).install().unwrap();
            record(3);
            assert!(otlp.client().flush(LONG).is_complete());
            println!("recorded {}", otlp.client().stats().ended);
            // The main thread and the one that runs this.
            if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
                assert!(threads.count() <= 2 || otlp.client().stats().ended > 0, "no thread was started");
            }
        }
        Some("only if configured, in code") => {
            let endpoint = std::env::var("IN_CODE").unwrap();
            let client = Client::builder().with_endpoint_required(true).with_endpoint(endpoint).build().unwrap();
            client.tracer("job").start("span").end();
        }
        Some("nothing recorded") => drop(otlp::init().unwrap()),
        Some("not sampled") => {
            let _otlp = otlp::init().unwrap();
            let unsampled = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), 0, true);
            let tracer = otlp::tracer("job");
            (0..2).for_each(|_| tracer.span("child").parent(&unsampled).start().end());
            record(5);
        }
        _ => {}
    }
}

fn record(spans: usize) {
    let tracer = otlp::tracer("job");
    (0..spans).for_each(|_| tracer.start("span").end());
}

fn play(role: &str, variables: &[(&str, &str)]) -> Output {
    let output = child_process::run(role, variables);
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// Whether something listens on the default port of the machine the tests run on is not theirs to say.
fn nobody_listens_at_the_default_endpoint() -> bool {
    TcpStream::connect("127.0.0.1:4318").is_err()
}

#[test]
fn where_nothing_listens_at_the_default_endpoint_the_author_is_told_what_to_do() {
    // These tests are compiled with debug assertions, as a program is by its author.
    if nobody_listens_at_the_default_endpoint() {
        for level in [&[][..], &[("OTEL_LOG_LEVEL", "info")], &[("OTEL_LOG_LEVEL", "error")]] {
            let said = said(&play("job", level));
            assert_eq!(said.len(), 1, "{said:?}");
            let begins =
                said[0].starts_with("otlp: 3 spans were lost {\"undelivered\": 3}: http://localhost:4318/v1/traces: ");
            assert!(begins && said[0].contains("connection refused"), "{said:?}");
            let advice = "; start a collector there, name another one with OTEL_EXPORTER_OTLP_ENDPOINT, or set \
                          OTEL_SDK_DISABLED=true";
            assert!(said[0].ends_with(advice), "{said:?}");
        }
    }
}

#[test]
fn a_tool_that_records_only_where_it_is_configured_costs_nothing_elsewhere() {
    let nothing = play("only if configured", &[]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("recorded 0"));
    assert_eq!(said(&nothing), Vec::<String>::new());
    let receiver = Receiver::start().unwrap();
    let (base, whole) = (receiver.endpoint(), format!("{}/v1/traces", receiver.endpoint()));
    for variable in [("OTEL_EXPORTER_OTLP_ENDPOINT", &base), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &whole)] {
        let recorded = play("only if configured", &[(variable.0, variable.1)]);
        assert!(String::from_utf8_lossy(&recorded.stdout).contains("recorded 3"));
    }
    play("only if configured, in code", &[("IN_CODE", &base)]);
    assert_eq!(receiver.span_count(), 7);
    // What is no URL names nobody.
    let unusable = play("only if configured", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense")]);
    assert_eq!(said(&unusable).len(), 1, "{:?}", said(&unusable));
}

#[test]
fn who_asks_is_told_where_spans_go_how_many_went_and_one_trace_to_look_for() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.endpoint();
    let debug = ("OTEL_LOG_LEVEL", "debug");
    let said = said(&play("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), debug]));
    let trace_ids: Vec<_> = receiver.spans().iter().map(|span| hex(&span.span.trace_id)).collect();
    let url = format!("{endpoint}/v1/traces");
    let first = format!("otlp: spans go to {url} over http/protobuf, compression gzip, sampler parentbased_always_on");
    assert_eq!(said[0], first);
    assert_eq!(said[1], format!("otlp: {url} accepted 3 spans in 1 request so far"));
    let last = said[2].strip_prefix(&format!("otlp: {url} accepted 3 spans in 1 request, ")).expect(&said[2]);
    let (_, trace_id) = last.split_once(" bytes in all; one of the traces is ").expect(last);
    assert!(trace_ids.iter().any(|id| id == trace_id), "{trace_id}: {trace_ids:?}");
    assert_eq!(said.len(), 3, "{said:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn who_asks_is_told_why_nothing_is_recorded() {
    let debug = ("OTEL_LOG_LEVEL", "debug");
    for (role, variable, why) in [
        ("job", ("OTEL_SDK_DISABLED", "true"), "nothing is recorded: the SDK is disabled (OTEL_SDK_DISABLED,"),
        ("job", ("OTEL_TRACES_EXPORTER", "none"), "nothing is recorded: the traces exporter is none"),
        ("only if configured", ("OTEL_SERVICE_NAME", "tool"), "nothing is recorded: no receiver is configured"),
        ("nothing recorded", ("OTEL_SERVICE_NAME", "tool"), "no span was recorded, and nothing sent to http://local"),
    ] {
        let said = said(&play(role, &[debug, variable]));
        assert_eq!(said.iter().filter(|line| line.contains(why)).count(), 1, "{role}: {said:?}");
    }
}

#[test]
fn who_asks_is_told_what_was_not_sampled_and_by_whom() {
    let receiver = Receiver::start().unwrap();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
        ("OTEL_LOG_LEVEL", "debug".into()),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".into()),
        ("OTEL_TRACES_SAMPLER_ARG", "0".into()),
    ];
    let said = said(&play("not sampled", &variables.each_ref().map(|(name, value)| (*name, value.as_str()))));
    let line = "otlp: 7 spans were not sampled: 2 as their parents were, 5 by the sampler parentbased_traceidratio 0.0";
    assert!(said.iter().any(|said| said == line), "{said:?}");
    assert_eq!(receiver.span_count(), 0);
}

#[test]
fn nothing_of_this_is_told_to_who_does_not_ask() {
    let receiver = Receiver::start().unwrap();
    for level in [&[][..], &[("OTEL_LOG_LEVEL", "info")], &[("OTEL_LOG_LEVEL", "warn")]] {
        let endpoint = receiver.endpoint();
        let variables: Vec<_> =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())].iter().chain(level).copied().collect();
        assert_eq!(said(&play("job", &variables)), Vec::<String>::new());
        assert_eq!(said(&play("not sampled", &variables)), Vec::<String>::new());
    }
}
