//! Descriptor 2: whether it is stderr, and a write to it that never waits.
//!
//! What it refers to is shared with other processes, so we must not set `O_NONBLOCK` on it. How a line is written
//! depends on what it is:
//!
//! | it is | how a line is written |
//! |---|---|
//! | a file | as ever: only its disk can be slow |
//! | a socket | `send` that does not wait |
//! | a terminal, a pipe | opened anew without waiting, where there is `/proc` and the permission |
//! | a pipe, without these | through a pipe of our own, with `splice` |
//! | anything else, or without all that | after `poll` says that there is room |
//!
//! In the last case another process may take the room between `poll` and the write; in all other cases nothing ever
//! waits.

use std::{
    ffi::c_int,
    io::{IsTerminal as _, Stderr, stderr},
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{FileStat, SFlag, fstat},
    unistd,
};
use once_cell::race::OnceBox;

use crate::sync::with_write_signals_held;

/// What stderr was when the library was first used; `None` if it was closed, or its number already belonged to
/// something else.
static FIRST: OnceBox<Option<Identity>> = OnceBox::new();

/// Whether it was once found closed: whatever has its number now may have got it by accident.
static GONE: AtomicBool = AtomicBool::new(false);

/// Whether the last line was written in part.
static TORN: AtomicBool = AtomicBool::new(false);

/// Notes what stderr is, unless that is known.
pub(in crate::error) fn notice() {
    first();
}

/// Writes a line, if that can be done at once, and if descriptor 2 is stderr as far as can be told. The line begins
/// with a line break, needed if it follows a partly written one.
pub(super) fn write_out(line_apart: &[u8]) -> bool {
    let first = first();
    let now = match Descriptor::look() {
        Ok(now) if now.is_stderr(first, GONE.load(Ordering::Relaxed)) => now,
        Ok(_) => return false,
        Err(_) => {
            GONE.store(true, Ordering::Relaxed);
            return false;
        }
    };
    let line = if TORN.load(Ordering::Relaxed) { line_apart } else { &line_apart[1..] };
    with_write_signals_held(|| now.write(line))
}

fn first() -> Option<Identity> {
    *FIRST.get_or_init(|| {
        let descriptor = Descriptor::look().ok();
        Box::new(descriptor.filter(Descriptor::may_be_stderr).map(|descriptor| descriptor.identity))
    })
}

/// Identifies an open file while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    // The types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    fn of(found: &FileStat) -> Self {
        Self { device: found.st_dev as u64, inode: found.st_ino as u64 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Pipe,
    Socket,
    Terminal,
    Device,
    /// Never a stderr: a directory, a disk, or something that is not in a file system (`eventfd`, `epoll` and the
    /// like).
    Other,
}

impl Kind {
    fn of(found: &FileStat) -> Self {
        match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFIFO => Self::Pipe,
            SFlag::S_IFSOCK => Self::Socket,
            SFlag::S_IFCHR if stderr().is_terminal() => Self::Terminal,
            SFlag::S_IFCHR => Self::Device,
            _ => Self::Other,
        }
    }
}

/// The current state of descriptor 2.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    identity: Identity,
    kind: Kind,
    is_writable: bool,
    /// Whether programs that this one starts do not inherit it, although they inherit other standard streams. Files
    /// that a library opens are like that; a stderr is only if the program has made all three streams so, as Node.js
    /// does.
    is_kept_from_others: bool,
}

impl Descriptor {
    /// Looks at descriptor 2. Fails if it is closed.
    fn look() -> nix::Result<Self> {
        let closes_on_exec = FdFlag::from_bits_retain(fcntl(two(), FcntlArg::F_GETFD)?).contains(FdFlag::FD_CLOEXEC);
        let mode = OFlag::from_bits_retain(fcntl(two(), FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
        let found = fstat(two())?;
        Ok(Self {
            identity: Identity::of(&found),
            kind: Kind::of(&found),
            is_writable: mode == OFlag::O_WRONLY || mode == OFlag::O_RDWR,
            is_kept_from_others: closes_on_exec && !(other_closes_on_exec(0) && other_closes_on_exec(1)),
        })
    }

    fn may_be_stderr(&self) -> bool {
        self.is_writable && self.kind != Kind::Other && !self.is_kept_from_others
    }

    /// Whether it is unchanged, or was redirected on purpose: that does not need to close it first.
    fn is_stderr(&self, first: Option<Identity>, was_gone: bool) -> bool {
        let is_first = first == Some(self.identity) && self.is_writable;
        is_first || first.is_some() && !was_gone && self.may_be_stderr()
    }

    /// Writes the line; returns whether all of it was written.
    fn write(&self, line: &[u8]) -> bool {
        match self.kind {
            Kind::File => whole(line, |rest| unistd::write(two(), rest)),
            Kind::Socket => whole(line, send),
            Kind::Pipe => self.anew(line).or_else(|| through_a_pipe(line)).unwrap_or_else(|| if_there_is_room(line)),
            Kind::Terminal => self.anew(line).unwrap_or_else(|| if_there_is_room(line)),
            Kind::Device | Kind::Other => if_there_is_room(line),
        }
    }

    /// Writes through an open file description of our own, which can be non-blocking; `None` if that is not possible.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn anew(&self, line: &[u8]) -> Option<bool> {
        use nix::{fcntl::open, sys::stat::Mode};
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = open("/proc/self/fd/2", flags, Mode::empty()).ok()?;
        let found = fstat(&opened).ok()?;
        // Descriptor 2 may have become a file meanwhile, and we would write at its beginning; and opening the master of
        // a pseudo-terminal gives another one.
        let is_same = Identity::of(&found) == self.identity && found.st_rdev != PTMX;
        is_same.then(|| whole(line, |rest| unistd::write(&opened, rest)))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn anew(&self, _: &[u8]) -> Option<bool> {
        None
    }
}

fn send(bytes: &[u8]) -> nix::Result<usize> {
    // SAFETY: the pointer and the length are those of `bytes`. What the descriptor refers to only affects the result.
    let sent = unsafe { libc::send(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
    Errno::result(sent).map(|sent| sent as usize)
}

/// The device that opens every master of a pseudo-terminal.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PTMX: libc::dev_t = libc::makedev(5, 2);

/// Moves the line from a pipe of our own into the pipe that is stderr; `None` if that is not possible.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn through_a_pipe(line: &[u8]) -> Option<bool> {
    use nix::fcntl::{SpliceFFlags, splice};
    let (reader, writer) = std::io::pipe().ok()?;
    // An empty pipe takes a line at once.
    if unistd::write(&writer, line) != Ok(line.len()) {
        return None;
    }
    let mut is_possible = true;
    let written = whole(line, |rest| {
        let moved = splice(&reader, None, two(), None, rest.len(), SpliceFFlags::SPLICE_F_NONBLOCK);
        is_possible = !matches!(moved, Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM));
        moved
    });
    is_possible.then_some(written)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn through_a_pipe(_: &[u8]) -> Option<bool> {
    None
}

/// How many bytes to write after `poll` says that there is room, so that the write does not wait.
const AT_ONCE_BYTES: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 4096 } else { 512 };

fn if_there_is_room(line: &[u8]) -> bool {
    whole(line, |rest| {
        let stderr = stderr();
        let mut looked_at = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        poll(&mut looked_at, PollTimeout::ZERO)?;
        if !looked_at[0].revents().is_some_and(|found| found.contains(PollFlags::POLLOUT)) {
            return Err(Errno::EAGAIN);
        }
        unistd::write(&stderr, &rest[..rest.len().min(AT_ONCE_BYTES)])
    })
}

/// Writes all of `line`, in as many pieces as needed; notes whether it was written only in part.
fn whole(line: &[u8], mut write: impl FnMut(&[u8]) -> nix::Result<usize>) -> bool {
    let mut rest = line;
    while !rest.is_empty() {
        match write(rest) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => break,
            Ok(written) => rest = &rest[written..],
        }
    }
    if rest.len() < line.len() {
        TORN.store(!rest.is_empty(), Ordering::Relaxed);
    }
    rest.is_empty()
}

/// Descriptor 2 alone: the lock of the standard library is not taken.
fn two() -> Stderr {
    stderr()
}

fn other_closes_on_exec(number: c_int) -> bool {
    // SAFETY: `fcntl` with `F_GETFD` only queries a number, whether or not it is open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Identity = Identity { device: 1, inode: 1 };
    const STDERR: Descriptor =
        Descriptor { identity: FIRST, kind: Kind::File, is_writable: true, is_kept_from_others: false };
    const ANOTHER: Descriptor = Descriptor { identity: Identity { device: 1, inode: 2 }, ..STDERR };

    #[test]
    fn stderr_is_what_it_was_or_was_made_on_purpose() {
        assert!(STDERR.is_stderr(Some(FIRST), false));
        assert!(ANOTHER.is_stderr(Some(FIRST), false));
        // The program keeps it from the programs that it starts.
        assert!(Descriptor { is_kept_from_others: true, ..STDERR }.is_stderr(Some(FIRST), false));
        // It has the old identity again.
        assert!(STDERR.is_stderr(Some(FIRST), true));
    }

    #[test]
    fn what_got_the_number_of_stderr_is_not_stderr() {
        let others = [
            Descriptor { is_kept_from_others: true, ..ANOTHER },
            Descriptor { is_writable: false, ..ANOTHER },
            Descriptor { kind: Kind::Other, ..ANOTHER },
        ];
        assert!(others.iter().all(|other| !other.is_stderr(Some(FIRST), false)));
        assert!(!ANOTHER.is_stderr(None, false), "it was closed at first");
        assert!(!ANOTHER.is_stderr(Some(FIRST), true), "it was closed meanwhile");
    }
}
