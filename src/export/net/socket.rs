//! The sockets below HTTP and TLS. As ureq's own, but for three things: they count what really goes over the wire, they
//! note each step forward, which tells a slow receiver from one that is stuck, and a step keeps to its deadline however
//! many system calls it takes.

use std::{
    fmt,
    io::{self, IoSlice, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Error,
    config::Config,
    unversioned::transport::{Buffers, NextTimeout, Transport},
};

use super::{
    buffers::GrowingBuffers,
    deadline::Deadline,
    early,
    line::{Line, total},
};
use crate::sync::locks::Mutex;

/// How long one of several addresses is tried at first. RFC 8305 waits 250 ms before it tries the next beside it.
const MOMENT: Duration = Duration::from_millis(250);

/// What went over all sockets: heads and bodies of requests, what TLS and proxies add.
#[derive(Debug)]
pub(crate) struct Traffic {
    origin: Instant,
    /// When a connection last got somewhere: it was made, or bytes of ours were taken. Milliseconds after `origin`,
    /// plus 1; 0 for never.
    last: AtomicU64,
    connections: AtomicU64,
    bytes: AtomicU64,
    /// The shortest time in which a connection was made, before TLS: about a round trip. The largest number before
    /// the first.
    round_trip_nanos: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    /// Connections that were opened.
    pub(crate) connections: u64,
    /// Bytes that were sent over them.
    pub(crate) bytes: u64,
}

impl Traffic {
    pub(in crate::export) fn new() -> Self {
        let [last, connections, bytes] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { origin: Instant::now(), last, connections, bytes, round_trip_nanos: AtomicU64::new(u64::MAX) }
    }

    fn note(&self) {
        self.last.fetch_max(self.origin.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.note();
    }

    fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.note();
    }

    /// When a connection last got somewhere.
    pub(in crate::export) fn last(&self) -> Option<Instant> {
        let millis = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.origin + Duration::from_millis(millis))
    }

    fn made_within(&self, time: Duration) {
        self.round_trip_nanos.fetch_min(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// About a round trip; nothing before the first connection.
    pub(in crate::export) fn round_trip(&self) -> Duration {
        match self.round_trip_nanos.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            nanos => Duration::from_nanos(nanos),
        }
    }

    pub(in crate::export) fn carried(&self) -> Carried {
        Carried { connections: self.connections.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Opens sockets.
#[derive(Debug)]
pub(in crate::export) struct Sockets {
    pub(in crate::export) traffic: Traffic,
    /// Those that are open, so that whatever is blocked on them can be cut; none once they were.
    open: Mutex<Option<Vec<Weak<TcpStream>>>>,
    /// Bytes of what the settings put into the head of a request.
    head: usize,
}

impl Sockets {
    pub(in crate::export) fn new(head: usize) -> Self {
        Self { traffic: Traffic::new(), open: Mutex::new(Some(Vec::new())), head }
    }

    /// Opens one to the first of the addresses that takes it.
    pub(in crate::export) fn open(
        self: &Arc<Self>,
        addresses: &[SocketAddr],
        deadline: Deadline,
        config: &Config,
    ) -> Result<Socket, Error> {
        let begun = Instant::now();
        let stream = connect_any(addresses, &deadline, |address, timeout| {
            refuse_itself(match timeout {
                Some(timeout) => TcpStream::connect_timeout(address, timeout)?,
                None => TcpStream::connect(address)?,
            })
        });
        let stream = Arc::new(stream.map_err(|error| as_refusal(error, addresses))?);
        self.traffic.made_within(begun.elapsed());
        stream.set_nodelay(config.no_delay())?;
        self.register(&stream)?;
        self.traffic.opened();
        Ok(Socket {
            stream,
            buffers: GrowingBuffers::new(config.input_buffer_size(), self.head, config.output_buffer_size()),
            sockets: Arc::clone(self),
            is_deaf: false,
            begun: 0,
        })
    }

    fn register(&self, stream: &Arc<TcpStream>) -> Result<(), Error> {
        let mut open = self.open.lock();
        // Under the lock, so that no socket escapes that is made while the others are cut.
        let open = open.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        open.retain(|stream| stream.strong_count() > 0);
        open.push(Arc::downgrade(stream));
        Ok(())
    }

    /// Ends every exchange, whatever it is blocked in, and lets no other one begin.
    pub(in crate::export) fn cut(&self) {
        for stream in self.open.lock().take().unwrap_or_default().iter().filter_map(Weak::upgrade) {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// A connection both of whose ends are this one is none. It comes about at a port where nobody listens, if that is the
/// one that the system chose for this end: TCP knows two ends that call each other. While it lasts nobody can listen there.
fn refuse_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if !matches!((stream.local_addr(), stream.peer_addr()), (Ok(this), Ok(other)) if this == other) {
        return Ok(stream);
    }
    // With something in it that nobody has read it is gone at once, and else its port is taken for another minute.
    let _ = (&stream).write(&[0]);
    let _ = stream.set_read_timeout(Some(MOMENT)).and_then(|()| stream.peek(&mut [0]));
    Err(io::ErrorKind::ConnectionRefused.into())
}

/// What says that there is no way to this machine itself: nobody can be listening there. Elsewhere a way may come back.
fn as_refusal(error: Error, addresses: &[SocketAddr]) -> Error {
    let is_local = addresses.iter().all(|address| address.ip().is_loopback());
    match error {
        Error::Io(error) if is_local && is_no_way(&error) => {
            io::Error::new(io::ErrorKind::ConnectionRefused, NoLoopback(error)).into()
        }
        error => error,
    }
}

fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
    )
}

/// The loopback interface of this machine cannot be used.
#[derive(Debug)]
struct NoLoopback(io::Error);

impl fmt::Display for NoLoopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot reach itself ({}); is its loopback interface down?", self.0)
    }
}

impl std::error::Error for NoLoopback {}

/// What is said of a connection that was refused.
pub(in crate::export) fn refusal(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<NoLoopback>()) {
        Some(no_loopback) => no_loopback.to_string(),
        None => "connection refused; is a collector listening there?".to_owned(),
    }
}

/// Tries the addresses one after the other, each for a moment: where packets to one of them vanish, as with a broken
/// IPv6, the next one is worth more than waiting. Those that did not answer share the time that is left.
fn connect_any<T>(
    addresses: &[SocketAddr],
    deadline: &Deadline,
    connect: impl Fn(&SocketAddr, Option<Duration>) -> io::Result<T>,
) -> Result<T, Error> {
    let mut failed = Error::ConnectionFailed;
    let mut silent = addresses.to_vec();
    for moment in [Some(MOMENT), None] {
        if moment.is_some() && silent.len() < 2 {
            continue;
        }
        let addresses = std::mem::take(&mut silent);
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.left()?.map(|left| left / (addresses.len() - at) as u32);
            let share = left.into_iter().chain(moment).min();
            match connect(address, share.map(|share| share.max(Duration::from_millis(1)))) {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        silent.push(*address);
                    }
                    // Where one of a name's addresses is refused, another may not exist at all.
                    let is_refused =
                        matches!(&failed, Error::Io(failed) if failed.kind() == io::ErrorKind::ConnectionRefused);
                    if !(is_refused && is_no_way(&error)) {
                        failed = deadline.error(error);
                    }
                }
            }
        }
    }
    Err(failed)
}

/// One connection.
pub(in crate::export) struct Socket {
    stream: Arc<TcpStream>,
    buffers: GrowingBuffers,
    sockets: Arc<Sockets>,
    /// The receiver takes no more. It may have said why.
    is_deaf: bool,
    /// So much of the output was taken when something came. Whoever goes on does so from there.
    begun: usize,
}

impl Socket {
    /// Sends the first `amount` bytes of the output. Where the receiver does not take them and something has come from
    /// it, that is told instead.
    fn write(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let deadline = Deadline::of(&timeout.for_write())?;
        while self.begun < amount && !self.is_deaf {
            let begun = self.begun;
            let taken = self.step(deadline, |mut stream, buffers| stream.write(&buffers.written(amount)[begun..]))?;
            self.begun += taken.unwrap_or(0);
        }
        self.begun = 0;
        self.buffers.sent(amount);
        Ok(())
    }

    /// One step of sending: so many bytes of what `write` offers to the stream were taken. `None` if the receiver takes
    /// no more. Where it does not take them now and something has come from it, that is told instead.
    fn step(
        &mut self,
        deadline: Deadline,
        mut write: impl FnMut(&TcpStream, &GrowingBuffers) -> io::Result<usize>,
    ) -> Result<Option<usize>, Error> {
        loop {
            self.stream.set_write_timeout(early::step(deadline.left()?))?;
            match write(&self.stream, &self.buffers) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(taken) => {
                    self.sockets.traffic.sent(taken);
                    return Ok(Some(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if early::is_pause(&error) && deadline.left().is_ok() => {
                    if early::has_come(&self.stream)? {
                        return Err(early::told());
                    }
                }
                // What has come before is there to be read: a refusal of the whole request, sent at the sight of
                // its head. If nothing has, reading fails as writing did.
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.is_deaf = true;
                    return Ok(None);
                }
                Err(error) => return Err(deadline.error(error)),
            }
        }
    }

    fn read(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let deadline = Deadline::of(&timeout.for_read())?;
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
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.write(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.read(timeout)
    }

    /// Whether nothing has come while the connection was idle: neither its end nor bytes that nobody asked for.
    fn is_open(&mut self) -> bool {
        matches!(early::has_come(&self.stream), Ok(false))
    }
}

impl Line for Socket {
    fn send(&mut self, parts: &[IoSlice<'_>], timeout: NextTimeout) -> Result<usize, Error> {
        let deadline = Deadline::of(&timeout.for_write())?;
        if self.is_deaf {
            return Ok(total(parts));
        }
        let taken = self.step(deadline, |mut stream, _| stream.write_vectored(parts))?;
        Ok(taken.unwrap_or_else(|| total(parts)))
    }

    fn flush(&mut self, _: NextTimeout) -> Result<(), Error> {
        Ok(())
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn addresses() -> [SocketAddr; 2] {
        ["[2001:db8::1]:4318".parse().unwrap(), "192.0.2.1:4318".parse().unwrap()]
    }

    fn five_seconds() -> Deadline {
        Deadline::connecting(Duration::from_secs(5))
    }

    #[test]
    fn an_address_that_does_not_answer_costs_a_moment_where_there_is_another() {
        let [dead, alive] = addresses();
        let connected = connect_any(&[dead, alive], &five_seconds(), |address, timeout| {
            assert!(timeout.unwrap() <= MOMENT);
            if *address == alive { Ok("connected") } else { Err(io::ErrorKind::TimedOut.into()) }
        });
        assert_eq!(connected.unwrap(), "connected");
    }

    #[test]
    fn addresses_that_are_slow_to_answer_share_the_time_there_is() {
        let [slow, refused] = addresses();
        let tried = RefCell::new(Vec::new());
        let connected = connect_any(&[slow, refused], &five_seconds(), |address, timeout| {
            tried.borrow_mut().push(*address);
            match timeout.unwrap() {
                _ if *address == refused => Err(io::ErrorKind::ConnectionRefused.into()),
                timeout if timeout <= MOMENT => Err(io::ErrorKind::TimedOut.into()),
                _ => Ok(()),
            }
        });
        assert!(connected.is_ok());
        assert_eq!(*tried.borrow(), [slow, refused, slow]);
    }

    #[test]
    fn a_single_address_has_all_the_time_there_is() {
        let connected = connect_any(&addresses()[..1], &five_seconds(), |_, timeout| {
            assert!(timeout.unwrap() > Duration::from_secs(4));
            io::Result::<()>::Err(io::ErrorKind::ConnectionRefused.into())
        });
        assert!(matches!(connected, Err(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused));
    }
}
