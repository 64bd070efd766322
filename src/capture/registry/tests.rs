use super::*;
use crate::{
    capture::{
        memory::MemoryBudget,
        memory::{Limit, Slice},
    },
    sync::scenario::{explore, spawn},
};

/// Drains the rings that the worker knows of, and returns how many records it took.
fn take_all(registry: &Registry, version: &mut usize, rings: &mut Vec<Arc<Ring>>) -> u64 {
    registry.refresh(version, rings);
    let mut slices = Vec::new();
    for ring in rings.iter() {
        ring.detach(&mut Limit { records: u32::MAX, bytes: usize::MAX }, &mut slices);
    }
    slices.iter().map(|slice: &Slice| u64::from(slice.records())).sum()
}

#[test]
fn loom_close_race() {
    explore(None, || {
        let budget = MemoryBudget::new(1 << 20);
        let registry = std::sync::Arc::new(Registry::new());
        let mut producer = registry.check_out();
        let ending = {
            let registry = std::sync::Arc::clone(&registry);
            spawn(move || {
                producer.push(&budget, 0, &[7; 8]).unwrap();
                registry.give_back(producer);
            })
        };
        let (mut version, mut rings) = (usize::MAX, Vec::new());
        let mut taken = take_all(&registry, &mut version, &mut rings);
        registry.reap();
        if registry.rings().is_empty() {
            assert_eq!(taken, 1, "a ring that is gone was drained before");
        }
        ending.join().unwrap();
        taken += take_all(&registry, &mut version, &mut rings);
        assert_eq!(taken, 1);
        registry.reap();
        assert_eq!((registry.count(), registry.waiting(), registry.totals().pushed), (0, 0, 1));
    });
}

#[test]
fn loom_registry_register_retire_reap() {
    // Three threads with several locks each: exploring all interleavings takes hours.
    explore(Some(3), || {
        let budget = MemoryBudget::new(1 << 20);
        let registry = std::sync::Arc::new(Registry::new());
        let threads = [1, 2].map(|scope| {
            let (registry, budget) = (std::sync::Arc::clone(&registry), std::sync::Arc::clone(&budget));
            spawn(move || {
                let mut producer = registry.check_out();
                producer.push(&budget, scope, &[7; 8]).unwrap();
                registry.give_back(producer);
            })
        });
        let (mut version, mut rings) = (usize::MAX, Vec::new());
        let mut taken = take_all(&registry, &mut version, &mut rings);
        registry.reap();
        assert!(registry.count() <= 2 && taken <= registry.totals().pushed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        taken += take_all(&registry, &mut version, &mut rings);
        assert_eq!((taken, registry.count_queued()), (2, 0));
        registry.reap();
        assert_eq!((registry.count(), registry.totals().pushed), (0, 2));
    });
}

#[cfg(not(loom))]
mod on_real_threads {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        stats::{Started, Withheld},
        sync::scenario::within_a_minute,
    };

    #[test]
    fn the_next_thread_continues_the_ring_that_an_ended_one_left() {
        let registry = Registry::new();
        let (one, other) = (registry.check_out(), registry.check_out());
        let left = Arc::clone(other.ring());
        registry.give_back(one);
        registry.give_back(other);
        assert!(Arc::ptr_eq(registry.check_out().ring(), &left));
        assert_eq!(registry.count(), 2);
    }

    #[test]
    fn a_ring_is_removed_only_when_no_thread_uses_it_and_nothing_waits_in_it() {
        let budget = MemoryBudget::new(1 << 20);
        let registry = Registry::new();
        let in_use = registry.check_out();
        let mut ended = registry.check_out();
        ended.push(&budget, 0, &[7; 8]).unwrap();
        ended.refuse();
        [1, 5, 5].into_iter().for_each(|kind| ended.started(kind));
        ended.withhold(Withheld::Unsampled);
        registry.give_back(ended);
        registry.reap();
        assert_eq!((registry.count(), registry.waiting()), (2, 1));
        let (mut version, mut rings) = (usize::MAX, Vec::new());
        assert_eq!(take_all(&registry, &mut version, &mut rings), 1);
        registry.reap();
        assert_eq!(registry.count(), 1);
        let started = Started([0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        let counted = Totals { pushed: 1, refused: 1, withheld: [0, 1], started };
        assert_eq!(registry.totals(), counted, "what a ring counted outlives it");
        registry.give_back(in_use);
        registry.reap();
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn threads_that_come_and_go_lose_nothing_and_leave_nothing_behind() {
        const ALIVE: u64 = 3;
        within_a_minute(|| {
            let limit = 1 << 20;
            let budget = &*MemoryBudget::with_chunks_of(limit, 256);
            let registry = &Registry::new();
            let (pushed, refused) = (&AtomicU64::new(0), &AtomicU64::new(0));
            let (taken, is_over) = (&AtomicU64::new(0), &AtomicBool::new(false));
            let until = Instant::now() + Duration::from_secs(2);
            thread::scope(|threads| {
                let churning: Vec<_> = (0..ALIVE)
                    .map(|seed| {
                        threads.spawn(move || {
                            for turn in 0.. {
                                if Instant::now() > until {
                                    break;
                                }
                                // As many threads as queues would do; the registry only sees producers.
                                let mut producer = registry.check_out();
                                for _ in 0..(turn * 7 + seed) % 40 {
                                    if producer.push(budget, 0, &[7; 24]).is_ok() {
                                        pushed.fetch_add(1, Ordering::Relaxed);
                                    } else {
                                        producer.refuse();
                                        refused.fetch_add(1, Ordering::Relaxed);
                                    }
                                }
                                registry.give_back(producer);
                            }
                        })
                    })
                    .collect();
                for _ in 0..2 {
                    threads.spawn(move || {
                        let (mut version, mut rings) = (usize::MAX, Vec::new());
                        while !is_over.load(Ordering::Acquire) {
                            taken.fetch_add(take_all(registry, &mut version, &mut rings), Ordering::Relaxed);
                            registry.reap();
                            assert!(registry.count() as u64 <= ALIVE);
                        }
                    });
                }
                churning.into_iter().for_each(|thread| thread.join().unwrap());
                is_over.store(true, Ordering::Release);
            });
            let (mut version, mut rings) = (usize::MAX, Vec::new());
            let taken = taken.load(Ordering::Relaxed) + take_all(registry, &mut version, &mut rings);
            let counted = Totals {
                pushed: pushed.load(Ordering::Relaxed),
                refused: refused.load(Ordering::Relaxed),
                ..Totals::default()
            };
            assert_eq!((taken, registry.totals()), (counted.pushed, counted));
            assert!(taken > 0);
            registry.reap();
            assert_eq!(registry.count(), 0);
            rings.clear();
            assert!(budget.reserve(limit), "{} bytes are still held", budget.held());
        });
    }
}
