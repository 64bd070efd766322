//! The keys of a span's attributes and their number, for little more than one bit each.

/// The keys set so far: a filter that recognises most new keys as new at once.
///
/// A key that the filter admits sets a bit of it, so there are never more admitted keys than bits. While the limit is
/// further away than that, nothing has to be counted: attributes are searched only for keys that the filter stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// One bit for each key, by a hash: a clear bit means the key is new and allowed. All bits are set if each key has
    /// to be searched for.
    gate: u64,
    /// The bits of all known keys, kept even while `gate` has all bits set.
    seen: u64,
    /// How many attributes were added past the gate.
    others: u32,
    /// Whether each key is searched for.
    is_exact: bool,
}

impl Keys {
    /// No keys yet, and at most `most`. With `is_exact` each key is searched for, whatever the limit.
    pub(super) fn none(most: u32, is_exact: bool) -> Self {
        let keys = Self { gate: 0, seen: 0, others: 0, is_exact: false };
        if is_exact || most < u64::BITS { keys.exact() } else { keys }
    }

    /// Resets to `none`, the state without keys. Sufficient only if no key was [added](Self::add): the rest is not
    /// touched.
    #[inline]
    pub(super) fn forget_admitted(&mut self, none: &Self) {
        self.gate = none.gate;
    }

    /// Whether the key of this bit may be in the span already, or exceed the limit.
    #[inline(always)]
    pub(super) fn may_stop(&self, bit: u64) -> bool {
        self.gate & bit != 0
    }

    /// Admits the key of this bit if it is certainly new and allowed.
    #[inline]
    pub(super) fn admit(&mut self, bit: u64) -> bool {
        let is_new = self.gate & bit == 0;
        self.gate |= bit;
        is_new
    }

    /// Whether the key of this bit may be in the span already.
    pub(super) fn may_have(&self, bit: u64) -> bool {
        !self.is_exact || self.seen & bit != 0
    }

    /// Adds a new key that was not admitted; false if there are `most` already.
    pub(super) fn add(&mut self, bit: u64, most: u32) -> bool {
        if self.count() >= most {
            return false;
        }
        self.seen |= bit;
        self.others += 1;
        if !self.is_exact && self.others.saturating_add(u64::BITS) > most {
            *self = self.exact();
        }
        true
    }

    fn count(&self) -> u32 {
        self.others + if self.is_exact { 0 } else { self.gate.count_ones() }
    }

    fn exact(self) -> Self {
        Self { gate: u64::MAX, seen: self.gate, others: self.count(), is_exact: true }
    }
}

/// One of 64 bits for a key. Not a good hash, but one multiplication: a collision costs
/// a scan and nothing else.
#[inline(always)]
pub(in crate::capture) fn key_bit(key: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let mixed = match key.len() {
        0 => 0,
        len @ 1..8 => {
            let at = |index: usize| u64::from(key[index]);
            at(0) | at(len / 2) << 8 | at(len - 1) << 16
        }
        len => word(&key[..8]) ^ word(&key[len - 8..]).rotate_left(29),
    };
    1 << ((mixed ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}
