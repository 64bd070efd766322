//! The clock against simulated and real sources of time.

use std::{cell::Cell, sync::mpsc, thread};

use super::*;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Simulated sources of time. Every look at one takes 20 ns, unless it is interrupted.
struct Simulation {
    /// The simulated time, in nanoseconds.
    now: Cell<u64>,
    ticks_per_micro: Cell<u64>,
    ticks_ahead: Cell<u64>,
    /// How much faster than time the monotonic clock runs since its last change.
    slew_ppm: Cell<i64>,
    slewed_at: Cell<(u64, u64)>,
    /// UNIX nanoseconds at `now` == 0.
    wall: Cell<i64>,
    /// How many of the next looks take 50 µs.
    interrupted: Cell<u32>,
    looks_at_tsc: Cell<u32>,
}

impl Simulation {
    fn new() -> Self {
        Self {
            now: Cell::new(0),
            ticks_per_micro: Cell::new(2_600),
            ticks_ahead: Cell::new(123_456_789_012),
            slew_ppm: Cell::new(0),
            slewed_at: Cell::new((0, 0)),
            wall: Cell::new(1_800_000_000 * SECOND as i64),
            interrupted: Cell::new(0),
            looks_at_tsc: Cell::new(0),
        }
    }

    fn pass(&self, nanos: u64) {
        self.now.set(self.now.get() + nanos);
    }

    fn look(&self) {
        let interrupted = self.interrupted.get();
        self.interrupted.set(interrupted.saturating_sub(1));
        self.pass(if interrupted > 0 { 50_000 } else { 20 });
    }

    /// The value of the monotonic clock, read at no cost in time.
    fn monotonic(&self) -> u64 {
        let (from, at) = self.slewed_at.get();
        let passed = self.now.get() - from;
        at + passed.saturating_add_signed(passed as i64 * self.slew_ppm.get() / 1_000_000)
    }

    fn slew(&self, ppm: i64) {
        self.slewed_at.set((self.now.get(), self.monotonic()));
        self.slew_ppm.set(ppm);
    }
}

impl Sources for Simulation {
    fn ticks(&self) -> u64 {
        self.look();
        self.looks_at_tsc.set(self.looks_at_tsc.get() + 1);
        let passed = u128::from(self.now.get()) * u128::from(self.ticks_per_micro.get()) / 1_000;
        self.ticks_ahead.get().wrapping_add(passed as u64)
    }

    fn nanos(&self) -> u64 {
        self.look();
        self.monotonic()
    }

    fn unix_nanos(&self) -> i64 {
        self.look();
        self.wall.get().saturating_add_unsigned(self.now.get())
    }
}

impl Clock {
    /// Calls `now` with the simulation.
    fn read(&mut self, shared: &Shared<Simulation>) -> u64 {
        if self.anchor.window != 0
            && let Some(nanos) = self.anchor.at(shared.sources.ticks())
        {
            return self.forward(nanos);
        }
        self.refresh(shared)
    }

    fn is_anchored(&self) -> bool {
        self.anchor.window != 0
    }

    /// Reads every 5 ms, for `seconds` seconds.
    fn warm(&mut self, shared: &Shared<Simulation>, seconds: u64) {
        for _ in 0..200 * seconds {
            shared.sources.pass(5 * MILLI);
            self.read(shared);
        }
    }
}

fn trusted() -> Shared<Simulation> {
    Shared::new(Simulation::new(), true)
}

#[track_caller]
fn assert_near(actual: u64, expected: u64, tolerance: u64) {
    assert!(actual.abs_diff(expected) <= tolerance, "{actual} is not within {tolerance} of {expected}");
}

fn known(scale: u64) -> Rate {
    Rate { scale, baseline: MAX_AGE_NANOS, reference: None }
}

#[test]
fn an_interrupted_or_inverted_bracket_is_no_sample() {
    assert_eq!(Sample::bracketed(1_000, 7, 1_200), Some(Sample { ticks: 1_100, nanos: 7 }));
    assert_eq!(Sample::bracketed(1_000, 7, 1_000 + MAX_BRACKET_TICKS + 1), None);
    assert_eq!(Sample::bracketed(1_000, 7, 999), None);
    assert_eq!(Sample::bracketed(0, 7, u64::MAX), None);
    assert!(Sample::bracketed(u64::MAX - 10, u64::MAX, u64::MAX).is_some());
}

#[test]
fn an_anchor_holds_within_its_window_and_not_behind_itself() {
    let anchor = Anchor::new(Sample { ticks: 5_000, nanos: 70 }, &known(1 << 31));
    assert_eq!(anchor.at(5_000), Some(70));
    assert_eq!(anchor.at(5_200), Some(170));
    assert_eq!(anchor.at(5_000 + 2 * MAX_AGE_NANOS - 1), Some(70 + MAX_AGE_NANOS - 1));
    assert_eq!(anchor.at(5_000 + 2 * MAX_AGE_NANOS), None, "stale");
    assert_eq!(anchor.at(4_999), None, "behind");
    assert_eq!(Anchor::NONE.at(0), None);
}

#[test]
fn no_counter_value_overflows_an_anchor() {
    for scale in [*PLAUSIBLE_SCALES.start(), 1 << 32, *PLAUSIBLE_SCALES.end()] {
        for ticks in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let anchor = Anchor::new(Sample { ticks, nanos: u64::MAX }, &known(scale));
            let last = anchor.at(ticks.wrapping_add(anchor.window - 1)).unwrap();
            assert!((MAX_AGE_NANOS - 12..MAX_AGE_NANOS).contains(&last.wrapping_add(1)), "{last}");
        }
    }
    let extremes = [0, 1, MIN_BASELINE_NANOS, MAX_BASELINE_NANOS, u64::MAX / 2, u64::MAX];
    let samples = || extremes.into_iter().flat_map(|ticks| extremes.map(|nanos| Sample { ticks, nanos }));
    for from in samples() {
        for to in samples() {
            for scale in [0, 1, u64::MAX] {
                let mut rate = Rate { scale, baseline: u64::MAX, reference: Some(from) };
                rate.learn(to);
                rate.due();
            }
        }
    }
}

#[test]
fn a_rate_needs_its_shortest_baseline() {
    let mut rate = Rate::UNKNOWN;
    rate.learn(Sample { ticks: 0, nanos: 0 });
    rate.learn(Sample { ticks: 2 * (MIN_BASELINE_NANOS - 1), nanos: MIN_BASELINE_NANOS - 1 });
    assert!(!rate.is_known());
    rate.learn(Sample { ticks: 2 * MIN_BASELINE_NANOS, nanos: MIN_BASELINE_NANOS });
    assert_eq!((rate.scale, rate.baseline), (1 << 31, MIN_BASELINE_NANOS));
}

#[test]
fn a_rate_sharpens_with_its_baseline() {
    let mut rate = Rate::UNKNOWN;
    rate.learn(Sample { ticks: 0, nanos: 0 });
    for (milli, ppm) in [(10, 60), (20, 30), (100, 6), (1_000, 1), (1_900, 1)] {
        // Each sample is off by 500 ns.
        rate.learn(Sample { ticks: 2 * milli * MILLI, nanos: milli * MILLI + 500 });
        assert_near(rate.scale, 1 << 31, (ppm << 31) / 1_000_000);
    }
}

#[test]
fn a_jump_makes_the_rate_unknown_and_a_long_pause_does_not() {
    let start = Sample { ticks: 1 << 40, nanos: SECOND };
    let later =
        |ticks: i64, nanos: u64| Sample { ticks: (1_u64 << 40).saturating_add_signed(ticks), nanos: SECOND + nanos };
    let learn = |sample| {
        let mut rate = Rate { reference: Some(start), ..known(1 << 31) };
        rate.learn(sample);
        assert_eq!(rate.reference, Some(sample));
        rate.is_known()
    };
    assert!(!learn(later(-1, SECOND / 10)), "the counter was reset");
    assert!(!learn(later(0, SECOND / 10)), "the counter stands");
    assert!(!learn(later(SECOND as i64, SECOND / 10)), "suspended: the counter ran on, the clock did not");
    assert!(learn(later(7, MAX_BASELINE_NANOS + 1)), "idle for long");
    assert!(learn(later(2 * SECOND as i64, SECOND)), "as it should be");
}

#[test]
fn a_clock_switches_to_the_tsc_after_its_shortest_baseline() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.read(&shared);
    let looks = shared.sources.looks_at_tsc.get();
    while shared.sources.now.get() < MIN_BASELINE_NANOS - 1_000 {
        clock.read(&shared);
    }
    assert!(!clock.is_anchored());
    assert_eq!(shared.sources.looks_at_tsc.get(), looks, "not looked at while it can tell nothing");
    shared.sources.pass(2_000);
    clock.read(&shared);
    assert!(clock.is_anchored());
}

#[test]
fn an_anchor_is_not_trusted_for_longer_than_the_rate_was_measured() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.read(&shared);
    shared.sources.pass(MIN_BASELINE_NANOS);
    clock.read(&shared);
    assert!(clock.anchor.window <= (MIN_BASELINE_NANOS + 1_000) * 2_600 / 1_000);
    clock.warm(&shared, 1);
    assert_near(clock.anchor.window, MAX_AGE_NANOS * 2_600 / 1_000, 100);
}

#[test]
fn the_scale_converges_to_the_true_one() {
    for mhz in [1_000, 1_996, 2_600, 5_733] {
        let shared = trusted();
        shared.sources.ticks_per_micro.set(mhz);
        let mut clock = Clock::new();
        clock.warm(&shared, 3);
        assert_near(clock.rate.scale, (1_000 << 32) / mhz, 4_000 / mhz + 1_000);
    }
}

#[test]
fn readings_follow_the_monotonic_clock_through_slewing() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.warm(&shared, 2);
    for ppm in [500, -500, 0] {
        shared.sources.slew(ppm);
        let mut last = 0;
        for _ in 0..2_000 {
            shared.sources.pass(MILLI);
            let nanos = clock.read(&shared);
            assert!(nanos >= last, "a step backwards");
            // The anchor, or its rate, is from before the change: at most 1,000 ppm of 100 ms off.
            assert_near(nanos, shared.sources.monotonic(), 100_500);
            last = nanos;
        }
        assert!(clock.is_anchored());
        assert_near(last, shared.sources.monotonic(), 1_000);
    }
}

#[test]
fn a_new_anchor_never_steps_back() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.warm(&shared, 1);
    // 90 ms later, an anchor whose rate is 900 ppm too fast is 81 µs ahead.
    clock.anchor.scale += clock.anchor.scale * 9 / 10_000;
    while clock.anchor.at(shared.sources.ticks()).is_some() {
        clock.read(&shared);
        shared.sources.pass(10_000);
    }
    let ahead = clock.last;
    assert!(ahead > shared.sources.monotonic());
    assert_eq!(clock.read(&shared), ahead, "it waits");
    shared.sources.pass(200_000);
    assert_near(clock.read(&shared), shared.sources.monotonic(), 1_000);
}

#[test]
fn a_tsc_behind_its_anchor_is_re_anchored() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.warm(&shared, 1);
    let before = clock.read(&shared);
    shared.sources.ticks_ahead.set(0);
    shared.sources.pass(MILLI);
    let after = clock.read(&shared);
    assert!(after > before);
    assert_near(after, shared.sources.monotonic(), 1_000);
    clock.warm(&shared, 1);
    assert!(clock.is_anchored(), "learnt anew");
    assert_near(clock.read(&shared), shared.sources.monotonic(), 1_000);
}

#[test]
fn a_suspended_machine_costs_one_relearning() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.warm(&shared, 1);
    // The TSC and the wall clock ran on for an hour; the monotonic clock stood still.
    shared.sources.ticks_ahead.set(shared.sources.ticks_ahead.get() + 3_600 * 2_600 * MILLI);
    shared.sources.wall.set(shared.sources.wall.get() + 3_600 * SECOND as i64);
    let nanos = clock.read(&shared);
    assert_near(nanos, shared.sources.monotonic(), 1_000);
    assert_near(clock.unix(nanos), shared.sources.unix_nanos() as u64, MILLI);
    clock.warm(&shared, 1);
    assert!(clock.is_anchored());
    assert_near(clock.read(&shared), shared.sources.monotonic(), 1_000);
}

#[test]
fn a_rate_measured_across_a_jump_is_given_up_at_the_next_anchor() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.read(&shared);
    shared.sources.ticks_ahead.set(shared.sources.ticks_ahead.get() + 30_000 * 2_600);
    clock.warm(&shared, 1);
    assert!(clock.is_anchored());
    assert_near(clock.rate.scale, (1_000 << 32) / 2_600, 2_000);
    assert_near(clock.read(&shared), shared.sources.monotonic(), 1_000);
}

#[test]
fn an_interrupted_look_is_repeated_and_then_postponed() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.warm(&shared, 1);
    shared.sources.pass(MAX_AGE_NANOS);
    shared.sources.interrupted.set(3);
    let nanos = clock.read(&shared);
    assert!(clock.is_anchored(), "the second attempt was good");
    assert_near(nanos, shared.sources.monotonic(), 1_000);

    shared.sources.pass(MAX_AGE_NANOS);
    shared.sources.interrupted.set(1_000);
    clock.read(&shared);
    assert!(!clock.is_anchored());
    let looks = shared.sources.looks_at_tsc.get();
    let nanos = clock.read(&shared);
    assert_near(nanos, shared.sources.monotonic(), 1_000_000);
    assert_eq!(shared.sources.looks_at_tsc.get(), looks, "not at every reading");

    shared.sources.interrupted.set(0);
    shared.sources.pass(MIN_BASELINE_NANOS);
    clock.read(&shared);
    assert!(clock.is_anchored());
}

#[test]
fn an_untrusted_tsc_is_never_read() {
    let shared = Shared::new(Simulation::new(), false);
    let mut clock = Clock::new();
    let mut last = 0;
    for _ in 0..1_000 {
        shared.sources.pass(MILLI);
        let nanos = clock.read(&shared);
        assert!(nanos > last);
        assert_near(nanos, shared.sources.monotonic(), 500);
        assert_near(clock.unix(nanos), shared.sources.unix_nanos() as u64, 1_000);
        last = nanos;
    }
    assert_eq!(shared.sources.looks_at_tsc.get(), 0);
}

#[test]
fn a_step_of_the_wall_clock_is_seen_within_100_ms() {
    for is_trusted in [true, false] {
        let shared = Shared::new(Simulation::new(), is_trusted);
        let mut clock = Clock::new();
        clock.warm(&shared, 2);
        for step in [3_600 * SECOND as i64, -7_200 * SECOND as i64] {
            shared.sources.wall.set(shared.sources.wall.get() + step);
            let before = clock.read(&shared);
            shared.sources.pass(100 * MILLI);
            let nanos = clock.read(&shared);
            assert_near(clock.unix(nanos), shared.sources.unix_nanos() as u64, 1_000);
            assert_near(nanos - before, 100 * MILLI, 1_000);
        }
    }
}

#[test]
fn absurd_wall_clocks_do_no_harm() {
    for wall in [i64::MIN, -1, 0, i64::MAX] {
        let shared = trusted();
        shared.sources.wall.set(wall);
        let mut clock = Clock::new();
        clock.warm(&shared, 1);
        let nanos = clock.read(&shared);
        assert_near(clock.unix(nanos), u64::try_from(shared.sources.unix_nanos()).unwrap_or(0), 2 * SECOND);
        clock.unix(0);
        clock.unix(u64::MAX);
    }
    let century = Duration::from_secs(100 * 365 * 86_400);
    assert_eq!(unix_nanos(UNIX_EPOCH - century), 0);
    assert_eq!(unix_nanos(UNIX_EPOCH + 3 * century), i64::MAX);
}

#[test]
fn threads_too_brief_to_learn_measure_from_the_first_sample_of_the_process() {
    let shared = trusted();
    shared.sources.pass(50 * MILLI);
    let mut clock = Clock::new();
    clock.read(&shared);
    assert!(clock.is_anchored());
}

#[test]
fn a_new_thread_takes_over_a_scale_learnt_well() {
    let shared = trusted();
    let mut clock = Clock::new();
    clock.warm(&shared, 3);
    shared.sources.pass(3_600 * SECOND);
    let mut new = Clock::new();
    let nanos = new.read(&shared);
    assert!(new.is_anchored());
    assert_near(nanos, shared.sources.monotonic(), 500);
    shared.sources.pass(99 * MILLI);
    assert_near(new.read(&shared), shared.sources.monotonic(), 500);
}

#[test]
fn a_wrong_shared_scale_is_unlearnt() {
    let shared = trusted();
    let wrong = (1_000 << 32) / 2_000;
    shared.scale.store(wrong, Relaxed);
    let mut clock = Clock::new();
    clock.read(&shared);
    assert_eq!(clock.rate.scale, wrong);
    clock.warm(&shared, 1);
    assert!(clock.is_anchored());
    assert_near(clock.read(&shared), shared.sources.monotonic(), 1_000);
    assert_near(shared.scale.load(Relaxed), (1_000 << 32) / 2_600, 2_000);
}

/// Monotonic time by the operating system, on the scale of the real clocks. Call it after a clock's first reading.
fn os_nanos() -> u64 {
    SHARED.get().unwrap().sources.nanos()
}

#[test]
fn on_four_threads_readings_agree_with_instant() {
    let watch = || {
        let mut clock = Clock::new();
        let mut last = clock.now();
        let (mut readings, mut sharp) = (0_u64, 0_u64);
        let end = os_nanos() + 300 * MILLI;
        while readings < 1_000 || os_nanos() < end {
            let before = os_nanos();
            let nanos = clock.now();
            let after = os_nanos();
            assert!(nanos >= last, "a step backwards");
            // How far outside its bracket a reading lies. NTP may slew by 500 ppm; twice that is allowed here.
            let error = before.saturating_sub(nanos).max(nanos.saturating_sub(after));
            assert!(error <= 25_000, "off by {error} ns");
            sharp += u64::from(error <= 1_000);
            readings += 1;
            last = nanos;
        }
        assert!(sharp >= readings / 2, "only {sharp} of {readings} readings are within 1 µs");
    };
    for thread in [(); 4].map(|_| thread::spawn(watch)) {
        thread.join().unwrap();
    }
}

#[test]
fn readings_passed_between_threads_are_in_order() {
    let (to, from) = mpsc::sync_channel(0);
    let receiver = thread::spawn(move || {
        let mut clock = Clock::new();
        for sent in from {
            let received = clock.now();
            assert!(received + 25_000 >= sent, "received {} ns before it was sent", sent - received);
        }
    });
    let mut clock = Clock::new();
    for _ in 0..2_000 {
        to.send(clock.now()).unwrap();
    }
    drop(to);
    receiver.join().unwrap();
}

#[test]
fn starts_are_within_a_millisecond_of_the_wall_clock() {
    let mut clock = Clock::new();
    let mut passed = 0;
    for _ in 0..20 {
        let before = unix_nanos(SystemTime::now()) as u64;
        let nanos = clock.now();
        let start = clock.unix(nanos);
        let after = unix_nanos(SystemTime::now()) as u64;
        passed += u32::from((before - MILLI..=after + MILLI).contains(&start));
        // This waits for nothing: the readings have to be spread over more than an anchor's age.
        thread::sleep(Duration::from_millis(7));
    }
    // All readings but those around a change of the system clock.
    assert!(passed >= 10, "{passed} of 20");
}
