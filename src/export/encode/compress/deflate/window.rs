//! The bytes that wait to be compressed, and those before them, where matches may lie.

use super::{
    same::{self, BLOCK},
    symbols::{MAX_MATCH, REACH},
};

/// The window moves by this much, so that places modulo 65536 stay the same.
const STRIDE: usize = 64 * 1024;
const SIZE: usize = 2 * STRIDE;

/// Reading a block from anywhere below `SIZE` ends below this; past the end there is older content.
const ROOM: usize = SIZE + COPIED;

/// Copies are made in pieces of this size, whose moves are inlined or vectorised at the library's leisure; beyond some
/// kilobytes it may choose string instructions, which take longer to start.
const COPIED: usize = 1024;

/// 128 KiB that are touched as they are needed: at least 32 KiB of history, and up to a chunk that waits.
pub(super) struct SlidingWindow {
    bytes: Box<[u8; ROOM]>,
    /// Where the body begins, or the rest of it that is kept.
    oldest: usize,
    /// Where the compressed part ends.
    done: usize,
    /// Where the waiting part ends.
    end: usize,
}

impl SlidingWindow {
    pub(super) fn new() -> Self {
        // Zeroed by the system, page by page: an array would be made on the stack first.
        let bytes = vec![0; ROOM].into_boxed_slice().try_into().expect("as long as that");
        Self { bytes, oldest: 0, done: 0, end: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.oldest, self.done, self.end) = (0, 0, 0);
    }

    /// Takes the beginning of `piece`, until `most` bytes wait, at most 16 KiB. Returns the rest.
    pub(super) fn fill<'p>(&mut self, piece: &'p [u8], most: usize) -> &'p [u8] {
        if self.end + most > SIZE {
            self.advance();
        }
        let (now, rest) = piece.split_at(piece.len().min(most - self.waiting().len()));
        let end = self.end + now.len();
        for (to, from) in self.bytes[self.end..end].chunks_mut(COPIED).zip(now.chunks(COPIED)) {
            to.copy_from_slice(from);
        }
        self.end = end;
        rest
    }

    /// Forgets the oldest 64 KiB; everything within reach stays.
    fn advance(&mut self) {
        debug_assert!(self.done >= STRIDE + REACH);
        for at in (STRIDE..self.end).step_by(COPIED) {
            self.bytes.copy_within(at..at + COPIED, at - STRIDE);
        }
        self.oldest = self.oldest.saturating_sub(STRIDE);
        self.done -= STRIDE;
        self.end -= STRIDE;
    }

    /// The waiting bytes.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.done..self.end]
    }

    /// Where the waiting bytes begin and end.
    pub(super) fn bounds(&self) -> (usize, usize) {
        (self.done, self.end)
    }

    /// Marks the waiting bytes as compressed.
    pub(super) fn pass(&mut self) {
        self.done = self.end;
    }

    /// How far back from `at` a match may lie.
    #[inline(always)]
    pub(super) fn reach(&self, at: usize) -> usize {
        REACH.min(at - self.oldest)
    }

    #[inline(always)]
    pub(super) fn slice(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[from..to]
    }

    /// The byte at `at`. Here and below, places are taken modulo the size of the window: places outside give
    /// meaningless bytes, and do no harm.
    #[inline(always)]
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes[at & (SIZE - 1)]
    }

    /// Eight bytes, the first the lowest.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u64 {
        let at = at & (SIZE - 1);
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Which of the bytes from both places on are equal: the first is the lowest bit.
    #[inline(always)]
    pub(super) fn same(&self, one: usize, other: usize) -> u64 {
        let [one, other] = [one & (SIZE - 1), other & (SIZE - 1)];
        same::same(
            self.bytes[one..one + BLOCK].try_into().expect("a block"),
            self.bytes[other..other + BLOCK].try_into().expect("a block"),
        )
    }

    /// How many bytes from both places on are equal. The count stops at, or a little beyond, the longest match.
    #[inline(always)]
    pub(super) fn common(&self, one: usize, other: usize) -> usize {
        let mut len = 0;
        while len < MAX_MATCH {
            let differs = !self.same(one + len, other + len);
            if differs != 0 {
                return len + differs.trailing_zeros() as usize;
            }
            len += BLOCK;
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 16 * 1024;

    #[test]
    fn whatever_the_pieces_what_is_within_reach_is_there() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [1, 1000, MOST - 1, MOST, MOST + 1, 1_000_000] {
            let mut window = SlidingWindow::new();
            let mut passed = 0;
            for mut piece in bytes.chunks(len) {
                loop {
                    let before = window.waiting().len();
                    let rest = window.fill(piece, MOST);
                    passed += window.waiting().len() - before;
                    let (from, to) = window.bounds();
                    assert!(to - from <= MOST && (rest.is_empty() || to - from == MOST));
                    assert_eq!(window.waiting(), &bytes[passed - (to - from)..passed]);
                    let reach = window.reach(from);
                    assert_eq!(reach, REACH.min(passed - (to - from)));
                    assert_eq!(window.slice(from - reach, to), &bytes[passed - (to - from) - reach..passed]);
                    if to - from == MOST {
                        window.pass();
                    }
                    piece = rest;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            assert_eq!(passed, bytes.len());
        }
    }

    #[test]
    fn what_two_places_have_in_common_is_counted_to_the_byte() {
        for len in [0, 1, 7, 8, 63, 64, 65, 128, 200, 257] {
            let mut window = SlidingWindow::new();
            let mut bytes = vec![7; 2000];
            (bytes[len], bytes[1000 + len]) = (1, 2);
            window.fill(&bytes, MOST);
            assert_eq!(window.common(0, 1000), len);
            assert_eq!(window.same(0, 1000), if len < 64 { !(1 << len) } else { !0 });
        }
    }
}
