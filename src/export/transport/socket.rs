//! The sockets below HTTP and TLS. As ureq's own, but for two things: they note each step forward, which tells a slow
//! receiver from one that is stuck, and a step keeps to its deadline however many system calls it takes.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Error, Timeout,
    unversioned::transport::{
        Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
    },
};

/// When a connection last got somewhere: it was made, or bytes of ours were taken.
#[derive(Debug)]
pub(crate) struct Progress {
    origin: Instant,
    /// Milliseconds after `origin`, plus 1; 0 for never.
    last: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), last: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.last.fetch_max(self.origin.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        let millis = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.origin + Duration::from_millis(millis))
    }
}

/// Opens sockets, unless a proxy has done so.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) progress: Arc<Progress>,
}

impl<In: Transport> Connector<In> for Sockets {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(through_proxy) = chained {
            return Ok(Some(Either::A(through_proxy)));
        }
        let config = details.config;
        let stream = Arc::new(connect(details)?);
        stream.set_nodelay(config.no_delay())?;
        let handle = Arc::new(Handle(Arc::downgrade(&stream)));
        let weak: Weak<Handle> = Arc::downgrade(&handle);
        (details.register_shutdown)(weak)?;
        self.progress.note();
        Ok(Some(Either::B(Socket {
            stream,
            _handle: handle,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            progress: Arc::clone(&self.progress),
            is_deaf: false,
        })))
    }
}

/// Tries the addresses one after the other. Each may use half of the time that is left, the last all of it.
fn connect(details: &ConnectionDetails<'_>) -> Result<TcpStream, Error> {
    let deadline = Deadline::new(&details.timeout)?;
    let mut failed = Error::ConnectionFailed;
    for (at, address) in details.addrs.iter().enumerate() {
        let left = deadline.left()?;
        let share = if at + 1 == details.addrs.len() { left } else { left.map(|left| left / 2) };
        let connected = match share {
            Some(share) => TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))),
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = deadline.error(error),
        }
    }
    Err(failed)
}

/// Lets `shutdown` cut what is blocked on the socket.
struct Handle(Weak<TcpStream>);

impl ShutdownHandle for Handle {
    fn shutdown(&self) {
        if let Some(stream) = self.0.upgrade() {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// One connection.
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    /// Alive as long as there is something to cut.
    _handle: Arc<Handle>,
    buffers: LazyBuffers,
    progress: Arc<Progress>,
    /// The receiver takes no more. It may have said why.
    is_deaf: bool,
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let deadline = Deadline::new(&timeout.for_write())?;
        let mut rest = &self.buffers.output()[..amount];
        while !rest.is_empty() && !self.is_deaf {
            self.stream.set_write_timeout(deadline.left()?)?;
            match (&*self.stream).write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(taken) => {
                    rest = &rest[taken..];
                    self.progress.note();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What has come before is there to be read: a refusal of the whole request, sent at the sight of
                // its head. If nothing has, reading fails as writing did.
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.is_deaf = true;
                }
                Err(error) => return Err(deadline.error(error)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let deadline = Deadline::new(&timeout.for_read())?;
        loop {
            self.stream.set_read_timeout(deadline.left()?)?;
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(deadline.error(error)),
            }
        }
    }

    /// Whether nothing has come while the connection was idle: neither its end nor bytes that nobody asked for.
    fn is_open(&mut self) -> bool {
        let peek = || {
            self.stream.set_nonblocking(true)?;
            let silent = matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            self.stream.set_nonblocking(false)?;
            io::Result::Ok(silent)
        };
        peek().unwrap_or(false)
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// The end of one step, however many system calls it takes.
struct Deadline {
    at: Option<Instant>,
    reason: Timeout,
}

impl Deadline {
    fn new(timeout: &NextTimeout) -> Result<Self, Error> {
        let deadline = Self { at: timeout.not_zero().map(|left| Instant::now() + *left), reason: timeout.reason };
        if timeout.after.is_zero() { Err(Error::Timeout(deadline.reason)) } else { Ok(deadline) }
    }

    /// The time that is left, never zero; none if there is no limit.
    fn left(&self) -> Result<Option<Duration>, Error> {
        let Some(at) = self.at else { return Ok(None) };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Error::Timeout(self.reason)) } else { Ok(Some(left)) }
    }

    fn error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(self.reason),
            _ => error.into(),
        }
    }
}
