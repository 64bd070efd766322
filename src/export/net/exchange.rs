//! One request and its answer over a connection, within a deadline.

use ureq::{Error, unversioned::transport::Transport};

use super::{
    deadline::Deadline,
    early,
    fault::Fault,
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
    transport: &mut dyn Transport,
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

/// Sends these parts, as much as there is room for at once; false if an answer came before all of it was taken.
pub(in crate::export) fn send(
    transport: &mut dyn Transport,
    mut parts: [&[u8]; 2],
    deadline: Deadline,
) -> Result<bool, Fault> {
    while parts.iter().any(|part| !part.is_empty()) {
        let output = transport.buffers().output();
        let mut filled = 0;
        for part in &mut parts {
            let (now, rest) = part.split_at(part.len().min(output.len() - filled));
            output[filled..filled + now.len()].copy_from_slice(now);
            filled += now.len();
            *part = rest;
        }
        while let Err(error) = transport.transmit_output(filled, deadline.timeout()) {
            if !early::is_told(&error) {
                return Err(error.into());
            }
            if is_answered(transport, deadline)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
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
