//! A batch job that makes 200,000 spans on 4 threads, and the proof that each arrived exactly once.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! It needs no collector: a receiver inside the process takes one's place. The client has all defaults, only
//! the endpoint is set. `import.rs` is the part to copy; the rest watches, counts and prints.
//!
//! To see more:
//! - `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318` sends to a collector of yours instead;
//! - `OTEL_LOG_LEVEL=debug` lets the exporter tell about every attempt that failed;
//! - `OTEL_EXPORTER_OTLP_COMPRESSION=none` shows what gzip costs and saves.
//!
//! Left out: recording must never wait here, so a queue that is full would drop spans. They would be counted,
//! and the exit status would be 1.

mod check;
mod import;
mod report;
mod usage;

use std::{
    env,
    error::Error,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    Client, Receipt,
    testing::{Keep, Receiver, waterfall},
};

use check::Ids;
use import::{FILES, Importer, SPANS, SPANS_PER_FILE, Upload};
use report::{Report, grouped};

const THREADS: u32 = 4;

/// How often progress is shown and the client's memory looked at.
const TICK: Duration = Duration::from_millis(10);

/// Delivery goes on for as long as something arrives within such a time.
const STALL: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            problems.iter().for_each(|problem| eprintln!("quickstart: {problem}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, one line each; nothing if every span arrived once.
fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let collector = collector_variable();
    let (receiver, client) = match collector {
        None => {
            let receiver = Receiver::builder().keep(Keep::Ids).start()?;
            let client = Client::builder().with_endpoint(receiver.endpoint()).build()?;
            (Some(receiver), client)
        }
        Some(_) => (None, Client::builder().build()?),
    };
    if !client.tracer("quickstart").enabled() {
        return Ok(vec!["the client is disabled by OTEL_SDK_DISABLED: there is nothing to show".to_owned()]);
    }
    match (&receiver, collector) {
        (Some(receiver), _) => say(&format!("Sending to a receiver inside this process, {}.\n", receiver.endpoint()))?,
        // Not its value: a URL may hold a password.
        (None, variable) => say(&format!("Sending to the collector that {} names.\n", variable.unwrap_or_default()))?,
    }

    let begun = Instant::now();
    let (made, held) = run_job(&client);
    let job_time = begun.elapsed();
    let receipt = deliver(&client);
    let delivery_time = begun.elapsed();

    let report = Report {
        stats: client.stats(),
        received: receiver.as_ref().map(Receiver::span_count),
        job_time,
        delivery_time,
        // Read while the workers are there.
        exporter_cpu: usage::cpu_of_threads("otlp-worker-"),
        held,
        peak_memory: usage::peak_memory(),
    };
    client.close();

    let problems = problems(&receipt, &report, made, receiver.as_ref(), collector);
    say(&format!("\n{report}"))?;
    if problems.is_empty() {
        say(&format!("\n{}\n", report.balance()))?;
    }
    if let Some(receiver) = &receiver {
        say(&format!("\nOne of {} traces:\n\n{}", grouped(FILES.into()), waterfall(&receiver.spans())))?;
    }
    Ok(problems)
}

/// The variable that names a collector, if one does. An empty one counts as unset.
fn collector_variable() -> Option<&'static str> {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .into_iter()
        .find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Imports all files on a few threads. Answers which spans they made, and the most the client was seen to hold.
fn run_job(client: &Client) -> (Vec<Ids>, u64) {
    let (done, finished) = mpsc::channel();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let done = done.clone();
            scope.spawn(move || {
                let files = (thread..FILES).step_by(THREADS as usize);
                let importer = Importer::new(client, files.len() * SPANS_PER_FILE);
                files.for_each(|number| importer.import_file(&Upload::new(number)));
                let _ = done.send(importer.into_made());
            });
        }
        drop(done);

        let shows_progress = io::stderr().is_terminal();
        let (mut made, mut held) = (Vec::with_capacity(SPANS), 0);
        loop {
            let next = finished.recv_timeout(TICK);
            let stats = client.stats();
            held = held.max(stats.memory_bytes);
            if shows_progress {
                let (ended, exported) = (grouped(stats.ended), grouped(stats.exported));
                let _ = write!(io::stderr(), "\r\x1b[K{ended} spans ended, {exported} exported");
            }
            match next {
                Ok(ids) => made.extend(ids),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if shows_progress {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        (made, held)
    })
}

/// Waits until everything has arrived or been given up, or nothing moves any more.
fn deliver(client: &Client) -> Receipt {
    let mut receipt = client.flush(STALL);
    while receipt.pending > 0 {
        let later = client.flush(STALL);
        let stalled = later.exported == receipt.exported;
        receipt = later;
        if stalled {
            break;
        }
    }
    receipt
}

fn problems(
    receipt: &Receipt,
    report: &Report,
    made: Vec<Ids>,
    receiver: Option<&Receiver>,
    collector: Option<&str>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let (made_count, ended) = (made.len() as u64, report.stats.ended);
    if made_count != SPANS as u64 || ended != made_count {
        problems.push(format!("{} spans were made and {} ended", grouped(made_count), grouped(ended)));
    }
    if receipt.pending > 0 {
        problems.push(format!("{} spans have not arrived, and nothing moves any more", grouped(receipt.pending)));
    }
    if receipt.dropped_total() > 0 {
        problems.push(format!("{} spans were dropped: {:?}", grouped(receipt.dropped_total()), receipt.dropped));
    }
    if !receipt.is_complete()
        && let Some(variable) = collector
    {
        problems.push(format!(
            "is a collector listening where {variable} points (OTLP over HTTP, usually port 4318)? \
             Start one, correct the variable, or unset it to use the receiver in this example"
        ));
    }
    if let Some(receiver) = receiver {
        problems.extend(receiver.errors().into_iter().map(|error| format!("the receiver refused a request: {error}")));
        problems.extend(check::compare(made, receiver.span_ids()).describe());
    }
    problems
}

/// Prints; unlike `println!` without a panic if nobody reads any more.
fn say(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}
