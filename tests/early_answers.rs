//! Answers that come while a large body is still being written: they count at once, whether or not the rest is read.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use faults::{After, Answer, Authority, Extent, FaultServer, accept, answer_after};
use otlp::{BatchConfig, Client, ClientBuilder, Compression, DropReason, LogLevel, RetryConfig};
use support::{LONG, assert_accounted, ids};

/// What every one of these would take if an answer were looked for only when all is sent.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longer than a write waits before it looks whether something has come.
const PAUSE: Duration = Duration::from_millis(300);

fn client_at(endpoint: String) -> ClientBuilder {
    let batch_timeout = Duration::from_secs(3_600);
    Client::builder()
        .with_endpoint(endpoint)
        .with_log_level(LogLevel::None)
        .with_compression(Compression::None)
        .with_request_timeout(TIMEOUT)
        .with_batch_config(BatchConfig { batch_timeout, ..BatchConfig::default() })
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
}

/// Ends one span that is larger than what sockets take unread.
fn large(client: &Client) -> support::Ids {
    let mut span = client.tracer("large").start("span");
    for key in ["a", "b", "c", "d"] {
        span.set_attribute(key, "x".repeat(2 << 20).as_str());
    }
    ids(&span.context())
}

#[test]
fn an_answer_counts_though_nothing_more_is_read_and_the_connection_stays_open() {
    let authority = Authority::new();
    let trusted = authority.file("ca.pem", authority.certificate());
    for is_tls in [false, true] {
        for (status, reason) in
            [(413, DropReason::TooLarge), (400, DropReason::Refused), (503, DropReason::Undelivered)]
        {
            let refusing = answer_after(Extent::Head, Answer::status(status).body("no").then(After::Stall));
            let server = match is_tls {
                true => FaultServer::tls(authority.server(), [refusing, accept()]),
                false => FaultServer::plain([refusing, accept()]),
            };
            let client = client_at(server.endpoint()).with_certificate(&trusted).build().unwrap();
            let begun = Instant::now();
            large(&client);
            client.flush(LONG);
            assert!(begun.elapsed() < TIMEOUT / 2, "TLS {is_tls}, {status}: {:?}", begun.elapsed());
            assert_eq!(assert_accounted(&client).dropped.get(reason), 1, "TLS {is_tls}, {status}");
            // Where half a request went, nothing else goes.
            let next = ids(&client.tracer("next").start("span").context());
            client.flush(LONG);
            assert_eq!((server.arrived(), server.connections()), (vec![next], 2), "TLS {is_tls}, {status}");
        }
    }
}

/// Carries bytes between a client and `receiver`; those of the client's only after a pause, once it has sent so many.
fn pausing(receiver: SocketAddr, after: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut inner, _) = listener.accept().unwrap();
        let mut outer = TcpStream::connect(receiver).unwrap();
        let (mut back, mut answers) = (inner.try_clone().unwrap(), outer.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let (mut carried, mut buffer) = (0, [0; 4096]);
        while carried < after {
            let amount = inner.read(&mut buffer).unwrap();
            outer.write_all(&buffer[..amount]).unwrap();
            carried += amount;
        }
        thread::sleep(PAUSE);
        let _ = std::io::copy(&mut inner, &mut outer);
    });
    address
}

#[test]
fn what_tls_says_of_itself_is_no_answer() {
    // Tickets for later sessions come while the body is on its way.
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let port = server.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let address = pausing((Ipv4Addr::LOCALHOST, port).into(), 64 << 10);
    let builder = client_at(format!("https://localhost:{}", address.port()));
    let client = builder.with_certificate(authority.file("ca.pem", authority.certificate())).build().unwrap();
    let sent = large(&client);
    let receipt = client.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(server.arrived(), [sent]);
    assert_accounted(&client);
}

#[test]
fn an_interim_answer_ends_no_request() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let receiving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        for early in ["HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Con", "tinue\r\n\r\n"] {
            stream.write_all(early.as_bytes()).unwrap();
            thread::sleep(PAUSE);
        }
        let read = std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert_eq!(read, length);
    });
    let client = client_at(endpoint).build().unwrap();
    large(&client);
    let receipt = client.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    receiving.join().unwrap();
    assert_eq!(assert_accounted(&client).exported, 1);
}
