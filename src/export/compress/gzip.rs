//! Gzip, the default: deflate with our own header and trailer, so that its state can be used again.

use flate2::{Compress, Crc, FlushCompress, Status};

use super::BODY_STEP;
use crate::config::Effort;

/// Pieces shorter than this are gathered first: the encoder pays per call, and more than a copy costs.
const SHORT_PIECE: usize = 8 * 1024;

/// How much is gathered at a time; stays in the first-level cache.
const GATHER_BYTES: usize = 16 * 1024;

/// Level 6 takes three times the CPU of level 1 for a tenth fewer bytes on span records.
fn level(effort: Effort) -> flate2::Compression {
    flate2::Compression::new(match effort {
        Effort::Least => 1,
        Effort::Normal => 6,
        Effort::Most => 9,
    })
}

/// RFC 1952: magic, deflate, no flags, no time, fastest, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// A gzip encoder that can be used again: `GzEncoder` cannot be reset, the deflate state below it can.
pub(crate) struct Gzip {
    deflate: Compress,
    crc: Crc,
    gathered: Vec<u8>,
}

impl Gzip {
    pub(super) fn new(effort: Effort) -> Self {
        Self {
            deflate: Compress::new(level(effort), false),
            crc: Crc::new(),
            gathered: Vec::with_capacity(GATHER_BYTES + SHORT_PIECE),
        }
    }

    pub(super) fn begin(&mut self, body: &mut Vec<u8>) {
        // After a panic in the middle of a body something may be left.
        self.gathered.clear();
        self.deflate.reset();
        self.crc.reset();
        body.extend_from_slice(&GZIP_HEADER);
    }

    pub(super) fn write(&mut self, piece: &[u8], body: &mut Vec<u8>) {
        if piece.len() < SHORT_PIECE {
            self.gathered.extend_from_slice(piece);
            if self.gathered.len() < GATHER_BYTES {
                return;
            }
            self.write_gathered(body);
        } else {
            self.write_at_once(piece, body);
        }
    }

    /// Compresses `piece` from where it is, however short.
    pub(super) fn write_at_once(&mut self, piece: &[u8], body: &mut Vec<u8>) {
        self.write_gathered(body);
        self.deflate(piece, FlushCompress::None, body);
    }

    fn write_gathered(&mut self, body: &mut Vec<u8>) {
        let gathered = std::mem::take(&mut self.gathered);
        self.deflate(&gathered, FlushCompress::None, body);
        self.gathered = gathered;
        self.gathered.clear();
    }

    pub(super) fn finish(&mut self, body: &mut Vec<u8>) {
        self.write_gathered(body);
        self.deflate(&[], FlushCompress::Finish, body);
        body.extend_from_slice(&self.crc.sum().to_le_bytes());
        body.extend_from_slice(&self.crc.amount().to_le_bytes());
    }

    fn deflate(&mut self, mut input: &[u8], flush: FlushCompress, body: &mut Vec<u8>) {
        self.crc.update(input);
        loop {
            if body.capacity() - body.len() < BODY_STEP / 4 {
                // In steps of a quarter: a buffer that doubles holds up to twice what the body needs.
                body.reserve_exact(BODY_STEP.max(body.len() / 4));
            }
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(input, body, flush).expect("the stream is never finished twice");
            input = &input[(self.deflate.total_in() - before) as usize..];
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty(),
            };
            if done {
                return;
            }
        }
    }
}
