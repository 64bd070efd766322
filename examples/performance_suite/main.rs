//! How fast a client is on this machine, how late, and at what cost; next to what the guide promises. Takes ten
//! seconds.
//!
//! ```sh
//! cargo run --release --example performance_suite
//! cargo run --release --example performance_suite specification   # the workload for comparing SDKs; three minutes
//! ```
//!
//! It needs no collector: a process of its own receives, so that what it takes is not counted. The exit status is not 0
//! if a target is missed; debug builds are not judged.
//!
//! Left out: what recording one span costs its thread (`cargo bench --bench hot_path`), and how other exporters do (the
//! package in `benches/peers`).

mod load;
mod receiver;
mod specification;

use std::{env, error::Error, process::ExitCode};

use load::{Full, Steady};
use receiver::Receiver;

/// Spans that each run at full speed makes.
const SPANS: u64 = 1_000_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if receiver::is_asked_for() {
        receiver::serve()?;
        return Ok(ExitCode::SUCCESS);
    }
    let receiver = Receiver::start()?;
    if env::args().nth(1).is_some_and(|argument| argument == "specification") {
        specification::compare(receiver.endpoint(), env::args().skip(2))?;
        return Ok(ExitCode::SUCCESS);
    }
    let steady = load::steady(receiver.endpoint())?;
    let full = load::full_speed(receiver.endpoint(), 1, SPANS)?;
    let rows = rows(&steady, &full);
    println!("{:<62}{:>16}{:>18}", "", "target", "measured");
    for row in &rows {
        let verdict = if row.is_met { "" } else { "  missed" };
        println!("{:<62}{:>16}{:>18}{verdict}", row.measure, row.target, row.measured);
    }
    println!("\nConcurrency: threads at full speed, waiting for room where there is none\n");
    println!("{:>8}{:>14}{:>16}{:>14}", "threads", "spans/s", "CPU per span", "lost");
    for threads in [1, 2, 4, 8] {
        let full = load::full_speed(receiver.endpoint(), threads, SPANS)?;
        println!("{threads:>8}{:>14.0}{:>13.0} ns{:>14}", full.throughput, full.cpu_nanos, full.lost);
    }
    let is_missed = rows.iter().any(|row| !row.is_met) && !cfg!(debug_assertions);
    Ok(if is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A target and what came of it.
struct Row {
    measure: String,
    target: &'static str,
    measured: String,
    is_met: bool,
}

fn rows(steady: &Steady, full: &Full) -> Vec<Row> {
    let at = format!("at {:.0} spans/s", steady.throughput);
    let row = |measure: &str, target, measured, is_met| Row { measure: measure.to_owned(), target, measured, is_met };
    vec![
        row(
            "throughput of one thread at full speed",
            "> 10,000/s",
            format!("{:.0}/s", full.throughput),
            full.throughput > 10_000.0 && full.lost == 0,
        ),
        row(
            &format!("from the end of a span until it is accepted, {at}: mean"),
            "",
            format!("{:.1} ms", 1e3 * steady.mean_latency),
            true,
        ),
        row(
            "                                                     p99",
            "< 100 ms",
            format!("{:.1} ms", 1e3 * steady.p99_latency),
            steady.p99_latency < 0.1,
        ),
        row(
            "memory of the client at full speed, peak",
            "< 500 MB",
            format!("{:.1} MB", full.peak_megabytes),
            full.peak_megabytes < 500.0,
        ),
        row(
            &format!("CPU of the client's threads {at}"),
            "< 50 %",
            format!("{:.1} %", 100.0 * steady.cpu),
            steady.cpu < 0.5,
        ),
        row(
            "payload of all bytes sent, headers included",
            "> 80 %",
            format!("{:.1} %", 100.0 * full.efficiency),
            full.efficiency > 0.8,
        ),
        row(
            "bytes sent for each span, of how many before compression",
            "",
            format!("{:.1} of {:.0}", full.sent_bytes, full.plain_bytes),
            true,
        ),
    ]
}
