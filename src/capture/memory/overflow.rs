//! What happens when a span finds no room: who makes some, and who waits for it.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{
    config::DropStrategy,
    sync::{AtomicU32, Condvar, Mutex, Ordering, fence},
};

/// How often one span sheds to get the room it needs: a span of 4 MiB may have to shed that many bodies.
const SHEDS: usize = 64;

/// How long a thread waits at most where only spans that others end would make room: they may be its own.
const GRACE: Duration = Duration::from_millis(100);

/// Whether there would be room if nothing waited to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture) enum Prospect {
    Room,
    /// Not before rings give some: what else is held takes none of theirs.
    Rings,
    /// Spans that are open stand in the way.
    OpenSpans,
    /// Never.
    None,
}

/// What became of an attempt to shed what is oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    /// Something was dropped and counted.
    Done,
    /// There is nothing to drop.
    Nothing,
    /// Another thread is shedding. No thread waits for that.
    Busy,
}

/// The drop strategy at work. Nothing here runs while there is room.
pub(crate) struct Overflow {
    strategy: DropStrategy,
    /// Drops the oldest body that waits to be sent. Set once, at assembly.
    shed_body: OnceLock<Box<dyn Fn() -> Shed + Send + Sync>>,
    room: Room,
}

impl Overflow {
    pub(crate) fn new(strategy: DropStrategy) -> Self {
        Self { strategy, shed_body: OnceLock::new(), room: Room::default() }
    }

    /// How the oldest body is dropped, which lies outside of what recording knows.
    pub(crate) fn when_shedding(&self, shed: impl Fn() -> Shed + Send + Sync + 'static) {
        let _ = self.shed_body.set(Box::new(shed));
    }

    /// Whether no room is ever made for a span that found none.
    pub(in crate::capture) fn drops_newest(&self) -> bool {
        self.strategy == DropStrategy::NewestFirst
    }

    /// Whether a thread waits for room: whatever can leave should.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.room.is_waited_for()
    }

    /// Wakes threads that wait for room, to look again. Cheap if none waits.
    pub(crate) fn made_room(&self) {
        self.room.made();
    }

    /// Repeats an `attempt` until it finds room, or `until` comes. `announce` tells the workers that a thread waits.
    pub(crate) fn wait_for_room<T>(
        &self,
        until: Instant,
        announce: impl FnOnce(),
        attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.room.wait_for(until.saturating_duration_since(Instant::now()), announce, attempt)
    }

    /// Repeats an `attempt` that found no room for as long as the strategy makes some: `shed_records` drops the
    /// oldest spans that are in no body yet, `announce` tells the workers that a thread waits.
    #[cold]
    pub(in crate::capture) fn retry<T>(
        &self,
        prospect: Prospect,
        mut shed_records: impl FnMut() -> Shed,
        announce: impl FnOnce(),
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        match self.strategy {
            DropStrategy::NewestFirst => None,
            // Nothing is shed in vain.
            DropStrategy::OldestFirst if !matches!(prospect, Prospect::Room | Prospect::Rings) => None,
            DropStrategy::OldestFirst => (0..SHEDS).find_map(|_| {
                let shed_body = self.shed_body.get().filter(|_| prospect == Prospect::Room);
                let body = shed_body.map_or(Shed::Nothing, |shed| shed());
                let shed = if body == Shed::Nothing { shed_records() } else { body };
                if shed == Shed::Done { attempt().map(Some) } else { Some(None) }
            })?,
            DropStrategy::Block(timeout) => {
                let is_certain = matches!(prospect, Prospect::Room | Prospect::Rings);
                let timeout = if is_certain { timeout } else { timeout.min(GRACE) };
                self.room.wait_for(timeout, announce, attempt)
            }
        }
    }
}

/// Where threads wait for room.
///
/// A thread counts itself as waiting, fences, and only then tries again; a thread that frees something fences and only
/// then looks for threads that wait. One of the two sees the other.
#[derive(Default)]
struct Room {
    waiting: AtomicU32,
    /// How often room was made while a thread waited.
    made: Mutex<u64>,
    changed: Condvar,
}

impl Room {
    fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn made(&self) {
        fence(Ordering::SeqCst);
        if self.is_waited_for() {
            *self.made.lock() += 1;
            self.changed.notify_all();
        }
    }

    fn wait_for<T>(
        &self,
        timeout: Duration,
        announce: impl FnOnce(),
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let until = Instant::now() + timeout;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        announce();
        let mut in_time = true;
        let result = loop {
            let seen = *self.made.lock();
            let result = attempt();
            if result.is_some() || !in_time {
                break result;
            }
            let mut made = self.made.lock();
            if *made == seen {
                in_time = !self.changed.wait_until(&mut made, until).timed_out();
            }
            // Room that is made over and over and taken by others must not outlast the timeout.
            in_time &= Instant::now() < until;
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{
        Arc,
        scenario::{explore, spawn},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn take(free: &AtomicU32) -> Option<u32> {
        free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)).ok()
    }

    /// A wake that is lost leaves the thread waiting for ever, which loom reports as a deadlock.
    #[test]
    fn loom_a_thread_that_waits_for_room_sees_it_made() {
        explore(None, || {
            let shared = Arc::new((Room::default(), AtomicU32::new(0)));
            let freeing = {
                let shared = Arc::clone(&shared);
                spawn(move || {
                    shared.1.fetch_add(1, Ordering::Relaxed);
                    shared.0.made();
                })
            };
            let (room, free) = &*shared;
            assert_eq!(room.wait_for(HOUR, || (), || take(free)), Some(1));
            freeing.join().unwrap();
            assert!(!room.is_waited_for());
        });
    }

    #[cfg(not(loom))]
    mod on_one_thread {
        use super::*;

        #[test]
        fn waiting_ends_with_the_timeout_even_while_others_take_all_the_room() {
            let room = Room::default();
            let begun = Instant::now();
            let never = || {
                room.made();
                None::<()>
            };
            assert_eq!(room.wait_for(Duration::from_millis(20), || (), never), None);
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert!(!room.is_waited_for());
        }

        #[test]
        fn bodies_are_shed_before_records_and_records_only_when_no_body_is_left() {
            let overflow = Overflow::new(DropStrategy::OldestFirst);
            let bodies = AtomicU32::new(2);
            let shed = move || if take(&bodies).is_some() { Shed::Done } else { Shed::Nothing };
            overflow.when_shedding(shed);
            let mut records = 0;
            let mut attempts = 0;
            let shed_records = || {
                records += 1;
                Shed::Done
            };
            let third_time = || {
                attempts += 1;
                (attempts == 3).then_some(())
            };
            assert_eq!(overflow.retry(Prospect::Room, shed_records, || (), third_time), Some(()));
            assert_eq!((attempts, records), (3, 1));
        }

        #[test]
        fn where_only_rings_can_give_room_no_body_is_shed() {
            let overflow = Overflow::new(DropStrategy::OldestFirst);
            overflow.when_shedding(|| unreachable!("a body takes no room that rings need"));
            let mut records = 0;
            let shed_records = || {
                records += 1;
                Shed::Done
            };
            assert_eq!(overflow.retry(Prospect::Rings, shed_records, || (), || Some(())), Some(()));
            assert_eq!(records, 1);
        }

        #[test]
        fn nobody_waits_for_another_thread_that_sheds() {
            let overflow = Overflow::new(DropStrategy::OldestFirst);
            overflow.when_shedding(|| Shed::Busy);
            let no_records = || unreachable!("bodies are older");
            assert_eq!(overflow.retry(Prospect::Room, no_records, || (), || Some(())), None);
        }
    }
}
