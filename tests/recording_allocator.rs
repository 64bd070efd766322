//! A global allocator that records what it does: each allocation is a span, whoever makes it, the client's own threads
//! and the client's own recording among them. Nothing waits for itself, nothing recurses for ever, every span is
//! counted, and nearly all arrive. Each case is a process of its own, which is killed if it takes too long.
#![cfg(feature = "testing")]
#![cfg(unix)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    env,
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use otlp::{
    BatchConfig, Client, DropReason, Tracer,
    config::{self, DropStrategy},
    testing::Receiver,
};
use support::{LONG, assert_accounted, holds_within};

/// Names the case a child process plays, and where it sends its spans.
const CASE: &str = "OTLP_TEST_CASE";
const ENDPOINT: &str = "OTLP_TEST_RECEIVER";

struct Recording;

static TRACER: OnceLock<Tracer> = OnceLock::new();
static IS_ON: AtomicBool = AtomicBool::new(false);
/// What else the allocator does with each allocation.
static EXTRA: OnceLock<fn()> = OnceLock::new();
/// Allocations that were to be recorded.
static SEEN: AtomicU64 = AtomicU64::new(0);

fn record(what: &str, bytes: usize) {
    if !IS_ON.load(Ordering::Relaxed) {
        return;
    }
    let Some(tracer) = TRACER.get() else { return };
    SEEN.fetch_add(1, Ordering::Relaxed);
    let mut span = tracer.start(what);
    span.set_attribute("bytes", bytes as u64);
    span.set_attribute("thread", "any");
    if let Some(extra) = EXTRA.get() {
        extra();
    }
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record("alloc", layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        record("dealloc", layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        record("realloc", size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Recording = Recording;

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(CASE).as_deref() {
        Ok("client") => client_case(|builder| builder, || ()),
        Ok("oldest first") => client_case(
            |builder| builder.with_drop_strategy(DropStrategy::OldestFirst).with_max_memory_usage(1 << 20),
            || (),
        ),
        Ok("block") => client_case(
            |builder| {
                let strategy = DropStrategy::Block(Duration::from_millis(1));
                builder.with_drop_strategy(strategy).with_max_memory_usage(1 << 20)
            },
            || (),
        ),
        Ok("bounded queue") => client_case(
            |builder| builder.with_batch_config(BatchConfig { max_queue_size: 100, ..BatchConfig::default() }),
            || (),
        ),
        Ok("no pool") => client_case(
            |builder| {
                builder.with_performance_config(config::PerformanceConfig {
                    enable_memory_pool: false,
                    ..config::PerformanceConfig::default()
                })
            },
            || (),
        ),
        Ok("large spans") => client_case(
            |builder| builder,
            || {
                let tracer = TRACER.get().expect("set before");
                let _ = EXTRA.set(large);
                drop(tracer.start("large"));
            },
        ),
        Ok("in_span") => client_case(
            |builder| builder,
            || {
                let _ = EXTRA.set(|| TRACER.get().expect("set before").in_span("inner", |_| ()));
            },
        ),
        Ok("stats") => client_case(
            |builder| builder,
            || {
                let _ = EXTRA.set(|| guarded(|| _ = CLIENT.get().map(Client::stats)));
            },
        ),
        Ok("flush") => client_case(
            |builder| builder,
            || {
                let _ = EXTRA.set(|| guarded(|| _ = CLIENT.get().map(|client| client.flush(Duration::ZERO))));
            },
        ),
        Ok("new tracers") => client_case(
            |builder| builder,
            || {
                static NUMBER: AtomicU64 = AtomicU64::new(0);
                let _ = EXTRA.set(|| {
                    guarded(|| {
                        let name = ["one", "two", "three", "four"][NUMBER.fetch_add(1, Ordering::Relaxed) as usize % 4];
                        drop(CLIENT.get().map(|client| client.tracer(name).start("elsewhere")));
                    });
                });
            },
        ),
        Ok("process-wide") => process_wide(),
        Ok("panic hook") => panic_hook(),
        _ => {}
    }
}

/// Runs `f` unless the thread is in it already.
fn guarded(f: impl FnOnce()) {
    thread_local! {
        static IS_IN: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_IN.replace(true) {
        f();
        IS_IN.set(false);
    }
}

/// A span that outgrows what records have room for at first, without a guard of any kind.
fn large() {
    const TEXT: &str = match str::from_utf8(&[b'x'; 3000]) {
        Ok(text) => text,
        Err(_) => panic!("ASCII"),
    };
    let mut span = TRACER.get().expect("set before").start("large");
    span.set_attribute("text", TEXT);
    span.set_status(otlp::Status::error(TEXT));
    span.update_name(TEXT);
}

static CLIENT: OnceLock<Client> = OnceLock::new();

/// Threads that come and go, flushes beside them, and a shutdown, each allocation recorded.
fn client_case(configured: impl FnOnce(otlp::ClientBuilder) -> otlp::ClientBuilder, prepare: impl FnOnce()) {
    let endpoint = env::var(ENDPOINT).unwrap();
    let client = configured(Client::builder().with_endpoint(endpoint).with_service_name("test")).build().unwrap();
    let client = CLIENT.get_or_init(|| client);
    TRACER.set(client.tracer("allocator")).unwrap();
    prepare();
    IS_ON.store(true, Ordering::SeqCst);
    let threads: Vec<_> = (0..4_usize)
        .map(|number| {
            thread::spawn(move || {
                for round in 0..20_usize {
                    let strings: Vec<_> = (0..50 + number).map(|at| format!("{at} of {round}")).collect();
                    drop(strings);
                    // One that records for the first time when it ends, and one that lives for a moment.
                    thread::spawn(move || vec![round; 10]).join().unwrap();
                }
            })
        })
        .collect();
    for _ in 0..5 {
        client.flush(Duration::from_millis(50));
        let _ = client.stats();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    IS_ON.store(false, Ordering::SeqCst);
    let receipt = client.shutdown(LONG);
    let stats = assert_accounted(client);
    assert_eq!(stats.open, 0, "{stats:?}");
    let nested = stats.dropped.get(DropReason::Nested);
    println!("\nreport {} {} {nested} {}", stats.ended, receipt.exported, SEEN.load(Ordering::SeqCst));
}

fn process_wide() {
    TRACER.set(otlp::tracer("allocator")).unwrap();
    IS_ON.store(true, Ordering::SeqCst);
    let guard = otlp::init().unwrap();
    let root = guard.root("job");
    root.set_attribute("kept", true);
    let work = || (0..100).map(|at| at.to_string()).collect::<Vec<_>>().len();
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(work)).collect();
    threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
    drop(guard);
    IS_ON.store(false, Ordering::SeqCst);
    let stats = assert_accounted(&otlp::client());
    let nested = stats.dropped.get(DropReason::Nested);
    println!("\nreport {} {} {nested} {}", stats.ended, stats.exported, SEEN.load(Ordering::SeqCst));
}

/// A hook that records, and a panic on each of several threads.
fn panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let mut span = TRACER.get().expect("set before").start("panic");
        span.set_attribute("message", info.to_string());
    }));
    client_case(
        |builder| builder,
        || {
            for _ in 0..4 {
                assert!(thread::spawn(|| panic!("on purpose")).join().is_err());
            }
        },
    );
}

/// What a child had recorded.
struct Report {
    ended: u64,
    exported: u64,
    nested: u64,
    seen: u64,
}

/// Runs a case in a process of its own, which is killed if it hangs.
#[track_caller]
fn play(case: &str) -> (Report, Receiver) {
    let receiver = Receiver::start().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(ENDPOINT, receiver.endpoint())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What it writes fits into the pipes.
    if !holds_within(LONG * 2, || child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        panic!("{case}: hangs\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{case}: {}\n{stdout}\n{stderr}", output.status);
    let line = stdout.lines().find_map(|line| line.strip_prefix("report ")).expect("a report");
    let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    let [ended, exported, nested, seen] = numbers[..] else { panic!("{line}") };
    eprintln!("{case}: {ended} ended, {exported} exported, {nested} nested, {seen} seen");
    (Report { ended, exported, nested, seen }, receiver)
}

#[test]
fn nearly_all_spans_of_an_allocator_arrive_and_the_rest_is_counted() {
    for case in ["client", "panic hook", "new tracers", "in_span", "stats", "flush"] {
        let (Report { ended, exported, nested, seen }, receiver) = play(case);
        // But for what the client's own threads record while it ends.
        assert!(ended + 100 >= seen, "{case}: {seen} seen, {ended} ended");
        assert_eq!(exported + nested, ended, "{case}: nothing else is lost");
        assert_eq!(receiver.span_count(), exported, "{case}");
        assert!(exported >= ended / 2, "{case}: {exported} of {ended} arrived");
    }
}

#[test]
fn spans_that_allocate_in_an_allocator_lead_to_no_more_of_them_without_end() {
    // Where records are not used again each span allocates, and each of its allocations is one more to be recorded.
    for case in ["large spans", "no pool"] {
        let (Report { exported, nested, .. }, receiver) = play(case);
        assert!(exported > 0 && nested > 0, "{case}");
        assert_eq!(receiver.span_count(), exported, "{case}");
    }
}

#[test]
fn where_memory_or_the_queue_is_short_an_allocator_that_records_waits_for_nobody() {
    for case in ["oldest first", "block", "bounded queue"] {
        let (Report { exported, .. }, receiver) = play(case);
        assert!(exported > 0, "{case}");
        assert_eq!(receiver.span_count(), exported, "{case}");
    }
}

#[test]
fn an_allocator_records_from_before_the_process_wide_client_is_made_until_it_is_closed() {
    let (Report { ended, exported, nested, .. }, receiver) = play("process-wide");
    assert_eq!(exported + nested, ended);
    assert_eq!(receiver.span_count(), exported);
    assert!(receiver.spans().iter().any(|span| span.span.name == "job"), "the process span is never missing");
}
