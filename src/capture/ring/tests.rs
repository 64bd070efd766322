use super::*;
use crate::sync::scenario::{explore, spawn, yield_now};

/// No limit: takes everything.
const ALL: Limit = Limit { records: u32::MAX, bytes: usize::MAX };

/// Eight bytes: under loom two records fill a chunk.
fn record(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// The numbers in slices of records made by [`record`].
fn numbers(slices: &[Slice]) -> Vec<u64> {
    let runs = slices.iter().flat_map(Slice::runs);
    runs.flat_map(|(_, run)| run.chunks(8)).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn detach(ring: &Ring, mut limit: Limit) -> Vec<Slice> {
    let mut slices = Vec::new();
    ring.detach(&mut limit, &mut slices);
    slices
}

/// Asserts that the bound was never exceeded and that nothing is held any more: all of it can be reserved.
fn assert_all_is_returned(budget: &MemoryBudget, limit: usize) {
    assert!(budget.reserve(limit), "{} bytes are still held", budget.held());
    budget.release(limit);
    assert_eq!(budget.held(), 0);
}

#[test]
fn loom_ring_push_and_drain() {
    explore(None, || {
        let budget = MemoryBudget::new(1 << 20);
        let (ring, mut producer) = Ring::new(0);
        let pushing = {
            let budget = std::sync::Arc::clone(&budget);
            spawn(move || {
                for number in 0..2 {
                    producer.push(&budget, 0, &record(number)).unwrap();
                }
            })
        };
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.extend(numbers(&detach(&ring, ALL)));
            assert_eq!(ring.taken(), seen.len() as u64);
            assert!(ring.taken() + ring.waiting() <= 2);
            assert!(ring.count_queued() <= 2 - ring.taken());
        }
        pushing.join().unwrap();
        assert_eq!(ring.waiting(), ring.count_queued());
        seen.extend(numbers(&detach(&ring, ALL)));
        assert_eq!(seen, [0, 1]);
        assert_eq!((ring.pushed(), ring.taken(), ring.count_queued()), (2, 2, 0));
        drop(ring);
        assert_all_is_returned(&budget, 1 << 20);
    });
}

#[test]
fn loom_ring_grows_by_linking() {
    explore(None, || {
        let budget = MemoryBudget::new(1 << 20);
        let (ring, mut producer) = Ring::new(0);
        producer.push(&budget, 0, &record(0)).unwrap();
        let pushing = {
            let budget = std::sync::Arc::clone(&budget);
            spawn(move || {
                // The second record fills the chunk that the first is in, the third goes into the next one.
                let pushed = [1, 2].map(|number| producer.push(&budget, 0, &record(number)).unwrap());
                assert!(cfg!(not(loom)) || pushed == [Pushed::InPlace, Pushed::Linked]);
            })
        };
        let mut seen = numbers(&detach(&ring, ALL));
        seen.extend(numbers(&detach(&ring, Limit { records: 1, ..ALL })));
        pushing.join().unwrap();
        seen.extend(numbers(&detach(&ring, ALL)));
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!((ring.taken(), ring.count_queued()), (3, 0));
    });
}

#[test]
fn loom_ring_recycles_chunks() {
    explore(None, || {
        // Room for two chunks of two records each.
        let budget = MemoryBudget::with_chunks_of(64, 32);
        let (ring, mut producer) = Ring::new(0);
        for number in 0..3 {
            producer.push(&budget, 0, &record(number)).unwrap();
        }
        let first = detach(&ring, Limit { records: 2, ..ALL });
        let reading = spawn(move || assert_eq!(numbers(&first), [0, 1]));
        let draining = {
            let ring = Arc::clone(&ring);
            spawn(move || numbers(&detach(&ring, ALL)))
        };
        // The fifth record needs the first chunk, which has two readers to come back from.
        let mut pushed = 3;
        for number in 3..5 {
            match producer.push(&budget, 0, &record(number)) {
                Ok(_) => pushed += 1,
                Err(full) => assert_eq!((full, number), (Full, 4)),
            }
        }
        reading.join().unwrap();
        let mut seen = draining.join().unwrap();
        seen.extend(numbers(&detach(&ring, ALL)));
        assert_eq!(seen, Vec::from_iter(2..pushed));
        drop((ring, producer));
        assert_all_is_returned(&budget, 64);
    });
}

#[test]
fn loom_ring_rewinds_a_drained_chunk_where_there_is_no_other() {
    explore(None, || {
        // Room for one chunk of two records.
        let budget = MemoryBudget::with_chunks_of(32, 32);
        let (ring, mut producer) = Ring::new(0);
        for number in 0..2 {
            producer.push(&budget, 0, &record(number)).unwrap();
        }
        let draining = {
            let ring = Arc::clone(&ring);
            spawn(move || {
                let first = detach(&ring, Limit { records: 1, ..ALL });
                let rest = detach(&ring, ALL);
                [numbers(&first), numbers(&rest)].concat()
            })
        };
        let _ = [2, 3].map(|number| producer.push(&budget, 0, &record(number)));
        let mut seen = draining.join().unwrap();
        seen.extend(numbers(&detach(&ring, ALL)));
        let expected = Vec::from_iter(0..2);
        assert_eq!(seen[..2], expected);
        assert_eq!(seen.len() as u64, ring.pushed());
        assert!(seen.is_sorted());
        // No reader is left: there is room again.
        producer.push(&budget, 0, &record(9)).unwrap();
        assert_eq!(numbers(&detach(&ring, ALL)), [9]);
        assert_eq!(ring.count_queued(), 0);
        drop((ring, producer));
        assert_all_is_returned(&budget, 32);
    });
}

#[test]
fn loom_ring_frees_the_chunk_of_a_large_record_with_the_record() {
    explore(None, || {
        let budget = MemoryBudget::with_chunks_of(1 << 20, 32);
        let (ring, mut producer) = Ring::new(0);
        let pushing = {
            let budget = std::sync::Arc::clone(&budget);
            spawn(move || {
                producer.push(&budget, 0, &[1; 100]).unwrap();
                // The thread lives on, and records nothing more for now.
                producer
            })
        };
        let mut taken = 0;
        while taken == 0 {
            taken = detach(&ring, Limit { records: 1, ..ALL }).len();
            yield_now();
        }
        let producer = pushing.join().unwrap();
        assert_eq!((taken, budget.held(), ring.count_queued()), (1, 0, 0));
        drop(producer);
    });
}

#[test]
fn loom_claim_by_producer() {
    explore(None, || {
        let budget = MemoryBudget::new(1 << 20);
        let (ring, mut producer) = Ring::new(0);
        for number in 0..2 {
            producer.push(&budget, 0, &record(number)).unwrap();
        }
        let draining = {
            let ring = Arc::clone(&ring);
            spawn(move || [1, u32::MAX].map(|records| numbers(&detach(&ring, Limit { records, ..ALL }))).concat())
        };
        // A producer does this when it sheds its oldest records.
        producer.push(&budget, 0, &record(2)).unwrap();
        let mut shed = numbers(&detach(&ring, Limit { records: 1, ..ALL }));
        producer.push(&budget, 0, &record(3)).unwrap();
        let drained = draining.join().unwrap();
        shed.extend(numbers(&detach(&ring, ALL)));
        assert!(shed.is_sorted() && drained.is_sorted());
        let mut all = [shed, drained].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
        assert_eq!((ring.taken(), ring.count_queued()), (4, 0));
    });
}

#[cfg(not(loom))]
mod on_real_threads;
#[cfg(not(loom))]
mod oracle;
