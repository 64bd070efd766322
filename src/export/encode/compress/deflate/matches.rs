//! Matches: parses a chunk into literals and matches, greedily and in one pass.
//!
//! Span records follow each other in one layout, so a match mostly goes on at the distance of the last one, after a few
//! bytes that differ: ids, times, numbers. One comparison of 64 bytes shows where, and how far. Only then a small table
//! is asked for the one place it knows for the next four bytes, to find ids that were seen before and records of other
//! kinds. Ids and times are skipped in their fields. None of these guesses has to be right: every match is verified by
//! comparing bytes.

use super::{
    sequences::Sink,
    symbols::{MAX_MATCH, MIN_MATCH},
    window::SlidingWindow,
};
use crate::capture::RECORD_HEAD;

/// Bits of a hash. The table stays in the first-level cache with everything else; one of twice the size finds half a
/// percent more and takes longer.
const HASH_BITS: u32 = 11;

/// After this many bytes that differ, the last distance is given up for the moment.
const GAP: usize = 20;

/// If fewer bytes than this are known to match or not, they are compared again.
const KNOWN: usize = 24;

/// A match in another record has to be this many bytes longer to be worth its distance.
const FARTHER: usize = 4;

/// Distances beyond cost enough bits to look for a nearer place.
const FAR: usize = 4096;

/// After two to the power of this many places without a match every second one is skipped, after the same number again
/// two of three, and so on: input without matches takes little time.
const PATIENCE: u32 = 6;

/// Tag and length of `Span.trace_id`, as they end before the id.
const TRACE_ID: u16 = u16::from_le_bytes([0x0a, 16]);
/// From the trace id to the span id.
const TRACE_ID_BYTES: usize = 18;
/// Tag and length of `Span.span_id`.
const SPAN_ID: u16 = u16::from_le_bytes([0x12, 8]);
const SPAN_ID_BYTES: usize = 8;
/// The tag of `Span.flags`, which follows the span id in every record: links have no flags there.
const FLAGS: u16 = u16::from_le_bytes([0x85, 0x01]);
/// From the span id to the name: id, flags, kind and both times. It is the same in all records.
const HEAD_BYTES: usize = 34;

// The bytes that are skipped are those that records begin with.
const _: () = {
    let head = RECORD_HEAD;
    assert!(TRACE_ID == u16::from_le_bytes([head[0], head[1]]));
    assert!(SPAN_ID == u16::from_le_bytes([head[TRACE_ID_BYTES], head[TRACE_ID_BYTES + 1]]));
    let span_id = TRACE_ID_BYTES + 2;
    assert!(FLAGS == u16::from_le_bytes([head[span_id + SPAN_ID_BYTES], head[span_id + SPAN_ID_BYTES + 1]]));
    assert!(HEAD_BYTES == head.len() - span_id);
};

/// Closer to the end of a chunk, fields are not told apart.
const MARGIN: usize = 64;

/// What is remembered from chunk to chunk. Places are counted modulo 65536, which is beyond the reach of matches:
/// places that are too old cannot be told apart, and are compared like others.
pub(super) struct Matches {
    /// Where four bytes of each hash stood last, if that was where something began.
    places: Box<[u16; 1 << HASH_BITS]>,
    /// The distance at which the input is expected to go on.
    last: usize,
    /// Where the last span id stood.
    id: u16,
}

#[inline(always)]
fn hash(word: u64) -> usize {
    ((word as u32).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// The first run of at least three bits from the lowest on: bits before it, 64 if there is none, and bits in it.
#[inline(always)]
fn first_run(bits: u64) -> (usize, usize) {
    let before = (bits & bits >> 1 & bits >> 2).trailing_zeros();
    let run = (!bits.wrapping_shr(before)).trailing_zeros();
    (before as usize, run as usize)
}

impl Matches {
    pub(super) fn new() -> Self {
        Self { places: Box::new([0; 1 << HASH_BITS]), last: 1, id: 0 }
    }

    /// Clears the memory, so that a body depends on its own bytes only.
    pub(super) fn clear(&mut self) {
        self.places.fill(0);
        (self.last, self.id) = (1, 0);
    }

    /// Parses the waiting bytes of the window. Parsing the same chunk again gives an equally good result, not always
    /// the same.
    #[inline(never)]
    pub(super) fn parse(&mut self, window: &SlidingWindow, sink: &mut impl Sink) {
        let (from, to) = window.bounds();
        // The first byte of a body has nothing before it.
        let at = from + usize::from(window.reach(from) == 0);
        // Of a chunk that is parsed again, the end was seen already: what was found there may be out of reach here.
        let last = if self.last <= window.reach(at) { self.last } else { 1 };
        let mut parser = Parser { window, sink, places: &mut self.places, at, literals: from, to, last };
        parser.run(&mut self.id);
        self.last = parser.last;
    }
}

/// A chunk while it is parsed.
struct Parser<'p, S> {
    window: &'p SlidingWindow,
    sink: &'p mut S,
    places: &'p mut [u16; 1 << HASH_BITS],
    at: usize,
    /// Nothing was found from here to `at`.
    literals: usize,
    to: usize,
    last: usize,
}

impl<S: Sink> Parser<'_, S> {
    #[inline(always)]
    fn run(&mut self, id: &mut u16) {
        let window = self.window;
        // Places from here on are literals: eight bytes are read at once.
        let stop = self.to.saturating_sub(8);
        // Which bytes from `at` on match at the last distance, and up to where that is known.
        let (mut same, mut known) = (0_u64, 0);
        let mut misses = 0_u32;
        while self.at < stop {
            let at = self.at;
            let word = window.word(at);
            let distance = self.visit(at, word);
            let field = window.word(at.wrapping_sub(2)) as u16;
            if field == SPAN_ID && at + MARGIN < stop && window.word(at + SPAN_ID_BYTES) as u16 == FLAGS {
                let home = (at as u16).wrapping_sub(std::mem::replace(id, at as u16)).into();
                self.pass_head(word, distance, home);
                (known, misses) = (0, 0);
                continue;
            }
            if at + KNOWN > known {
                same = window.same(at, at - self.last);
                known = at + 64;
            }
            let is_hit = self.stands(word, at, distance);
            let (gap, mut len) = first_run(same);
            let mut start = at + gap;
            if start + len == known {
                len += window.common(known, known - self.last);
            }
            let mut chosen = self.last;
            if is_hit {
                let other = window.common(at, at - distance);
                let is_better = gap > GAP || other > gap + len + FARTHER;
                if is_better || is_worth_it(other.min(gap), distance) {
                    if is_better {
                        (self.last, known) = (distance, 0);
                    }
                    (start, len, chosen) = (at, other, distance);
                    while start > self.literals
                        && len < MAX_MATCH
                        && distance < window.reach(start)
                        && window.byte(start - 1) == window.byte(start - 1 - distance)
                    {
                        start -= 1;
                        len += 1;
                    }
                }
            } else if gap > GAP {
                if field == TRACE_ID && at + MARGIN < stop {
                    self.at += TRACE_ID_BYTES;
                    known = 0;
                } else {
                    self.skip(start.min(known) - GAP, stop, &mut misses);
                    same = same.wrapping_shr((self.at - at) as u32);
                }
                continue;
            }
            if start > at {
                let word = window.word(start);
                let near = self.visit(start, word);
                if self.last > FAR && near < self.last / 2 && self.stands(word, start, near) {
                    let other = window.common(start, start - near);
                    if other >= len {
                        (len, chosen) = (other, near);
                        (self.last, known) = (near, 0);
                    }
                }
            }
            len = len.min(self.to.saturating_sub(start)).min(MAX_MATCH);
            if len < MIN_MATCH {
                break;
            }
            // A shift by more than there is means nothing, and then `same` is not known either.
            same = same.wrapping_shr((start + len - at) as u32);
            self.take(start, len, chosen);
            misses = 0;
        }
        self.sink.rest(window, self.literals, self.to);
    }

    /// Skips to the next place that is worth a look, `until` at most: where an id begins, or its first bytes are known.
    #[inline(always)]
    fn skip(&mut self, until: usize, stop: usize, misses: &mut u32) {
        let until = until.min(stop);
        loop {
            *misses += 1;
            self.at += 1 + (*misses >> PATIENCE) as usize;
            if self.at >= until {
                return;
            }
            let bytes = self.window.word(self.at.wrapping_sub(2));
            let (field, word) = (bytes as u16, bytes >> 16);
            let place = &mut self.places[hash(word)];
            let distance = usize::from((self.at as u16).wrapping_sub(*place));
            let is_hit = self.window.word(self.at.wrapping_sub(distance)) as u32 == word as u32
                && distance.wrapping_sub(1) < self.window.reach(self.at);
            if is_hit || field == SPAN_ID || field == TRACE_ID {
                return;
            }
            *place = self.at as u16;
        }
    }

    /// From a span id to the name: the id may be known as that of a parent, the rest is as in the record before.
    #[inline(always)]
    fn pass_head(&mut self, word: u64, distance: usize, home: usize) {
        let window = self.window;
        let end = self.at + HEAD_BYTES;
        let home = if home.wrapping_sub(1) < window.reach(self.at) { home } else { self.last };
        let mut same = window.same(self.at, self.at - home);
        if self.stands(word, self.at, distance) && window.word(self.at - distance) == word {
            self.take(self.at, SPAN_ID_BYTES, distance);
            same >>= SPAN_ID_BYTES;
        } else {
            let flags = self.at + SPAN_ID_BYTES;
            self.visit(flags, window.word(flags));
        }
        while self.at < end {
            let (gap, mut len) = first_run(same);
            let start = self.at + gap;
            if start + MIN_MATCH > end {
                self.at = end;
                return;
            }
            if start + len >= end {
                // The records may go on alike, unless the next bytes are expected elsewhere.
                len = if home == self.last { window.common(start, start - home) } else { end - start };
                len = len.min(self.to - start).min(MAX_MATCH);
            }
            self.take(start, len, home);
            same = same.wrapping_shr((gap + len) as u32);
        }
    }

    /// Notes that `word` stands at `at`, and returns how far back its hash last stood: anything below 65536.
    #[inline(always)]
    fn visit(&mut self, at: usize, word: u64) -> usize {
        let place = std::mem::replace(&mut self.places[hash(word)], at as u16);
        (at as u16).wrapping_sub(place).into()
    }

    /// Whether the first four bytes of `word`, which stands at `at`, stood there before at this distance.
    #[inline(always)]
    fn stands(&self, word: u64, at: usize, distance: usize) -> bool {
        self.window.word(at.wrapping_sub(distance)) as u32 == word as u32
            && distance.wrapping_sub(1) < self.window.reach(at)
    }

    /// Hands on the pending literals and a match.
    #[inline(always)]
    fn take(&mut self, start: usize, len: usize, distance: usize) {
        debug_assert!((1..=self.window.reach(start)).contains(&distance));
        debug_assert!(self.window.common(start, start - distance) >= len);
        self.sink.sequence(self.window, self.literals, start, len, distance);
        self.at = start + len;
        self.literals = self.at;
    }
}

/// Whether a match of `len` bytes is cheaper than literals: 8 bits each, against two codes and extra bits.
#[inline(always)]
fn is_worth_it(len: usize, distance: usize) -> bool {
    8 * len > 16 + distance.ilog2() as usize
}
