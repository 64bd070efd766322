//! A connection as sinks use it: ureq's buffers for what is written piece by piece, and a way around them for bodies,
//! which are sent from where they lie.

use std::io::IoSlice;

use ureq::{
    Error,
    unversioned::transport::{NextTimeout, Transport},
};

use super::{deadline::Deadline, early};

/// Bytes both ways.
pub(in crate::export) trait Line: Transport {
    /// Sends some bytes of these parts, at least one, and returns how many. If the receiver takes none and something has
    /// come from it, that is told instead, see [`is_told`]: it is to be read first. If it takes none any more, they count
    /// as sent: reading tells why. Blocks, within the time there is.
    fn send(&mut self, parts: &[IoSlice<'_>], timeout: NextTimeout) -> Result<usize, Error>;

    /// Sends what was taken and is not out yet, as of TLS. Where the receiver does not take it and something has come from
    /// it, that is told instead.
    fn flush(&mut self, timeout: NextTimeout) -> Result<(), Error>;

    /// The same connection as whoever speaks ureq's language takes it.
    fn into_transport(self: Box<Self>) -> Box<dyn Transport>;
}

/// Whether sending ended because something came.
pub(in crate::export) fn is_told(error: &Error) -> bool {
    early::is_told(error)
}

/// What comes over a connection that is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum Heard {
    Something,
    /// Nothing that is not TLS's own.
    Nothing,
    /// The end, or an error.
    TheEnd,
}

/// Waits until `deadline` for what comes.
pub(in crate::export) fn hear(line: &mut dyn Line, deadline: Deadline) -> Heard {
    match line.await_input(deadline.timeout()) {
        Ok(true) => Heard::Something,
        Ok(false) => Heard::TheEnd,
        Err(Error::Timeout(_)) => Heard::Nothing,
        Err(_) => Heard::TheEnd,
    }
}

/// All bytes of these parts.
pub(super) fn total(parts: &[IoSlice<'_>]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}
