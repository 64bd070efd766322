//! Undelivered bodies on disk, and back. Knows files, and nothing of how bodies are made or sent.
//!
//! ```text
//! <dir>/<hash of the URL>/<name>.tmp       being written; its writer holds a lock on it
//!                         <name>.otlp      a body; whoever sends it holds a lock on it
//!                         <name>.damaged   not what was written; kept until it is too old
//! ```
//! There is a directory for each URL, so that a body is never sent to another receiver than the one it was meant for.
//! Over gRPC it is the URL that HTTP would post to: the body is the same, and either protocol sends it.
//!
//! # What a process that is killed leaves behind
//!
//! | killed while | what is there | what becomes of it |
//! |---|---|---|
//! | writing | a `.tmp` without a lock | removed by whoever looks next; its spans had not been written |
//! | sending, before the receiver has it | the body without a lock | sent by whoever looks next |
//! | sending, after that | the body without a lock | sent again: the acknowledgement was lost |
//! | replacing a body by its halves | the body, perhaps with halves | the halves are removed, the body is sent |
//!
//! The acknowledgement is lost, too, with a process that was killed between having read it and having removed the
//! file, which is the first thing it does then.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, DirBuilder, Metadata},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

mod age;
mod claim;
mod format;
mod name;
mod steps;

pub(crate) use claim::Claimed;
pub(crate) use format::{Contents, Header};

use age::Age;
use claim::{Held, NotWritten};
use format::{HEADER_BYTES, Unreadable};
use name::{Author, Kind, Name};
use steps::{boundary, sync_directory};

use crate::config::SpoolConfig;
use crate::sync::locks::Mutex;

/// Names that are kept from one look at the directory.
const LISTED: usize = 1024;

/// A look at the sizes of all files serves for so many times as long as it took.
const USAGE_SERVES: u32 = 20;

/// How often a file is begun again that disappears while it is written.
const ATTEMPTS: usize = 3;

/// The part of a spool directory that belongs to one URL.
pub(crate) struct Spool {
    root: PathBuf,
    lane: PathBuf,
    max_bytes: u64,
    max_age: Duration,
    fsync: bool,
    client: u64,
    written: AtomicU64,
    /// The oldest bodies when they were last looked for, oldest first.
    listed: Mutex<VecDeque<Name>>,
    usage: Mutex<Option<Usage>>,
}

/// Bytes of all files, as they were counted.
#[derive(Clone, Copy)]
struct Usage {
    bytes: u64,
    at: Instant,
    took: Duration,
}

/// Why a body was not written.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// It would exceed the cap.
    Full {
        used: u64,
        max: u64,
    },
    Io(io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { used, max } => write!(f, "{used} of at most {max} bytes are used"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<NotWritten> for StoreError {
    fn from(failed: NotWritten) -> Self {
        match failed {
            NotWritten::Again => Self::Io(io::Error::other("somebody removes files while they are written")),
            NotWritten::Failed(error) => Self::Io(error),
        }
    }
}

impl StoreError {
    /// What the user can do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Full { .. } => "raise OTLP_SPOOL_MAX_BYTES",
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "make it writable for this user, or name another one in OTLP_SPOOL_DIR"
            }
            Self::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                "free some space, or name another one in OTLP_SPOOL_DIR"
            }
            Self::Io(_) => "check OTLP_SPOOL_DIR, which must name a directory on a disk with locks",
        }
    }
}

/// What looking for a body came upon.
#[derive(Debug)]
pub(crate) enum Found {
    /// A body to be sent.
    Body { claimed: Claimed, header: Header, body: Vec<u8> },
    /// A body that had waited for too long; it is removed.
    Expired(Expired),
    /// A file that is not what was written; it was set aside.
    Damaged { path: PathBuf, why: &'static str },
}

/// A body that had waited for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) spans: u64,
    /// This client had written it.
    pub(crate) is_own: bool,
}

impl Spool {
    /// The spool in `dir` for bodies that are meant for `url`. Touches no file.
    pub(crate) fn new(config: &SpoolConfig, dir: &Path, url: &str) -> Self {
        // The program may change its working directory.
        let root = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Self {
            lane: root.join(format!("{:016x}", fnv1a(url.as_bytes()))),
            root,
            max_bytes: config.max_bytes,
            max_age: config.max_age,
            fsync: config.fsync,
            client: RandomState::new().build_hasher().finish(),
            written: AtomicU64::new(0),
            listed: Mutex::default(),
            usage: Mutex::default(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.root
    }

    fn author(&self) -> Author {
        Author { client: self.client, process: std::process::id() }
    }

    /// Writes a body, which nobody else sends as long as the answer lives.
    pub(crate) fn store(&self, contents: &Contents<'_>, now: SystemTime) -> Result<Claimed, StoreError> {
        let bytes = (HEADER_BYTES + contents.body.len()) as u64;
        self.make_room(bytes)?;
        for _ in 0..ATTEMPTS {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let name = Name::new(now, self.author(), number);
            match Claimed::write(&self.lane, name, contents, self.fsync) {
                Ok(claimed) => {
                    if let Some(usage) = &mut *self.usage.lock() {
                        usage.bytes += bytes;
                    }
                    return Ok(claimed);
                }
                Err(NotWritten::Failed(error)) if error.kind() == io::ErrorKind::NotFound => self.make_lane()?,
                Err(NotWritten::Failed(error)) => return Err(error.into()),
                Err(NotWritten::Again) => {}
            }
        }
        Err(NotWritten::Again.into())
    }

    /// Claims the oldest body that nobody else holds and for whose bytes there is `room`; none if there is none.
    /// Says on the way what else it came upon.
    pub(crate) fn claim(&self, now: SystemTime, room: impl Fn(u64) -> bool) -> Option<Found> {
        let mut looked = false;
        loop {
            let Some(name) = self.listed.lock().pop_front() else {
                if looked {
                    return None;
                }
                looked = true;
                let found = self.look();
                *self.listed.lock() = found;
                continue;
            };
            if let Ok(Some(found)) = self.inspect(&self.lane, name, now, Some(&room)) {
                return Some(found);
            }
        }
    }

    /// Removes what nobody will send, whatever URL it was meant for: bodies and damaged files that are too old, and
    /// what killed processes left unfinished.
    pub(crate) fn sweep(&self, now: SystemTime) -> Vec<Expired> {
        let mut expired = Vec::new();
        for lane in directories(&self.root) {
            for (name, kind, metadata) in files(&lane) {
                if kind == Kind::Unfinished {
                    self.remove_unfinished(&lane, name);
                    continue;
                }
                let age = Age::of(name.written(), metadata.modified().ok(), now);
                if age != Age::FromNow && !self.is_expired(age) {
                    continue;
                }
                if kind == Kind::Damaged {
                    if let Some(claimed) = Claimed::take(&lane, name, kind, false, self.fsync)
                        && self.is_expired(claimed.age(now))
                    {
                        claimed.remove(kind);
                    }
                } else if let Ok(Some(Found::Expired(body))) = self.inspect(&lane, name, now, None::<&fn(u64) -> bool>)
                {
                    expired.push(body);
                }
            }
        }
        *self.usage.lock() = None;
        expired
    }

    /// Replaces a claimed body by two that hold one half each; either both count or neither does.
    pub(crate) fn split(&self, claimed: Claimed, halves: &[Contents<'_>; 2]) -> Result<(), StoreError> {
        Ok(claimed.split(halves)?)
    }

    /// Claims a file and finds out what it is. Without `room` only what is too old is of interest.
    fn inspect(
        &self,
        lane: &Path,
        name: Name,
        now: SystemTime,
        room: Option<&impl Fn(u64) -> bool>,
    ) -> io::Result<Option<Found>> {
        let is_own = name.is_by(self.author());
        let Some(mut claimed) = Claimed::take(lane, name, Kind::Body, is_own, self.fsync) else { return Ok(None) };
        boundary();
        if claimed.is_premature() {
            return Ok(None);
        }
        let header = match claimed.held()? {
            Held::Body(header) => header,
            Held::Spent => {
                claimed.remove(Kind::Body);
                return Ok(None);
            }
            Held::Unreadable(Unreadable::Later) => return Ok(None),
            Held::Unreadable(Unreadable::Damaged(why)) => return Ok(Some(damaged(claimed, why))),
        };
        claimed.remove_halves();
        if self.is_expired(claimed.age(now)) {
            claimed.remove(Kind::Body);
            return Ok(Some(Found::Expired(Expired { spans: header.spans, is_own })));
        }
        if !room.is_some_and(|room| room(header.length)) {
            return Ok(None);
        }
        Ok(Some(match claimed.body(&header)? {
            Some(body) => Found::Body { claimed, header, body },
            None => damaged(claimed, "the checksum of its body is wrong"),
        }))
    }

    /// The oldest bodies there are.
    fn look(&self) -> VecDeque<Name> {
        let mut names = Vec::new();
        for (name, kind, _) in files(&self.lane) {
            match kind {
                Kind::Body => names.push(name),
                Kind::Unfinished => self.remove_unfinished(&self.lane, name),
                Kind::Damaged => {}
            }
            // What is kept at a time stays small, whatever the directory holds.
            if names.len() >= 2 * LISTED {
                names.sort_unstable();
                names.truncate(LISTED);
            }
        }
        names.sort_unstable();
        names.truncate(LISTED);
        names.into()
    }

    fn is_expired(&self, age: Age) -> bool {
        !self.max_age.is_zero() && age.exceeds(self.max_age)
    }

    /// Removes a file that nobody is writing any more.
    fn remove_unfinished(&self, lane: &Path, name: Name) {
        if let Some(leftover) = Claimed::take(lane, name, Kind::Unfinished, false, false) {
            leftover.remove(Kind::Unfinished);
        }
    }

    /// Whether `bytes` more may be written.
    fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        let mut usage = self.usage.lock();
        let exceeds = |usage: &Usage| usage.bytes.saturating_add(bytes) > self.max_bytes;
        let is_stale = |usage: &Usage| usage.at.elapsed() >= usage.took * USAGE_SERVES;
        // Never refused by what was counted a while ago.
        if usage.is_none_or(|usage| exceeds(&usage) || is_stale(&usage)) {
            let at = Instant::now();
            let bytes =
                directories(&self.root).flat_map(|lane| files(&lane)).map(|(_, _, metadata)| metadata.len()).sum();
            *usage = Some(Usage { bytes, at, took: at.elapsed() });
        }
        match &*usage {
            Some(usage) if exceeds(usage) => Err(StoreError::Full { used: usage.bytes, max: self.max_bytes }),
            _ => Ok(()),
        }
    }

    fn make_lane(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.lane)?;
        if self.fsync {
            sync_directory(&self.root);
        }
        Ok(())
    }
}

fn damaged(claimed: Claimed, why: &'static str) -> Found {
    Found::Damaged { path: claimed.set_aside(), why }
}

/// The directories of all URLs.
fn directories(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// The spool's files in a directory, with what the file system says of them. Whatever else is there, and all that is no regular file, which
/// could block whoever opens it, is passed over.
fn files(lane: &Path) -> impl Iterator<Item = (Name, Kind, Metadata)> + use<> {
    fs::read_dir(lane).into_iter().flatten().flatten().filter_map(|entry| {
        let (name, kind) = Name::parse(entry.file_name().to_str()?)?;
        let metadata = entry.metadata().ok()?;
        metadata.is_file().then_some((name, kind, metadata))
    })
}

/// The 64-bit FNV-1a hash: the same in every version of this crate, and of Rust.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
