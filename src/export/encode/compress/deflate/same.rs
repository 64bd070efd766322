//! Compares two blocks byte by byte; the result has one bit per byte.

/// How many bytes are compared at once.
pub(super) const BLOCK: usize = 64;

/// Which bytes are the same in both: the first is the lowest bit.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn same(one: &[u8; BLOCK], other: &[u8; BLOCK]) -> u64 {
    // SAFETY: SSE2 is part of x86_64; nothing else is asked for.
    unsafe { same_sse2(one, other) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn same(one: &[u8; BLOCK], other: &[u8; BLOCK]) -> u64 {
    same_portable(one, other)
}

/// The comparison in a third of the instructions, which the compiler does not find by itself. It takes a quarter off
/// the time of the whole encoder.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn same_sse2(one: &[u8; BLOCK], other: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x};
    let mut same = 0;
    for at in (0..BLOCK / 16).rev() {
        let [one, other] = [one, other].map(|block| {
            let [low, high] = [0, 8].map(|half| word(block, 16 * at + half) as i64);
            _mm_set_epi64x(high, low)
        });
        same = same << 16 | u64::from(_mm_movemask_epi8(_mm_cmpeq_epi8(one, other)) as u16);
    }
    same
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn same_portable(one: &[u8; BLOCK], other: &[u8; BLOCK]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let mut differs = 0;
    for at in (0..BLOCK).step_by(8).rev() {
        let differing = word(one, at) ^ word(other, at);
        // The highest bit of each byte that differs, and then these eight bits side by side.
        let high = (((differing & LOW) + LOW) | differing) & !LOW;
        differs = differs << 8 | high.wrapping_mul(0x0002_0408_1020_4081) >> 56;
    }
    !differs
}

#[inline(always)]
fn word(block: &[u8; BLOCK], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| block[at + byte]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bit_is_set_where_both_hold_the_same_byte(
            one in prop::array::uniform32(0..3_u8), two in prop::array::uniform32(any::<u8>()), seed in any::<u64>(),
        ) {
            let one: [u8; BLOCK] = std::array::from_fn(|at| if at < 32 { one[at] } else { two[at - 32] });
            let other: [u8; BLOCK] = std::array::from_fn(|at| one[at] ^ [0, 1, 0x80, 0xff][(seed >> at & 3) as usize]);
            let expected = (0..BLOCK).filter(|at| one[*at] == other[*at]).fold(0, |bits, at| bits | 1_u64 << at);
            prop_assert_eq!(same(&one, &other), expected);
            prop_assert_eq!(same_portable(&one, &other), expected);
        }
    }
}
