//! What the client says of spans that are lost: each case is a process of its own, and what it says is on stderr.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env,
    process::{Command, Output},
    time::{Duration, Instant},
};

use faults::{Answer, Closed, Extent, FaultServer, accept, answer, stall_after};
use otlp::{
    BatchConfig, Client, DropReason, RetryConfig, SpanContext, SpanData, SpanId, SpoolConfig, TraceId,
    testing::{Receiver, ReceiverBuilder, Request, Response},
};
use support::{LONG, SpoolDir, client_of, gate, wait_for};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("test");
    (0..spans).for_each(|_| tracer.start("span").end());
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("queue_full") => {
            let batch = BatchConfig { max_queue_size: 1, max_batch_size: 1, ..BatchConfig::default() };
            let receiver = Receiver::start().unwrap();
            let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
            record(&client, 10_000);
            client.shutdown(LONG);
        }
        Ok("rejected") => answered(|_| Response::partial_success(2, "bad")),
        Ok("refused") => answered(|_| Response::status(400).body("no such tenant")),
        Ok("too_large") => answered(|_| Response::status(413)),
        Ok("rejected directly") => directly(|_| Response::partial_success(2, "bad")),
        Ok("refused directly") => directly(|request| match request.number {
            1 => Response::status(400).body("no such tenant"),
            _ => Response::ok(),
        }),
        Ok("hint") => answered(|_| Response::partial_success(0, "use gzip")),
        Ok("nothing") => answered(|_| Response::partial_success(0, "")),
        Ok("undelivered") => {
            let closed = Closed::refusing();
            let client = Client::builder().with_endpoint(closed.endpoint());
            let client = client.with_request_timeout(Duration::from_millis(200)).build().unwrap();
            record(&client, 3);
            client.flush(LONG);
            client.shutdown(LONG);
        }
        // An answer, and then silence: the answer tells more.
        Ok("busy") => {
            let busy = Answer::status(503).header("retry-after", "0").body("no worker is free");
            let server = FaultServer::plain([answer(busy), stall_after(Extent::Whole)]);
            let client = Client::builder().with_endpoint(server.endpoint());
            let client = client.with_request_timeout(Duration::from_millis(400)).build().unwrap();
            record(&client, 3);
            client.flush(LONG);
            client.shutdown(LONG);
        }
        Ok("shutdown") => {
            let (_keeper, gate) = gate();
            let receiver = Receiver::builder().respond_with(move |_| {
                gate.wait();
                Response::ok()
            });
            let receiver = receiver.start().unwrap();
            let client = client_of(&receiver).build().unwrap();
            record(&client, 3);
            client.shutdown(Duration::from_millis(50));
        }
        Ok("expired") => expired(),
        Ok("export timeout") => export_timeout(),
        _ => {}
    }
}

/// Three spans for a receiver that answers all alike.
fn answered(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) {
    let receiver = ReceiverBuilder::default().respond_with(answer).start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    record(&client, 3);
    client.shutdown(LONG);
}

/// The same, by a thread that waits for the answer. Whatever comes of it, more is sent.
fn directly(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) {
    let receiver = ReceiverBuilder::default().respond_with(answer).start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    for number in 1..=2 {
        let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([number; 8]), 1, false);
        let _ = client.export_spans([SpanData::new(context.clone(), "a"), SpanData::new(context, "b")]);
    }
    client.shutdown(LONG);
}

/// What one client leaves in the spool is too old for the next.
fn expired() {
    let spool = SpoolDir::new();
    let answer = |request: &Request| if request.number == 1 { Response::status(503) } else { Response::ok() };
    let receiver = ReceiverBuilder::default().respond_with(answer).start().unwrap();
    let client = |max_age| {
        let config = SpoolConfig { dir: Some(spool.path().into()), max_age, ..SpoolConfig::default() };
        let once = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
        client_of(&receiver).with_spool_config(config).with_retry_config(once).build().unwrap()
    };
    let first = client(Duration::from_secs(3600));
    record(&first, 3);
    assert_eq!(first.shutdown(LONG).spooled, 3);
    let begun = Instant::now();
    wait_for("a file that is too old", || begun.elapsed() > Duration::from_millis(5));
    let second = client(Duration::from_millis(1));
    record(&second, 1);
    assert_eq!(second.shutdown(LONG).dropped.get(DropReason::Expired), 3);
}

/// The first batch is given up by the time of the processor, and the next goes out.
fn export_timeout() {
    let client = Client::builder().build().unwrap();
    let begun = Instant::now();
    record(&client, 2);
    let lost = client.flush(LONG);
    let took = begun.elapsed();
    assert_eq!((lost.exported, lost.dropped.get(DropReason::Undelivered)), (0, 2));
    assert!((Duration::from_millis(300)..Duration::from_secs(10)).contains(&took), "{took:?}");
    record(&client, 1);
    assert_eq!(client.flush(LONG).exported, 1);
}

/// Runs a child with only the given variables of ours set.
fn run(role: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    let output = command.env(ROLE, role).envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The library's own lines.
fn said(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect()
}

#[test]
fn every_way_to_lose_spans_is_told_on_stderr_with_its_reason_and_never_on_stdout() {
    // ERR-05, HTTP-09, RTY-03
    for (role, words) in [
        ("busy", &["no worker is free (attempt 2)", "no worker is free; it has more than it can take"][..]),
        ("queue_full", &["more was recorded than could be sent"]),
        ("rejected", &["rejected 2 spans: bad", "did not accept them: bad"]),
        ("refused", &["answered 400: no such tenant"]),
        // The caller is told each time, and the last line is the same.
        ("rejected directly", &["did not accept them: bad"]),
        ("refused directly", &["did not accept them: answered 400: no such tenant"]),
        ("too_large", &["answered 413"]),
        ("undelivered", &["connection refused"]),
        ("shutdown", &["did not answer in time"]),
        ("expired", &["longer than OTLP_SPOOL_MAX_AGE"]),
    ] {
        let output = run(role, &[]);
        let said = said(&output);
        let role = if role == "busy" { "undelivered" } else { role.trim_end_matches(" directly") };
        // At the end they are told by their reasons, and how many there were.
        let end = said.iter().filter(|line| line.contains(" lost {") && line.contains(&format!("{role:?}: ")));
        assert_eq!(end.count(), 1, "{role}: {said:?}");
        for word in words {
            assert!(said.iter().any(|line| line.contains(word)), "{role} does not say {word:?}: {said:?}");
        }
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!stdout.contains("otlp") && !stdout.contains("spans"), "{role}: {stdout}");
    }
}

#[test]
fn the_words_of_a_receiver_that_accepted_everything_are_a_warning_and_its_silence_is_none() {
    // RTY-06
    let said_of = |role| said(&run(role, &[]));
    let [hint] = said_of("hint").try_into().unwrap();
    assert!(hint.ends_with(" accepted all spans, and says: use gzip"), "{hint}");
    assert_eq!(said_of("nothing"), Vec::<String>::new());
    assert!(said_of("rejected")[0].ends_with(" rejected 2 spans: bad"));
}

#[test]
fn an_export_is_given_up_after_the_time_of_the_processor_and_the_next_goes_out() {
    // BSPV-02
    let server = FaultServer::plain([stall_after(Extent::Whole), accept()]);
    let output = run(
        "export timeout",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", server.endpoint().as_str()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "300"),
        ],
    );
    assert!(said(&output)[0].contains("no answer within"), "{:?}", said(&output));
    assert_eq!(server.arrived().len(), 3);
}
