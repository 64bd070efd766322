use std::{
    collections::VecDeque,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::sync::scenario::within_a_minute;

#[test]
fn a_claim_that_another_thread_holds_detaches_nothing() {
    let budget = MemoryBudget::new(1 << 20);
    let (ring, mut producer) = Ring::new(0);
    producer.push(&budget, 0, &record(0)).unwrap();
    let claim = ring.consumer.lock();
    assert!(detach(&ring, ALL).is_empty());
    assert_eq!((ring.taken(), ring.waiting()), (0, 1));
    drop(claim);
    assert_eq!(numbers(&detach(&ring, ALL)), [0]);
}

#[test]
fn a_ring_takes_no_memory_before_its_first_record_and_keeps_one_chunk_when_it_is_drained() {
    let budget = MemoryBudget::with_chunks_of(1 << 20, 64);
    let (ring, mut producer) = Ring::new(0);
    assert_eq!(budget.held(), 0);
    for number in 0..40 {
        producer.push(&budget, 0, &record(number)).unwrap();
    }
    assert_eq!(budget.held(), 10 * 64);
    drop(detach(&ring, ALL));
    // Fails if the budget has to keep more than the tail.
    assert!(budget.reserve((1 << 20) - 64));
    assert_eq!(budget.held(), 1 << 20);
}

#[test]
fn a_record_that_finds_no_room_changes_nothing_and_a_smaller_one_may_still_fit() {
    let budget = MemoryBudget::with_chunks_of(64, 64);
    let (ring, mut producer) = Ring::new(0);
    assert_eq!(producer.push(&budget, 0, &[1; 40]), Ok(Pushed::Linked));
    assert_eq!(producer.push(&budget, 0, &[2; 20]), Err(Full));
    assert_eq!(producer.push(&budget, 0, &[3; 8]), Ok(Pushed::InPlace));
    assert_eq!((ring.pushed(), ring.refused()), (2, 0));
    let slices = detach(&ring, ALL);
    let runs: Vec<_> = slices.iter().flat_map(Slice::runs).collect();
    assert_eq!(runs, [(0, &[[1; 40].as_slice(), &[3; 8]].concat()[..])]);
}

#[test]
fn a_chain_of_any_length_is_freed_without_recursion() {
    let budget = MemoryBudget::with_chunks_of(usize::MAX, 16);
    let (ring, mut producer) = Ring::new(0);
    for number in 0..200_000 {
        producer.push(&budget, 0, &record(number)).unwrap();
    }
    let small_stack = thread::Builder::new().stack_size(64 * 1024);
    small_stack.spawn(move || drop((ring, producer))).unwrap().join().unwrap();
    budget.trim();
    assert!(budget.held() < 64 * 1024);
}

/// Makes sums of record numbers tell lost, doubled and swapped records apart.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ number >> 29
}

/// Record `number`: its bytes say its length and content, and its scope is its number modulo 3.
fn varied(number: u64) -> Vec<u8> {
    let len = match mixed(number) % 64 {
        0 => 600,
        other => 12 + other as usize,
    };
    let mut record = vec![number as u8; len];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record[8..12].copy_from_slice(&(len as u32).to_le_bytes());
    record
}

/// Reads a run of varied records, and checks every byte.
fn read(scope: u32, mut run: &[u8], mut each: impl FnMut(u64)) {
    while let Some(head) = run.get(..12) {
        let number = u64::from_le_bytes(head[..8].try_into().unwrap());
        let (record, rest) = run.split_at(u32::from_le_bytes(head[8..].try_into().unwrap()) as usize);
        assert!(record[12..].iter().all(|byte| *byte == number as u8), "record {number} is torn");
        assert_eq!(u64::from(scope), number % 3);
        each(number);
        run = rest;
    }
    assert!(run.is_empty());
}

/// Takes records from `ring` until `is_over`, a few slices at a time, which it holds for a while.
fn consume(ring: &Ring, is_over: &AtomicBool, seed: u64) -> (u64, u64) {
    let (mut count, mut sum, mut next) = (0, 0_u64, 0);
    let mut held = VecDeque::new();
    for turn in seed.. {
        let over = is_over.load(Ordering::Acquire);
        let chance = mixed(turn);
        let limit = Limit { records: 1 + (chance % 50) as u32, bytes: (chance >> 32) as usize % 2000 };
        let slices = detach(ring, limit);
        let is_idle = slices.is_empty();
        held.push_back(slices);
        while let Some(slices) = if is_idle || held.len() > 4 { held.pop_front() } else { None } {
            for (scope, run) in slices.iter().flat_map(Slice::runs) {
                read(scope, run, |number| {
                    assert!(number >= next, "{number} came after {next}");
                    next = number + 1;
                    count += 1;
                    sum = sum.wrapping_add(mixed(number));
                });
            }
        }
        if is_idle {
            if over && ring.waiting() == 0 {
                break;
            }
            yield_now();
        }
    }
    (count, sum)
}

#[test]
fn two_consumers_take_every_record_once_and_each_of_them_in_order() {
    within_a_minute(|| {
        let limit = 64 * 1024;
        let budget = &*MemoryBudget::with_chunks_of(limit, 512);
        let (ring, mut producer) = Ring::new(0);
        let (shared, is_over) = (&*ring, &AtomicBool::new(false));
        let until = Instant::now() + Duration::from_secs(2);
        let (pushed, taken) = thread::scope(|threads| {
            let consumers = [1, 2].map(|seed| threads.spawn(move || consume(shared, is_over, seed << 40)));
            let (mut count, mut sum) = (0, 0_u64);
            while Instant::now() < until {
                if producer.push(budget, (count % 3) as u32, &varied(count)).is_ok() {
                    sum = sum.wrapping_add(mixed(count));
                    count += 1;
                } else {
                    producer.refuse();
                    yield_now();
                }
                assert!(budget.held() <= limit);
            }
            is_over.store(true, Ordering::Release);
            let taken = consumers.map(|consumer| consumer.join().unwrap());
            ((count, sum), (taken[0].0 + taken[1].0, taken[0].1.wrapping_add(taken[1].1)))
        });
        assert_eq!(pushed, taken);
        assert!(pushed.0 > 0);
        assert_eq!((ring.pushed(), ring.taken(), ring.count_queued()), (pushed.0, pushed.0, 0));
        drop((ring, producer));
        assert_all_is_returned(budget, limit);
    });
}
