//! Many nodes behind one address: a connection is judged by what was answered over it, and one that is silent is
//! replaced in time.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    collections::HashSet,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use faults::{After, Answer, Authority, FaultServer, accept, answer};
use otlp::{
    BatchConfig, Client, ClientBuilder, Compression, DropReason, ExitBudget, LogLevel, RetryConfig,
    config::{ConnectionManager, ConnectionPoolConfig},
    testing::{Receiver, ReceiverBuilder, Response, generate_test_spans},
};
use support::{Ids, LONG, assert_accounted, assert_received, client_of, ids};

/// A little more than what a connection may be idle for before it is on trial.
const IDLE: Duration = Duration::from_millis(1_100);

/// No batch leaves by itself, and attempts follow one another soon.
fn calm(builder: ClientBuilder) -> ClientBuilder {
    let batch_timeout = Duration::from_secs(3_600);
    builder
        .with_log_level(LogLevel::None)
        .with_batch_config(BatchConfig { batch_timeout, ..BatchConfig::default() })
        .with_retry_config(RetryConfig { initial_interval: Duration::from_millis(5), ..RetryConfig::default() })
}

/// The connections of which `is_bad` is true lead to a node that answers so.
fn nodes(status: u16, is_bad: impl Fn(u64) -> bool + Send + Sync + 'static) -> ReceiverBuilder {
    Receiver::builder().respond_with(move |request| match is_bad(request.connection) {
        true => Response::status(status),
        false => Response::ok(),
    })
}

fn record(client: &Client, spans: usize) -> Vec<Ids> {
    let tracer = client.tracer("nodes");
    (0..spans).map(|_| ids(&tracer.start("span").context())).collect()
}

#[track_caller]
fn flush(client: &Client) {
    let receipt = client.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
}

/// Lets every connection grow so old that it is on trial. Nothing else tells of it but time.
fn grow_old() {
    thread::sleep(IDLE);
}

const NODE_FAULTS: [u16; 9] = [429, 502, 503, 504, 401, 403, 404, 500, 501];

#[test]
fn what_the_first_node_refuses_arrives_over_another_connection() {
    for status in NODE_FAULTS {
        let receiver = nodes(status, |connection| connection == 1).start().unwrap();
        let client = calm(client_of(&receiver)).build().unwrap();
        let ended = record(&client, 3);
        flush(&client);
        assert_received(&receiver, &ended);
        assert_eq!((receiver.totals().requests, receiver.connections()), (2, 2), "{status}");
        // The connection that was good is the one that is kept in use.
        let more = record(&client, 3);
        flush(&client);
        assert_eq!((receiver.totals().requests, receiver.connections()), (3, 2), "{status}");
        assert_received(&receiver, &[ended, more].concat());
        assert_eq!(assert_accounted(&client).exported, 6);
    }
}

#[test]
fn what_the_first_node_refuses_arrives_at_exit_too() {
    for status in NODE_FAULTS {
        let receiver = nodes(status, |connection| connection == 1).start().unwrap();
        let client = client_of(&receiver).with_log_level(LogLevel::None).build().unwrap();
        let ended = record(&client, 3);
        drop(client);
        assert_received(&receiver, &ended);
    }
}

#[test]
fn what_is_sent_directly_goes_over_another_connection_too() {
    for status in [503, 404] {
        let receiver = nodes(status, |connection| connection == 1).start().unwrap();
        let client = calm(client_of(&receiver)).build().unwrap();
        assert_eq!(client.export_spans(generate_test_spans(3)).unwrap().accepted, 3, "{status}");
        assert_accounted(&client);
    }
}

#[test]
fn where_there_may_be_one_connection_the_doubted_one_makes_room() {
    for status in [503, 401] {
        let receiver = nodes(status, |connection| connection == 1).start().unwrap();
        let one = ConnectionPoolConfig { max_connections: 1, ..ConnectionPoolConfig::default() };
        let client = calm(client_of(&receiver)).with_connection_pool_config(one).build().unwrap();
        let ended = record(&client, 3);
        flush(&client);
        assert_received(&receiver, &ended);
        let counts = receiver.connection_counts();
        assert_eq!(counts.accepted, 2);
        assert!(receiver.wait_for_connections(|counts| counts.open == 1, LONG), "{counts:?}");
        assert_accounted(&client);
    }
}

#[test]
fn a_node_that_fails_later_is_left_and_taken_back_when_it_answers_again() {
    let is_down = Arc::new(AtomicBool::new(false));
    let responder = Arc::clone(&is_down);
    let receiver = nodes(503, move |connection| connection == 1 && responder.load(Ordering::SeqCst));
    let receiver = receiver.start().unwrap();
    let client = calm(client_of(&receiver)).build().unwrap();
    let mut ended = record(&client, 1);
    flush(&client);
    is_down.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        ended.extend(record(&client, 1));
        flush(&client);
    }
    assert_received(&receiver, &ended);
    assert_eq!((receiver.totals().requests, receiver.connections()), (7, 2));
    assert_accounted(&client);
}

#[test]
fn a_receiver_that_refuses_everything_is_asked_once_more_in_all() {
    for status in [401, 404, 500] {
        let receiver = nodes(status, |_| true).start().unwrap();
        let client = calm(client_of(&receiver)).build().unwrap();
        for _ in 0..20 {
            record(&client, 2);
            client.flush(LONG);
        }
        // The first batch is made sure of; a pause that ends meanwhile brings a connection and no request.
        assert_eq!(receiver.totals().requests, 21, "{status}");
        assert!((2..=7).contains(&receiver.connections()), "{status}: {}", receiver.connections());
        assert_eq!(assert_accounted(&client).dropped.get(DropReason::Refused), 40);
    }
}

#[test]
fn a_receiver_that_is_overloaded_is_not_asked_over_a_new_connection_each_time() {
    let receiver = nodes(503, |_| true).start().unwrap();
    let quick = RetryConfig {
        max_attempts: 100,
        initial_interval: Duration::from_millis(2),
        multiplier: 1.0,
        ..RetryConfig::default()
    };
    let client = calm(client_of(&receiver)).with_retry_config(quick).build().unwrap();
    record(&client, 1);
    client.flush(LONG);
    // Fewer on a machine that is very busy.
    assert!((20..=100).contains(&receiver.totals().requests), "{:?}", receiver.totals());
    assert!((2..=7).contains(&receiver.connections()), "{}", receiver.connections());
    assert_accounted(&client);
}

#[test]
fn a_receiver_that_refuses_now_and_then_costs_few_connections() {
    let requests = AtomicU64::new(0);
    let receiver = Receiver::builder().respond_with(move |_| match requests.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Response::status(429),
        _ => Response::ok(),
    });
    let receiver = receiver.start().unwrap();
    let client = calm(client_of(&receiver)).build().unwrap();
    let mut ended = Vec::new();
    for _ in 0..60 {
        ended.extend(record(&client, 1));
        flush(&client);
    }
    assert_received(&receiver, &ended);
    assert!(receiver.connections() <= 18, "{}", receiver.connections());
    assert_accounted(&client);
}

#[test]
fn what_is_said_of_the_request_costs_neither_request_nor_connection() {
    for status in [400, 408, 413, 415] {
        let receiver = nodes(status, |_| true).start().unwrap();
        let client = calm(client_of(&receiver)).build().unwrap();
        for _ in 0..3 {
            record(&client, 1);
            client.flush(LONG);
        }
        // A connection that was kept is not believed when it says 408.
        let (requests, connections) = if status == 408 { (5, 3) } else { (3, 1) };
        assert_eq!((receiver.totals().requests, receiver.connections()), (requests, connections), "{status}");
        assert_accounted(&client);
    }
}

#[test]
fn a_refusal_stands_where_there_is_no_other_way() {
    // Nobody is there any more for the connection it would be tried over.
    let refusing = faults::answer(Answer::status(401).body("who are you?"));
    let server = FaultServer::plain([refusing, faults::reset_after(faults::Extent::Nothing)]);
    let client = calm(Client::builder().with_endpoint(server.endpoint())).build().unwrap();
    let error = client.export_spans(generate_test_spans(3)).unwrap_err();
    assert!(
        matches!(&error, otlp::Error::Refused { status: 401, message, .. } if message == "who are you?"),
        "{error}"
    );
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Refused), 3);
}

/// What stands between client and receiver, and forgets connections without telling either.
struct Middlebox {
    address: SocketAddr,
    shared: Arc<Table>,
}

#[derive(Default)]
struct Table {
    /// Connections up to this number are forgotten: what comes over them goes nowhere.
    forgotten: AtomicU64,
    accepted: AtomicU64,
    swallowed: AtomicU64,
}

impl Middlebox {
    fn before(receiver: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Table>::default());
        let table = Arc::clone(&shared);
        // Ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(inner), Ok(outer)) = (stream, TcpStream::connect(receiver)) else { break };
                let number = table.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                for (from, to) in [(&inner, &outer), (&outer, &inner)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let table = Arc::clone(&table);
                    thread::spawn(move || table.carry(number, from, to));
                }
            }
        });
        Self { address, shared }
    }

    /// A builder for a client that sends through it.
    fn client(&self, scheme: &str) -> ClientBuilder {
        Client::builder().with_endpoint(format!("{scheme}://localhost:{}", self.address.port()))
    }

    fn forget_all(&self) {
        self.shared.forgotten.store(self.connections(), Ordering::SeqCst);
    }

    fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }
}

impl Table {
    fn carry(&self, number: u64, mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let amount = from.read(&mut buffer)?;
            if number <= self.forgotten.load(Ordering::SeqCst) {
                // Not even an end is told.
                if amount == 0 {
                    return Ok(());
                }
                self.swallowed.fetch_add(1, Ordering::SeqCst);
            } else if amount == 0 {
                return to.shutdown(Shutdown::Write);
            } else {
                to.write_all(&buffer[..amount])?;
            }
        }
    }
}

/// Leaves so many connections idle.
fn open_connections(client: &Client, middlebox: &Middlebox, connections: u64) {
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| client.export_spans(generate_test_spans(1)).unwrap());
        }
    });
    assert_eq!(middlebox.connections(), connections);
}

/// A receiver that answers its first requests only when so many are under way at once.
fn gathering(requests: u64) -> ReceiverBuilder {
    let arrived = AtomicU64::new(0);
    Receiver::builder().respond_with(move |_| {
        arrived.fetch_add(1, Ordering::SeqCst);
        support::holds_within(LONG, || arrived.load(Ordering::SeqCst) >= requests);
        Response::ok()
    })
}

#[test]
fn connections_that_were_dropped_silently_cost_no_batch() {
    let receiver = gathering(4).start().unwrap();
    let middlebox = Middlebox::before(receiver.address());
    let client = middlebox.client("http").with_log_level(LogLevel::None).with_worker_count(4).build().unwrap();
    open_connections(&client, &middlebox, 4);
    middlebox.forget_all();
    grow_old();
    let ended: HashSet<_> = record(&client, 16_384).into_iter().collect();
    flush(&client);
    let arrived: HashSet<_> = receiver.span_ids().into_iter().collect();
    assert!(ended.is_subset(&arrived), "{} of {}", arrived.len(), ended.len() + 4);
    assert_eq!(receiver.span_count(), 4 + 16_384, "none arrived twice");
    assert!(middlebox.swallowed() > 0);
    assert_eq!(assert_accounted(&client).exported, 4 + 16_384);
}

#[test]
fn one_silent_connection_is_enough_to_distrust_all_that_are_as_old() {
    let receiver = gathering(4).start().unwrap();
    let middlebox = Middlebox::before(receiver.address());
    let client = calm(middlebox.client("http")).with_worker_count(1).build().unwrap();
    open_connections(&client, &middlebox, 4);
    middlebox.forget_all();
    grow_old();
    for _ in 0..4 {
        record(&client, 10);
        flush(&client);
    }
    assert_eq!((receiver.span_count(), middlebox.connections()), (44, 5));
    assert_eq!(assert_accounted(&client).requests, 4 + 5, "one request was made twice");
}

#[test]
fn a_connection_that_was_dropped_silently_costs_nothing_at_exit() {
    type End = fn(Client);
    let ends: [End; 2] = [drop, |client| _ = client.shutdown(Duration::from_secs(2))];
    for (at, end) in ends.into_iter().enumerate() {
        let receiver = Receiver::start().unwrap();
        let middlebox = Middlebox::before(receiver.address());
        let client = calm(middlebox.client("http")).build().unwrap();
        open_connections(&client, &middlebox, 1);
        middlebox.forget_all();
        grow_old();
        record(&client, 100);
        end(client);
        assert_eq!((receiver.span_count(), middlebox.connections()), (101, 2), "{at}");
    }
}

#[test]
fn an_exit_that_begins_while_a_silent_connection_is_waited_for_loses_nothing() {
    let receiver = Receiver::start().unwrap();
    let middlebox = Middlebox::before(receiver.address());
    let batch = BatchConfig { batch_timeout: Duration::from_millis(10), ..BatchConfig::default() };
    let client = calm(middlebox.client("http")).with_batch_config(batch).build().unwrap();
    open_connections(&client, &middlebox, 1);
    middlebox.forget_all();
    grow_old();
    record(&client, 100);
    support::wait_for("the request", || middlebox.swallowed() > 0);
    drop(client);
    assert_eq!(receiver.span_count(), 101);
}

#[test]
fn a_budget_at_exit_of_another_length_has_its_share_too() {
    let receiver = Receiver::start().unwrap();
    let middlebox = Middlebox::before(receiver.address());
    let budget = ExitBudget { stall: Duration::from_secs(3), ..ExitBudget::default() };
    let client = calm(middlebox.client("http")).with_exit_budget(budget).build().unwrap();
    open_connections(&client, &middlebox, 1);
    middlebox.forget_all();
    grow_old();
    record(&client, 1);
    drop(client);
    assert_eq!(receiver.span_count(), 2);
}

#[test]
fn a_tls_connection_that_was_dropped_silently_costs_no_batch() {
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let port = server.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let middlebox = Middlebox::before((Ipv4Addr::LOCALHOST, port).into());
    let builder = calm(middlebox.client("https")).with_certificate(authority.file("ca.pem", authority.certificate()));
    let client = builder.build().unwrap();
    let mut ended = record(&client, 5);
    flush(&client);
    middlebox.forget_all();
    grow_old();
    ended.extend(record(&client, 5));
    flush(&client);
    assert_eq!((server.arrived(), middlebox.connections()), (ended, 2));
    assert_eq!(assert_accounted(&client).exported, 10);
}

#[test]
fn a_receiver_that_closes_what_is_idle_costs_no_trial() {
    for reuse in [otlp::config::ReuseStrategy::Aggressive, otlp::config::ReuseStrategy::Conservative] {
        let closing = answer(Answer::status(200).then(After::Close));
        let server = FaultServer::plain([closing, accept()]);
        let manager = ConnectionManager::new().with_reuse_strategy(reuse);
        let client = calm(Client::builder().with_endpoint(server.endpoint())).with_connection_manager(manager);
        let client = client.build().unwrap();
        let mut ended = Vec::new();
        for _ in 0..3 {
            ended.extend(record(&client, 1));
            flush(&client);
            grow_old();
        }
        assert_eq!((server.arrived(), server.connections()), (ended, 2), "{reuse:?}");
        assert_accounted(&client);
    }
}

#[test]
fn a_receiver_that_is_slow_gets_each_batch_once() {
    let receiver = Receiver::builder().response_delay(Duration::from_secs(2)).start().unwrap();
    let client = calm(client_of(&receiver)).with_request_timeout(Duration::from_secs(6)).build().unwrap();
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.extend(record(&client, 1));
        flush(&client);
        grow_old();
    }
    assert_received(&receiver, &ended);
    assert_eq!((receiver.totals().requests, receiver.connections()), (3, 1));
    assert_accounted(&client);
}

#[test]
fn a_batch_is_lost_when_a_new_connection_is_silent_too() {
    let receiver = Receiver::start().unwrap();
    let middlebox = Middlebox::before(receiver.address());
    let timeout = Duration::from_secs(1);
    let client = calm(middlebox.client("http")).with_request_timeout(timeout).build().unwrap();
    open_connections(&client, &middlebox, 1);
    middlebox.shared.forgotten.store(u64::MAX, Ordering::SeqCst);
    grow_old();
    let error = client.export_spans(generate_test_spans(3)).unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert_eq!(middlebox.connections(), 2);
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Undelivered), 3);
}

/// A large body that does not get smaller on the way.
fn large(client: &Client) {
    let tracer = client.tracer("large");
    for _ in 0..6 {
        tracer.start("span").set_attribute("text", "x".repeat(2 << 20).as_str());
    }
}

#[test]
fn a_large_body_over_a_silent_connection_is_sent_again() {
    let receiver = Receiver::start().unwrap();
    let middlebox = Middlebox::before(receiver.address());
    let client =
        calm(middlebox.client("http")).with_worker_count(1).with_compression(Compression::None).build().unwrap();
    open_connections(&client, &middlebox, 1);
    middlebox.forget_all();
    grow_old();
    large(&client);
    flush(&client);
    assert_eq!((receiver.span_count(), middlebox.connections()), (7, 2));
    assert_accounted(&client);
}
