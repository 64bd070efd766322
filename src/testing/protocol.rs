//! Which protocol a connection speaks, and who serves it.

use std::net::TcpStream;

use super::{
    calls::Calls,
    connection::{Connection, Next},
    shared::Shared,
};

/// Serves the requests of one connection until either side wants it closed.
pub(super) fn serve(stream: &TcpStream, number: u64, shared: &Shared) {
    let mut connection = Connection::new(stream, number, shared);
    loop {
        match connection.exchange() {
            Next::Request => {}
            Next::Calls => return Calls::new(connection).serve(),
            Next::Close => return,
        }
    }
}
