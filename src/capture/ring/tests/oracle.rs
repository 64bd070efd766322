//! The ring compared with a queue of owned records, on one thread, with chunks so small that everything happens at
//! their edges.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

const CHUNK: usize = 64;

#[derive(Debug, Clone)]
enum Step {
    Push { scope: u32, len: usize },
    Detach(Limit),
    DropSlice(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        1 => Just(0),
        2 => Just(1),
        8 => 2..40_usize,
        // Just fills a chunk, or is just too large for one.
        1 => CHUNK - ENTRY_BYTES - 1..=CHUNK - ENTRY_BYTES + 1,
        1 => CHUNK..200,
    ];
    let records = prop_oneof![4 => 1..6_u32, 1 => Just(0), 2 => Just(u32::MAX)];
    let bytes = prop_oneof![2 => 0..100_usize, 1 => Just(usize::MAX)];
    prop_oneof![
        5 => (0..3_u32, len).prop_map(|(scope, len)| Step::Push { scope, len }),
        2 => (records, bytes).prop_map(|(records, bytes)| Step::Detach(Limit { records, bytes })),
        2 => any::<Index>().prop_map(Step::DropSlice),
    ]
}

type Model = (u32, Vec<u8>);

/// What a batch of at most `limit` takes from the front: at least one record, of any size.
fn take(queue: &mut VecDeque<Model>, limit: Limit) -> VecDeque<Model> {
    let (mut taken, mut bytes) = (VecDeque::new(), limit.bytes);
    while let Some((_, record)) = queue.front()
        && taken.len() < limit.records as usize
        && (record.len() <= bytes || taken.is_empty())
    {
        bytes = bytes.saturating_sub(record.len());
        taken.extend(queue.pop_front());
    }
    taken
}

/// Merges neighbours of one scope into one run.
fn runs(records: impl Iterator<Item = Model>) -> Vec<Model> {
    let mut runs: Vec<Model> = Vec::new();
    for (scope, record) in records {
        match runs.last_mut() {
            Some((of, run)) if *of == scope => run.extend(record),
            _ => runs.push((scope, record)),
        }
    }
    runs
}

fn assert_holds(slice: &Slice, expected: &[Model]) {
    let held: Vec<_> = slice.runs().map(|(scope, run)| (scope, run.to_vec())).collect();
    assert_eq!(held, expected);
    assert_eq!(slice.bytes(), expected.iter().map(|(_, run)| run.len()).sum::<usize>());
}

/// The order in which the remaining values are dropped at the end.
#[derive(Debug, Clone, Copy)]
enum Last {
    Ring,
    Producer,
    Slices,
}

fn play(limit: usize, steps: Vec<Step>, last: Last) {
    let budget = MemoryBudget::with_chunks_of(limit, CHUNK);
    let (ring, mut producer) = Ring::new(0);
    let mut queue = VecDeque::new();
    let mut held: Vec<(Slice, Vec<Model>)> = Vec::new();
    let (mut pushed, mut refused, mut taken) = (0, 0, 0);
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Push { scope, len } => {
                let record = vec![number as u8; len];
                match producer.push(&budget, scope, &record) {
                    Ok(_) => {
                        queue.push_back((scope, record));
                        pushed += 1;
                    }
                    Err(Full) => {
                        let needed = (len + ENTRY_BYTES).max(CHUNK).next_multiple_of(8);
                        assert!(budget.held() + needed > limit, "there was room");
                        producer.refuse();
                        refused += 1;
                    }
                }
            }
            Step::Detach(limit) => {
                let (mut left, mut slices) = (limit, Vec::new());
                ring.detach(&mut left, &mut slices);
                let mut expected = take(&mut queue, limit);
                assert_eq!(limit.records - left.records, expected.len() as u32);
                taken += expected.len() as u64;
                for slice in slices {
                    let runs = runs(expected.drain(..slice.records() as usize));
                    held.push((slice, runs));
                }
                assert!(expected.is_empty());
            }
            Step::DropSlice(at) if !held.is_empty() => {
                let (slice, expected) = held.swap_remove(at.index(held.len()));
                assert_holds(&slice, &expected);
            }
            Step::DropSlice(_) => {}
        }
        let waiting = queue.len() as u64;
        assert_eq!((ring.pushed(), ring.refused(), ring.taken()), (pushed, refused, taken));
        assert_eq!((ring.waiting(), ring.count_queued()), (waiting, waiting));
        assert!(budget.held() <= limit);
    }
    held.iter().for_each(|(slice, expected)| assert_holds(slice, expected));
    match last {
        Last::Ring => drop((held, producer, ring)),
        Last::Producer => drop((ring, held, producer)),
        Last::Slices => {
            drop((producer, ring));
            held.iter().for_each(|(slice, expected)| assert_holds(slice, expected));
            drop(held);
        }
    }
    assert_all_is_returned(&budget, limit);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_is_a_bounded_queue_of_records(
        limit in prop_oneof![4 => 0..10 * CHUNK, 1 => Just(1 << 20)],
        steps in vec(step(), 0..150),
        last in prop_oneof![Just(Last::Ring), Just(Last::Producer), Just(Last::Slices)],
    ) {
        play(limit, steps, last);
    }
}
