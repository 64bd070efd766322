//! Answers that come before the request has been sent completely: a receiver that refuses the request after its head
//! may read nothing more, and keep the connection open. The writer would then wait in vain.
//!
//! So a write that makes no progress for a moment checks whether something has come. A write that succeeds at once
//! costs nothing extra.

use std::{fmt, io, net::TcpStream, time::Duration};

use ureq::Error;

/// How long a write waits before it checks. On platforms other than Unix a write that has timed out cannot be
/// continued.
const MOMENT: Option<Duration> = if cfg!(unix) { Some(Duration::from_millis(50)) } else { None };

/// How long the next step of a write may take, given the time that is left.
pub(in crate::export) fn step(left: Option<Duration>) -> Option<Duration> {
    left.into_iter().chain(MOMENT).min()
}

/// Whether a write has only reached the end of its step.
pub(in crate::export) fn is_pause(error: &io::Error) -> bool {
    MOMENT.is_some() && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Whether something has come and was not read: bytes, the end, or an error. Takes three system calls.
pub(in crate::export) fn has_come(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let silent = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false)?;
    Ok(!silent)
}

/// The error for a write during which something has come, which may be the answer.
pub(in crate::export) fn told() -> Error {
    Error::Io(io::Error::other(SomethingCame))
}

/// Whether a write ended because something has come. It may be continued with the same bytes.
pub(in crate::export) fn is_told(error: &Error) -> bool {
    matches!(error, Error::Io(error) if is_told_by(error))
}

pub(in crate::export) fn is_told_by(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<SomethingCame>())
}

#[derive(Debug)]
struct SomethingCame;

impl fmt::Display for SomethingCame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something came before all was sent")
    }
}

impl std::error::Error for SomethingCame {}
