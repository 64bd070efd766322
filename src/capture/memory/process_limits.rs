//! How much more memory the limits of the process allow, found out without taking any: whoever takes memory to see
//! whether it is there leaves nothing to others for that moment.

use std::{fs::File, io::Read as _};

use nix::{
    sys::resource::{RLIM_INFINITY, Resource, getrlimit},
    unistd::{SysconfVar, sysconf},
};

/// Which number of `statm` says how many pages there are of the address space, and of what is private and written to.
const LIMITS: [(Resource, usize); 2] = [(Resource::RLIMIT_AS, 0), (Resource::RLIMIT_DATA, 5)];

/// More bytes that the process may have by its limits; none where it has no limit, or that cannot be told. Without a
/// limit that takes two system calls, with one a look at what the kernel counts. Allocates nothing.
pub(super) fn left() -> Option<usize> {
    let limits = LIMITS.map(|(resource, number)| {
        let limit = getrlimit(resource).map_or(RLIM_INFINITY, |(soft, _)| soft);
        (limit, number)
    });
    if limits.iter().all(|(limit, _)| *limit == RLIM_INFINITY) {
        return None;
    }
    let mut text = [0; 256];
    let len = File::open("/proc/self/statm").ok()?.read(&mut text).ok()?;
    let taken = std::str::from_utf8(&text[..len]).ok()?;
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let mut left = u64::MAX;
    for (limit, number) in limits {
        let pages: u64 = taken.split_ascii_whitespace().nth(number)?.parse().ok()?;
        left = left.min(limit.saturating_sub(pages.saturating_mul(page)));
    }
    usize::try_from(left).ok()
}
