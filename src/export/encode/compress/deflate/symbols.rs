//! Lengths and distances as symbols with extra bits (RFC 1951, section 3.2.5).

/// Literals, the end of a block, lengths, and two symbols that never occur but have a place in the fixed code.
pub(super) const LITERALS: usize = 288;
/// How many of them can occur.
pub(super) const USED_LITERALS: usize = 286;
pub(super) const DISTANCES: usize = 30;
/// The end of a block.
pub(super) const END: usize = 256;
/// The symbol of the shortest length.
pub(super) const LENGTHS: usize = 257;

pub(super) const MIN_MATCH: usize = 3;
pub(super) const MAX_MATCH: usize = 258;
/// How many lengths there are.
pub(super) const MATCH_LENGTHS: usize = MAX_MATCH - MIN_MATCH + 1;
/// How far back a match may lie.
pub(super) const REACH: usize = 32 * 1024;

/// What a symbol stands for: its number of extra bits says how many values from `base` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) base: u16,
    pub(super) extra: u8,
}

/// The lengths of the symbols from [`LENGTHS`] on.
pub(super) const LENGTH_RANGES: [Range; USED_LITERALS - LENGTHS] = {
    let mut ranges = [Range { base: MAX_MATCH as u16, extra: 0 }; USED_LITERALS - LENGTHS];
    let mut base = MIN_MATCH as u16;
    let mut symbol = 0;
    // The last symbol is for the longest length alone.
    while symbol < ranges.len() - 1 {
        let extra = if symbol < 8 { 0 } else { symbol as u8 / 4 - 1 };
        ranges[symbol] = Range { base, extra };
        base += 1 << extra;
        symbol += 1;
    }
    ranges
};

/// The distances of the symbols.
pub(super) const DISTANCE_RANGES: [Range; DISTANCES] = {
    let mut ranges = [Range { base: 1, extra: 0 }; DISTANCES];
    let mut base = 1;
    let mut symbol = 0;
    while symbol < DISTANCES {
        let extra = if symbol < 4 { 0 } else { symbol as u8 / 2 - 1 };
        ranges[symbol] = Range { base, extra };
        base += 1 << extra;
        symbol += 1;
    }
    ranges
};

/// The symbol of each length from [`MIN_MATCH`] on, counted from [`LENGTHS`].
pub(super) const LENGTH_SYMBOLS: [u8; MATCH_LENGTHS] = {
    let mut symbols = [0; MATCH_LENGTHS];
    let mut symbol = 0;
    let mut at = 0;
    while at < MATCH_LENGTHS {
        while symbol + 1 < LENGTH_RANGES.len() && LENGTH_RANGES[symbol + 1].base as usize <= at + MIN_MATCH {
            symbol += 1;
        }
        symbols[at] = symbol as u8;
        at += 1;
    }
    symbols
};

/// The symbols of the distances up to 256, and then of every 128th from 1 on: longer ones differ in no less.
const DISTANCE_SYMBOLS: [u8; 512] = {
    let mut symbols = [0; 512];
    let mut at = 0;
    while at < symbols.len() {
        let distance = 1 + if at < 256 { at } else { (at - 256) * 128 };
        let mut symbol = DISTANCES - 1;
        while DISTANCE_RANGES[symbol].base as usize > distance {
            symbol -= 1;
        }
        symbols[at] = symbol as u8;
        at += 1;
    }
    symbols
};

/// The symbol of a length from [`MIN_MATCH`] to [`MAX_MATCH`].
pub(super) fn length_symbol(len: usize) -> usize {
    LENGTHS + usize::from(LENGTH_SYMBOLS[len.wrapping_sub(MIN_MATCH) & 0xff])
}

/// The symbol of a distance from 1 to [`REACH`].
#[inline(always)]
pub(super) fn distance_symbol(distance: usize) -> usize {
    let less = distance.wrapping_sub(1);
    usize::from(DISTANCE_SYMBOLS[if less < 256 { less } else { 256 + (less >> 7) } & 511])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: Range, value: usize) -> bool {
        (usize::from(range.base)..usize::from(range.base) + (1 << range.extra)).contains(&value)
    }

    #[test]
    fn every_length_and_every_distance_lies_in_the_range_of_its_symbol() {
        for len in MIN_MATCH..MAX_MATCH {
            assert!(contains(LENGTH_RANGES[length_symbol(len) - LENGTHS], len), "{len}");
        }
        for distance in 1..=REACH {
            assert!(contains(DISTANCE_RANGES[distance_symbol(distance)], distance), "{distance}");
        }
    }

    #[test]
    fn the_tables_are_those_of_the_specification() {
        // RFC 1951, section 3.2.5: some rows of each table, the first and the last among them.
        let lengths =
            [(3, 257, 0), (10, 264, 0), (11, 265, 1), (18, 268, 1), (131, 281, 5), (257, 284, 5), (258, 285, 0)];
        for (len, symbol, extra) in lengths {
            assert_eq!((length_symbol(len), LENGTH_RANGES[symbol - LENGTHS].extra), (symbol, extra), "{len}");
        }
        let distances =
            [(1, 0, 0), (4, 3, 0), (5, 4, 1), (257, 16, 7), (8192, 25, 11), (24_577, 29, 13), (32_768, 29, 13)];
        for (distance, symbol, extra) in distances {
            assert_eq!((distance_symbol(distance), DISTANCE_RANGES[symbol].extra), (symbol, extra), "{distance}");
        }
    }
}
