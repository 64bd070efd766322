//! The controllers in a model of a client and its receiver, over thousands of steps.
#![cfg(feature = "bench")]

// The example prints some of what is not judged here.
#[allow(dead_code)]
#[path = "../examples/tuning/chance.rs"]
mod chance;
#[allow(dead_code)]
#[path = "../examples/tuning/overload.rs"]
mod overload;
#[allow(dead_code)]
#[path = "../examples/tuning/scenarios.rs"]
mod scenarios;
#[allow(dead_code)]
#[path = "../examples/tuning/simulation.rs"]
mod simulation;

use std::time::Duration;

use chance::Chance;
use otlp::{
    Compression,
    bench::{SamplingThreshold, TuningLimits},
    core::{BatchManager, Tuning, TuningStrategy},
};
use overload::{Outcome, Overload};
use scenarios::{Run, Scenario};
use simulation::{World, settings};

const SEEDS: u64 = 30;

/// Whether targets are met or what is accepted is within a tenth of the best of all settings.
fn assert_good(scenario: &Scenario, run: &Run, what: &str) {
    let achieved = run.world.at_rest(run.tuning);
    let world = Scenario { world: run.world.clone(), ..scenario.clone() };
    let best = world.best().1;
    assert!(
        achieved.throughput >= 0.9 * best.throughput,
        "{what}: {} of {} spans/s with {:?}",
        achieved.throughput,
        best.throughput,
        run.tuning
    );
    // Where everything is accepted latency is what is left to be tuned.
    if best.dropped == 0 && best.avg_latency <= scenario.targets.target_latency {
        let allowed = scenario.targets.target_latency.mul_f64(1.1);
        assert!(achieved.avg_latency <= allowed, "{what}: {:?} with {:?}", achieved.avg_latency, run.tuning);
    }
}

#[test]
fn the_tuner_comes_within_a_tenth_of_the_best_setting_and_settles() {
    for scenario in Scenario::all() {
        for (noise, seeds) in [(0.0, 1), (0.1, SEEDS)] {
            for seed in 0..seeds {
                let what = format!("{}, noise {noise}, seed {seed}", scenario.name);
                let mut run = scenario.run(noise, seed).unwrap();
                run.go(3000);
                assert_good(&scenario, &run, &what);
                assert!(run.tuner.is_resting(), "{what}");
                assert!(run.last_change < 500, "{what}: changed in interval {}", run.last_change);
            }
        }
    }
}

#[test]
fn what_the_tuner_begins_with_is_bad_enough_to_need_it() {
    let needy = Scenario::all().into_iter().filter(|scenario| {
        let [begin, best] = [scenario.world.at_rest(scenario.initial), scenario.best().1];
        begin.throughput < 0.5 * best.throughput || begin.avg_latency > scenario.targets.target_latency
    });
    assert_eq!(needy.count(), Scenario::all().len());
}

#[test]
fn the_tuner_explores_again_when_conditions_change() {
    let far = Scenario::all().swap_remove(0);
    for seed in 0..SEEDS {
        let mut run = far.run(0.1, seed).unwrap();
        run.go(1000);
        type Change = (&'static str, fn(&mut World));
        let changes: [Change; 3] = [
            ("a narrow network", |world| world.bandwidth = 2e6),
            ("a wide network again", |world| world.bandwidth = 1e9),
            ("a rate limit", |world| world.rate_limit = 4.0),
        ];
        for (what, change) in changes {
            change(&mut run.world);
            let since = run.interval;
            run.go(2000);
            assert_good(&far, &run, &format!("{what}, seed {seed}"));
            assert!(run.last_change < since + 1000, "{what}, seed {seed}: changed late");
        }
    }
}

#[test]
fn a_tuner_that_was_given_one_knob_moves_no_other() {
    type Knob = fn(Tuning) -> Tuning;
    let knobs: [(TuningStrategy, Knob); 3] = [
        (TuningStrategy::BatchSize, |mut tuning| {
            tuning.batch_size = 1;
            tuning
        }),
        (TuningStrategy::ConnectionPool, |mut tuning| {
            tuning.connections = 1;
            tuning
        }),
        (TuningStrategy::Compression, |mut tuning| {
            (tuning.compression, tuning.effort) = (Compression::None, Default::default());
            tuning
        }),
    ];
    for (strategy, without) in knobs {
        let mut has_moved = false;
        for scenario in Scenario::all() {
            let scenario = Scenario { strategies: vec![strategy], ..scenario };
            let mut run = scenario.run(0.1, 1).unwrap();
            for _ in 0..500 {
                run.go(1);
                assert_eq!(without(run.tuning), without(scenario.initial), "{}", scenario.name);
                has_moved |= run.tuning != scenario.initial;
            }
        }
        assert!(has_moved, "{strategy:?}");
    }
}

#[test]
fn the_tuner_stays_within_its_limits() {
    for scenario in Scenario::all() {
        let limits = TuningLimits {
            batch_size: 100..=3000,
            connections: 2..=5,
            compressions: vec![Compression::Gzip, Compression::Zstd],
        };
        let mut initial = scenario.initial;
        (initial.batch_size, initial.connections) = (1000, 3);
        let scenario = Scenario { limits: limits.clone(), initial, ..scenario };
        let mut run = scenario.run(0.1, 3).unwrap();
        for _ in 0..1000 {
            run.go(1);
            let Tuning { batch_size, connections, compression, .. } = run.tuning;
            assert!(limits.batch_size.contains(&batch_size) && limits.connections.contains(&connections));
            assert!(compression == initial.compression || limits.compressions.contains(&compression));
            assert!(compression != Compression::Zstd || cfg!(feature = "zstd"), "not compiled in");
        }
    }
}

#[test]
fn the_tuner_explains_each_step_and_takes_back_what_hurt() {
    let far = Scenario::all().swap_remove(0);
    let mut run = far.run(0.0, 0).unwrap();
    run.go(1000);
    let decisions: Vec<_> = run.tuner.decisions().collect();
    assert!(decisions[0].contains("try batch_size 128 → 256, since 1278 spans/s are accepted"), "{}", decisions[0]);
    assert!(decisions[1].contains("kept batch_size 128 → 256: 1278 → 2553 spans/s accepted"), "{}", decisions[1]);
    assert!(decisions.iter().any(|decision| decision.contains("took back")), "{decisions:#?}");
    let tried = decisions.iter().filter(|decision| decision.contains(": try ")).count();
    let judged = decisions.iter().filter(|decision| decision.contains(": kept ") || decision.contains(": took back "));
    assert_eq!(tried, judged.count());
    assert!(run.tuner.last_decision().unwrap().contains("rest with batch_size"));
}

fn runs(overload: &Overload) -> Vec<Outcome> {
    (0..SEEDS).map(|seed| overload.run(seed * 7919 + 1)).collect()
}

/// Ten times what can be sent, in several forms.
fn overloads() -> Vec<(&'static str, Overload)> {
    let step = Overload::default();
    vec![
        ("a step", step.clone()),
        ("a step after idling", Overload { offered: |at| if at < 5.0 { 10.0 } else { 100_000.0 }, ..step.clone() }),
        ("a ramp", Overload { offered: |at| 2_000.0 + 98_000.0 * (at / 15.0).min(1.0), ..step.clone() }),
        ("bursts", Overload { offered: |at| if at % 2.0 < 1.0 { 100_000.0 } else { 1_000.0 }, ..step.clone() }),
        ("open spans", Overload { trace: Duration::from_millis(200), ..step.clone() }),
        ("large lumps", Overload { lump: 400, ..step.clone() }),
        (
            "a fast receiver",
            Overload {
                capacity: 200_000.0,
                queue_size: 200_000,
                offered: |at| if at < 2.0 { 50_000.0 } else { 2_000_000.0 },
                seconds: 6,
                ..step
            },
        ),
    ]
}

#[test]
fn a_throttled_queue_never_overflows_and_counts_stay_true() {
    for (name, overload) in overloads() {
        let outcomes = runs(&overload);
        for outcome in &outcomes {
            assert_eq!(outcome.refused, 0, "{name}");
            assert!(outcome.highest_fill < 0.98, "{name}: {}", outcome.highest_fill);
            assert!(outcome.recorded * 2 < outcome.offered, "{name}: it was no overload");
            assert!(outcome.error().abs() < 0.02, "{name}: off by {}", outcome.error());
        }
        let errors: Vec<_> = outcomes.iter().map(Outcome::error).collect();
        let count = errors.len() as f64;
        let mean = errors.iter().sum::<f64>() / count;
        let variance = errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let standard_error = (variance / count).sqrt();
        // Seeds are fixed: this is no game of chance, and three standard errors would be bias.
        assert!(mean.abs() < 3.0 * standard_error, "{name}: {mean} with a standard error of {standard_error}");
    }
}

#[test]
fn without_the_throttle_the_same_overload_overflows() {
    for (name, overload) in overloads() {
        let outcome = Overload { is_throttled: false, ..overload }.run(1);
        assert!(outcome.refused * 2 > outcome.offered / 2, "{name}: {} refused", outcome.refused);
    }
}

#[test]
fn the_throttle_holds_still_under_overload_and_lets_go_after_it() {
    let outcome = Overload::default().run(1);
    // Tenths of a second; overload is from 5 s to 20 s.
    let steady = &outcome.probabilities[100..200];
    let (low, high) = steady.iter().fold((1.0f64, 0.0f64), |(low, high), p| (low.min(*p), high.max(*p)));
    assert!(low > 0.07 && high < 0.14, "{low} to {high}, where 0.1 is right");
    let fills = &outcome.fills[100..200];
    assert!(fills.iter().all(|fill| (0.8..0.9).contains(fill)), "{fills:?}");
    assert!(outcome.probabilities[..50].iter().all(|p| *p == 1.0), "nothing was to be throttled");
    assert!(outcome.probabilities[220..].iter().all(|p| *p == 1.0), "two seconds after the overload all are kept");
}

#[test]
fn the_threshold_of_the_throttle_is_the_users() {
    for threshold in [0.3, 0.5, 0.8] {
        let outcome = Overload { threshold, ..Overload::default() }.run(1);
        let fills = &outcome.fills[150..200];
        let mean = fills.iter().sum::<f64>() / fills.len() as f64;
        assert!(mean > threshold && mean < threshold + 0.5 * (1.0 - threshold), "{threshold}: {mean}");
    }
}

#[test]
fn too_small_a_queue_overflows_for_a_moment_only() {
    // The room above the threshold is filled within a millisecond: spans that found no room are what throttles.
    let outcome = Overload { queue_size: 1000, lump: 1, ..Overload::default() }.run(1);
    assert!(outcome.refused > 0);
    let unthrottled = Overload { queue_size: 1000, lump: 1, is_throttled: false, ..Overload::default() }.run(1);
    assert!(outcome.refused * 50 < unthrottled.refused, "{} of {}", outcome.refused, unthrottled.refused);
}

#[test]
fn thresholds_are_those_of_the_specification() {
    // SMP-10, SMP-11
    let digits = |probability| {
        let digits = format!("{:014x}", SamplingThreshold::with_probability(probability).value());
        digits.trim_end_matches('0').to_owned()
    };
    assert_eq!([1.0, 0.25, 0.01, 0.5].map(digits), ["", "c", "fd70a", "8"]);
    let quarter = SamplingThreshold::with_probability(0.25);
    assert!(quarter.keeps(0xc0_0000_0000_0000) && !quarter.keeps(0xbf_ffff_ffff_ffff));
    assert!(quarter.keeps(0xff00_0000_0000_0000 | 0xc0_0000_0000_0000), "only 56 bits count");
}

#[test]
fn batches_grow_for_a_receiver_far_away_until_all_is_accepted() {
    let mut world = World { latency: 0.1, ..World::near() };
    let mut manager = BatchManager::new().with_initial_config(otlp::BatchConfig {
        max_batch_size: 512,
        max_queue_size: 50_000,
        ..Default::default()
    });
    let mut chance = Chance::new(1);
    let mut sizes = Vec::new();
    for _ in 0..3000 {
        let batch_size = manager.current_config().max_batch_size;
        let tuning = settings(batch_size, 2, Compression::default());
        manager.adjust_batch_size_based_on_performance(&world.step(tuning, 1.0, &mut chance));
        sizes.push(batch_size);
    }
    let end = settings(sizes[2999], 2, Compression::default());
    assert_eq!(world.at_rest(end).dropped, 0, "{end:?}");
    assert!(sizes[100..].iter().all(|size| *size == sizes[2999]), "{:?}", &sizes[..200]);
}
