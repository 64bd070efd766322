//! One request and its answer over a connection, within a deadline.

use std::io::IoSlice;

use ureq::{Error, unversioned::transport::Transport};

use super::{
    deadline::Deadline,
    fault::Fault,
    line::{Line, is_told},
    response::{Body, Head, HeadReader, Progress},
    trial::Trial,
};

/// What the client calls itself.
pub(in crate::export) const AGENT: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// What came back.
#[derive(Debug)]
pub(in crate::export) struct Answer {
    pub(in crate::export) head: Head,
    /// The part of the body that came. The status line has decided: a body that breaks off changes nothing.
    pub(in crate::export) body: Vec<u8>,
    /// Whether the body is larger than what is read.
    pub(in crate::export) is_too_large: bool,
    /// Whether the connection is clean: another request may follow.
    pub(in crate::export) is_over: bool,
}

/// Sends a request of these parts and reads its answer, up to `most` bytes of its body. A connection on trial gets a
/// share of the time until something comes. `is_sent` becomes true once all of it was sent.
pub(in crate::export) fn exchange(
    transport: &mut dyn Line,
    request: [&[u8]; 2],
    most: usize,
    deadline: Deadline,
    trial: Option<&Trial<'_>>,
    is_sent: &mut bool,
) -> Result<Answer, Fault> {
    *is_sent = send(transport, request, trial.map_or(deadline, |trial| trial.deadline(deadline)))?;
    if let Some(trial) = trial {
        trial.wait(transport, deadline)?;
    }
    let head = read_head(transport, deadline)?;
    let mut body = Body::of(&head, most);
    let progress = read_body(transport, &mut body, deadline);
    let is_whole = progress == Progress::Whole;
    // Bytes after an answer were not asked for, and must not be taken for the next one; and after an incomplete request
    // no other one may follow.
    let is_over = *is_sent && is_whole && head.keeps_alive && transport.buffers().input().is_empty();
    Ok(Answer { head, body: body.into_bytes(), is_too_large: progress == Progress::TooLarge, is_over })
}

/// Sends these parts from where they lie; false if an answer came before all of it was taken.
pub(in crate::export) fn send(line: &mut dyn Line, parts: [&[u8]; 2], deadline: Deadline) -> Result<bool, Fault> {
    let mut parts = parts.map(IoSlice::new);
    let mut rest = &mut parts[..];
    // Parts without content go.
    IoSlice::advance_slices(&mut rest, 0);
    loop {
        let sent = if rest.is_empty() {
            line.flush(deadline.timeout()).map(|()| 0)
        } else {
            line.send(rest, deadline.timeout())
        };
        match sent {
            Ok(0) if rest.is_empty() => return Ok(true),
            Ok(taken) => IoSlice::advance_slices(&mut rest, taken),
            Err(error) if is_told(&error) => {
                if is_answered(line, deadline)? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the bytes that have come are the answer, or its end; interim answers are skipped.
fn is_answered(transport: &mut dyn Transport, deadline: Deadline) -> Result<bool, Fault> {
    let mut reader = HeadReader::default();
    loop {
        if !transport.await_input(deadline.timeout())? {
            return Ok(true);
        }
        match reader.read(transport.buffers().input())? {
            Some((head, length)) if head.is_interim() => {
                transport.buffers().input_consume(length);
                reader = HeadReader::default();
                if transport.buffers().input().is_empty() {
                    return Ok(false);
                }
                deadline.left()?;
            }
            Some(_) => return Ok(true),
            None => {}
        }
    }
}

/// Whether an exchange ended because its time was over.
pub(in crate::export) fn is_silence(fault: &Fault) -> bool {
    matches!(fault, Fault::Line(Error::Timeout(_)))
}

/// Reads the head of the final answer: interim ones are skipped (RFC 9110, 15.2).
pub(in crate::export) fn read_head(transport: &mut dyn Transport, deadline: Deadline) -> Result<Head, Fault> {
    let mut reader = HeadReader::default();
    loop {
        match reader.read(transport.buffers().input())? {
            Some((head, length)) => {
                transport.buffers().input_consume(length);
                if !head.is_interim() {
                    return Ok(head);
                }
                reader = HeadReader::default();
                // Otherwise it would continue for as long as interim answers come.
                deadline.left()?;
            }
            None if transport.await_input(deadline.timeout())? => {}
            None => return Err(Fault::Closed),
        }
    }
}

/// Reads exactly this many bytes.
pub(in crate::export) fn receive<const BYTES: usize>(
    transport: &mut dyn Transport,
    deadline: Deadline,
) -> Result<[u8; BYTES], Fault> {
    loop {
        if let Some(bytes) = transport.buffers().input().first_chunk().copied() {
            transport.buffers().input_consume(BYTES);
            return Ok(bytes);
        }
        if !transport.await_input(deadline.timeout())? {
            return Err(Fault::Closed);
        }
    }
}

/// Reads the body as far as it comes.
fn read_body(transport: &mut dyn Transport, body: &mut Body, deadline: Deadline) -> Progress {
    loop {
        let (used, progress) = body.take(transport.buffers().input());
        transport.buffers().input_consume(used);
        if progress != Progress::Open || !transport.await_input(deadline.timeout()).unwrap_or(false) {
            return progress;
        }
    }
}
