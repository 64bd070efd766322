//! Trace and span ids, and the random generator each thread makes them with.

use std::{
    fmt, process, ptr,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::fork;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $integer:ident of $bytes:literal bytes, $digits:literal digits) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The invalid id: all zero. This is also the `Default`.
            pub const INVALID: Self = Self([0; $bytes]);

            /// Makes an id of these bytes, in the order in which they are sent.
            #[inline]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes, in the order in which they are sent.
            #[inline]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }

            /// Borrows the bytes, in the order in which they are sent.
            #[inline]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            #[doc = concat!("Reads exactly ", $digits, " lowercase hex digits, as W3C Trace Context wants them.")]
            ///
            /// Accepts all zeros too: check [`is_valid`](Self::is_valid).
            pub fn from_hex(hex: &str) -> Option<Self> {
                decode(hex.as_bytes()).map(Self)
            }

            /// Whether the id is valid: not all zero.
            #[inline]
            pub const fn is_valid(&self) -> bool {
                $integer::from_ne_bytes(self.0) != 0
            }
        }

        /// Writes lowercase hex.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(encode(&self.0, &mut [0; $digits]))
            }
        }

        /// Writes lowercase hex.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        /// Writes lowercase hex, after `0x` if the format has a `#`.
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad_integral(true, "0x", encode(&self.0, &mut [0; $digits]))
            }
        }
    };
}

id! {
    /// Identifies a trace: 16 bytes, not all zero if valid. All spans of the trace share it.
    TraceId, u128 of 16 bytes, 32 digits
}

id! {
    /// Identifies a span within its trace: 8 bytes, not all zero if valid.
    SpanId, u64 of 8 bytes, 16 digits
}

/// Makes ids on one thread. It is seeded at first use: `new` asks the operating system for nothing.
///
/// The generator is wyrand (Wang Yi, public domain): a counter, and a multiplication that mixes it. Each thread's
/// numbers are combined with a key of its own, so that two threads whose counters meet do not repeat each other. It is
/// written out here because every span draws from it once or twice on the application's thread, where ten instructions
/// without a call are worth owning. It is not fit for secrets: an observer of enough ids can predict the next.
#[derive(Debug)]
pub(crate) struct RandomIds {
    counter: u64,
    key: u64,
    /// The process that the state was drawn in. The child of a fork starts an unrelated sequence; otherwise it would
    /// repeat its parent's ids.
    seeded_in: u32,
}

impl RandomIds {
    pub(crate) const fn new() -> Self {
        Self { counter: 0, key: 0, seeded_in: fork::NEVER }
    }

    /// A new trace id. All of its bits are random, so it may carry W3C's Random flag.
    #[inline]
    pub(crate) fn trace_id(&mut self) -> TraceId {
        self.ensure_seeded();
        loop {
            let (first, second) = (self.next(), self.next());
            if first | second != 0 {
                return TraceId(((u128::from(second) << 64) | u128::from(first)).to_le_bytes());
            }
        }
    }

    /// A new span id.
    #[inline]
    pub(crate) fn span_id(&mut self) -> SpanId {
        self.ensure_seeded();
        loop {
            let random = self.next();
            if random != 0 {
                return SpanId(random.to_le_bytes());
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn reseed(&mut self) {
        let mut seed = [0; 16];
        [self.counter, self.key] = match getrandom::fill(&mut seed) {
            Ok(()) => {
                let (words, _) = seed.as_chunks::<8>();
                std::array::from_fn(|i| u64::from_le_bytes(words[i]))
            }
            Err(_) => makeshift_seed(ptr::from_ref(self).addr()),
        };
        self.seeded_in = fork::generation();
    }

    #[inline]
    fn ensure_seeded(&mut self) {
        if self.seeded_in != fork::generation() {
            self.reseed();
        }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x2d35_8dcc_aa6c_78a5);
        let mixed = u128::from(self.counter) * u128::from(self.counter ^ 0x8bb8_4b93_962e_acc9);
        mixed as u64 ^ (mixed >> 64) as u64 ^ self.key
    }
}

/// A seed for when the operating system gives none. It differs between processes (id, time), between the threads of one
/// process (address, count) and between calls (count), but can be guessed.
fn makeshift_seed(address: usize) -> [u64; 2] {
    static CALLS: AtomicU64 = AtomicU64::new(1);

    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut state = 0;
    for part in [since_1970.as_nanos() as u64, process::id().into(), address as u64, call] {
        state = split_mix(state ^ part);
    }
    std::array::from_fn(|i| split_mix(state.wrapping_add((i as u64).wrapping_mul(GOLDEN_GAMMA))))
}

/// One step of SplitMix64: a bijection, so that different inputs give different results.
fn split_mix(state: u64) -> u64 {
    let z = state.wrapping_add(GOLDEN_GAMMA);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn encode<'a>(bytes: &[u8], digits: &'a mut [u8]) -> &'a str {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    str::from_utf8(digits).unwrap_or_default()
}

fn decode<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = hex.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    const TRACE_HEX: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN_HEX: &str = "00f067aa0ba902b7";

    /// Counts how often each bit is set, from the first byte's highest to the last byte's lowest.
    fn count_bits(counts: &mut [u32], bytes: &[u8]) {
        for (i, count) in counts.iter_mut().enumerate() {
            *count += u32::from(bytes[i / 8] >> (7 - i % 8) & 1);
        }
    }

    // ID-01: no duplicates, no zeros, bits uniform. ID-02: the last 7 bytes of a trace id are uniform.
    #[test]
    fn a_million_ids_are_distinct_valid_and_uniform() {
        const IDS: u32 = 1_000_000;
        let mut generator = RandomIds::new();
        let mut traces = HashSet::with_capacity(IDS as usize);
        let mut spans = HashSet::with_capacity(IDS as usize);
        let (mut trace_bits, mut span_bits) = ([0; 128], [0; 64]);
        for _ in 0..IDS {
            let (trace, span) = (generator.trace_id(), generator.span_id());
            assert!(trace.is_valid() && span.is_valid());
            assert!(traces.insert(trace) && spans.insert(span));
            count_bits(&mut trace_bits, trace.as_bytes());
            count_bits(&mut span_bits, span.as_bytes());
        }
        for (bit, count) in trace_bits.iter().chain(&span_bits).enumerate() {
            let share = f64::from(*count) / f64::from(IDS);
            assert!((0.49..=0.51).contains(&share), "bit {bit} is set in {share} of all ids");
        }
    }

    // The numbers that the crate `fastrand` gives for the seed 1.
    #[test]
    fn the_generator_is_wyrand_with_a_key() {
        let mut generator = RandomIds { counter: 1, key: 0, seeded_in: fork::generation() };
        let expected: [u64; 4] = [12120239713417281201, 9861924296701902397, 4420488659902023302, 14367571835928699312];
        assert_eq!(expected.map(|_| generator.next()), expected);
        let mut generator = RandomIds { counter: 1, key: u64::MAX, seeded_in: fork::generation() };
        assert_eq!(expected.map(|_| !generator.next()), expected);
    }

    // ID-01: never zero, whatever the generator yields.
    #[test]
    fn a_zero_is_never_an_id() {
        let with_key = |key| RandomIds { counter: 1, key, seeded_in: fork::generation() };
        let first = with_key(0).next();
        let mut probe = with_key(first);
        assert_eq!(probe.next(), 0);
        let following = probe.next();
        assert_eq!(with_key(first).span_id().to_bytes(), following.to_le_bytes());
        assert!(with_key(first).trace_id().is_valid());
    }

    // ID-01
    #[test]
    fn two_threads_make_different_ids() {
        let ids = || {
            let mut generator = RandomIds::new();
            (0..1_000).map(|_| generator.trace_id()).collect::<HashSet<_>>()
        };
        let other = thread::spawn(ids);
        let own = ids();
        assert!(own.is_disjoint(&other.join().unwrap()));
    }

    // ID-01
    #[test]
    fn a_reseeded_copy_does_not_repeat_the_original() {
        let mut parent = RandomIds::new();
        parent.span_id();
        let mut child = RandomIds { ..parent };
        assert_eq!(child.span_id(), parent.span_id(), "a fork copies the state");
        child.reseed();
        let parents: HashSet<_> = (0..1_000).map(|_| parent.span_id()).collect();
        assert!((0..1_000).all(|_| !parents.contains(&child.span_id())));
    }

    // ID-01: even where the operating system refuses randomness.
    #[test]
    fn makeshift_seeds_differ_from_call_to_call() {
        let seeds: HashSet<_> = (0..10_000).map(|_| makeshift_seed(0)).collect();
        assert_eq!(seeds.len(), 10_000);
    }

    #[test]
    fn nothing_is_seeded_before_the_first_id() {
        let mut generator = RandomIds::new();
        assert_eq!(generator.seeded_in, fork::NEVER);
        generator.span_id();
        assert_eq!(generator.seeded_in, fork::generation());
    }

    // SPAN-05: lowercase 32 and 16 digit forms, 16 and 8 byte forms.
    #[test]
    fn ids_go_to_hex_and_bytes_and_back() {
        let trace = TraceId::from_hex(TRACE_HEX).unwrap();
        let span = SpanId::from_hex(SPAN_HEX).unwrap();
        assert_eq!((trace.to_bytes()[0], trace.to_bytes()[15]), (0x4b, 0x36));
        assert_eq!(span.to_bytes(), [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(TraceId::from_bytes(trace.to_bytes()), trace);
        assert_eq!(SpanId::from_bytes(*span.as_bytes()), span);
        assert_eq!((trace.to_string(), span.to_string()), (TRACE_HEX.into(), SPAN_HEX.into()));
        assert_eq!((format!("{trace:?}"), format!("{span:x}")), (TRACE_HEX.into(), SPAN_HEX.into()));
        assert_eq!(format!("{span:>18}|{span:#x}"), format!("  {SPAN_HEX}|0x{SPAN_HEX}"));
        let mut generator = RandomIds::new();
        for _ in 0..1_000 {
            let (trace, span) = (generator.trace_id(), generator.span_id());
            assert_eq!(TraceId::from_hex(&trace.to_string()), Some(trace));
            assert_eq!(SpanId::from_hex(&span.to_string()), Some(span));
        }
    }

    // W3C-02: lowercase only, exact lengths.
    #[test]
    fn anything_but_the_exact_number_of_lowercase_digits_is_refused() {
        let upper = SPAN_HEX.to_uppercase();
        let (short, long) = (&SPAN_HEX[1..], format!("{SPAN_HEX}0"));
        let refused = [
            "",
            short,
            &long,
            &upper,
            "+0f067aa0ba902b7",
            " 0f067aa0ba902b7",
            "0x067aa0ba902b70",
            "00f067aa0ba902bg",
            "00f067aa0ba902b/",
            "00f067aa0ba902b:",
            "00f067aa0ba902b`",
            "00f067aa0ba9\0\0b7",
            "00f067aa0ba902é",
            TRACE_HEX,
        ];
        for hex in refused {
            assert_eq!(SpanId::from_hex(hex), None, "{hex:?}");
        }
        for hex in [SPAN_HEX, &TRACE_HEX[1..], &TRACE_HEX.to_uppercase(), &format!("{TRACE_HEX}0")] {
            assert_eq!(TraceId::from_hex(hex), None, "{hex:?}");
        }
    }

    #[test]
    fn the_all_zero_id_can_be_read_but_is_not_valid() {
        assert_eq!(TraceId::from_hex(&"0".repeat(32)), Some(TraceId::INVALID));
        assert_eq!(SpanId::from_hex(&"0".repeat(16)), Some(SpanId::INVALID));
        assert_eq!((TraceId::default(), SpanId::default()), (TraceId::INVALID, SpanId::INVALID));
        assert!(!TraceId::INVALID.is_valid() && !SpanId::INVALID.is_valid());
        assert!(SpanId::from_bytes([0, 0, 0, 0, 0, 0, 0, 1]).is_valid());
        assert!(TraceId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_valid());
    }
}
