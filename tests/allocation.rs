//! Recording allocates nothing once a thread is warm. A promise, so it is counted.
#![cfg(feature = "testing")]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use otlp::{
    KeyValue, SpanContext, SpanId, SpanKind, Status, TraceId, TraceState, Tracer, config::PerformanceConfig,
    testing::Receiver,
};

use support::{LONG, waits};

/// Says that the process is the child of a test.
const DISABLED: &str = "OTLP_TEST_DISABLED";

/// Counts what the calling thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(of: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    of();
    ALLOCATIONS.get() - before
}

/// A span with everything that is promised to be free of allocation.
fn record(tracer: &Tracer, item: u64, path: &str) {
    tracer.in_span("GET /items", |outer| {
        outer.set_attribute("http.request.method", "GET");
        outer.set_attribute("url.path", path);
        outer.set_attribute("http.response.status_code", 200);
        outer.set_attribute("retry", false);
        outer.set_attribute("share", 0.5);
        outer.set_attribute("bytes", &b"raw"[..]);
        outer.set_attribute("sizes", &[1_i64, 2, 3][..]);
        outer.set_attribute("tags", &["a", "b"][..]);
        outer.set_attribute("item", item);
        outer.set_attribute("url.path", "/replaced");
        outer.add_event("found", [KeyValue::new("rows", 3)]);
        let inner = tracer.span("query").kind(SpanKind::Client).attribute("db.system.name", "sqlite").start();
        outer.add_link(&inner.context(), []);
        inner.end();
        outer.set_status(Status::error("disk full"));
        outer.update_name("GET /items/{id}");
    });
}

#[test]
fn recording_a_span_allocates_nothing_once_the_thread_is_warm() {
    let receiver = Receiver::start().unwrap();
    let client = otlp::Client::builder().with_endpoint(receiver.endpoint()).build().unwrap();
    let tracer = client.tracer("warm");
    let path = String::from("/items/0123456789abc");
    // Of each shape that a trace state has: none, a threshold, a list.
    let parents = ["", "ot=th:c", "a=1,b=2"].map(|state| {
        let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), 1, true);
        otlp::Span::from_context(context.with_trace_state(TraceState::parse(state).unwrap()))
    });
    let round = |items: usize| {
        for item in 0..items {
            let _entered = parents[item % 3].enter();
            record(&tracer, item as u64, &path);
        }
    };
    // At most 500 spans at a time: fewer than make a batch ready, so that no worker takes chunks meanwhile. The rounds
    // that are measured are shorter than those before: wherever in a chunk they begin, they need no more of them.
    let cold = allocations(|| round(250));
    assert!(cold > 0, "the counter counts");
    assert!(client.flush(LONG).is_complete());
    round(250);
    for number in 0..20 {
        assert!(client.flush(LONG).is_complete());
        assert_eq!(allocations(|| round(100)), 0, "allocations of 200 spans in round {number}");
    }
    assert!(client.flush(LONG).is_complete());
    assert_eq!(receiver.span_count(), 2 * 500 + 20 * 200);
}

#[test]
fn without_a_memory_pool_every_span_allocates_its_record() {
    let receiver = Receiver::start().unwrap();
    let performance = PerformanceConfig { enable_memory_pool: false, ..PerformanceConfig::default() };
    let builder = otlp::Client::builder().with_endpoint(receiver.endpoint()).with_performance_config(performance);
    let client = builder.build().unwrap();
    let tracer = client.tracer("cold");
    let spans = || (0..100).for_each(|_| tracer.start("span").end());
    spans();
    assert!(allocations(spans) >= 100);
}

#[test]
fn a_tracer_without_a_client_allocates_nothing_at_all() {
    // PKG-01
    let tracer = otlp::tracer("before init");
    record(&tracer, 0, "warm the thread's own state");
    assert_eq!(allocations(|| (0..1_000).for_each(|item| record(&tracer, item, "/"))), 0);
}

/// Entries of a directory of this process under `/proc`, as far as they lead to something called like that.
#[cfg(target_os = "linux")]
fn count_of(directory: &str, leading_to: &str) -> usize {
    let entries = std::fs::read_dir(format!("/proc/self/{directory}")).unwrap().flatten();
    let leads = |path: &std::path::Path| {
        leading_to.is_empty() || std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with(leading_to))
    };
    entries.filter(|entry| leads(&entry.path())).count()
}

/// Not a test of its own: runs in a process where the SDK is disabled.
#[cfg(target_os = "linux")]
#[test]
fn disabled_child() {
    if std::env::var_os(DISABLED).is_none() {
        return;
    }
    let before = (count_of("task", ""), count_of("fd", "socket:"));
    let otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("disabled");
    record(&tracer, 0, "warm the thread's own state");
    let spans = allocations(|| (0..1_000).for_each(|item| record(&tracer, item, "/")));
    let parent = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), 1, true);
    let span = tracer.span("child").parent(&parent).start();
    assert!(!span.is_recording() && !tracer.enabled() && span.context() == parent);
    drop(span);
    let before_ending = waits();
    let ended = [otlp::client().flush(LONG), otlp::client().shutdown(LONG)];
    drop(otlp);
    assert_eq!(waits() - before_ending, 0, "there is nothing to wait for");
    assert!(ended.iter().all(otlp::Receipt::is_complete), "{ended:?}");
    assert_eq!((spans, count_of("task", ""), count_of("fd", "socket:")), (0, before.0, before.1));
    println!("as promised");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disabled_sdk_costs_no_thread_no_socket_no_allocation_and_no_time() {
    // SDKV-01, TPR-07, TPR-09
    for (variable, value) in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["disabled_child", "--exact", "--nocapture"]).env(DISABLED, "1").env(variable, value);
        let output = child.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("as promised"), "{variable}: {output:?}");
    }
}
