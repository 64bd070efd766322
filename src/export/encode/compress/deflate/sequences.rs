//! What a chunk is parsed into: literals and matches, and how often each symbol is needed for them.

use super::{
    symbols::{DISTANCE_RANGES, DISTANCES, END, LENGTH_RANGES, LENGTHS, LITERALS, distance_symbol, length_symbol},
    window::SlidingWindow,
};

/// Takes a chunk in sequences, in order.
pub(super) trait Sink {
    /// The bytes of the window from `from` to `to` as literals, and then a match.
    fn sequence(&mut self, window: &SlidingWindow, from: usize, to: usize, len: usize, distance: usize);

    /// The rest of the chunk as literals.
    fn rest(&mut self, window: &SlidingWindow, from: usize, to: usize);
}

/// Some literals, and then a match; without a match at the end of a chunk.
#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    literals: u16,
    len: u16,
    distance: u16,
}

/// The most sequences of a chunk, and more: none but the last is shorter than the shortest match.
const MOST: usize = 8 * 1024;

/// Keeps the sequences of a chunk, so that a code can be fitted to them before they are written.
pub(super) struct Sequences {
    sequences: Box<[Sequence; MOST]>,
    count: usize,
}

impl Sequences {
    pub(super) fn new() -> Self {
        let sequences = vec![Sequence::default(); MOST].into_boxed_slice().try_into();
        Self { sequences: sequences.unwrap_or_else(|_| Box::new([Sequence::default(); MOST])), count: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Hands the sequences on, which stand from `from` on in the window.
    pub(super) fn replay(&self, window: &SlidingWindow, mut from: usize, sink: &mut impl Sink) {
        for sequence in &self.sequences[..self.count.min(MOST)] {
            let to = from + usize::from(sequence.literals);
            let len = usize::from(sequence.len);
            if len > 0 {
                sink.sequence(window, from, to, len, sequence.distance.into());
            } else {
                sink.rest(window, from, to);
            }
            from = to + len;
        }
    }
}

impl Sink for Sequences {
    #[inline(always)]
    fn sequence(&mut self, _: &SlidingWindow, from: usize, to: usize, len: usize, distance: usize) {
        let sequence = Sequence { literals: (to - from) as u16, len: len as u16, distance: distance as u16 };
        self.sequences[self.count & (MOST - 1)] = sequence;
        self.count += 1;
    }

    fn rest(&mut self, window: &SlidingWindow, from: usize, to: usize) {
        self.sequence(window, from, to, 0, 0);
    }
}

/// How often each symbol occurs, and all the extra bits.
pub(super) struct Counts {
    pub(super) literals: [u32; LITERALS],
    pub(super) distances: [u32; DISTANCES],
    pub(super) extra: usize,
}

impl Counts {
    pub(super) fn none() -> Self {
        Self { literals: [0; LITERALS], distances: [0; DISTANCES], extra: 0 }
    }

    pub(super) fn of(sequences: &Sequences, window: &SlidingWindow, from: usize) -> Self {
        let mut counts = Self::none();
        sequences.replay(window, from, &mut counts);
        counts.literals[END] += 1;
        counts
    }
}

impl Sink for Counts {
    fn sequence(&mut self, window: &SlidingWindow, from: usize, to: usize, len: usize, distance: usize) {
        self.rest(window, from, to);
        let (length, distance) = (length_symbol(len), distance_symbol(distance));
        self.literals[length] += 1;
        self.distances[distance] += 1;
        self.extra += usize::from(LENGTH_RANGES[length - LENGTHS].extra + DISTANCE_RANGES[distance].extra);
    }

    fn rest(&mut self, window: &SlidingWindow, from: usize, to: usize) {
        for literal in window.slice(from, to) {
            self.literals[usize::from(*literal)] += 1;
        }
    }
}
