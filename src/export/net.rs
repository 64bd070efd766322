//! Networking: resolves names, asks proxies, opens sockets, agrees on TLS, and makes one HTTP/1.1 exchange over the
//! result. Nothing here knows what the bytes mean.

pub(super) mod buffers;
pub(super) mod circumstances;
pub(super) mod deadline;
mod detour;
pub(super) mod dial;
mod early;
pub(super) mod exchange;
pub(super) mod fault;
mod interface;
pub(super) mod line;
pub(super) mod permits;
pub(super) mod pool;
pub(super) mod proxy;
pub(super) mod request_head;
pub(super) mod resolver;
pub(super) mod response;
pub(super) mod socket;
mod socks;
pub(super) mod standing;
mod telling;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "net/no_tls.rs"]
mod tls;
pub(super) mod trial;

pub(crate) use socket::Carried;
