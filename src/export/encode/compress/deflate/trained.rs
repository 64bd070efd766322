//! Two codes that are built in: the specification's, and one for a few span records.

use super::{
    code::{Code, Lengths},
    symbols::DISTANCES,
};

/// The code that needs no header (RFC 1951, section 3.2.6): for bodies of a few hundred bytes.
pub(super) static FIXED: Code =
    Code::new(Lengths { literals: expanded(&[(8, 144), (9, 112), (7, 24), (8, 8)]), distances: [5; DISTANCES] });

/// The code for bodies too small for a code of their own. It is fitted to ten to a few hundred spans of web services,
/// batch jobs and deep call trees, in runs of equal lengths, so that its header is short: 45 bytes, where a fitted code
/// takes 110.
pub(super) static TRAINED: Code = Code::new(Lengths {
    literals: expanded(&[
        // Lengths, field numbers and types, small numbers.
        (8, 10),
        (5, 1),
        (8, 7),
        (6, 1),
        (8, 16),
        // Punctuation, digits.
        (9, 11),
        (6, 12),
        // Capitals: J is the head of an attribute.
        (9, 16),
        (7, 1),
        (9, 22),
        // Letters.
        (6, 4),
        (5, 1),
        (7, 6),
        (6, 5),
        (9, 1),
        (6, 4),
        (8, 4),
        // Ids and times.
        (10, 136),
        // The end, and matches from short to long.
        (7, 6),
        (8, 10),
        (10, 8),
        (9, 4),
        // Symbols that never occur.
        (0, 2),
    ]),
    distances: expanded(&[(9, 8), (5, 6), (3, 4), (5, 4), (4, 2), (7, 6)]),
});

/// Lengths from runs of them.
const fn expanded<const N: usize>(runs: &[(u8, usize)]) -> [u8; N] {
    let mut lengths = [0; N];
    let (mut run, mut at) = (0, 0);
    while run < runs.len() {
        let end = at + runs[run].1;
        while at < end {
            lengths[at] = runs[run].0;
            at += 1;
        }
        run += 1;
    }
    assert!(at == N, "a length for every symbol");
    lengths
}
