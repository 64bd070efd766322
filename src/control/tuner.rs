//! Finding better settings by trying them.
//!
//! It makes one experiment at a time: change one knob by one step (or two against one another), let an interval pass,
//! measure, compare with the previous measurements, and keep the step or take it back. `cost` says what "better" means,
//! `plan` which step comes next, `window` whether a difference is more than noise; this file conducts. When no step
//! helps any more, or the targets are met, the tuner rests until conditions change.

use std::{collections::VecDeque, time::Duration};

use super::targets::{Knobs, PerformanceTargets};
use crate::{config::Tuning, error::Error, stats::PerformanceMetrics};

mod cost;
mod limits;
mod plan;
mod window;

use cost::cost;
pub use limits::{TuningLimits, TuningStrategy};
use plan::{Plan, Step};
use window::{Noise, Window};

/// Intervals that pass unmeasured after a change: requests in progress still belong to the old settings.
const TRANSITION: u32 = 1;
/// Intervals for measuring the settings to improve on, unless there is no noise, and for comparing conditions.
const BASELINE: u32 = 8;
/// A step is kept after two intervals at the earliest and taken back after three. After eight it is taken back unless
/// it is half way to a significant gain, and after twenty in any case.
const KEPT_AFTER: u32 = 2;
const REVERTED_AFTER: u32 = 3;
const DOUBTED_AFTER: u32 = 8;
const JUDGED_AFTER: u32 = 20;
/// The least gain that is worth a step, and a cost that counts as none.
const WORTH_IT: f64 = 0.03;
const SATISFIED: f64 = 0.05;
/// Conditions have changed if the cost differs by more than this. Half a percent of the spans is 0.02.
const CHANGED: f64 = 0.15;
/// How many standard errors a significant difference must have.
const SURE: f64 = 2.0;
const CERTAIN: f64 = 6.0;
/// The most windows of rest after explorations without a gain.
const LONGEST_REST: u32 = 32;
const REMEMBERED: usize = 64;

/// A shorter interval would keep a thread spinning.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Tunes a client while it runs: towards which targets, with which settings, and how often.
///
/// It changes one setting by one step (or two against one another), measures, and keeps the step if that was better,
/// else takes it back. "Better" is a smaller cost: spans not accepted weigh most (though fewer than the target are
/// enough if all of them arrive); then memory and CPU above their bounds; then latency above its target, unless the
/// queue takes the time; and answers that ask to slow down. It rests while all targets are met, or no step helps any
/// more, until conditions change. Its actions and their reasons are logged at `info`, and returned in
/// [`PerformanceMetrics::decision`](crate::monitoring::PerformanceMetrics::decision).
///
/// It cannot see what no metric shows: if a receiver lifts a limit that its client stays below, nothing changes.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoTuner {
    interval: Duration,
    targets: PerformanceTargets,
    strategies: Vec<TuningStrategy>,
}

impl Default for AutoTuner {
    fn default() -> Self {
        Self::new()
    }
}

impl AutoTuner {
    /// Makes a tuner that decides every 30 s, aims at the default targets, and uses every strategy.
    pub fn new() -> Self {
        let strategies = vec![TuningStrategy::BatchSize, TuningStrategy::ConnectionPool, TuningStrategy::Compression];
        Self { interval: Duration::from_secs(30), targets: PerformanceTargets::default(), strategies }
    }

    /// Sets how long each setting is measured before the next decision. Default 30 s; at least 1 ms. An exploration
    /// takes 30 to 180 of these.
    #[must_use]
    pub fn with_tuning_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the targets. Nothing is changed while all of them are met.
    #[must_use]
    pub fn with_performance_targets(mut self, targets: PerformanceTargets) -> Self {
        self.targets = targets;
        self
    }

    /// Sets which settings it may change; at least one. Default all.
    #[must_use]
    pub fn with_tuning_strategies(mut self, strategies: Vec<TuningStrategy>) -> Self {
        self.strategies = strategies;
        self
    }

    /// The length of an interval.
    pub(crate) fn tuning_interval(&self) -> Duration {
        self.interval
    }

    /// The settings it may change.
    pub(crate) fn strategies(&self) -> &[TuningStrategy] {
        &self.strategies
    }

    /// Returns the stepper, beginning with these settings.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a setting or a limit is invalid.
    pub(crate) fn start(self, initial: Tuning, limits: TuningLimits) -> Result<Tuner, Error> {
        let AutoTuner { targets, strategies, .. } = self.checked()?;
        Ok(Tuner {
            targets,
            plan: Plan::new(&strategies, limits.checked()?),
            tuning: initial,
            phase: Phase::Measuring,
            transition: TRANSITION,
            base: Window::default(),
            window: Window::default(),
            noise: Noise::default(),
            has_gained: false,
            rest: 1,
            interval: 0,
            decisions: VecDeque::new(),
        })
    }

    /// Returns the tuner if its settings are valid.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        if self.interval < SHORTEST_INTERVAL {
            let shown = format!("{:?}", self.interval);
            return Err(Error::config("with_auto_tuner.tuning_interval", shown, "must be at least 1ms"));
        }
        if self.strategies.is_empty() {
            return Err(Error::config("with_auto_tuner.tuning_strategies", "[]", "must name at least one"));
        }
        self.targets.check(&Knobs {
            latency: "with_auto_tuner.performance_targets.target_latency",
            throughput: "with_auto_tuner.performance_targets.target_throughput",
            memory: "with_auto_tuner.performance_targets.max_memory_usage",
            cpu: "with_auto_tuner.performance_targets.max_cpu_usage",
        })?;
        Ok(self)
    }
}

/// The current phase. In every phase `window` collects the measurements under the present settings.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Measuring the settings to improve on.
    Measuring,
    /// Trying a step; `base` has the measurements before it.
    Trying { before: Tuning, step: Step },
    /// Resting while conditions stay as in `base`, for at least `windows` windows.
    Resting { windows: u32 },
}

/// Tries to reach an [`AutoTuner`]'s targets, interval by interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuner {
    targets: PerformanceTargets,
    plan: Plan,
    tuning: Tuning,
    phase: Phase,
    /// How many more intervals to leave out.
    transition: u32,
    base: Window,
    window: Window,
    noise: Noise,
    /// Whether this exploration has kept a step.
    has_gained: bool,
    /// The least number of windows of the next rest; doubles with each exploration without a gain.
    rest: u32,
    interval: u64,
    decisions: VecDeque<String>,
}

impl Tuner {
    /// Takes the measurements of the last interval, under the settings returned by the previous step, and returns the
    /// settings for the next one. An interval in which nothing was recorded is left out.
    pub fn step(&mut self, metrics: &PerformanceMetrics) -> Tuning {
        self.interval += 1;
        let Some(cost) = cost(&self.targets, metrics) else { return self.tuning };
        if self.transition > 0 {
            self.transition -= 1;
            return self.tuning;
        }
        self.window.add(cost, metrics);
        match self.phase.clone() {
            Phase::Measuring => self.measure(),
            Phase::Trying { before, step } => self.judge(before, &step),
            Phase::Resting { windows } => self.watch(windows),
        }
        self.tuning
    }

    /// Returns the current settings.
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Whether nothing is being tried.
    #[cfg(any(test, feature = "bench"))]
    pub fn is_resting(&self) -> bool {
        matches!(self.phase, Phase::Resting { .. })
    }

    /// Returns the last 64 decisions and their reasons, oldest first, one line each.
    #[cfg(any(test, feature = "bench"))]
    pub fn decisions(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().map(String::as_str)
    }

    /// Returns the latest of [`decisions`](Self::decisions).
    pub fn last_decision(&self) -> Option<&str> {
        self.decisions.back().map(String::as_str)
    }

    fn measure(&mut self) {
        let is_certain = self.noise.is_below(WORTH_IT, &self.window);
        if self.window.len() >= BASELINE || is_certain && self.window.len() >= KEPT_AFTER {
            self.noise.learn(&self.window);
            self.base = self.window.take();
            self.go_on();
        }
    }

    /// Compares the step with the measurements before it.
    fn judge(&mut self, before: Tuning, step: &Step) {
        let intervals = self.window.len();
        let gain = self.base.cost() - self.window.cost();
        let margin = WORTH_IT.max(SURE * self.noise.of_difference(&self.base, &self.window));
        if intervals >= KEPT_AFTER && gain > margin {
            self.say(format!("kept {}: {}", step.describe(before, self.tuning), self.base.compare(&self.window)));
            self.has_gained = true;
            self.plan.kept(step);
            // The measurements were enough to keep the step, but perhaps by luck.
            self.phase = Phase::Measuring;
            self.measure();
        } else if gain < -margin && intervals >= KEPT_AFTER
            || gain < WORTH_IT / 2.0 && intervals >= REVERTED_AFTER
            || gain < margin / 2.0 && intervals >= DOUBTED_AFTER
            || intervals >= JUDGED_AFTER
        {
            let what = step.describe(self.tuning, before);
            self.say(format!("took back {what}: {} is no gain", self.base.compare(&self.window)));
            self.noise.learn(&self.window);
            self.window = Window::default();
            self.tuning = before;
            self.transition = TRANSITION;
            self.go_on();
        }
    }

    /// Tries the next step from the present settings, which `base` describes; rests if there is none, or no need.
    fn go_on(&mut self) {
        if self.base.cost() <= SATISFIED {
            return self.settle("the targets are met");
        }
        let Some((step, tuning)) = self.plan.next(self.tuning) else {
            return self.settle("no step improves on this");
        };
        let what = step.describe(self.tuning, tuning);
        self.say(format!("try {what}, since {}", self.base.complaint(&self.targets)));
        self.phase = Phase::Trying { before: self.tuning, step };
        self.tuning = tuning;
        self.transition = TRANSITION;
    }

    fn settle(&mut self, why: &str) {
        self.rest = if self.has_gained { 1 } else { (self.rest * 2).min(LONGEST_REST) };
        self.has_gained = false;
        let Tuning { batch_size, connections, compression, effort } = self.tuning;
        let with = format!("batch_size {batch_size}, connections {connections}, {compression:?} ({})", effort.name());
        self.say(format!("rest with {with}: {why}"));
        self.phase = Phase::Resting { windows: 0 };
        self.base = Window::default();
        self.window = Window::default();
        self.transition = TRANSITION;
    }

    /// Compares the measurements with those at the beginning of the rest.
    fn watch(&mut self, windows: u32) {
        if self.window.len() < BASELINE {
            return;
        }
        let now = self.window.take();
        self.phase = Phase::Resting { windows: windows + 1 };
        if windows == 0 {
            self.base = now;
            return;
        }
        let margin = CHANGED.max(CERTAIN * self.noise.of_difference(&self.base, &now));
        let satisfied = now.cost() <= SATISFIED;
        let changed = (now.cost() - self.base.cost()).abs() > margin || now.has_other_conditions(&self.base);
        if changed && !satisfied && windows >= self.rest {
            self.say(format!("explore again, since conditions changed: {}", self.base.compare(&now)));
            self.plan.begin();
            self.phase = Phase::Measuring;
        } else if changed && satisfied {
            self.base = now;
        }
    }

    fn say(&mut self, what: String) {
        if self.decisions.len() == REMEMBERED {
            self.decisions.pop_front();
        }
        self.decisions.push_back(format!("interval {}: {what}", self.interval));
    }
}

#[cfg(test)]
mod tests;
