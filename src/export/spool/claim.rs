//! Holding a file: what only one process at a time may send, and what is free again the moment that process is gone.
//!
//! The claim is an advisory lock (`flock`) on the file itself, which the kernel ends with the last descriptor of it.
//! Only who holds the lock removes, renames or empties a file.
//!
//! A forked child shares the descriptors of its parent, and so keeps what the parent had claimed locked for as long
//! as either lives; it can neither claim it again nor give it up, since nothing here unlocks but by closing. A child
//! that drops what it has of the parent's never sends it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    age::Age,
    format::{Contents, HEADER_BYTES, Header, Unreadable},
    name::{Kind, Name},
    steps::{boundary, sync_directory},
};
use crate::sync::with_write_signals_held;

/// A spooled file that nobody else touches as long as this lives. Dropping it leaves the file to whoever comes next.
#[derive(Debug)]
pub(crate) struct Claimed {
    file: File,
    lane: PathBuf,
    name: Name,
    is_own: bool,
    fsync: bool,
}

/// Why a file could not be written.
pub(super) enum NotWritten {
    /// It disappeared under the writer's hands; another name may do better.
    Again,
    Failed(io::Error),
}

impl From<io::Error> for NotWritten {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// What the file that was claimed holds.
pub(super) enum Held {
    Body(Header),
    /// It was sent before, but could not be removed.
    Spent,
    Unreadable(Unreadable),
}

impl Claimed {
    /// Writes a file under a name that nobody else uses. It appears whole or not at all, and is claimed.
    pub(super) fn write(lane: &Path, name: Name, contents: &Contents<'_>, fsync: bool) -> Result<Self, NotWritten> {
        let unfinished = name.path(lane, Kind::Unfinished);
        let file = private(OpenOptions::new().read(true).write(true).create_new(true)).open(&unfinished)?;
        boundary();
        let written = (|| {
            // Whoever comes before the lock takes the file for a leftover and removes it.
            lock(&file)?.then_some(()).ok_or(NotWritten::Again)?;
            boundary();
            with_write_signals_held(|| {
                (&file).write_all(&contents.header())?;
                boundary();
                (&file).write_all(contents.body)
            })?;
            if fsync {
                file.sync_all()?;
            }
            boundary();
            match fs::rename(&unfinished, name.path(lane, Kind::Body)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotWritten::Again),
                renamed => Ok(renamed?),
            }
        })();
        if let Err(failed) = written {
            let _ = fs::remove_file(&unfinished);
            return Err(failed);
        }
        boundary();
        if fsync {
            sync_directory(lane);
        }
        Ok(Self { file, lane: lane.to_owned(), name, is_own: true, fsync })
    }

    /// Claims a file that is there; none if somebody else holds it, if it is gone, or if it is not ours to change.
    pub(super) fn take(lane: &Path, name: Name, kind: Kind, is_own: bool, fsync: bool) -> Option<Self> {
        let path = name.path(lane, kind);
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        if !lock(&file).ok()? {
            return None;
        }
        // Whoever held it until now may have sent and removed it. No name is used twice.
        path.try_exists().ok()?.then_some(Self { file, lane: lane.to_owned(), name, is_own, fsync })
    }

    /// The header, or why there is none.
    pub(super) fn held(&mut self) -> io::Result<Held> {
        let bytes = self.file.metadata()?.len();
        if bytes == 0 {
            return Ok(Held::Spent);
        }
        let mut header = [0; HEADER_BYTES];
        if bytes < HEADER_BYTES as u64 {
            return Ok(Held::Unreadable(Unreadable::Damaged("it is shorter than a header")));
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_exact(&mut header)?;
        Ok(Header::parse(&header, bytes).map_or_else(Held::Unreadable, Held::Body))
    }

    /// The body that the header which was just read belongs to; none if it is not what was written.
    pub(super) fn body(&mut self, header: &Header) -> io::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        body.try_reserve_exact(header.length as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
        body.resize(header.length as usize, 0);
        self.file.read_exact(&mut body)?;
        Ok(header.fits(&body).then_some(body))
    }

    /// Its spans arrived, or never will: the file is gone when this returns. Should its directory not allow that, it
    /// is emptied, so that nobody sends it again.
    pub(crate) fn done(self) {
        self.remove(Kind::Body);
    }

    pub(super) fn remove(&self, kind: Kind) {
        boundary();
        if fs::remove_file(self.name.path(&self.lane, kind)).is_err() {
            let _ = self.file.set_len(0);
        }
        if self.fsync {
            sync_directory(&self.lane);
        }
        boundary();
    }

    /// Sets the file aside and answers where it is now.
    pub(crate) fn set_aside(self) -> PathBuf {
        let aside = self.name.path(&self.lane, Kind::Damaged);
        let _ = fs::rename(self.name.path(&self.lane, Kind::Body), &aside);
        aside
    }

    /// Whether the client that claims it wrote it, in this process.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Another descriptor of the same lock, as a forked child has one.
    #[cfg(test)]
    pub(super) fn copy_of_file(&self) -> File {
        self.file.try_clone().unwrap()
    }

    /// Replaces the file by two that hold one half each. They count from the moment this one is gone: until then
    /// nobody claims them, and if it never goes, whoever claims it next removes them.
    pub(super) fn split(self, halves: &[Contents<'_>; 2]) -> Result<(), NotWritten> {
        self.remove_halves();
        let names = self.name.halves();
        let modified = self.file.metadata().and_then(|metadata| metadata.modified());
        for (name, half) in names.iter().zip(halves) {
            match Self::write(&self.lane, name.clone(), half, self.fsync) {
                // They are as old as it is, where names do not tell.
                Ok(half) => _ = modified.as_ref().map(|modified| half.file.set_modified(*modified)),
                Err(failed) => {
                    self.remove_halves();
                    return Err(failed);
                }
            }
        }
        self.done();
        Ok(())
    }

    /// Removes what a killed process left of a [`split`](Self::split).
    pub(super) fn remove_halves(&self) {
        for half in self.name.halves() {
            for kind in [Kind::Body, Kind::Unfinished] {
                let _ = fs::remove_file(half.path(&self.lane, kind));
            }
        }
    }

    /// How old it is. What was never told is from here on: it is stamped as of `now`, which all processes go by. Where
    /// the file system does not allow that, it is as young at the next look.
    pub(super) fn age(&self, now: SystemTime) -> Age {
        let modified = self.file.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = Age::of(self.name.written(), modified, now);
        if age == Age::FromNow {
            let _ = self.file.set_modified(now);
        }
        age
    }

    /// Whether this is a half of a file that is still there.
    pub(super) fn is_premature(&self) -> bool {
        self.name.whole().is_some_and(|whole| whole.path(&self.lane, Kind::Body).try_exists().unwrap_or(true))
    }
}

/// Tries to lock; false if somebody else has.
///
/// With a function that is deprecated: what took its place unlocks when it is dropped, which a forked child would do
/// for its parent.
#[cfg(unix)]
#[expect(deprecated)]
pub(super) fn lock(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;

    use nix::{
        errno::Errno,
        fcntl::{FlockArg, flock},
    };

    loop {
        match flock(file.as_raw_fd(), FlockArg::LockExclusiveNonblock) {
            Ok(()) => return Ok(true),
            Err(Errno::EWOULDBLOCK) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tries to lock; false if somebody else has.
#[cfg(not(unix))]
pub(super) fn lock(file: &File) -> io::Result<bool> {
    use fs4::{FileExt, TryLockError};
    // By its full name: `File` has a method of the same name from Rust 1.89 on.
    match FileExt::try_lock(file) {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// For the user alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
