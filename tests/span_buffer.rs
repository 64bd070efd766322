//! Buffers that complete spans are written into, and what is sent of them.
#![cfg(feature = "testing")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    thread,
    time::Duration,
};

use otlp::{
    Client, ClientBuilder, Compression, DropReason, Error, LogLevel, RetryConfig, Scope, SpanBuffer, SpanContext,
    SpanData, SpanId, TraceId,
    config::{PerformanceConfig, ZeroCopyBuffer},
    testing::{Receiver, Response, generate_test_spans},
};
use prost::Message as _;
use support::{LONG, assert_accounted, assert_received, client_of, ids};

type Request = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

fn decode(bytes: &[u8]) -> Request {
    Request::decode(bytes).expect("a valid request")
}

/// The scope and the name of each span, in order.
fn outline(bytes: &[u8]) -> Vec<(String, String)> {
    let scopes = decode(bytes).resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes
        .flat_map(|group| {
            let scope = group.scope.expect("a scope").name;
            group.spans.into_iter().map(move |span| (scope.clone(), span.name))
        })
        .collect()
}

fn span(number: u8, scope: &'static str, name: &'static str) -> SpanData {
    let context = SpanContext::new(TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]), 1, false);
    SpanData::new(context, name).with_scope(scope)
}

fn made(spans: &[SpanData]) -> Vec<support::Ids> {
    spans.iter().map(|span| ids(&span.context)).collect()
}

/// The bodies of the requests over one connection, as they came.
fn raw_bodies() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some((name, value)) = line.trim_end().split_once(": ")
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if length == 0 || reader.read_exact(&mut body).is_err() {
                return;
            }
            let _ = sender.send(body);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    (endpoint, bodies)
}

#[test]
fn the_bytes_that_are_posted_are_those_of_the_buffer() {
    for compression in [Compression::None, Compression::Gzip] {
        let (endpoint, bodies) = raw_bodies();
        let client = Client::builder().with_endpoint(endpoint).with_compression(compression).build().unwrap();
        for count in [1, 1_000] {
            let mut buffer = client.get_zero_copy_buffer();
            buffer.write_spans(&generate_test_spans(count)).unwrap();
            let bytes = buffer.as_bytes().to_vec();
            assert_eq!((buffer.len(), buffer.spans()), (bytes.len(), count as u64));
            assert_eq!(client.send_buffer(buffer).unwrap().accepted, count as u64);
            let mut body = bodies.recv_timeout(LONG).unwrap();
            if compression == Compression::Gzip {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
                assert!(body.len() < plain.len());
                body = plain;
            }
            assert!(body == bytes, "{} bytes, and {}", body.len(), bytes.len());
        }
        let stats = assert_accounted(&client);
        assert_eq!((stats.ended, stats.exported, stats.copied_bytes), (1_001, 1_001, 0));
    }
}

#[test]
fn spans_of_many_scopes_arrive_as_they_were_given_and_stand_with_their_own() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let mut buffer = client.get_zero_copy_buffer();
    buffer.write_spans(&[span(1, "a", "1"), span(2, "b", "2"), span(3, "a", "3")]).unwrap();
    // Goes on with the scope that was last, wherever that stands in the call.
    buffer.write_spans(&[span(4, "a", "4"), span(5, "b", "5"), span(6, "c", "6")]).unwrap();
    let outline: Vec<_> = outline(buffer.as_bytes()).into_iter().map(|(scope, name)| scope + &name).collect();
    assert_eq!(outline, ["a1", "a3", "b2", "b5", "a4", "c6"]);
    let request = decode(buffer.as_bytes());
    assert_eq!((request.resource_spans.len(), request.resource_spans[0].scope_spans.len()), (1, 4));
    let service = request.resource_spans[0].resource.as_ref().unwrap().attributes.iter();
    assert!(service.into_iter().any(|attribute| attribute.key == "service.name"));

    let spans = generate_test_spans(500);
    for part in spans.chunks(70) {
        let mut buffer = client.get_zero_copy_buffer();
        part.iter().for_each(|one| buffer.write_spans(std::slice::from_ref(one)).unwrap());
        client.send_buffer(buffer).unwrap();
    }
    assert_received(&receiver, &made(&spans));
    for received in receiver.spans() {
        let id = &received.span.span_id;
        let given = spans.iter().find(|span| span.context.span_id().to_bytes() == id[..]).unwrap();
        assert_eq!(received.span.name, given.name);
        assert_eq!(Scope::new(received.scope.name.clone()).with_version("1.2.0"), given.scope);
        assert_eq!(received.span.attributes.len(), given.attributes.len());
    }
}

#[test]
fn what_does_not_fit_leaves_the_buffer_as_it_was() {
    let receiver = Receiver::start().unwrap();
    let config = ZeroCopyBuffer::new().with_capacity(10_000);
    let client = client_of(&receiver).with_zero_copy_buffer(config).build().unwrap();
    let mut buffer = client.get_zero_copy_buffer();
    assert_eq!((buffer.capacity(), buffer.len(), buffer.is_empty()), (10_000, 0, true));
    assert!(decode(buffer.as_bytes()).resource_spans.is_empty(), "an empty request is a valid one");
    let spans = generate_test_spans(1_000);
    let mut written = 0;
    let refused = spans.iter().find_map(|span| {
        let before = buffer.as_bytes().to_vec();
        let error = buffer.write_spans(std::slice::from_ref(span)).err()?;
        assert!(buffer.as_bytes() == before);
        Some((error, before.len()))
    });
    written += buffer.spans();
    let (error, len) = refused.expect("1,000 spans take more than 10,000 bytes");
    assert!(matches!(error, Error::BufferFull { capacity: 10_000, left, .. } if left == 10_000 - len), "{error}");
    assert!(len > 9_000 && written > 10, "{len} bytes in use, {written} spans");
    // Several at once, some of which would fit: none of them is written, and lengths read as before.
    let several: Vec<_> = (0..200).map(|number| span(number + 1, "another", "scope")).collect();
    let before = buffer.as_bytes().to_vec();
    assert!(matches!(buffer.write_spans(&several), Err(Error::BufferFull { .. })));
    assert!(buffer.as_bytes() == before);
    assert_eq!((buffer.spans(), outline(buffer.as_bytes()).len() as u64), (written, written));
    assert_eq!(client.send_buffer(buffer).unwrap().accepted, written);
    assert_received(&receiver, &made(&spans[..written as usize]));
}

#[test]
fn spans_without_valid_ids_are_refused_and_nothing_is_written() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let mut buffer = client.get_zero_copy_buffer();
    let error = buffer.write_spans(&[span(1, "a", "fine"), span(0, "a", "not")]).unwrap_err();
    assert!(matches!(error, Error::InvalidSpan { index: 1, .. }), "{error}");
    assert!(buffer.is_empty() && buffer.as_bytes().is_empty());
    assert_eq!(client.send_buffer(buffer).unwrap(), Default::default(), "an empty buffer is sent nowhere");
    assert_eq!((receiver.requests().len(), client.stats().ended), (0, 0));
}

#[test]
fn a_buffer_begins_at_a_multiple_of_its_alignment() {
    let receiver = Receiver::start().unwrap();
    for alignment in [1, 64, 512, 4096] {
        let config = ZeroCopyBuffer::new().with_alignment(alignment).with_capacity(5_000);
        let client = client_of(&receiver).with_zero_copy_buffer(config).build().unwrap();
        let buffers: Vec<_> = (0..5).map(|_| client.get_zero_copy_buffer()).collect();
        for buffer in &buffers {
            assert_eq!(buffer.as_bytes().as_ptr() as usize % alignment, 0, "{buffer:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn writing_into_what_was_prefetched_meets_no_page_fault() {
    use nix::sys::resource::{UsageWho, getrusage};
    let faults = || getrusage(UsageWho::RUSAGE_THREAD).unwrap().minor_page_faults();
    let receiver = Receiver::start().unwrap();
    let spans = generate_test_spans(1_000);
    let while_writing = |prefetch: usize| {
        let config = ZeroCopyBuffer::new().with_prefetch_size(prefetch);
        let client = client_of(&receiver).with_zero_copy_buffer(config).build().unwrap();
        // What encoding itself allocates is there afterwards.
        let warm = client.get_zero_copy_buffer().write_spans(&spans);
        let _other = client.get_zero_copy_buffer();
        let mut buffer = client.get_zero_copy_buffer();
        let before = faults();
        buffer.write_spans(&spans).and(warm).unwrap();
        (faults() - before, buffer.len() as i64 / 4096)
    };
    let ((cold, pages), (warm, _), (half, _)) = (while_writing(0), while_writing(1 << 20), while_writing(64 * 1024));
    assert!(pages > 40, "{pages}");
    assert!(cold >= pages && warm <= 8, "{cold} page faults, and {warm}, for {pages} pages");
    assert!(half >= pages - 16 && half <= cold - 12, "{half} page faults, between {warm} and {cold}");
}

#[test]
fn a_buffer_counts_towards_the_memory_bound_until_it_is_sent_or_dropped() {
    let receiver = Receiver::start().unwrap();
    let config = ZeroCopyBuffer::new().with_capacity(300_000);
    let builder = client_of(&receiver).with_max_memory_usage(1 << 20).with_zero_copy_buffer(config);
    let client = builder.build().unwrap();
    let mapped = 300_000_u64.next_multiple_of(4096);
    let mut buffers = [client.get_zero_copy_buffer(), client.get_zero_copy_buffer()];
    assert_eq!(client.get_memory_stats().buffers, 2 * mapped);
    let mut without = client.get_zero_copy_buffer();
    let refused = without.write_spans(&generate_test_spans(1)).unwrap_err();
    assert!(matches!(refused, Error::NoMemory { needed: 300_000, limit: 1_048_576, .. }), "{refused}");
    assert!(without.is_empty() && client.send_buffer(without).is_ok());
    assert!(buffers.iter_mut().all(|buffer| buffer.write_spans(&generate_test_spans(1)).is_ok()));
    let [sent, dropped] = buffers;
    client.send_buffer(sent).unwrap();
    drop(dropped);
    let memory = client.get_memory_stats();
    assert_eq!((memory.buffers, client.stats().ended), (0, 1), "{memory:?}");
    assert!(client.get_zero_copy_buffer().write_spans(&generate_test_spans(1)).is_ok());
}

#[test]
fn a_buffer_is_used_again_unless_the_memory_pool_is_off() {
    for (enable_memory_pool, compression) in
        [(true, Compression::None), (true, Compression::Gzip), (false, Compression::Gzip)]
    {
        let receiver = Receiver::start().unwrap();
        let performance = PerformanceConfig { enable_memory_pool, ..PerformanceConfig::default() };
        let builder = client_of(&receiver).with_compression(compression).with_performance_config(performance);
        let client = builder.build().unwrap();
        let address = |buffer: &SpanBuffer| buffer.as_bytes().as_ptr() as usize;
        let mut buffer = client.get_zero_copy_buffer();
        let first = address(&buffer);
        buffer.write_spans(&generate_test_spans(100)).unwrap();
        client.send_buffer(buffer).unwrap();
        let memory = client.get_memory_stats();
        assert_eq!((memory.buffers, memory.buffers_idle), (0, if enable_memory_pool { 1 << 20 } else { 0 }));
        let buffer = client.get_zero_copy_buffer();
        assert!(buffer.is_empty() && buffer.as_bytes().is_empty());
        if enable_memory_pool {
            assert_eq!(address(&buffer), first);
        }
        // However many come back, few are kept.
        drop((0..20).map(|_| client.get_zero_copy_buffer()).collect::<Vec<_>>());
        assert!(client.get_memory_stats().buffers_idle <= 4 << 20);
    }
}

#[test]
fn sending_a_buffer_counts_and_answers_as_exporting_spans_does() {
    // RTY-06
    let receiver = Receiver::builder().respond_with(|_| Response::partial_success(7, "too old")).start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let filled = |client: &Client| {
        let mut buffer = client.get_zero_copy_buffer();
        buffer.write_spans(&generate_test_spans(100)).unwrap();
        buffer
    };
    let report = client.send_buffer(filled(&client)).unwrap();
    assert_eq!((report.accepted, report.rejected, report.message.as_str()), (93, 7, "too old"));
    let stats = assert_accounted(&client);
    assert_eq!((stats.exported, stats.dropped.get(DropReason::Rejected)), (93, 7));
    let late = filled(&client);
    client.shutdown(LONG);
    assert!(matches!(client.send_buffer(late), Err(Error::Shutdown)));
    assert_eq!(assert_accounted(&client).ended, 100);
    assert_eq!(client.get_memory_stats().buffers, 0);

    let receiver = Receiver::builder().respond_with(|_| Response::status(400)).start().unwrap();
    let client = client_of(&receiver).with_log_level(LogLevel::None).build().unwrap();
    let refused = client.send_buffer(filled(&client));
    assert!(matches!(refused, Err(Error::Refused { status: 400, .. })), "{refused:?}");
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Refused), 100);
}

#[test]
fn a_buffer_is_sent_again_halved_or_as_gzip_where_the_answer_asks_for_it() {
    sent_again_or_halved(|builder| builder, &[(503, 2), (413, 3), (415, 2)]);
}

#[cfg(feature = "grpc")]
#[test]
fn a_buffer_is_sent_again_or_halved_over_grpc_too() {
    sent_again_or_halved(ClientBuilder::with_grpc_transport, &[(200, 1), (503, 2), (413, 3)]);
}

/// For a first answer of this status there are so many requests, and every span arrives.
fn sent_again_or_halved(transport: fn(ClientBuilder) -> ClientBuilder, statuses: &[(u16, usize)]) {
    let spans = generate_test_spans(100);
    let first_is = |status: u16| {
        let respond = move |request: &otlp::testing::Request| match request.number {
            1 => Response::status(status),
            _ => Response::ok(),
        };
        Receiver::builder().respond_with(respond).start().unwrap()
    };
    for &(status, requests) in statuses {
        let receiver = first_is(status);
        let retry = RetryConfig { initial_interval: Duration::from_millis(1), ..RetryConfig::default() };
        let client = transport(client_of(&receiver))
            .with_compression(Compression::None)
            .with_retry_config(retry)
            .with_log_level(LogLevel::None)
            .build()
            .unwrap();
        let mut buffer = client.get_zero_copy_buffer();
        buffer.write_spans(&spans).unwrap();
        assert_eq!(client.send_buffer(buffer).unwrap().accepted, 100, "{status}");
        assert_eq!(receiver.requests().len(), requests, "{status}");
        assert_eq!(assert_accounted(&client).exported, 100);
        let memory = client.get_memory_stats();
        assert_eq!((memory.buffers, memory.bodies_in_flight), (0, 0), "{status}: {memory:?}");
        if status != 413 {
            assert_eq!(receiver.errors(), Vec::<String>::new());
        }
    }
}

#[test]
fn the_buffer_of_a_disabled_client_takes_everything_and_sends_nothing() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "disabled_in_a_child", "--include-ignored"])
        .env("OTEL_SDK_DISABLED", "true")
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
#[ignore = "run by another test, with an environment of its own"]
fn disabled_in_a_child() {
    let client = Client::builder().build().unwrap();
    let mut buffer = client.get_zero_copy_buffer();
    buffer.write_spans(&generate_test_spans(1_000)).unwrap();
    assert_eq!((buffer.len(), buffer.spans(), buffer.capacity()), (0, 0, 0));
    assert_eq!(client.send_buffer(buffer).unwrap(), Default::default());
    assert_eq!(client.get_memory_stats(), Default::default());
}
