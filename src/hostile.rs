//! Input that means harm, and a measure of what it costs whoever reads it. Only for tests.

use std::{hint::black_box, time::Duration};

use proptest::prelude::*;

/// The sizes that are compared.
const SMALL: usize = 64 << 10;
const LARGE: usize = 1 << 20;

/// What the largest input may take in any case.
const LONGEST: Duration = Duration::from_secs(1);

/// What a large input may take for other reasons: it needs memory that is new to the process, and fits into no cache.
const NOISE: Duration = Duration::from_millis(50);

/// A measurement counts with the least of so many runs: others compete for the machine.
const RUNS: usize = 5;

/// Numbers from a seed, for searches that are repeated by it.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % end.max(1)
    }

    /// A number that may be of any order of magnitude.
    pub(crate) fn magnitude(&mut self, most: usize) -> usize {
        let bits = self.below(most.max(1).ilog2() as usize + 2);
        self.below(1 << bits).min(most)
    }
}

/// Makes a text of about so many bytes.
type Make = fn(usize) -> String;

/// Texts by what is done to whoever reads a list of names and values out of them.
const TEXTS: &[(&str, Make)] = &[
    ("commas", |bytes| ",".repeat(bytes)),
    ("equals signs", |bytes| "=".repeat(bytes)),
    ("semicolons", |bytes| format!("k=v{}", ";".repeat(bytes))),
    ("percent signs", |bytes| format!("k={}", "%".repeat(bytes))),
    ("slashes", |bytes| "/".repeat(bytes)),
    ("at signs and colons", |bytes| "@:".repeat(bytes / 2)),
    ("nested brackets", |bytes| format!("k={}", "[{(".repeat(bytes / 3))),
    ("one long name", |bytes| format!("{}=v", "k".repeat(bytes))),
    ("one long value", |bytes| format!("k={}", "v".repeat(bytes))),
    ("one name without a value", |bytes| "k".repeat(bytes)),
    ("spaces", |bytes| " ".repeat(bytes)),
    ("spaces and tabs within a member", |bytes| {
        format!("k{}={}v{} x", "\t ".repeat(bytes / 6), " ".repeat(bytes / 3), " \t".repeat(bytes / 6))
    }),
    ("small members of one name", |bytes| "k=v,".repeat(bytes / 4)),
    ("small members of many names", |bytes| many(bytes, |at| format!("k{at}=v,"))),
    ("members that nearly share their names", |bytes| many(bytes, |at| format!("{}{at}=v,", "k".repeat(200)))),
    ("names without values", |bytes| many(bytes, |at| format!("k{at},"))),
    ("values without names", |bytes| "=v,".repeat(bytes / 3)),
    ("encoded bytes", |bytes| format!("k={}", "%41".repeat(bytes / 3))),
    ("encoded bytes that are not UTF-8", |bytes| format!("k={}", "%FF".repeat(bytes / 3))),
    ("small members of encoded names", |bytes| many(bytes, |at| format!("%6B{at}=%FF,"))),
    ("characters of several bytes", |bytes| "é日😀".repeat(bytes / 9)),
    ("members of several bytes", |bytes| "é=日,".repeat(bytes / 7)),
    ("digits", |bytes| "7".repeat(bytes)),
    ("zeros and a digit", |bytes| format!("{}7", "0".repeat(bytes))),
    ("a fraction of many digits", |bytes| format!("0.{}", "3".repeat(bytes))),
    ("zero bytes and line breaks", |bytes| "\0\r\n".repeat(bytes / 3)),
];

/// As many members as fit, each another one.
pub(crate) fn many(bytes: usize, member: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(bytes + 256);
    for at in 0.. {
        if text.len() >= bytes {
            break;
        }
        text += &member(at);
    }
    text
}

/// Reading any hostile text takes time in proportion to its length.
#[track_caller]
pub(crate) fn assert_linear<R>(reader: &str, read: impl Fn(&str) -> R) {
    assert_linear_after(reader, "", read);
}

/// The same with texts that begin like this.
#[track_caller]
pub(crate) fn assert_linear_after<R>(reader: &str, beginning: &str, read: impl Fn(&str) -> R) {
    for (what, make) in TEXTS {
        let make = |bytes| format!("{beginning}{}", make(bytes));
        assert_linear_in(&format!("{reader}, {what}"), make, |text| read(text));
    }
}

/// Reading what `make` makes of a number of bytes takes time in proportion to it: sixteen times as much input at most
/// four times sixteen times as long, where a quadratic reader takes 256 times as long.
#[track_caller]
pub(crate) fn assert_linear_in<T, R>(what: &str, make: impl Fn(usize) -> T, read: impl Fn(&T) -> R) {
    let (small, large) = (make(SMALL), make(LARGE));
    let time = |input: &T| {
        let begun = spent();
        let result = black_box(read(black_box(input)));
        let took = spent().saturating_sub(begun);
        drop(result);
        took
    };
    let short = (0..RUNS).map(|_| time(&small)).min().unwrap_or_default();
    let allowed = (short * 4 * (LARGE / SMALL) as u32 + NOISE).min(LONGEST);
    let mut long = Duration::MAX;
    // More often: other tests that fill the caches and the memory's bandwidth go on for seconds.
    for _ in 0..6 * RUNS {
        long = long.min(time(&large));
        if long < allowed {
            return;
        }
        // Nothing that others do makes it so much slower.
        assert!(long < 10 * LONGEST, "{what}: {long:?}, and {short:?} for a 16th of it");
    }
    panic!("{what}: {long:?}, and {short:?} for a 16th of it");
}

/// What the calling thread has used of its processor, which others compete for.
#[cfg(target_os = "linux")]
fn spent() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn spent() -> Duration {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(std::time::Instant::now).elapsed()
}

/// Any text, and texts made of what lists, URLs and headers are made of.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ \t,;=%:/@?#.a-zA-F0-9-]{0,200}",
        "([a-zé]{0,3}[=;%, ]{0,2}[%A-F0-9]{0,4},?){0,40}",
        "\\PC{0,100}",
    ]
}

/// What becomes of something valid on a bad line: bytes changed, lost, repeated and out of their order.
pub(crate) fn mutated(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..4_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>());
    (valid, prop::collection::vec(edit, 1..6)).prop_map(|(mut bytes, edits)| {
        for (kind, from, to, byte) in edits {
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            match kind {
                0 => bytes.insert(from, byte),
                1 if from < bytes.len() => bytes[from] = byte,
                2 => drop(bytes.drain(from..to)),
                _ => bytes.extend_from_within(from..to),
            }
        }
        bytes
    })
}

/// The same of a text; what is no longer UTF-8 is replaced.
pub(crate) fn mutated_text(valid: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    mutated(valid.prop_map(String::into_bytes)).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
