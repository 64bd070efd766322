//! One trace through several processes: a job that starts a child for each file, and a child that starts one of its
//! own.
//!
//! ```text
//! cargo run --example child_processes
//! ```
//!
//! It needs no collector: a receiver inside the first process takes one's place. Each process makes a client of its own
//! from the environment and finds its parent there, in `TRACEPARENT`;
//! [`with_trace_context`](CommandExt::with_trace_context) is all that the one that starts it does. The trace is drawn
//! in the end, and the exit status is 1 if any span has another parent than it should.

use std::{
    collections::HashMap,
    env,
    error::Error,
    process::{Command, ExitCode},
};

use otlp::{
    propagation::CommandExt as _,
    testing::{Receiver, waterfall},
};

/// Every span and whose child it is.
const FAMILY: [(&str, Option<&str>); 6] = [
    ("nightly import", None),
    ("import a.csv", Some("nightly import")),
    ("import b.csv", Some("nightly import")),
    ("load a.csv", Some("import a.csv")),
    ("load b.csv", Some("import b.csv")),
    ("compress b.csv", Some("load b.csv")),
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["load", file] => load(file),
        ["compress", file] => compress(file),
        _ => whole(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("child_processes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The job: a span for each file, and a process within it.
fn import() -> Result<()> {
    let otlp = otlp::init()?;
    let _job = otlp.root("nightly import");
    let tracer = otlp::tracer("import");
    for file in ["a.csv", "b.csv"] {
        tracer.in_span(&format!("import {file}"), |_| start(&["load", file]))?;
    }
    Ok(())
}

/// The first child: its process span is a child of the span it was started in.
fn load(file: &str) -> Result<()> {
    let otlp = otlp::init()?;
    let _load = otlp.root(&format!("load {file}"));
    if file == "b.csv" { start(&["compress", file]) } else { Ok(()) }
}

/// The child of a child, without a process span.
fn compress(file: &str) -> Result<()> {
    let _otlp = otlp::init()?;
    otlp::tracer("compress").start(&format!("compress {file}")).end();
    Ok(())
}

/// Starts this program again and waits for it.
fn start(arguments: &[&str]) -> Result<()> {
    let status = Command::new(env::current_exe()?).args(arguments).with_trace_context().status()?;
    if status.success() { Ok(()) } else { Err(format!("{arguments:?}: {status}").into()) }
}

/// Runs the job against a receiver and looks at what arrived.
fn whole() -> Result<()> {
    if env::var_os("CHILD_PROCESSES_JOB").is_some() {
        return import();
    }
    let receiver = Receiver::start()?;
    let status = Command::new(env::current_exe()?)
        .env("CHILD_PROCESSES_JOB", "1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())
        // What happens to be in this process's environment is not the job's parent.
        .env_remove("TRACEPARENT")
        .status()?;
    let spans = receiver.spans();
    print!("{}", waterfall(&spans));
    if !status.success() {
        return Err(format!("the job: {status}").into());
    }
    let names: HashMap<_, _> = spans.iter().map(|span| (&span.span.span_id[..], span.span.name.as_str())).collect();
    let mut family: Vec<_> =
        spans.iter().map(|span| (span.span.name.as_str(), names.get(&span.span.parent_span_id[..]).copied())).collect();
    let mut expected = FAMILY.to_vec();
    family.sort_unstable();
    expected.sort_unstable();
    if family != expected || spans.iter().any(|span| span.span.trace_id != spans[0].span.trace_id) {
        return Err(format!("the spans and their parents are {family:?}").into());
    }
    println!("{} spans of 4 processes are one trace", spans.len());
    Ok(())
}
