//! A receiver that takes a request slowly: at exit that is progress, and for a request's time it is no excuse.
#![cfg(feature = "testing")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use otlp::{BatchConfig, Client, ClientBuilder, Compression, DropReason, ExitBudget, RetryConfig};
use support::{LONG, assert_accounted};

/// Far more than fits into the buffers between two sockets.
const SPANS: usize = 24;
const SPAN_BYTES: usize = 2 << 20;

/// Listens, and reads at most so many bytes at a time from the first connection, with a pause after each; answers when
/// it has the whole request. Ends when the other side does.
fn slow_receiver(bytes: usize, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; bytes];
        let (mut head, mut left) = (Vec::new(), None);
        // What never sends holds the time between two reads.
        let (_hold, time) = mpsc::channel::<()>();
        while left != Some(0) {
            let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
            left = match left {
                Some(left) => Some(left - read),
                None => {
                    head.extend_from_slice(&buffer[..read]);
                    body_left(&head)
                }
            };
            let _ = time.recv_timeout(pause);
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.read(&mut buffer);
    });
    endpoint
}

/// How much of the body is missing, once the head is complete.
fn body_left(head: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (head_text, _) = text.split_once("\r\n\r\n")?;
    let length: usize = head_text.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    Some(head_text.len() + 4 + length - head.len())
}

/// One large request, as it is, and no other attempt.
fn client_at(endpoint: String) -> ClientBuilder {
    Client::builder()
        .with_endpoint(endpoint)
        .with_compression(Compression::None)
        .with_max_memory_usage(512 << 20)
        .with_batch_config(BatchConfig { max_batch_bytes: 64 << 20, ..BatchConfig::default() })
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
}

fn record(client: &Client) {
    let tracer = client.tracer("large");
    let text = "x".repeat(SPAN_BYTES);
    for _ in 0..SPANS {
        tracer.start("large").set_attribute("text", text.as_str());
    }
}

#[test]
fn a_receiver_that_takes_bytes_slowly_is_waited_for_at_exit() {
    // About 1.5 s in all. What fits into the buffers between the sockets, some 10 MiB, is taken in less than a stall.
    let endpoint = slow_receiver(1 << 20, Duration::from_millis(30));
    let stall = Duration::from_millis(700);
    let client = client_at(endpoint).with_exit_budget(ExitBudget { stall, total: LONG }).build().unwrap();
    record(&client);
    let begun = Instant::now();
    let receipt = client.close();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert!(begun.elapsed() > stall, "it was not slow: {:?}", begun.elapsed());
    assert_accounted(&client);
}

#[test]
fn a_receiver_that_takes_bytes_slowly_does_not_prolong_the_time_of_a_request() {
    let endpoint = slow_receiver(1 << 10, Duration::from_millis(20));
    let timeout = Duration::from_millis(400);
    let client = client_at(endpoint).with_request_timeout(timeout).build().unwrap();
    record(&client);
    let begun = Instant::now();
    let receipt = client.flush(LONG);
    let took = begun.elapsed();
    assert_eq!(receipt.dropped.get(DropReason::Undelivered), SPANS as u64, "{receipt:?}");
    // At that pace the body would take minutes.
    assert!(took >= timeout && took < LONG / 2, "{took:?}");
    assert_accounted(&client);
}
