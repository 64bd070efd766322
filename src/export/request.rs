//! A batch on its way: its body, and its halves where it is too large.

pub(super) mod body;
pub(super) mod split;
