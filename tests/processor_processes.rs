//! Processors in processes of their own: in the children of forks, where no thread can be had, and in a client that
//! sends nothing.
#![cfg(feature = "testing")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    env, fs,
    process::{self, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, UNIX_EPOCH},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use otlp::{
    Client, Span, SpanContext,
    config::TracesExporter,
    processing::{BatchSpanProcessor, EndedSpan, ExportError, SimpleSpanProcessor, SpanProcessor},
    testing::Receiver,
};
use support::{Counting, LONG, assert_accounted, client_of};

const ROLE: &str = "OTLP_TEST_PROCESSORS";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("fork") => fork_with_processors(),
        Ok("exporter none") => only_for_processors(Client::builder(), true),
        Ok("no threads") => without_threads(),
        _ => {}
    }
}

fn run(role: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Every way to a processor, in a client that is to send nothing.
fn only_for_processors(builder: otlp::ClientBuilder, are_there: bool) {
    let receiver = Receiver::start().unwrap();
    let (simple, batched) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let mut builder = builder.with_endpoint(receiver.endpoint());
    if are_there {
        builder = builder
            .with_span_processor(SimpleSpanProcessor::new(Arc::clone(&simple)))
            .with_span_processor(BatchSpanProcessor::new(Arc::clone(&batched)));
    }
    let client = builder.build().unwrap();
    let tracer = client.tracer("test");
    for at in 0..3 {
        let mut span = tracer.start("span");
        assert_eq!((span.is_recording(), span.context().is_sampled()), (are_there, are_there));
        span.set_attribute("at", at);
        span.end();
    }
    tracer.span("with a time").start_time(UNIX_EPOCH).start().end_at(UNIX_EPOCH + LONG);
    assert!(client.flush(LONG).is_complete());
    let told = if are_there { 4 } else { 0 };
    assert_eq!((simple.spans(), batched.spans()), (told, told));
    let stats = assert_accounted(&client);
    assert_eq!((stats.ended, stats.exported, stats.dropped.total()), (0, 0, 0));
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!((receiver.requests().len(), receiver.span_count()), (0, 0));
}

#[test]
fn without_an_exporter_of_its_own_a_client_records_for_its_processors_and_sends_nothing() {
    // SDKV-11
    for are_there in [true, false] {
        only_for_processors(Client::builder().with_traces_exporter(TracesExporter::None), are_there);
    }
    run("exporter none", &[("OTEL_TRACES_EXPORTER", "none")]);
}

/// Remembers where it was told of what.
#[derive(Default)]
struct Located(Mutex<Vec<(u32, &'static str)>>);

impl SpanProcessor for Located {
    fn on_start(&self, _: &mut Span, _: Option<&SpanContext>) {
        self.0.lock().unwrap().push((process::id(), "start"));
    }
    fn on_end(&self, _: &EndedSpan<'_>) {
        self.0.lock().unwrap().push((process::id(), "end"));
    }
    fn force_flush(&self, _: Duration) -> Result<(), ExportError> {
        self.0.lock().unwrap().push((process::id(), "flush"));
        Ok(())
    }
}

/// The child records, ends what its parent began, flushes, drops the client and what it has of a processor.
fn fork_with_processors() {
    let receiver = Receiver::start().unwrap();
    let (located, counting) = (Arc::new(Located::default()), Arc::new(Counting::default()));
    let batching = Arc::new(BatchSpanProcessor::new(Arc::clone(&counting)).with_schedule_delay(LONG));
    let client = client_of(&receiver)
        .with_span_processor(Arc::clone(&located))
        .with_span_processor(Arc::clone(&batching))
        .build()
        .unwrap();
    let tracer = client.tracer("fork");
    tracer.start("before").end();
    let (mut open, mut client) = (Some(tracer.start("the parent's")), Some(client));
    let mut alone = Some(BatchSpanProcessor::new(Arc::clone(&counting)));
    let over = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        // Its locks are held at the time of some forks.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                batching.stats();
            }
        });
        let ended = (0..20).map(|_| {
            // SAFETY: as the library promises.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => {
                    // Who hangs is ended by a signal.
                    nix::unistd::alarm::set(20);
                    let before = located.0.lock().unwrap().len();
                    drop(open.take());
                    tracer.start("a child's").end();
                    let receipt = client.take().unwrap().flush(LONG);
                    drop(alone.take());
                    let told = located.0.lock().unwrap().len() - before;
                    let seen = (receipt.exported, receipt.is_complete(), told, counting.spans());
                    process::exit(if seen == (1, true, 0, 0) { 0 } else { 9 })
                }
                nix::unistd::ForkResult::Parent { child } => nix::sys::wait::waitpid(child, None).unwrap(),
            }
        });
        let ended: Vec<_> = ended.collect();
        over.store(true, Ordering::Relaxed);
        ended
    });
    for ended in ended {
        assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
    }
    drop(open);
    assert!(client.unwrap().shutdown(LONG).is_complete());
    let told: Vec<_> = located.0.lock().unwrap().iter().map(|(_, what)| *what).collect();
    assert_eq!(told, ["start", "end", "start", "end", "flush"]);
    assert!(located.0.lock().unwrap().iter().all(|(process, _)| *process == process::id()));
    assert_eq!((counting.spans(), receiver.span_count()), (2, 2 + 20));
}

#[test]
fn the_child_of_a_fork_has_no_processors() {
    run("fork", &[]);
}

/// The system has no room for the stack of another thread.
fn without_threads() {
    let counting = Arc::new(Counting::default());
    let batching = BatchSpanProcessor::new(Arc::clone(&counting)).with_schedule_delay(Duration::from_millis(1));
    let batching = Arc::new(batching.with_max_queue_size(10).with_max_export_batch_size(5));
    let builder = Client::builder().with_traces_exporter(TracesExporter::None);
    let client = builder.with_span_processor(Arc::clone(&batching)).build().unwrap();
    let tracer = client.tracer("test");
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let used = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let (soft, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
    setrlimit(Resource::RLIMIT_AS, used + (64 << 20), hard).unwrap();
    let spans = |count| (0..count).for_each(|_| tracer.start("span").end());
    spans(7);
    let stats = batching.stats();
    assert_eq!((stats.queued, stats.exported), (7, 0), "a thread was there: {stats:?}");
    assert!(client.flush(LONG).is_complete());
    assert_eq!(counting.spans(), 7);
    spans(30);
    let stats = batching.stats();
    assert_eq!((stats.queued, stats.dropped), (10, 20), "{stats:?}");
    setrlimit(Resource::RLIMIT_AS, soft, hard).unwrap();
    spans(5);
    support::wait_for("the thread that can be had now", || counting.spans() >= 17);
    assert!(client.shutdown(LONG).is_complete());
    let stats = batching.stats();
    assert_eq!((stats.ended, stats.exported + stats.dropped, stats.queued), (42, 42, 0), "{stats:?}");
}

#[test]
fn where_no_thread_can_be_had_a_flush_exports_and_one_is_started_as_soon_as_it_can_be() {
    run("no threads", &[("RUST_MIN_STACK", "268435456")]);
}
