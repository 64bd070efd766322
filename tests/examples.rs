//! The examples that take no more than seconds: each runs in a process of its own, against a receiver of its own, and
//! judges itself. `cargo test` builds them; `cargo test --test examples` does not, and runs those that were built last.
#![cfg(feature = "testing")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where cargo puts the examples: beside the directory of the tests. Without one that is missing nothing can be said,
/// so that is a failure and not a reason to pass.
fn path_of(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).expect("tests are in a directory of their own");
    let path = profile.join("examples").join(format!("{example}{}", env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{example} is not built: run the whole of `cargo test`, or `cargo build --examples` before");
    path
}

/// Runs an example with nothing in its environment that would lead elsewhere. It must succeed and say `line`.
#[track_caller]
fn assert_runs(example: &str, line: &str) {
    assert_runs_with(example, &[], line);
}

/// The same with arguments.
#[track_caller]
fn assert_runs_with(example: &str, arguments: &[&str], line: &str) {
    let mut command = Command::new(path_of(example));
    for variable in otlp::VARIABLES {
        command.env_remove(variable.name);
    }
    let output = command.args(arguments).env_remove("TRACEPARENT").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.lines().any(|printed| printed.contains(line)), "{line:?} is not in\n{stdout}\n{stderr}");
    assert_eq!(stderr, "", "nothing goes wrong in an example");
}

#[test]
fn the_first_minute_ends_with_every_span_and_without_a_complaint() {
    assert_runs("quickstart", "200,000 ended = 200,000 exported = 200,000 received");
}

#[test]
fn a_client_in_code_delivers_a_trace() {
    assert_runs("basic", "4 exported, 0 rejected, 0 dropped {}, 0 pending");
}

#[test]
fn a_tool_is_configured_by_its_environment() {
    assert_runs("from_env", "all as the environment says");
}

#[test]
fn threads_share_a_trace_and_lose_nothing() {
    assert_runs("worker_threads", "9001 spans of 6 threads are one trace, nothing lost");
}

#[test]
fn compressions_are_compared() {
    assert_runs("compression", "recording     gzip");
}

#[test]
fn a_client_tells_its_metrics() {
    assert_runs("monitoring", "otel.sdk.exporter.span.exported");
}

#[test]
fn a_trace_goes_through_processes() {
    assert_runs("child_processes", "6 spans of 4 processes are one trace");
}

#[test]
fn the_suite_measures_next_to_its_targets() {
    assert_runs("performance_suite", "p99");
}

#[test]
fn the_suite_measures_what_the_specification_describes() {
    // PERF-03
    let workload = "10000 spans/s for 1 s, 1 integer attribute and 1 event";
    assert_runs_with("performance_suite", &["specification", "1", "1"], workload);
}

#[test]
fn every_example_says_how_to_run_it() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    for entry in entries.filter(|entry| !entry.ends_with("Cargo.toml")) {
        let file = if entry.is_dir() { entry.join("main.rs") } else { entry.clone() };
        let text = fs::read_to_string(&file).unwrap();
        let opening: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let name = entry.file_stem().unwrap().to_str().unwrap();
        assert!(opening.contains(&format!("--example {name}")), "{} does not", file.display());
    }
}
