//! Receivers that need different settings, and a tuner let loose on each.

use std::time::Duration;

use otlp::{
    Compression, Error,
    bench::{Tuner, TuningLimits},
    core::{AutoTuner, PerformanceTargets, Tuning, TuningStrategy},
    monitoring::PerformanceMetrics,
};

use crate::{
    chance::Chance,
    simulation::{World, grid, settings},
};

/// Seconds between two decisions.
const INTERVAL: f64 = 10.0;

#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) world: World,
    pub(crate) initial: Tuning,
    pub(crate) targets: PerformanceTargets,
    pub(crate) limits: TuningLimits,
    pub(crate) strategies: Vec<TuningStrategy>,
}

/// A tuner and the world around it.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) tuner: Tuner,
    pub(crate) tuning: Tuning,
    /// The interval of the last change, from 0.
    pub(crate) last_change: u64,
    pub(crate) interval: u64,
    chance: Chance,
}

impl Scenario {
    fn new(name: &'static str, world: World, initial: Tuning) -> Self {
        let compressions = vec![Compression::None, Compression::Gzip];
        Self {
            name,
            world,
            initial,
            targets: PerformanceTargets {
                target_throughput: 50_000,
                target_latency: Duration::from_millis(150),
                ..Default::default()
            },
            limits: TuningLimits { connections: 1..=16, compressions, ..Default::default() },
            strategies: vec![TuningStrategy::BatchSize, TuningStrategy::ConnectionPool, TuningStrategy::Compression],
        }
    }

    /// A receiver far away, one behind a narrow network, one that throttles, one that throttles whatever is done, and
    /// one where only latency is wrong.
    pub(crate) fn all() -> Vec<Self> {
        let near = World::near();
        let tuning = |batch_size, connections| settings(batch_size, connections, Compression::default());
        let plain = settings(512, 2, Compression::None);
        vec![
            Self::new("100 ms away", World { latency: 0.1, ..near.clone() }, tuning(128, 1)),
            Self::new("1 Mbit/s", World { bandwidth: 1e6, offered: 10_000.0, ..near.clone() }, plain),
            Self::new("429 above 10/s", World { rate_limit: 10.0, latency: 0.01, ..near.clone() }, tuning(512, 8)),
            Self::new("429 above 2/s", World { rate_limit: 2.0, latency: 0.01, ..near.clone() }, tuning(512, 8)),
            Self::new("too large batches", near, tuning(16_384, 8)),
        ]
    }

    /// What the best of all settings achieves: the most spans, and of those the least latency.
    pub(crate) fn best(&self) -> (Tuning, PerformanceMetrics) {
        let measured = grid(&self.limits).into_iter().map(|tuning| (tuning, self.world.at_rest(tuning)));
        let by = |one: &PerformanceMetrics, other: &PerformanceMetrics| {
            one.throughput.total_cmp(&other.throughput).then(other.avg_latency.cmp(&one.avg_latency))
        };
        measured.max_by(|one, other| by(&one.1, &other.1)).unwrap_or_default()
    }

    /// A tuner that sees measurements which are off by up to `noise`.
    pub(crate) fn run(&self, noise: f64, seed: u64) -> Result<Run, Error> {
        let tuner = AutoTuner::new()
            .with_performance_targets(self.targets.clone())
            .with_tuning_strategies(self.strategies.clone());
        let tuner = otlp::bench::start(tuner, self.initial, self.limits.clone())?;
        let world = World { noise, ..self.world.clone() };
        Ok(Run { world, tuner, tuning: self.initial, last_change: 0, interval: 0, chance: Chance::new(seed) })
    }
}

impl Run {
    pub(crate) fn go(&mut self, intervals: u64) {
        for _ in 0..intervals {
            let metrics = self.world.step(self.tuning, INTERVAL, &mut self.chance);
            let tuning = self.tuner.step(&metrics);
            if tuning != self.tuning {
                self.last_change = self.interval;
            }
            self.tuning = tuning;
            self.interval += 1;
        }
    }
}
