//! A descriptor that has the number of stderr is not always stderr: no line of the library's ends up in a file, a
//! socket or a counter of somebody else's. What was made stderr on purpose is. Each case in a process of its own.
#![cfg(all(feature = "testing", target_os = "linux"))]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/stderr.rs"]
mod streams;
mod support;

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use faults::{Answer, FaultServer, answer};
use otlp::Client;
use streams::{ROLE, WELL, assert_ends_well, end_of, playing};
use support::{LONG, SpoolDir};

const PLACE: &str = "OTLP_TEST_PLACE";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    match role.as_str() {
        "a file that closes on exec, at first" => {
            close_stderr();
            let _file = File::create(place()).unwrap();
            lose_lines(3)
        }
        "a file, after stderr was closed at first" => {
            close_stderr();
            Client::builder().build().unwrap();
            open(libc::O_WRONLY | libc::O_CREAT);
            lose_lines(3)
        }
        "a file that closes on exec, later" => {
            let _otlp = otlp::init().unwrap();
            close_stderr();
            let _file = File::create(place()).unwrap();
            lose_lines(3)
        }
        "a file, after stderr was seen to be closed" => {
            Client::builder().build().unwrap();
            let stderr = duplicate();
            close_stderr();
            say_something(1);
            open(libc::O_WRONLY | libc::O_CREAT);
            say_something(1);
            // It is back.
            // SAFETY: both are descriptors.
            unsafe { libc::dup2(stderr, 2) };
            say_something(0);
            process::exit(WELL)
        }
        "a file to be read, at first" => {
            close_stderr();
            open(libc::O_RDONLY | libc::O_CREAT);
            lose_lines(3)
        }
        "a counter" => {
            Client::builder().build().unwrap();
            close_stderr();
            // SAFETY: a system call.
            assert_eq!(unsafe { libc::eventfd(0, 0) }, 2);
            lose_lines(3)
        }
        "a connection" => is_a_connection(),
        "a log" => {
            let _otlp = otlp::init().unwrap();
            let log = File::create(place()).unwrap();
            make_stderr(&log);
            drop(log);
            say_something(0);
            process::exit(WELL)
        }
        "a log, made by one who keeps it to himself" => {
            // As Node.js does.
            for number in 0..3 {
                // SAFETY: a system call.
                assert_eq!(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
            }
            say_something(0);
            process::exit(WELL)
        }
        "nothing" => {
            close_stderr();
            lose_lines(3)
        }
        other => panic!("{other}"),
    }
}

fn place() -> PathBuf {
    env::var_os(PLACE).unwrap().into()
}

fn close_stderr() {
    // SAFETY: whatever is at number 2 then, nobody here relies on it.
    assert_eq!(unsafe { libc::close(2) }, 0);
}

fn duplicate() -> i32 {
    // SAFETY: a system call.
    unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 10) }
}

/// Opens the place as C programs do, and gets the number of stderr.
fn open(flags: i32) {
    let path = CString::new(place().as_os_str().as_bytes()).unwrap();
    // SAFETY: `path` is a string.
    assert_eq!(unsafe { libc::open(path.as_ptr(), flags, 0o600) }, 2);
}

fn make_stderr(log: &File) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: both are descriptors.
    assert_eq!(unsafe { libc::dup2(log.as_raw_fd(), 2) }, 2);
}

/// Builds a client from an environment that makes no sense; so many of what it says about it cannot be written.
fn say_something(lost: u64) {
    // SAFETY: no other thread looks at the environment.
    unsafe { env::set_var("OTEL_BSP_SCHEDULE_DELAY", "soon") };
    let client = Client::builder().build().unwrap();
    if client.stats().diagnostics_lost != lost {
        process::exit(9);
    }
    // SAFETY: as above.
    unsafe { env::remove_var("OTEL_BSP_SCHEDULE_DELAY") };
}

/// Has lines said while building, by a worker and at the end, and none of them written.
fn lose_lines(at_least: u64) -> ! {
    // SAFETY: no other thread looks at the environment.
    unsafe { env::set_var("OTEL_BSP_SCHEDULE_DELAY", "soon") };
    let client = Client::builder().build().unwrap();
    client.tracer("test").start("lost").end();
    client.flush(LONG);
    client.close();
    process::exit(if client.stats().diagnostics_lost >= at_least { WELL } else { 9 })
}

/// The client's own connection gets the number.
fn is_a_connection() -> ! {
    let otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("test");
    close_stderr();
    for _ in 0..3 {
        tracer.start("refused").end();
        otlp::client().flush(LONG);
        let two = fs::read_link("/proc/self/fd/2").unwrap_or_default();
        let is_ours = two.to_string_lossy().starts_with("socket:");
        if !is_ours {
            process::exit(8);
        }
    }
    drop(otlp);
    process::exit(if otlp::client().stats().diagnostics_lost > 0 { WELL } else { 9 })
}

#[track_caller]
fn assert_left_alone(role: &str, place: &Path) {
    fs::write(place, "").unwrap();
    let status = end_of(role, &mut playing(role).env(PLACE, place).stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(fs::read_to_string(place).unwrap(), "", "{role}");
    assert_eq!(status.code(), Some(WELL), "{role}");
}

#[test]
fn what_got_the_number_of_stderr_by_accident_is_left_alone() {
    let place = SpoolDir::new();
    for role in [
        "a file that closes on exec, at first",
        "a file, after stderr was closed at first",
        "a file that closes on exec, later",
        "a file, after stderr was seen to be closed",
        "a file to be read, at first",
        "a counter",
        "nothing",
    ] {
        assert_left_alone(role, place.path());
    }
}

#[test]
fn a_connection_of_the_clients_own_that_got_the_number_of_stderr_carries_requests_alone() {
    let server = FaultServer::plain([answer(Answer::status(400))]);
    let mut command = playing("a connection");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", server.endpoint());
    let status = end_of("a connection", &mut command.stderr(Stdio::null()).spawn().unwrap());
    let heads: Vec<_> = server.requests().into_iter().map(|request| request.head).collect();
    assert!(heads.len() == 3 && heads.iter().all(|head| head.starts_with("post /v1/traces ")), "{heads:?}");
    assert_eq!((server.failures(), status.code()), (Vec::new(), Some(WELL)));
}

#[test]
fn a_log_that_was_made_stderr_is_written_to() {
    let place = SpoolDir::new();
    fs::write(place.path(), "").unwrap();
    assert_ends_well("a log", playing("a log").env(PLACE, place.path()).stderr(Stdio::null()));
    let said = fs::read_to_string(place.path()).unwrap();
    assert!(said.starts_with("otlp: ") && said.contains("OTEL_BSP_SCHEDULE_DELAY"), "{said:?}");

    let role = "a log, made by one who keeps it to himself";
    assert_ends_well(role, playing(role).stderr(File::create(place.path()).unwrap()));
    let said = fs::read_to_string(place.path()).unwrap();
    assert!(said.starts_with("otlp: ") && said.contains("OTEL_BSP_SCHEDULE_DELAY"), "{said:?}");
}
