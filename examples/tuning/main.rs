//! What the controllers do, in a model: settings that a tuner finds against the best of all settings, and counts that
//! are estimated from what a throttled program sends against the truth. Takes a second. Programs do not step
//! controllers, clients do: `otlp::bench` is no part of the interface.
//!
//! ```sh
//! cargo run --release --example tuning
//! ```

mod chance;
mod overload;
mod scenarios;
mod simulation;

use std::{error::Error, time::Duration};

use otlp::core::Tuning;
use overload::Overload;
use scenarios::Scenario;

fn main() -> Result<(), Box<dyn Error>> {
    compare()?;
    explain()?;
    throttle();
    Ok(())
}

/// The tuner against a grid search.
fn compare() -> Result<(), Box<dyn Error>> {
    println!("The tuner after 1000 intervals, measurements off by up to 10 %, against the best of a grid\n");
    println!(
        "{:<20}{:<42}{:>10}{:>12}{:>9}{:>13}",
        "receiver", "settings", "spans/s", "latency", "of best", "last change"
    );
    for scenario in Scenario::all() {
        let row = |settings: &str, tuning: Tuning, change: &str| {
            let metrics = scenario.world.at_rest(tuning);
            let share = 100.0 * metrics.throughput / scenario.best().1.throughput;
            let (throughput, latency) = (metrics.throughput, format!("{:.0?}", metrics.avg_latency));
            let settings = format!("{settings} {}", describe(tuning));
            println!("{:<20}{settings:<42}{throughput:>10.0}{latency:>12}{share:>7.1} %{change:>13}", scenario.name);
        };
        let mut run = scenario.run(0.1, 1)?;
        run.go(1000);
        row("begin", scenario.initial, "");
        row("tuned", run.tuning, &run.last_change.to_string());
        row("best ", scenario.best().0, "");
    }
    Ok(())
}

fn describe(tuning: Tuning) -> String {
    let Tuning { batch_size, connections, compression, effort, .. } = tuning;
    format!("{batch_size} × {connections}, {compression:?} {effort:?}")
}

/// A tuner's own account, and what it does when the network gets narrow.
fn explain() -> Result<(), Box<dyn Error>> {
    let Some(scenario) = Scenario::all().into_iter().next() else { return Ok(()) };
    println!("\nWhat it says for itself: {}; after 300 intervals the network falls to 5 Mbit/s\n", scenario.name);
    let mut run = scenario.run(0.1, 1)?;
    run.go(300);
    run.world.bandwidth = 5e6;
    run.go(300);
    for decision in run.tuner.decisions() {
        println!("{decision}");
    }
    Ok(())
}

/// Ten times what can be sent.
fn throttle() {
    println!("\nTen times what can be sent for 15 s: spans counted from what arrives, against the truth\n");
    println!(
        "{:<24}{:>6}{:>12}{:>12}{:>10}{:>14}{:>9}{:>10}{:>10}",
        "overload", "seed", "offered", "recorded", "refused", "estimate", "off by", "fullest", "least p"
    );
    let step = Overload::default();
    let cases = [
        ("at once", step.clone()),
        ("at once, traces of 0.2 s", Overload { trace: Duration::from_millis(200), ..step.clone() }),
        ("not throttled", Overload { is_throttled: false, ..step }),
    ];
    for (name, overload) in cases {
        for seed in 1..=5 {
            let outcome = overload.run(seed);
            println!(
                "{name:<24}{seed:>6}{:>12}{:>12}{:>10}{:>14.0}{:>7.2} %{:>10.3}{:>10.3}",
                outcome.offered,
                outcome.recorded,
                outcome.refused,
                outcome.estimate,
                100.0 * outcome.error(),
                outcome.highest_fill,
                outcome.lowest_probability
            );
        }
    }
}
