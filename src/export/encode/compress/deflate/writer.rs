//! Sequences as the bits of a block.

use super::{
    bits::{Cursor, Stage},
    code::Code,
    sequences::Sink,
    symbols::{MIN_MATCH, distance_symbol},
    window::SlidingWindow,
};

/// Writes sequences with a code, as they come.
pub(super) struct Writer<'w> {
    pub(super) code: &'w Code,
    pub(super) stage: &'w mut Stage,
    pub(super) cursor: Cursor,
}

impl Writer<'_> {
    /// Up to four literals, from the lowest byte on: 48 bits at most.
    #[inline(always)]
    fn put_literals(&mut self, mut bytes: u32, count: usize) {
        for _ in 0..count {
            let (code, len) = self.code.literal(bytes as u8);
            self.cursor.put(code, len);
            bytes >>= 8;
        }
    }

    /// Literals, after which there is room for 44 bits.
    #[inline(always)]
    fn literals(&mut self, window: &SlidingWindow, mut from: usize, to: usize) {
        while to - from >= 4 {
            self.put_literals(window.word(from) as u32, 4);
            self.cursor.flush(self.stage);
            from += 4;
        }
        self.put_literals(window.word(from) as u32, to - from);
        if to - from > 1 {
            self.cursor.flush(self.stage);
        }
    }
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn sequence(&mut self, window: &SlidingWindow, from: usize, to: usize, len: usize, distance: usize) {
        self.literals(window, from, to);
        // 42 bits at most: two codes of 12, and 5 and 13 extra bits.
        let (bits, count) = self.code.length(len.wrapping_sub(MIN_MATCH));
        self.cursor.put(bits, count);
        let (bits, count) = self.code.distance(distance_symbol(distance), distance);
        self.cursor.put(bits, count);
        self.cursor.flush(self.stage);
    }

    fn rest(&mut self, window: &SlidingWindow, from: usize, to: usize) {
        self.literals(window, from, to);
        self.cursor.flush(self.stage);
    }
}
