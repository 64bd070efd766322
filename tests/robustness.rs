//! Whatever a program does with the interface, and whatever its own code does in between: no call panics, nothing is
//! lost, and what arrives is valid.
#![cfg(feature = "testing")]

mod support;

use std::{
    borrow::Cow,
    collections::HashSet,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::{Duration, SystemTime},
};

use otlp::{
    Client, DropStrategy, Entered, Event, IdGenerator, KeyValue, Link, Span, SpanContext, SpanData, SpanId, SpanKind,
    Status, TraceId, TraceState, Tracer, Value,
    propagation::{Baggage, Context, EnvironmentCarrier, Extractor, Injector, extract, inject},
    sampling::{Sampler, SamplingInput, SamplingResult},
    testing::{Receiver, proto},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use support::{LONG, assert_accounted, client_of};

/// More than any of these spans needs: nothing is dropped for want of room.
const MEMORY: usize = 256 << 20;

/// What a program does next. Spans, guards and contexts are found by a number, among as many as there are.
#[derive(Debug, Clone)]
enum Step {
    Start {
        name: String,
        parent: Option<SpanContext>,
        at: Option<SystemTime>,
        attributes: u16,
        links: u16,
    },
    Attribute(usize, String, Value<'static>),
    /// A value so deep. Made where it is used: nobody could print it.
    Nested(usize, usize),
    Attributes(usize, u16),
    Event(usize, String, Option<SystemTime>, u16),
    Link(usize, SpanContext, u16),
    Status(usize, Option<String>),
    Rename(usize, String),
    Fail(usize, String),
    Enter(usize),
    EnterContext(SpanContext, String, String),
    Leave(usize),
    Pass(String, String),
    End(usize, Option<SystemTime>),
    EndElsewhere(usize),
    /// Through a buffer, or not.
    Export(Box<SpanData>, bool),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        1 => Just(String::new()),
        1 => Just("\0".to_owned()),
        1 => Just("\u{10ffff}é\r\n".repeat(5_000)),
        4 => "[a-c]{0,2}",
    ]
}

/// Before 1970, about now, and further away than nanoseconds reach.
fn time() -> impl Strategy<Value = SystemTime> {
    let nanos = any::<u64>().prop_map(Duration::from_nanos);
    prop_oneof![
        nanos.clone().prop_map(|after| SystemTime::UNIX_EPOCH + after),
        nanos.prop_map(|before| SystemTime::UNIX_EPOCH - before),
        Just(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::MAX) * 2),
        Just(SystemTime::UNIX_EPOCH),
        Just(SystemTime::now()),
    ]
}

fn context() -> impl Strategy<Value = SpanContext> {
    let ids = prop_oneof![Just((0, 0)), Just((0, 1)), Just((1, 0)), any::<(u128, u64)>()];
    let full: String = (0..32).map(|at| format!("k{at}={},", "v".repeat(256))).collect();
    let state = prop_oneof![Just(String::new()), Just("ot=th:8;rv:00000000000abc,a=1".to_owned()), Just(full), name()];
    (ids, any::<(u8, bool)>(), state).prop_map(|((trace, span), (flags, is_remote), state)| {
        let ids = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
        let state = TraceState::parse(&state).unwrap_or_default();
        SpanContext::new(ids.0, ids.1, flags, is_remote).with_trace_state(state)
    })
}

fn value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        name().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(f64::NAN), Just(f64::NEG_INFINITY), Just(f64::MIN_POSITIVE)].prop_map(Value::from),
        prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()].prop_map(Value::from),
        prop_oneof![Just(u128::MAX), any::<u128>()].prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<Vec<u8>>().prop_map(Value::from),
        prop::collection::vec(name(), 0..4).prop_map(Value::from),
        Just(Value::from(vec![i64::MIN; 5_000])),
        Just(Value::Empty),
        (0..3_000_u16).prop_map(|count| Value::Map(numbered(count))),
    ]
}

/// Lists and maps within each other.
fn nested(depth: usize) -> Value<'static> {
    (0..depth).fold(Value::Bool(true), |inner, at| match at % 2 {
        0 => Value::List(vec![inner]),
        _ => Value::Map(vec![KeyValue { key: Cow::Borrowed("k"), value: inner }]),
    })
}

/// So many attributes, of which some have the same key, and one has none.
fn numbered(count: u16) -> Vec<KeyValue<'static>> {
    let key = |at: u16| if at == 0 { String::new() } else { format!("k{}", at % 2_000) };
    (0..count).map(|at| KeyValue::new(key(at), at)).collect()
}

fn complete_span() -> impl Strategy<Value = SpanData> {
    let parts =
        (context(), prop::option::of(context()), name(), time(), time(), value(), prop_oneof![0..4_u16, Just(5_000)]);
    parts.prop_map(|(context, parent, name, start, end, value, count)| {
        let mut span = SpanData::new(context.clone(), name.clone())
            .with_times(start, end)
            .with_attributes([KeyValue::new(name.clone(), value), KeyValue::new("k", 1), KeyValue::new("k", 2)])
            .with_event(Event::new(name, end).with_attributes(numbered(count)))
            .with_link(Link::new(context).with_attributes(numbered(count)));
        span.parent = parent;
        span
    })
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    let many = || prop_oneof![0..4_u16, 0..4_u16, Just(130), Just(5_000)];
    let some_time = || prop::option::of(time());
    let start = (name(), prop::option::of(context()), some_time(), many(), many())
        .prop_map(|(name, parent, at, attributes, links)| Step::Start { name, parent, at, attributes, links });
    prop_oneof![
        6 => start,
        4 => (which(), name(), value()).prop_map(|(which, key, value)| Step::Attribute(which, key, value)),
        1 => (which(), 1..10_000_usize).prop_map(|(which, depth)| Step::Nested(which, depth)),
        1 => (which(), many()).prop_map(|(which, count)| Step::Attributes(which, count)),
        2 => (which(), name(), some_time(), many()).prop_map(|(which, name, at, count)| Step::Event(which, name, at, count)),
        2 => (which(), context(), many()).prop_map(|(which, to, count)| Step::Link(which, to, count)),
        1 => (which(), prop::option::of(name())).prop_map(|(which, text)| Step::Status(which, text)),
        1 => (which(), name()).prop_map(|(which, name)| Step::Rename(which, name)),
        1 => (which(), name()).prop_map(|(which, text)| Step::Fail(which, text)),
        2 => which().prop_map(Step::Enter),
        1 => (context(), name(), name()).prop_map(|(context, key, value)| Step::EnterContext(context, key, value)),
        2 => which().prop_map(Step::Leave),
        1 => (name(), name()).prop_map(|(key, value)| Step::Pass(key, value)),
        4 => (which(), some_time()).prop_map(|(which, at)| Step::End(which, at)),
        1 => which().prop_map(Step::EndElsewhere),
        1 => (complete_span(), any::<bool>()).prop_map(|(span, is_buffered)| Step::Export(Box::new(span), is_buffered)),
    ]
}

/// Either guard of something that is current.
#[allow(dead_code)]
enum Guard {
    Span(Entered),
    Context(otlp::propagation::EnteredContext),
}

/// Takes the steps, and ends what is still open, guards in the order they were made.
fn take(client: &Client, tracer: &Tracer, steps: Vec<Step>) {
    let (mut spans, mut guards): (Vec<Span>, Vec<Guard>) = (Vec::new(), Vec::new());
    let at = |which: usize, length: usize| (length > 0).then(|| which % length.max(1));
    for step in steps {
        let length = spans.len();
        let span = |which: usize| at(which, length);
        match step {
            Step::Start { name, parent, at, attributes, links } => {
                let mut builder = tracer.span(&name).kind(SpanKind::Consumer).attributes(numbered(attributes));
                for _ in 0..links {
                    builder = builder.link(&SpanContext::INVALID, [KeyValue::new("k", 1)]);
                }
                builder = match &parent {
                    Some(parent) => builder.parent(parent),
                    None => builder,
                };
                builder = match at {
                    Some(at) => builder.start_time(at),
                    None => builder,
                };
                spans.push(builder.start());
            }
            Step::Attribute(which, key, value) => {
                span(which).map(|at| spans[at].set_attribute(&key, value).is_recording());
            }
            Step::Nested(which, depth) => {
                span(which).map(|at| spans[at].set_attribute("nested", nested(depth)).is_recording());
            }
            Step::Attributes(which, count) => {
                span(which).map(|at| spans[at].set_attributes(numbered(count)).is_recording());
            }
            Step::Event(which, name, time, count) => {
                span(which).map(|at| {
                    match time {
                        Some(time) => spans[at].add_event_at(&name, time, numbered(count)),
                        None => spans[at].add_event(&name, numbered(count)),
                    }
                    .is_recording()
                });
            }
            Step::Link(which, to, count) => {
                span(which).map(|at| spans[at].add_link(&to, numbered(count)).is_recording());
            }
            Step::Status(which, text) => {
                let status = text.map_or(Status::Ok, Status::error);
                span(which).map(|at| spans[at].set_status(status).is_recording());
            }
            Step::Rename(which, name) => {
                span(which).map(|at| spans[at].update_name(&name).is_recording());
            }
            Step::Fail(which, text) => {
                span(which).map(|at| spans[at].record_error(&std::io::Error::other(text)).is_recording());
            }
            Step::Enter(which) => guards.extend(span(which).map(|at| Guard::Span(spans[at].enter()))),
            Step::EnterContext(context, key, value) => {
                let baggage = Baggage::default().insert(key, value);
                let context = Context::default().with_span_context(context).with_baggage(baggage);
                guards.push(Guard::Context(context.enter()));
            }
            Step::Leave(which) => drop(at(which, guards.len()).map(|at| guards.remove(at))),
            Step::Pass(key, value) => {
                let baggage = Baggage::parse(&value).insert_with_metadata(key.clone(), value.clone(), key.clone());
                let context = Context::current().with_baggage(baggage);
                let state = context.span_context().trace_state();
                let _ = (state.insert(&key, &value), state.delete(&key), state.get(&value), state.to_string());
                let mut carrier = EnvironmentCarrier::default();
                context.inject(&mut carrier);
                carrier.set(&key, value);
                let read = Context::extract(&carrier);
                let _ = (carrier.get(&key), read.baggage().metadata(&key), format!("{read:?}"));
            }
            Step::End(which, time) => {
                if let Some(span) = span(which).map(|at| spans.swap_remove(at)) {
                    match time {
                        Some(time) => span.end_at(time),
                        None => span.end(),
                    }
                }
            }
            Step::EndElsewhere(which) => {
                if let Some(mut span) = span(which).map(|at| spans.swap_remove(at)) {
                    let ended = thread::spawn(move || {
                        let _entered = span.enter();
                        span.set_attribute("elsewhere", true);
                        span.end();
                    });
                    ended.join().expect("the other thread did not panic");
                }
            }
            Step::Export(span, is_buffered) => {
                let is_valid = span.context.is_valid();
                let sent = if is_buffered {
                    let mut buffer = client.get_zero_copy_buffer();
                    buffer.write_spans(&[*span]).and_then(|_| client.send_buffer(buffer))
                } else {
                    client.export_spans([*span])
                };
                assert_eq!(sent.is_ok(), is_valid, "{sent:?}");
            }
        }
    }
    guards.drain(..).for_each(drop);
}

/// Every key once, whatever is nested.
fn assert_unique(attributes: &[proto::common::v1::KeyValue]) {
    use proto::common::v1::any_value::Value as Any;
    let keys: HashSet<_> = attributes.iter().map(|attribute| &attribute.key).collect();
    assert_eq!(keys.len(), attributes.len(), "keys are unique");
    let mut values: Vec<_> = attributes.iter().filter_map(|attribute| attribute.value.as_ref()).collect();
    while let Some(value) = values.pop() {
        match &value.value {
            Some(Any::ArrayValue(list)) => values.extend(&list.values),
            Some(Any::KvlistValue(map)) => assert_unique(&map.values),
            _ => {}
        }
    }
}

/// What the receiver does not look at itself. It has checked ids, kinds and times, and decoded every text.
fn assert_valid(receiver: &Receiver) {
    assert_eq!(receiver.errors(), Vec::<String>::new());
    for received in receiver.spans() {
        let span = received.span;
        for attributes in [&span.attributes]
            .into_iter()
            .chain(span.events.iter().map(|event| &event.attributes))
            .chain(span.links.iter().map(|link| &link.attributes))
        {
            assert_unique(attributes);
            assert!(attributes.iter().all(|attribute| !attribute.key.is_empty()));
            assert!(attributes.len() <= 128);
        }
        assert!(span.events.len() <= 128 && span.links.len() <= 128);
        assert!(TraceState::parse(&span.trace_state).is_some());
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
}

#[test]
fn no_sequence_of_calls_panics_and_what_arrives_is_valid() {
    // ERR-01, LIM-02, LIM-03, SPAN-05
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver)
        .with_max_memory_usage(MEMORY)
        .with_drop_strategy(DropStrategy::Block(LONG))
        .build()
        .unwrap();
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let steps = (prop::collection::vec(step(), 0..40), name());
    let done = TestRunner::new(config).run(&steps, |(steps, scope)| {
        take(&client, &client.tracer(scope), steps);
        Ok(())
    });
    done.unwrap();
    assert!(client.flush(LONG).is_complete());
    let stats = assert_accounted(&client);
    assert_eq!((stats.exported, stats.open), (receiver.span_count(), 0), "{stats:?}");
    assert!(stats.exported > 100, "{stats:?}");
    assert_valid(&receiver);
}

#[test]
fn a_complete_span_with_an_invalid_parent_has_none() {
    // ERR-01, SPAN-05
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), 1, false);
    for parent in [SpanContext::INVALID, SpanContext::new(TraceId::INVALID, SpanId::from_bytes([3; 8]), 1, true)] {
        let span = SpanData::new(context.clone(), "orphan").with_parent(parent);
        assert_eq!(client.export_spans([span]).unwrap().accepted, 1);
    }
    assert!(receiver.spans().iter().all(|received| received.span.parent_span_id.is_empty()));
    assert_valid(&receiver);
}

#[test]
fn no_time_is_too_long_to_wait_for() {
    // ERR-01
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver)
        .with_connect_timeout(Duration::MAX)
        .with_request_timeout(Duration::MAX)
        .with_keep_alive_timeout(Duration::MAX)
        .with_drop_strategy(DropStrategy::Block(Duration::MAX))
        .with_exit_budget(otlp::ExitBudget { stall: Duration::MAX, total: Duration::MAX })
        .build()
        .unwrap();
    client.tracer("test").start("span").end();
    assert!(client.flush(Duration::MAX).is_complete());
    client.flush(Duration::ZERO);
    assert_eq!(client.shutdown(Duration::MAX).exported, 1);
    client.shutdown(Duration::ZERO);
    client.close();
    client.tracer("test").start("late").end();
    assert_eq!(receiver.span_count(), 1);
}

/// A fault of the program's own, without the message that a panic would print.
fn fault() -> ! {
    resume_unwind(Box::new("a fault of the program's"))
}

/// Whether the program's own fault came back to it.
fn comes_back(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[derive(Debug)]
enum Faulty {
    Panics,
    Fails,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("so far")?;
        match self {
            Self::Panics => fault(),
            Self::Fails => Err(fmt::Error),
        }
    }
}

impl Error for Faulty {}

#[test]
fn an_error_that_cannot_say_what_it_is_is_recorded_as_far_as_it_can() {
    // ERR-01, ERR-03
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("test");
    for error in [Faulty::Panics, Faulty::Fails] {
        tracer.in_span("span", |span| span.record_error(&error).set_attribute("after", 1).is_recording());
    }
    assert!(client.flush(LONG).is_complete());
    for received in receiver.spans() {
        assert_eq!(received.span.events[0].name, "exception");
        assert_eq!(received.span.status.as_ref().unwrap().message, "so far");
        assert!(received.attribute("after").is_some());
    }
    assert_eq!(receiver.span_count(), 2);
    assert_valid(&receiver);
}

/// A value that cannot be made, and attributes that cannot be lent.
struct Unmade;

impl From<Unmade> for Value<'_> {
    fn from(_: Unmade) -> Self {
        fault()
    }
}

impl AsRef<[KeyValue<'static>]> for Unmade {
    fn as_ref(&self) -> &[KeyValue<'static>] {
        fault()
    }
}

/// One attribute, and then a fault.
fn broken_off() -> impl Iterator<Item = KeyValue<'static>> {
    (0..2).map(|at| if at == 0 { KeyValue::new("first", 1) } else { fault() })
}

#[test]
fn a_fault_in_what_is_given_to_a_span_comes_back_and_leaves_the_span_usable() {
    // ERR-01
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("test");
    let mut span = tracer.start("span");
    assert!(comes_back(|| _ = span.set_attributes(broken_off())));
    assert!(comes_back(|| _ = span.set_attribute("unmade", Unmade)));
    assert!(comes_back(|| _ = span.add_event("unmade", Unmade)));
    assert!(comes_back(|| _ = span.add_event_at("unmade", SystemTime::now(), Unmade)));
    assert!(comes_back(|| _ = span.add_link(&SpanContext::INVALID, Unmade)));
    span.set_attribute("after", 1).add_event("after", []);
    // Before it has started it is no span yet.
    assert!(comes_back(|| drop(tracer.span("never").attributes(broken_off()).start())));
    assert!(comes_back(|| drop(tracer.span("never").attribute("unmade", Unmade).start())));
    assert!(comes_back(|| drop(tracer.span("never").link(&span.context(), Unmade).start())));
    assert!(comes_back(|| tracer.in_span("panicked", |_| fault())));
    assert!(comes_back(|| drop(Client::builder().with_resource_attributes(broken_off()))));
    assert_eq!(otlp::current_span(), None, "nothing stayed current");
    span.end();
    assert!(client.flush(LONG).is_complete());
    let stats = assert_accounted(&client);
    assert_eq!((stats.exported, stats.started, stats.open), (2, 2, 0), "{stats:?}");
    let spans = receiver.spans();
    let survivor = spans.iter().find(|received| received.span.name == "span").unwrap();
    assert!(survivor.attribute("first").is_some() && survivor.attribute("after").is_some());
    assert_eq!(survivor.span.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["after"]);
    assert_valid(&receiver);
}

/// Fails whoever asks it anything.
struct Plugged;

impl Sampler for Plugged {
    fn should_sample(&self, _: &SamplingInput<'_>) -> SamplingResult {
        fault()
    }

    fn description(&self) -> Cow<'_, str> {
        fault()
    }
}

impl IdGenerator for Plugged {
    fn trace_id(&self) -> TraceId {
        fault()
    }

    fn span_id(&self) -> SpanId {
        fault()
    }

    fn has_random_trace_ids(&self) -> bool {
        fault()
    }
}

impl Injector for Plugged {
    fn set(&mut self, _: &str, _: String) {
        fault()
    }
}

impl Extractor for Plugged {
    fn get_all(&self, _: &str) -> Vec<&str> {
        fault()
    }

    fn keys(&self) -> Vec<&str> {
        fault()
    }
}

#[test]
fn what_a_program_plugs_in_may_panic_and_harms_nobody() {
    // ERR-03
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_sampler(Plugged).with_id_generator(Plugged).build().unwrap();
    assert!(format!("{client:?}").contains("its description panicked"));
    let tracer = client.tracer("test");
    let caller = extract(&Plugged);
    assert_eq!(caller, None);
    assert!(!Context::extract(&Plugged).span_context().is_valid());
    let parent = tracer.start("parent");
    let child = tracer.span("child").parent(&parent.context()).start();
    inject(&child.context(), &mut Plugged);
    Context::current().with_span_context(child.context()).inject(&mut Plugged);
    child.end();
    parent.end();
    assert!(client.flush(LONG).is_complete());
    assert_eq!(receiver.span_count(), 2);
    assert_valid(&receiver);
}
