//! HTTP/2 as bytes: frames and headers. Pure, and the same for both ends.

pub(crate) mod frame;
pub(crate) mod hpack;

#[cfg(test)]
mod tests;
