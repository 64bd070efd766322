//! Ports where no connection comes about.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// A port where connections do not succeed.
pub(crate) struct Closed {
    socket: Socket,
    waiting: Vec<Socket>,
}

impl Closed {
    /// The port is taken, and nobody listens there: connections are refused.
    pub(crate) fn refusing() -> Self {
        Self { socket: bound(), waiting: Vec::new() }
    }

    /// Somebody listens there and accepts nothing, and the backlog is full: connecting takes for ever.
    pub(crate) fn full() -> Self {
        let socket = bound();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        // As many as are taken in; the last one waits like any that comes later.
        let mut waiting = Vec::new();
        loop {
            let next = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let taken_in = next.connect_timeout(&address, Duration::from_millis(50)).is_ok();
            waiting.push(next);
            assert!(waiting.len() < 100, "the backlog never fills");
            if !taken_in {
                return Self { socket, waiting };
            }
        }
    }

    /// From now on somebody may listen there.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    pub(crate) fn endpoint(&self) -> String {
        let address = self.socket.local_addr().unwrap().as_socket().unwrap();
        format!("http://127.0.0.1:{}", address.port())
    }
}

/// A socket on a free port of 127.0.0.1.
pub(super) fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket
}
