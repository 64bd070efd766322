//! Samplers as a program plugs them in, or names them in its environment: what arrives.
#![cfg(feature = "testing")]

mod support;

use std::{borrow::Cow, env, process::Command};

use otlp::{
    IdGenerator, KeyValue, SpanContext, SpanId, TraceId, TraceState,
    sampling::{AlwaysOff, Sampler, SamplingDecision, SamplingInput, SamplingResult},
    testing::Receiver,
};
use support::{LONG, assert_accounted, client_of};

const ROLE: &str = "OTLP_TEST_SAMPLING";
const ROOTS: usize = 1_000;

/// Decides by name, and says so.
struct ByName;

impl Sampler for ByName {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let decision = match input.name() {
            "exported" => SamplingDecision::RecordAndSample,
            "recorded" => SamplingDecision::RecordOnly,
            _ => SamplingDecision::Drop,
        };
        let told = [KeyValue::new("sampler", self.description().into_owned()), KeyValue::new("both", 2)];
        let trace_state = TraceState::parse("ot=th:8").unwrap();
        SamplingResult::new(decision, input).with_attributes(told).with_trace_state(trace_state)
    }

    fn description(&self) -> Cow<'_, str> {
        "ByName".into()
    }
}

#[test]
fn only_what_a_sampler_wants_exported_arrives_with_what_it_adds() {
    // SMP-02, SMP-04, SPAN-15
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_sampler(ByName).build().unwrap();
    let tracer = client.tracer("test");
    for name in ["exported", "recorded", "dropped"] {
        let mut span = tracer.span(name).attribute("both", 1).attribute("own", 1).start();
        assert_eq!(span.is_recording(), name != "dropped");
        span.update_name("renamed");
        span.end();
    }
    assert!(client.flush(LONG).is_complete());
    let stats = assert_accounted(&client);
    assert_eq!((stats.started, stats.sampled_out, stats.exported, stats.open), (3, 2, 1, 0));
    let spans: Vec<_> = receiver.spans().into_iter().map(|received| received.span).collect();
    assert_eq!(spans.len(), 1);
    assert_eq!((spans[0].name.as_str(), spans[0].trace_state.as_str()), ("renamed", "ot=th:8"));
    let mut keys: Vec<_> = spans[0].attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["both", "own", "sampler"]);
    let both = spans[0].attributes.iter().find(|attribute| attribute.key == "both").unwrap();
    assert!(format!("{both:?}").contains("IntValue(2)"), "{both:?}");
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    if env::var(ROLE).is_err() {
        return;
    }
    let otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("test");
    (0..ROOTS).for_each(|_| tracer.start("root").end());
    for flags in [0, 1] {
        let remote = SpanContext::new(TraceId::from_bytes([7; 16]), SpanId::from_bytes([1; 8]), flags, true);
        tracer.span(if flags == 1 { "of sampled" } else { "of unsampled" }).parent(&remote).start().end();
    }
    drop(otlp);
}

#[test]
fn the_environment_names_the_sampler() {
    // SDKV-08, SDKV-09, ENV-08
    for (sampler, argument, roots, of_sampled, of_unsampled) in [
        ("", "0", ROOTS..=ROOTS, true, false),
        ("always_on", "", ROOTS..=ROOTS, true, true),
        ("always_off", "", 0..=0, false, false),
        ("banana", "", ROOTS..=ROOTS, true, false),
        ("parentbased_always_on", "", ROOTS..=ROOTS, true, false),
        ("parentbased_always_off", "", 0..=0, true, false),
        ("traceidratio", "0", 0..=0, false, false),
        ("traceidratio", "", ROOTS..=ROOTS, true, true),
        // Six standard deviations.
        ("parentbased_traceidratio", "0.25", 168..=332, true, false),
    ] {
        let receiver = Receiver::start().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["child", "--exact", "--nocapture"]).env(ROLE, "1");
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
        command.env("OTEL_TRACES_SAMPLER", sampler).env("OTEL_TRACES_SAMPLER_ARG", argument);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap().contains("OTEL_TRACES_SAMPLER=\"banana\"");
        assert_eq!(told, sampler == "banana");
        let spans: Vec<_> = receiver.spans().into_iter().map(|received| received.span).collect();
        let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
        assert!(roots.contains(&count("root")), "{sampler} {argument}: {}", count("root"));
        let children = (count("of sampled") == 1, count("of unsampled") == 1);
        assert_eq!(children, (of_sampled, of_unsampled), "{sampler} {argument}");
    }
}

#[test]
fn a_sampler_in_code_beats_the_environment() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_sampler(AlwaysOff).build().unwrap();
    let root = client.tracer("test").start("root");
    assert!(!root.is_recording() && root.context().is_valid());
    drop(root);
    assert!(client.flush(LONG).is_complete());
    assert_eq!(receiver.spans().len(), 0);
    assert!(format!("{client:?}").contains("AlwaysOffSampler"), "{client:?}");
}

#[test]
fn the_ids_of_a_generator_arrive() {
    // ID-01
    struct Fixed;
    impl IdGenerator for Fixed {
        fn trace_id(&self) -> TraceId {
            TraceId::from_bytes([7; 16])
        }
        fn span_id(&self) -> SpanId {
            SpanId::from_bytes([8; 8])
        }
    }
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_id_generator(Fixed).build().unwrap();
    client.tracer("test").start("root").end();
    assert!(client.flush(LONG).is_complete());
    assert_eq!(receiver.span_ids(), [([7; 16], [8; 8])]);
}
