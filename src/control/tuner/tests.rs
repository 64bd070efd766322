use proptest::prelude::*;

use super::{super::targets::tests::senseless, *};
use crate::config::Compression;
use crate::config::Effort;

fn tuner() -> Tuner {
    AutoTuner::new().start(Tuning::default(), TuningLimits::default()).unwrap()
}

/// Half of the spans are accepted, the other half lost.
fn strained() -> PerformanceMetrics {
    let interval = Duration::from_secs(1);
    PerformanceMetrics { interval, throughput: 5000.0, dropped: 5000, load: 1.0, ..Default::default() }
}

/// All spans are accepted in time.
fn fine() -> PerformanceMetrics {
    PerformanceMetrics { avg_latency: Duration::from_millis(50), dropped: 0, load: 0.0, ..strained() }
}

#[test]
fn nothing_is_tried_where_the_targets_are_met_or_nothing_happens() {
    for metrics in [fine(), PerformanceMetrics::default()] {
        let mut tuner = tuner();
        assert!((0..1000).all(|_| tuner.step(&metrics) == Tuning::default()));
    }
}

#[test]
fn each_target_is_the_users() {
    let metrics = PerformanceMetrics { memory_usage: 1 << 20, cpu_usage: 0.5, ..fine() };
    let more = PerformanceMetrics { load: 1.0, ..metrics.clone() };
    let default = PerformanceTargets::default;
    let cases = [
        (metrics.clone(), PerformanceTargets { target_latency: Duration::from_millis(10), ..default() }),
        (metrics.clone(), PerformanceTargets { max_memory_usage: 1 << 19, ..default() }),
        (metrics.clone(), PerformanceTargets { max_cpu_usage: 0.1, ..default() }),
        (more.clone(), PerformanceTargets { target_throughput: 20_000, ..default() }),
    ];
    let moves = |metrics: &PerformanceMetrics, targets| {
        let tuner = AutoTuner::new().with_performance_targets(targets);
        let mut tuner = tuner.start(Tuning::default(), TuningLimits::default()).unwrap();
        (0..20).any(|_| tuner.step(metrics) != Tuning::default())
    };
    let modest = || PerformanceTargets { target_throughput: 4000, ..default() };
    assert!(!moves(&metrics, default()) && !moves(&more, modest()));
    for (metrics, targets) in cases {
        assert!(moves(&metrics, targets.clone()), "{targets:?}");
    }
}

#[test]
fn what_helps_is_kept_and_what_does_not_is_taken_back() {
    let mut tuner = tuner();
    let mut tuning = tuner.tuning();
    for _ in 0..200 {
        // Only connections matter.
        let metrics = PerformanceMetrics { throughput: 1000.0 * tuning.connections as f64, ..strained() };
        tuning = tuner.step(&metrics);
    }
    assert!(tuner.is_resting());
    assert_eq!(tuning, Tuning::default(), "4 is the most, and where it began");

    let limits = TuningLimits { connections: 1..=9, ..Default::default() };
    let mut tuner = AutoTuner::new().start(tuning, limits).unwrap();
    for _ in 0..200 {
        let metrics = PerformanceMetrics { throughput: 1000.0 * tuning.connections as f64, ..strained() };
        tuning = tuner.step(&metrics);
    }
    assert_eq!(tuning, Tuning { connections: 9, ..Tuning::default() });
}

#[test]
fn a_receiver_that_does_not_answer_is_no_reason_to_go_on_trying() {
    let mut tuner = tuner();
    let dead = PerformanceMetrics { throughput: 0.0, ..strained() };
    for _ in 0..300 {
        tuner.step(&dead);
    }
    assert!(tuner.is_resting());
    assert_eq!(tuner.tuning(), Tuning::default());
}

#[test]
fn only_so_many_decisions_are_remembered() {
    let mut tuner = tuner();
    for interval in 0..20_000u32 {
        let throughput = 1000.0 + f64::from(interval / 500 % 2) * 8000.0;
        tuner.step(&PerformanceMetrics { throughput, ..strained() });
    }
    assert_eq!(tuner.decisions().count(), REMEMBERED);
    assert_eq!(tuner.decisions().last(), tuner.last_decision());
}

#[test]
fn explorations_that_gain_nothing_become_rarer() {
    let tuner = AutoTuner::new().with_tuning_strategies(vec![TuningStrategy::ConnectionPool]);
    let mut tuner = tuner.start(Tuning::default(), TuningLimits::default()).unwrap();
    let mut explorations = 0;
    for interval in 0..20_000 {
        // Conditions change 200 times, and no setting matters.
        let throughput = if interval / 100 % 2 == 0 { 3000.0 } else { 6000.0 };
        let rested = tuner.is_resting();
        tuner.step(&PerformanceMetrics { throughput, ..strained() });
        explorations += u32::from(rested && !tuner.is_resting());
    }
    assert!(explorations > 10 && explorations < 100, "{explorations}");
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    let start = |tuner: AutoTuner| tuner.start(Tuning::default(), TuningLimits::default());
    let named = |started: Result<Tuner, Error>| match started {
        Err(Error::Config { knob, .. }) => knob,
        other => panic!("{other:?}"),
    };
    let tuner = AutoTuner::new;
    assert_eq!(named(start(tuner().with_tuning_interval(Duration::ZERO))), "with_auto_tuner.tuning_interval");
    assert_eq!(named(start(tuner().with_tuning_strategies(vec![]))), "with_auto_tuner.tuning_strategies");
    for (field, targets) in senseless() {
        let knob = named(start(tuner().with_performance_targets(targets)));
        assert_eq!(knob, format!("with_auto_tuner.performance_targets.{field}"));
    }
    let within = |limits| named(tuner().start(Tuning::default(), limits));
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..=4, 4..=3] {
        let batch_size = TuningLimits { batch_size: range.clone(), ..Default::default() };
        assert_eq!(within(batch_size), "TuningLimits.batch_size");
        let connections = TuningLimits { connections: range, ..Default::default() };
        assert_eq!(within(connections), "TuningLimits.connections");
    }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..1.2f64, 8 => 0.0..50_000f64, 1 => any::<f64>()]
}

prop_compose! {
    fn any_metrics()(
        throughput in number(), load in number(), cpu_usage in number(), bandwidth_kbits in number(),
        dropped in 0..100_000u64, latency in 0..10_000_000u64, request in 0..2_000_000u64,
        memory_usage in 0..200_000_000u64, throttled in 0..20u64
    ) -> PerformanceMetrics {
        PerformanceMetrics {
            interval: Duration::from_secs(1),
            avg_latency: Duration::from_micros(latency),
            request_latency: Duration::from_micros(request),
            throughput, load, cpu_usage, bandwidth_kbits, dropped, memory_usage, throttled,
            ..Default::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_metrics_lead_outside_the_limits(sequence in prop::collection::vec(any_metrics(), 0..1000)) {
        let limits = TuningLimits { connections: 2..=7, batch_size: 100..=5000, ..Default::default() };
        let mut tuner = AutoTuner::new().start(Tuning::default(), limits.clone()).unwrap();
        for metrics in sequence {
            let Tuning { batch_size, connections, compression, effort } = tuner.step(&metrics);
            prop_assert!(limits.batch_size.contains(&batch_size) && limits.connections.contains(&connections));
            prop_assert!(limits.compressions.contains(&compression));
            prop_assert!(compression != Compression::None || effort == Effort::Least);
        }
    }

    #[test]
    fn constant_metrics_lead_to_rest_where_it_began(
        metrics in any_metrics(), batch_size in 64..10_000usize, connections in 1..=4usize
    ) {
        let initial = Tuning { batch_size, connections, ..Tuning::default() };
        let mut tuner = AutoTuner::new().start(initial, TuningLimits::default()).unwrap();
        for _ in 0..200 {
            tuner.step(&metrics);
        }
        for _ in 0..2000 {
            prop_assert_eq!(tuner.step(&metrics), initial);
        }
    }
}
