//! Zstandard: less CPU and fewer bytes than gzip, if the receiver supports it.

use std::io;

use zstd::{
    stream::raw::{Encoder, InBuffer, Operation as _, OutBuffer},
    zstd_safe::{CParameter, WriteBuf},
};

use super::output::{BODY_STEP, Output, Target};
use crate::config::Effort;

/// The window is 32 KiB, as gzip's. Of spans what is alike stands close: their bodies are 1.3 % larger than with any larger
/// window, and an encoder takes 0.3 MiB instead of 1.1.
const WINDOW_LOG: u32 = 15;

/// Higher levels than 1 take more CPU than they save bytes, unless bytes are what is scarce.
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
        let mut encoder = Encoder::new(level(effort)).ok()?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG)).ok()?;
        Some(Self(encoder))
    }

    /// Begins a body of `len` bytes before compression. Its frame says so: some decoders read no other, and the tables
    /// are no larger than it needs.
    pub(super) fn begin(&mut self, len: usize) {
        // After a panic in the middle of a body something may be left.
        self.0.reinit().expect("a session can be begun at any time");
        self.0.set_pledged_src_size(Some(len as u64)).expect("before the first byte");
    }

    pub(super) fn write(&mut self, piece: &[u8], body: &mut Output<'_>) {
        let mut input = InBuffer::around(piece);
        while input.pos() < piece.len() && self.step(body, Some(&mut input)).is_some() {}
    }

    pub(super) fn finish(&mut self, body: &mut Output<'_>) {
        while self.step(body, None).is_some_and(|left| left > 0) {}
    }

    /// Takes some of `input`, or ends the frame. None where there is no memory for what comes out.
    fn step(&mut self, body: &mut Output<'_>, input: Option<&mut InBuffer<'_>>) -> Option<usize> {
        if !body.make_room(BODY_STEP / 4) {
            return None;
        }
        let stepped = match &mut body.target {
            Target::Heap(body) => {
                let written = body.len();
                self.run(input, &mut OutBuffer::around_pos(*body, written))
            }
            Target::Pages(pages) => {
                let mut output = OutBuffer::around(pages.free());
                let stepped = self.run(input, &mut output);
                let written = output.pos();
                pages.advance(written);
                stepped
            }
        };
        if stepped.is_err() {
            // It took what it was not told of, or found no memory for its tables.
            body.cut();
        }
        stepped.ok()
    }

    fn run<C: WriteBuf + ?Sized>(
        &mut self,
        input: Option<&mut InBuffer<'_>>,
        output: &mut OutBuffer<'_, C>,
    ) -> io::Result<usize> {
        match input {
            Some(input) => self.0.run(input, output),
            None => self.0.finish(output, true),
        }
    }
}
