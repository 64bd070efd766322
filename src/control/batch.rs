//! How many spans a request should hold.

use super::targets::{Knobs, PerformanceTargets};
use crate::{config::BatchConfig, error::Error, stats::PerformanceMetrics};

/// Smaller requests cost the receiver more than they save in time. A configured size may be smaller still.
const FLOOR: usize = 64;
/// Larger ones compress no better. A configured size may be larger still.
const CEILING: usize = 16_384;

/// A queue this full is under pressure. One that is not has room below this: a step must not lead from one side to the
/// other.
const PRESSURE: f64 = 0.7;
/// A queue whose fill falls by this much in a step is getting emptier: batches are large enough.
const EMPTIES: f64 = 0.001;
/// Under pressure sizes grow while a request takes at most this many times the target latency, and shrink if it takes
/// [`FAR_TOO_LONG`] times. A doubling leads from one to below the other, with room for noise.
const TOO_LONG: f64 = 3.0;
const FAR_TOO_LONG: f64 = 8.0;
/// Without pressure a size grows back to the configured one if latency is below this share of the target.
const QUICK: f64 = 0.25;
/// Batches this full are limited by their size.
const FULL: f64 = 0.9;
/// What was learnt about the needed size holds until throughput falls below this share of its value then.
const FORGET: f64 = 0.5;

/// Returns the batch size that suits a queue this full (0 to 1): 500 below 0.3, 1000 below 0.7, else 2000. NaN counts
/// as medium load.
pub fn calculate_optimal_batch_size(load: f64) -> usize {
    if load < 0.3 {
        500
    } else if load < 0.7 || load.is_nan() {
        1000
    } else {
        2000
    }
}

/// Adjusts the batch size to the measurements:
///
/// - If the queue is above 70 % full and not getting emptier, or spans are lost, the size doubles, unless requests
///   already take more than three times the target latency; if they take more than eight times, it is halved.
/// - Otherwise, if spans or requests take longer than the target latency, it is halved, but never again to a size that
///   was too small for the queue, unless throughput has halved since.
/// - Otherwise, if latency is below a quarter of the target and batches are full, it doubles, up to the configured
///   size.
///
/// The size never leaves the range from 64 to 16,384, widened to the configured size, and never exceeds
/// `max_queue_size`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchManager {
    config: BatchConfig,
    /// The configured size.
    configured: usize,
    adaptive: bool,
    targets: PerformanceTargets,
    needed: Option<Needed>,
    /// The queue's fill at the last step.
    last_load: f64,
}

/// A size to which pressure has led, and the throughput when it began.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Needed {
    size: usize,
    throughput: f64,
}

impl Default for BatchManager {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchManager {
    /// Makes a manager that begins with [`BatchConfig::default`], adjusts, and aims at [`PerformanceTargets::default`].
    pub fn new() -> Self {
        let config = BatchConfig::default();
        let configured = config.max_batch_size;
        Self {
            config,
            configured,
            adaptive: true,
            targets: PerformanceTargets::default(),
            needed: None,
            last_load: 0.0,
        }
    }

    /// Sets the initial config. Only its `max_batch_size` is ever changed.
    #[must_use]
    pub fn with_initial_config(mut self, config: BatchConfig) -> Self {
        self.configured = config.max_batch_size;
        self.config = config;
        self
    }

    /// Sets whether to adjust at all. Default true.
    #[must_use]
    pub fn with_adaptive_adjustment(mut self, adaptive: bool) -> Self {
        self.adaptive = adaptive;
        self
    }

    /// Sets the targets; only the latency counts here.
    #[must_use]
    pub fn with_performance_targets(mut self, targets: PerformanceTargets) -> Self {
        self.targets = targets;
        self
    }

    /// Makes one step, whose result is [`current_config`](Self::current_config). Call it once for each interval.
    pub fn adjust_batch_size_based_on_performance(&mut self, metrics: &PerformanceMetrics) {
        if !self.adaptive {
            return;
        }
        if self.needed.is_some_and(|needed| metrics.throughput < FORGET * needed.throughput) {
            self.needed = None;
        }
        let size = self.config.max_batch_size;
        let target = self.targets.target_latency.as_secs_f64();
        let request = metrics.request_latency.as_secs_f64() / target;
        let latency = request.max(metrics.avg_latency.as_secs_f64() / target);
        let wanted = if metrics.load >= PRESSURE || metrics.dropped > 0 {
            self.under_pressure(size, request, metrics)
        } else if latency > 1.0 {
            (size / 2).max(self.needed.map_or(0, |needed| needed.size)).min(size)
        } else if latency > 0.0 && latency <= QUICK && metrics.avg_batch_size >= FULL * size as f64 {
            (size.saturating_mul(2)).min(self.configured).max(size)
        } else {
            size
        };
        self.last_load = metrics.load;
        self.config.max_batch_size = wanted.clamp(self.floor(), self.ceiling());
    }

    fn under_pressure(&mut self, size: usize, request: f64, metrics: &PerformanceMetrics) -> usize {
        if request > FAR_TOO_LONG {
            return size / 2;
        }
        let empties = metrics.dropped == 0 && metrics.load < self.last_load - EMPTIES;
        if empties || request > TOO_LONG || size >= self.ceiling() {
            return size;
        }
        let size = size.saturating_mul(2);
        let throughput = self.needed.map_or(metrics.throughput, |needed| needed.throughput);
        self.needed = Some(Needed { size: size.min(self.ceiling()), throughput });
        size
    }

    /// Whether it adjusts at all.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.adaptive
    }

    /// The current configuration.
    pub fn current_config(&self) -> &BatchConfig {
        &self.config
    }

    fn floor(&self) -> usize {
        FLOOR.min(self.configured).min(self.ceiling()).max(1)
    }

    fn ceiling(&self) -> usize {
        CEILING.max(self.configured).min(self.config.max_queue_size).max(1)
    }

    /// Returns the manager if its targets are valid. The configuration is validated like any other.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        self.targets.check(&Knobs {
            latency: "with_batch_manager.target_latency",
            throughput: "with_batch_manager.target_throughput",
            memory: "with_batch_manager.max_memory_usage",
            cpu: "with_batch_manager.max_cpu_usage",
        })?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{super::targets::tests::senseless, *};

    fn manager(size: usize, queue: usize) -> BatchManager {
        let config = BatchConfig { max_batch_size: size, max_queue_size: queue, ..Default::default() };
        BatchManager::new().with_initial_config(config)
    }

    fn calm() -> PerformanceMetrics {
        let latency = Duration::from_millis(50);
        PerformanceMetrics { throughput: 1000.0, load: 0.1, avg_latency: latency, ..Default::default() }
    }

    fn after(manager: &mut BatchManager, metrics: &PerformanceMetrics, steps: usize) -> usize {
        for _ in 0..steps {
            manager.adjust_batch_size_based_on_performance(metrics);
        }
        manager.current_config().max_batch_size
    }

    #[test]
    fn the_size_that_suits_a_load_has_three_steps() {
        for (load, size) in [
            (0.0, 500),
            (0.2, 500),
            (0.3, 1000),
            (0.5, 1000),
            (0.7, 2000),
            (0.9, 2000),
            (1.0, 2000),
            (-1.0, 500),
            (7.0, 2000),
            (f64::NAN, 1000),
            (f64::NEG_INFINITY, 500),
            (f64::INFINITY, 2000),
        ] {
            assert_eq!(calculate_optimal_batch_size(load), size, "{load}");
        }
    }

    #[test]
    fn pressure_and_loss_make_batches_larger_up_to_the_queue() {
        for pressed in [PerformanceMetrics { load: 0.9, ..calm() }, PerformanceMetrics { dropped: 1, ..calm() }] {
            assert_eq!(after(&mut manager(1000, 50_000), &pressed, 1), 2000);
            assert_eq!(after(&mut manager(1000, 50_000), &pressed, 20), CEILING);
            assert_eq!(after(&mut manager(1000, 3000), &pressed, 20), 3000);
        }
    }

    #[test]
    fn a_batch_that_exceeds_the_target_latency_gets_smaller_down_to_the_floor() {
        let late = PerformanceMetrics { avg_latency: Duration::from_millis(101), ..calm() };
        assert_eq!(after(&mut manager(1000, 50_000), &late, 1), 500);
        assert_eq!(after(&mut manager(1000, 50_000), &late, 20), FLOOR);
        let slow = PerformanceMetrics { request_latency: Duration::from_millis(101), ..calm() };
        assert_eq!(after(&mut manager(1000, 50_000), &slow, 1), 500);
        assert_eq!(after(&mut manager(10, 50_000), &slow, 20), 10, "a configured size below the floor stays");
    }

    #[test]
    fn the_target_latency_is_the_users() {
        let targets = PerformanceTargets { target_latency: Duration::from_millis(40), ..Default::default() };
        let mut strict = manager(1000, 50_000).with_performance_targets(targets);
        assert_eq!(after(&mut strict, &calm(), 1), 500);
        assert_eq!(after(&mut manager(1000, 50_000), &calm(), 1), 1000);
    }

    #[test]
    fn under_pressure_a_request_may_take_longer_but_not_without_end() {
        let pressed =
            |millis| PerformanceMetrics { load: 1.0, request_latency: Duration::from_millis(millis), ..calm() };
        assert_eq!(after(&mut manager(1000, 50_000), &pressed(299), 1), 2000);
        assert_eq!(after(&mut manager(1000, 50_000), &pressed(301), 9), 1000);
        assert_eq!(after(&mut manager(1000, 50_000), &pressed(801), 1), 500);
    }

    #[test]
    fn what_pressure_has_shown_to_be_needed_is_not_tried_again_while_as_much_comes() {
        let mut manager = manager(1000, 50_000);
        let pressed = PerformanceMetrics { load: 0.9, ..calm() };
        assert_eq!(after(&mut manager, &pressed, 1), 2000);
        let late = PerformanceMetrics { request_latency: Duration::from_millis(200), ..calm() };
        assert_eq!(after(&mut manager, &late, 9), 2000);
        assert_eq!(after(&mut manager, &PerformanceMetrics { throughput: 499.0, ..late }, 1), 1000);
    }

    #[test]
    fn a_size_grows_back_to_the_configured_one_where_there_is_time() {
        let mut manager = manager(1000, 50_000);
        let late = PerformanceMetrics { avg_latency: Duration::from_secs(1), ..calm() };
        assert_eq!(after(&mut manager, &late, 20), FLOOR);
        let quick = PerformanceMetrics { avg_latency: Duration::from_millis(20), avg_batch_size: 1000.0, ..calm() };
        assert_eq!(after(&mut manager, &quick, 20), 1000);
        let few = PerformanceMetrics { avg_batch_size: 10.0, ..quick };
        assert_eq!(after(&mut manager, &late, 20), FLOOR);
        assert_eq!(after(&mut manager, &few, 20), FLOOR, "batches are not limited by their size");
    }

    #[test]
    fn without_adaptive_adjustment_nothing_moves() {
        let mut manager = manager(1000, 50_000).with_adaptive_adjustment(false);
        assert_eq!(after(&mut manager, &PerformanceMetrics { load: 1.0, dropped: 9, ..calm() }, 9), 1000);
    }

    #[test]
    fn targets_that_make_no_sense_are_named() {
        for (field, targets) in senseless() {
            let checked = BatchManager::new().with_performance_targets(targets).checked();
            let Err(Error::Config { knob, .. }) = checked else { panic!("{field} was taken") };
            assert_eq!(knob, format!("with_batch_manager.{field}"));
        }
        assert_eq!(BatchManager::new().checked().unwrap(), BatchManager::default());
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![4 => 0.0..1.2f64, 1 => 0.0..1e7f64, 1 => any::<f64>()]
    }

    prop_compose! {
        fn any_metrics()(
            load in number(), throughput in number(), dropped in prop_oneof![Just(0), Just(7u64)],
            latency in 0..2_000_000u64, request in 0..2_000_000u64, avg_batch_size in number()
        ) -> PerformanceMetrics {
            let avg_latency = Duration::from_micros(latency);
            let request_latency = Duration::from_micros(request);
            PerformanceMetrics {
                load, throughput, dropped, avg_latency, request_latency, avg_batch_size, ..Default::default()
            }
        }
    }

    proptest! {
        #[test]
        fn constant_metrics_lead_to_a_constant_size(
            size in 1..100_000usize, queue in prop_oneof![1..200_000usize, Just(usize::MAX)],
            before in prop::collection::vec(any_metrics(), 0..20), metrics in any_metrics()
        ) {
            let mut manager = manager(size, queue);
            for before in before {
                manager.adjust_batch_size_based_on_performance(&before);
            }
            let settled = after(&mut manager, &metrics, 24);
            prop_assert_eq!(after(&mut manager, &metrics, 1), settled);
            prop_assert_eq!(after(&mut manager, &metrics, 1), settled);
        }

        #[test]
        fn no_sequence_of_metrics_leads_outside_the_bounds(
            size in 1..100_000usize, queue in 1..200_000usize,
            sequence in prop::collection::vec(any_metrics(), 0..2000)
        ) {
            let mut manager = manager(size, queue);
            for metrics in sequence {
                let now = after(&mut manager, &metrics, 1);
                prop_assert!(now >= 1.max(FLOOR.min(size).min(queue)) && now <= queue, "{now}");
                prop_assert!(now <= CEILING.max(size));
            }
        }

        /// A model of a receiver with a round trip and a bandwidth, and a queue in front of it.
        #[test]
        fn in_a_closed_loop_the_size_comes_to_rest(
            offered in 100.0..100_000f64, round_trip in 0.0001..0.5f64, per_second in 1000.0..1e6f64,
            connections in 1..8u32
        ) {
            let mut manager = manager(1000, 50_000);
            let (mut queue, mut sizes) = (0.0f64, Vec::new());
            for _ in 0..2000 {
                let size = manager.current_config().max_batch_size as f64;
                let request = round_trip + size / per_second;
                let capacity = f64::from(connections) * size / request;
                let served = (queue + offered).min(capacity);
                let dropped = (queue + offered - served - 50_000.0).max(0.0);
                queue = (queue + offered - served).min(50_000.0);
                manager.adjust_batch_size_based_on_performance(&PerformanceMetrics {
                    throughput: served,
                    load: queue / 50_000.0,
                    dropped: dropped as u64,
                    request_latency: Duration::from_secs_f64(request),
                    avg_latency: Duration::from_secs_f64(request + queue / capacity),
                    avg_batch_size: size.min(served),
                    ..Default::default()
                });
                sizes.push(manager.current_config().max_batch_size);
            }
            let last = &sizes[1500..];
            prop_assert!(last.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", last);
        }
    }
}
