use super::*;
use crate::{
    capture::{
        memory::Limit,
        memory::MemoryBudget,
        ring::{Producer, Ring},
    },
    sync::{
        Arc,
        scenario::{explore, spawn, yield_now},
    },
};

/// A worker that sleeps without a deadline: takes records until it has `enough`.
fn work(bell: &Doorbell, ring: &Ring, enough: u64) {
    while ring.taken() < enough {
        ring.detach(&mut Limit { records: u32::MAX, bytes: usize::MAX }, &mut Vec::new());
        if ring.taken() < enough {
            // A record that is counted and not yet published keeps workers going; loom must let its producer run.
            if cfg!(loom) {
                yield_now();
            }
            bell.rest(None, false, || ring.waiting() > 0 || ring.taken() >= enough);
        }
    }
}

fn record(bell: &Doorbell, producer: &mut Producer, budget: &MemoryBudget) {
    producer.push(budget, 0, &[7; 8]).unwrap();
    bell.after_record();
}

/// One more worker beside `started` others, which runs.
fn run_worker(bell: &Doorbell, started: usize) {
    let number = bell.admit(started).unwrap();
    assert!(bell.begin(number));
}

/// A lost wake leaves the worker asleep for ever, which loom reports as a deadlock.
#[test]
fn loom_no_lost_wake() {
    // Exploring all interleavings takes half a minute.
    explore(Some(5), || {
        let (bell, budget) = (Arc::new(Doorbell::new(1, false)), MemoryBudget::new(1 << 20));
        let (ring, mut producer) = Ring::new(0);
        run_worker(&bell, 0);
        let working = {
            let bell = Arc::clone(&bell);
            spawn(move || work(&bell, &ring, 2))
        };
        record(&bell, &mut producer, &budget);
        record(&bell, &mut producer, &budget);
        working.join().unwrap();
    });
}

/// One of two workers is about to be blocked for ever; the other one has to come for the record.
#[test]
fn loom_no_lost_wake_while_a_worker_is_away() {
    // Three threads: exploring all interleavings takes too long.
    explore(Some(4), || {
        let (bell, budget) = (Arc::new(Doorbell::new(2, false)), MemoryBudget::new(1 << 20));
        let (ring, mut producer) = Ring::new(0);
        run_worker(&bell, 0);
        run_worker(&bell, 1);
        let working = {
            let (bell, ring) = (Arc::clone(&bell), Arc::clone(&ring));
            spawn(move || work(&bell, &ring, 1))
        };
        let leaving = {
            let bell = Arc::clone(&bell);
            spawn(move || std::mem::forget(bell.hand_over(|| ring.waiting() > 0)))
        };
        record(&bell, &mut producer, &budget);
        working.join().unwrap();
        leaving.join().unwrap();
    });
}

/// The only worker leaves after a long time without work; it takes the record, or another worker is started.
#[test]
fn loom_no_lost_wake_while_the_only_worker_leaves() {
    explore(None, || {
        // A std `Arc`, not loom's: the bell must not keep itself alive.
        let bell = std::sync::Arc::new(Doorbell::new(1, false));
        let started = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (ring, mut producer) = Ring::new(0);
        run_worker(&bell, 0);
        let starting = (std::sync::Arc::downgrade(&bell), std::sync::Arc::clone(&started));
        bell.when_unanswered(move || {
            let is_first = starting.0.upgrade().is_some_and(|bell| bell.admit(0).is_some());
            starting.1.fetch_or(is_first, std::sync::atomic::Ordering::SeqCst);
        });
        let leaving = {
            let (bell, ring) = (std::sync::Arc::clone(&bell), Arc::clone(&ring));
            spawn(move || {
                if !bell.leave(0, true, || ring.waiting() > 0) {
                    work(&bell, &ring, 1);
                }
            })
        };
        record(&bell, &mut producer, &MemoryBudget::new(1 << 20));
        leaving.join().unwrap();
        assert!(ring.taken() == 1 || started.load(std::sync::atomic::Ordering::SeqCst), "nobody comes for the record");
    });
}

/// One of two workers leaves; the other one has to come for the record.
#[test]
fn loom_no_lost_wake_while_one_of_two_workers_leaves() {
    // Three threads: exploring all interleavings takes too long.
    explore(Some(3), || {
        let (bell, budget) = (Arc::new(Doorbell::new(2, false)), MemoryBudget::new(1 << 20));
        let (ring, mut producer) = Ring::new(0);
        run_worker(&bell, 0);
        run_worker(&bell, 1);
        let working = {
            let (bell, ring) = (Arc::clone(&bell), Arc::clone(&ring));
            spawn(move || work(&bell, &ring, 1))
        };
        let leaving = {
            let bell = Arc::clone(&bell);
            spawn(move || {
                if !bell.leave(1, true, || ring.waiting() > 0) {
                    // A producer would look itself; here the other worker does.
                    bell.ring();
                }
            })
        };
        record(&bell, &mut producer, &budget);
        working.join().unwrap();
        leaving.join().unwrap();
    });
}

#[cfg(not(loom))]
mod on_real_threads {
    use std::{
        hint::{black_box, spin_loop},
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
        sync::atomic::AtomicUsize,
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::sync::scenario::within_a_minute;

    fn rings(bell: &Doorbell) -> u64 {
        bell.workers.lock().rings
    }

    fn far() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(3600))
    }

    /// Runs `meanwhile` while a worker rests with these arguments; `meanwhile` has to wake the worker.
    fn while_one_rests(bell: &Doorbell, until: Option<Instant>, watches: bool, meanwhile: impl FnOnce()) {
        let (before, (_, resting)) = (rings(bell), bell.workers());
        thread::scope(|threads| {
            let worker = threads.spawn(|| bell.rest(until, watches, || false));
            while bell.workers().1 == resting {
                yield_now();
            }
            let woken = catch_unwind(AssertUnwindSafe(|| {
                meanwhile();
                assert!(rings(bell) > before, "the bell is silent");
            }));
            if woken.is_err() {
                // Lets the test fail instead of hang.
                bell.ring_all();
            }
            worker.join().unwrap();
            woken.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }

    fn bell_with(workers: usize) -> Doorbell {
        let bell = Doorbell::new(workers, false);
        (0..workers).for_each(|started| run_worker(&bell, started));
        bell
    }

    #[test]
    fn the_first_record_starts_a_worker_and_simultaneous_ones_no_second() {
        let started = std::sync::Arc::new(AtomicUsize::new(0));
        let bell = Doorbell::new(2, false);
        let counted = std::sync::Arc::clone(&started);
        bell.when_unanswered(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        bell.after_record();
        assert_eq!(started.load(Ordering::Relaxed), 1);
        assert_eq!((bell.admit(0), bell.admit(0)), (Some(0), None));
        assert!(bell.begin(0));
        bell.after_record();
        assert_eq!(started.load(Ordering::Relaxed), 1, "somebody is awake");
        bell.after_batch();
        assert_eq!(started.load(Ordering::Relaxed), 2, "another one could help");
        assert_eq!((bell.admit(1), bell.admit(2)), (Some(1), None));
        bell.after_batch();
        assert_eq!(started.load(Ordering::Relaxed), 3, "what was started may never run");
        assert!(bell.begin(1));
        bell.after_batch();
        assert_eq!(started.load(Ordering::Relaxed), 3, "there may be no more");
    }

    #[test]
    fn a_closed_bell_is_silent() {
        let bell = Doorbell::new(2, false);
        bell.when_unanswered(|| panic!("no worker is to be started"));
        bell.close();
        bell.after_record();
        bell.after_batch();
        assert_eq!((rings(&bell), bell.admit(0)), (0, None));
    }

    #[test]
    fn records_do_not_ring_while_a_worker_watches_them_wait_but_a_full_batch_does() {
        let bell = bell_with(1);
        while_one_rests(&bell, far(), true, || {
            bell.after_record();
            assert_eq!(rings(&bell), 0);
            bell.after_batch();
        });
        assert_eq!(rings(&bell), 1);
    }

    #[test]
    fn a_record_wakes_a_worker_whose_deadline_has_nothing_to_do_with_records() {
        let bell = bell_with(1);
        while_one_rests(&bell, far(), false, || bell.after_record());
        assert_eq!(rings(&bell), 1);
    }

    #[test]
    fn only_the_first_record_rings_for_a_sleeper() {
        let bell = bell_with(1);
        // The worker was woken and has not looked yet.
        bell.rest(None, false, || {
            bell.after_record();
            bell.after_record();
            false
        });
        assert_eq!(rings(&bell), 1);
    }

    #[test]
    fn a_record_wakes_the_resting_worker_while_the_other_one_is_away() {
        let bell = bell_with(2);
        let away = bell.hand_over(|| true);
        assert_eq!(rings(&bell), 0, "nobody rests: whoever is awake looks again");
        while_one_rests(&bell, None, false, || bell.after_record());
        assert_eq!(rings(&bell), 1);
        drop(away);
        while_one_rests(&bell, None, false, || {
            bell.after_record();
            assert_eq!(rings(&bell), 1, "the other one is back");
            bell.after_batch();
        });
    }

    #[test]
    fn a_worker_that_cannot_be_started_is_asked_for_again_by_a_full_batch_only() {
        let (bell, attempts) = (Arc::new(Doorbell::new(1, false)), Arc::new(AtomicUsize::new(0)));
        let starting = (Arc::downgrade(&bell), Arc::clone(&attempts));
        bell.when_unanswered(move || {
            let bell = starting.0.upgrade().unwrap();
            bell.admit(0).unwrap();
            starting.1.fetch_add(1, Ordering::Relaxed);
            bell.give_up(0);
        });
        (0..3).for_each(|_| bell.after_record());
        assert_eq!(attempts.load(Ordering::Relaxed), 1);
        bell.after_batch();
        assert_eq!(attempts.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn that_a_start_failed_once_is_forgotten_as_soon_as_one_succeeds() {
        let (bell, attempts) = (Arc::new(Doorbell::new(1, false)), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&attempts);
        bell.when_unanswered(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        bell.admit(0).unwrap();
        bell.give_up(0);
        bell.admit(0).unwrap();
        assert!(bell.leave(0, true, || false));
        bell.after_record();
        assert_eq!(attempts.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn single_records_ring_for_nobody_while_all_workers_are_away() {
        let bell = bell_with(1);
        bell.when_unanswered(|| panic!("there may be no more"));
        let _away = bell.hand_over(|| true);
        bell.after_record();
        bell.after_batch();
        assert_eq!(rings(&bell), 0);
    }

    #[test]
    fn a_worker_that_leaves_wakes_another_one_if_records_wait_unwatched() {
        let bell = bell_with(2);
        while_one_rests(&bell, far(), false, || drop(bell.hand_over(|| true)));
        assert_eq!(rings(&bell), 1);
        while_one_rests(&bell, far(), true, || {
            drop(bell.hand_over(|| true));
            assert_eq!(rings(&bell), 1, "the other one watches");
            bell.ring();
        });
        while_one_rests(&bell, far(), false, || {
            drop(bell.hand_over(|| false));
            assert_eq!(rings(&bell), 2, "nothing waits");
            bell.ring();
        });
    }

    #[test]
    fn a_worker_leaves_unless_there_is_something_to_do_and_the_next_record_starts_another() {
        let (bell, started) = (bell_with(2), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&started);
        bell.when_unanswered(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        assert!(!bell.leave(1, true, || true), "there is something to do");
        assert!(!bell.leave(1, true, || {
            bell.ring();
            false
        }));
        let away = bell.hand_over(|| false);
        assert!(!bell.leave(1, true, || false), "the other one is away");
        drop(away);
        assert!(bell.leave(1, false, || false));
        assert!(!bell.leave(0, false, || false), "the last one has something to look after");
        assert_eq!(bell.workers(), (1, 0));
        assert!(bell.leave(0, true, || false));
        assert_eq!((bell.workers(), started.load(Ordering::Relaxed)), ((0, 0), 0));
        bell.after_record();
        assert_eq!((started.load(Ordering::Relaxed), bell.admit(0)), (1, Some(0)));
    }

    #[test]
    fn of_workers_with_rings_of_their_own_the_last_leaves_first_and_the_others_look_again() {
        let bell = Doorbell::new(2, true);
        assert_eq!((bell.admit(0), bell.admit(1)), (Some(0), Some(1)));
        assert!(!bell.leave(0, true, || false));
        while_one_rests(&bell, None, false, || assert!(bell.leave(1, true, || false)));
        assert!(bell.leave(0, true, || false));
    }

    #[test]
    fn where_one_worker_watches_in_time_the_others_wait_for_the_bell_alone() {
        let bell = bell_with(2);
        let soon = Instant::now() + Duration::from_secs(1800);
        while_one_rests(&bell, Some(soon), true, || {
            while_one_rests(&bell, far(), true, || {
                assert_eq!(bell.workers.lock().watching, [Some(soon)]);
                bell.ring_all();
            });
        });
        assert!(bell.workers.lock().watching.is_empty());
    }

    /// Sends single records to workers that sleep without a deadline, each as soon as the previous one is taken: every
    /// round races the worker that goes to sleep.
    fn play(workers: usize, rounds: u64) {
        within_a_minute(move || {
            let (bell, budget) = (&bell_with(workers), &*MemoryBudget::new(1 << 20));
            let (ring, mut producer) = Ring::new(0);
            let ring = &*ring;
            thread::scope(|threads| {
                for _ in 0..workers {
                    threads.spawn(|| {
                        work(bell, ring, rounds);
                        // The worker that took the last record sends the others home.
                        bell.ring_all();
                    });
                }
                for round in 1..=rounds {
                    // Meets the worker on its way to sleep, a few nanoseconds later each time.
                    (0..round % 512).for_each(|step| _ = black_box(step));
                    record(bell, &mut producer, budget);
                    for spin in 0_u32.. {
                        if ring.taken() >= round {
                            break;
                        }
                        // If the worker has a CPU of its own, it comes at once.
                        if spin % 10_000 < 9_999 { spin_loop() } else { yield_now() }
                    }
                }
            });
        });
    }

    #[test]
    fn no_wake_is_lost_by_a_worker() {
        play(1, 200_000);
    }

    #[test]
    fn no_wake_is_lost_between_two_workers() {
        play(2, 100_000);
    }
}

#[cfg(not(loom))]
#[test]
fn a_worker_that_begins_when_its_place_was_given_up_finds_it_taken() {
    let bell = Doorbell::new(2, false);
    assert_eq!((bell.admit(0), bell.admit(1)), (Some(0), Some(1)));
    assert!(bell.is_awaiting() && !bell.has_worked());
    assert!(bell.begin(1) && !bell.is_awaiting() && bell.has_worked());
    bell.give_up_unbegun();
    assert_eq!((bell.workers().0, bell.begun()), (1, 1));
    assert!(!bell.begin(0), "it is nobody's");
    assert_eq!(bell.admit(1), Some(0));
    assert!(bell.begin(0), "the first of the two that comes has it");
    assert!(!bell.begin(0));
    assert_eq!((bell.workers().0, bell.begun()), (2, 2));
}
