//! Address space that is set aside for when the system gives no more memory.
//!
//! A bound that is larger than what the process may have (`RLIMIT_AS`, a machine without overcommit) would otherwise be
//! filled to the last page, and the next allocation anywhere in the process, however small, would abort it. So a client
//! keeps some address space that nothing is ever written to, and that takes no memory. It gives it up when it is
//! refused memory, or finds now and then that little is left, and takes no more until there is twice as much.

use memmap2::MmapMut;

use crate::sync::{AtomicU32, Mutex, Ordering};

/// Enough for a worker's stack and for its compressing and sending, with some left for the program.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The share of the bound: one eighth.
const SHARE: usize = 8;
/// How many calls pass between two looks at what is left: the chunks of that time take a quarter of what it looks for.
const LOOK_EVERY: u32 = 32;

pub(super) struct EmergencyReserve {
    bytes: usize,
    pages: Mutex<Option<MmapMut>>,
    /// 1 while the space is given up.
    given_up: AtomicU32,
    /// How many calls there were since more might have become free.
    asked: AtomicU32,
}

impl EmergencyReserve {
    pub(super) fn new(limit: usize) -> Self {
        // A model has all the memory it needs.
        let bytes = if cfg!(loom) { 0 } else { MOST_BYTES.min(limit / SHARE) };
        let pages = map(bytes);
        Self {
            bytes,
            given_up: AtomicU32::new((bytes > 0 && pages.is_none()).into()),
            pages: Mutex::new(pages),
            asked: AtomicU32::new(0),
        }
    }

    /// Whether the space is there; takes it back if possible. Asked before each chunk.
    pub(super) fn is_there(&self) -> bool {
        let looks = self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY);
        if self.is_given_up() {
            // Looking may take for a moment what is there: not in vain while nothing has changed.
            return looks && self.take_back();
        }
        if looks && self.bytes > 0 && !has(self.bytes / 2) {
            self.give_up();
            return false;
        }
        true
    }

    /// Notes that something was given back to the system.
    pub(super) fn note_freed(&self) {
        if self.is_given_up() {
            self.asked.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) != 0
    }

    #[cold]
    fn take_back(&self) -> bool {
        let Some(mut pages) = self.pages.try_lock() else { return false };
        // With as much again beside it: what was given up is for others.
        if pages.is_none() && has(2 * self.bytes) {
            *pages = map(self.bytes);
        }
        let is_there = pages.is_some();
        if is_there {
            self.given_up.store(0, Ordering::Relaxed);
        }
        is_there
    }

    /// Gives the space up, for any allocation that needs memory now.
    pub(super) fn give_up(&self) {
        if self.bytes == 0 {
            return;
        }
        self.given_up.store(1, Ordering::Relaxed);
        self.asked.store(1, Ordering::Relaxed);
        // Pages come from the system and go back to it, not to the allocator. A thread that holds the lock is giving
        // the space up too.
        if let Some(mut pages) = self.pages.try_lock() {
            *pages = None;
        }
    }
}

/// Whether the system has so many bytes. To try takes them for a moment in which others may need a few: not where limits
/// tell as much, unless plenty is left.
fn has(bytes: usize) -> bool {
    match left() {
        Some(left) if left < 2 * bytes => left >= bytes,
        _ => map(bytes).is_some(),
    }
}

/// More bytes that the limits of the process allow, where that can be told.
fn left() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return super::process_limits::left();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

fn map(bytes: usize) -> Option<MmapMut> {
    if bytes == 0 { None } else { MmapMut::map_anon(bytes).ok() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_back_as_soon_as_it_can_be_and_takes_no_more_than_a_share() {
        let emergency = EmergencyReserve::new(1 << 20);
        assert!(emergency.is_there() && emergency.bytes == 1 << 17);
        emergency.give_up();
        assert!(emergency.is_given_up() && !emergency.is_there());
        emergency.note_freed();
        assert!(emergency.is_there() && !emergency.is_given_up());
        assert_eq!(EmergencyReserve::new(usize::MAX).bytes, MOST_BYTES);
        let none = EmergencyReserve::new(0);
        none.give_up();
        assert!(none.is_there(), "a bound too small for one has none to give up");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn to_look_under_a_limit_takes_nothing_from_others() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};

        const GIB: usize = 1 << 30;
        let bytes_of = |what: &str| {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        };
        // As far away as that it stands in the way of no other test.
        let (soft, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
        setrlimit(Resource::RLIMIT_AS, (bytes_of("VmSize:") + 64 * GIB) as u64, hard).unwrap();
        let before = bytes_of("VmPeak:");
        assert!(has(40 * GIB) && !has(80 * GIB));
        assert!(bytes_of("VmPeak:") < before + 40 * GIB);
        setrlimit(Resource::RLIMIT_AS, soft, hard).unwrap();
        assert!(has(1 << 20), "tried where nothing limits it");
    }
}
