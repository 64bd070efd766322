//! How bodies should be compressed, given the spare capacity of network and CPU.

use std::time::Duration;

use crate::{
    config::{Compression, Effort, Encoding},
    error::Error,
    stats::PerformanceMetrics,
};

/// This many consecutive steps have to want the same before anything changes.
const PATIENCE: u32 = 3;
/// What crossing a threshold has started ends at this share of it, or of its inverse.
const RELEASE: f64 = 0.8;
/// On an idle path another encoding has to be cheaper by this factor.
const WORTH_IT: f64 = 0.8;
/// Assumed until measured, in kbit/s.
const USUAL_BANDWIDTH: f64 = 100_000.0;
/// CPU of a span besides compression, in ns per byte of its record.
const BASE: f64 = 1.0;

/// Chooses when to compress harder, and when less:
///
/// - Below the bandwidth threshold or above the latency threshold: harder, a step at a time, as long as that is
///   expected to stay below the CPU threshold.
/// - Above the CPU threshold: less, down to none.
/// - Both at once: no harder than the fastest compressor at its fastest.
/// - Neither: whatever costs least in total, the time to compress a span plus the time to send it. That is no
///   compression above 1 to 3 Gbit/s, as on the loopback, else the fastest compressor. It does not go back to a choice
///   with which the threshold would be crossed again.
///
/// The compressor is zstd if it is compiled in and the receiver accepts it, else gzip; brotli only if there is no
/// other.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptiveCompression {
    bandwidth: u64,
    cpu: f64,
    latency: Duration,
}

impl Default for AdaptiveCompression {
    fn default() -> Self {
        Self::new()
    }
}

impl AdaptiveCompression {
    /// Makes a controller with thresholds of 1000 kbit/s, 80 % of one core and 200 ms.
    pub fn new() -> Self {
        Self { bandwidth: 1000, cpu: 0.8, latency: Duration::from_millis(200) }
    }

    /// Sets the bandwidth in kbit/s, measured with large bodies, below which the network is the bottleneck. Default
    /// 1000; at least 1.
    #[must_use]
    pub fn with_network_condition_threshold(mut self, kbits_per_second: u64) -> Self {
        self.bandwidth = kbits_per_second;
        self
    }

    /// Sets the share of one core, used by the client's threads, above which the CPU is the bottleneck. Default 0.8;
    /// finite and greater than 0; more than 1 if several cores may be used.
    #[must_use]
    pub fn with_cpu_usage_threshold(mut self, share: f64) -> Self {
        self.cpu = share;
        self
    }

    /// Sets the mean time of a request above which the network is the bottleneck. Default 200 ms; longer than zero.
    #[must_use]
    pub fn with_latency_threshold(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Returns the stepper, beginning with this compression and effort.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a threshold is invalid.
    pub(crate) fn start(self, compression: Compression, effort: Effort) -> Result<CompressionChooser, Error> {
        let settings = self.checked()?;
        Ok(CompressionChooser { settings, current: Encoding { compression, effort }, wanted: None, patience: 0 })
    }

    /// Returns the settings if they are valid.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        if self.bandwidth == 0 {
            let knob = "with_adaptive_compression.network_condition_threshold";
            return Err(Error::config(knob, 0, "must be at least 1"));
        }
        if !(self.cpu.is_finite() && self.cpu > 0.0) {
            let knob = "with_adaptive_compression.cpu_usage_threshold";
            return Err(Error::config(knob, self.cpu, "must be finite and greater than 0"));
        }
        if self.latency.is_zero() {
            let knob = "with_adaptive_compression.latency_threshold";
            return Err(Error::config(knob, "0s", "must be longer than zero"));
        }
        Ok(self)
    }
}

impl Encoding {
    /// CPU in nanoseconds per byte, and the compression ratio; measured on span records.
    fn cost(self) -> (f64, f64) {
        let (cpu, ratio) = match self.compression {
            Compression::None => return (0.0, 1.0),
            Compression::Gzip => (4.0, 4.0),
            Compression::Zstd => (2.4, 5.6),
            Compression::Brotli => (8.0, 4.0),
        };
        match self.effort {
            Effort::Least => (cpu, ratio),
            Effort::Normal => (cpu * 1.7, ratio * 1.05),
            Effort::Most => (cpu * 3.0, ratio * 1.1),
        }
    }

    /// Nanoseconds until a byte of a record is sent: compressed, then written.
    fn time(self, kbits: f64) -> f64 {
        let (cpu, ratio) = self.cost();
        cpu + 8.0e6 / (kbits * ratio)
    }
}

/// Makes the decisions of [`AdaptiveCompression`], interval by interval.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompressionChooser {
    settings: AdaptiveCompression,
    current: Encoding,
    wanted: Option<Encoding>,
    /// How many consecutive steps wanted this.
    patience: u32,
}

impl CompressionChooser {
    /// Returns how to compress from now on, given the compressions that are `available`: those the receiver is known to
    /// accept. Ones that are not compiled in are never used. Changes by one step at a time, after three consecutive
    /// intervals that ask for it, and at once if the present choice is no longer available. An empty list leaves no
    /// compression.
    pub(crate) fn choose(&mut self, metrics: &PerformanceMetrics, available: &[Compression]) -> (Compression, Effort) {
        let ladder = ladder(available);
        let at = ladder.iter().position(|way| *way == self.current).unwrap_or_else(|| {
            // The nearest one with the same effort, or without compression.
            let compresses = self.current.compression != Compression::None;
            let same =
                ladder.iter().position(|way| compresses && way.effort == self.current.effort && *way != Encoding::NONE);
            same.unwrap_or(0)
        });
        self.current = ladder[at];
        let wanted = ladder[self.next(metrics, &ladder, at)];
        if self.wanted != Some(wanted) {
            (self.wanted, self.patience) = (Some(wanted), 0);
        }
        self.patience = (self.patience + 1).min(PATIENCE);
        if self.patience == PATIENCE {
            self.current = wanted;
        }
        (self.current.compression, self.current.effort)
    }

    /// The rung that these metrics ask for: the current one or a neighbour.
    fn next(&self, metrics: &PerformanceMetrics, ladder: &[Encoding], at: usize) -> usize {
        let scarce = Scarce::new(&self.settings, metrics);
        let harder = (at + 1).min(ladder.len() - 1);
        let fastest = usize::from(ladder[0] == Encoding::NONE);
        let fits = |to: usize| cpu_at(metrics.cpu_usage, ladder[at], ladder[to]) <= RELEASE * self.settings.cpu;
        match (scarce.network, scarce.cpu) {
            (true, true) if at > fastest => at - 1,
            (true, true) => at,
            (true, false) if fits(harder) => harder,
            (true, false) => at,
            (false, true) => at.saturating_sub(1),
            (false, false) => {
                let kbits = Some(metrics.bandwidth_kbits).filter(|kbits| *kbits > 0.0).unwrap_or(USUAL_BANDWIDTH);
                let time = |rung: &usize| ladder[*rung].time(kbits);
                let best = (0..ladder.len()).min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(at);
                let to = if best < at { at - 1 } else { (at + 1).min(best) };
                let cheaper = ladder[best].time(kbits) < WORTH_IT * ladder[at].time(kbits);
                let returns = if to < at { self.would_be_scarce(metrics, ladder[at], ladder[to]) } else { !fits(to) };
                if cheaper && !returns { to } else { at }
            }
        }
    }

    /// Whether the network would be the bottleneck after compressing less. At most the whole time of a request grows
    /// with its bytes.
    fn would_be_scarce(&self, metrics: &PerformanceMetrics, from: Encoding, to: Encoding) -> bool {
        let growth = from.cost().1 / to.cost().1;
        let narrow =
            metrics.bandwidth_kbits > 0.0 && metrics.bandwidth_kbits * RELEASE < self.settings.bandwidth as f64;
        narrow || metrics.request_latency.as_secs_f64() * growth > RELEASE * self.settings.latency.as_secs_f64()
    }
}

/// The bottlenecks.
struct Scarce {
    network: bool,
    cpu: bool,
}

impl Scarce {
    fn new(settings: &AdaptiveCompression, metrics: &PerformanceMetrics) -> Self {
        let kbits = metrics.bandwidth_kbits;
        let narrow = kbits > 0.0 && kbits < settings.bandwidth as f64;
        Self { network: narrow || metrics.request_latency > settings.latency, cpu: metrics.cpu_usage > settings.cpu }
    }
}

/// The estimated CPU share: as if all of it went into records and their compression, which is the largest possible
/// change.
fn cpu_at(share: f64, from: Encoding, to: Encoding) -> f64 {
    share * (BASE + to.cost().0) / (BASE + from.cost().0)
}

/// The available encodings, from none to the hardest.
fn ladder(available: &[Compression]) -> Vec<Encoding> {
    let preferred = [Compression::Zstd, Compression::Gzip, Compression::Brotli];
    let best = preferred.into_iter().find(|way| available.contains(way) && way.is_compiled_in());
    let none = (available.contains(&Compression::None) || best.is_none()).then_some(Encoding::NONE);
    let efforts = [Effort::Least, Effort::Normal, Effort::Most];
    let compressed = best.into_iter().flat_map(|compression| efforts.map(|effort| Encoding { compression, effort }));
    none.into_iter().chain(compressed).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Compression; 2] = [Compression::None, Compression::Gzip];
    const GZIP: Compression = Compression::Gzip;

    fn chooser(compression: Compression, effort: Effort) -> CompressionChooser {
        AdaptiveCompression::new().start(compression, effort).unwrap()
    }

    /// Neither network nor CPU is a bottleneck, and at 100 Mbit/s compression pays.
    fn idle() -> PerformanceMetrics {
        PerformanceMetrics {
            bandwidth_kbits: 100_000.0,
            cpu_usage: 0.05,
            request_latency: Duration::from_millis(10),
            ..Default::default()
        }
    }

    fn after(chooser: &mut CompressionChooser, metrics: &PerformanceMetrics, steps: u32) -> (Compression, Effort) {
        (0..steps).map(|_| chooser.choose(metrics, &BOTH)).last().unwrap()
    }

    #[test]
    fn a_narrow_network_is_compressed_for_harder_a_step_at_a_time() {
        let narrow = PerformanceMetrics { bandwidth_kbits: 999.0, ..idle() };
        let mut chooser = chooser(GZIP, Effort::Least);
        assert_eq!(after(&mut chooser, &narrow, PATIENCE - 1), (GZIP, Effort::Least));
        assert_eq!(after(&mut chooser, &narrow, 1), (GZIP, Effort::Normal));
        assert_eq!(after(&mut chooser, &narrow, PATIENCE), (GZIP, Effort::Most));
        let wide = PerformanceMetrics { bandwidth_kbits: 1e6, ..idle() };
        assert_eq!(after(&mut chooser, &wide, 50), (GZIP, Effort::Least), "and less again when it is wide");
    }

    #[test]
    fn slow_requests_are_compressed_for_harder() {
        let slow = PerformanceMetrics { request_latency: Duration::from_millis(201), ..idle() };
        assert_eq!(after(&mut chooser(GZIP, Effort::Least), &slow, 50), (GZIP, Effort::Most));
    }

    #[test]
    fn a_busy_cpu_is_spared() {
        let busy = PerformanceMetrics { cpu_usage: 0.81, ..idle() };
        let mut chooser = chooser(GZIP, Effort::Most);
        assert_eq!(after(&mut chooser, &busy, PATIENCE), (GZIP, Effort::Normal));
        assert_eq!(after(&mut chooser, &busy, 50), (Compression::None, Effort::Least));
        // At five times the CPU the threshold would be crossed again.
        let relieved = PerformanceMetrics { cpu_usage: 0.2, ..idle() };
        assert_eq!(after(&mut chooser, &relieved, 50), (Compression::None, Effort::Least));
        assert_eq!(after(&mut chooser, &idle(), 50), (GZIP, Effort::Least));
    }

    #[test]
    fn where_both_are_scarce_the_fastest_compressor_is_left() {
        let both = PerformanceMetrics { cpu_usage: 0.9, bandwidth_kbits: 500.0, ..idle() };
        assert_eq!(after(&mut chooser(GZIP, Effort::Most), &both, 50), (GZIP, Effort::Least));
    }

    #[test]
    fn harder_is_not_tried_where_the_cpu_would_become_scarce() {
        let narrow = PerformanceMetrics { cpu_usage: 0.6, bandwidth_kbits: 500.0, ..idle() };
        assert_eq!(after(&mut chooser(GZIP, Effort::Least), &narrow, 50), (GZIP, Effort::Least));
    }

    #[test]
    fn on_a_fast_idle_path_what_costs_least_in_all_is_chosen() {
        let loopback = PerformanceMetrics { bandwidth_kbits: 1e7, ..idle() };
        let mut chooser = chooser(GZIP, Effort::Most);
        assert_eq!(after(&mut chooser, &loopback, 50), (Compression::None, Effort::Least));
        let unknown = PerformanceMetrics { bandwidth_kbits: 0.0, ..idle() };
        assert_eq!(after(&mut chooser, &unknown, 50), (GZIP, Effort::Least));
    }

    #[test]
    fn each_threshold_is_the_users() {
        let both = |settings: AdaptiveCompression, metrics: PerformanceMetrics| {
            let [default, given] = [AdaptiveCompression::new(), settings];
            let end =
                |settings: AdaptiveCompression| after(&mut settings.start(GZIP, Effort::Normal).unwrap(), &metrics, 50);
            assert_ne!(end(default), end(given));
        };
        let settings = AdaptiveCompression::new;
        both(settings().with_network_condition_threshold(200_000), idle());
        both(settings().with_cpu_usage_threshold(0.01), idle());
        both(settings().with_latency_threshold(Duration::from_millis(5)), idle());
    }

    #[test]
    fn what_the_receiver_does_not_take_is_left_at_once() {
        let mut chooser = chooser(Compression::Zstd, Effort::Normal);
        assert_eq!(chooser.choose(&idle(), &BOTH), (GZIP, Effort::Normal));
        assert_eq!(chooser.choose(&idle(), &[Compression::None]), (Compression::None, Effort::Least));
        assert_eq!(chooser.choose(&idle(), &[]), (Compression::None, Effort::Least));
        assert_eq!(chooser.choose(&idle(), &[GZIP]), (GZIP, Effort::Least));
    }

    #[test]
    fn zstd_is_preferred_where_it_is_compiled_in() {
        let all = Compression::ALL;
        let mut chooser = chooser(GZIP, Effort::Least);
        let expected = if Compression::Zstd.is_compiled_in() { Compression::Zstd } else { GZIP };
        assert_eq!(chooser.choose(&idle(), &all), (expected, Effort::Least));
    }

    #[test]
    fn a_threshold_that_makes_no_sense_is_named() {
        let settings = AdaptiveCompression::new;
        let cpu = |share| (settings().with_cpu_usage_threshold(share), "cpu_usage_threshold");
        for (settings, knob) in [
            (settings().with_network_condition_threshold(0), "network_condition_threshold"),
            (settings().with_latency_threshold(Duration::ZERO), "latency_threshold"),
            cpu(0.0),
            cpu(-1.0),
            cpu(f64::NAN),
            cpu(f64::INFINITY),
        ] {
            let Err(Error::Config { knob: named, .. }) = settings.checked() else { panic!("{knob} was taken") };
            assert_eq!(named, format!("with_adaptive_compression.{knob}"));
        }
    }

    fn number(top: f64) -> impl Strategy<Value = f64> {
        prop_oneof![8 => 0.0..top, 1 => Just(0.0), 1 => any::<f64>()]
    }

    prop_compose! {
        fn any_metrics()(
            bandwidth_kbits in prop_oneof![number(2000.0), number(1e7)], cpu_usage in number(1.5),
            request in 0..400_000u64
        ) -> PerformanceMetrics {
            let request_latency = Duration::from_micros(request);
            PerformanceMetrics { bandwidth_kbits, cpu_usage, request_latency, ..Default::default() }
        }
    }

    proptest! {
        #[test]
        fn constant_metrics_lead_to_a_constant_choice(
            before in prop::collection::vec(any_metrics(), 0..20), metrics in any_metrics()
        ) {
            let mut chooser = chooser(GZIP, Effort::Least);
            for before in before {
                chooser.choose(&before, &Compression::ALL);
            }
            let choose = |_| chooser.choose(&metrics, &Compression::ALL);
            let choices: Vec<_> = (0..100).map(choose).collect();
            prop_assert!(choices[4 * PATIENCE as usize..].windows(2).all(|pair| pair[0] == pair[1]), "{choices:?}");
        }

        /// CPU, bandwidth and latency follow from the choice, and every measurement has an error of up to a tenth.
        #[test]
        fn in_a_closed_loop_with_noise_the_choice_comes_to_rest(
            bytes in 1e4..1e9f64, kbits in 100.0..1e7f64, round_trip in 0.0..0.4f64, seed in any::<u64>()
        ) {
            let mut chooser = chooser(GZIP, Effort::Least);
            let mut state = seed;
            let mut off = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                0.9 + 0.2 * (state >> 40) as f64 / (1u64 << 24) as f64
            };
            let mut choices = Vec::new();
            for _ in 0..3000 {
                let (cpu, ratio) = chooser.current.cost();
                let transfer = 500_000.0 / ratio * 8.0 / (kbits * 1000.0);
                let metrics = PerformanceMetrics {
                    cpu_usage: bytes * (BASE + cpu) * 1e-9 * off(),
                    bandwidth_kbits: kbits * off(),
                    request_latency: Duration::from_secs_f64((round_trip + transfer) * off()),
                    ..Default::default()
                };
                choices.push(chooser.choose(&metrics, &Compression::ALL));
            }
            let late = &choices[1000..];
            let changes = late.windows(2).filter(|pair| pair[0] != pair[1]).count();
            prop_assert!(changes <= 4, "{changes} changes in 2000 steps");
        }
    }
}
