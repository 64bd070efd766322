//! The tasks: what a contender's program is asked for by its arguments, and answers on stdout as `name value` lines.

use std::{
    env,
    process::exit,
    thread,
    time::{Duration, Instant},
};

use crate::{
    allocations::Count,
    contender::{Contender, Queue, Setup},
    usage,
    work::{GROUP, Requests},
};

/// Spans of a round of [`rounds`]: a bounded queue of the specification's 2,048 takes them.
const ROUND: usize = 2000;
/// Rounds before the first that counts: buffers are allocated and connections made.
const WARM_UP: usize = 4;

/// The variant of the contender that is asked for, if it has several.
pub fn variant() -> String {
    env::args().nth(1).unwrap_or_default()
}

/// Does what the arguments say: a variant, a task and its numbers.
pub fn run<C: Contender>() {
    let arguments: Vec<String> = env::args().skip(2).collect();
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    match arguments.first().map(String::as_str) {
        Some("rounds") => rounds::<C>(number(1)),
        Some("record") => record::<C>(number(1), number(2) == 1),
        Some("deliver") => deliver::<C>(number(1)),
        Some("paced") => paced::<C>(number(1), number(2)),
        Some("burst") => burst::<C>(number(1), number(2)),
        Some("exit") => brief::<C>(number(1)),
        _ => {
            eprintln!("a contender of the runner: cargo run --release --manifest-path benches/peers/Cargo.toml");
            exit(2);
        }
    }
}

/// Recording alone: `count` rounds with attributes and as many without, in turn; what was recorded is sent between them.
fn rounds<C: Contender>(count: usize) {
    let requests = Requests::prepare(ROUND);
    let contender = C::start(Setup::new(Queue::Hold(ROUND + 1)));
    let (mut hot, mut bare) = (Vec::new(), Vec::new());
    let mut allocated = None;
    for round in 0..WARM_UP + count {
        let (before, begun) = (Count::now(), Instant::now());
        contender.hot(requests.take(ROUND - 1));
        let elapsed = begun.elapsed();
        let after = Count::now();
        contender.flush();
        if round >= WARM_UP {
            hot.push(elapsed);
            allocated = Some(after - before);
        }

        let begun = Instant::now();
        contender.bare(ROUND - 1);
        let elapsed = begun.elapsed();
        contender.flush();
        if round >= WARM_UP {
            bare.push(elapsed);
        }
    }
    for (name, times) in [("hot", &mut hot), ("bare", &mut bare)] {
        times.sort_unstable();
        let per_span = |time: Duration| time.as_nanos() as f64 / ROUND as f64;
        println!("{name}_min_ns {:.2}", per_span(times[0]));
        println!("{name}_median_ns {:.2}", per_span(times[times.len() / 2]));
    }
    let allocated = allocated.expect("at least one round");
    println!("allocations {:.3}", allocated.allocations as f64 / ROUND as f64);
    println!("reallocations {:.3}", allocated.reallocations as f64 / ROUND as f64);
    contender.shutdown();
}

/// The same for counting instructions: rounds with attributes or without, of which all but the first few count.
fn record<C: Contender>(count: usize, attributes: bool) {
    let requests = Requests::prepare(ROUND);
    let contender = C::start(Setup::new(Queue::Hold(ROUND + 1)));
    for round in 0..WARM_UP + count {
        let record = if round < WARM_UP { record_round } else { counted_round };
        record(&contender, &requests, attributes);
        contender.flush();
    }
    println!("spans {}", count * ROUND);
}

fn record_round<C: Contender>(contender: &C, requests: &Requests, attributes: bool) {
    if attributes {
        contender.hot(requests.take(ROUND - 1));
    } else {
        contender.bare(ROUND - 1);
    }
}

/// What callgrind counts, which knows it by its name.
#[inline(never)]
fn counted_round<C: Contender>(contender: &C, requests: &Requests, attributes: bool) {
    record_round(contender, requests, attributes);
}

/// Records and sends so many spans through a queue that takes them all: for counting the instructions of all threads.
fn deliver<C: Contender>(spans: usize) {
    let requests = Requests::prepare(spans);
    let contender = C::start(Setup::new(Queue::Room(spans + GROUP)));
    for _ in 0..spans / GROUP {
        contender.hot(requests.take(GROUP - 1));
    }
    contender.shutdown();
}

/// A group at a time, so that `rate` spans are made per second; with the defaults.
fn paced<C: Contender>(spans: usize, rate: usize) {
    let requests = Requests::prepare(spans);
    let contender = C::start(Setup::new(Queue::Default));
    let cpu = usage::cpu();
    let begun = Instant::now();
    for group in 0..spans / GROUP {
        let due = Duration::from_secs_f64((group * GROUP) as f64 / rate as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        contender.hot(requests.take(GROUP - 1));
    }
    println!("record_s {:.3}", begun.elapsed().as_secs_f64());
    contender.shutdown();
    report(cpu);
}

/// As fast as `threads` threads can, with the defaults.
fn burst<C: Contender>(spans: usize, threads: usize) {
    let requests = Requests::prepare(spans);
    let contender = C::start(Setup::new(Queue::Default));
    let cpu = usage::cpu();
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..spans / threads / GROUP {
                    contender.hot(requests.take(GROUP - 1));
                }
            });
        }
    });
    println!("record_s {:.3}", begun.elapsed().as_secs_f64());
    contender.shutdown();
    report(cpu);
}

fn report(cpu_before: Duration) {
    println!("cpu_ns {}", (usage::cpu() - cpu_before).as_nanos());
    println!("peak_kib {}", usage::peak_kib());
}

/// A program that makes few spans and ends, with the defaults.
fn brief<C: Contender>(spans: usize) {
    let requests = Requests::prepare(spans);
    let contender = C::start(Setup::new(Queue::Default));
    contender.hot(requests.take(spans - 1));
    contender.shutdown();
}
