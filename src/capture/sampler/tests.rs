use std::sync::Arc;

use proptest::prelude::*;

use super::{builtin::threshold, *};
use crate::{
    capture::{CaptureLimits, Recorder, Scope, SpanId, Tracer},
    stats::Snapshot,
};

mod plugged_in;

fn recorder() -> Arc<Recorder> {
    Recorder::new(CaptureLimits::default())
}

fn counted(recorder: &Recorder) -> Snapshot {
    recorder.stats.snapshot(|| recorder.registry.totals())
}

fn share(threshold: u64) -> f64 {
    (VALUES - threshold) as f64 / VALUES as f64
}

fn trace_id(low: u64) -> TraceId {
    TraceId::from_bytes((1_u128 << 64 | u128::from(low)).to_be_bytes())
}

#[test]
fn a_threshold_has_the_digits_that_the_specification_shows() {
    // SMP-10, SMP-11
    for (probability, header) in [
        (1.0, "ot=th:0"),
        (0.5, "ot=th:8"),
        (0.25, "ot=th:c"),
        (1.0 / 3.0, "ot=th:aaab"),
        (0.01, "ot=th:fd70a"),
        (0.001, "ot=th:ffbe77"),
        (1.0 / VALUES as f64, "ot=th:ffffffffffffff"),
        (0.0, "ot=th:ffffffffffffff"),
    ] {
        let threshold = threshold(probability);
        assert_eq!(TraceState::from_threshold(threshold).header(), header, "{probability}");
    }
}

#[test]
fn the_last_seven_bytes_of_the_trace_id_decide_unless_the_trace_state_does() {
    // SMP-10
    let quarter = threshold(0.25);
    let none = TraceState::EMPTY;
    for (low, is_kept) in
        [(0x00c0_0000_0000_0000, true), (0xffbf_ffff_ffff_ffff, false), (0xff, false), (u64::MAX, true)]
    {
        assert_eq!(randomness(trace_id(low), &none) >= quarter, is_kept, "{low:x}");
    }
    let given = |text: &str| TraceState::parse(text).unwrap();
    assert!(randomness(trace_id(0), &given("ot=rv:c0000000000000")) >= quarter);
    assert!(randomness(trace_id(u64::MAX), &given("ot=rv:bfffffffffffff")) < quarter);
}

#[test]
fn explicit_randomness_decides_about_a_root_and_is_kept() {
    // SMP-10, SMP-11
    let recorder = recorder();
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    recorder.sampling.set(threshold(0.5));
    for (random, is_kept) in [("80000000000000", true), ("7fffffffffffff", false)] {
        let state = TraceState::parse(&format!("ot=rv:{random},a=1")).unwrap();
        let begin = SpanContext::INVALID.with_trace_state(state.clone());
        let span = tracer.span("root").parent(&begin).start();
        assert_eq!((span.is_recording(), span.context().is_sampled()), (is_kept, is_kept), "{random}");
        let expected = if is_kept { format!("ot=th:8;rv:{random},a=1") } else { state.to_string() };
        assert_eq!(span.context().trace_state().header(), expected);
    }
}

#[test]
fn a_trace_is_recorded_whole_or_not_at_all_and_says_by_which_threshold() {
    // SMP-01, SMP-11, SPAN-03, OBS-02
    let recorder = recorder();
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    recorder.sampling.set(threshold(0.5));
    let (mut kept, mut left_out) = (0, 0);
    for _ in 0..200 {
        let root = tracer.span("root").root().start();
        let _entered = root.enter();
        // Whatever changes meanwhile, the trace keeps its decision.
        recorder.sampling.set(if root.is_recording() { VALUES - 1 } else { 0 });
        let child = tracer.start("child");
        let grandchild = tracer.span("grandchild").parent(&child.context()).start();
        for span in [&child, &grandchild] {
            let (context, root) = (span.context(), root.context());
            assert_eq!((span.is_recording(), context.is_sampled()), (root.is_sampled(), root.is_sampled()));
            assert_eq!((context.trace_id(), context.trace_state()), (root.trace_id(), root.trace_state()));
            assert!(context.span_id().is_valid() && context.span_id() != root.span_id());
            assert_eq!(context.trace_flags() & RANDOM, RANDOM);
        }
        assert_eq!(root.context().trace_state().header(), if root.is_recording() { "ot=th:8" } else { "" });
        let expected = if root.is_recording() { &mut kept } else { &mut left_out };
        *expected += 1;
        assert_eq!(counted(&recorder).open, if root.is_recording() { 3 } else { 0 });
        drop((child, grandchild));
        drop(_entered);
        drop(root);
        recorder.sampling.set(threshold(0.5));
    }
    assert!(kept > 50 && left_out > 50, "{kept} kept");
    let counted = counted(&recorder);
    assert_eq!((counted.started, counted.sampled_out, counted.ended, counted.open), (600, 3 * left_out, 3 * kept, 0));
    assert_eq!(counted.started_by.0, [kept, 2 * kept, 0, 0, 0, 0, 0, 0, 0, left_out, 2 * left_out, 0]);
}

#[test]
fn the_threshold_is_not_asked_about_a_trace_that_began_elsewhere() {
    // SMP-08, OBS-02
    let recorder = recorder();
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    recorder.sampling.set(VALUES - 1);
    let state = TraceState::parse("a=1,ot=th:8;rv:00000000000001").unwrap();
    let ids = (trace_id(0), SpanId::from_bytes([1; 8]));
    for (flags, is_recorded) in [(1, true), (0, false)] {
        let remote = SpanContext::new(ids.0, ids.1, flags, true).with_trace_state(state.clone());
        let span = tracer.span("child").parent(&remote).start();
        assert_eq!((span.is_recording(), span.context().trace_flags()), (is_recorded, flags));
        assert_eq!(span.context().trace_state(), &state);
        assert!(!span.context().is_remote());
    }
    assert_eq!(counted(&recorder).started_by.0, [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn without_a_threshold_every_root_is_recorded_and_has_no_trace_state() {
    let recorder = recorder();
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    for _ in 0..100 {
        let root = tracer.start("root");
        assert!(root.is_recording() && root.context().trace_state().is_empty());
    }
    assert_eq!(counted(&recorder).started_by.0, [100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn spans_are_open_until_they_end_on_whatever_thread() {
    let recorder = recorder();
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    let span = tracer.start("moved");
    drop(tracer.span("never started"));
    assert_eq!((counted(&recorder).started, counted(&recorder).open), (1, 1));
    std::thread::spawn(move || span.end()).join().unwrap();
    assert_eq!((counted(&recorder).ended, counted(&recorder).open), (1, 0));
    let late = tracer.start("late");
    recorder.close();
    late.end();
    assert_eq!((counted(&recorder).started, counted(&recorder).ended, counted(&recorder).open), (2, 2, 0));
    tracer.start("after the end").end();
    assert_eq!(counted(&recorder).started, 2);
}

#[test]
fn what_finds_no_memory_is_lost_only_where_it_would_have_been_recorded() {
    let limits = |memory_bytes| CaptureLimits { memory_bytes, ..CaptureLimits::default() };
    let recorder = Recorder::new(limits(0));
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    let unsampled = SpanContext::new(trace_id(0), SpanId::from_bytes([1; 8]), 0, false);
    tracer.span("unsampled").parent(&unsampled).start().end();
    drop(tracer.span("never started"));
    assert_eq!((counted(&recorder).ended, counted(&recorder).sampled_out), (0, 1));
    tracer.span("lost").start().end();
    tracer.start("lost").end();
    let counted = counted(&recorder);
    assert_eq!((counted.started, counted.ended, counted.dropped.total(), counted.open), (3, 2, 2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// SMP-10: the threshold's share of traces is kept, and the kept traces, each weighted by its own threshold,
    /// estimate the original number (Horvitz and Thompson), even if the threshold changes on the way.
    #[test]
    fn what_is_kept_estimates_what_there_was(first in 0.02_f64..1.0, second in 0.02_f64..1.0) {
        const TRACES: u32 = 20_000;
        let (sampling, mut ids) = (Sampling::new(None), RandomIds::new());
        let (mut estimate, mut variance, mut expected) = (0.0, 0.0, 0.0);
        let mut kept = 0.0;
        for at in 0..TRACES {
            let threshold = threshold(if at % 2 == 0 { first } else { second });
            sampling.set(threshold);
            let root = sampling.root(TraceState::EMPTY, &mut ids);
            let p = share(threshold);
            expected += p;
            variance += (1.0 - p) / p;
            if root.is_sampled() {
                kept += 1.0;
                let header = root.trace_state().header().into_owned();
                let digits = header.strip_prefix("ot=th:").unwrap_or("0");
                let said = u64::from_str_radix(&format!("{digits:0<14}"), 16).unwrap();
                prop_assert_eq!(said, threshold);
                estimate += 1.0 / share(said);
            }
        }
        // Five standard deviations: once in two million runs by chance.
        let deviation = (f64::from(TRACES) / 4.0).sqrt();
        prop_assert!((kept - expected).abs() <= 5.0 * deviation, "{kept} kept, {expected} expected");
        prop_assert!((estimate - f64::from(TRACES)).abs() <= 5.0 * variance.sqrt() + 1e-6, "{estimate} estimated");
    }

    /// Consistency: a higher threshold keeps a subset of the traces that a lower one keeps.
    #[test]
    fn a_higher_threshold_keeps_a_subset(low: u64, first in 0.0_f64..=1.0, second in 0.0_f64..=1.0) {
        let (less, more) = (first.min(second), first.max(second));
        let kept = |p| randomness(trace_id(low), &TraceState::EMPTY) >= threshold(p);
        prop_assert!(!kept(less) || kept(more));
        prop_assert!((share(threshold(first)) - first).abs() <= 1.3e-4 * first.max(1e-12));
    }
}
