//! What becomes of the spans however a process ends: each case is a process of its own that makes 10 spans within a
//! process span, against a collector in this one.
//!
//! ```sh
//! cargo run --release --example exit_behaviour
//! ```
//!
//! Ends with an error if a case came out other than it must.

#[cfg(unix)]
mod cases;

#[cfg(not(unix))]
fn main() {
    println!("processes end in these ways on Unix only");
}

#[cfg(unix)]
#[path = "process.rs"]
mod run;

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use cases::{CASES, End};

    if let Some(case) = std::env::args().nth(1) {
        return run::as_child(&case);
    }
    println!("{:<56}{:>10}{:>14}  {:<16}{:>8}", "case", "delivered", "counted lost", "ended with", "ms");
    let mut failed = 0;
    for case in CASES {
        let ended = run::run(case, |command| command.arg(case.name))?;
        let end = match ended.end {
            Some(End::Code(code)) => format!("code {code}"),
            Some(End::Signal(signal)) => signal.to_string(),
            None => "?".to_owned(),
        };
        println!("{:<56}{:>10}{:>14}  {end:<16}{:>8}", case.name, ended.delivered, ended.lost, ended.took.as_millis());
        if let Err(why) = ended.check(case) {
            failed += 1;
            println!("    not as it must be: {why}\n{}", ended.stderr);
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} cases are not as they must be").into()) }
}
