//! Forks while another thread begins: in the child a lock of the standard library is held for ever, and no thread that
//! it starts gets as far as its own code. Here that thread is held up by the allocator, in the middle of what it does
//! under the lock, so that each fork is such a one. Each case is a process of its own, and so are its children, which
//! end by a signal if they hang.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    panic::catch_unwind,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};
use otlp::{
    BatchConfig, Client, SpanContext, SpanData, SpanId, TraceId, config::TracesExporter,
    processing::BatchSpanProcessor, testing::Receiver,
};
use support::{Counting, LONG, holds_within};

/// Names the case a child process plays, and where it sends its spans.
const CASE: &str = "OTLP_TEST_CASE";
const ENDPOINT: &str = "OTLP_TEST_RECEIVER";

/// What a child ends with whose threads begin, as if no lock were held.
const NOT_HELD: i32 = 77;

/// Holds up one thread that allocates what the standard library does for its list of threads, under that list's lock.
struct HoldsUp;

static IS_ARMED: AtomicBool = AtomicBool::new(false);
static HOLDS: AtomicBool = AtomicBool::new(false);

/// A node of the tree that the list is. Nothing else is as large that a thread allocates before it begins.
const NODE: std::ops::Range<usize> = 300..3_000;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for HoldsUp {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_ARMED.load(Ordering::SeqCst) && NODE.contains(&layout.size()) && is_beginning() {
            HOLDS.store(true, Ordering::SeqCst);
            // Until the process ends.
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: HoldsUp = HoldsUp;

/// Whether the thread is none that has run code of this file.
fn is_beginning() -> bool {
    !HAS_BEGUN.get()
}

thread_local! {
    static HAS_BEGUN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Starts threads until one is held up.
fn hold_up_a_thread() {
    HAS_BEGUN.set(true);
    let begun = Arc::new(AtomicUsize::new(0));
    for number in 1..=64 {
        IS_ARMED.store(true, Ordering::SeqCst);
        let here = Arc::clone(&begun);
        thread::spawn(move || {
            HAS_BEGUN.set(true);
            here.fetch_add(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        });
        let is_held = || HOLDS.load(Ordering::SeqCst);
        assert!(holds_within(LONG, || is_held() || begun.load(Ordering::SeqCst) == number));
        IS_ARMED.store(false, Ordering::SeqCst);
        if is_held() {
            return;
        }
    }
}

/// Ends as one of its children does that runs `what`; they end by a signal if they hang.
fn in_child(what: impl FnOnce() -> bool) -> WaitStatus {
    // SAFETY: as the library promises.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            nix::unistd::alarm::set(20);
            let code = if what() { 0 } else { 9 };
            // The standard library's way out takes the lock.
            // SAFETY: nobody else is in this process who could end it at the same time.
            unsafe { libc::exit(code) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}

/// Nothing, where the lock is not what holds threads up: then nothing is shown.
fn check_that_nothing_begins() {
    // As long as it is held, waiting longer changes nothing; where it is not, a busy machine makes the case a weaker one.
    let begins = || {
        let began = Arc::new(AtomicBool::new(false));
        let here = Arc::clone(&began);
        thread::spawn(move || here.store(true, Ordering::SeqCst));
        holds_within(Duration::from_secs(1), || began.load(Ordering::SeqCst))
    };
    if !HOLDS.load(Ordering::SeqCst) || matches!(in_child(begins), WaitStatus::Exited(_, 0)) {
        // SAFETY: takes a number.
        unsafe { libc::_exit(NOT_HELD) };
    }
}

fn builder() -> otlp::ClientBuilder {
    let batch = BatchConfig { batch_timeout: Duration::from_millis(10), ..BatchConfig::default() };
    Client::builder().with_endpoint(env::var(ENDPOINT).unwrap()).with_batch_config(batch)
}

fn record(client: &Client) {
    let tracer = client.tracer("child");
    (0..3).for_each(|_| tracer.start("a child's").end());
}

/// What a child does with a client.
type Act = fn(Client) -> bool;

/// Each with the spans that arrive.
const ACTS: [(&str, Act, u64); 7] = [
    ("flush", |client| (record(&client), client.flush(LONG).is_complete()).1, 3),
    ("shutdown", |client| (record(&client), client.shutdown(LONG).is_complete()).1, 3),
    ("exit", |client| (record(&client), std::mem::forget(client), true).2, 3),
    ("export_spans", |client| client.export_spans(direct_spans()).is_ok_and(|report| report.accepted == 3), 3),
    ("drop", |client| (record(&client), drop(client), true).2, 3),
    ("processor", processor, 0),
    ("twice", |client| (twice(&client), client.flush(LONG).is_complete()).1, 6),
];

fn twice(client: &Client) {
    record(client);
    assert!(client.flush(LONG).is_complete());
    record(client);
}

/// One that is made here exports although nobody else does, and its flush waits for no thread that never begins.
fn processor(_: Client) -> bool {
    let counting = Arc::new(Counting::default());
    let processor = BatchSpanProcessor::new(Arc::clone(&counting)).with_schedule_delay(LONG);
    let client = Client::builder().with_traces_exporter(TracesExporter::None).with_span_processor(processor);
    let client = client.build().unwrap();
    record(&client);
    client.flush(LONG).is_complete() && counting.spans() == 3
}

/// Complete spans.
fn direct_spans() -> Vec<SpanData> {
    let one = |number| {
        let ids = (TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]));
        SpanData::new(SpanContext::new(ids.0, ids.1, 1, false), "a child's")
    };
    (1..=3).map(one).collect()
}

/// The act, in a child.
fn play(what: &str, act: impl FnOnce() -> bool) {
    let ended = in_child(act);
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{what}: {ended:?}");
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    let Ok(case) = env::var(CASE) else { return };
    let played = catch_unwind(|| play_case(&case));
    // The end of a thread takes the lock as well.
    // SAFETY: takes a number.
    unsafe { libc::_exit(if played.is_ok() { 0 } else { 9 }) };
}

fn play_case(case: &str) {
    match case {
        "made before the fork" => {
            let client = builder().build().unwrap();
            hold_up_a_thread();
            check_that_nothing_begins();
            for (what, act, _) in ACTS {
                play(what, || act(client.clone()));
            }
            play("nobody flushes", || {
                record(&client);
                holds_within(LONG, || client.stats().exported == 3)
            });
        }
        "made after the fork" => {
            hold_up_a_thread();
            check_that_nothing_begins();
            for (what, act, _) in ACTS {
                play(what, || act(builder().build().unwrap()));
            }
            for workers in 1..=4 {
                play("nobody flushes", || {
                    let client = builder().with_worker_count(workers).build().unwrap();
                    record(&client);
                    let tracer = client.tracer("child");
                    // Once what was started should have begun, a batch that is full finds that it has not, though all
                    // workers that there may be were started before.
                    holds_within(LONG, || {
                        (0..600).for_each(|_| tracer.start("a child's").end());
                        client.stats().exported > 0
                    })
                });
            }
        }
        "closed by a signal" => {
            hold_up_a_thread();
            check_that_nothing_begins();
            let ended = in_child(|| {
                let guard = builder().install().unwrap();
                guard.close_on_signals().unwrap();
                record(&otlp::client());
                raise(Signal::SIGTERM).unwrap();
                loop {
                    thread::park();
                }
            });
            assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{ended:?}");
        }
        _ => panic!("there is no case {case}"),
    }
}

/// Plays a case against `receiver`, whose endpoint goes by this host; false where the lock is not held.
#[track_caller]
fn run(case: &str, receiver: &Receiver, host: &str) -> bool {
    let mut command = Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]).env(CASE, case);
    let endpoint = receiver.endpoint().replace("127.0.0.1", host);
    let output = command.env(ENDPOINT, endpoint).output().unwrap();
    if output.status.code() == Some(NOT_HELD) {
        eprintln!("SKIPPED: the lock of the standard library is not to be had here");
        return false;
    }
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

fn spans() -> u64 {
    ACTS.iter().map(|(_, _, spans)| spans).sum()
}

#[test]
fn in_the_child_of_a_fork_spans_are_delivered_though_the_standard_library_can_start_no_thread() {
    let receiver = Receiver::start().unwrap();
    if run("made before the fork", &receiver, "127.0.0.1") {
        assert_eq!(receiver.span_count(), spans() + 3);
    }
}

#[test]
fn a_client_that_is_made_in_such_a_child_delivers_on_the_thread_that_waits_for_it() {
    for host in ["127.0.0.1", "localhost"] {
        let receiver = Receiver::start().unwrap();
        if run("made after the fork", &receiver, host) {
            assert!(receiver.span_count() > spans());
        }
    }
}

#[test]
fn a_signal_closes_the_client_in_such_a_child() {
    let receiver = Receiver::start().unwrap();
    if run("closed by a signal", &receiver, "127.0.0.1") {
        assert_eq!(receiver.span_count(), 3);
    }
}
