//! Samplers other than the default.

use std::sync::Mutex;

use super::*;
use crate::{
    capture::{
        SpanKind,
        ended::EndedSpan,
        processor::{Processors, SpanProcessor},
        recorder::Recording,
    },
    value::KeyValue,
};

fn recording(sampler: impl Sampler + 'static) -> (Arc<Recorder>, Tracer) {
    let limits = CaptureLimits::default();
    let recorder = Recorder::recording(limits, Recording { sampler: Some(Arc::new(sampler)), ..Recording::default() });
    let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
    (recorder, tracer)
}

/// Returns a scripted result, and remembers what it was asked.
struct Scripted(Mutex<Vec<String>>, fn(&SamplingInput<'_>) -> SamplingResult);

impl Scripted {
    fn new(answer: fn(&SamplingInput<'_>) -> SamplingResult) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Vec::new()), answer))
    }
}

impl Sampler for Arc<Scripted> {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let parent = input.parent().map(|parent| parent.span_id().to_string());
        self.0.lock().unwrap().push(format!(
            "{:?} {} {} {:?} {:?} {:?}",
            parent,
            input.trace_id(),
            input.name(),
            input.kind(),
            input.attributes(),
            input.links().len(),
        ));
        (self.1)(input)
    }

    fn description(&self) -> std::borrow::Cow<'_, str> {
        "Scripted".into()
    }
}

fn remote(flags: u8) -> SpanContext {
    SpanContext::new(trace_id(7), SpanId::from_bytes([1; 8]), flags, true)
}

fn share_sampled(sampler: &impl Sampler, ids: &mut RandomIds) -> f64 {
    let sampled =
        |input: SamplingInput<'_>| sampler.should_sample(&input).decision == SamplingDecision::RecordAndSample;
    (0..10_000).filter(|_| sampled(SamplingInput::new(ids.trace_id(), "root"))).count() as f64 / 10_000.0
}

#[test]
fn a_sampler_sees_all_that_is_known_of_a_span_at_its_start() {
    // SMP-01, SMP-03
    let sampler = Scripted::new(|input| SamplingResult::new(SamplingDecision::RecordAndSample, input));
    let (_, tracer) = recording(Arc::clone(&sampler));
    let root = tracer.start("plain");
    let child = tracer
        .span("built")
        .parent(&remote(1))
        .kind(SpanKind::Server)
        .attribute("a", "x")
        .attribute("n", 1)
        .link(&remote(0), [])
        .start();
    let attributes = [KeyValue::new("a", "x"), KeyValue::new("n", 1)];
    let asked = sampler.0.lock().unwrap();
    assert_eq!(asked[0], format!("None {} plain Internal [] 0", root.context().trace_id()));
    let parent = Some(remote(1).span_id().to_string());
    assert_eq!(asked[1], format!("{parent:?} {} built Server {attributes:?} 1", trace_id(7)));
    assert_eq!((asked.len(), child.context().trace_id()), (2, trace_id(7)));
}

#[test]
fn each_decision_is_what_it_says_and_every_span_has_an_id_of_its_own() {
    // SMP-01, SMP-02, ID-03, OBS-02
    for (decision, is_recording, is_sampled) in [
        (SamplingDecision::Drop, false, false),
        (SamplingDecision::RecordOnly, true, false),
        (SamplingDecision::RecordAndSample, true, true),
    ] {
        static DECISION: Mutex<SamplingDecision> = Mutex::new(SamplingDecision::Drop);
        *DECISION.lock().unwrap() = decision;
        let (recorder, tracer) =
            recording(Scripted::new(|input| SamplingResult::new(*DECISION.lock().unwrap(), input)));
        let tell = |recorder: &Recorder| {
            let counted = counted(recorder);
            (counted.started, counted.sampled_out, counted.open, counted.ended)
        };
        for flags in 0..4 {
            let span = tracer.span("child").parent(&remote(flags)).start();
            let context = span.context();
            assert_eq!((span.is_recording(), context.is_sampled()), (is_recording, is_sampled), "{decision:?}");
            assert_eq!((context.trace_id(), context.trace_flags() & RANDOM), (trace_id(7), flags & RANDOM));
            assert!(context.span_id().is_valid() && context.span_id() != remote(0).span_id());
            assert!(!context.is_remote());
        }
        let root = tracer.start("root");
        assert_eq!(root.context().trace_flags(), RANDOM | u8::from(is_sampled));
        let (once, open) = (u64::from(is_sampled), u64::from(is_recording));
        assert_eq!(tell(&recorder), (5, 5 * (1 - once), open, 4 * once), "{decision:?}");
        root.end_at(std::time::SystemTime::now());
        tracer.span("timed").start_time(std::time::UNIX_EPOCH).start().end();
        assert_eq!(tell(&recorder), (6, 6 * (1 - once), 0, 6 * once), "{decision:?}");
        let late = tracer.start("late");
        recorder.close();
        assert_eq!(tell(&recorder), (7, 7 * (1 - once), open, 6 * once), "{decision:?}");
        late.end();
        assert_eq!(tell(&recorder), (7, 7 * (1 - once), 0, 7 * once), "{decision:?}");
        let result = match decision {
            SamplingDecision::Drop => "DROP",
            SamplingDecision::RecordOnly => "RECORD_ONLY",
            SamplingDecision::RecordAndSample => "RECORD_AND_SAMPLE",
        };
        let kinds = counted(&recorder).started_by.by_kind().into_iter().filter(|(.., spans)| *spans > 0);
        assert_eq!(Vec::from_iter(kinds), [("none", result, 3), ("remote", result, 4)]);
    }
}

/// A processor that does nothing with the spans it is told of.
struct Told;

impl SpanProcessor for Told {
    fn on_end(&self, _: &EndedSpan<'_>) {}
}

#[test]
fn what_only_processors_are_told_of_is_started_as_it_is_sampled_and_open_until_it_ends() {
    // OBS-02
    let limits = |memory_bytes| CaptureLimits { memory_bytes, ..CaptureLimits::default() };
    let telling = |memory_bytes| {
        let processors = Processors::new(vec![Arc::new(Told)], false);
        let recorder = Recorder::recording(limits(memory_bytes), Recording { processors, ..Recording::default() });
        let tracer = Tracer::bound(Some(&recorder), Scope::new("test"));
        (recorder, tracer)
    };
    let (recorder, tracer) = telling(CaptureLimits::default().memory_bytes);
    let (root, child) = (tracer.start("root"), tracer.span("child").parent(&remote(1)).start());
    let unsampled = tracer.span("unsampled").parent(&remote(0)).start();
    assert!(root.is_recording() && root.context().is_sampled() && !unsampled.is_recording());
    let kinds = |recorder: &Recorder| {
        let kinds = counted(recorder).started_by.by_kind();
        Vec::from_iter(kinds.into_iter().filter(|(.., spans)| *spans > 0))
    };
    let started = [("none", "RECORD_AND_SAMPLE", 1), ("remote", "RECORD_AND_SAMPLE", 1), ("remote", "DROP", 1)];
    assert_eq!(kinds(&recorder), started);
    let tell = |recorder: &Recorder| {
        let counted = counted(recorder);
        (counted.started, counted.sampled_out, counted.open, counted.ended, counted.dropped.total())
    };
    assert_eq!(tell(&recorder), (3, 3, 2, 0, 0));
    root.end();
    assert_eq!(tell(&recorder), (3, 3, 1, 0, 0));
    recorder.close();
    drop((child, unsampled));
    assert_eq!(tell(&recorder), (3, 3, 0, 0, 0));

    // A span that finds no memory is not recorded, and does not count as lost.
    let (recorder, tracer) = telling(0);
    let root = tracer.start("root");
    assert_eq!((root.is_recording(), tell(&recorder)), (false, (1, 1, 0, 0, 0)));
}

#[test]
fn a_record_that_was_not_exported_is_used_again_for_one_that_is() {
    let (recorder, tracer) =
        recording(ParentBased::new(AlwaysRecord::new(AlwaysOff)).with_remote_parent_sampled(AlwaysOn));
    for _ in 0..3 {
        let root = tracer.start("root");
        assert!(root.is_recording() && !root.context().is_sampled());
        root.end();
        tracer.span("child").parent(&remote(1)).start().end();
    }
    assert_eq!((counted(&recorder).ended, counted(&recorder).sampled_out), (3, 3));
}

#[test]
fn a_trace_state_from_the_sampler_replaces_the_spans() {
    // SMP-04
    for (answer, expected) in [("ot=th:8", "ot=th:8"), ("", "")] {
        static ANSWER: Mutex<&str> = Mutex::new("");
        *ANSWER.lock().unwrap() = answer;
        let (_, tracer) = recording(Scripted::new(|input| SamplingResult {
            trace_state: TraceState::parse(*ANSWER.lock().unwrap()).unwrap(),
            ..SamplingResult::new(SamplingDecision::RecordAndSample, input)
        }));
        let parent = remote(1).with_trace_state(TraceState::parse("a=1").unwrap());
        assert_eq!(tracer.span("child").parent(&parent).start().context().trace_state().header(), expected);
    }
}

#[test]
fn a_sampler_that_panics_harms_nobody_and_one_that_records_spans_may() {
    // ERR-03
    let (_, tracer) = recording(Scripted::new(|_| panic!("a fault of the program's")));
    assert!(tracer.start("root").is_recording());
    assert!(!tracer.span("child").parent(&remote(0)).start().is_recording());

    static INNER: Mutex<Option<Tracer>> = Mutex::new(None);
    let (recorder, tracer) = recording(Scripted::new(|input| {
        let inner = INNER.lock().unwrap().take();
        let decision = if inner.is_some() { SamplingDecision::Drop } else { SamplingDecision::RecordAndSample };
        inner.into_iter().for_each(|tracer| tracer.start("inner").end());
        SamplingResult::new(decision, input)
    }));
    *INNER.lock().unwrap() = Some(tracer.clone());
    assert!(!tracer.start("outer").is_recording());
    assert_eq!(counted(&recorder).ended, 1);
}

#[test]
fn a_parent_decides_and_each_kind_of_parent_may_have_a_sampler_of_its_own() {
    // SMP-08
    let local = |flags| SpanContext::new(trace_id(7), SpanId::from_bytes([1; 8]), flags, false);
    let default = |sampled: bool| ParentBased::new(TraceIdRatioBased::new(if sampled { 1.0 } else { 0.0 }));
    let reversed = ParentBased::new(AlwaysOff)
        .with_remote_parent_sampled(AlwaysOff)
        .with_remote_parent_not_sampled(AlwaysOn)
        .with_local_parent_sampled(AlwaysOff)
        .with_local_parent_not_sampled(AlwaysOn);
    for (parent, by_default, by_reversed) in [
        (SpanContext::INVALID, true, false),
        (remote(1), true, false),
        (remote(0), false, true),
        (local(1), true, false),
        (local(0), false, true),
    ] {
        let decide = |sampler: &ParentBased| {
            let input = SamplingInput::new(trace_id(7), "span").with_parent(&parent);
            sampler.should_sample(&input).decision == SamplingDecision::RecordAndSample
        };
        assert_eq!((decide(&default(true)), decide(&reversed)), (by_default, by_reversed), "{parent:?}");
        assert_eq!(decide(&default(false)), by_default && parent.is_valid());
    }
    type Set = fn(ParentBased) -> ParentBased;
    let delegates: [(Set, SpanContext); 4] = [
        (|sampler| sampler.with_remote_parent_sampled(AlwaysRecord::new(AlwaysOff)), remote(1)),
        (|sampler| sampler.with_remote_parent_not_sampled(AlwaysRecord::new(AlwaysOff)), remote(0)),
        (|sampler| sampler.with_local_parent_sampled(AlwaysRecord::new(AlwaysOff)), local(1)),
        (|sampler| sampler.with_local_parent_not_sampled(AlwaysRecord::new(AlwaysOff)), local(0)),
    ];
    for (set, parent) in delegates {
        let input = SamplingInput::new(trace_id(7), "span").with_parent(&parent);
        let decision = set(default(true)).should_sample(&input).decision;
        assert_eq!(decision, SamplingDecision::RecordOnly, "{parent:?}");
    }
}

#[test]
fn a_sampler_that_always_records_changes_dropping_and_nothing_else() {
    // SMP-09
    struct Fixed(SamplingDecision);
    impl Sampler for Fixed {
        fn should_sample(&self, _: &SamplingInput<'_>) -> SamplingResult {
            SamplingResult {
                decision: self.0,
                attributes: vec![KeyValue::new("a", 1)],
                trace_state: TraceState::parse("a=1").unwrap(),
                untold_threshold: 0,
            }
        }
        fn description(&self) -> std::borrow::Cow<'_, str> {
            "Fixed".into()
        }
    }
    use SamplingDecision::{Drop, RecordAndSample, RecordOnly};
    let input = SamplingInput::new(trace_id(7), "span");
    for (decision, expected) in [(Drop, RecordOnly), (RecordOnly, RecordOnly), (RecordAndSample, RecordAndSample)] {
        let answer = AlwaysRecord::new(Fixed(decision)).should_sample(&input);
        assert_eq!(answer, SamplingResult { decision: expected, ..Fixed(decision).should_sample(&input) });
    }
}

#[test]
fn a_higher_ratio_samples_a_superset_whatever_the_parent_and_the_trace_state_say() {
    // SMP-06
    let samplers = [0.1, 0.3, 0.9].map(TraceIdRatioBased::new);
    let mut ids = RandomIds::new();
    let mut sampled = [0_u32; 3];
    let unsampled = remote(0).with_trace_state(TraceState::parse("ot=rv:00000000000000").unwrap());
    for _ in 0..100_000 {
        let trace_id = ids.trace_id();
        let parent = SpanContext::new(trace_id, SpanId::from_bytes([1; 8]), 0, true)
            .with_trace_state(unsampled.trace_state().clone());
        let decide = |sampler: &TraceIdRatioBased| {
            let decision = |input: SamplingInput<'_>| sampler.should_sample(&input).decision;
            let root = decision(SamplingInput::new(trace_id, "root"));
            assert_eq!(root, decision(SamplingInput::new(trace_id, "child").with_parent(&parent)));
            root == SamplingDecision::RecordAndSample
        };
        let decisions = [0, 1, 2].map(|at| decide(&samplers[at]));
        assert!(decisions[0] <= decisions[1] && decisions[1] <= decisions[2]);
        (0..3).for_each(|at| sampled[at] += u32::from(decisions[at]));
    }
    for (sampled, ratio) in sampled.into_iter().zip([0.1_f64, 0.3, 0.9]) {
        // Five standard deviations.
        let deviation = (100_000.0 * ratio * (1.0 - ratio)).sqrt();
        assert!((f64::from(sampled) - 100_000.0 * ratio).abs() < 5.0 * deviation, "{sampled} of {ratio}");
    }
    assert_eq!(share_sampled(&TraceIdRatioBased::new(0.0), &mut ids), 0.0);
    for all in [1.0, 2.0, f64::NAN] {
        assert_eq!(share_sampled(&TraceIdRatioBased::new(all), &mut ids), 1.0);
    }
}

#[test]
fn a_probability_is_told_in_the_trace_state_and_explicit_randomness_counts() {
    // SMP-10, SMP-11
    let quarter = ProbabilitySampler::new(0.25);
    let decide = |low: u64, state: &str| {
        let parent = SpanContext::INVALID.with_trace_state(TraceState::parse(state).unwrap());
        let result = quarter.should_sample(&SamplingInput::new(trace_id(low), "root").with_parent(&parent));
        (result.decision == SamplingDecision::RecordAndSample, result.trace_state.header().into_owned())
    };
    let text = str::to_owned;
    assert_eq!(decide(0x00c0_0000_0000_0000, ""), (true, text("ot=th:c")));
    assert_eq!(decide(0x00bf_ffff_ffff_ffff, ""), (false, text("")));
    assert_eq!(decide(0, "ot=p:8;rv:c0000000000000"), (true, text("ot=th:c;p:8;rv:c0000000000000")));
    assert_eq!(decide(u64::MAX, "a=1,ot=th:0;rv:bfffffffffffff"), (false, text("ot=rv:bfffffffffffff,a=1")));
    assert_eq!(decide(0, "ot=th:8,a=1"), (false, text("a=1")));
    let all = ProbabilitySampler::new(1.0).should_sample(&SamplingInput::new(trace_id(0), "root"));
    assert_eq!(all.trace_state.header(), "ot=th:0");
}

#[test]
fn descriptions_tell_samplers_apart() {
    // SMP-05
    assert_eq!(AlwaysOn.description(), "AlwaysOnSampler");
    assert_eq!(AlwaysOff.description(), "AlwaysOffSampler");
    assert_eq!(TraceIdRatioBased::new(0.0001).description(), "TraceIdRatioBased{0.0001}");
    assert_eq!(TraceIdRatioBased::new(0.00011).description(), "TraceIdRatioBased{0.00011}");
    assert_eq!(ProbabilitySampler::new(0.25).description(), "ProbabilitySampler{0.25}");
    assert_eq!(
        ParentBased::new(AlwaysRecord::new(AlwaysOff)).description(),
        "ParentBased{root:AlwaysRecordSampler{AlwaysOffSampler},remoteParentSampled:AlwaysOnSampler,\
         remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,\
         localParentNotSampled:AlwaysOffSampler}"
    );
}

/// What every sampler that keeps roots by probability keeps while the client reduces the number of traces, and what the
/// trace state says: the larger threshold.
#[test]
fn while_fewer_traces_are_asked_for_the_larger_threshold_counts_and_is_told() {
    // SMP-10, SMP-11
    let half = threshold(0.5);
    let check = |sampler: Arc<dyn Sampler>, own: f64| {
        let described = sampler.description().into_owned();
        let sampling = Sampling::new(Some(sampler));
        sampling.set(half);
        let (larger, mut kept) = (half.max(threshold(own)), 0);
        let mut ids = RandomIds::new();
        for _ in 0..2_000 {
            let trace_id = ids.trace_id();
            let root = sampling.decide(&SamplingInput::new(trace_id, "root"));
            let is_kept = root.decision == SamplingDecision::RecordAndSample;
            assert_eq!(is_kept, randomness(trace_id, &TraceState::EMPTY) >= larger, "{described}");
            assert_eq!(root.trace_state.threshold(), is_kept.then_some(larger), "{described}");
            kept += u32::from(is_kept);
            // The rest of the trace follows its root, with the same trace state.
            let parent = SpanContext::new(trace_id, SpanId::from_bytes([1; 8]), u8::from(is_kept), false)
                .with_trace_state(root.trace_state.clone());
            let child = sampling.decide(&SamplingInput::new(trace_id, "child").with_parent(&parent));
            assert_eq!((child.decision, child.trace_state), (root.decision, root.trace_state), "{described}");
        }
        assert!(kept > 100 && kept < 1_900, "{described}: {kept}");
    };
    check(Arc::new(AlwaysOn), 1.0);
    check(Arc::new(ParentBased::new(AlwaysOn)), 1.0);
    for own in [0.25, 0.75] {
        check(Arc::new(ProbabilitySampler::new(own)), own);
        check(Arc::new(ParentBased::new(ProbabilitySampler::new(own))), own);
        check(Arc::new(ParentBased::new(TraceIdRatioBased::new(own))), own);
    }
    let sampling = Sampling::new(Some(Arc::new(AlwaysOff)));
    sampling.set(half);
    assert_eq!(sampling.decide(&SamplingInput::new(trace_id(u64::MAX), "root")).decision, SamplingDecision::Drop);
}
