//! Descriptor 2: whether it is stderr, and a write to it that waits for nobody.
//!
//! What it refers to is shared with other processes, so `O_NONBLOCK` is not for us to set on it. What else there is
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
//! Between the last one's look and its write somebody else may take the room; elsewhere nothing ever waits.

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

/// What stderr was when the library was first used; none if it was closed, or something else had its number already.
static FIRST: OnceBox<Option<Identity>> = OnceBox::new();

/// It was closed when it was looked at: what has its number now may have got it by accident.
static GONE: AtomicBool = AtomicBool::new(false);

/// The last line was written in part.
static TORN: AtomicBool = AtomicBool::new(false);

/// Takes note of what stderr is, unless that is known.
pub(in crate::error) fn notice() {
    first();
}

/// Writes a line, if that can be done at once, and if descriptor 2 is stderr as far as that can be told. It comes with
/// a line break before it, for the case that it is behind a part of another one.
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

/// What something open is known by, as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    // The types are others on other systems.
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
    /// Nobody's stderr: a directory, a disk, or what has no place in a file system (`eventfd`, `epoll` and the like).
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

/// Descriptor 2 as it is found.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    identity: Identity,
    kind: Kind,
    is_writable: bool,
    /// Programs that this one starts do not get it, though they get other standard streams. What a library opens for
    /// itself is like that; a stderr only where the host has made all three like that, as Node.js does.
    is_kept_from_others: bool,
}

impl Descriptor {
    /// Fails if it is closed.
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

    /// Whether it is what it was, or was made something else on purpose: for that nobody has to close it before.
    fn is_stderr(&self, first: Option<Identity>, was_gone: bool) -> bool {
        let is_first = first == Some(self.identity) && self.is_writable;
        is_first || first.is_some() && !was_gone && self.may_be_stderr()
    }

    /// Whether all of the line was written.
    fn write(&self, line: &[u8]) -> bool {
        match self.kind {
            Kind::File => whole(line, |rest| unistd::write(two(), rest)),
            Kind::Socket => whole(line, send),
            Kind::Pipe => self.anew(line).or_else(|| through_a_pipe(line)).unwrap_or_else(|| if_there_is_room(line)),
            Kind::Terminal => self.anew(line).unwrap_or_else(|| if_there_is_room(line)),
            Kind::Device | Kind::Other => if_there_is_room(line),
        }
    }

    /// Through a description of our own, for which waiting can be turned off; none if it cannot be had.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn anew(&self, line: &[u8]) -> Option<bool> {
        use nix::{fcntl::open, sys::stat::Mode};
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = open("/proc/self/fd/2", flags, Mode::empty()).ok()?;
        let found = fstat(&opened).ok()?;
        // Descriptor 2 may have become a file meanwhile, and this would be its beginning; and who opens the master of a
        // pseudo-terminal gets another one.
        let is_same = Identity::of(&found) == self.identity && found.st_rdev != PTMX;
        is_same.then(|| whole(line, |rest| unistd::write(&opened, rest)))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn anew(&self, _: &[u8]) -> Option<bool> {
        None
    }
}

fn send(bytes: &[u8]) -> nix::Result<usize> {
    // SAFETY: so many bytes are there to be read. What the descriptor is of matters to the answer only.
    let sent = unsafe { libc::send(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
    Errno::result(sent).map(|sent| sent as usize)
}

/// The device that every master of a pseudo-terminal is opened by.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PTMX: libc::dev_t = libc::makedev(5, 2);

/// Moves the line from a pipe of our own into the one that is stderr; none if that cannot be done.
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

/// What is written when `poll` says that there is room, without waiting: all of it, or less.
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

/// Has all of `line` written, in as many pieces as it takes; takes note of one of which a part was.
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

/// The descriptor alone: its lock is not taken.
fn two() -> Stderr {
    stderr()
}

fn other_closes_on_exec(number: c_int) -> bool {
    // SAFETY: asks about a number, whatever it stands for.
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
        // The host keeps it from the programs that it starts.
        assert!(Descriptor { is_kept_from_others: true, ..STDERR }.is_stderr(Some(FIRST), false));
        // It is back.
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
