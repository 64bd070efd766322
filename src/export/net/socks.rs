//! SOCKS 5 ([RFC 1928](https://www.rfc-editor.org/rfc/rfc1928)), as far as it takes to be connected: a method is agreed on,
//! a password shown where one is wanted ([RFC 1929](https://www.rfc-editor.org/rfc/rfc1929)), a connection asked for.
//! What comes behind the reply is the receiver's.

use std::net::SocketAddr;

use super::{
    deadline::Deadline,
    exchange::{receive, send},
    fault::{Fault, ProxyFault, SocksFault},
    line::Line,
};
use crate::config::Credentials;

const VERSION: u8 = 5;
/// That of the exchange about a password.
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;

/// Methods.
const OPEN: u8 = 0;
const PASSWORD: u8 = 2;

/// Kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Where a connection is wanted to.
#[derive(Debug, Clone, Copy)]
pub(in crate::export) enum Target<'a> {
    Address(SocketAddr),
    /// A name, which the proxy looks up.
    Name(&'a str, u16),
}

/// Has the proxy at the other end of `transport` make it a connection to `target`.
pub(in crate::export) fn connect(
    transport: &mut dyn Line,
    target: Target<'_>,
    credentials: Option<&Credentials>,
    deadline: Deadline,
) -> Result<(), Fault> {
    let greeting: &[u8] = if credentials.is_some() { &[VERSION, 2, OPEN, PASSWORD] } else { &[VERSION, 1, OPEN] };
    let request = request(target)?;
    let [version, method] = ask(transport, greeting, deadline)?;
    match (version, method, credentials) {
        (VERSION, OPEN, _) => {}
        (VERSION, PASSWORD, Some(credentials)) => {
            let [_, status] = ask(transport, &shown(credentials), deadline)?;
            if status != 0 {
                return Err(SocksFault::Credentials.into());
            }
        }
        (VERSION, ..) => return Err(SocksFault::Method.into()),
        _ => return Err(SocksFault::Version.into()),
    }
    let [version, reply, _, kind] = ask(transport, &request, deadline)?;
    if version != VERSION {
        return Err(SocksFault::Version.into());
    }
    if reply != 0 {
        return Err(SocksFault::Reply(reply).into());
    }
    // The address it connects from, and a port, are of no use here.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(receive::<1>(transport, deadline).map_err(at_proxy)?[0]),
        _ => return Err(SocksFault::Version.into()),
    };
    for _ in 0..length + 2 {
        receive::<1>(transport, deadline).map_err(at_proxy)?;
    }
    Ok(())
}

/// One step of the conversation.
fn ask<const BYTES: usize>(
    transport: &mut dyn Line,
    question: &[u8],
    deadline: Deadline,
) -> Result<[u8; BYTES], Fault> {
    send(transport, [question, &[]], deadline).map_err(at_proxy)?;
    receive(transport, deadline).map_err(at_proxy)
}

fn at_proxy(fault: Fault) -> Fault {
    Fault::Proxy(fault.into())
}

/// Both are at most as long as a byte can tell.
fn shown(credentials: &Credentials) -> Vec<u8> {
    let mut shown = vec![PASSWORD_VERSION];
    for part in [&credentials.user, &credentials.password] {
        shown.push(part.len() as u8);
        shown.extend_from_slice(part);
    }
    shown
}

fn request(target: Target<'_>) -> Result<Vec<u8>, Fault> {
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Address(SocketAddr::V4(address)) => {
            request.push(IPV4);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Address(SocketAddr::V6(address)) => {
            request.push(IPV6);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Name(name, port) => {
            let length = u8::try_from(name.len()).map_err(|_| Fault::from(SocksFault::LongName))?;
            request.extend_from_slice(&[NAME, length]);
            request.extend_from_slice(name.as_bytes());
            port
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    Ok(request)
}

impl From<SocksFault> for Fault {
    fn from(fault: SocksFault) -> Self {
        Self::Proxy(ProxyFault::Socks(fault))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_asked_for_by_address_or_by_name() {
        let by = |target| request(target).unwrap();
        let address = |text: &str| Target::Address(text.parse().unwrap());
        assert_eq!(by(address("192.0.2.1:4318")), [5, 1, 0, 1, 192, 0, 2, 1, 0x10, 0xde]);
        assert_eq!(by(address("[::1]:443")), [&[5, 1, 0, 4][..], &[0; 15], &[1, 1, 0xbb]].concat());
        assert_eq!(by(Target::Name("a.test", 80)), [&[5, 1, 0, 3, 6][..], b"a.test", &[0, 80]].concat());
        assert!(request(Target::Name(&"x".repeat(256), 80)).is_err());
    }

    #[test]
    fn a_password_goes_behind_its_user_each_with_its_length() {
        let credentials = Credentials { user: b"me".to_vec(), password: b"hun\xff".to_vec() };
        assert_eq!(shown(&credentials), b"\x01\x02me\x04hun\xff");
    }
}
