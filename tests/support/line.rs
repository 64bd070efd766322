//! The server's end of one connection, plain or TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use super::http2::{self, CONTINUATION, Call, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

/// The largest window (RFC 9113, 6.9.1).
const MOST_WINDOW: u32 = (1 << 31) - 1;

/// One connection.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) raw: TcpStream,
    pub(super) stream: Box<dyn Stream>,
    /// Read, and not yet used.
    input: Vec<u8>,
    /// The call that is under way, where HTTP/2 is spoken.
    pub(super) call: Option<Call>,
}

pub(super) trait Stream: Read + Write + Send {
    fn is_resumed(&self) -> bool;
}

impl Stream for TcpStream {
    fn is_resumed(&self) -> bool {
        false
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn is_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl Line {
    pub(super) fn new(number: u64, raw: TcpStream, tls: Option<Arc<ServerConfig>>) -> Self {
        let socket = raw.try_clone().unwrap();
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(socket),
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), socket)),
        };
        Self { number, raw, stream, input: Vec::new(), call: None }
    }

    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// Waits for the beginning of a request; false if the other side has nothing to say any more.
    pub(super) fn wait_for_more(&mut self) -> bool {
        if self.call.is_none() {
            return self.fill().is_ok_and(|read| read > 0);
        }
        loop {
            // What else comes between two calls is no request: acknowledgements, room.
            while self.input.get(3).is_some_and(|kind| *kind != HEADERS) && Frame::take(&mut self.input).is_some() {}
            if self.input.get(3) == Some(&HEADERS) {
                return true;
            }
            if !self.fill().is_ok_and(|read| read > 0) {
                return false;
            }
        }
    }

    fn read_frame(&mut self, place: &str) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.input) {
                return Ok(frame);
            }
            self.fill_or_fail(place)?;
        }
    }

    /// The head of a call, which begins a new stream.
    fn read_call(&mut self) -> io::Result<String> {
        let before = self.call.as_ref().map_or(0, |call| call.stream);
        loop {
            let frame = self.read_frame("in the head")?;
            match frame.kind {
                HEADERS if frame.stream > before => {
                    let mut block = frame.payload.clone();
                    let mut last = frame.clone();
                    while !last.has(END_HEADERS) {
                        last = self.read_frame("in the head")?;
                        assert_eq!((last.kind, last.stream), (CONTINUATION, frame.stream));
                        block.extend(&last.payload);
                    }
                    self.call = Some(Call { stream: frame.stream, is_whole: frame.has(END_STREAM) });
                    return Ok(http2::head(&block));
                }
                GOAWAY => return Err(http2::wrong("the client gave the connection up")),
                _ => {}
            }
        }
    }

    /// The first `most` bytes of the call's message, or all there are.
    pub(super) fn read_message(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            let Some(Call { stream, is_whole }) = self.call else { return Err(http2::wrong("no call")) };
            if is_whole || data.len() >= most.saturating_add(http2::PREFIX_BYTES) {
                break;
            }
            let frame = self.read_frame("in the body")?;
            if (frame.kind, frame.stream) != (DATA, stream) {
                continue;
            }
            self.call = Some(Call { stream, is_whole: frame.has(END_STREAM) });
            data.extend(frame.payload);
        }
        Ok(data.split_off(http2::PREFIX_BYTES.min(data.len())))
    }

    pub(super) fn read_head(&mut self) -> io::Result<String> {
        while PREFACE.starts_with(&self.input) && self.input.len() < PREFACE.len() {
            self.fill_or_fail("in the head")?;
        }
        if self.input.starts_with(PREFACE) {
            self.input.drain(..PREFACE.len());
            self.call = Some(Call::default());
            // Room for everything, so that a connection that falls silent says nothing at all.
            self.send(
                &[http2::settings(&[(4, MOST_WINDOW)]), http2::window_update(0, MOST_WINDOW - 65_535)]
                    .map(|f| f.bytes())
                    .concat(),
            )?;
        }
        if self.call.is_some() {
            return self.read_call();
        }
        loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<_> = self.input.drain(..at + 4).collect();
                return Ok(String::from_utf8_lossy(&head).to_lowercase());
            }
            self.fill_or_fail("in the head")?;
        }
    }

    pub(super) fn read_body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < length {
            self.fill_or_fail("in the body")?;
        }
        Ok(self.input.drain(..length).collect())
    }

    fn fill_or_fail(&mut self, place: &str) -> io::Result<()> {
        match self.fill() {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the connection ended {place}"))),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Closes without a reset: what still comes is read, and thrown away.
    pub(super) fn finish(&mut self) {
        let _ = self.raw.shutdown(Shutdown::Write);
        let mut buffer = [0; 4096];
        while self.raw.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
}

/// Ends a connection on which another thread is blocked.
pub(super) fn cut(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
