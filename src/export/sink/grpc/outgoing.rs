//! What is on its way out of a connection: small things that are written here, and pieces of a body that stay where they lie.
//! Pure.

use std::{collections::VecDeque, io::IoSlice, ops::Range};

/// The most parts that go out with one call of the system.
const MOST_PARTS: usize = 32;

/// Bytes to be sent, in their order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Heads of frames, and frames that are small.
    small: Vec<u8>,
    pieces: VecDeque<Piece>,
}

/// A run of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Of what was written here.
    Small(Range<usize>),
    /// Of the body.
    Body(Range<usize>),
}

impl Piece {
    fn range(&mut self) -> &mut Range<usize> {
        match self {
            Self::Small(range) | Self::Body(range) => range,
        }
    }
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Forgets what was not sent.
    pub(super) fn clear(&mut self) {
        self.small.clear();
        self.pieces.clear();
    }

    /// Has `write` append what is written here.
    pub(super) fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.pieces.is_empty() {
            self.small.clear();
        }
        let begin = self.small.len();
        let result = write(&mut self.small);
        let end = self.small.len();
        match self.pieces.back_mut() {
            Some(Piece::Small(range)) if range.end == begin => range.end = end,
            _ if begin < end => self.pieces.push_back(Piece::Small(begin..end)),
            _ => {}
        }
        result
    }

    /// Appends a part of the body.
    pub(super) fn body(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.pieces.push_back(Piece::Body(range));
        }
    }

    /// The next bytes, as far as they go out at once, handed to `send`.
    pub(super) fn parts<R>(&self, body: &[u8], send: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut parts = [IoSlice::new(&[]); MOST_PARTS];
        let mut count = 0;
        for (part, piece) in parts.iter_mut().zip(&self.pieces) {
            *part = IoSlice::new(match piece {
                Piece::Small(range) => &self.small[range.clone()],
                Piece::Body(range) => &body[range.clone()],
            });
            count += 1;
        }
        send(&parts[..count])
    }

    /// So many bytes went out.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        while bytes > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let range = piece.range();
            let now = bytes.min(range.len());
            range.start += now;
            bytes -= now;
            if range.start == range.end {
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_go_out_in_their_order_however_many_are_taken_at_once(
            pieces in prop::collection::vec((any::<bool>(), 0_usize..50), 0..60),
            taken in prop::collection::vec(1_usize..70, 1..50),
        ) {
            let body: Vec<u8> = (0..=255).cycle().take(60 * 50).collect();
            let (mut outgoing, mut right, mut at) = (Outgoing::default(), Vec::new(), 0);
            for (is_small, length) in pieces {
                if is_small {
                    let text = vec![b's'; length];
                    outgoing.write(|small| small.extend_from_slice(&text));
                    right.extend(text);
                } else {
                    outgoing.body(at..at + length);
                    right.extend_from_slice(&body[at..at + length]);
                    at += length;
                }
            }
            let mut sent = Vec::new();
            for most in taken.into_iter().cycle() {
                if outgoing.is_empty() {
                    break;
                }
                let now = outgoing.parts(&body, |parts| {
                    let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                    all[..all.len().min(most)].to_vec()
                });
                outgoing.advance(now.len());
                sent.extend(now);
            }
            prop_assert_eq!(sent, right);
        }
    }
}
