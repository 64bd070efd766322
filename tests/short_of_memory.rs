//! A process that may have less memory than the client's bound: nothing aborts it, what finds no memory is counted, and
//! what is recorded when there is some again arrives. Each case is a process of its own.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Stdio},
    ptr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use otlp::{
    Client, SpanContext, SpanData, SpanId, TraceId, TraceState, Tracer,
    testing::{Receiver, Response},
};
use support::{LONG, assert_accounted, holds_within};

/// Names the case a child process plays.
const CASE: &str = "OTLP_TEST_CASE";
const THREADS: &str = "OTLP_TEST_THREADS";
/// Milliseconds that each flush may take.
const PATIENCE: &str = "OTLP_TEST_PATIENCE";
const ENDPOINT: &str = "OTLP_TEST_RECEIVER";
/// The most MiB it may take beside what it has when it begins.
const MORE: &str = "OTLP_TEST_MORE";
const SPANS: u64 = 400_000;
const AFTERWARDS: u64 = 100;
/// Spans that are sent directly at once: some 60 KiB, reckoned before as some 390.
const DIRECT: u64 = 500;
/// Bytes of address space that are left meanwhile: for what is small.
const PAGES: u64 = 256 * 1024;

/// An allocator that has nothing large to give while that is asked of it.
struct Refusing;

static REFUSES: AtomicBool = AtomicBool::new(false);
const LARGE: usize = 16 * 1024;

fn refuses(bytes: usize) -> bool {
    bytes >= LARGE && REFUSES.load(Ordering::Relaxed)
}

// SAFETY: every call that is not refused is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if refuses(layout.size()) { ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if refuses(layout.size()) { ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        if refuses(size) { ptr::null_mut() } else { unsafe { System.realloc(pointer, layout, size) } }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Leaves the process so many bytes more.
fn limit(resource: Resource, more: u64) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split(' ').nth(if resource == Resource::RLIMIT_AS { 0 } else { 5 });
    let has = pages.unwrap().parse::<u64>().unwrap() * 4096;
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, has + more, hard).unwrap();
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    let limit = |resource| limit(resource, env::var(MORE).unwrap().parse::<u64>().unwrap() << 20);
    match env::var(CASE).as_deref() {
        Ok("address space") => record_under(|| limit(Resource::RLIMIT_AS), || ()),
        Ok("data") => record_under(|| limit(Resource::RLIMIT_DATA), || ()),
        Ok("refusing allocator") => {
            record_under(|| REFUSES.store(true, Ordering::SeqCst), || REFUSES.store(false, Ordering::SeqCst));
        }
        Ok("direct") => export_directly(),
        _ => {}
    }
}

/// Sends spans directly while there is no memory for a request that holds them all.
fn export_directly() {
    let client =
        Client::builder().with_endpoint(env::var(ENDPOINT).unwrap()).with_service_name("test").build().unwrap();
    let span = |number: u64| {
        let id = SpanId::from_bytes((number + 1).to_be_bytes());
        let context = SpanContext::new(TraceId::from_bytes([1; 16]), id, 1, false);
        // As long as a trace state may be, so much is reckoned for it.
        let context = context.with_trace_state(TraceState::parse("a=b").unwrap());
        SpanData::new(context, format!("span {:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    };
    let spans: Vec<_> = (0..DIRECT).map(span).collect();
    // Nor does the system have any pages to give.
    limit(Resource::RLIMIT_AS, PAGES);
    REFUSES.store(true, Ordering::SeqCst);
    let sent = client.export_spans(&spans);
    REFUSES.store(false, Ordering::SeqCst);
    assert_eq!(sent.unwrap().accepted, DIRECT);
    assert!(client.stats().requests > 2, "each as large as there is memory for");
    assert_accounted(&client);
}

/// Records much more than there is room for, says so, and goes on once it is told to.
fn record_under(limit: impl FnOnce(), lift: impl FnOnce()) {
    let threads: u64 = env::var(THREADS).unwrap().parse().unwrap();
    let begin = Arc::new(Barrier::new(threads as usize + 1));
    let (tracer, done) = (Arc::new(std::sync::OnceLock::<Tracer>::new()), Arc::new(Barrier::new(threads as usize + 1)));
    let recording: Vec<_> = (0..threads)
        .map(|_| {
            let (begin, tracer, done) = (Arc::clone(&begin), Arc::clone(&tracer), Arc::clone(&done));
            thread::spawn(move || {
                // What its allocator sets aside for a thread is there before there is a limit.
                drop(std::hint::black_box(vec![0; 1024]));
                begin.wait();
                begin.wait();
                let tracer = tracer.get().unwrap();
                for number in 0..SPANS / threads {
                    let mut span = tracer.start("span");
                    span.set_attribute("number", number);
                    // Not to be compressed away.
                    span.set_attribute("noise", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    span.set_attribute("more", format!("{:x}", number.wrapping_mul(0xbf58_476d_1ce4_e5b9)));
                    if number % 1000 == 0 {
                        span.set_attribute("long", "x".repeat(12 * 1024));
                        span.set_attribute("longer", "y".repeat(12 * 1024));
                    }
                }
                done.wait();
            })
        })
        .collect();
    begin.wait();
    limit();
    let client =
        Client::builder().with_endpoint(env::var(ENDPOINT).unwrap()).with_service_name("test").build().unwrap();
    tracer.set(client.tracer("test")).unwrap();
    begin.wait();
    done.wait();
    recording.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(client.stats().ended, SPANS);
    say("recorded");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    lift();
    let patience = Duration::from_millis(env::var(PATIENCE).unwrap().parse().unwrap());
    client.flush(patience);
    let before = client.stats();
    for _ in 0..AFTERWARDS {
        drop(client.tracer("test").start("afterwards"));
    }
    client.flush(patience);
    let after = client.stats();
    client.shutdown(patience);
    let stats = assert_accounted(&client);
    assert_eq!(stats.queued, 0);
    say(&format!(
        "report {} {} {} {} {:?}",
        stats.ended,
        stats.exported,
        stats.dropped.total(),
        after.exported - before.exported,
        stats.dropped
    ));
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

struct Report {
    exported: u64,
    /// Of those that were recorded after all was over.
    afterwards: u64,
}

/// Plays a case with a receiver that answers as soon as all is recorded, or with none.
#[track_caller]
fn play(case: &str, threads: u64, more: u64, has_receiver: bool) -> Report {
    let is_back = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_back);
    let receiver = Receiver::builder()
        .respond_with(move |_| if answers.load(Ordering::SeqCst) { Response::ok() } else { Response::status(503) })
        .start()
        .unwrap();
    let endpoint = if has_receiver { receiver.endpoint() } else { "http://127.0.0.1:9".to_owned() };
    let mut command = Command::new(env::current_exe().unwrap());
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .envs([(CASE, case), (ENDPOINT, &endpoint)])
        .envs([(THREADS, threads.to_string()), (MORE, more.to_string())])
        .env(PATIENCE, if has_receiver { LONG.as_millis() } else { 200 }.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let said = thread::spawn(move || {
        let mut said = String::new();
        while !said.ends_with("\nrecorded\n") && stdout.read_line(&mut said).unwrap() > 0 {}
        (stdout, said)
    });
    let kill = |mut child: std::process::Child| {
        let _ = child.kill();
        child.wait_with_output().unwrap()
    };
    let what = format!("{case}, {threads} threads, {more} MiB, receiver {has_receiver}");
    if !holds_within(LONG * 2, || said.is_finished()) {
        panic!("{what}: hangs: {:?}", kill(child));
    }
    let (mut stdout, mut said) = said.join().unwrap();
    is_back.store(true, Ordering::SeqCst);
    let _ = child.stdin.take().unwrap().write_all(b"x");
    if !holds_within(LONG * 3, || child.try_wait().unwrap().is_some()) {
        panic!("{what}: hangs: {:?}", kill(child));
    }
    stdout.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{what}: {}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|line| line.strip_prefix("report ")).expect("a report");
    eprintln!("{what}: {line}");
    let numbers: Vec<u64> = line.split(' ').take(4).map(|number| number.parse().unwrap()).collect();
    let [ended, exported, dropped, afterwards] = numbers[..] else { panic!("{line}") };
    assert_eq!((ended, exported + dropped), (SPANS + AFTERWARDS, SPANS + AFTERWARDS), "{what}");
    if has_receiver {
        assert_eq!(receiver.span_count(), exported, "{what}");
    }
    Report { exported, afterwards }
}

#[test]
fn a_limit_on_address_space_below_the_bound_aborts_nothing_while_the_receiver_is_gone() {
    for (threads, more) in [(1, 24), (4, 24), (4, 32), (1, 48), (4, 64)] {
        assert_eq!(play("address space", threads, more, false).exported, 0);
    }
}

#[test]
fn under_a_limit_on_address_space_what_found_room_arrives_when_the_receiver_is_back_and_what_comes_then_too() {
    for (threads, more) in [(1, 24), (4, 24), (1, 48), (4, 64)] {
        let Report { exported, afterwards, .. } = play("address space", threads, more, true);
        assert!(exported > AFTERWARDS && afterwards == AFTERWARDS, "{exported} arrived, {afterwards} afterwards");
    }
}

#[test]
fn a_limit_on_data_aborts_nothing_either() {
    for threads in [1, 4] {
        play("data", threads, 24, false);
        assert_eq!(play("data", threads, 24, true).afterwards, AFTERWARDS);
    }
}

#[test]
fn an_allocator_that_refuses_what_is_large_aborts_nothing_and_what_comes_afterwards_arrives() {
    for threads in [1, 4] {
        play("refusing allocator", threads, 0, false);
        assert_eq!(play("refusing allocator", threads, 0, true).afterwards, AFTERWARDS);
    }
}

#[test]
fn what_is_sent_directly_without_memory_for_one_request_arrives_in_several() {
    let receiver = Receiver::start().unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .envs([(CASE, "direct"), (ENDPOINT, receiver.endpoint().as_str())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(receiver.span_count(), DIRECT);
}
