//! A receiver that means harm: it costs a batch, for a bounded time and a bounded memory, and nothing else.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use faults::{Answer, FaultServer, accept, answer};
use otlp::{Client, ClientBuilder, DropReason, Error, LogLevel, testing::generate_test_spans};
use parking_lot::{Mutex, MutexGuard};
use support::assert_accounted;

/// What an exchange may take at most, besides an answer of the 4 MiB that are allowed, twice while it grows.
const MEMORY: u64 = 16 << 20;

/// The time of a batch. What ends sooner was recognised for what it is.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One test at a time: each measures the memory of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

fn client_of(server: &FaultServer) -> ClientBuilder {
    Client::builder().with_endpoint(server.endpoint()).with_request_timeout(TIMEOUT).with_log_level(LogLevel::None)
}

/// A line of `/proc/self/status`, in bytes; 0 where there is none.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// By how much the process grew at the most while `work` went on.
fn growth(work: impl FnOnce()) -> u64 {
    // From here on the peak is that of what follows.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS");
    work();
    memory("VmHWM").saturating_sub(before)
}

/// What comes of spans that are sent to a server that answers like this.
fn meet(hostile: Answer, timeout: Duration) -> (Result<u64, Error>, Client, FaultServer) {
    let server = FaultServer::plain([answer(hostile)]);
    let client = client_of(&server).with_request_timeout(timeout).build().unwrap();
    let sent = client.export_spans(generate_test_spans(3)).map(|report| report.accepted);
    assert_accounted(&client);
    (sent, client, server)
}

/// The answer is recognised as unusable: one request, in less than the time there is, with bounded memory.
#[track_caller]
fn assert_given_up(what: &str, hostile: Answer, words: &str) {
    let begun = Instant::now();
    let grown = growth(|| {
        let (sent, client, server) = meet(hostile, TIMEOUT);
        let error = sent.expect_err(what);
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert_eq!(client.stats().dropped.get(DropReason::Refused), 3, "{what}");
        assert_eq!(server.requests().len(), 1, "{what}: asking again would bring the same");
    });
    assert!(begun.elapsed() < TIMEOUT / 2, "{what}: {:?}", begun.elapsed());
    assert!(grown < MEMORY, "{what}: {grown} bytes");
}

#[test]
fn an_endless_answer_is_given_up_after_what_is_allowed() {
    // RTY-09, OTLPV-15
    let _alone = alone();
    let limit = "larger than 4194304 bytes";
    assert_given_up("body to the end", Answer::raw("HTTP/1.1 200 OK\r\n\r\n").endless(b"endless ", false), limit);
    let chunk = b"8\r\nendless \r\n";
    assert_given_up("chunks", Answer::status(200).chunked().endless(chunk, false), limit);
    let announced = Answer::status(500).announcing(u64::MAX).endless(b"x", false);
    assert_given_up("as long as announced", announced, limit);
    assert_given_up("headers", Answer::status(200).endless(b"x-more: and more\r\n", true), "headers");
    assert_given_up("one header", Answer::status(200).header("x", "").endless(b"x", true), "");
    assert_given_up("no line at all", Answer::raw("").endless(b"HTTP", true), "not HTTP/1.1");
}

#[test]
fn interim_answers_without_end_cost_the_time_of_the_batch_and_no_memory() {
    // RTY-10
    let _alone = alone();
    let timeout = Duration::from_millis(300);
    let grown = growth(|| {
        let interim = Answer::raw("").endless(b"HTTP/1.1 100 Continue\r\n\r\n", true);
        let begun = Instant::now();
        let (sent, client, _server) = meet(interim, timeout);
        assert!(sent.is_err() && begun.elapsed() < TIMEOUT / 2, "{sent:?} after {:?}", begun.elapsed());
        assert_eq!(client.stats().dropped.total(), 3);
    });
    assert!(grown < MEMORY, "{grown} bytes");
}

#[test]
fn a_gzip_bomb_is_not_inflated() {
    // RTY-09
    let _alone = alone();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..1_000 {
        bomb.write_all(&[0; 100_000]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let grown = growth(|| {
        let hostile = Answer::status(200).header("content-encoding", "gzip").body(bomb.clone());
        let (sent, _client, server) = meet(hostile, TIMEOUT);
        // Nobody asked for gzip. The status says that the spans were accepted.
        assert_eq!(sent.unwrap(), 3);
        assert_eq!(faults::header(&server.requests()[0].head, "accept-encoding"), None);
    });
    assert!(grown < MEMORY, "{grown} bytes");
}

#[test]
fn a_body_that_announces_more_than_there_is_memory_takes_only_what_comes() {
    // RTY-09, PERF-01
    let _alone = alone();
    let timeout = Duration::from_millis(300);
    let grown = growth(|| {
        let hostile = Answer::status(503).announcing(1 << 40).body("a little").then(faults::After::Stall);
        let begun = Instant::now();
        let (sent, client, server) = meet(hostile, timeout);
        assert!(sent.is_err() && begun.elapsed() < TIMEOUT / 2, "{sent:?} after {:?}", begun.elapsed());
        assert_eq!(client.stats().dropped.get(DropReason::Undelivered), 3);
        assert_eq!(server.requests().len(), 1);
    });
    assert!(grown < MEMORY, "{grown} bytes");
}

#[test]
fn a_trickle_does_not_prolong_the_time_of_the_batch() {
    // OTLPV-09, EXP-02
    let _alone = alone();
    let timeout = Duration::from_millis(300);
    let pace = Duration::from_millis(20);
    for hostile in [
        Answer::status(503).trickled(pace),
        Answer::status(503).endless(b"x: y\r\n", true).trickled(pace),
        Answer::raw("HTTP/1.1 503 Trickled\r\n\r\n").endless(b"x", false).trickled(pace),
    ] {
        let begun = Instant::now();
        let (sent, ..) = meet(hostile, timeout);
        let took = begun.elapsed();
        assert!(sent.is_err() && took >= timeout && took < TIMEOUT / 2, "{sent:?} after {took:?}");
    }
}

#[test]
fn bytes_that_are_no_answer_are_given_up_at_once() {
    // RTY-11
    let _alone = alone();
    let long_line = format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(70_000));
    let many: String = (0..500).map(|number| format!("x-{number}: y\r\n")).collect();
    for (what, bytes) in [
        // What a receiver for gRPC says to a request of HTTP/1.1: its settings.
        ("HTTP/2", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("zeros", vec![0; 1_000]),
        ("no number", b"HTTP/1.1 abc OK\r\n\r\n".to_vec()),
        ("HTTP/9", b"HTTP/9.9 200 OK\r\n\r\n".to_vec()),
        ("a header without a name", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n".to_vec()),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_vec()),
        ("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_vec()),
        ("a line too long", long_line.into_bytes()),
        ("five hundred headers", format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes()),
    ] {
        assert_given_up(what, Answer::raw(bytes).then(faults::After::Stall), "");
    }
}

#[test]
fn what_a_hostile_receiver_says_is_repeated_in_one_short_line() {
    // RTY-11
    let _alone = alone();
    let body = "\u{1b}[31mred\r\notlp: forged line\0".repeat(10_000);
    let (sent, ..) = meet(Answer::status(400).body(body), TIMEOUT);
    let said = sent.unwrap_err().to_string();
    assert!(said.len() < 1_000 && !said.contains(|c: char| c.is_control()), "{said:?}");
}

#[test]
fn after_a_hostile_answer_the_next_batch_goes_out_as_ever() {
    let _alone = alone();
    let server = FaultServer::plain([
        answer(Answer::raw("HTTP/1.1 200 OK\r\n\r\n").endless(b"endless ", false)),
        answer(Answer::raw("garbage\r\n\r\n")),
        // More than was announced: the rest must not be taken for the next answer.
        answer(Answer::status(200).announcing(0).body("HTTP/1.1 400 Smuggled\r\ncontent-length: 0\r\n\r\n")),
        accept(),
    ]);
    let client = client_of(&server).build().unwrap();
    let tracer = client.tracer("next");
    for _ in 0..4 {
        tracer.start("span").end();
        client.flush(support::LONG);
    }
    let stats = assert_accounted(&client);
    assert_eq!((stats.exported, stats.dropped.get(DropReason::Refused)), (2, 2), "{stats:?}");
}
