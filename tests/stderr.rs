//! Whatever stderr is, nobody waits for it and nobody is killed by it: what cannot be written at once is counted, and
//! said when something can be written again. Each case in a process of its own.
#![cfg(all(feature = "testing", feature = "tls", target_os = "linux"))]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/stderr.rs"]
mod streams;
mod support;

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{self, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use faults::{Authority, Extent, FaultServer, accept, reset_after};
use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, Signal, kill, signal},
        termios::{LocalFlags, SetArg, tcgetattr, tcsetattr},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, Uid, alarm, fork},
};
use otlp::{
    BatchConfig, Client, LogLevel, RetryConfig,
    testing::{Receiver, Response},
};
use streams::{ROLE, Stream, WELL, assert_ends_well, broken, clogged, end_of, piped_stdout, playing, tell_parent};
use support::{LONG, SpoolDir, wait_for};

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    match role.as_str() {
        "loses a span" => loses(1),
        "loses many spans" => loses(MANY),
        "is configured wrongly" => is_configured_wrongly(),
        "is ended by a signal" => is_ended_by_a_signal(),
        "forks" => forks(),
        "goes on" => goes_on(),
        "says something later" => says_something_later(),
        "is reset" => is_reset(),
        "starts another in the background" => starts_another_in_the_background(),
        other => panic!("{other}"),
    }
}

/// Roles may be played by who may not open its stderr, with signals that kill, and without files.
fn prepare() {
    // Who hangs is ended by a signal.
    alarm::set(60);
    if env::var("OTLP_TEST_NOBODY").is_ok() {
        // This thread and those it starts. Through the C library it would be all threads, by a signal to each, which the
        // test harness's own thread does not always survive.
        // SAFETY: takes a number.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setuid, 65534) }, 0);
    }
    if env::var("OTLP_TEST_SIGPIPE").is_ok() {
        // SAFETY: a default action, no handler.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    }
    if env::var("OTLP_TEST_NO_FILES").is_ok() {
        setrlimit(Resource::RLIMIT_FSIZE, 0, 0).unwrap();
    }
}

const MANY: usize = 40_000;

/// The line is written at exit, on the thread that exits.
fn loses(spans: usize) -> ! {
    prepare();
    let _otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("test");
    (0..spans).for_each(|_| tracer.start("lost").end());
    process::exit(WELL)
}

/// The line is written by `init`.
fn is_configured_wrongly() -> ! {
    prepare();
    // SAFETY: no other thread looks at the environment.
    unsafe { env::set_var("OTEL_BSP_SCHEDULE_DELAY", "soon") };
    let _otlp = otlp::init().unwrap();
    process::exit(WELL)
}

/// The line is written by the thread that minds signals.
fn is_ended_by_a_signal() -> ! {
    prepare();
    let otlp = otlp::init().unwrap();
    otlp.close_on_signals().unwrap();
    otlp::tracer("test").start("lost").end();
    tell_parent("ready");
    loop {
        thread::park();
    }
}

/// The line is written by the child of a fork as well.
fn forks() -> ! {
    prepare();
    let _otlp = otlp::init().unwrap();
    otlp::tracer("test").start("lost").end();
    // SAFETY: as the library promises.
    let forked = unsafe { fork() }.unwrap();
    alarm::set(60);
    otlp::tracer("test").start("lost").end();
    if let ForkResult::Parent { child } = forked {
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, WELL));
    }
    process::exit(WELL)
}

/// Lines are written by the workers, while a receiver does not take spans yet.
fn goes_on() -> ! {
    const SPANS: usize = 140;
    prepare();
    let is_back = Arc::new(AtomicBool::new(false));
    let knows = Arc::clone(&is_back);
    let receiver = Receiver::builder()
        .respond_with(move |_| if knows.load(Ordering::SeqCst) { Response::ok() } else { Response::status(503) })
        .start()
        .unwrap();
    let retry =
        RetryConfig { max_attempts: 1_000, initial_interval: Duration::from_millis(1), ..RetryConfig::default() };
    // The spans leave while nobody waits for them.
    let batch = BatchConfig { batch_timeout: Duration::from_millis(10), ..BatchConfig::default() };
    let client = Client::builder()
        .with_endpoint(receiver.endpoint())
        .with_batch_config(batch)
        .with_retry_config(RetryConfig { max_interval: Duration::from_millis(20), ..retry })
        .with_request_timeout(LONG)
        .with_log_level(LogLevel::Debug);
    let client = client.build().unwrap();
    let tracer = client.tracer("test");
    (0..SPANS).for_each(|_| tracer.start("span").end());
    // Failures are told of as soon as they happen.
    wait_for("more attempts", || client.stats().requests >= 10);
    is_back.store(true, Ordering::SeqCst);
    let is_complete = client.flush(LONG).is_complete() && receiver.span_count() == SPANS as u64;
    let is_counted = client.stats().diagnostics_lost > 0;
    client.close();
    process::exit(if is_complete && is_counted { WELL } else { 9 })
}

/// Tells how many lines it could not write, waits, and has one more to say.
fn says_something_later() -> ! {
    prepare();
    // SAFETY: no other thread looks at the environment.
    unsafe { env::set_var("OTEL_BSP_SCHEDULE_DELAY", "soon") };
    let client = Client::builder().build().unwrap();
    client.tracer("test").start("lost").end();
    client.flush(LONG);
    // About the configuration, and about the span.
    wait_for("two lines", || client.stats().diagnostics_lost == 2);
    tell_parent("ready");
    let mut go_on = String::new();
    io::stdin().read_line(&mut go_on).unwrap();
    client.close();
    process::exit(WELL)
}

/// Connections break under what is sent over them.
fn is_reset() -> ! {
    prepare();
    let authority = Authority::new();
    let script = || {
        let resets = [Extent::Nothing, Extent::Head, Extent::Body(1), Extent::Body(100_000)].map(reset_after);
        resets.into_iter().chain([accept()])
    };
    let servers = [FaultServer::plain(script()), FaultServer::tls(authority.server(), script())];
    for server in &servers {
        let retry = RetryConfig { initial_interval: Duration::from_millis(1), ..RetryConfig::default() };
        let client = Client::builder()
            .with_endpoint(server.endpoint())
            .with_certificate(authority.file("ca.pem", authority.certificate()))
            .with_compression(otlp::Compression::None)
            .with_retry_config(retry)
            .with_request_timeout(LONG);
        let client = client.build().unwrap();
        let tracer = client.tracer("test");
        // More than the receiver's buffer takes.
        for _ in 0..100 {
            let mut span = tracer.start("span");
            span.set_attribute("much", "x".repeat(100_000));
            span.end();
        }
        if !client.close().is_complete() {
            process::exit(9);
        }
        if server.requests().iter().all(|request| request.ids.is_some()) {
            process::exit(8);
        }
    }
    process::exit(WELL)
}

/// Its controlling terminal is its stderr.
fn starts_another_in_the_background() -> ! {
    let mut other = playing("loses a span").process_group(0).spawn().unwrap();
    let pid = Pid::from_raw(other.id() as i32);
    let ended = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let _ = other.kill();
    process::exit(if ended == WaitStatus::Exited(pid, WELL) { WELL } else { 9 })
}

const ROLES: [&str; 4] = ["loses a span", "is configured wrongly", "forks", "goes on"];

#[test]
fn nobody_waits_for_a_stderr_that_takes_nothing() {
    for role in ROLES {
        for stream in clogged() {
            let name = format!("{role}, stderr is {}", stream.name);
            assert_ends_well(&name, playing(role).stderr(stream.as_stderr()));
            stream.assert_untouched();
        }
    }
}

#[test]
fn nobody_waits_for_a_stderr_that_takes_nothing_and_that_it_may_not_open() {
    if !Uid::current().is_root() {
        return;
    }
    for role in ROLES {
        for stream in clogged() {
            let name = format!("{role} as nobody, stderr is {}", stream.name);
            assert_ends_well(&name, playing(role).env("OTLP_TEST_NOBODY", "1").stderr(stream.as_stderr()));
            stream.assert_untouched();
        }
    }
}

#[test]
fn the_first_signal_ends_a_program_whose_stderr_takes_nothing() {
    for stream in clogged() {
        let mut command = playing("is ended by a signal");
        let mut stdout = BufReader::new(piped_stdout(&mut command)).lines();
        let mut child = command.stderr(stream.as_stderr()).spawn().unwrap();
        drop(command);
        assert!(stdout.any(|line| line.unwrap().ends_with("ready")), "{}", stream.name);
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let status = end_of(stream.name, &mut child);
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{}: {status:?}", stream.name);
    }
}

#[test]
fn where_there_is_room_each_line_is_written_whatever_stderr_is() {
    let nobody = Uid::current().is_root().then_some("OTLP_TEST_NOBODY");
    for user in [Some("OTLP_TEST_ROOT"), nobody].into_iter().flatten() {
        for stream in Stream::all() {
            for (role, part) in
                [("loses a span", "1 span was lost"), ("is configured wrongly", "OTEL_BSP_SCHEDULE_DELAY")]
            {
                let name = format!("{role}, stderr is {}, {user}", stream.name);
                assert_ends_well(&name, playing(role).env(user, "1").stderr(stream.as_stderr()));
                let said = stream.read_until("\n");
                let lines: Vec<_> = said.lines().collect();
                let is_told = lines.len() == 1 && lines[0].starts_with("otlp: ") && lines[0].contains(part);
                assert!(is_told && said.ends_with('\n'), "{name}: {said:?}");
            }
            stream.assert_untouched();
        }
    }
}

#[test]
fn a_file_is_written_to_where_it_ends() {
    let place = SpoolDir::new();
    fs::write(place.path(), "of others\n").unwrap();
    let mut log = fs::OpenOptions::new().append(true).open(place.path()).unwrap();
    assert_ends_well("a file", playing("loses a span").stderr(log.try_clone().unwrap()));
    log.write_all(b"of others\n").unwrap();
    let lines = fs::read_to_string(place.path()).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("otlp: ") && lines[2] == "of others", "{lines:?}");
}

#[test]
fn what_could_not_be_written_is_counted_and_said_with_the_next_line() {
    for mut stream in Stream::all().map(Stream::filled) {
        let mut command = playing("says something later");
        let mut stdout = BufReader::new(piped_stdout(&mut command)).lines();
        let mut child = command.stderr(stream.as_stderr()).stdin(Stdio::piped()).spawn().unwrap();
        drop(command);
        assert!(stdout.any(|line| line.unwrap().ends_with("ready")), "{}", stream.name);
        stream.drain();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(end_of(stream.name, &mut child).code(), Some(WELL));
        let said = stream.read_until("\n");
        let is_told = said.contains("1 span was lost") && said.contains(" (2 earlier lines could not be written)");
        assert!(is_told && said.lines().count() == 1, "{}: {said:?}", stream.name);
    }
}

#[test]
fn a_stderr_that_nobody_reads_any_more_kills_nobody() {
    for role in ROLES {
        for (name, stderr) in broken() {
            let name = format!("{role}, stderr was {name}");
            assert_ends_well(&name, playing(role).env("OTLP_TEST_SIGPIPE", "1").stderr(stderr));
        }
    }
}

#[test]
fn a_connection_that_breaks_kills_nobody() {
    assert_ends_well("is reset", playing("is reset").env("OTLP_TEST_SIGPIPE", "1").stderr(Stdio::null()));
}

#[test]
fn a_limit_on_files_costs_what_would_lie_in_the_spool_and_kills_nobody() {
    let (spool, stream) = (SpoolDir::new(), Stream::pipe());
    // It takes what is sent and never answers: workers wait, and most is left to the thread that exits.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = playing("loses many spans");
    command
        .env("OTLP_TEST_NO_FILES", "1")
        .env("OTLP_SPOOL_DIR", spool.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", silent.local_addr().unwrap()))
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "10000");
    assert_ends_well("no files", command.stderr(stream.as_stderr()));
    let said = stream.read_until(&format!("{MANY} spans were lost"));
    assert!(said.contains("the spool") && said.contains("took no more: File too large"), "{said}");
    assert!(spool.bodies().is_empty() && spool.files("tmp").is_empty());
}

#[test]
fn a_limit_on_files_kills_nobody_whose_stderr_is_a_file() {
    for role in ROLES {
        let place = SpoolDir::new();
        let log = fs::File::create(place.path()).unwrap();
        assert_ends_well(role, playing(role).env("OTLP_TEST_NO_FILES", "1").stderr(log));
        assert_eq!(fs::metadata(place.path()).unwrap().len(), 0);
    }
}

#[test]
fn a_terminal_that_stops_who_writes_to_it_from_the_background_stops_nobody() {
    let terminal = Stream::terminal();
    let mut settings = tcgetattr(&terminal.writer).unwrap();
    settings.local_flags |= LocalFlags::TOSTOP;
    tcsetattr(&terminal.writer, SetArg::TCSANOW, &settings).unwrap();
    let mut command = playing("starts another in the background");
    command.stderr(terminal.as_stderr());
    // SAFETY: both are system calls and nothing else.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::errno::Errno::result(libc::ioctl(2, libc::TIOCSCTTY as _, 0))?;
            Ok(())
        })
    };
    assert_ends_well("in the background", &mut command);
    terminal.read_until("1 span was lost");
}
