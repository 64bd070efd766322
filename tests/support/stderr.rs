//! What stderr can be, and processes that have it.
// Not every test file needs all of it.
#![allow(dead_code)]

use std::{
    env, fs,
    io::{self, PipeReader, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream, process::ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::openpty,
    sys::{
        signal::Signal,
        stat::Mode,
        termios::{FlowArg, tcflow},
    },
    unistd::{mkfifo, write},
};

use crate::support::{LONG, SpoolDir, holds_within, wait_for};

/// Names the role a child process plays.
pub(crate) const ROLE: &str = "OTLP_TEST_STDERR";

/// What a child that does as it should exits with: nothing else does.
pub(crate) const WELL: i32 = 7;

/// Both ends of what becomes the stderr of a child.
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    /// Nobody reads it, unless a test does.
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
    /// Bytes that it was filled with.
    filled: usize,
}

const TERMINAL: &str = "a terminal";

/// Bytes that wait for who reads a terminal, at most.
const TERMINAL_HOLDS: i32 = 4095;

impl Stream {
    pub(crate) fn pipe() -> Self {
        let (reader, writer) = io::pipe().unwrap();
        Self { name: "a pipe", reader: reader.into(), writer: writer.into(), filled: 0 }
    }

    pub(crate) fn named_pipe() -> Self {
        let place = SpoolDir::new();
        mkfifo(place.path(), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place.path()).unwrap();
        let writer = fs::OpenOptions::new().write(true).open(place.path()).unwrap();
        Self { name: "a named pipe", reader: reader.into(), writer: writer.into(), filled: 0 }
    }

    pub(crate) fn socket() -> Self {
        let (reader, writer) = UnixStream::pair().unwrap();
        Self { name: "a socket", reader: reader.into(), writer: writer.into(), filled: 0 }
    }

    pub(crate) fn terminal() -> Self {
        let pty = openpty(None, None).unwrap();
        Self { name: TERMINAL, reader: pty.master, writer: pty.slave, filled: 0 }
    }

    pub(crate) fn all() -> [Self; 4] {
        [Self::pipe(), Self::named_pipe(), Self::socket(), Self::terminal()]
    }

    /// Takes nothing more, not one byte.
    pub(crate) fn filled(mut self) -> Self {
        wait_for("it is full", || {
            // A terminal has two buffers, and the system moves what is in the first on to the second when it likes.
            let is_settled = self.name != TERMINAL || waiting(&self.reader) >= TERMINAL_HOLDS;
            without_waiting(&self.writer, || {
                for piece in [[b'x'; 4096].as_slice(), b"x"] {
                    while let Ok(bytes) = write(&self.writer, piece) {
                        self.filled += bytes;
                    }
                }
                assert_eq!(write(&self.writer, b"x"), Err(Errno::EAGAIN), "{}", self.name);
            });
            is_settled
        });
        self
    }

    /// Takes nothing more, as when somebody has typed Ctrl-S.
    pub(crate) fn stopped(mut self) -> Self {
        tcflow(&self.writer, FlowArg::TCOOFF).unwrap();
        self.name = "a terminal that is stopped";
        self
    }

    pub(crate) fn as_stderr(&self) -> Stdio {
        self.writer.try_clone().unwrap().into()
    }

    /// Reads what it was filled with.
    pub(crate) fn drain(&mut self) {
        let mut drained = 0;
        wait_for("it is empty", || {
            let bytes = self.read_some();
            drained += bytes.iter().filter(|byte| **byte == b'x').count();
            drained >= self.filled
        });
        self.filled = 0;
    }

    /// Reads until what was written since contains `part`.
    #[track_caller]
    pub(crate) fn read_until(&self, part: &str) -> String {
        let mut all = Vec::new();
        let is_there = holds_within(LONG, || {
            all.extend(self.read_some());
            String::from_utf8_lossy(&all).contains(part)
        });
        let all = String::from_utf8(all).unwrap();
        assert!(is_there, "{}: {all:?} lacks {part:?}", self.name);
        all
    }

    /// What can be read now.
    fn read_some(&self) -> Vec<u8> {
        let mut reader = fs::File::from(self.reader.try_clone().unwrap());
        let mut all = Vec::new();
        without_waiting(&self.reader, || {
            let _ = reader.read_to_end(&mut all);
        });
        all
    }

    /// What everybody shares who writes to it is as it was.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        let flags = OFlag::from_bits_retain(fcntl(&self.writer, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "{}: nobody else may wait any more", self.name);
    }
}

/// Those that take nothing more.
pub(crate) fn clogged() -> impl Iterator<Item = Stream> {
    Stream::all().into_iter().map(Stream::filled).chain([Stream::terminal().stopped()])
}

/// Those that nobody reads any more: this is their writing end.
pub(crate) fn broken() -> impl Iterator<Item = (&'static str, Stdio)> {
    [Stream::pipe(), Stream::named_pipe(), Stream::socket()]
        .into_iter()
        .map(|stream| (stream.name, stream.writer.into()))
}

/// Bytes that can be read at once.
fn waiting(reader: &OwnedFd) -> i32 {
    let mut bytes = 0;
    // SAFETY: `bytes` is valid for the write.
    let asked = unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &mut bytes) };
    assert_eq!(asked, 0);
    bytes
}

fn without_waiting<R>(descriptor: impl AsFd, call: impl FnOnce() -> R) -> R {
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL).unwrap());
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let result = call();
    fcntl(&descriptor, FcntlArg::F_SETFL(flags)).unwrap();
    result
}

/// A process of its own that plays `role`: it runs the test `child` of this program.
pub(crate) fn playing(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    for (variable, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(variable);
    }
    command.args(["child", "--exact", "--nocapture"]).env(ROLE, role);
    // Nobody listens there.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").env("OTEL_EXPORTER_OTLP_TIMEOUT", "100");
    command.stdout(Stdio::null());
    command
}

/// How a process ends that may hang.
#[track_caller]
pub(crate) fn end_of(name: &str, child: &mut Child) -> ExitStatus {
    let mut status = None;
    let ended = holds_within(LONG, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{name}: it hangs");
    }
    status.unwrap()
}

#[track_caller]
pub(crate) fn assert_ends_well(name: &str, command: &mut Command) {
    let status = end_of(name, &mut command.spawn().unwrap());
    assert_eq!((status.code(), status.signal().map(Signal::try_from)), (Some(WELL), None), "{name}");
}

/// The reader of a pipe that becomes the child's stdout.
pub(crate) fn piped_stdout(command: &mut Command) -> PipeReader {
    let (reader, writer) = io::pipe().unwrap();
    command.stdout(writer);
    reader
}

/// For a child: waits until its parent has seen `word` on its stdout, and lets it go on.
pub(crate) fn tell_parent(word: &str) {
    let mut stdout = io::stdout();
    writeln!(stdout, "{word}").unwrap();
    stdout.flush().unwrap();
}
