//! Sampling fewer new traces while more spans arrive than can be sent.

use std::time::Duration;

use crate::error::Error;

/// The number of values of a trace id's 56 random bits.
const RANGE: u64 = 1 << 56;
/// Thresholds are multiples of this: five hexadecimal digits in `tracestate`.
const GRAIN: u64 = 1 << 36;
/// The least probability, and the strongest cut of one step.
const LEAST: f64 = 1.0 / 65_536.0;
const DEEPEST: f64 = 1.0 / 16.0;

/// The point between the threshold and full at which the queue is held under overload.
const SETPOINT: f64 = 0.25;
/// Seconds in which the probability may double at most.
const DOUBLING: f64 = 0.25;
/// A smaller relative change of the probability is not made.
const DEADBAND: f64 = 0.1;
/// Seconds over which the drained rate is averaged: batches leave in lumps.
const DRAIN_MEMORY: f64 = 1.0;
/// Seconds over which the rate of started spans is averaged.
const START_MEMORY: f64 = 0.05;
/// Seconds after which spans that stay open count as usual.
const OPEN_MEMORY: f64 = 60.0;

/// The overload that is planned for, as a multiple of the drained rate, and how many steps it must take to fill the
/// remaining room.
const OVERLOAD: f64 = 10.0;
const STEPS_TO_FULL: f64 = 4.0;
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// Which traces to keep, by OpenTelemetry's consistent probability sampling: those whose 56 random bits are at least
/// this threshold, which is (1 − p) · 2⁵⁶ and is recorded as `ot=th:` in `tracestate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SamplingThreshold(u64);

impl SamplingThreshold {
    /// Keeps all traces.
    pub const ALL: Self = Self(0);

    /// Returns the threshold that keeps this share of all traces, to five hexadecimal digits. Shares below 2⁻¹⁶ count
    /// as 2⁻¹⁶; shares above 1, and NaN, count as 1.
    pub fn with_probability(probability: f64) -> Self {
        if probability.is_nan() || probability >= 1.0 {
            return Self::ALL;
        }
        let rejected = (1.0 - probability.max(LEAST)) * (RANGE / GRAIN) as f64;
        Self(rejected.round() as u64 * GRAIN)
    }

    /// Returns the share of all traces that is kept, greater than 0 and at most 1.
    pub fn probability(self) -> f64 {
        (RANGE - self.0) as f64 / RANGE as f64
    }

    /// Returns T: a multiple of 2³⁶ below 2⁵⁶.
    pub fn value(self) -> u64 {
        self.0
    }

    /// Whether a trace with these random bits is kept: `rv` of its `tracestate`, or else the last 7 bytes of its id.
    #[cfg(any(test, feature = "bench"))]
    pub fn keeps(self, random: u64) -> bool {
        random & (RANGE - 1) >= self.0
    }
}

/// What happened since the last step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pressure {
    /// The time since the last step.
    pub elapsed: Duration,
    /// How full the queue is now, from 0 to 1.
    pub fill: f64,
    /// Spans started since then, without those of traces that were sampled out.
    pub started: u64,
    /// Spans ended since then, whenever they were started.
    pub ended: u64,
    /// Spans that left the queue since then, delivered or given up.
    pub drained: u64,
    /// Spans that found no room since then, in the queue or in memory.
    pub refused: u64,
}

/// Keeps a queue from filling up under overload by sampling fewer new traces.
///
/// Everything is kept until the queued spans, plus the open spans beyond their usual number (which are bound to
/// arrive), pass the threshold, or a span finds no room. Then the probability of new traces is chosen to let in as much
/// as is drained: a little more while the queue is below a quarter of the way from the threshold to full, less and less
/// above. It may fall in one step and doubles in no less than a quarter of a second, until all traces are kept again.
///
/// A step can only react to what has already filled the queue, and traces that were let in continue: call
/// [`step`](Self::step) as often as [`tick`](Self::tick) says, and at once when a span found no room. The room above
/// the threshold has to hold what an overload brings in one or two steps, and the rest of the traces that are open.
#[derive(Debug, Clone, PartialEq)]
pub struct Throttle {
    threshold: f64,
    queue_size: f64,
    sampling: SamplingThreshold,
    /// The fill of the queue, including what is bound to arrive.
    fill: f64,
    /// Drained spans per second, averaged.
    drained: f64,
    /// Spans per second that would start without sampling, averaged.
    offered: f64,
    /// The probability with which the spans that start now were let in: for older traces, that of some time ago.
    admitted_by: f64,
    open: f64,
    usually_open: f64,
}

impl Throttle {
    /// Makes a throttle that samples down above `threshold`, a share of `queue_size` spans. If only bytes bound the
    /// queue, give the number of spans that fit.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless the threshold is greater than 0 and less than 1.
    pub fn new(threshold: f64, queue_size: usize) -> Result<Self, Error> {
        if !(threshold > 0.0 && threshold < 1.0) {
            let knob = "with_backpressure_controller.queue_threshold";
            return Err(Error::config(knob, threshold, "must be greater than 0 and less than 1"));
        }
        Ok(Self {
            threshold,
            queue_size: queue_size.max(1) as f64,
            sampling: SamplingThreshold::ALL,
            fill: 0.0,
            drained: 0.0,
            offered: 0.0,
            admitted_by: 1.0,
            open: 0.0,
            usually_open: 0.0,
        })
    }

    /// Makes one step and returns which traces to keep from now on.
    pub fn step(&mut self, pressure: &Pressure) -> SamplingThreshold {
        let seconds = pressure.elapsed.as_secs_f64();
        if seconds <= 0.0 && pressure.refused == 0 {
            return self.sampling;
        }
        self.observe(pressure, seconds.max(1e-6));
        let now = self.sampling.probability();
        if self.sampling == SamplingThreshold::ALL && self.fill < self.threshold && pressure.refused == 0 {
            return self.sampling;
        }
        let mut wanted = self.drained * self.room() / self.offered.max(1.0);
        if pressure.refused > 0 {
            wanted = wanted.min(now / 2.0);
        }
        let growth = libm::exp2(seconds / DOUBLING);
        wanted = wanted.clamp(now * DEEPEST, now * growth);
        if wanted >= 1.0 || (wanted / now - 1.0).abs() >= DEADBAND.min(growth - 1.0) {
            self.sampling = SamplingThreshold::with_probability(wanted);
        }
        self.sampling
    }

    /// Returns how long the next step may wait: a fraction of the time in which ten times the current drained or
    /// started rate would fill the queue; from 1 ms to 100 ms.
    pub fn tick(&self) -> Duration {
        let busy = self.drained.max(self.offered * self.sampling.probability()).max(1.0);
        let until_full = (1.0 - self.fill).max(0.0) * self.queue_size / (OVERLOAD * busy);
        let tick = Duration::try_from_secs_f64(until_full / STEPS_TO_FULL).unwrap_or(LONGEST_TICK);
        tick.clamp(SHORTEST_TICK, LONGEST_TICK)
    }

    fn observe(&mut self, pressure: &Pressure, seconds: f64) {
        let toward = |average: &mut f64, value: f64, memory: f64| {
            *average += (value - *average) * (1.0 - libm::exp(-seconds / memory));
        };
        toward(&mut self.drained, pressure.drained as f64 / seconds, DRAIN_MEMORY);

        let ended = pressure.ended as f64 / seconds;
        self.open = (self.open + pressure.started as f64 - pressure.ended as f64).max(0.0);
        toward(&mut self.usually_open, self.open, OPEN_MEMORY);
        // Little's law: how long spans are open. Older traces bring new spans for about as long.
        let life = if ended > 0.0 { (self.open / ended).min(OPEN_MEMORY) } else { 0.0 };
        toward(&mut self.admitted_by, self.sampling.probability(), (2.0 * life).max(START_MEMORY));
        toward(&mut self.offered, pressure.started as f64 / seconds / self.admitted_by, START_MEMORY);

        let bound_to_come = (self.open - self.usually_open).max(0.0) / self.queue_size;
        let fill = if pressure.fill.is_nan() { self.fill } else { pressure.fill.clamp(0.0, 1.0) };
        self.fill = fill + bound_to_come;
    }

    /// How much may be let in for each span that is drained: 1 at the setpoint, nothing if the queue is full.
    fn room(&self) -> f64 {
        let setpoint = self.threshold + SETPOINT * (1.0 - self.threshold);
        ((1.0 - self.fill) / (1.0 - setpoint)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(0.8, 10_000).unwrap()
    }

    /// A tenth of a second in which ten times as much arrived as left.
    fn overload(fill: f64) -> Pressure {
        Pressure {
            elapsed: Duration::from_millis(100),
            fill,
            started: 10_000,
            ended: 10_000,
            drained: 1000,
            refused: 0,
        }
    }

    #[test]
    fn below_the_threshold_everything_is_kept() {
        let mut throttle = throttle();
        assert!((0..100).all(|_| throttle.step(&overload(0.79)) == SamplingThreshold::ALL));
        assert_ne!(throttle.step(&overload(0.81)), SamplingThreshold::ALL);
    }

    #[test]
    fn what_is_open_beyond_the_usual_number_counts_as_queued() {
        let mut throttle = throttle();
        let burst = Pressure { started: 9000, ended: 0, ..overload(0.1) };
        assert_ne!(throttle.step(&burst), SamplingThreshold::ALL);
        // Spans that stay open for long count as usual after a while.
        let calm = Pressure { started: 100, ended: 100, elapsed: Duration::from_secs(1), ..overload(0.1) };
        for _ in 0..300 {
            throttle.step(&calm);
        }
        assert_eq!(throttle.step(&calm), SamplingThreshold::ALL);
    }

    #[test]
    fn a_span_that_found_no_room_halves_what_is_kept_whatever_the_queue_says() {
        let mut throttle = throttle();
        let calm = Pressure { elapsed: Duration::from_secs(1), started: 10, ended: 10, drained: 10, ..overload(0.1) };
        throttle.step(&calm);
        let at_once = Pressure { refused: 1, ..Pressure::default() };
        assert_eq!(throttle.step(&at_once).probability(), 0.5);
        assert_eq!(throttle.step(&at_once).probability(), 0.25);
        let probabilities: Vec<_> = (0..3).map(|_| throttle.step(&calm).probability()).collect();
        assert_eq!(probabilities.last(), Some(&1.0), "and lets go when there is room: {probabilities:?}");
    }

    #[test]
    fn a_receiver_that_takes_nothing_leaves_next_to_nothing_to_record_but_not_nothing() {
        let mut throttle = throttle();
        let mut p = 1.0;
        for _ in 0..100 {
            let dead = Pressure { drained: 0, started: (10_000.0 * p) as u64, ended: 0, ..overload(0.9) };
            p = throttle.step(&dead).probability();
        }
        assert!(p > 0.0 && p < 1e-3, "{p}");
    }

    #[test]
    fn no_time_and_no_news_change_nothing() {
        let mut throttle = throttle();
        let before = throttle.step(&overload(0.9));
        assert_eq!(throttle.step(&Pressure { elapsed: Duration::ZERO, ..overload(1.0) }), before);
    }

    #[test]
    fn steps_come_faster_where_there_is_less_room() {
        let mut throttle = throttle();
        assert_eq!(throttle.tick(), LONGEST_TICK);
        let steady = |fill| Pressure { elapsed: Duration::from_secs(9), drained: 100_000, ..overload(fill) };
        let ticks = [0.1, 0.5, 0.75].map(|fill| {
            throttle.step(&steady(fill));
            throttle.tick()
        });
        assert!(ticks.is_sorted_by(|one, next| one > next), "{ticks:?}");
        assert!(throttle.tick() >= SHORTEST_TICK);
    }

    #[test]
    fn a_threshold_that_makes_no_sense_is_named() {
        for threshold in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            let Err(Error::Config { knob, .. }) = Throttle::new(threshold, 1000) else { panic!("{threshold}") };
            assert_eq!(knob, "with_backpressure_controller.queue_threshold");
        }
    }

    proptest! {
        #[test]
        fn a_probability_and_its_threshold_say_the_same(probability in 0.0001..1.0f64, random in any::<u64>()) {
            let threshold = SamplingThreshold::with_probability(probability);
            prop_assert!((threshold.probability() - probability).abs() <= 0.5 / (1 << 20) as f64);
            prop_assert_eq!(threshold.value() % GRAIN, 0);
            prop_assert_eq!(threshold.keeps(random), random % RANGE >= threshold.value());
        }

        #[test]
        fn whatever_happens_some_traces_are_kept_and_the_tick_is_sane(
            sequence in prop::collection::vec(
                (0..2000u64, prop_oneof![0.0..1.0f64, any::<f64>()], any::<u32>(), any::<u32>(), any::<u32>(), 0..3u64),
                0..2000,
            ),
            size in 0..1_000_000usize
        ) {
            let mut throttle = Throttle::new(0.8, size).unwrap();
            for (millis, fill, started, ended, drained, refused) in sequence {
                let [started, ended, drained] = [started, ended, drained].map(u64::from);
                let elapsed = Duration::from_millis(millis);
                let sampling = throttle.step(&Pressure { elapsed, fill, started, ended, drained, refused });
                prop_assert!(sampling.probability() >= LEAST && sampling.probability() <= 1.0);
                prop_assert!(sampling.value() < RANGE);
                prop_assert!((SHORTEST_TICK..=LONGEST_TICK).contains(&throttle.tick()));
            }
        }
    }
}
