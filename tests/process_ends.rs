//! However a process ends, its spans arrive or are said to be lost, its exit status stays what it was, and it ends in
//! time. The cases are those of the example `exit_behaviour`, each in a process of its own.
#![cfg(feature = "testing")]
#![cfg(unix)]

#[path = "../examples/exit_behaviour/cases.rs"]
mod cases;
#[path = "../examples/exit_behaviour/process.rs"]
mod run;
mod support;

use std::{collections::HashSet, env, process, thread};

use cases::{CASES, Case, Collector, End};
use otlp::testing::{ReceivedSpan, proto::common::v1::any_value::Value};
use run::Ended;
use support::LONG;

/// Names the case a child process plays.
const CASE: &str = "OTLP_TEST_CASE";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(CASE).as_deref() {
        Err(_) => {}
        Ok("fork storm") => fork_storm(),
        Ok("fork while threads wait") => fork_while_threads_wait(),
        Ok("handles signals itself") => handles_signals_itself(),
        Ok("stderr is locked") => stderr_is_locked(),
        Ok("disabled, and a child is ended") => disabled_and_a_child_is_ended(),
        Ok("an error that looks at the process span") => error_that_looks_at_the_process_span(),
        #[cfg(target_os = "linux")]
        Ok("nothing to do for long") => nothing_to_do_for_long(),
        Ok(name) => run::as_child(name).unwrap(),
    }
}

fn play(case: &Case) -> Ended {
    play_with(case, &[])
}

fn play_with(case: &Case, variables: &[(&str, &str)]) -> Ended {
    let named = run::run(case, |command| {
        let arguments = ["--exact", "child", "--nocapture", "--test-threads=1"];
        command.args(arguments).env(CASE, case.name).envs(variables.iter().copied())
    });
    named.unwrap()
}

#[track_caller]
fn ended(name: &str) -> Ended {
    let case = CASES.iter().find(|case| case.name == name).expect("a case of the example");
    let ended = play(case);
    ended.check(case).unwrap();
    ended
}

/// The process span, which every other span but those of an upstream process descends from.
#[track_caller]
fn root_of(ended: &Ended) -> ReceivedSpan {
    let spans = ended.receiver.spans();
    let root = spans.iter().find(|span| span.span.name == "job").expect("the process span").clone();
    for span in spans.iter().filter(|span| span.span.name != "job") {
        assert_eq!(span.span.parent_span_id, root.span.span_id, "{}", span.span.name);
        assert_eq!(span.span.trace_id, root.span.trace_id);
    }
    root
}

fn status(span: &ReceivedSpan) -> (i32, &str) {
    span.span.status.as_ref().map_or((0, ""), |status| (status.code, status.message.as_str()))
}

const ERROR: i32 = 2;

#[test]
fn every_way_to_end_delivers_what_it_must_keeps_the_exit_status_and_ends_in_time() {
    ends_as_it_must(&[], "/v1/traces");
}

/// Forked children among them, which have connections of their own.
#[cfg(feature = "grpc")]
#[test]
fn every_way_to_end_is_the_same_over_grpc() {
    ends_as_it_must(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "TraceService/Export");
}

fn ends_as_it_must(variables: &[(&str, &str)], path: &str) {
    let failed: Vec<_> = CASES
        .iter()
        .filter_map(|case| {
            let ended = play_with(case, variables);
            let requests = ended.receiver.requests();
            assert!(requests.iter().all(|request| request.path.ends_with(path)), "{}: {requests:?}", case.name);
            assert_eq!(ended.receiver.errors(), Vec::<String>::new(), "{}", case.name);
            ended.check(case).err().map(|why| format!("{}: {why}\n{}", case.name, ended.stderr))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_process_span_is_the_root_of_all_and_has_no_status_when_main_returns() {
    let root = root_of(&ended("main returns"));
    assert_eq!((status(&root), root.span.parent_span_id.len()), ((0, ""), 0));
}

#[test]
fn the_process_span_notes_the_exit_code_and_an_error_if_it_is_not_zero() {
    let root = root_of(&ended("process::exit(7)"));
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        assert_eq!(root.attribute("process.exit.code"), Some(&Value::IntValue(7)));
        assert_eq!(status(&root), (ERROR, "exit code 7"));
    }
}

#[test]
fn a_panic_gives_the_spans_it_unwinds_and_the_process_span_the_status_error() {
    let ended = ended("main panics through an open span");
    assert_eq!(status(&root_of(&ended)), (ERROR, "panicked"));
    let fails = ended.receiver.spans().into_iter().find(|span| span.span.name == "fails").unwrap();
    assert_eq!(status(&fails), (ERROR, "panicked"));
}

#[test]
fn a_panic_that_aborts_is_an_event_of_the_process_span() {
    let root = root_of(&ended("a panic that cannot unwind, flush_on_panic"));
    assert_eq!(status(&root), (ERROR, "panicked"));
    assert_eq!(root.span.events[0].name, "exception");
}

#[test]
fn a_signal_is_named_in_the_process_span() {
    for (case, name) in [("SIGTERM, close_on_signals", "SIGTERM"), ("SIGINT, close_on_signals", "SIGINT")] {
        let root = root_of(&ended(case));
        assert_eq!(status(&root), (ERROR, format!("ended by {name}").as_str()));
        assert_eq!(root.attribute("error.type"), Some(&Value::StringValue(name.to_owned())));
    }
}

#[test]
fn the_spans_of_a_forked_child_belong_to_the_trace_of_its_parent_and_have_ids_of_their_own() {
    let ended = ended("fork: parent and child record");
    root_of(&ended);
    let ids: HashSet<_> = ended.receiver.span_ids().into_iter().collect();
    assert_eq!(ids.len(), 21);
}

const STORM: u64 = 20;

/// Forks in the middle of whatever other threads do: their locks are held in the child, for ever.
fn fork_storm() {
    let otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("storm");
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // Short threads too, which register and retire.
                    thread::scope(|scope| drop(scope.spawn(|| (0..100).for_each(|_| tracer.start("busy").end()))));
                }
            });
        }
        scope.spawn(|| (0..50).for_each(|_| assert_eq!(otlp::client().flush(LONG).dropped_total(), 0)));
        for _ in 0..STORM {
            // SAFETY: as the library promises.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => {
                    otlp::tracer("child").start("a child's").end();
                    tracer.start("a child's").end();
                    let complete = otlp::client().flush(LONG).is_complete();
                    process::exit(if complete { 0 } else { 9 })
                }
                nix::unistd::ForkResult::Parent { child } => {
                    let ended = nix::sys::wait::waitpid(child, None).unwrap();
                    assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
                }
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(otlp::client().flush(LONG).is_complete());
    drop(otlp);
}

#[test]
fn children_that_are_forked_while_others_record_neither_hang_nor_send_what_is_their_parents() {
    let ended = play(&Case { name: "fork storm", ..OTHER });
    assert_eq!(ended.end, Some(End::Code(0)), "{}", ended.stderr);
    let ids = ended.receiver.span_ids();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a span arrived twice, or an id was made twice");
    let childrens = ended.receiver.spans().into_iter().filter(|span| span.span.name == "a child's").count();
    assert_eq!(childrens as u64, 2 * STORM);
}

const WAITED: usize = 20;

/// Many threads wait, each for something else, and what they wait on is copied as it is.
fn fork_while_threads_wait() {
    // SAFETY: no other thread looks at the environment.
    unsafe {
        env::set_var("OTLP_DROP_STRATEGY", "block:30000");
        env::set_var("OTEL_BSP_MAX_QUEUE_SIZE", "1");
    }
    let otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("waits");
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    tracer.start("busy").end();
                }
            });
        }
        for _ in 0..WAITED {
            // SAFETY: as the library promises.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => {
                    // Who hangs is ended by a signal.
                    nix::unistd::alarm::set(20);
                    tracer.start("a child's").end();
                    // Locks at many addresses, and threads where the parent's were.
                    let others: Vec<_> = (0..16).map(|_| otlp::Client::builder().build().unwrap()).collect();
                    others.iter().for_each(|other| other.tracer("waits").start("another's").end());
                    let complete = others.iter().all(|other| other.close().is_complete());
                    let complete = otlp::client().close().is_complete() && complete;
                    process::exit(if complete { 0 } else { 9 })
                }
                nix::unistd::ForkResult::Parent { child } => {
                    let ended = nix::sys::wait::waitpid(child, None).unwrap();
                    assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
                }
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(otlp);
}

#[test]
fn children_that_are_forked_while_others_wait_for_room_do_not_wait_for_them() {
    let ended = play(&Case { name: "fork while threads wait", ..OTHER });
    assert_eq!(ended.end, Some(End::Code(0)), "{}", ended.stderr);
    assert_eq!(ended.receiver.spans().into_iter().filter(|span| span.span.name == "a child's").count(), WAITED);
}

/// A program with handlers of its own keeps them.
fn handles_signals_itself() {
    static CAME: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    signal_hook::flag::register(signal_hook::consts::SIGTERM, &CAME).unwrap();
    let otlp = otlp::init().unwrap();
    otlp.close_on_signals().unwrap();
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    assert!(CAME.load(std::sync::atomic::Ordering::SeqCst));
    otlp::tracer("job").start("after the signal").end();
    drop(otlp);
}

#[test]
fn a_signal_that_the_program_handles_is_left_to_it() {
    let case = Case { name: "handles signals itself", delivered: 1, ..OTHER };
    let ended = play(&case);
    ended.check(&case).unwrap_or_else(|why| panic!("{why}\n{}", ended.stderr));
}

/// A thread of the program holds the lock of stderr, and never lets it go.
fn stderr_is_locked() {
    let otlp = otlp::init().unwrap();
    let (locked, is_locked) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let _stderr = std::io::stderr().lock();
        locked.send(()).unwrap();
        loop {
            thread::park();
        }
    });
    is_locked.recv().unwrap();
    // SAFETY: as the library promises.
    let forked = unsafe { nix::unistd::fork() }.unwrap();
    // Who hangs is ended by a signal.
    nix::unistd::alarm::set(20);
    if let nix::unistd::ForkResult::Parent { child } = forked {
        nix::sys::wait::waitpid(child, None).unwrap();
    }
    otlp::tracer("job").start("lost").end();
    drop(otlp);
    process::exit(0);
}

#[test]
fn a_lock_on_stderr_that_the_program_holds_delays_no_exit_and_hides_no_line() {
    let case = Case { name: "stderr is locked", collector: Collector::Refused, lost: 2, ..OTHER };
    let ended = play(&case);
    ended.check(&case).unwrap_or_else(|why| panic!("{why}\n{}", ended.stderr));
}

fn disabled_and_a_child_is_ended() {
    // SAFETY: no other thread looks at the environment.
    unsafe { env::set_var("OTEL_SDK_DISABLED", "true") };
    let otlp = otlp::init().unwrap();
    otlp.close_on_signals().unwrap();
    // SAFETY: as the library promises.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
            process::exit(9)
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            let term = nix::sys::signal::Signal::SIGTERM;
            assert_eq!(ended, nix::sys::wait::WaitStatus::Signaled(child, term, false));
        }
    }
}

#[test]
fn a_signal_ends_the_child_of_a_fork_also_where_the_client_is_disabled() {
    let case = Case { name: "disabled, and a child is ended", ..OTHER };
    let ended = play(&case);
    ended.check(&case).unwrap_or_else(|why| panic!("{why}\n{}", ended.stderr));
}

fn error_that_looks_at_the_process_span() {
    struct Fails(otlp::ProcessSpan);
    impl std::fmt::Debug for Fails {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::fmt::Display::fmt(self, f)
        }
    }
    impl std::fmt::Display for Fails {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.set_attribute("shown", true);
            f.write_str("it failed")
        }
    }
    impl std::error::Error for Fails {}
    let otlp = otlp::init().unwrap();
    let root = otlp.root("job");
    root.record_error(&Fails(root.clone()));
}

#[test]
fn the_process_span_is_not_locked_while_an_error_is_formatted() {
    let case = Case { name: "an error that looks at the process span", delivered: 1, ..OTHER };
    let ended = play(&case);
    ended.check(&case).unwrap_or_else(|why| panic!("{why}\n{}", ended.stderr));
    let root = root_of(&ended);
    assert_eq!(root.attribute("shown"), Some(&Value::BoolValue(true)));
    assert_eq!(status(&root), (ERROR, "it failed"));
}

#[cfg(target_os = "linux")]
fn nothing_to_do_for_long() {
    use std::{sync::Arc, time::Duration};

    struct Sink(Arc<support::Counting>);
    impl otlp::processing::SpanExporter for Sink {
        fn export(&self, batch: &[otlp::SpanData]) -> Result<(), otlp::processing::ExportError> {
            self.0.export(batch)
        }
    }
    let names = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.filter(|name| name.starts_with("otlp-")).collect::<HashSet<_>>()
    };
    let exported = Arc::new(support::Counting::default());
    let processor = otlp::processing::BatchSpanProcessor::new(Sink(Arc::clone(&exported)));
    let processor = processor.with_schedule_delay(Duration::from_millis(10));
    let builder = otlp::Client::builder().with_span_processor(processor);
    let client = builder.with_keep_alive_timeout(Duration::from_millis(10)).build().unwrap();
    for turn in 1..=2 {
        client.tracer("job").start("step").end();
        support::wait_for("the processor", || exported.spans() == turn);
        let receipt = client.flush(LONG);
        assert!(receipt.is_complete() && receipt.exported == turn as u64, "{receipt:?}");
        assert_eq!(names(), HashSet::from(["otlp-worker-0\n".to_owned(), "otlp-processor\n".to_owned()]));
        support::wait_for("the end of the threads", || names().is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_have_nothing_to_do_for_long_end_and_the_next_span_starts_others() {
    let case = Case { name: "nothing to do for long", delivered: 2, ..OTHER };
    let ended = play(&case);
    ended.check(&case).unwrap_or_else(|why| panic!("{why}\n{}", ended.stderr));
}

/// What the cases that are played here alone have in common.
const OTHER: Case = Case {
    name: "",
    collector: Collector::Healthy,
    delivered: 0,
    lost: 0,
    end: End::Code(0),
    at_most: LONG,
    run: || (),
};
