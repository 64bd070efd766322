//! Which attributes a span has, and how many, for little more than one bit each.

/// The keys set so far: a filter that says at once of most new keys that they are new.
///
/// A key that the filter lets through sets a bit of it, so that there are no more of those than bits. As long as the
/// limit is further away than that nobody has to count: only where the filter stops a key are attributes looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// One bit for each key, by a hash: a clear bit means the key is new, and allowed. Where each key has to be looked
    /// at, all are set.
    gate: u64,
    /// The same once all are set there.
    seen: u64,
    /// Attributes that the gate did not let in.
    others: u32,
    /// Each key is looked at.
    is_exact: bool,
}

impl Keys {
    /// No keys yet, of `most`. With `is_exact` each will be looked at, whatever the limit.
    pub(super) fn none(most: u32, is_exact: bool) -> Self {
        let keys = Self { gate: 0, seen: 0, others: 0, is_exact: false };
        if is_exact || most < u64::BITS { keys.exact() } else { keys }
    }

    /// As `none`, the keys before: where none was [added](Self::add) the rest is as it was.
    #[inline]
    pub(super) fn forget_admitted(&mut self, none: &Self) {
        self.gate = none.gate;
    }

    /// Whether the key of this bit may be known, or one too many.
    #[inline(always)]
    pub(super) fn may_stop(&self, bit: u64) -> bool {
        self.gate & bit != 0
    }

    /// Takes the key of this bit for a new one, if it is certain that it is one and that it is allowed.
    #[inline]
    pub(super) fn admit(&mut self, bit: u64) -> bool {
        let is_new = self.gate & bit == 0;
        self.gate |= bit;
        is_new
    }

    /// Whether the key of this bit may be known.
    pub(super) fn may_have(&self, bit: u64) -> bool {
        !self.is_exact || self.seen & bit != 0
    }

    /// Adds one that was not admitted and is new; false if there are `most` already.
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
