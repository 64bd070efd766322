//! Zstandard: less CPU and fewer bytes than gzip, if the receiver supports it.

use zstd::stream::raw::{Encoder, InBuffer, Operation as _, OutBuffer};

use super::output::{BODY_STEP, Output};
use crate::config::Effort;

/// Higher levels than 1 cost more CPU than their bytes are worth, unless the network is the bottleneck.
fn level(effort: Effort) -> i32 {
    match effort {
        Effort::Least => 1,
        Effort::Normal => 3,
        Effort::Most => 9,
    }
}

/// A reusable encoder.
pub(crate) struct Zstd(Encoder<'static>);

impl Zstd {
    /// Makes an encoder; `None` if there is no memory for the library's tables.
    pub(super) fn new(effort: Effort) -> Option<Self> {
        Encoder::new(level(effort)).ok().map(Self)
    }

    pub(super) fn begin(&mut self) {
        // After a panic in the middle of a body something may be left.
        self.0.reinit().expect("a session can be begun at any time");
    }

    pub(super) fn write(&mut self, piece: &[u8], body: &mut Output<'_>) {
        let mut input = InBuffer::around(piece);
        while input.pos() < piece.len() && self.step(body, |encoder, output| encoder.run(&mut input, output)).is_some()
        {
        }
    }

    pub(super) fn finish(&mut self, body: &mut Output<'_>) {
        while self.step(body, |encoder, output| encoder.finish(output, true)).is_some_and(|left| left > 0) {}
    }

    /// Runs one step; `None` if there is no memory for the output.
    fn step(
        &mut self,
        body: &mut Output<'_>,
        step: impl FnOnce(&mut Encoder<'static>, &mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<usize>,
    ) -> Option<usize> {
        if !body.make_room(BODY_STEP / 4) {
            return None;
        }
        let body = body.body();
        let written = body.len();
        let mut output = OutBuffer::around_pos(body, written);
        Some(step(&mut self.0, &mut output).expect("the parameters are those of the library"))
    }
}
