//! A host that is no Rust program loads a library that records, closes it again, and ends as it would have without.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use otlp::testing::Receiver;
use support::{LONG, holds_within};

const OWN_CLIENT: i32 = 1;
const FORGOTTEN: i32 = 2;
const SIGNALS: i32 = 4;
const THREADS: i32 = 8;

/// The library and its host, built once.
fn built() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let test = env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).expect("tests are in a directory of their own");
        let library = profile.join("examples").join("libplugin.so");
        // Where all of `cargo test` runs it is there already, and this finds nothing to do.
        let mut cargo = Command::new(env!("CARGO"));
        // What says that a test runs would have crates built again that ask for it.
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
        for (variable, _) in env::vars().filter(|(name, _)| ours.iter().any(|ours| name.starts_with(ours))) {
            cargo.env_remove(variable);
        }
        let cargo = cargo
            .args(["build", "--quiet", "--profile", if cfg!(debug_assertions) { "test" } else { "release" }])
            // Not of one package: other members ask for other features, and it would be built again.
            .args(["--example", "plugin", "--manifest-path"])
            .arg(root.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().unwrap())
            .status();
        assert!(cargo.unwrap().success() && library.exists(), "{}", library.display());
        let host = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unloading-host");
        let source = root.join("tests/unloading/host.c");
        let mut compiler = Command::new("cc");
        compiler.arg("-o").args([&host, &source]).args(["-pthread", "-ldl"]);
        assert!(compiler.status().unwrap().success());
        (library, host)
    })
}

/// A host that has used the library, and waits for a word to end.
struct Host {
    child: Child,
    receiver: Receiver,
}

impl Host {
    fn start(how: i32, thread: &str, close: &str, end: &str) -> Self {
        let receiver = Receiver::start().unwrap();
        let endpoint = receiver.endpoint();
        Self::start_at(&endpoint, receiver, [&how.to_string(), thread, close, end])
    }

    fn start_at(endpoint: &str, receiver: Receiver, arguments: [&str; 4]) -> Self {
        let (library, host) = built();
        let mut command = Command::new(host);
        for (variable, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
            command.env_remove(variable);
        }
        command.arg(library).args(arguments).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        command.envs([("OTEL_BSP_SCHEDULE_DELAY", "50"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "used\n" {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Self { child, receiver }
    }

    /// Has it end, and waits for that.
    fn end(mut self) -> (Option<std::process::ExitStatus>, Receiver) {
        drop(self.child.stdin.take());
        let mut status = None;
        holds_within(LONG, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if status.is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        (status, self.receiver)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Has its main thread end, and waits for that.
    fn leave_main(&mut self) {
        drop(self.child.stdin.take());
        let stat = format!("/proc/{}/stat", self.child.id());
        let is_gone = || fs::read_to_string(&stat).unwrap().rsplit_once(") ").unwrap().1.starts_with('Z');
        assert!(holds_within(LONG, is_gone), "the main thread goes on");
    }
}

const ENDS: [(&str, i32); 4] = [("exit", 3), ("_exit", 4), ("pthread_exit", 0), ("return", 5)];

#[test]
fn a_host_that_closes_the_library_ends_as_it_would_have_and_the_spans_arrive() {
    let mut cases = Vec::new();
    for thread in ["main", "other"] {
        for how in [0, FORGOTTEN, OWN_CLIENT, OWN_CLIENT | FORGOTTEN, OWN_CLIENT | FORGOTTEN | THREADS] {
            cases.extend(ENDS.map(|(end, code)| (how, thread, end, code)));
        }
        // With the thread that waits for signals the process lives on where only its main thread ends.
        cases.extend(
            ENDS.map(|(end, code)| (FORGOTTEN | SIGNALS, thread, end, code))
                .into_iter()
                .filter(|case| case.2 != "pthread_exit"),
        );
    }
    built();
    let play = |(how, thread, end, code)| {
        let host = Host::start(how, thread, "close", end);
        // All but the process span, which ends with the process or the guard.
        let before = if how & OWN_CLIENT != 0 || how & FORGOTTEN == 0 { 3 } else { 2 };
        let arrived = host.receiver.wait_for_spans(before, LONG);
        let (status, receiver) = host.end();
        let all = if end == "_exit" { before } else { 3 };
        let is = (arrived, status.and_then(|status| status.code()), receiver.span_count());
        (is != (true, Some(code), all)).then(|| format!("{how} on {thread}, {end}: {is:?}, {status:?}"))
    };
    let failed: Vec<_> = thread::scope(|scope| {
        let playing: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || play(case))).collect();
        playing.into_iter().filter_map(|played| played.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_process_whose_own_threads_have_ended_ends_and_delivers_what_it_has() {
    for how in [FORGOTTEN, OWN_CLIENT | FORGOTTEN | THREADS] {
        let (status, receiver) = Host::start(how, "other", "keep", "pthread_exit").end();
        assert_eq!(status.map(|status| status.code()), Some(Some(0)), "{how}");
        assert_eq!(receiver.span_count(), 3, "{how}");
    }
}

#[test]
fn what_is_lost_at_the_end_of_a_process_whose_own_threads_have_ended_is_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = [&FORGOTTEN.to_string(), "other", "close", "pthread_exit"];
    let mut host = Host::start_at(&format!("http://{nobody}"), Receiver::start().unwrap(), arguments);
    let mut stderr = host.child.stderr.take().unwrap();
    let (status, _) = host.end();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.map(|status| status.code()), Some(Some(0)), "{said}");
    assert!(said.contains("otlp: 3 spans were lost"), "{said}");
}

#[test]
fn a_process_whose_main_thread_has_ended_is_ended_by_a_signal_that_closes_the_client() {
    let mut host = Host::start(FORGOTTEN | SIGNALS, "main", "close", "pthread_exit");
    host.leave_main();
    kill(host.pid(), Signal::SIGTERM).unwrap();
    let (status, receiver) = host.end();
    let signal = status.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
    assert_eq!((signal, receiver.span_count()), (Some(Signal::SIGTERM as i32), 3));
}
