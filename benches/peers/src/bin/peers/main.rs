//! The runner: builds the contenders, drives each through the same tasks, and prints one table. See the README.

mod build;
mod callgrind;
mod contenders;
mod launch;
mod measure;
mod receiver;
mod samples;
mod table;

use std::{env, error::Error, process::ExitCode, time::Instant};

use build::Build;
use measure::Plan;

/// What goes wrong is told and ends the run: there is nothing to measure then.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let plan = match env::args().nth(1).as_deref() {
        None => Plan::FULL,
        Some("--quick") => Plan::QUICK,
        Some(_) => {
            eprintln!("usage: peers [--quick]");
            return ExitCode::from(2);
        }
    };
    match run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<()> {
    let build = Build::all()?;
    let begun = Instant::now();
    let samples = measure::all(plan, &build)?;
    print!("{}", table::render(plan, &samples, begun.elapsed())?);
    Ok(())
}
