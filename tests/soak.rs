//! Random faults, threads and settings, round after round, and what must hold after each of them.
//!
//! ```sh
//! cargo test --release --test soak -- --ignored --nocapture
//! OTLP_SOAK_SECONDS=600 cargo test --release --test soak -- --ignored --nocapture
//! OTLP_SOAK_SEED=123 cargo test --release --test soak -- --ignored --nocapture
//! ```
//!
//! A round is planned by its seed, which is printed with whatever fails; given as `OTLP_SOAK_SEED` it is the first
//! one, and `OTLP_SOAK_SECONDS=0` makes it the only one. What threads and sockets make of the plan is theirs.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    collections::{HashMap, HashSet},
    env,
    ops::RangeInclusive,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use faults::{
    After, Answer, Authority, Extent, FaultServer, Seen, accept, answer, close_after, reset_after, stall_after,
};
use otlp::{
    BatchConfig, Client, ClientBuilder, Compression, DropReason, DropStrategy, Error, ExitBudget, LogLevel, Receipt,
    RetryConfig, SpanContext, SpanData, SpanId, SpoolConfig, TraceId,
};
use support::{Ids, LONG, SpoolDir, assert_accounted, ids};

/// What hangs for so long hangs for ever.
const HUNG: Duration = Duration::from_secs(60);

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no whole number")))
}

#[test]
#[ignore = "takes a minute; run by name"]
fn whatever_happens_every_span_is_accounted_for() {
    let length = Duration::from_secs(variable("OTLP_SOAK_SECONDS").unwrap_or(60));
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let first = variable("OTLP_SOAK_SEED").unwrap_or_else(clock);
    println!("the first seed is {first}");
    let begun = Instant::now();
    let mut sums = Sums::default();
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < length {
        let seed = first.wrapping_add(rounds);
        let (done, is_done) = mpsc::channel();
        let round = thread::spawn(move || {
            let sums = round(seed);
            let _ = done.send(());
            sums
        });
        let hung = matches!(is_done.recv_timeout(HUNG), Err(mpsc::RecvTimeoutError::Timeout));
        assert!(!hung, "OTLP_SOAK_SEED={seed}: the round hangs");
        sums.add(&round.join().unwrap_or_else(|_| panic!("OTLP_SOAK_SEED={seed}: the round failed, see above")));
        rounds += 1;
    }
    println!("{rounds} rounds in {:?}: {sums:?}", begun.elapsed());
    let has_all = sums.exported > 0 && sums.dropped > 0 && sums.repeated > 0;
    assert!(has_all || rounds < 100, "it is no soak without any of these");
}

/// Spans that were ended.
#[derive(Default)]
struct Ended {
    surely: Vec<Ids>,
    /// Given to a client that was shut down meanwhile.
    perhaps: Vec<Ids>,
}

/// What came of the spans.
#[derive(Debug, Default)]
struct Sums {
    ended: u64,
    exported: u64,
    dropped: u64,
    spooled: u64,
    /// Arrived more than once.
    repeated: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        self.exported += other.exported;
        self.dropped += other.dropped;
        self.spooled += other.spooled;
        self.repeated += other.repeated;
    }
}

/// One client with its own server, from the first span to the end.
fn round(seed: u64) -> Sums {
    let mut dice = Dice(seed);
    // A patient round waits for everything, and nothing in it stalls: then it is certain what became of each span.
    let is_patient = dice.one_in(2);
    let authority = dice.one_in(4).then(Authority::new);
    let script = script(&mut dice, is_patient);
    let server = match &authority {
        None => FaultServer::plain(script),
        Some(authority) => FaultServer::tls(authority.server(), script),
    };
    let mut builder = settings(&mut dice, is_patient).with_endpoint(server.endpoint());
    let spool = dice.one_in(3).then(SpoolDir::new);
    if let Some(dir) = &spool {
        let (dir, max_bytes) = (Some(dir.path().to_owned()), if dice.one_in(3) { 10_000 } else { 1 << 30 });
        builder = builder.with_spool_config(SpoolConfig { dir, max_bytes, ..SpoolConfig::default() });
    }
    let client = match &authority {
        None => builder.build().unwrap(),
        Some(authority) => builder.with_certificate(authority.file("ca.pem", authority.certificate())).build().unwrap(),
    };

    let seeds: Vec<_> = (0..dice.among(1..=6)).map(|_| dice.next()).collect();
    let (ended, receipt) = thread::scope(|scope| {
        let threads: Vec<_> = seeds
            .into_iter()
            .map(|seed| {
                let client = &client;
                scope.spawn(move || application(client, Dice(seed), is_patient))
            })
            .collect();
        let early = (!is_patient && dice.one_in(3)).then(|| {
            // A moment that the dice choose, not a wait.
            thread::sleep(Duration::from_millis(dice.among(0..=50)));
            client.shutdown(Duration::from_millis(dice.among(0..=200)))
        });
        let mut ended = Ended::default();
        for thread in threads {
            let Ended { surely, perhaps } = thread.join().unwrap();
            ended.surely.extend(surely);
            ended.perhaps.extend(perhaps);
        }
        let receipt = match early {
            Some(receipt) => receipt,
            None if is_patient => {
                assert_eq!(client.flush(LONG).pending, 0);
                client.shutdown(LONG)
            }
            None if dice.one_in(2) => client.close(),
            None => client.shutdown(Duration::from_millis(dice.among(0..=200))),
        };
        (ended, receipt)
    });
    let stats = assert_accounted(&client);
    assert_eq!(stats.queued, 0, "{stats:?}");
    let [surely, perhaps] = [&ended.surely, &ended.perhaps].map(|ended| ended.len() as u64);
    // A thread that was about to export directly may still have been at it when the shutdown returned.
    assert!(receipt.pending <= perhaps, "{perhaps} at most: {receipt:?}");
    assert!((surely..=surely + perhaps).contains(&stats.ended), "{surely} to {perhaps} more: {stats:?}");
    let repeated = check(&ended, &server, &client, is_patient, spool.is_some());
    if let Some(dir) = &spool {
        assert_eq!(dir.bodies().is_empty(), stats.spooled == 0, "{:?}: {stats:?}", dir.bodies());
        assert_eq!((dir.files("tmp").len(), dir.files("damaged").len()), (0, 0));
    }
    let (ended, exported, spooled) = (stats.ended, stats.exported, stats.spooled);
    Sums { ended, exported, dropped: stats.dropped.total(), spooled, repeated }
}

/// Compares what was ended, what was counted and what arrived; answers how many spans arrived more than once.
fn check(ended: &Ended, server: &FaultServer, client: &Client, is_patient: bool, has_spool: bool) -> u64 {
    let stats = client.stats();
    let requests = server.requests();
    let surely: HashSet<_> = ended.surely.iter().copied().collect();
    let arrived = ids_of(&requests, |_| true);
    let strangers = arrived.iter().filter(|ids| !surely.contains(*ids) && !ended.perhaps.contains(ids)).count();
    assert_eq!(strangers, 0, "spans arrived that nobody ended");

    // Nothing is lost that no receipt tells of: what did not arrive was dropped, for a reason.
    let missing = surely.difference(&arrived).count() as u64;
    assert!(missing <= stats.dropped.total() + stats.spooled, "{missing} are missing: {stats:?}");
    // What counts as exported was answered so.
    let is_accepted = |seen: &Seen| matches!(seen.status, Some(200..=299));
    let accepted = ids_of(&requests, is_accepted).len() as u64;
    assert!(stats.exported <= accepted, "{accepted} were accepted: {stats:?}");
    if is_patient {
        // And what was surely answered counts.
        let surely = ids_of(&requests, |seen| is_accepted(seen) && seen.is_decided);
        assert!(stats.exported >= surely.len() as u64, "{} were surely accepted: {stats:?}", surely.len());
        let refused = ids_of(&requests, |seen| seen.is_decided && seen.status == Some(400)).len() as u64;
        let counted = stats.dropped.get(DropReason::Refused) + stats.spooled;
        assert!(counted >= refused, "{refused} were surely refused: {stats:?}");
        assert_eq!(stats.dropped.get(DropReason::Shutdown), 0, "{stats:?}");
    }

    // A span comes again only if its sender could not know what became of it, or was told to try again.
    let mut last: HashMap<Ids, &Seen> = HashMap::new();
    let mut repeated = HashSet::new();
    for seen in &requests {
        for ids in seen.ids.iter().flatten() {
            let Some(before) = last.insert(*ids, seen) else { continue };
            repeated.insert(*ids);
            // What comes from the spool is not given up for a refusal, unless the receiver also accepts something; and
            // what was answered too late went there.
            let is_open = matches!(before.status, Some(429 | 502 | 503 | 504))
                || has_spool && !(is_patient && is_accepted(before));
            let is_final = before.is_decided && !is_open;
            assert!(!is_final, "came again after its fate was decided: {before:?}, then {seen:?}");
        }
    }
    repeated.len() as u64
}

fn ids_of(requests: &[Seen], which: impl Fn(&Seen) -> bool) -> HashSet<Ids> {
    requests.iter().filter(|seen| which(seen)).flat_map(|seen| seen.ids.iter().flatten().copied()).collect()
}

/// What a thread of the program does; answers the spans it ended.
fn application(client: &Client, mut dice: Dice, is_patient: bool) -> Ended {
    let tracer = client.tracer(format!("soak {}", dice.among(1..=3)));
    let mut ended = Ended::default();
    let mut latest = Receipt::default();
    for _ in 0..dice.among(1..=20) {
        match dice.among(0..=9) {
            0 => {
                let spans = direct(&mut dice);
                let sent = client.export_spans(&spans);
                let spans = spans.iter().map(|span| ids(&span.context));
                match sent {
                    // Before or after they were taken: both are the same to the caller.
                    Err(Error::Shutdown) => ended.perhaps.extend(spans),
                    _ => ended.surely.extend(spans),
                }
            }
            1 => {
                let patience = if is_patient { LONG } else { Duration::from_millis(dice.among(0..=100)) };
                let begun = Instant::now();
                let receipt = client.flush(patience);
                // Generous: the machine may be busy. A hang it is not.
                assert!(begun.elapsed() < patience + Duration::from_secs(5), "{patience:?}: {:?}", begun.elapsed());
                let grew = receipt.since(&latest);
                assert_eq!(latest.exported + grew.exported, receipt.exported, "counts only grow");
                assert_eq!(latest.dropped_total() + grew.dropped_total(), receipt.dropped_total());
                latest = receipt;
            }
            // Not a wait either.
            2 if !is_patient => thread::sleep(Duration::from_millis(dice.among(0..=20))),
            _ => {
                let size = dice.among(0..=300) as usize;
                for number in 0..dice.among(1..=400) {
                    let mut span = tracer.start("span");
                    span.set_attribute("number", number);
                    span.set_attribute("text", "x".repeat(size));
                    // One for which there is no memory is counted too, one after the shutdown is not.
                    if span.context().is_valid() {
                        ended.surely.push(ids(&span.context()));
                    }
                }
            }
        }
    }
    ended
}

/// Complete spans, with ids of their own.
fn direct(dice: &mut Dice) -> Vec<SpanData> {
    let count = dice.among(1..=200);
    let one = |_| {
        let mut bytes = [0; 24];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&dice.next().to_be_bytes()));
        let (trace_id, span_id) = bytes.split_at(16);
        let trace_id = TraceId::from_bytes(trace_id.try_into().unwrap());
        let span_id = SpanId::from_bytes(span_id.try_into().unwrap());
        SpanData::new(SpanContext::new(trace_id, span_id, 1, false), "direct")
    };
    (0..count).map(one).collect()
}

/// Up to forty acts; the last of them repeats.
fn script(dice: &mut Dice, is_patient: bool) -> Vec<faults::Act> {
    let mut acts: Vec<_> = (0..dice.among(0..=40)).map(|_| act(dice, is_patient)).collect();
    acts.push(if is_patient || dice.one_in(2) { accept() } else { act(dice, is_patient) });
    acts
}

fn act(dice: &mut Dice, is_patient: bool) -> faults::Act {
    let ok = Answer::status(200);
    let retryable = [429, 502, 503, 504][dice.among(0..=3) as usize];
    let retryable = Answer::status(retryable).body("come back");
    let cut = dice.among(0..=60) as usize;
    let extent = match dice.among(0..=3) {
        0 => Extent::Nothing,
        1 => Extent::Head,
        2 => Extent::Body(dice.among(0..=2_000) as usize),
        _ => Extent::Whole,
    };
    match dice.among(0..=if is_patient { 13 } else { 18 }) {
        0..=3 => accept(),
        4 => answer(ok.chunked()),
        5 => reset_after(extent),
        6 => close_after(extent),
        7 => answer(retryable),
        8 => answer(retryable.header("retry-after", "0")),
        9 => answer(Answer::status(400).body("no")),
        10 => answer(ok.cut_to(cut).then(After::Close)),
        11 => answer(ok.then(After::Reset)),
        12 => answer(ok.then(After::Close)),
        13 => answer(ok.announcing(100).body("half of it").then(After::Close)),
        14 => stall_after(extent),
        15 => answer(ok.cut_to(cut).then(After::Stall)),
        16 => answer(ok.trickled(Duration::from_millis(dice.among(0..=10)))),
        17 => answer(retryable.header("retry-after", "1")),
        _ => answer(ok.endless(b"x: y\r\n", dice.one_in(2))),
    }
}

fn settings(dice: &mut Dice, is_patient: bool) -> ClientBuilder {
    let milliseconds = Duration::from_millis;
    let max_queue_size = if dice.one_in(3) { dice.among(1..=1_000) as usize } else { usize::MAX };
    let batch = BatchConfig {
        max_batch_size: (dice.among(1..=600) as usize).min(max_queue_size),
        max_batch_bytes: dice.among(1_000..=200_000) as usize,
        batch_timeout: milliseconds(dice.among(1..=50)),
        max_queue_size,
        ..BatchConfig::default()
    };
    let retry = RetryConfig {
        max_attempts: dice.among(1..=5) as u32,
        initial_interval: milliseconds(dice.among(1..=20)),
        max_interval: milliseconds(100),
        ..RetryConfig::default()
    };
    let timeout = if is_patient { LONG } else { milliseconds(dice.among(20..=500)) };
    let compression = if dice.one_in(2) { Compression::Gzip } else { Compression::None };
    let budget = ExitBudget { stall: milliseconds(dice.among(1..=200)), total: milliseconds(dice.among(200..=1_000)) };
    let drop_strategy = match dice.among(0..=2) {
        0 => DropStrategy::NewestFirst,
        1 => DropStrategy::OldestFirst,
        _ => DropStrategy::Block(milliseconds(dice.among(1..=20))),
    };
    Client::builder()
        .with_log_level(LogLevel::None)
        .with_batch_config(batch)
        .with_retry_config(retry)
        .with_request_timeout(timeout)
        .with_compression(compression)
        .with_exit_budget(budget)
        .with_worker_count(dice.among(1..=4) as usize)
        .with_max_idle_connections(dice.among(0..=4) as usize)
        .with_max_memory_usage(if dice.one_in(3) { 1 << 20 } else { 64 << 20 })
        .with_drop_strategy(drop_strategy)
}

/// The generator `splitmix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn among(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// True once in so many times.
    fn one_in(&mut self, times: u64) -> bool {
        self.among(1..=times) == 1
    }
}
