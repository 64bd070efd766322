//! What a collector that is dead does to the program: four threads record as fast as they can for 30 s while
//! nothing is taken, once for each drop strategy that does not block.
//!
//! ```sh
//! cargo run --release --example overload            # 30 s each
//! cargo run --release --example overload -- 5       # 5 s each
//! ```
//!
//! Ends with an error if the process grew beyond the client's bound, if a span is not accounted for, or if the
//! median latency of recording more than doubled.

mod latency;

use std::{
    env,
    error::Error,
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use latency::Latency;
use otlp::{Client, DropStrategy, Tracer, testing::Receiver};

const PRODUCERS: usize = 4;
/// The client's default bound.
const BOUND: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare("30"),
        ["idle"] => idle(),
        [seconds] => compare(seconds),
        [strategy, seconds, idle, ..] => overload(strategy, Duration::from_secs(seconds.parse()?), idle.parse()?),
        _ => Err("takes the number of seconds".into()),
    }
}

/// Each run is a process of its own: what one leaves in the allocator must not count for the next.
fn compare(seconds: &str) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<14}{:>12}{:>14}{:>14}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "strategy", "ended", "queue_full", "other drops", "RSS growth", "p50 idle", "p50", "p99", "p99.9"
    );
    let mut failed = false;
    for strategy in ["newest_first", "oldest_first"] {
        let idle = Command::new(env::current_exe()?).arg("idle").stderr(Stdio::inherit()).output()?;
        let idle = String::from_utf8(idle.stdout)?;
        failed |= !Command::new(env::current_exe()?).args([strategy, seconds, idle.trim()]).status()?.success();
    }
    if failed { Err("a bound does not hold".into()) } else { Ok(()) }
}

fn overload(strategy: &str, length: Duration, idle: u64) -> Result<(), Box<dyn Error>> {
    // Connections are taken by the kernel, and nobody reads from them.
    let dead = TcpListener::bind("127.0.0.1:0")?;
    let client = Client::builder()
        .with_endpoint(format!("http://{}", dead.local_addr()?))
        .with_drop_strategy(match strategy {
            "oldest_first" => DropStrategy::OldestFirst,
            _ => DropStrategy::NewestFirst,
        })
        .with_log_level(otlp::LogLevel::None)
        .build()?;
    let before = resident()?;
    let over = AtomicBool::new(false);
    let (latency, peak) = thread::scope(|scope| {
        let recording: Vec<_> =
            (0..PRODUCERS).map(|_| scope.spawn(|| record(&client.tracer("overload"), &over, None))).collect();
        let begun = Instant::now();
        let mut peak = before;
        while begun.elapsed() < length {
            peak = peak.max(resident().unwrap_or(0));
            thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
        let threads = recording.into_iter().map(|thread| thread.join().expect("recording does not panic"));
        (threads.fold(Latency::new(), Latency::and), peak)
    });
    client.shutdown(Duration::ZERO);

    let stats = client.stats();
    let full = stats.dropped.get(otlp::DropReason::QueueFull);
    println!(
        "{:<14}{:>12}{:>14}{:>14}{:>9} MB{:>9} ns{:>9} ns{:>9} ns{:>9} ns",
        strategy,
        stats.ended,
        full,
        stats.dropped.total() - full,
        (peak - before) / 1_000_000,
        idle,
        latency.quantile(0.5),
        latency.quantile(0.99),
        latency.quantile(0.999),
    );
    if stats.ended != stats.exported + stats.dropped.total() + stats.queued || stats.ended != latency.count() {
        return Err(format!("not every span is accounted for: {stats:?}, {} made", latency.count()).into());
    }
    if peak - before > BOUND {
        return Err(format!("the process grew by {} bytes, the bound is {BOUND}", peak - before).into());
    }
    if latency.quantile(0.5) > 2 * idle {
        return Err("the median latency more than doubled".into());
    }
    Ok(())
}

/// The median latency of recording while there is hardly anything to do: the same threads with pauses, and a
/// receiver that answers.
fn idle() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start()?;
    let client = Client::builder().with_endpoint(receiver.endpoint()).build()?;
    let over = AtomicBool::new(false);
    let pause = Some(Duration::from_millis(2));
    let latency = thread::scope(|scope| {
        let recording: Vec<_> =
            (0..PRODUCERS).map(|_| scope.spawn(|| record(&client.tracer("idle"), &over, pause))).collect();
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        let threads = recording.into_iter().map(|thread| thread.join().expect("recording does not panic"));
        threads.fold(Latency::new(), Latency::and)
    });
    println!("{}", latency.quantile(0.5));
    if client.shutdown(Duration::from_secs(10)).is_complete() { Ok(()) } else { Err("spans were lost".into()) }
}

/// Records until it is `over`, 50 spans between two pauses.
fn record(tracer: &Tracer, over: &AtomicBool, pause: Option<Duration>) -> Latency {
    let mut latency = Latency::new();
    while !over.load(Ordering::Relaxed) {
        for item in 0..50 {
            let begun = Instant::now();
            let mut span = tracer.start("GET /items/{id}");
            span.set_attribute("http.request.method", "GET");
            span.set_attribute("url.path", "/items/4711");
            span.set_attribute("http.response.status_code", 200);
            span.set_attribute("item", item);
            span.end();
            latency.add(begun.elapsed());
        }
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    latency
}

/// Bytes of this process in memory.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
