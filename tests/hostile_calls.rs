//! What hostile peers cost over gRPC in memory of the process and in time: the same bounds as over HTTP (`hostile.rs`).
#![cfg(all(feature = "testing", feature = "grpc", target_os = "linux"))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use faults::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE, SETTINGS, block, headers, reset,
    settings, window_update,
};
use otlp::{Client, Compression, DropReason, LogLevel, RetryConfig, testing::generate_test_spans};
use support::assert_accounted;

/// More than one hostile answer may cost: the process itself grows by some of it.
const MEMORY: u64 = 16 << 20;
/// The time of a batch.
const TIMEOUT: Duration = Duration::from_secs(6);

const HEAD: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];

/// A line of `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// The server's end, whose settings are sent and which has read the head of the client's first call.
fn met(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&settings(&[]).bytes()).unwrap();
    let (mut input, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let mut has_preface = false;
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the client went away before it had called");
        input.extend_from_slice(&buffer[..read]);
        if !has_preface && input.len() >= PREFACE.len() {
            has_preface = input.drain(..PREFACE.len()).eq(PREFACE.iter().copied());
            assert!(has_preface);
        }
        while has_preface && let Some(frame) = Frame::take(&mut input) {
            assert!([SETTINGS, HEADERS].contains(&frame.kind) || frame.kind == DATA, "{frame:?}");
            if frame.kind == HEADERS {
                return stream;
            }
        }
    }
}

/// What a peer costs that plays so to the first call and is gone afterwards, which nobody waits for.
#[track_caller]
fn costs_little(what: &str, limit: Duration, play: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut stream = met(&listener);
        // What is still on its way in is read, so that the client's frames never stop for want of room.
        let mut reading = stream.try_clone().unwrap();
        thread::spawn(move || io::copy(&mut reading, &mut io::sink()));
        // It ends when the client has gone away.
        while play(&mut stream).is_ok() {}
    });
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, begun) = (memory("VmRSS"), Instant::now());
    let client = Client::builder()
        .with_grpc_transport()
        .with_endpoint(format!("http://{address}"))
        .with_compression(Compression::None)
        .with_request_timeout(TIMEOUT)
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
        .with_log_level(LogLevel::None)
        .build()
        .unwrap();
    let sent = client.export_spans(generate_test_spans(3)).map(drop);
    let (took, grown) = (begun.elapsed(), memory("VmHWM").saturating_sub(before));
    println!("{what}: {took:?}, {} KiB, {sent:?}", grown >> 10);
    assert!(sent.is_err(), "{what}");
    let stats = assert_accounted(&client);
    assert_eq!(stats.dropped.total(), 3, "{what}: {stats:?}");
    assert_eq!(stats.dropped.get(DropReason::Panicked), 0, "{what}");
    drop(client);
    server.join().unwrap();
    assert!(grown < MEMORY, "{what}: {grown} bytes");
    assert!(took < limit, "{what}: {took:?}");
}

/// One test, because it measures the memory of the process.
#[test]
fn a_hostile_peer_costs_bounded_memory_and_what_is_recognised_ends_at_once() {
    let soon = TIMEOUT / 2;
    let many = |frame: Frame| frame.bytes().repeat(1_000);
    let resizing = [&[0x20, 0x3f, 0xe1, 0x1f].repeat(32)[..], &block(&[(":status", "103")])].concat();
    for (what, flood) in [
        ("pings", many(Frame::new(PING, 0, 0, [7; 8]))),
        ("settings", many(settings(&[(4, 1), (5, 16_384), (3, 1)]))),
        ("large settings", Frame::new(SETTINGS, 0, 0, [0, 99, 0, 0, 0, 1].repeat(2_000)).bytes()),
        ("windows", many(window_update(0, 1))),
        ("interim answers", many(headers(1, false, &[(":status", "103"), ("link", "</style.css>")]))),
        ("resets of a stream that never was", many(reset(99, 8))),
        ("unknown frames of full size", Frame::new(0xbe, 0, 0, vec![0; 16_384]).bytes()),
        (
            "windows that open and close",
            [settings(&[(4, 0)]), settings(&[(4, (1 << 31) - 1)])].map(|f| f.bytes()).concat(),
        ),
        ("frames that are too large", Frame::new(DATA, 0, 1, vec![0; 1 << 20]).bytes()),
        ("data in front of its head", Frame::new(DATA, 0, 1, vec![0; 16_384]).bytes()),
        ("a table that is resized for ever", many(Frame::new(HEADERS, END_HEADERS, 1, resizing))),
        (
            "an index of nothing",
            Frame::new(HEADERS, END_HEADERS, 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes(),
        ),
    ] {
        costs_little(what, soon, move |stream| stream.write_all(&flood));
    }
    let begun = |fields: &[(&str, &str)]| Frame::new(HEADERS, 0, 1, block(fields)).bytes();
    let head = begun(&HEAD);
    for (what, part) in [
        ("continuations of full size", Frame::new(CONTINUATION, 0, 1, vec![0x88; 16_384]).bytes()),
        ("continuations of a byte", many(Frame::new(CONTINUATION, 0, 1, [0x88]))),
        ("continuations of nothing", many(Frame::new(CONTINUATION, 0, 1, []))),
    ] {
        let head = head.clone();
        costs_little(what, soon, move |stream| {
            stream.write_all(&head)?;
            loop {
                stream.write_all(&part)?;
            }
        });
    }
    // An entry of 4,000 bytes, remembered and then repeated 12,000 times: 48 MB in 16 KiB.
    let mut bomb = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    bomb.extend([b'y'; 4_000]);
    bomb.extend([0xbe; 12_000]);
    costs_little("a small block that stands for much", soon, move |stream| {
        stream.write_all(&Frame::new(HEADERS, END_HEADERS, 1, &bomb[..]).bytes())
    });
    // Blocks that each stay within what is read, for ever: trailers end the call, interim answers do not.
    costs_little("large interim answers", soon, move |stream| {
        stream.write_all(&headers(1, false, &[(":status", "103"), ("x", &"y".repeat(15_000))]).bytes())
    });
    // An answer without end: as much is read as is kept. The credit is given anew, so only the bound ends it.
    costs_little("an endless answer", soon, move |stream| {
        stream.write_all(&headers(1, false, &HEAD).bytes())?;
        loop {
            // Slowly enough for the room to come.
            stream.write_all(&Frame::new(DATA, 0, 1, [7; 8_000]).bytes())?;
            thread::sleep(Duration::from_millis(1));
        }
    });
    // Whatever goes on at a pace that no count of frames notices ends with the time of the batch.
    costs_little("a trickle", TIMEOUT * 2, move |stream| {
        let head = headers(1, false, &HEAD).bytes();
        for byte in head.iter().chain(Frame::new(DATA, END_STREAM, 1, [0; 4]).bytes()[..9].iter()) {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    });
}
