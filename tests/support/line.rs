//! The server's end of one connection, plain or TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

/// One connection.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) raw: TcpStream,
    pub(super) stream: Box<dyn Stream>,
    /// Read, and not yet used.
    input: Vec<u8>,
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
        Self { number, raw, stream, input: Vec::new() }
    }

    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    pub(super) fn read_head(&mut self) -> io::Result<String> {
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
