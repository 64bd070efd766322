//! Spans of many threads in one trace: a tracer that is borrowed and cloned, a parent that is handed over, a span that
//! ends on another thread than it began on; and the pool of threads that sends them.
//!
//! ```text
//! cargo run --example worker_threads
//! ```
//!
//! It needs no collector: a receiver inside the process takes one's place. The exit status is not 0 if a span is
//! missing, arrived twice or has another parent than it should, or if the pool did not keep to its settings.
//!
//! Left out: what happens when more is recorded than can be sent (`overload`).

use std::{collections::HashSet, error::Error, sync::mpsc, thread, time::Duration};

use otlp::{
    Client, Span, SpanContext, Tracer,
    core::WorkerPool,
    testing::{ReceivedSpan, Receiver},
};

const THREADS: usize = 4;
const IMAGES_PER_THREAD: usize = 1000;
const UPLOADS: usize = 500;

/// The most spans of one request.
const BATCH: usize = 100;
/// The most threads that send.
const WORKERS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start()?;
    let pool = WorkerPool::new()
        .with_worker_count(WORKERS)
        .with_queue_size(20_000) // More than there are spans: none can be dropped.
        .with_batch_size(BATCH)
        .with_timeout(Duration::from_secs(30));
    let client = Client::builder()
        .with_endpoint(receiver.endpoint())
        .with_service_name("worker-threads")
        .with_worker_pool(pool)
        .build()?;
    let tracer = client.tracer("album");

    let album = tracer.span("album").root().start();
    resize(&tracer, &album.context());
    upload(&tracer, &album.context())?;
    album.end();

    // Covers the spans of all threads, those that are gone included.
    let receipt = client.flush(Duration::from_secs(10));
    assert!(receipt.is_complete(), "something was lost: {receipt:?}");
    check(&receiver);
    println!("{} spans of {} threads are one trace, nothing lost", receipt.exported, THREADS + 2);
    Ok(())
}

/// Scoped threads borrow the tracer. Which span is current is a matter of each thread, so they are told their parent.
fn resize(tracer: &Tracer, album: &SpanContext) {
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || {
                for image in 0..IMAGES_PER_THREAD {
                    let resize = tracer.span("resize").parent(album).attribute("thread", number).start();
                    // From here on this thread needs no telling.
                    let _current = resize.enter();
                    tracer.in_span("decode", |span| {
                        span.set_attribute("image", image);
                    });
                }
            });
        }
    });
}

/// A spawned thread owns a clone of the tracer. The spans it is sent began here and end there.
fn upload(tracer: &Tracer, album: &SpanContext) -> Result<(), Box<dyn Error>> {
    let (sender, uploads) = mpsc::channel::<Span>();
    let uploader = thread::spawn({
        let tracer = tracer.clone();
        move || {
            for mut upload in uploads {
                tracer.span("write file").parent(&upload.context()).start().end();
                upload.set_attribute("ended.by", "uploader");
                upload.end();
            }
        }
    });
    for image in 0..UPLOADS {
        sender.send(tracer.span("upload").parent(album).attribute("image", image).start())?;
    }
    drop(sender);
    uploader.join().map_err(|_| "the uploader panicked".into())
}

/// What must have arrived, and how.
fn check(receiver: &Receiver) {
    let spans = receiver.spans();
    let named = |name: &str| spans.iter().filter(|span| span.span.name == name).collect::<Vec<_>>();
    let (albums, resizes, decodes) = (named("album"), named("resize"), named("decode"));
    let (uploads, files) = (named("upload"), named("write file"));
    let images = THREADS * IMAGES_PER_THREAD;

    println!("{:<12}{:>6}  child of", "span", "count");
    are_children(&resizes, &albums, images);
    are_children(&decodes, &resizes, images);
    are_children(&uploads, &albums, UPLOADS);
    are_children(&files, &uploads, UPLOADS);
    assert!(uploads.iter().all(|upload| upload.attribute("ended.by").is_some()));
    let ids: HashSet<_> = receiver.span_ids().into_iter().collect();
    assert_eq!(ids.len(), spans.len(), "a span arrived twice");

    let (requests, at_once) = (receiver.requests(), receiver.connection_counts().peak_requests);
    let largest = requests.iter().map(|request| request.spans).max().unwrap_or(0);
    println!("{} requests, at most {at_once} at once, with at most {largest} spans", requests.len());
    assert!(largest <= BATCH as u64);
    assert!(at_once <= WORKERS as u64);
}

/// There are `count` of these children, each with one of these parents.
fn are_children(children: &[&ReceivedSpan], parents: &[&ReceivedSpan], count: usize) {
    println!("{:<12}{:>6}  {}", children[0].span.name, children.len(), parents[0].span.name);
    assert_eq!(children.len(), count);
    let parents: HashSet<_> = parents.iter().map(|parent| (&parent.span.trace_id, &parent.span.span_id)).collect();
    assert!(children.iter().all(|child| parents.contains(&(&child.span.trace_id, &child.span.parent_span_id))));
}
