//! Zstandard: less CPU and fewer bytes than gzip, where the receiver takes it.

use zstd::stream::raw::{Encoder, InBuffer, Operation as _, OutBuffer};

use super::{BODY_STEP, make_room};
use crate::config::Effort;

/// Higher levels than 1 take more CPU than they save bytes, unless bytes are what is scarce.
fn level(effort: Effort) -> i32 {
    match effort {
        Effort::Least => 1,
        Effort::Normal => 3,
        Effort::Most => 9,
    }
}

/// An encoder that can be used again.
pub(crate) struct Zstd(Encoder<'static>);

impl Zstd {
    /// None where the library has no memory for its tables.
    pub(super) fn new(effort: Effort) -> Option<Self> {
        Encoder::new(level(effort)).ok().map(Self)
    }

    pub(super) fn begin(&mut self) {
        // After a panic in the middle of a body something may be left.
        self.0.reinit().expect("a session can be begun at any time");
    }

    pub(super) fn write(&mut self, piece: &[u8], body: &mut Vec<u8>) {
        let mut input = InBuffer::around(piece);
        while input.pos() < piece.len() {
            self.step(body, |encoder, output| encoder.run(&mut input, output));
        }
    }

    pub(super) fn finish(&mut self, body: &mut Vec<u8>) {
        while self.step(body, |encoder, output| encoder.finish(output, true)) > 0 {}
    }

    fn step(
        &mut self,
        body: &mut Vec<u8>,
        step: impl FnOnce(&mut Encoder<'static>, &mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<usize>,
    ) -> usize {
        make_room(body, BODY_STEP / 4);
        let written = body.len();
        let mut output = OutBuffer::around_pos(body, written);
        step(&mut self.0, &mut output).expect("the parameters are those of the library")
    }
}
