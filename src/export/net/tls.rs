//! TLS over whatever carries bytes: agreed on once for each connection, with what the files of its settings hold then.

use std::{
    fmt,
    io::{self, IoSlice, Read as _, Write as _},
    mem,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName, sign::SingleCertAndKey};
use ureq::{
    Error,
    unversioned::transport::{
        Buffers, ConnectionDetails, NextTimeout, Transport, TransportAdapter,
        time::{Duration as UreqDuration, Instant as UreqInstant},
    },
};

mod failure;
mod trust;

pub(super) use failure::{failure, is_final};

use super::{buffers::GrowingBuffers, early, line::Line};
use crate::{
    config::{Protocol, Renewal, Tls},
    sync::locks::Mutex,
};

/// The name of HTTP/2 in the handshake (RFC 9113, 3.2).
const H2: &[u8] = b"h2";

/// Where nobody asks for them.
const MOST_REMARKS: usize = 4;

/// Makes connections secure where the URL says so.
pub(in crate::export) struct TlsConnector {
    state: Mutex<State>,
    /// What there is to say about files that were renewed and cannot be used.
    remarks: Mutex<Vec<String>>,
    /// Bytes of what the settings put into the head of a request.
    head: usize,
    /// What is spoken with the receiver.
    protocol: Protocol,
}

struct State {
    renewal: Renewal,
    /// What connections share, the sessions that can be resumed among it; none before the first, and once files have
    /// changed.
    config: Option<Arc<ClientConfig>>,
}

impl TlsConnector {
    pub(in crate::export) fn new(tls: &Tls, head: usize, protocol: Protocol) -> Self {
        let state = State { renewal: Renewal::new(tls.clone()), config: None };
        Self { state: Mutex::new(state), remarks: Mutex::default(), head, protocol }
    }

    /// What there is to say since the last time.
    pub(in crate::export) fn take_remarks(&self) -> Vec<String> {
        mem::take(&mut self.remarks.lock())
    }

    /// What holds for a connection that is opened now.
    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut state = self.state.lock();
        let State { renewal, config } = &mut *state;
        let note = |remark| {
            let mut remarks = self.remarks.lock();
            if remarks.len() < MOST_REMARKS {
                remarks.push(remark);
            }
        };
        if renewal.look(note) {
            *config = None;
        }
        if let Some(config) = config {
            return Ok(Arc::clone(config));
        }
        let mut made = configured(renewal.tls()).map_err(wrapped)?;
        if self.protocol == Protocol::Grpc {
            made.alpn_protocols.push(H2.to_vec());
        }
        let made = Arc::new(made);
        *config = Some(Arc::clone(&made));
        Ok(made)
    }
}

fn configured(tls: &Tls) -> Result<ClientConfig, rustls::Error> {
    let provider = Tls::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    // Not dangerous: all of it is as strict as what rustls does by itself.
    let builder = builder.dangerous().with_custom_certificate_verifier(trust::verifier(&tls.roots, provider)?);
    Ok(match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.pair))))
        }
    })
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Receiver,
    Proxy,
}

impl TlsConnector {
    /// Agrees on TLS over `transport`.
    pub(super) fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        transport: Box<dyn Transport>,
        peer: Peer,
    ) -> Result<TlsStream, Error> {
        let name = server_name(details.uri.host().unwrap_or_default())?;
        let mut config = self.config()?;
        if peer == Peer::Proxy && !config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols.clear();
        }
        let mut connection = ClientConnection::new(config, name).map_err(wrapped)?;
        let mut socket = TransportAdapter::new(transport, Arc::clone(&details.current_time));
        socket.set_timeout(left(details));
        connection.complete_io(&mut socket)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(TlsStream {
            buffers: GrowingBuffers::new(input, self.head, output),
            stream: StreamOwned::new(connection, socket),
            begun: 0,
            is_broken_off: false,
            is_to_be_told: false,
        })
    }
}

/// The time that connecting may take, without what it took so far.
fn left(details: &ConnectionDetails<'_>) -> NextTimeout {
    let after = match (details.timeout.after, details.now, (details.current_time)()) {
        (UreqDuration::Exact(after), UreqInstant::Exact(begun), UreqInstant::Exact(now)) => {
            after.saturating_sub(now.saturating_duration_since(begun)).into()
        }
        (after, _, _) => after,
    };
    NextTimeout { after, ..details.timeout }
}

/// The name that a certificate must be for: an address without brackets, a host without the dot of the root.
fn server_name(host: &str) -> Result<ServerName<'static>, Error> {
    let bare = host.trim_matches(['[', ']']);
    let name = ServerName::try_from(bare.strip_suffix('.').unwrap_or(bare).to_owned());
    name.map_err(|_| Error::Tls("the host of the URL is no name that a certificate could be for"))
}

fn wrapped(error: rustls::Error) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A connection that is secure.
pub(in crate::export) struct TlsStream {
    buffers: GrowingBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    /// So much of the output was encrypted when an answer came. Whoever goes on does so from there.
    begun: usize,
    /// What was encrypted was not taken whole.
    is_broken_off: bool,
    /// The receiver has said something meanwhile, which is to be read before anything else is sent.
    is_to_be_told: bool,
}

impl TlsStream {
    /// Sends the first `amount` bytes of the output. Where the receiver does not take them and has said something, that
    /// is told instead.
    fn write(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let StreamOwned { conn, sock } = &mut self.stream;
        let output = self.buffers.written(amount);
        while self.begun < amount || conn.wants_write() {
            self.begun += conn.writer().write(&output[self.begun..])?;
            match conn.write_tls(sock) {
                Ok(_) => {}
                Err(error) if early::is_told_by(&error) => {
                    if has_said_something(conn, sock)? {
                        self.is_broken_off = true;
                        return Err(early::told());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        (self.begun, self.is_broken_off) = (0, false);
        self.buffers.sent(amount);
        Ok(())
    }

    /// Sends what is encrypted. Where the receiver does not take it and has said something, that is told instead.
    fn send_encrypted(&mut self) -> Result<(), Error> {
        let StreamOwned { conn, sock } = &mut self.stream;
        while conn.wants_write() {
            if let Err(error) = conn.write_tls(sock) {
                if !early::is_told_by(&error) {
                    return Err(error.into());
                }
                if has_said_something(conn, sock)? {
                    self.is_broken_off = true;
                    return Err(early::told());
                }
            }
        }
        self.is_broken_off = false;
        Ok(())
    }

    /// Reads what comes. What is left to send stays where nobody takes it.
    fn read(&mut self) -> io::Result<usize> {
        let into = self.buffers.input_append_buf();
        if !self.is_broken_off {
            return self.stream.read(into);
        }
        let StreamOwned { conn, sock } = &mut self.stream;
        loop {
            match conn.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            conn.read_tls(sock)?;
            conn.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}

/// Whether what has come is more than what TLS itself sends: most often it is a ticket for later sessions, which says
/// nothing of the request.
fn has_said_something(conn: &mut ClientConnection, sock: &mut TransportAdapter) -> Result<bool, Error> {
    let is_over = conn.read_tls(sock)? == 0;
    let state = conn.process_new_packets().map_err(wrapped)?;
    Ok(is_over || state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
}

impl Line for TlsStream {
    fn send(&mut self, parts: &[IoSlice<'_>], timeout: NextTimeout) -> Result<usize, Error> {
        // What was encrypted before counts as sent.
        self.flush(timeout)?;
        let taken = self.stream.conn.writer().write_vectored(parts)?;
        match self.send_encrypted() {
            // Some of these are taken: it is told to whoever goes on.
            Err(error) if early::is_told(&error) => self.is_to_be_told = true,
            sent => sent?,
        }
        Ok(taken)
    }

    fn flush(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        if mem::take(&mut self.is_to_be_told) {
            return Err(early::told());
        }
        self.stream.get_mut().set_timeout(timeout);
        self.send_encrypted()
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

impl Transport for TlsStream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.write(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.read()?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}
