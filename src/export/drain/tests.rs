use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{super::ledger::Ledger, *};
use crate::{
    capture::{CaptureLimits, Limit, Recorder, Slice},
    sync::{
        AtomicU64,
        scenario::{explore, spawn, yield_now},
    },
};

const ALL: Limit = Limit { records: u32::MAX, bytes: usize::MAX };

fn records(slices: &[Slice]) -> u64 {
    slices.iter().map(|slice| u64::from(slice.records())).sum()
}

fn recorder() -> Arc<Recorder> {
    Recorder::new(CaptureLimits { memory_bytes: 1 << 20, ready_spans: 1, ..CaptureLimits::default() })
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// The way of a batch through the ledger, from the ring to its end.
fn deliver(ledger: &Ledger, ring: &Ring, settled: &AtomicU64) {
    let batch = ledger.begin(|| {
        let mut slices = Vec::new();
        ring.detach(&mut { ALL }, &mut slices);
        records(&slices)
    });
    if let Some(id) = batch {
        ledger.settle(id, u64::MAX, None, |spans| _ = settled.fetch_add(spans, Ordering::Relaxed));
    }
}

#[test]
fn loom_flush_watermark() {
    // Three threads and a lock that all of them take: exploring all interleavings takes hours.
    explore(Some(3), || {
        let (ledger, settled) = (RingArc::new(Ledger::default()), Arc::new(AtomicU64::new(0)));
        let recorder = recorder();
        let (ring, mut producer) = Ring::new(0);
        producer.push(&recorder.budget, 0, &[7; 8]).unwrap();
        let working = [(); 2].map(|()| {
            let (ledger, ring, settled) = (RingArc::clone(&ledger), RingArc::clone(&ring), Arc::clone(&settled));
            spawn(move || deliver(&ledger, &ring, &settled))
        });
        producer.push(&recorder.budget, 0, &[7; 8]).unwrap();
        let mut watermark = Watermark::new(vec![RingArc::clone(&ring)]);
        // Asked while records may still be in the ring.
        ledger.wait_until(far(), |open| {
            watermark.is_passed(open);
            true
        });
        // Takes what the others did not, like a flush without workers; they may hold the claim meanwhile.
        while ring.taken() < 2 {
            deliver(&ledger, &ring, &settled);
            yield_now();
        }
        assert!(ledger.wait_until(far(), |open| watermark.is_passed(open)));
        assert_eq!(settled.load(Ordering::Relaxed), 2);
        working.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[cfg(not(loom))]
mod on_real_threads {
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;
    use crate::sync::scenario::within_a_minute;
    use crate::{
        capture::Tracer,
        config::{Options, Settings},
        env::Environment,
        error::{Diagnostics, LogLevel},
        testing::{Receiver, Response},
    };

    #[test]
    fn a_watermark_covers_what_waits_and_what_is_on_its_way_and_nothing_later() {
        let (ledger, settled, recorder) = (Ledger::default(), AtomicU64::new(0), recorder());
        let (ring, mut producer) = Ring::new(0);
        let mut push = || _ = producer.push(&recorder.budget, 0, &[7; 8]).unwrap();
        let take = |records: u32| {
            ledger.begin(|| {
                let mut slices = Vec::new();
                ring.detach(&mut Limit { records, ..ALL }, &mut slices);
                super::records(&slices)
            })
        };
        (0..3).for_each(|_| push());
        let earlier = take(1).unwrap();
        let mut watermark = Watermark::new(vec![RingArc::clone(&ring)]);
        push();
        let mut is_passed = || {
            let mut pending = 0;
            let passed = ledger.wait_until(Instant::now(), |open| {
                let passed = watermark.is_passed(open);
                pending = watermark.pending(open);
                passed
            });
            (passed, pending)
        };
        assert_eq!(is_passed(), (false, 3));
        let covered = take(2).unwrap();
        assert_eq!(is_passed(), (false, 3));
        let later = take(1).unwrap();
        let settle = |id| ledger.settle(id, u64::MAX, None, |spans| _ = settled.fetch_add(spans, Ordering::Relaxed));
        settle(covered);
        assert_eq!(is_passed(), (false, 1));
        settle(earlier);
        assert_eq!(is_passed(), (true, 0));
        assert_eq!(ledger.spans(), 1);
        settle(later);
        settle(later);
        assert_eq!((settled.into_inner(), ledger.spans()), (4, 0), "a batch is settled once");
    }

    /// An exporter for which no thread can be started.
    fn exporter_without_threads(endpoint: String) -> (Arc<Exporter>, Tracer) {
        let options = Options { endpoint: Some(endpoint), ..Options::default() };
        let (settings, _) = Settings::resolve(options, Environment::default()).unwrap();
        let recorder = recorder();
        let tracer = Tracer::bound(Some(&recorder), "threadless".into());
        (Exporter::new(settings, recorder, Diagnostics::new(LogLevel::None, None)), tracer)
    }

    #[test]
    fn where_no_thread_can_be_started_a_flush_delivers_on_the_callers_thread() {
        // ERR-04
        let receiver = Receiver::start().unwrap();
        let (exporter, tracer) = exporter_without_threads(receiver.endpoint());
        (0..1_000).for_each(|_| tracer.start("span").end());
        let receipt = exporter.flush(Patience::Until(Duration::from_secs(30)));
        assert!(receipt.is_complete(), "{receipt:?}");
        assert_eq!(receiver.span_count(), 1_000);
    }

    #[test]
    fn a_flush_on_the_callers_thread_keeps_its_time() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let busy =
            Receiver::builder().respond_with(|_| Response::status(503).header("retry-after", "5")).start().unwrap();
        for endpoint in [format!("http://{}", silent.local_addr().unwrap()), busy.endpoint()] {
            let (exporter, tracer) = exporter_without_threads(endpoint);
            tracer.start("span").end();
            let begun = Instant::now();
            let receipt = exporter.flush(Patience::Until(Duration::from_millis(200)));
            assert_eq!(receipt.pending, 1);
            let ended = exporter.shutdown(Patience::Until(Duration::from_millis(200)));
            // Far from the 5 s that the receiver asks for, and from the 10 s of the request.
            assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
            assert_eq!((ended.pending, ended.dropped_total()), (0, 1));
        }
    }

    #[test]
    fn a_batch_in_parts_is_open_until_the_last_part_is_settled() {
        let (ledger, settled) = (Ledger::default(), AtomicU64::new(0));
        let id = ledger.begin(|| 5).unwrap();
        let settle = |spans| ledger.settle(id, spans, None, |spans| _ = settled.fetch_add(spans, Ordering::Relaxed));
        settle(2);
        assert_eq!((settled.load(Ordering::Relaxed), ledger.spans()), (2, 3));
        settle(4);
        settle(1);
        assert_eq!((settled.load(Ordering::Relaxed), ledger.spans()), (5, 0), "no more than there were");
    }

    #[test]
    fn what_was_written_off_is_not_settled_again() {
        let (ledger, settled) = (Ledger::default(), AtomicU64::new(0));
        let id = ledger.begin(|| 5).unwrap();
        ledger.write_off(|spans| _ = settled.fetch_add(spans, Ordering::Relaxed));
        ledger.settle(id, u64::MAX, None, |_| panic!("it was written off"));
        assert_eq!((settled.into_inner(), ledger.spans()), (5, 0));
    }

    /// How many records a thread makes at most.
    const RECORDS: usize = 1 << 20;

    /// A thread's ring, and which of its records were settled.
    struct Line {
        ring: RingArc<Ring>,
        settled: Vec<AtomicBool>,
    }

    impl Line {
        fn are_settled(&self, mut range: std::ops::Range<u64>) -> bool {
            range.all(|number| self.settled[number as usize].load(Ordering::Relaxed))
        }
    }

    /// A batch: what it took from each line, as record numbers.
    type Taken = Vec<(usize, u64)>;

    fn take(lines: &[Line], turn: usize) -> (Taken, u64) {
        let mut taken = Taken::new();
        let mut limit = Limit { records: 100, ..ALL };
        for at in 0..lines.len() {
            let line = (turn + at) % lines.len();
            let mut slices = Vec::new();
            lines[line].ring.detach(&mut limit, &mut slices);
            let numbers = slices.iter().flat_map(Slice::runs).flat_map(|(_, run)| run.chunks(8));
            taken.extend(numbers.map(|number| (line, u64::from_le_bytes(number.try_into().unwrap()))));
        }
        let spans = taken.len() as u64;
        (taken, spans)
    }

    /// Delivers batches until `is_over`, keeping a few open and settling them out of order.
    fn work(ledger: &Ledger, lines: &[Line], is_over: &AtomicBool) {
        let mut open = Vec::new();
        for turn in 0.. {
            let over = is_over.load(Ordering::Acquire);
            let mut taken = Taken::new();
            let id = ledger.begin(|| {
                let (batch, spans) = take(lines, turn);
                taken = batch;
                spans
            });
            let is_idle = id.is_none();
            open.extend(id.map(|id| (id, taken)));
            if is_idle || open.len() > 2 {
                while let Some((id, taken)) = if is_idle || open.len() > 1 { open.pop() } else { None } {
                    ledger.settle(id, u64::MAX, None, |spans| {
                        assert_eq!(spans, taken.len() as u64);
                        for (line, number) in taken {
                            let before = lines[line].settled[number as usize].swap(true, Ordering::Relaxed);
                            assert!(!before, "record {number} of ring {line} was delivered twice");
                        }
                    });
                }
            }
            if is_idle {
                if over {
                    return;
                }
                yield_now();
            }
        }
    }

    #[test]
    fn a_flush_returns_only_after_all_that_was_recorded_before_it_is_settled() {
        within_a_minute(|| {
            let (ledger, recorder) = (&Ledger::default(), &*recorder());
            let (mut lines, mut producers) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let (ring, producer) = Ring::new(0);
                lines.push(Line { ring, settled: (0..RECORDS).map(|_| AtomicBool::new(false)).collect() });
                producers.push(producer);
            }
            let (lines, is_over) = (&lines, &AtomicBool::new(false));
            let until = Instant::now() + Duration::from_secs(2);
            let flushes = thread::scope(|threads| {
                let mut own = producers.pop().unwrap();
                let recording: Vec<_> = producers
                    .into_iter()
                    .map(|mut producer| {
                        threads.spawn(move || {
                            let mut number = 0_u64;
                            while Instant::now() < until && number < RECORDS as u64 {
                                // Records that find no room are made again: the workers are slower than this.
                                match producer.push(&recorder.budget, 0, &number.to_le_bytes()) {
                                    Ok(_) => number += 1,
                                    Err(_) => yield_now(),
                                }
                            }
                        })
                    })
                    .collect();
                for _ in 0..2 {
                    threads.spawn(|| work(ledger, lines, is_over));
                }
                let (mut flushes, mut checked) = (0, [0; 3]);
                let mut number = 0_u64;
                while Instant::now() < until && number < RECORDS as u64 {
                    if own.push(&recorder.budget, 0, &number.to_le_bytes()).is_err() {
                        yield_now();
                        continue;
                    }
                    number += 1;
                    let pushed = [0, 1, 2].map(|line: usize| lines[line].ring.pushed());
                    assert_eq!(pushed[2], number);
                    let mut watermark = Watermark::new(lines.iter().map(|line| RingArc::clone(&line.ring)).collect());
                    assert!(ledger.wait_until(far(), |open| watermark.is_passed(open)));
                    for (line, pushed) in pushed.into_iter().enumerate() {
                        assert!(lines[line].are_settled(checked[line]..pushed), "flush {flushes} returned too early");
                        checked[line] = pushed;
                    }
                    flushes += 1;
                }
                recording.into_iter().for_each(|thread| thread.join().unwrap());
                is_over.store(true, Ordering::Release);
                flushes
            });
            assert!(flushes > 100, "{flushes}");
            for line in lines {
                assert!(line.are_settled(0..line.ring.pushed()));
                assert_eq!((line.ring.waiting(), line.ring.count_queued()), (0, 0));
            }
            assert_eq!(ledger.spans(), 0);
        });
    }
}
