//! What the client says it holds is what the process has more: counted in the allocator, and in pages of the system.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, fs,
    net::TcpListener,
    process::Command,
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client, ClientBuilder, LogLevel, MemoryStats, Span, Tracer, config::ZeroCopyBuffer,
};
use support::LONG;

/// Counts the bytes that are allocated now.
struct Counting;

static ALLOCATED: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    ALLOCATED.fetch_add(sign * bytes as i64, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of pages that are there, in private mappings without a name.
fn mapped() -> i64 {
    let mut is_nameless = false;
    let mut kilobytes = 0;
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if words[0].contains('-') {
            is_nameless = words.len() == 5 && words[1] == "rw-p";
        } else if is_nameless && words[0] == "Rss:" {
            kilobytes += words[1].parse::<i64>().unwrap();
        }
    }
    kilobytes * 1024
}

fn footprint() -> i64 {
    ALLOCATED.load(Ordering::Relaxed) + mapped()
}

/// A client that nobody answers, and what there was before it.
struct Case {
    client: Client,
    before: i64,
    _silent: TcpListener,
}

impl Case {
    fn new(settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let before = footprint();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let builder = Client::builder().with_endpoint(endpoint).with_log_level(LogLevel::None).with_worker_count(2);
        Self { client: settings(builder).build().unwrap(), before, _silent: silent }
    }

    /// Compares what the client says with what the process has more, but for `own` bytes of the test's.
    #[track_caller]
    fn check(&self, own: usize, least: u64, part: impl Fn(&MemoryStats) -> u64) {
        let memory = self.client.get_memory_stats();
        let real = (footprint() - self.before - own as i64) as f64;
        let told = (memory.used - memory.set_aside) as f64;
        println!(
            "{:.2} MB told, {:.2} MB real, {:.2} MB set aside",
            told / 1e6,
            real / 1e6,
            memory.set_aside as f64 / 1e6
        );
        assert!(part(&memory) > least, "{memory:?}");
        assert!(part(&memory) as f64 > 0.6 * told, "another part outweighs it: {memory:?}");
        assert!(real > 0.9 * told && real < 1.1 * told, "told {told}, real {real}: {memory:?}");
        assert!(real < memory.limit as f64);
    }
}

fn patient() -> BatchConfig {
    BatchConfig {
        max_batch_size: usize::MAX,
        batch_timeout: Duration::from_secs(3600),
        strategy: BatchStrategy::Hybrid,
        ..BatchConfig::default()
    }
}

fn span(tracer: &Tracer, number: usize) -> Span {
    let mut span = tracer.start("GET /items/{id}");
    span.set_attribute("http.request.method", "GET");
    span.set_attribute("url.path", format!("/items/{}", number * 7919));
    span.set_attribute("text", "x".repeat(number * 31 % 600));
    span
}

#[test]
fn what_the_client_says_it_holds_is_what_it_holds() {
    // The allocator takes everything from the heap: whatever else has no name is a mapping of the client's, or a stack.
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "in_a_process_of_its_own", "--include-ignored", "--nocapture"])
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "33554432")
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
#[ignore = "run by the other test, with an environment of its own"]
fn in_a_process_of_its_own() {
    // What is made once for all clients is there before the first is measured.
    for _ in 0..2 {
        let warm = Case::new(|builder| builder);
        span(&warm.client.tracer("warm"), 1).end();
        drop(warm.client.get_zero_copy_buffer());
    }

    let open = Case::new(|builder| builder.with_batch_config(patient()));
    let tracer = open.client.tracer("open");
    let mut spans = Vec::with_capacity(8_000);
    (0..8_000).for_each(|number| spans.push(span(&tracer, number)));
    // Some have grown beyond what a record begins with.
    spans.iter_mut().step_by(3).for_each(|span| _ = span.set_attribute("more", "y".repeat(3_000)));
    open.check(8_000 * size_of::<Span>(), 8 << 20, |memory| memory.open_spans);
    drop((spans, tracer, open));

    let rings = Case::new(|builder| builder.with_batch_config(patient()));
    let tracer = rings.client.tracer("rings");
    (0..50_000).for_each(|number| span(&tracer, number).end());
    rings.check(0, 20 << 20, |memory| memory.chunks_in_use);
    rings.client.shutdown(Duration::ZERO);
    drop((tracer, rings));

    let backlog = Case::new(|builder| builder.with_max_memory_usage(32 << 20).with_request_timeout(LONG * 10));
    let tracer = backlog.client.tracer("backlog");
    let begun = Instant::now();
    while backlog.client.get_memory_stats().bodies_waiting < 17 << 20 {
        (0..1_000).for_each(|number| span(&tracer, number).end());
        assert!(begun.elapsed() < LONG, "{:?}", backlog.client.get_memory_stats());
    }
    // Until the worker that compresses has nothing more to do: what is left is no full batch.
    while backlog.client.get_batch_metrics().waiting >= 512 {
        thread::yield_now();
        assert!(begun.elapsed() < 2 * LONG, "{:?}", backlog.client.get_memory_stats());
    }
    backlog.check(0, 16 << 20, |memory| memory.bodies_waiting);
    backlog.client.shutdown(Duration::ZERO);
    drop((tracer, backlog));

    let lent = Case::new(|builder| {
        let config = ZeroCopyBuffer::new().with_capacity(2 << 20).with_prefetch_size(2 << 20);
        builder.with_zero_copy_buffer(config)
    });
    let buffers: Vec<_> = (0..8).map(|_| lent.client.get_zero_copy_buffer()).collect();
    lent.check(8 * size_of_val(&buffers[0]), 8 << 20, |memory| memory.buffers);
    drop(buffers);
    assert!(lent.client.get_memory_stats().buffers_idle > 0);
}
