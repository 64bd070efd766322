//! The time of a span: monotonic nanoseconds from the TSC if the kernel itself keeps time by it, from the operating
//! system's clock elsewhere, and the wall-clock time that belongs to a reading.
//!
//! Nothing is calibrated up front. A thread begins on [`Instant`]; readings taken between two looks at the TSC
//! ([`Sample`]s) give the TSC's [`Rate`]; once that is known, the thread extrapolates from its latest sample, its
//! [`Anchor`], for at most [`MAX_AGE_NANOS`]. A new anchor is a fresh look at the operating system's clocks, so
//! slewing, suspending or stepping them shows here with that delay.
//!
//! Linux keeps `CLOCK_MONOTONIC` by the same counter while its clock source is `tsc`, so the rate measured here is the
//! kernel's own conversion factor: it changes only as NTP changes that. If the clock source changes later, accuracy
//! suffers for one anchor's age at most.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A thread's clock. It lives in the thread's own state; state that threads share is touched on the slow path only.
#[derive(Debug)]
pub(crate) struct Clock {
    anchor: Anchor,
    /// The latest reading given out. A new anchor, or a CPU whose TSC lags a little, must not step behind it.
    last: u64,
    /// UNIX nanoseconds minus monotonic nanoseconds; at most `MAX_AGE_NANOS` old whenever a reading is given out.
    wall_offset: i64,
    /// The monotonic time from which `wall_offset` is too old, for readings without an anchor.
    wall_due: u64,
    rate: Rate,
    /// No sample is taken before this monotonic time: it could not give the rate yet, or the last attempts failed.
    sample_due: u64,
}

impl Clock {
    /// A clock that has read nothing yet.
    pub(crate) const fn new() -> Self {
        Self { anchor: Anchor::NONE, last: 0, wall_offset: 0, wall_due: 0, rate: Rate::UNKNOWN, sample_due: 0 }
    }

    /// Finds out how the kernel keeps time, so that the first reading does not have to.
    pub(crate) fn warm_up() {
        Self::new().now();
    }

    /// Monotonic nanoseconds since a process-wide origin. Never less than the previous reading on this thread. Readings
    /// of different threads are comparable to about a microsecond.
    ///
    /// Never allocates. The first reading of a process looks up the kernel's clock source in sysfs; later ones make no
    /// system call where the vDSO serves `clock_gettime`.
    #[inline]
    pub(crate) fn now(&mut self) -> u64 {
        // Without an anchor the TSC is not read at all: where it is not trusted, reading it may trap.
        if self.anchor.window != 0
            && let Some(nanos) = self.anchor.at(ticks())
        {
            return self.forward(nanos);
        }
        self.now_slow()
    }

    /// Wall-clock time in UNIX nanoseconds for a monotonic reading just taken on this thread. Within 1 ms of the system
    /// clock, from 100 ms after that was stepped. A system clock before 1970 counts as 1970.
    #[inline]
    pub(crate) fn unix(&self, mono: u64) -> u64 {
        // Not below 0, because an earlier reading chose the offset so; not beyond `u64`, because both parts are below
        // 2^63.
        mono.wrapping_add_signed(self.wall_offset)
    }

    #[inline]
    fn forward(&mut self, nanos: u64) -> u64 {
        self.last = self.last.max(nanos);
        self.last
    }

    #[cold]
    #[inline(never)]
    fn now_slow(&mut self) -> u64 {
        let shared = SHARED.get().unwrap_or_else(|| {
            // Made before it is offered: a thread that waits for the cell waits for a move, not for a file.
            let shared = Shared::new(Os(Instant::now()), kernel_trusts_tsc());
            SHARED.get_or_init(|| shared)
        });
        self.refresh(shared)
    }

    /// Reads the operating system's clocks, learns the rate, sets an anchor, and renews the wall offset if that is due.
    fn refresh<S: Sources>(&mut self, shared: &Shared<S>) -> u64 {
        let mut nanos = shared.sources.nanos();
        // An anchor that has expired takes the wall offset with it, whatever the monotonic clock says, because that
        // stands still while the machine is suspended.
        let mut wall_due = nanos >= self.wall_due || self.anchor.window != 0;
        self.anchor = Anchor::NONE;
        if shared.trusted && nanos >= self.sample_due {
            if !self.rate.is_known() {
                self.rate.adopt(shared.scale.load(Relaxed), shared.first);
            }
            if let Some(sample) = shared.sources.sample() {
                nanos = sample.nanos;
                self.rate.learn(sample);
                if self.rate.is_known() {
                    self.anchor = Anchor::new(sample, &self.rate);
                    self.sample_due = 0;
                    wall_due = true;
                    if self.rate.baseline >= MAX_AGE_NANOS {
                        shared.scale.store(self.rate.scale, Relaxed);
                    }
                } else {
                    self.sample_due = self.rate.due();
                }
            } else {
                self.sample_due = nanos.saturating_add(MIN_BASELINE_NANOS);
            }
        }
        if wall_due {
            self.wall_offset = shared.sources.wall_offset().max(-nanos.cast_signed());
            self.wall_due = nanos.saturating_add(MAX_AGE_NANOS);
        }
        self.forward(nanos)
    }
}

/// The TSC's value at a monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    ticks: u64,
    nanos: u64,
}

impl Sample {
    /// A reading taken between two looks at the TSC. `None` if they lie so far apart that the thread was interrupted,
    /// or are in the wrong order: the reading then says too little about the TSC.
    fn bracketed(before: u64, nanos: u64, after: u64) -> Option<Self> {
        let width = after.checked_sub(before).filter(|&width| width <= MAX_BRACKET_TICKS)?;
        Some(Self { ticks: before + width / 2, nanos })
    }
}

/// What one thread knows about how fast the TSC ticks.
#[derive(Debug)]
struct Rate {
    /// Nanoseconds per tick, in units of 2^-32; 0 while unknown.
    scale: u64,
    /// How long the scale was measured for. It is good for extrapolating over that time, with the same error.
    baseline: u64,
    /// The sample to measure from.
    reference: Option<Sample>,
}

impl Rate {
    const UNKNOWN: Self = Self { scale: 0, baseline: 0, reference: None };

    fn is_known(&self) -> bool {
        self.scale != 0
    }

    /// Adopts what other threads measured: their scale if they have one, else the process's first sample.
    fn adopt(&mut self, scale: u64, first: Option<Sample>) {
        if self.reference.is_some() {
            // This thread has begun to measure for itself, perhaps because it found the shared scale to be wrong.
        } else if scale != 0 {
            *self = Self { scale, baseline: MAX_AGE_NANOS, reference: None };
        } else {
            self.reference = first;
        }
    }

    /// Measures from the reference to `sample`, if they are far enough apart.
    ///
    /// The baseline grows to `RENEW_NANOS` and then restarts from its end, so that the scale follows NTP.
    fn learn(&mut self, sample: Sample) {
        let Some(reference) = self.reference else {
            self.reference = Some(sample);
            return;
        };
        let nanos = sample.nanos.saturating_sub(reference.nanos);
        if nanos < MIN_BASELINE_NANOS {
            return;
        }
        if nanos > MAX_BASELINE_NANOS {
            // Too much can have happened in between, and the scale is still as good as any.
            self.reference = Some(sample);
            return;
        }
        // MAX_BASELINE_NANOS keeps the shift from overflowing.
        let measured = sample.ticks.checked_sub(reference.ticks).and_then(|ticks| (nanos << 32).checked_div(ticks));
        match measured {
            Some(scale) if self.allows(scale) => {
                self.scale = scale;
                self.baseline = nanos;
                if nanos >= RENEW_NANOS {
                    self.reference = Some(sample);
                }
            }
            // The TSC or the clock jumped, now or during the measurement before: neither scale can be relied on.
            _ => *self = Self { reference: Some(sample), ..Self::UNKNOWN },
        }
    }

    /// Whether `scale` is plausible beside this one. NTP slews by 500 ppm at most, so two correct scales differ by less
    /// than 1/1024.
    fn allows(&self, scale: u64) -> bool {
        PLAUSIBLE_SCALES.contains(&scale) && (!self.is_known() || scale.abs_diff(self.scale) <= self.scale >> 10)
    }

    /// The monotonic time at which a sample can give the rate, if that is unknown.
    fn due(&self) -> u64 {
        self.reference.map_or(0, |reference| reference.nanos.saturating_add(MIN_BASELINE_NANOS))
    }
}

/// A sample, and how to get from it to later times.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    ticks: u64,
    nanos: u64,
    /// The scale of the [`Rate`].
    scale: u64,
    /// The anchor holds for fewer ticks than this; 0 if there is none.
    window: u64,
}

impl Anchor {
    const NONE: Self = Self { ticks: 0, nanos: 0, scale: 0, window: 0 };

    /// Makes an anchor from a sample. `rate` must be known.
    fn new(sample: Sample, rate: &Rate) -> Self {
        let window = (rate.baseline.min(MAX_AGE_NANOS) << 32) / rate.scale;
        Self { ticks: sample.ticks, nanos: sample.nanos, scale: rate.scale, window }
    }

    /// The time at `ticks`. `None` if the anchor is too old for it, or if the TSC fell behind (which wraps to a huge
    /// age).
    #[inline]
    fn at(&self, ticks: u64) -> Option<u64> {
        let age = ticks.wrapping_sub(self.ticks);
        // age * scale < window * scale <= MAX_AGE_NANOS << 32 < 2^59; the sum wraps after 584 years.
        (age < self.window).then(|| self.nanos.wrapping_add(age.wrapping_mul(self.scale) >> 32))
    }
}

/// State that the clocks of all threads share.
struct Shared<S> {
    sources: S,
    /// Whether the TSC may be used.
    trusted: bool,
    /// The first sample of the process. Threads that live too briefly to take two samples measure from it.
    first: Option<Sample>,
    /// The latest scale measured over at least `MAX_AGE_NANOS` by any thread; 0 before.
    scale: AtomicU64,
}

/// Set by the first reading of the process. It stays valid in the child of a fork, which has the same clocks.
static SHARED: OnceLock<Shared<Os>> = OnceLock::new();

impl<S: Sources> Shared<S> {
    fn new(sources: S, trusted: bool) -> Self {
        let first = if trusted { sources.sample() } else { None };
        Self { sources, trusted, first, scale: AtomicU64::new(0) }
    }
}

/// The sources of time: hardware and operating system, or a simulation in tests.
trait Sources {
    fn ticks(&self) -> u64;
    /// Monotonic nanoseconds since the origin.
    fn nanos(&self) -> u64;
    /// UNIX nanoseconds, within `i64`.
    fn unix_nanos(&self) -> i64;

    /// A sample of both clocks. `None` if every attempt was interrupted.
    fn sample(&self) -> Option<Sample> {
        (0..ATTEMPTS).find_map(|_| {
            let before = self.ticks();
            let nanos = self.nanos();
            Sample::bracketed(before, nanos, self.ticks())
        })
    }

    /// UNIX nanoseconds minus monotonic nanoseconds, from the least interrupted of a few readings.
    fn wall_offset(&self) -> i64 {
        let mut best = (u64::MAX, 0);
        for _ in 0..ATTEMPTS {
            let before = self.nanos();
            let unix = self.unix_nanos();
            let width = self.nanos().saturating_sub(before);
            if width < best.0 {
                best = (width, unix.saturating_sub_unsigned(before.saturating_add(width / 2)));
            }
            if width <= GOOD_BRACKET_NANOS {
                break;
            }
        }
        best.1
    }
}

/// The real sources, counting from the given origin.
struct Os(Instant);

impl Sources for Os {
    fn ticks(&self) -> u64 {
        ticks()
    }

    fn nanos(&self) -> u64 {
        saturating_nanos(self.0.elapsed())
    }

    fn unix_nanos(&self) -> i64 {
        unix_nanos(SystemTime::now())
    }
}

/// Times before 1970 count as 1970, times after 2262 as 2262.
fn unix_nanos(time: SystemTime) -> i64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(saturating_nanos(since_1970)).unwrap_or(i64::MAX)
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86_64 CPU has `rdtsc`; it touches no memory. A process can be denied it (`PR_SET_TSC`), but then
    // the vDSO's clock is denied as well, and no call comes here before `kernel_trusts_tsc` has said yes.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Whether the kernel itself keeps time by the TSC, which it does only where all CPUs agree on one that never stops.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn kernel_trusts_tsc() -> bool {
    use std::{fs::File, io::Read as _};

    let mut name = [0; 8];
    File::open("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .and_then(|mut file| file.read(&mut name))
        .is_ok_and(|len| name[..len].trim_ascii_end() == b"tsc")
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
#[inline]
fn ticks() -> u64 {
    0
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
fn kernel_trusts_tsc() -> bool {
    false
}

/// The greatest age of an anchor or a wall offset.
const MAX_AGE_NANOS: u64 = 100_000_000;

/// A shorter baseline would let the width of its brackets show in the rate.
const MIN_BASELINE_NANOS: u64 = 10_000_000;

/// The baseline at which measuring restarts.
const RENEW_NANOS: u64 = 1_000_000_000;

/// A longer baseline is not used. At most 2^32, so that [`Rate::learn`] does not overflow.
const MAX_BASELINE_NANOS: u64 = 4_000_000_000;

/// Under a microsecond at any usual frequency; undisturbed brackets are a tenth of it.
const MAX_BRACKET_TICKS: u64 = 2_048;

/// A bracket of the wall clock this narrow needs no second attempt.
const GOOD_BRACKET_NANOS: u64 = 20_000;

/// How often an interrupted reading is repeated, at most.
const ATTEMPTS: usize = 3;

/// Plausible scales: a TSC between 10 GHz and 100 MHz.
const PLAUSIBLE_SCALES: std::ops::RangeInclusive<u64> = (1 << 32) / 10..=(1 << 32) * 10;

#[cfg(test)]
mod tests;
