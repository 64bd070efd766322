//! With `close_on_signals` a signal ends the process as it would have, after the spans have arrived: in an ordinary
//! process, in the first one of a container, and beside what the program does about signals itself. Each case is a
//! process of its own.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _},
    net::TcpListener,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{self, Child, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
};

use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
    unistd::Pid,
};
use otlp::testing::Receiver;
use support::{LONG, holds_within};

/// Names the case a child process plays.
const CASE: &str = "OTLP_TEST_CASE";

const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// What a process ends with that was told to go on.
const WENT_ON: i32 = 7;

/// What a process ends with that waited for a signal, on all of whose threads it is blocked.
const WAITED_FOR: i32 = 8;

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(CASE).as_deref() {
        Err(_) => {}
        Ok("alone") => record_and_wait(|| ()),
        Ok("closing is told") => record_and_wait(|| {
            thread::spawn(|| {
                while otlp::tracer("test").enabled() {
                    thread::yield_now();
                }
                say("closing");
            });
        }),
        Ok("handled before") => {
            handle_all();
            record_and_wait(|| ());
        }
        Ok("handled later") => record_and_wait(handle_all),
        Ok("handled later, calling what was there before") => record_and_wait(|| {
            for signal in SIGNALS {
                signal_hook::flag::register(signal as i32, Arc::default()).unwrap();
            }
        }),
        Ok("ignored before") => {
            set_all(SigHandler::SigIgn);
            record_and_wait(|| ());
        }
        Ok("ignored later") => record_and_wait(|| set_all(SigHandler::SigIgn)),
        Ok("waited for") => record_and_wait(|| {
            thread::spawn(|| {
                SIGNALS.into_iter().collect::<SigSet>().wait().unwrap();
                process::exit(WAITED_FOR);
            });
        }),
        Ok("asked again in the child of a fork") => asked_again_in_the_child_of_a_fork(),
        Ok(name) => panic!("there is no case {name}"),
    }
}

extern "C" fn nothing(_: i32) {}

fn handle_all() {
    set_all(SigHandler::Handler(nothing));
}

fn set_all(handler: SigHandler) {
    for signal in SIGNALS {
        // SAFETY: the handler does nothing.
        unsafe { sigaction(signal, &SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty())) }.unwrap();
    }
}

fn say(what: &str) {
    println!("{what}");
}

/// Records ten spans that nobody sends before the client is closed, and goes on until the end of its input.
fn record_and_wait(then: impl FnOnce()) {
    let otlp = otlp::init().unwrap();
    otlp.close_on_signals().unwrap();
    then();
    let tracer = otlp::tracer("test");
    (0..10).for_each(|_| tracer.start("step").end());
    say("ready");
    let _ = io::stdin().read_to_end(&mut Vec::new());
    process::exit(WENT_ON);
}

/// Goes on if its child was ended by the signal it sent itself.
fn asked_again_in_the_child_of_a_fork() {
    let otlp = otlp::init().unwrap();
    otlp.close_on_signals().unwrap();
    // SAFETY: as the library promises.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            otlp.close_on_signals().unwrap();
            (0..10).for_each(|_| otlp::tracer("child").start("a child's").end());
            kill(Pid::this(), Signal::SIGTERM).unwrap();
            loop {
                thread::park();
            }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{status:?}");
            say("ready");
            let _ = io::stdin().read_to_end(&mut Vec::new());
            process::exit(WENT_ON);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ordinary,
    /// Process 1 of a namespace of its own.
    First,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Code(i32),
    Signal(Signal),
    Never,
}

/// How a process ends that `signal` ends.
fn ended_by(signal: Signal, place: Place) -> End {
    if place == Place::First { End::Code(128 + signal as i32) } else { End::Signal(signal) }
}

struct Playing {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Playing {
    /// Starts a case, and waits until it is ready.
    fn start(case: &str, place: Place, endpoint: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        for (variable, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
            command.env_remove(variable);
        }
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(CASE, case);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if case == "waited for" {
            // SAFETY: changes the mask of the process that is about to be the child, and nothing else.
            unsafe { command.pre_exec(|| Ok(SIGNALS.into_iter().collect::<SigSet>().thread_block()?)) };
        }
        let mut child = if place == Place::First { spawn_first(command) } else { command.spawn() }.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut playing = Self { child, lines };
        playing.wait_until_it_says("ready");
        playing
    }

    fn wait_until_it_says(&mut self, what: &str) {
        let mut line = String::new();
        // The harness writes on the same line.
        while !line.trim_end().ends_with(what) {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it has ended and never was {what}");
        }
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Has it end by itself if it goes on, and waits for its end.
    fn end(mut self) -> End {
        drop(self.child.stdin.take());
        let mut status = None;
        holds_within(LONG, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let Some(status) = status else {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            return End::Never;
        };
        let signal = status.signal().map(|signal| End::Signal(Signal::try_from(signal).unwrap()));
        signal.unwrap_or_else(|| End::Code(status.code().unwrap()))
    }
}

/// Starts a process that is the first of a namespace.
fn spawn_first(mut command: Command) -> io::Result<Child> {
    // The namespace is that of the children of the one thread that asks for it.
    let spawn = move || {
        // SAFETY: takes a number.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            return Err(io::Error::last_os_error());
        }
        command.spawn()
    };
    thread::spawn(spawn).join().unwrap()
}

/// The places there are here.
fn places() -> Vec<Place> {
    // SAFETY: takes a number, and concerns nothing but children of a thread that has none.
    let refused = thread::spawn(|| unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0).join().unwrap();
    if refused {
        eprintln!("SKIPPED for process 1 of a namespace: namespaces are refused here, and need root");
        return vec![Place::Ordinary];
    }
    vec![Place::Ordinary, Place::First]
}

/// Plays cases at the same time; those that fail say why.
fn play_all<T: Send>(cases: impl IntoIterator<Item = T>, play: impl Fn(T) -> Option<String> + Sync) {
    let play = &play;
    let failed: Vec<_> = thread::scope(|scope| {
        let playing: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || play(case))).collect();
        playing.into_iter().filter_map(|played| played.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn signals_and_places() -> Vec<(Signal, Place)> {
    places().into_iter().flat_map(|place| SIGNALS.map(|signal| (signal, place))).collect()
}

#[test]
fn a_signal_ends_the_process_after_the_spans_have_arrived() {
    play_all(signals_and_places(), |(signal, place)| {
        let receiver = Receiver::start().unwrap();
        let playing = Playing::start("alone", place, &receiver.endpoint(), &[]);
        playing.send(signal);
        // It does not go on before it ends.
        assert!(receiver.wait_for_spans(10, LONG), "{signal} {place:?}");
        let end = wait(playing);
        (end != ended_by(signal, place)).then(|| format!("{signal} {place:?}: {end:?}"))
    });
}

/// Waits for an end that nothing but a signal brings.
fn wait(mut playing: Playing) -> End {
    let _input = playing.child.stdin.take();
    playing.end()
}

#[test]
fn a_signal_ends_the_process_where_nobody_answers() {
    play_all(signals_and_places(), |(signal, place)| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let playing = Playing::start("alone", place, &endpoint, &[]);
        playing.send(signal);
        let end = wait(playing);
        (end != ended_by(signal, place)).then(|| format!("{signal} {place:?}: {end:?}"))
    });
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    // It would never end otherwise.
    let patient = [("OTLP_EXIT_TIMEOUT", "0"), ("OTLP_EXIT_STALL_TIMEOUT", "0")];
    play_all(signals_and_places(), |(signal, place)| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let mut playing = Playing::start("closing is told", place, &endpoint, &patient);
        playing.send(Signal::SIGTERM);
        playing.wait_until_it_says("closing");
        playing.send(signal);
        let end = wait(playing);
        (end != ended_by(signal, place)).then(|| format!("{signal} {place:?}: {end:?}"))
    });
}

#[test]
fn where_the_client_is_disabled_a_signal_does_what_it_does_without() {
    play_all(signals_and_places(), |(signal, place)| {
        let playing = Playing::start("alone", place, "http://127.0.0.1:9", &[("OTEL_SDK_DISABLED", "true")]);
        playing.send(signal);
        playing.send(signal);
        let end = playing.end();
        // The kernel discards it where a first process has no handler.
        let must = if place == Place::First { End::Code(WENT_ON) } else { End::Signal(signal) };
        (end != must).then(|| format!("{signal} {place:?}: {end:?}"))
    });
}

#[test]
fn what_the_program_does_about_a_signal_itself_is_left_to_it() {
    let cases = [
        ("handled before", WENT_ON),
        ("handled later", WENT_ON),
        ("handled later, calling what was there before", WENT_ON),
        ("ignored before", WENT_ON),
        ("ignored later", WENT_ON),
        ("waited for", WAITED_FOR),
    ];
    let all = cases
        .iter()
        .flat_map(|case| signals_and_places().into_iter().map(move |(signal, place)| (case, signal, place)));
    play_all(all, |((case, code), signal, place)| {
        let receiver = Receiver::start().unwrap();
        let playing = Playing::start(case, place, &receiver.endpoint(), &[]);
        playing.send(signal);
        let end = if *code == WENT_ON { playing.end() } else { wait(playing) };
        let is = (end, receiver.span_count());
        (is != (End::Code(*code), 10)).then(|| format!("{case}, {signal} {place:?}: {is:?}"))
    });
}

#[test]
fn the_child_of_a_fork_that_asks_again_is_closed_by_signals_too() {
    let receiver = Receiver::start().unwrap();
    let playing = Playing::start("asked again in the child of a fork", Place::Ordinary, &receiver.endpoint(), &[]);
    assert_eq!((playing.end(), receiver.span_count()), (End::Code(WENT_ON), 10));
}
