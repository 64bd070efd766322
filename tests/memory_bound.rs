//! The bound on memory is hard: whatever a program does at once, its process grows by no more than the bound and a small
//! constant. Measured in child processes, whose receivers live in the test's own.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;
mod support;

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression as Level, Crc, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span as Received},
};
use otlp::{
    Client, ClientBuilder, Compression, Error, KeyValue, LogLevel, RetryConfig, SpanContext, SpanData, SpanId,
    SpoolConfig, TraceId, Value, config::ZeroCopyBuffer, testing::Receiver,
};
use prost::Message as _;
use support::{LONG, SpoolDir, assert_accounted, wait_for};

const MIB: usize = 1 << 20;
/// What the process takes beside the bound: as `docs/limits.md` says.
const BESIDE: usize = 8 * MIB;

const ENDPOINT: &str = "OTLP_TEST_RECEIVER";
const BOUND: &str = "OTLP_TEST_BOUND";
const SPANS: &str = "OTLP_TEST_SPANS";
const BYTES: &str = "OTLP_TEST_BYTES";
const THREADS: &str = "OTLP_TEST_THREADS";
const DIR: &str = "OTLP_TEST_DIR";
const WAY: &str = "OTLP_TEST_WAY";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match child::role().as_deref() {
        Some("open") => hold_large_spans_open(),
        Some("direct") => export_at_once(),
        Some("spool") => restore(),
        Some("mix") => do_everything_at_once(),
        _ => {}
    }
}

fn given(name: &str) -> usize {
    env::var(name).unwrap().parse().unwrap()
}

fn builder() -> ClientBuilder {
    Client::builder()
        .with_endpoint(env::var(ENDPOINT).unwrap())
        .with_service_name("test")
        .with_max_memory_usage(given(BOUND))
}

/// How much the process has grown at most since this was made.
struct Growth(usize);

impl Growth {
    fn from_now_on() -> Self {
        let before = Self::of("VmRSS:");
        fs::write("/proc/self/clear_refs", "5").expect("the peak is what there is now");
        Self(before)
    }

    fn of(name: &str) -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Checks it, and tells the test.
    #[track_caller]
    fn check(self) {
        let (grown, bound) = (Self::of("VmHWM:").saturating_sub(self.0), given(BOUND));
        println!("\ngrown by {:.1} MiB, bound {:.1} MiB", grown as f64 / MIB as f64, bound as f64 / MIB as f64);
        assert!(grown <= bound + BESIDE, "grown by {grown} bytes within a bound of {bound}");
    }
}

/// Bytes that do not compress.
fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn complete(number: u64, bytes: &'static [u8]) -> SpanData {
    let context =
        SpanContext::new(TraceId::from_bytes([7; 16]), SpanId::from_bytes((number + 1).to_be_bytes()), 1, false);
    let mut span = SpanData::new(context, "complete");
    span.attributes.push(KeyValue::new("noise", Value::Bytes(bytes.into())));
    span
}

fn hold_large_spans_open() {
    let (spans, noise) = (given(SPANS), noise(given(BYTES), 1));
    let growth = Growth::from_now_on();
    let client = builder().with_log_level(LogLevel::None).build().unwrap();
    let tracer = client.tracer("test");
    let mut open: Vec<_> = (0..spans).map(|_| tracer.start("large")).collect();
    for span in &mut open {
        span.set_attribute("noise", &noise[..]);
        span.add_event("event", []);
        let memory = client.get_memory_stats();
        assert!(memory.used <= memory.limit, "{memory:?}");
    }
    for span in open {
        span.end();
    }
    client.flush(LONG);
    growth.check();
    let stats = assert_accounted(&client);
    // Each is in one place, and some had no room.
    assert_eq!((stats.ended, stats.queued), (spans as u64, 0), "{stats:?}");
    assert!(stats.no_memory + stats.dropped.total() > 0 && stats.exported > 0, "{stats:?}");
    println!("\nno_memory {}", stats.no_memory);
    client.shutdown(LONG);
    assert_eq!(client.get_memory_stats().bodies_waiting, 0);
}

/// Runs a child to its end, and says what it said.
#[track_caller]
fn run(role: &str, variables: &[(&str, &str)]) -> String {
    let begun = Instant::now();
    let output = child::run(role, variables);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let grown = said.lines().find(|line| line.starts_with("grown")).unwrap_or("?");
    eprintln!("{role} {variables:?}: {grown}, {:?}", begun.elapsed());
    assert!(output.status.success(), "{role} {variables:?}\n{said}\n{}", child::stderr(&output));
    said
}

#[test]
fn open_spans_that_do_not_fit_go_out_without_what_there_was_no_room_for() {
    for (bound, spans, bytes) in [(64 * MIB, 200, 4_000_000), (64 * MIB, 10_000, 20_000), (MIB, 200, 1_000_000)] {
        let receiver = Receiver::start().unwrap();
        let (bound, spans, bytes) = (bound.to_string(), spans.to_string(), bytes.to_string());
        let endpoint = receiver.endpoint();
        let said = run("open", &[(ENDPOINT, &endpoint), (BOUND, &bound), (SPANS, &spans), (BYTES, &bytes)]);
        let mut lacking = 0;
        for span in receiver.spans().into_iter().map(|received| received.span) {
            let (has, dropped) = (span.attributes.len(), span.dropped_attributes_count);
            assert_eq!(has as u32 + dropped, 1, "{}", span.name);
            // A whole value or none: what is cut says something else.
            lacking += dropped;
        }
        assert!(said.contains(&format!("no_memory {lacking}\n")) || lacking == 0, "{lacking}: {said}");
    }
}

fn export_at_once() {
    let (threads, bytes) = (given(THREADS), given(BYTES));
    let noise: &'static [u8] = noise(bytes, 2).leak();
    let begin = Arc::new(Barrier::new(threads + 1));
    let (give, take) = mpsc::channel::<Client>();
    let take = Arc::new(std::sync::Mutex::new(take));
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let calling: Vec<_> = (0..threads)
        .map(|thread| {
            let (begin, take) = (Arc::clone(&begin), Arc::clone(&take));
            let (accepted, refused) = (Arc::clone(&accepted), Arc::clone(&refused));
            thread::spawn(move || {
                // What its allocator sets aside for a thread is there before it is measured.
                drop(std::hint::black_box(vec![0; 1024]));
                begin.wait();
                let client = take.lock().unwrap().recv().unwrap();
                match client.export_spans([complete(thread as u64, noise)]) {
                    Ok(report) => accepted.fetch_add(report.accepted, Ordering::SeqCst),
                    Err(error @ Error::NoMemory { .. }) => {
                        let text = error.to_string();
                        assert!(text.contains("max_memory_usage") && text.contains("OTLP_MAX_MEMORY_USAGE"), "{text}");
                        refused.fetch_add(1, Ordering::SeqCst)
                    }
                    Err(error) => panic!("{error}"),
                };
            })
        })
        .collect();
    begin.wait();
    let growth = Growth::from_now_on();
    let client = builder().with_request_timeout(LONG).build().unwrap();
    (0..threads).for_each(|_| give.send(client.clone()).unwrap());
    calling.into_iter().for_each(|thread| thread.join().unwrap());
    growth.check();
    let stats = assert_accounted(&client);
    let (accepted, refused) = (accepted.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    assert_eq!((stats.ended, stats.exported), (threads as u64, accepted), "{stats:?}");
    assert_eq!(stats.dropped.get(otlp::DropReason::QueueFull), refused);
    assert_eq!(client.get_memory_stats().bodies_in_flight, 0);
    println!("\naccepted {accepted}");
}

#[test]
fn spans_that_are_sent_directly_wait_for_room_or_are_an_error_that_says_so() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.endpoint();
    for (bound, bytes, accepted) in [(MIB, 3_900_000, 0), (MIB, 100_000, 40), (16 * MIB, 3_900_000, 40)] {
        let (bound, bytes) = (bound.to_string(), bytes.to_string());
        let said = run("direct", &[(ENDPOINT, &endpoint), (BOUND, &bound), (BYTES, &bytes), (THREADS, "40")]);
        assert!(said.contains(&format!("accepted {accepted}\n")), "{said}");
    }
}

/// A spooled file with `spans` spans of `bytes` bytes each, in place of the one that is there.
fn inflate_the_only_file(dir: &SpoolDir, spans: usize, bytes: usize, is_honest: bool) {
    let [path] = &dir.bodies()[..] else { panic!("{:?}", dir.bodies()) };
    let span = |name: String| Received { trace_id: vec![1; 16], span_id: vec![2; 8], name, ..Received::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span("s".repeat(bytes))], ..ScopeSpans::default() }];
    let resource_spans = ResourceSpans { scope_spans, ..ResourceSpans::default() };
    let one = ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec();
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    (0..spans).for_each(|_| encoder.write_all(&one).unwrap());
    let body = encoder.finish().unwrap();
    let crc = |bytes: &[u8]| {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let old = fs::read(path).unwrap();
    let mut file = old[..44].to_vec();
    let uncompressed = if is_honest { one.len() * spans } else { one.len() * spans / 2 };
    file[8] = 1;
    file[12..20].copy_from_slice(&(spans as u64).to_le_bytes());
    file[20..28].copy_from_slice(&(uncompressed as u64).to_le_bytes());
    file[28..36].copy_from_slice(&(body.len() as u64).to_le_bytes());
    file[36..40].copy_from_slice(&crc(&body));
    let sum = crc(&file[..40]);
    file[40..44].copy_from_slice(&sum);
    fs::write(path, [file, body].concat()).unwrap();
}

fn spool_in(dir: &str) -> SpoolConfig {
    SpoolConfig { dir: Some(dir.into()), ..SpoolConfig::default() }
}

/// Has one file written into the spool.
fn spool_one(endpoint: &str, dir: &SpoolDir) {
    let retry = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
    let client = Client::builder().with_endpoint(endpoint).with_spool_config(spool_in(dir.path().to_str().unwrap()));
    let client = client.with_retry_config(retry).with_log_level(LogLevel::None).build().unwrap();
    client.tracer("test").start("span").end();
    assert_eq!(client.shutdown(LONG).spooled, 1);
}

fn restore() {
    let growth = Growth::from_now_on();
    let dir = env::var(DIR).unwrap();
    let client = builder().with_spool_config(spool_in(&dir)).build().unwrap();
    client.tracer("test").start("own").end();
    client.flush(LONG);
    let is_empty = || {
        let lanes = fs::read_dir(&dir).unwrap().flatten();
        let files = lanes.flat_map(|lane| fs::read_dir(lane.path()).unwrap().flatten());
        files.filter(|file| file.path().extension().is_some_and(|extension| extension == "otlp")).count() == 0
    };
    wait_for("the spool to be empty", is_empty);
    growth.check();
    client.shutdown(LONG);
    let stats = assert_accounted(&client);
    println!("\nexported {} restored {} dropped {:?}", stats.exported, stats.restored, stats.dropped);
}

#[test]
fn a_spooled_file_that_inflates_to_many_times_the_bound_is_halved_piece_by_piece_and_arrives() {
    let (server, dir) = (Server::start(|_| Answer::Accept), SpoolDir::new());
    server.refuse();
    spool_one(&server.endpoint, &dir);
    server.accept();
    inflate_the_only_file(&dir, 120, MIB, true);
    let bound = (16 * MIB).to_string();
    let path = dir.path().to_str().unwrap().to_owned();
    let said = run("spool", &[(ENDPOINT, &server.endpoint), (BOUND, &bound), (DIR, &path)]);
    assert!(said.contains("exported 121 restored 120 dropped {}"), "{said}");
    assert!(dir.files("damaged").is_empty());
}

#[test]
fn a_spooled_file_that_inflates_to_more_than_it_says_is_set_aside() {
    let (server, dir) = (Server::start(|_| Answer::Accept), SpoolDir::new());
    server.refuse();
    spool_one(&server.endpoint, &dir);
    server.accept();
    inflate_the_only_file(&dir, 140, MIB, false);
    let bound = (16 * MIB).to_string();
    let path = dir.path().to_str().unwrap().to_owned();
    let variables = [(ENDPOINT, server.endpoint.as_str()), (BOUND, &bound), (DIR, &path)];
    let output = child::run("spool", &variables);
    let said = child::said(&output);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", child::stderr(&output));
    assert!(stdout.contains("exported 1 restored 0 dropped {}"), "{stdout}");
    let aside: Vec<_> = said.iter().filter(|line| line.contains("set aside")).collect();
    assert!(matches!(&aside[..], [line] if line.contains("max_request_bytes")), "{said:?}");
    assert_eq!((dir.bodies().len(), dir.files("damaged").len()), (0, 1));
}

/// Threads that each do one thing, over and over.
const PARTS: usize = 8;
const MIX_TIME: Duration = Duration::from_millis(2500);

fn do_everything_at_once() {
    let noise: &'static [u8] = noise(3 * MIB, 3).leak();
    let bound = given(BOUND);
    let begin = Arc::new(Barrier::new(PARTS + 1));
    let (give, take) = mpsc::channel::<Client>();
    let take = Arc::new(std::sync::Mutex::new(take));
    let numbers = Arc::new(AtomicU64::new(0));
    let parts: Vec<_> = (0..PARTS)
        .map(|part| {
            let (begin, take, numbers) = (Arc::clone(&begin), Arc::clone(&take), Arc::clone(&numbers));
            thread::spawn(move || {
                drop(std::hint::black_box(vec![0; 1024]));
                begin.wait();
                let client = take.lock().unwrap().recv().unwrap();
                let (tracer, end) = (client.tracer("test"), Instant::now() + MIX_TIME);
                let mut turn = part;
                while Instant::now() < end {
                    turn += 1;
                    let piece = |turn: usize, most: usize| &noise[..turn.wrapping_mul(7_919 * 131) % most.min(3 * MIB)];
                    match part {
                        // Open spans that grow, several at once, of which few fit.
                        0 | 1 => {
                            let mut open: Vec<_> = (0..8).map(|_| tracer.start("open")).collect();
                            for at in 0..3 {
                                for span in &mut open {
                                    span.set_attribute(["a", "b", "c"][at], piece(turn, bound / 6));
                                }
                                turn += 1;
                            }
                        }
                        // Rings.
                        2 | 3 => {
                            for number in 0..2000_i64 {
                                let mut span = tracer.start("small");
                                span.set_attribute("number", number);
                                span.set_attribute("noise", &noise[number as usize * 300..][..200 + part]);
                            }
                        }
                        4..=6 => {
                            let number = || numbers.fetch_add(1, Ordering::SeqCst);
                            let spans: Vec<_> =
                                (0..turn % 5 + 1).map(|_| complete(number(), piece(turn, bound / 4))).collect();
                            let _ = client.export_spans(spans);
                        }
                        _ => {
                            let mut buffer = client.get_zero_copy_buffer();
                            let number = numbers.fetch_add(1, Ordering::SeqCst);
                            let _ = buffer.write_spans(&[complete(number, piece(turn, bound / 8))]);
                            let _ = client.send_buffer(buffer);
                        }
                    }
                }
            })
        })
        .collect();
    begin.wait();
    let growth = Growth::from_now_on();
    let compression = match env::var(WAY).unwrap().as_str() {
        "zstd" => Compression::Zstd,
        "none" => Compression::None,
        _ => Compression::Gzip,
    };
    let client = builder()
        .with_compression(compression)
        .with_worker_count(4)
        .with_request_timeout(Duration::from_millis(300))
        .with_spool_config(spool_in(&env::var(DIR).unwrap()))
        .with_zero_copy_buffer(ZeroCopyBuffer::new().with_capacity(bound / 8))
        .with_log_level(LogLevel::None)
        .build()
        .unwrap();
    (0..PARTS).for_each(|_| give.send(client.clone()).unwrap());
    parts.into_iter().for_each(|part| part.join().unwrap());
    let memory = client.get_memory_stats();
    client.shutdown(Duration::from_millis(500));
    growth.check();
    let stats = assert_accounted(&client);
    println!("\n{stats:?}\n{memory:?}");
    assert!(stats.exported > 0 && stats.queued == 0, "{stats:?}");
}

/// How much a process grows that holds open spans, fills rings, sends directly, from buffers and out of the spool, all at
/// once, towards a receiver that answers now and then.
#[track_caller]
fn mix(way: &str) {
    for bound in [MIB, 16 * MIB, 64 * MIB] {
        let dir = SpoolDir::new();
        let server = Server::start(|_| Answer::Accept);
        server.refuse();
        spool_one(&server.endpoint, &dir);
        inflate_the_only_file(&dir, 64, MIB, true);
        server.answer(|number| match number % 4 {
            0 => Answer::Nothing,
            1 => Answer::Refuse,
            _ => Answer::Accept,
        });
        let (bound, path) = (bound.to_string(), dir.path().to_str().unwrap().to_owned());
        run("mix", &[(ENDPOINT, &server.endpoint), (BOUND, &bound), (DIR, &path), (WAY, way)]);
    }
}

#[test]
fn everything_at_once_stays_within_the_bound_with_gzip() {
    mix("gzip");
}

#[test]
fn everything_at_once_stays_within_the_bound_without_compression() {
    mix("none");
}

#[cfg(feature = "zstd")]
#[test]
fn everything_at_once_stays_within_the_bound_with_zstd() {
    mix("zstd");
}

#[derive(Clone, Copy)]
enum Answer {
    Accept,
    Refuse,
    /// The request is read, and never answered.
    Nothing,
}

type Answers = Box<dyn Fn(usize) -> Answer + Send>;

/// A receiver that looks into no request, and so keeps up with large ones.
struct Server {
    endpoint: String,
    answers: Arc<std::sync::Mutex<Answers>>,
}

impl Server {
    fn start(answers: impl Fn(usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answers: Arc<std::sync::Mutex<Answers>> = Arc::new(std::sync::Mutex::new(Box::new(answers)));
        let (number, shared) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&answers));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (number, answers) = (Arc::clone(&number), Arc::clone(&shared));
                thread::spawn(move || _ = Self::serve(stream, &number, &answers));
            }
        });
        Self { endpoint, answers }
    }

    fn answer(&self, answers: impl Fn(usize) -> Answer + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    fn accept(&self) {
        self.answer(|_| Answer::Accept);
    }

    fn refuse(&self) {
        self.answer(|_| Answer::Refuse);
    }

    fn serve(mut stream: TcpStream, number: &AtomicUsize, answers: &std::sync::Mutex<Answers>) -> std::io::Result<()> {
        let (mut input, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let head = loop {
                if let Some(head) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                    break head;
                }
                match stream.read(&mut piece)? {
                    0 => return Ok(()),
                    read => input.extend_from_slice(&piece[..read]),
                }
            };
            let text = String::from_utf8_lossy(&input[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut left = (head + 4 + length.trim().parse::<usize>().unwrap()) as i64 - input.len() as i64;
            input.clear();
            while left > 0 {
                match stream.read(&mut piece)? {
                    0 => return Ok(()),
                    read => left -= read as i64,
                }
            }
            let answer = (answers.lock().unwrap())(number.fetch_add(1, Ordering::SeqCst));
            match answer {
                Answer::Accept => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
                Answer::Refuse => {
                    stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
                }
                Answer::Nothing => {
                    while stream.read(&mut piece)? > 0 {}
                    return Ok(());
                }
            }
        }
    }
}
