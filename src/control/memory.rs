//! What to do when memory gets short.

use crate::config::{MemoryMonitor, MemoryThresholds};

/// A level that was reached is left at this share of it.
const RELEASE: f64 = 0.95;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MemoryResponse {
    /// Whether to warn that memory gets short: true once each time the warning threshold is reached.
    pub(crate) warn: bool,
    /// Whether to give idle memory back.
    pub(crate) trim: bool,
    /// Whether to sample fewer new traces.
    pub(crate) throttle: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Normal,
    Warning,
    Critical,
}

/// Decides, look by look, what a [`MemoryMonitor`] does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MemoryWatch {
    thresholds: MemoryThresholds,
    trims: bool,
    level: Level,
}

impl MemoryWatch {
    /// Makes the watch. `build()` has checked the settings if they come from a client.
    pub(crate) fn new(monitor: &MemoryMonitor) -> Self {
        Self { thresholds: monitor.thresholds, trims: monitor.gc_trigger, level: Level::Normal }
    }

    /// Returns what to do if this share of the memory bound is in use. NaN changes nothing.
    pub(crate) fn step(&mut self, share: f64) -> MemoryResponse {
        let before = self.level;
        self.level = self.level_at(share);
        let critical = self.level == Level::Critical;
        MemoryResponse {
            warn: before == Level::Normal && self.level > Level::Normal,
            trim: critical && self.trims,
            throttle: critical,
        }
    }

    fn level_at(&self, share: f64) -> Level {
        if share.is_nan() {
            return self.level;
        }
        let MemoryThresholds { warning, critical } = self.thresholds;
        let at_least =
            |level, threshold: f64| share >= if self.level >= level { threshold * RELEASE } else { threshold };
        if at_least(Level::Critical, critical) {
            Level::Critical
        } else if at_least(Level::Warning, warning) {
            Level::Warning
        } else {
            Level::Normal
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn watch() -> MemoryWatch {
        MemoryWatch::new(&MemoryMonitor::new())
    }

    fn responses(watch: &mut MemoryWatch, shares: &[f64]) -> Vec<(bool, bool, bool)> {
        let step = |share: &f64| watch.step(*share);
        shares.iter().map(step).map(|response| (response.warn, response.trim, response.throttle)).collect()
    }

    const NOTHING: (bool, bool, bool) = (false, false, false);
    const WARN: (bool, bool, bool) = (true, false, false);
    const RELIEVE: (bool, bool, bool) = (false, true, true);

    #[test]
    fn it_warns_once_for_each_crossing_and_not_for_noise_around_the_threshold() {
        let seen = responses(&mut watch(), &[0.5, 0.7, 0.71, 0.69, 0.72, 0.66, 0.7, 0.75]);
        assert_eq!(seen, [NOTHING, WARN, NOTHING, NOTHING, NOTHING, NOTHING, WARN, NOTHING]);
    }

    #[test]
    fn critical_memory_is_trimmed_and_throttled_until_it_is_well_below() {
        let seen = responses(&mut watch(), &[0.7, 0.9, 0.89, 0.86, 0.85, 0.89, 0.9]);
        assert_eq!(seen, [WARN, RELIEVE, RELIEVE, RELIEVE, NOTHING, NOTHING, RELIEVE]);
        assert_eq!(responses(&mut watch(), &[1.0, 1.0]), [(true, true, true), RELIEVE], "from nothing to critical");
    }

    #[test]
    fn without_the_trigger_critical_memory_is_only_throttled() {
        let mut watch = MemoryWatch::new(&MemoryMonitor::new().with_gc_trigger(false));
        assert_eq!(responses(&mut watch, &[0.95]), [(true, false, true)]);
    }

    #[test]
    fn the_thresholds_are_the_users() {
        let thresholds = MemoryThresholds { warning: 0.2, critical: 0.4 };
        let mut watch = MemoryWatch::new(&MemoryMonitor::new().with_thresholds(thresholds));
        assert_eq!(responses(&mut watch, &[0.19, 0.2, 0.4]), [NOTHING, WARN, RELIEVE]);
    }

    proptest! {
        #[test]
        fn a_warning_stands_between_two_times_below_the_threshold(
            shares in prop::collection::vec(prop_oneof![Just(f64::NAN), -1.0..2.0f64, 0.6..1.0f64], 0..3000)
        ) {
            let mut watch = watch();
            let mut warned = false;
            for share in shares {
                let response = watch.step(share);
                prop_assert!(!(response.warn && warned), "warned twice");
                prop_assert!(!response.warn || share >= 0.7);
                prop_assert_eq!(response.trim, response.throttle);
                prop_assert!(!(response.throttle && share < 0.9 * RELEASE));
                prop_assert!(response.throttle || share.is_nan() || share < 0.9);
                warned = (warned || response.warn) && (share.is_nan() || share >= 0.7 * RELEASE);
            }
        }
    }
}
