//! Prefix codes (RFC 1951, section 3.2.2): how many bits each symbol takes, and which.

/// No code of a block is longer, though up to 15 bits are allowed: it costs next to nothing, and four literals at a
/// time need no look at how much room there is.
pub(super) const LONGEST: usize = 12;

/// How many codes there are of each length.
type Counts = [u16; 16];

/// How many bits the code of each symbol takes, `longest` at most. Frequencies are greater than 0, and less than 2²³.
pub(super) fn lengths<const N: usize>(frequencies: &[u32; N], longest: usize) -> [u8; N] {
    // The rarest first: frequencies, and the symbols below them.
    let mut sorted = [0; N];
    for (symbol, (key, frequency)) in sorted.iter_mut().zip(frequencies).enumerate() {
        *key = frequency << 9 | symbol as u32;
    }
    sorted.sort_unstable();
    let mut counts = counts(sorted.map(|key| key >> 9), longest);
    shorten(&mut counts, longest);
    let mut lengths = [0; N];
    let mut rarest = sorted.iter();
    for len in (1..=longest).rev() {
        for key in rarest.by_ref().take(counts[len].into()) {
            lengths[(key & 511) as usize] = len as u8;
        }
    }
    lengths
}

/// How many codes there would be of each length in the best of codes; those longer than `longest` count as such.
fn counts<const N: usize>(mut nodes: [u32; N], longest: usize) -> Counts {
    // After Moffat and Katajainen: the sorted frequencies become the inner nodes of the tree in place, each of them
    // first its weight, then its parent, then its depth.
    let (mut leaf, mut inner) = (0, 0);
    for next in 0..N - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf >= N || (inner < next && nodes[inner] < nodes[leaf]) {
                weight += std::mem::replace(&mut nodes[inner], next as u32);
                inner += 1;
            } else {
                weight += nodes[leaf];
                leaf += 1;
            }
        }
        nodes[next] = weight;
    }
    nodes[N - 2] = 0;
    for at in (0..N - 2).rev() {
        nodes[at] = nodes[nodes[at] as usize] + 1;
    }
    // From the root down: what is no inner node at a depth is a leaf.
    let mut counts = Counts::default();
    let (mut places, mut depth, mut left) = (1, 0, N - 1);
    while places > 0 {
        let before = left;
        while left > 0 && nodes[left - 1] as usize == depth {
            left -= 1;
        }
        let inner = before - left;
        counts[depth.min(longest)] += (places - inner) as u16;
        places = 2 * inner;
        depth += 1;
    }
    counts
}

/// Makes a code of lengths that were cut to `longest`, some of which no longer find a place.
fn shorten(counts: &mut Counts, longest: usize) {
    let places = |(len, count): (usize, &u16)| usize::from(*count) << (longest - len);
    let mut taken: usize = counts[..=longest].iter().enumerate().skip(1).map(places).sum();
    while taken > 1 << longest {
        let Some(len) = (1..longest).rev().find(|len| counts[*len] > 0) else { return };
        // One of the longest codes moves beside a shorter one, which grows by a bit.
        counts[longest] -= 1;
        counts[len] -= 1;
        counts[len + 1] += 2;
        taken -= 1;
    }
}

/// The code of each symbol, its first bit the lowest. Symbols of no bits have none.
pub(super) const fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut counts = [0_u16; 16];
    let mut symbol = 0;
    while symbol < N {
        counts[(lengths[symbol] & 15) as usize] += 1;
        symbol += 1;
    }
    counts[0] = 0;
    let mut next = [0_u16; 16];
    let mut len = 1;
    while len < 16 {
        next[len] = (next[len - 1] + counts[len - 1]) << 1;
        len += 1;
    }
    let mut codes = [0; N];
    let mut symbol = 0;
    while symbol < N {
        let len = (lengths[symbol] & 15) as usize;
        if len > 0 {
            codes[symbol] = next[len].reverse_bits() >> (16 - len);
            next[len] += 1;
        }
        symbol += 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The share of all places that codes of these lengths take, in units of 2⁻¹⁵.
    fn taken(lengths: &[u8]) -> u32 {
        lengths.iter().filter(|len| **len > 0).map(|len| 1 << (15 - len)).sum()
    }

    #[test]
    fn the_codes_are_those_of_the_example_in_the_specification() {
        // RFC 1951, section 3.2.2.
        let codes = codes(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let expected = ["010", "011", "100", "101", "110", "00", "1110", "1111"];
        for (code, expected) in codes.into_iter().zip(expected) {
            let bits: String = (0..expected.len()).map(|bit| if code >> bit & 1 == 1 { '1' } else { '0' }).collect();
            assert_eq!(bits, expected);
        }
    }

    #[test]
    fn powers_of_two_get_as_many_bits_as_they_are_rare() {
        assert_eq!(lengths(&[1, 1, 2, 4, 8, 16], LONGEST), [5, 5, 4, 3, 2, 1]);
        assert_eq!(lengths(&[7, 7, 7, 7], LONGEST), [2, 2, 2, 2]);
        assert_eq!(lengths(&[1, 1_000_000], LONGEST), [1, 1]);
    }

    #[test]
    fn a_code_that_would_be_too_long_is_made_shorter_where_it_costs_least() {
        // Fibonacci's numbers make the longest codes there are.
        let mut fibonacci = [1_u32; 30];
        (2..30).for_each(|at| fibonacci[at] = fibonacci[at - 1] + fibonacci[at - 2]);
        for longest in [5, 7, LONGEST, 15] {
            let lengths = lengths(&fibonacci, longest);
            assert_eq!(lengths.iter().max(), Some(&(longest as u8)));
            assert!(lengths.is_sorted_by(|one, other| one >= other), "{lengths:?}");
            assert_eq!(taken(&lengths), 1 << 15, "{lengths:?}");
        }
    }

    proptest! {
        #[test]
        fn every_symbol_has_a_code_and_all_places_are_taken(
            frequencies in prop::collection::vec(prop_oneof![Just(1_u32), 1..10_u32, 1..100_000_u32], 286),
            longest in 9..=15_usize,
        ) {
            let frequencies: [u32; 286] = frequencies.try_into().unwrap();
            let lengths = lengths(&frequencies, longest);
            prop_assert!(lengths.iter().all(|len| (1..=longest).contains(&usize::from(*len))));
            prop_assert_eq!(taken(&lengths), 1 << 15);
            for (one, len) in frequencies.iter().zip(lengths) {
                for (other, shorter) in frequencies.iter().zip(lengths) {
                    prop_assert!(one >= other || len >= shorter, "what is rarer takes no fewer bits");
                }
            }
        }
    }
}
