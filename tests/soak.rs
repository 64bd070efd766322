//! Random faults, threads and settings, round after round, and what must hold after each of them.
//!
//! ```sh
//! cargo test --release --test soak -- --ignored --nocapture
//! OTLP_SOAK_SECONDS=600 cargo test --release --test soak -- --ignored --nocapture
//! OTLP_SOAK_SEED=123 cargo test --release --test soak -- --ignored --nocapture
//! ```
//!
//! A round is of one of four kinds, each with faults of its own, over HTTP or over gRPC. It is planned by its seed, which is printed with
//! whatever fails; given as `OTLP_SOAK_SEED` it is the first one, and `OTLP_SOAK_SECONDS=0` makes it the only one. What
//! threads and sockets make of the plan is theirs.
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

impl Ended {
    fn add(&mut self, other: Self) {
        self.surely.extend(other.surely);
        self.perhaps.extend(other.perhaps);
    }
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

/// What happens in a round, and what must hold after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Anything may happen, at any time.
    Rough,
    /// It waits for everything, and nothing in it stalls: then it is certain what became of each span.
    Patient,
    /// It waits for everything too, and there is always a connection that takes everything: one that is opened answers
    /// every request to whoever does not ask during an announced pause. One connection at most leads to a node that
    /// answers nothing but 429, 502 or 503; up to three answers ask for a pause of a second, which is a small part of
    /// a request's time; and connections that have been idle for longer than a second may be silent from then on. What
    /// is recorded fits into the queue. No span is lost then, and none lies in the spool.
    Sound,
    /// All is well until an answer asks for a pause that outlasts the round. Nothing is sent in it but what was on its
    /// way, and what is lost was lost by the end of the client or of its own time.
    Paused,
}

impl Kind {
    fn roll(dice: &mut Dice) -> Self {
        match dice.among(0..=5) {
            0 | 1 => Self::Rough,
            2 | 3 => Self::Patient,
            4 => Self::Sound,
            _ => Self::Paused,
        }
    }

    /// Whether whoever waits for delivery waits for as long as it takes.
    fn is_patient(self) -> bool {
        matches!(self, Self::Patient | Self::Sound)
    }
}

/// The most threads of a program, and of a client.
const MOST_THREADS: u64 = 6;
const MOST_WORKERS: u64 = 4;

/// A pause that outlasts every round.
const ENDLESS: &str = "200";

/// The time of a request in a sound round: longer than all pauses and trials together.
const SOUND_TIMEOUT: Duration = Duration::from_secs(12);

/// A little more than what a connection may be idle for before it is on trial.
const IDLE: Duration = Duration::from_millis(1_100);

/// One client with its own server, from the first span to the end.
fn round(seed: u64) -> Sums {
    let mut dice = Dice(seed);
    let kind = Kind::roll(&mut dice);
    let is_patient = kind.is_patient();
    let authority = dice.one_in(4).then(Authority::new);
    let script = script(&mut dice, kind);
    let server = match &authority {
        None => FaultServer::plain(script),
        Some(authority) => FaultServer::tls(authority.server(), script),
    };
    if kind == Kind::Sound && dice.one_in(2) {
        let status = [429, 502, 503][dice.among(0..=2) as usize];
        server.have_sick(dice.among(1..=4), answer(Answer::status(status).body("sick")));
    }
    let mut builder = settings(&mut dice, kind).with_endpoint(server.endpoint());
    if dice.one_in(2) {
        builder = builder.with_grpc_transport();
    }
    let spool = dice.one_in(3).then(SpoolDir::new);
    if let Some(dir) = &spool {
        let (dir, max_bytes) = (Some(dir.path().to_owned()), if dice.one_in(3) { 10_000 } else { 1 << 30 });
        builder = builder.with_spool_config(SpoolConfig { dir, max_bytes, ..SpoolConfig::default() });
    }
    let client = match &authority {
        None => builder.build().unwrap(),
        Some(authority) => builder.with_certificate(authority.file("ca.pem", authority.certificate())).build().unwrap(),
    };

    let mut ended = Ended::default();
    if kind == Kind::Sound && dice.one_in(3) {
        ended.add(applications(&mut dice, &client, kind, false).0);
        assert_eq!(client.flush(LONG).pending, 0);
        // Nothing tells of a connection that it is old but time.
        thread::sleep(IDLE);
        let extent = if dice.one_in(2) { Extent::Nothing } else { Extent::Whole };
        server.forget_connections(stall_after(extent));
    }
    let may_end = kind == Kind::Rough && dice.one_in(3);
    let (more, receipt) = applications(&mut dice, &client, kind, may_end);
    ended.add(more);
    let receipt = match receipt {
        Some(receipt) => receipt,
        None if is_patient => {
            assert_eq!(client.flush(LONG).pending, 0);
            client.shutdown(LONG)
        }
        None if dice.one_in(2) => client.close(),
        None => client.shutdown(Duration::from_millis(dice.among(0..=200))),
    };
    let stats = assert_accounted(&client);
    assert_eq!(stats.queued, 0, "{stats:?}");
    let [surely, perhaps] = [&ended.surely, &ended.perhaps].map(|ended| ended.len() as u64);
    // A thread that was about to export directly may still have been at it when the shutdown returned.
    assert!(receipt.pending <= perhaps, "{perhaps} at most: {receipt:?}");
    assert!((surely..=surely + perhaps).contains(&stats.ended), "{surely} to {perhaps} more: {stats:?}");
    let repeated = check(&ended, &server, &client, is_patient, spool.is_some());
    match kind {
        Kind::Sound => {
            assert_eq!((stats.dropped.total(), stats.spooled, stats.exported), (0, 0, stats.ended), "{stats:?}")
        }
        Kind::Paused => check_paused(&server, &client),
        Kind::Rough | Kind::Patient => {}
    }
    if let Some(dir) = &spool {
        assert_eq!(dir.bodies().is_empty(), stats.spooled == 0, "{:?}: {stats:?}", dir.bodies());
        assert_eq!((dir.files("tmp").len(), dir.files("damaged").len()), (0, 0));
    }
    let (ended, exported, spooled) = (stats.ended, stats.exported, stats.spooled);
    Sums { ended, exported, dropped: stats.dropped.total(), spooled, repeated }
}

/// A program's threads, from the first span to the last, and what they ended; and a shutdown beside them, if it `may_end`.
fn applications(dice: &mut Dice, client: &Client, kind: Kind, may_end: bool) -> (Ended, Option<Receipt>) {
    let seeds: Vec<_> = (0..dice.among(1..=MOST_THREADS)).map(|_| dice.next()).collect();
    thread::scope(|scope| {
        let spawn = |seed| scope.spawn(move || application(client, Dice(seed), kind));
        let threads: Vec<_> = seeds.into_iter().map(spawn).collect();
        let early = may_end.then(|| {
            // A moment that the dice choose, not a wait.
            thread::sleep(Duration::from_millis(dice.among(0..=50)));
            client.shutdown(Duration::from_millis(dice.among(0..=200)))
        });
        let mut ended = Ended::default();
        threads.into_iter().for_each(|thread| ended.add(thread.join().unwrap()));
        (ended, early)
    })
}

/// What must hold where the receiver wants nothing any more.
fn check_paused(server: &FaultServer, client: &Client) {
    let stats = client.stats();
    let of_time = [DropReason::Shutdown, DropReason::Undelivered].map(|reason| stats.dropped.get(reason));
    assert_eq!(stats.dropped.total(), of_time.iter().sum::<u64>(), "{stats:?}");
    let after = server.requests().into_iter().skip_while(|seen| seen.status != Some(429)).skip(1).count() as u64;
    assert!(after <= MOST_THREADS + MOST_WORKERS, "{after} requests in the pause");
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
fn application(client: &Client, mut dice: Dice, kind: Kind) -> Ended {
    let is_patient = kind.is_patient();
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
fn script(dice: &mut Dice, kind: Kind) -> Vec<faults::Act> {
    let pause = |status, seconds: &str| answer(Answer::status(status).header("retry-after", seconds).body("not now"));
    let some = dice.among(0..=40);
    match kind {
        Kind::Sound => {
            let mut acts = vec![accept(); some as usize];
            for _ in 0..dice.among(0..=3) {
                let seconds = if dice.one_in(4) { "0" } else { "1" };
                let status = if dice.one_in(2) { 429 } else { 503 };
                acts.insert(dice.among(0..=some) as usize, pause(status, seconds));
            }
            acts.push(accept());
            acts
        }
        Kind::Paused => {
            let mut acts = vec![accept(); some as usize];
            acts.extend([pause(429, ENDLESS), accept()]);
            acts
        }
        Kind::Rough | Kind::Patient => {
            let is_patient = kind == Kind::Patient;
            let mut acts: Vec<_> = (0..some).map(|_| act(dice, is_patient)).collect();
            acts.push(if is_patient || dice.one_in(2) { accept() } else { act(dice, is_patient) });
            acts
        }
    }
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

fn settings(dice: &mut Dice, kind: Kind) -> ClientBuilder {
    // Where nothing may be lost there is room for everything.
    let has_room = matches!(kind, Kind::Sound | Kind::Paused);
    let milliseconds = Duration::from_millis;
    let max_queue_size = if !has_room && dice.one_in(3) { dice.among(1..=1_000) as usize } else { usize::MAX };
    let batch = BatchConfig {
        max_batch_size: (dice.among(if has_room { 20 } else { 1 }..=600) as usize).min(max_queue_size),
        max_batch_bytes: dice.among(1_000..=200_000) as usize,
        batch_timeout: milliseconds(dice.among(1..=50)),
        max_queue_size,
        ..BatchConfig::default()
    };
    let retry = RetryConfig {
        max_attempts: dice.among(if has_room { 6..=8 } else { 1..=5 }) as u32,
        initial_interval: milliseconds(dice.among(1..=20)),
        max_interval: milliseconds(100),
        ..RetryConfig::default()
    };
    let timeout = match kind {
        Kind::Rough => milliseconds(dice.among(20..=500)),
        Kind::Patient => LONG,
        Kind::Sound | Kind::Paused => SOUND_TIMEOUT,
    };
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
        .with_worker_count(dice.among(1..=MOST_WORKERS) as usize)
        .with_max_idle_connections(dice.among(0..=4) as usize)
        .with_max_memory_usage(if !has_room && dice.one_in(3) { 1 << 20 } else { 64 << 20 })
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
