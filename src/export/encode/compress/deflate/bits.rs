//! Bits on their way into bytes (RFC 1951, section 3.1.1): the first bit of a byte is its lowest.

use super::super::output::Output;

/// Room for everything that is written at a time: one chunk in the worst code, see [`Deflate`](super::Deflate).
pub(super) const STAGED: usize = 32 * 1024;

/// Where bits become bytes. Bits that do not fit overwrite earlier ones, because the index is masked.
pub(super) type Stage = [u8; STAGED + 8];

/// The end of what is staged. After [`flush`](Self::flush) fewer than 8 bits are pending, and 56 more can be put.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    /// Whole bytes in the stage.
    pub(super) len: usize,
    pending: u64,
    count: u32,
}

impl Cursor {
    /// Appends the lowest `count` of `bits`; those above are zero.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.pending |= bits << (self.count & 63);
        self.count += count;
    }

    /// Makes bytes of the pending bits.
    #[inline(always)]
    pub(super) fn flush(&mut self, stage: &mut Stage) {
        let at = self.len & (STAGED - 1);
        stage[at..at + 8].copy_from_slice(&self.pending.to_le_bytes());
        self.len += (self.count >> 3) as usize;
        self.pending >>= self.count & 56;
        self.count &= 7;
    }

    /// Fills the last byte up with zeros.
    pub(super) fn align(&mut self, stage: &mut Stage) {
        self.count = self.count.next_multiple_of(8);
        self.flush(stage);
    }

    /// Moves whole bytes from the stage to `body`.
    pub(super) fn unload(&mut self, stage: &Stage, body: &mut Output<'_>) {
        body.append(&stage[..self.len.min(STAGED)]);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stand_in_the_order_they_were_put_in_the_lowest_first() {
        let mut stage = [0xff; STAGED + 8];
        let mut cursor = Cursor::default();
        cursor.put(0b1, 1);
        cursor.put(0b01, 2);
        cursor.flush(&mut stage);
        assert_eq!(cursor.len, 0);
        cursor.put(0b11_0000_0000_0001, 14);
        cursor.flush(&mut stage);
        cursor.align(&mut stage);
        cursor.align(&mut stage);
        let mut body = Vec::new();
        cursor.unload(&stage, &mut Output::new(&mut body));
        assert_eq!(body, [0b0000_1011, 0b1000_0000, 0b1]);
        assert_eq!(cursor.len, 0);
    }

    #[test]
    fn after_a_flush_56_bits_can_be_put() {
        for before in 0..8 {
            let mut stage = [0; STAGED + 8];
            let mut cursor = Cursor::default();
            cursor.put(0, before);
            cursor.flush(&mut stage);
            cursor.put((1 << 56) - 1, 56);
            cursor.flush(&mut stage);
            cursor.align(&mut stage);
            let ones: u32 = stage[..cursor.len].iter().map(|byte| byte.count_ones()).sum();
            assert_eq!((ones, cursor.len), (56, if before == 0 { 7 } else { 8 }));
        }
    }
}
