//! The spool within one process: what goes there instead of being lost, and how it comes back.
#![cfg(feature = "testing")]

mod support;

use std::{
    fs,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, Client, ClientBuilder, DropReason, RetryConfig, SpanContext, SpanData, SpanId, SpoolConfig, TraceId,
    testing::{Receiver, Request, Response},
};
use support::{
    Ids, Keeper, LONG, SpoolDir, assert_accounted, assert_received, client_of, gate, ids, shortest, wait_for,
};

/// A receiver that answers every request with a status of the test's choosing.
struct Scripted {
    receiver: Receiver,
    status: Arc<AtomicU16>,
}

impl Scripted {
    fn new(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let answer = Arc::clone(&status);
        let respond = move |_: &Request| match answer.load(Ordering::SeqCst) {
            200 => Response::ok(),
            status => Response::status(status),
        };
        Self { receiver: Receiver::builder().respond_with(respond).start().unwrap(), status }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn spool_in(dir: &SpoolDir) -> SpoolConfig {
    SpoolConfig { dir: Some(dir.path().to_owned()), ..SpoolConfig::default() }
}

/// A client that gives up after one attempt.
fn client(receiver: &Receiver, dir: &SpoolDir) -> ClientBuilder {
    let once = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
    client_of(receiver).with_retry_config(once).with_spool_config(spool_in(dir)).with_log_level(otlp::LogLevel::None)
}

fn record(client: &Client, spans: usize) -> Vec<Ids> {
    let tracer = client.tracer("spool");
    (0..spans).map(|_| ids(&tracer.start("span").context())).collect()
}

/// Records and delivers one span, so that the client has something to do and its workers exist.
fn deliver_one(client: &Client) -> Vec<Ids> {
    let made = record(client, 1);
    client.flush(LONG);
    made
}

#[test]
fn a_later_client_delivers_what_could_not_be_delivered_exactly_once() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let first = client(&collector.receiver, &dir).build().unwrap();
    let mut made = record(&first, 1_000);
    let receipt = first.shutdown(LONG);
    assert_eq!((receipt.spooled, receipt.dropped_total(), receipt.pending), (1_000, 0, 0), "{receipt:?}");
    assert!(!receipt.is_complete(), "it has not arrived");
    let stats = assert_accounted(&first);
    assert_eq!((stats.ended, stats.spooled, stats.queued), (1_000, 1_000, 0));
    assert!(!dir.bodies().is_empty());

    collector.answers(200);
    let second = client(&collector.receiver, &dir).build().unwrap();
    made.extend(record(&second, 10));
    let receipt = second.shutdown(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    let stats = assert_accounted(&second);
    assert_eq!((stats.ended, stats.restored, stats.exported, stats.spooled), (10, 1_000, 1_010, 0));
    assert_received(&collector.receiver, &made);
    assert_eq!(dir.bodies().len(), 0);
}

#[cfg(unix)]
#[test]
fn what_is_written_is_for_the_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let client = client(&collector.receiver, &dir).build().unwrap();
    record(&client, 1);
    client.shutdown(LONG);
    let body = &dir.bodies()[0];
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(body.as_path()), mode(body.parent().unwrap()), mode(dir.path())), (0o600, 0o700, 0o700));
}

#[test]
fn once_the_collector_is_back_the_same_client_delivers_what_it_had_written() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let client = client(&collector.receiver, &dir).build().unwrap();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.extend(record(&client, 20));
        client.flush(LONG);
    }
    let stats = assert_accounted(&client);
    assert_eq!((stats.spooled, stats.dropped.total(), stats.restored), (100, 0, 0));
    collector.answers(200);
    made.extend(deliver_one(&client));
    assert!(collector.receiver.wait_for_spans(101, LONG));
    wait_for("the last answer", || client.stats().exported == 101);
    let stats = assert_accounted(&client);
    assert_eq!((stats.spooled, stats.restored), (0, 0), "what is one's own is not restored from others");
    let receipt = client.shutdown(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_received(&collector.receiver, &made);
}

#[test]
fn a_client_without_a_spool_directory_writes_nothing() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let config = SpoolConfig { dir: None, ..spool_in(&dir) };
    let client = client(&collector.receiver, &dir).with_spool_config(config).build().unwrap();
    record(&client, 3);
    let receipt = client.shutdown(LONG);
    assert_eq!((receipt.spooled, receipt.dropped.get(DropReason::Undelivered)), (0, 3));
    assert!(!dir.path().exists());
}

#[test]
fn a_client_that_records_nothing_leaves_the_spool_alone() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let writer = client(&collector.receiver, &dir).build().unwrap();
    record(&writer, 3);
    writer.shutdown(LONG);
    let connections = collector.receiver.connections();
    collector.answers(200);
    let idle = client(&collector.receiver, &dir).build().unwrap();
    assert!(idle.flush(LONG).is_complete() && idle.shutdown(LONG).is_complete());
    assert_eq!((collector.receiver.connections(), dir.bodies().len()), (connections, 1));
    assert_accounted(&idle);
}

#[test]
fn a_shutdown_without_time_writes_what_is_in_the_rings_and_what_is_on_its_way() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (collector, dir) = (Scripted::new(200), SpoolDir::new());
    // The same URL for both: the receiver is reached through the port that is silent at first.
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let builder = || client(&collector.receiver, &dir).with_endpoint(&endpoint);
    let stuck = builder().with_worker_count(2).build().unwrap();
    let mut made = record(&stuck, 2_000);
    // Until a batch is in an exchange that nobody answers.
    wait_for("a request", || stuck.stats().requests > 0);
    made.extend(record(&stuck, 3_000));
    let begun = Instant::now();
    let receipt = stuck.shutdown(Duration::ZERO);
    assert!(begun.elapsed() < LONG / 3, "{:?}", begun.elapsed());
    assert_eq!((receipt.spooled, receipt.dropped_total()), (5_000, 0), "{receipt:?}");
    assert_accounted(&stuck);

    // What was on its way is lost with its connection.
    silent.set_nonblocking(true).unwrap();
    while silent.accept().is_ok() {}
    silent.set_nonblocking(false).unwrap();
    let gateway = Gateway::start(silent, &collector.receiver);
    let next = builder().build().unwrap();
    made.extend(deliver_one(&next));
    assert!(collector.receiver.wait_for_spans(5_001, LONG));
    assert!(next.shutdown(LONG).is_complete());
    assert_accounted(&next);
    assert_received(&collector.receiver, &made);
    drop(gateway);
}

#[test]
fn who_looks_at_the_counts_of_a_client_that_shuts_down_costs_it_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        let dir = SpoolDir::new();
        let client = Client::builder()
            .with_endpoint(format!("http://{}", silent.local_addr().unwrap()))
            .with_spool_config(spool_in(&dir))
            .with_log_level(otlp::LogLevel::None)
            .build()
            .unwrap();
        record(&client, 5_000);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    client.stats();
                }
            });
            let receipt = client.shutdown(Duration::ZERO);
            is_over.store(true, Ordering::SeqCst);
            assert_eq!((receipt.spooled, receipt.dropped_total()), (5_000, 0), "{receipt:?}");
        });
        assert_accounted(&client);
    }
}

/// Passes what comes to one port on to a receiver: a collector that comes back where it was.
struct Gateway {
    closed: Arc<AtomicBool>,
    port: u16,
}

impl Gateway {
    fn start(listener: TcpListener, receiver: &Receiver) -> Self {
        let (closed, port) = (Arc::new(AtomicBool::new(false)), listener.local_addr().unwrap().port());
        let (is_closed, to) = (Arc::clone(&closed), receiver.address());
        thread::spawn(move || {
            for inbound in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let outbound = std::net::TcpStream::connect(to).unwrap();
                let ends = [(&inbound, &outbound), (&outbound, &inbound)];
                for (from, to) in ends.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap())) {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut &from, &mut &to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        Self { closed, port }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
    }
}

#[test]
fn nobody_listening_costs_the_exit_no_more_time_with_a_spool() {
    let dir = SpoolDir::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let quickest = shortest(Duration::from_millis(60), || {
        let client = Client::builder().with_endpoint(format!("http://127.0.0.1:{port}"));
        let client = client.with_spool_config(spool_in(&dir)).with_log_level(otlp::LogLevel::None).build().unwrap();
        record(&client, 1);
        let begun = Instant::now();
        assert_eq!(client.close().spooled, 1);
        begun.elapsed()
    });
    assert!(quickest < Duration::from_millis(60), "{quickest:?}");
}

#[test]
fn what_the_collector_does_not_want_is_never_written() {
    for (status, reason) in [(400, DropReason::Refused), (413, DropReason::TooLarge)] {
        let (collector, dir) = (Scripted::new(status), SpoolDir::new());
        let client = client(&collector.receiver, &dir).build().unwrap();
        record(&client, 1);
        let receipt = client.shutdown(LONG);
        assert_eq!((receipt.spooled, receipt.dropped.get(reason)), (0, 1), "{status}");
        assert_accounted(&client);
        assert!(!dir.path().exists(), "{status}");
    }
    let dir = SpoolDir::new();
    let receiver = Receiver::builder().respond_with(|_| Response::partial_success(1, "bad")).start().unwrap();
    let client = client(&receiver, &dir).build().unwrap();
    record(&client, 3);
    let receipt = client.shutdown(LONG);
    assert_eq!((receipt.spooled, receipt.rejected, receipt.exported), (0, 1, 2));
    assert!(!dir.path().exists());
}

#[test]
fn spans_that_were_exported_directly_are_the_callers_to_keep() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let client = client(&collector.receiver, &dir).build().unwrap();
    let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), 1, false);
    assert!(client.export_spans([SpanData::new(context, "direct")]).is_err());
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Undelivered), 1);
    assert!(!dir.path().exists());
}

#[test]
fn a_collector_that_refuses_everything_does_not_empty_the_spool() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let writer = client(&collector.receiver, &dir).build().unwrap();
    for _ in 0..3 {
        record(&writer, 10);
        writer.flush(LONG);
    }
    writer.shutdown(LONG);
    // A wrong token, say.
    collector.answers(401);
    let refused = client(&collector.receiver, &dir).build().unwrap();
    record(&refused, 1);
    let receipt = refused.shutdown(LONG);
    assert_eq!(receipt.dropped.get(DropReason::Refused), 1, "its own: {receipt:?}");
    assert_eq!((assert_accounted(&refused).restored, dir.bodies().len()), (0, 3));
    collector.answers(200);
    let next = client(&collector.receiver, &dir).build().unwrap();
    record(&next, 1);
    assert!(next.shutdown(LONG).is_complete());
    assert_eq!((assert_accounted(&next).exported, dir.bodies().len()), (31, 0));
}

#[test]
fn one_body_that_is_refused_is_dropped_and_the_others_follow() {
    let dir = SpoolDir::new();
    let outage = Arc::new(AtomicBool::new(true));
    let is_out = Arc::clone(&outage);
    let respond = move |request: &Request| match request.spans {
        _ if is_out.load(Ordering::SeqCst) => Response::status(503),
        13 => Response::status(400),
        _ => Response::ok(),
    };
    let receiver = Receiver::builder().respond_with(respond).start().unwrap();
    let client = client(&receiver, &dir).build().unwrap();
    for spans in [5, 13, 7] {
        record(&client, spans);
        client.flush(LONG);
    }
    outage.store(false, Ordering::SeqCst);
    deliver_one(&client);
    wait_for("the refusal", || client.stats().dropped.get(DropReason::Refused) == 13);
    // After a refusal the next ones wait for another answer.
    deliver_one(&client);
    wait_for("the others", || client.stats().exported == 14);
    let stats = assert_accounted(&client);
    assert_eq!((stats.ended, stats.exported, stats.spooled, stats.dropped.total()), (27, 14, 0, 13));
    assert_eq!(dir.bodies().len(), 0);
}

#[test]
fn a_spooled_body_that_is_too_large_is_halved_and_every_span_arrives_once() {
    let dir = SpoolDir::new();
    let outage = Arc::new(AtomicBool::new(true));
    let is_out = Arc::clone(&outage);
    let respond = move |request: &Request| match request.spans {
        _ if is_out.load(Ordering::SeqCst) => Response::status(503),
        0..=10 => Response::ok(),
        _ => Response::status(413),
    };
    let receiver = Receiver::builder().respond_with(respond).start().unwrap();
    let first = client(&receiver, &dir).build().unwrap();
    let mut made = record(&first, 100);
    assert_eq!(first.shutdown(LONG).spooled, 100);
    assert_eq!(dir.bodies().len(), 1);
    outage.store(false, Ordering::SeqCst);
    let second = client(&receiver, &dir).build().unwrap();
    made.extend(deliver_one(&second));
    assert!(receiver.wait_for_spans(101, LONG));
    assert!(second.shutdown(LONG).is_complete());
    assert_eq!(assert_accounted(&second).restored, 100);
    assert_received(&receiver, &made);
    assert_eq!(dir.bodies().len(), 0);
}

#[test]
fn what_does_not_fit_into_the_spool_is_dropped_and_counted() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let config = SpoolConfig { max_bytes: 1_000, ..spool_in(&dir) };
    let client = client(&collector.receiver, &dir).with_spool_config(config).build().unwrap();
    for _ in 0..10 {
        record(&client, 1);
        client.flush(LONG);
    }
    let stats = assert_accounted(&client);
    let (kept, lost) = (stats.spooled, stats.dropped.get(DropReason::Undelivered));
    assert!(kept >= 1 && lost >= 1, "{stats:?}");
    let bytes: u64 = dir.bodies().iter().map(|body| fs::metadata(body).unwrap().len()).sum();
    assert!(bytes <= 1_000, "{bytes}");
    assert_eq!(dir.bodies().len() as u64, kept);
    let receipt = client.shutdown(LONG);
    assert_eq!((receipt.spooled, receipt.dropped_total()), (kept, lost));
}

#[test]
fn what_waited_for_too_long_is_counted_as_expired_by_who_meets_it() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let writer = client(&collector.receiver, &dir).build().unwrap();
    record(&writer, 5);
    assert_eq!(writer.shutdown(LONG).spooled, 5);
    collector.answers(200);
    // Age is told by the clock of the system, which nobody injects into another run.
    thread::sleep(Duration::from_millis(5));
    let config = SpoolConfig { max_age: Duration::from_millis(1), ..spool_in(&dir) };
    let next = client(&collector.receiver, &dir).with_spool_config(config).build().unwrap();
    record(&next, 1);
    let receipt = next.shutdown(LONG);
    assert_eq!((receipt.dropped.get(DropReason::Expired), receipt.exported), (5, 1), "{receipt:?}");
    assert_eq!(assert_accounted(&next).restored, 5);
    assert_eq!((dir.bodies().len(), collector.receiver.span_count()), (0, 1));
}

#[test]
fn damaged_and_truncated_files_are_set_aside_and_the_others_are_sent() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let writer = client(&collector.receiver, &dir).build().unwrap();
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(record(&writer, 10));
        writer.flush(LONG);
    }
    writer.shutdown(LONG);
    let bodies = dir.bodies();
    let mut first = fs::read(&bodies[0]).unwrap();
    *first.last_mut().unwrap() ^= 0x10;
    fs::write(&bodies[0], &first).unwrap();
    let third = fs::read(&bodies[2]).unwrap();
    fs::write(&bodies[2], &third[..third.len() / 2]).unwrap();

    collector.answers(200);
    let next = client(&collector.receiver, &dir).build().unwrap();
    let own = deliver_one(&next);
    assert!(collector.receiver.wait_for_spans(21, LONG));
    assert!(next.shutdown(LONG).is_complete());
    assert_eq!(assert_accounted(&next).restored, 20);
    assert_received(&collector.receiver, &[made[1].as_slice(), &made[3], &own].concat());
    assert_eq!((dir.bodies().len(), dir.files("damaged").len()), (0, 2));
}

#[test]
fn a_directory_that_cannot_be_used_is_a_counted_drop() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    fs::write(dir.path(), "a file").unwrap();
    let client = client(&collector.receiver, &dir).build().unwrap();
    record(&client, 3);
    let receipt = client.shutdown(LONG);
    assert_eq!((receipt.spooled, receipt.dropped.get(DropReason::Undelivered)), (0, 3), "{receipt:?}");
    assert_accounted(&client);
}

#[test]
fn spans_in_the_spool_give_back_their_places_in_a_bounded_queue() {
    let (collector, dir) = (Scripted::new(503), SpoolDir::new());
    let batch = BatchConfig { max_queue_size: 50, max_batch_size: 50, ..BatchConfig::default() };
    let client = client(&collector.receiver, &dir).with_batch_config(batch).build().unwrap();
    for _ in 0..10 {
        record(&client, 20);
        client.flush(LONG);
    }
    assert_eq!(assert_accounted(&client).spooled, 200);
    collector.answers(200);
    deliver_one(&client);
    wait_for("everything", || client.stats().exported == 201);
    // Had the restored ones taken places, or given back some that were not theirs, this would be another number.
    let mut kept = 0;
    for _ in 0..3 {
        record(&client, 20);
        kept += 20;
        assert!(client.flush(LONG).is_complete());
    }
    assert_eq!(assert_accounted(&client).exported, 201 + kept);
}

#[test]
fn a_body_on_its_way_out_of_the_spool_is_queued_and_holds_up_no_flush() {
    let dir = SpoolDir::new();
    let outage = Arc::new(AtomicBool::new(true));
    let is_out = Arc::clone(&outage);
    let (keeper, gate) = gate();
    let respond = move |request: &Request| {
        if is_out.load(Ordering::SeqCst) {
            return Response::status(503);
        }
        if request.spans == 13 {
            gate.wait();
        }
        Response::ok()
    };
    let receiver = Receiver::builder().respond_with(respond).start().unwrap();
    let writer = client(&receiver, &dir).build().unwrap();
    record(&writer, 13);
    writer.shutdown(LONG);
    outage.store(false, Ordering::SeqCst);
    let next = client(&receiver, &dir).with_worker_count(3).build().unwrap();
    record(&next, 1);
    wait_for("the body to be on its way", || next.stats().restored == 13);
    let receipt = next.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    let stats = assert_accounted(&next);
    assert_eq!((stats.queued, stats.exported, stats.restored), (13, 1, 13));
    // Cut off by the shutdown, it stays where it was; it may have arrived.
    let receipt = next.shutdown(Duration::from_millis(100));
    assert!(receipt.is_complete(), "nothing of its own is missing: {receipt:?}");
    let stats = assert_accounted(&next);
    assert_eq!((stats.queued, stats.restored, dir.bodies().len()), (0, 0, 1));
    drop(keeper);
}

/// A receiver that answers its first requests by a script and accepts the others, and when each came. The first answer is
/// held back.
struct Pausing {
    receiver: Receiver,
    came: Arc<Mutex<Vec<Instant>>>,
    keeper: Keeper,
}

impl Pausing {
    /// Each with the seconds that it asks to wait for.
    fn new(script: &'static [(u16, &str)]) -> Self {
        let came = Arc::new(Mutex::new(Vec::new()));
        let (keeper, first) = gate();
        let counted = Arc::clone(&came);
        let respond = move |_: &Request| {
            let number = {
                let mut came = counted.lock().unwrap();
                came.push(Instant::now());
                came.len() - 1
            };
            if number == 0 {
                first.wait();
            }
            match script.get(number) {
                Some((429, seconds)) => Response::status(429).header("retry-after", seconds),
                Some((503, _)) => Response::status(503),
                _ => Response::ok(),
            }
        };
        Self { receiver: Receiver::builder().respond_with(respond).start().unwrap(), came, keeper }
    }

    fn came(&self) -> Vec<Instant> {
        self.came.lock().unwrap().clone()
    }
}

/// A client one of whose batches went into the spool because the receiver wants a pause, and the next one of which was
/// accepted.
fn paused_and_answered(pausing: &Pausing, dir: &SpoolDir, timeout: Duration) -> Client {
    let client = client_of(&pausing.receiver)
        .with_spool_config(spool_in(dir))
        .with_log_level(otlp::LogLevel::None)
        .with_request_timeout(timeout)
        .with_worker_count(4)
        .with_batch_config(BatchConfig { batch_timeout: Duration::from_millis(1), ..BatchConfig::default() })
        .build()
        .unwrap();
    record(&client, 1);
    wait_for("the first request", || pausing.came().len() == 1);
    record(&client, 1);
    // Nobody else comes for a single span while the only worker waits for its answer.
    client.flush(Duration::from_millis(1));
    wait_for("the batch in the spool", || client.stats().spooled == 1);
    pausing.keeper.let_one_pass();
    wait_for("the answer to the first request", || client.stats().exported >= 1);
    client
}

#[test]
fn nothing_is_sent_out_of_the_spool_while_the_receiver_wants_a_pause_and_the_exit_does_not_wait_for_it() {
    // OTLP/HTTP throttling
    let (pausing, dir) = (Pausing::new(&[(200, ""), (429, "200")]), SpoolDir::new());
    let client = paused_and_answered(&pausing, &dir, LONG);
    let receipt = client.shutdown(LONG);
    assert_eq!((receipt.exported, receipt.spooled, receipt.dropped_total()), (1, 1, 0), "{receipt:?}");
    assert_eq!(pausing.came().len(), 2);
    assert_accounted(&client);
}

#[test]
fn what_lies_in_the_spool_is_sent_as_soon_as_the_pause_is_over_that_the_receiver_wanted() {
    let (pausing, dir) = (Pausing::new(&[(200, ""), (429, "4")]), SpoolDir::new());
    let client = paused_and_answered(&pausing, &dir, Duration::from_secs(3));
    wait_for("the body out of the spool", || client.stats().exported == 2);
    let came = pausing.came();
    assert_eq!(came.len(), 3);
    assert!(came[2] - came[1] >= Duration::from_secs(4), "{:?}", came[2] - came[1]);
    assert!(client.shutdown(LONG).is_complete());
}

#[test]
fn a_pause_that_is_asked_for_by_the_answer_to_a_spooled_body_counts_for_everything() {
    let (pausing, dir) = (Pausing::new(&[(503, ""), (200, ""), (429, "200")]), SpoolDir::new());
    pausing.keeper.let_one_pass();
    let first = client(&pausing.receiver, &dir).build().unwrap();
    record(&first, 1);
    assert_eq!(first.shutdown(LONG).spooled, 1);
    let next = client(&pausing.receiver, &dir).with_retry_config(RetryConfig::default()).build().unwrap();
    deliver_one(&next);
    wait_for("the body to be back in the spool", || pausing.came().len() == 3 && next.stats().restored == 0);
    record(&next, 1);
    assert_eq!(next.flush(Duration::from_millis(100)).pending, 1);
    let receipt = next.shutdown(Duration::from_millis(100));
    assert_eq!((receipt.exported, receipt.spooled, receipt.dropped_total()), (1, 1, 0), "{receipt:?}");
    assert_eq!((pausing.came().len(), dir.bodies().len()), (3, 2));
    assert_accounted(&next);
}
