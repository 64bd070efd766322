//! The codes of a block: how they are looked up, their cost, and how they are written.

use super::{
    bits::{Cursor, Stage},
    huffman::{self, LONGEST},
    sequences::Counts,
    symbols::{
        DISTANCE_RANGES, DISTANCES, END, LENGTH_RANGES, LENGTH_SYMBOLS, LENGTHS, LITERALS, MATCH_LENGTHS, MIN_MATCH,
        USED_LITERALS,
    },
};

/// The order in which the lengths of the code for lengths are sent.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The symbol that repeats the length before it, 3 to 6 times.
const REPEAT: usize = 16;
/// The longest code for lengths.
const LONGEST_FOR_LENGTHS: usize = 7;

/// How many bits the code of each symbol takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lengths {
    pub(super) literals: [u8; LITERALS],
    pub(super) distances: [u8; DISTANCES],
}

/// A code for every symbol.
pub(super) struct Code {
    lengths: Lengths,
    literals: [u16; LITERALS],
    /// The code of a length with its extra bits, above the number of all these bits in the lowest byte.
    matches: [u32; MATCH_LENGTHS],
    distances: [Distance; 32],
}

/// The code of a symbol for distances, and the values derived from it.
#[derive(Clone, Copy)]
struct Distance {
    code: u16,
    base: u16,
    code_len: u8,
    /// With the extra bits.
    len: u8,
}

impl Code {
    pub(super) const fn new(lengths: Lengths) -> Self {
        let literals = huffman::codes(&lengths.literals);
        let mut matches = [0; MATCH_LENGTHS];
        let mut at = 0;
        while at < MATCH_LENGTHS {
            let symbol = LENGTH_SYMBOLS[at] as usize;
            let range = LENGTH_RANGES[symbol];
            let code_len = lengths.literals[LENGTHS + symbol];
            let extra = (at + MIN_MATCH) as u32 - range.base as u32;
            let bits = literals[LENGTHS + symbol] as u32 | extra << code_len;
            matches[at] = bits << 8 | (code_len + range.extra) as u32;
            at += 1;
        }
        let codes = huffman::codes(&lengths.distances);
        let mut distances = [Distance { code: 0, base: 0, code_len: 0, len: 0 }; 32];
        let mut symbol = 0;
        while symbol < DISTANCES {
            let (range, code_len) = (DISTANCE_RANGES[symbol], lengths.distances[symbol]);
            let len = code_len + range.extra;
            distances[symbol] = Distance { code: codes[symbol], base: range.base, code_len, len };
            symbol += 1;
        }
        Self { lengths, literals, matches, distances }
    }

    /// A code that fits the counts. It has a code for every symbol, because more may come.
    pub(super) fn fitted(counts: &Counts) -> Self {
        // A symbol that does not occur counts a quarter.
        let weigh = |count: &u32| 4 * count + 1;
        let literals: [u32; USED_LITERALS] = std::array::from_fn(|symbol| weigh(&counts.literals[symbol]));
        let distances: [u32; DISTANCES] = std::array::from_fn(|symbol| weigh(&counts.distances[symbol]));
        let mut lengths = Lengths { literals: [0; LITERALS], distances: huffman::lengths(&distances, LONGEST) };
        lengths.literals[..USED_LITERALS].copy_from_slice(&huffman::lengths(&literals, LONGEST));
        Self::new(lengths)
    }

    /// The code of a literal, and its length.
    #[inline(always)]
    pub(super) fn literal(&self, byte: u8) -> (u64, u32) {
        let symbol = usize::from(byte);
        (self.literals[symbol].into(), self.lengths.literals[symbol].into())
    }

    /// The code of a length less [`MIN_MATCH`] with its extra bits, and how many bits that are.
    #[inline(always)]
    pub(super) fn length(&self, more: usize) -> (u64, u32) {
        let entry = self.matches[more & (MATCH_LENGTHS - 1)];
        ((entry >> 8).into(), entry & 0xff)
    }

    /// The code of a distance with its extra bits, and how many bits that are.
    #[inline(always)]
    pub(super) fn distance(&self, symbol: usize, distance: usize) -> (u64, u32) {
        let Distance { code, base, code_len, len } = self.distances[symbol & 31];
        let extra = (distance as u64).wrapping_sub(base.into());
        (u64::from(code) | extra << (code_len & 63), len.into())
    }

    /// How many bits the counted symbols take in this code, without the header.
    pub(super) fn cost(&self, counts: &Counts) -> usize {
        let sum = |counts: &[u32], lengths: &[u8]| -> u32 {
            counts.iter().zip(lengths).map(|(count, len)| count * u32::from(*len)).sum()
        };
        let codes = sum(&counts.literals, &self.lengths.literals) + sum(&counts.distances, &self.lengths.distances);
        codes as usize + counts.extra
    }

    /// Ends a block.
    pub(super) fn write_end(&self, cursor: &mut Cursor, stage: &mut Stage) {
        cursor.put(self.literals[END].into(), self.lengths.literals[END].into());
        cursor.flush(stage);
    }

    /// How the code is sent (RFC 1951, section 3.2.7).
    pub(super) fn header(&self) -> Header {
        let lengths = self.lengths.literals[..USED_LITERALS].iter().chain(&self.lengths.distances);
        Header::new(std::array::from_fn({
            let mut lengths = lengths.copied();
            move |_| lengths.next().unwrap_or_default()
        }))
    }
}

/// A code in the form that begins a block, after the three bits that announce it.
pub(super) struct Header {
    /// Bits and how many they are, 16 at most.
    fields: [(u16, u8); Self::MOST],
    len: usize,
    bits: usize,
}

impl Header {
    /// Three counts, the lengths of the code for lengths, and the lengths.
    const MOST: usize = 3 + ORDER.len() + USED_LITERALS + DISTANCES;

    fn new(lengths: [u8; USED_LITERALS + DISTANCES]) -> Self {
        // A symbol for each length, and what follows it. All codes are there: zeros are not repeated.
        let mut symbols = [(0_u8, 0_u16); USED_LITERALS + DISTANCES];
        let mut count = 0;
        let mut counts = [0_u32; ORDER.len()];
        for run in lengths.chunk_by(|one, other| one == other) {
            let (mut left, len) = (run.len(), run[0]);
            let mut push = |symbol: u8, extra: usize| {
                symbols[count] = (symbol, extra as u16);
                counts[usize::from(symbol)] += 1;
                count += 1;
            };
            push(len, 0);
            left -= 1;
            while left > 0 {
                let repeated = if left < 3 { 1 } else { left.min(6) };
                if repeated == 1 {
                    push(len, 0)
                } else {
                    push(REPEAT as u8, repeated - 3)
                }
                left -= repeated;
            }
        }
        let code_lengths = huffman::lengths(&counts.map(|count| 8 * count + 1), LONGEST_FOR_LENGTHS);
        let codes = huffman::codes(&code_lengths);
        let mut header = Self { fields: [(0, 0); Self::MOST], len: 0, bits: 0 };
        header.push((USED_LITERALS - LENGTHS) as u16, 5);
        header.push((DISTANCES - 1) as u16, 5);
        header.push((ORDER.len() - 4) as u16, 4);
        ORDER.iter().for_each(|symbol| header.push(code_lengths[*symbol].into(), 3));
        for (symbol, extra) in &symbols[..count] {
            let symbol = usize::from(*symbol);
            let extra_len = if symbol == REPEAT { 2 } else { 0 };
            header.push(codes[symbol] | extra << code_lengths[symbol], code_lengths[symbol] + extra_len);
        }
        header
    }

    fn push(&mut self, bits: u16, count: u8) {
        self.fields[self.len] = (bits, count);
        self.len += 1;
        self.bits += usize::from(count);
    }

    /// How many bits it takes.
    pub(super) fn bits(&self) -> usize {
        self.bits
    }

    pub(super) fn write(&self, cursor: &mut Cursor, stage: &mut Stage) {
        for (bits, count) in &self.fields[..self.len] {
            cursor.put((*bits).into(), (*count).into());
            cursor.flush(stage);
        }
    }
}
