//! What a program sets on its spans, as a receiver finds it.
#![cfg(feature = "testing")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValueList, any_value::Value as Any},
    trace::v1::{Span as Received, Status as ReceivedStatus},
};
use otlp::{
    Client, KeyValue, Span, SpanContext, SpanData, SpanId, SpanKind, Status, TraceId, Tracer, Value, current_span,
    propagation::Context, testing::Receiver,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Records with a tracer, and answers the spans that arrived for it.
fn received(record: impl FnOnce(&Tracer)) -> Vec<Received> {
    let receiver = Receiver::start().expect("a port");
    let client = Client::builder().with_endpoint(receiver.endpoint()).build().expect("valid settings");
    record(&client.tracer("wire_values"));
    client.shutdown(PATIENCE);
    assert_eq!(receiver.errors(), Vec::<String>::new());
    receiver.spans().into_iter().map(|span| span.span).collect()
}

/// The one span that arrived.
fn received_one(record: impl FnOnce(&Tracer)) -> Received {
    let mut spans = received(record);
    assert_eq!(spans.len(), 1);
    spans.remove(0)
}

fn named<'s>(spans: &'s [Received], name: &str) -> &'s Received {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no span {name}"));
    assert!(found.next().is_none(), "two spans {name}");
    span
}

fn attributes(span: &Received) -> Vec<(&str, Option<Any>)> {
    pairs(&span.attributes)
}

fn pairs(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> Vec<(&str, Option<Any>)> {
    attributes.iter().map(|entry| (entry.key.as_str(), entry.value.clone().expect("a value").value)).collect()
}

fn text(text: &str) -> Option<Any> {
    Some(Any::StringValue(text.to_owned()))
}

fn array(values: impl IntoIterator<Item = Option<Any>>) -> Option<Any> {
    Some(Any::ArrayValue(ArrayValue { values: values.into_iter().map(|value| AnyValue { value }).collect() }))
}

fn remote(flags: u8) -> SpanContext {
    SpanContext::new(TraceId::from_bytes([7; 16]), SpanId::from_bytes([8; 8]), flags, true)
}

fn ids(context: &SpanContext) -> (Vec<u8>, Vec<u8>) {
    (context.trace_id().to_bytes().to_vec(), context.span_id().to_bytes().to_vec())
}

#[test]
fn every_value_type_arrives_as_it_was_set() {
    // ATTR-01, ATTR-02, ATTR-03, ENC-08
    let owned = String::from("owned");
    let expected = [
        ("empty", None),
        ("none", None),
        ("some", Some(Any::IntValue(5))),
        ("str", text("日本語 💼\0")),
        ("str.empty", text("")),
        ("string", text("owned")),
        ("string.borrowed", text("owned")),
        ("bool", Some(Any::BoolValue(false))),
        ("i8", Some(Any::IntValue(-128))),
        ("u32", Some(Any::IntValue(4_294_967_295))),
        ("i64", Some(Any::IntValue(i64::MIN))),
        ("usize", Some(Any::IntValue(0))),
        ("f32", Some(Any::DoubleValue(0.5))),
        ("f64", Some(Any::DoubleValue(f64::NEG_INFINITY))),
        ("bytes", Some(Any::BytesValue(vec![0, 255]))),
        ("strs", array([text("a"), text("")])),
        ("strings", array([text("owned")])),
        ("bools", array([Some(Any::BoolValue(true)), Some(Any::BoolValue(false))])),
        ("i32s", array([Some(Any::IntValue(-1)), Some(Any::IntValue(1))])),
        ("i64s", array([Some(Any::IntValue(i64::MAX))])),
        ("f64s", array([Some(Any::DoubleValue(1.5))])),
        ("array.empty", array([])),
        ("list", array([Some(Any::IntValue(1)), text("a"), None, array([Some(Any::BoolValue(true))])])),
        (
            "map",
            Some(Any::KvlistValue(KeyValueList {
                values: vec![opentelemetry_proto::tonic::common::v1::KeyValue {
                    key: "k".to_owned(),
                    value: Some(AnyValue { value: text("last") }),
                    key_strindex: 0,
                }],
            })),
        ),
        ("A", Some(Any::IntValue(1))),
        ("a", Some(Any::IntValue(2))),
    ];
    let span = received_one(|tracer| {
        let mut span = tracer.start("values");
        span.set_attribute("empty", Value::Empty)
            .set_attribute("none", None::<i64>)
            .set_attribute("some", Some(5))
            .set_attribute("str", "日本語 💼\0")
            .set_attribute("str.empty", "")
            .set_attribute("string", owned.clone())
            .set_attribute("string.borrowed", &owned)
            .set_attribute("bool", false)
            .set_attribute("i8", i8::MIN)
            .set_attribute("u32", u32::MAX)
            .set_attribute("i64", i64::MIN)
            .set_attribute("usize", 0_usize)
            .set_attribute("f32", 0.5_f32)
            .set_attribute("f64", f64::NEG_INFINITY)
            .set_attribute("bytes", b"\0\xff")
            .set_attribute("strs", ["a", ""])
            .set_attribute("strings", vec![owned.clone()])
            .set_attribute("bools", [true, false])
            .set_attribute("i32s", [-1, 1])
            .set_attribute("i64s", &[i64::MAX][..])
            .set_attribute("f64s", [1.5])
            .set_attribute("array.empty", Vec::<&str>::new())
            .set_attribute("list", vec![Value::from(1), "a".into(), Value::Empty, [true].into()])
            .set_attribute("map", vec![KeyValue::new("k", 1), KeyValue::new("k", "last")])
            .set_attribute("", "nameless")
            .set_attribute("A", 1)
            .set_attribute("a", 2);
    });
    for (read, expected) in attributes(&span).into_iter().zip(&expected) {
        assert_eq!(read, *expected);
    }
    assert_eq!(span.attributes.len(), expected.len());
    assert_eq!(span.dropped_attributes_count, 0);
}

#[test]
fn a_nan_arrives_bit_for_bit() {
    let nan = f64::from_bits(0x7ff0_0000_dead_beef);
    let span = received_one(|tracer| {
        tracer.start("nan").set_attribute("nan", nan);
    });
    let [(_, Some(Any::DoubleValue(read)))] = attributes(&span)[..] else { panic!("no float") };
    assert_eq!(read.to_bits(), nan.to_bits());
}

#[test]
fn integers_beyond_an_i64_arrive_as_text() {
    let span = received_one(|tracer| {
        tracer
            .start("large")
            .set_attribute("fits", i64::MAX as u64)
            .set_attribute("u64", u64::MAX)
            .set_attribute("i128", i128::MIN)
            .set_attribute("array", [1, u64::MAX]);
    });
    let expected = [
        ("fits", Some(Any::IntValue(i64::MAX))),
        ("u64", text("18446744073709551615")),
        ("i128", text("-170141183460469231731687303715884105728")),
        ("array", array([text("1"), text("18446744073709551615")])),
    ];
    assert_eq!(attributes(&span), expected);
}

#[test]
fn the_last_value_of_an_attribute_arrives_wherever_it_was_set() {
    // SPAN-11, ENC-04
    let span = received_one(|tracer| {
        let twice = [KeyValue::new("k", 3), KeyValue::new("k", "event")];
        let mut span = tracer.span("twice").attribute("k", 1).attribute("other", 1).start();
        span.set_attribute("k", "b").set_attributes([KeyValue::new("other", 2), KeyValue::new("other", "c")]);
        span.add_event("event", &twice).add_link(&remote(1), &twice);
    });
    assert_eq!(attributes(&span), [("k", text("b")), ("other", text("c"))]);
    assert_eq!(pairs(&span.events[0].attributes), [("k", text("event"))]);
    assert_eq!(pairs(&span.links[0].attributes), [("k", text("event"))]);
}

#[test]
fn given_times_are_kept_to_the_nanosecond() {
    // SPAN-04, SPAN-12, ENC-06
    let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
    let spans = received(|tracer| {
        let mut span = tracer.span("given").start_time(at(1_700_000_000_123_456_789)).start();
        span.add_event_at("late", at(1_800_000_000_000_000_001), []);
        span.add_event_at("early", at(3), []);
        span.end_at(at(1_700_000_001_987_654_321));
        tracer.span("backwards").start_time(at(100)).start().end_at(at(99));
        let before = UNIX_EPOCH - Duration::from_secs(1);
        tracer.span("before 1970").start_time(before).start().end_at(before);
    });
    let span = named(&spans, "given");
    let times = (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(times, (1_700_000_000_123_456_789, 1_700_000_001_987_654_321));
    let events: Vec<_> = span.events.iter().map(|event| (event.name.as_str(), event.time_unix_nano)).collect();
    assert_eq!(events, [("late", 1_800_000_000_000_000_001), ("early", 3)]);
    let span = named(&spans, "backwards");
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (100, 100));
    let span = named(&spans, "before 1970");
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (0, 0));
}

#[test]
fn times_that_are_not_given_are_now() {
    // SPAN-04, SPAN-12, ENC-06
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let before = now();
    let spans = received(|tracer| {
        tracer.start("both").add_event("event", []);
        let future = UNIX_EPOCH + Duration::from_nanos(u64::MAX);
        tracer.start("start").end_at(future);
        tracer.span("end").start_time(UNIX_EPOCH).start().end();
    });
    // Timestamps may differ from the wall clock by a millisecond.
    let is_now = |nanos: u64| (before - 1_000_000..now() + 1_000_000).contains(&nanos);
    let span = named(&spans, "both");
    assert!(is_now(span.start_time_unix_nano) && is_now(span.end_time_unix_nano));
    assert!(is_now(span.events[0].time_unix_nano));
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    let span = named(&spans, "start");
    assert!(is_now(span.start_time_unix_nano) && span.end_time_unix_nano == u64::MAX);
    let span = named(&spans, "end");
    assert!(span.start_time_unix_nano == 0 && is_now(span.end_time_unix_nano));
}

#[test]
fn a_builder_runs_what_is_inside_its_span_as_a_tracer_does() {
    // SPAN-03, ENC-01
    let parent = SpanContext::new(TraceId::from_bytes([7; 16]), SpanId::from_bytes([8; 8]), 1, true);
    let spans = received(|tracer| {
        let answer = tracer.span("GET").parent(&parent).kind(SpanKind::Client).attribute("k", "v").in_span(|span| {
            assert_eq!(current_span(), Some(span.context()));
            span.set_attribute("rows", 42);
            tracer.span("inner").in_span(|_| tracer.start("innermost").end());
            42
        });
        assert_eq!((answer, current_span()), (42, None));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            tracer.span("fails").in_span(|_| std::panic::resume_unwind(Box::new("on purpose")))
        }));
        assert!(panicked.is_err() && current_span().is_none());
    });
    let [get, inner, innermost, fails] = ["GET", "inner", "innermost", "fails"].map(|name| named(&spans, name));
    assert_eq!((&get.trace_id[..], &get.parent_span_id[..]), (&[7; 16][..], &[8; 8][..]));
    assert_eq!((get.kind, get.attributes.len()), (3, 2));
    for (child, parent) in [(inner, get), (innermost, inner)] {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id), "{}", child.name);
    }
    assert_eq!(fails.status.as_ref().map(|status| status.code), Some(2));
}

#[test]
fn spans_started_inside_in_span_are_its_children() {
    // SPAN-03, ENC-01, ENC-02
    let spans = received(|tracer| {
        let answer = tracer.in_span("outer", |outer| {
            outer.set_attribute("k", 1);
            assert_eq!(current_span(), Some(outer.context()));
            tracer.in_span("inner", |inner| {
                assert_eq!(current_span(), Some(inner.context()));
                tracer.start("innermost").end();
            });
            assert_eq!(current_span(), Some(outer.context()));
            tracer.start("sibling").end();
            42
        });
        assert_eq!(answer, 42);
        assert_eq!(current_span(), None);
        tracer.start("another trace").end();
    });
    let [outer, inner, innermost, sibling, another] =
        ["outer", "inner", "innermost", "sibling", "another trace"].map(|name| named(&spans, name));
    for (child, parent) in [(inner, outer), (innermost, inner), (sibling, outer)] {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id), "{}", child.name);
        assert_ne!(child.span_id, parent.span_id);
    }
    for root in [outer, another] {
        assert_eq!(root.parent_span_id, Vec::<u8>::new());
    }
    assert_ne!(outer.trace_id, another.trace_id);
    // Sampled, with a random trace id, and a parent that is known not to be remote.
    assert!(spans.iter().all(|span| span.flags == 0x103));
}

#[test]
fn a_span_is_current_only_while_it_is_entered() {
    // SPAN-02, SPAN-07
    let spans = received(|tracer| {
        let span = tracer.start("span");
        assert_eq!(current_span(), None);
        tracer.start("beside").end();
        let context = span.context();
        {
            let _entered = span.enter();
            assert_eq!(current_span(), Some(context.clone()));
            span.end();
            assert_eq!(current_span(), Some(context.clone()), "ending a span does not leave it");
            tracer.start("child").end();
        }
        assert_eq!(current_span(), None);
        tracer.start("afterwards").end();
    });
    let parent = &named(&spans, "span").span_id;
    assert_eq!(named(&spans, "child").parent_span_id, *parent);
    for name in ["beside", "afterwards"] {
        assert_eq!(named(&spans, name).parent_span_id, Vec::<u8>::new(), "{name}");
    }
}

#[test]
fn an_ended_span_is_still_a_parent_and_its_children_go_on() {
    // SPAN-05, SPAN-07
    let spans = received(|tracer| {
        let parent = tracer.start("parent");
        let context = parent.context();
        let mut open = tracer.span("open").parent(&context).start();
        parent.end();
        assert!(open.is_recording());
        open.set_attribute("after", true);
        open.end();
        tracer.span("late").parent(&context).start().end();
    });
    let parent = named(&spans, "parent");
    for name in ["open", "late"] {
        let child = named(&spans, name);
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id), "{name}");
    }
    assert_eq!(attributes(named(&spans, "open")), [("after", Some(Any::BoolValue(true)))]);
}

#[test]
fn a_parent_may_be_given_or_refused_whatever_is_current() {
    // SPAN-01, SPAN-03, ENC-01, ENC-02
    let spans = received(|tracer| {
        tracer.in_span("current", |_| {
            tracer.span("root").root().start().end();
            tracer.span("remote").parent(&remote(3)).start().end();
            tracer.span("remote, not random").parent(&remote(1)).start().end();
            tracer.span("invalid").parent(&SpanContext::INVALID).start().end();
            let unsampled = tracer.span("not sampled").parent(&remote(2)).start();
            assert!(!unsampled.is_recording());
            assert_eq!((unsampled.context().trace_id(), unsampled.context().trace_flags()), (remote(2).trace_id(), 2));
        });
    });
    assert_eq!(spans.len(), 5);
    let current = named(&spans, "current");
    for name in ["root", "invalid"] {
        let span = named(&spans, name);
        assert_eq!((&span.parent_span_id, span.flags), (&vec![], 0x103), "{name}");
        assert_ne!(span.trace_id, current.trace_id);
    }
    for (name, flags) in [("remote", 0x303), ("remote, not random", 0x301)] {
        let span = named(&spans, name);
        let parent = (span.trace_id.clone(), span.parent_span_id.clone());
        assert_eq!((parent, span.flags), (ids(&remote(3)), flags), "{name}");
    }
}

#[test]
fn a_span_and_a_whole_context_may_be_the_parent_too() {
    // SPAN-01
    let spans = received(|tracer| {
        let parent = tracer.start("parent");
        tracer.span("of a span").parent(&parent).start().end();
        let context = Context::default().with_span_context(remote(3));
        tracer.span("of a context").parent(&context).start().end();
        tracer.span("of an empty context").parent(&Context::default()).start().end();
    });
    let parent = named(&spans, "parent");
    assert_eq!(named(&spans, "of a span").parent_span_id, parent.span_id);
    let child = named(&spans, "of a context");
    assert_eq!((child.trace_id.clone(), child.parent_span_id.clone()), ids(&remote(3)));
    assert_eq!(named(&spans, "of an empty context").parent_span_id, Vec::<u8>::new());
}

#[test]
fn what_a_builder_was_given_arrives_before_what_was_set_later() {
    // SPAN-04, SPAN-13, ENC-02, ENC-03
    let local = SpanContext::new(TraceId::from_bytes([3; 16]), SpanId::from_bytes([4; 8]), 0, false);
    let span = received_one(|tracer| {
        let builder = tracer.span("built").kind(SpanKind::Producer).attributes([KeyValue::new("a", 1)]);
        let mut span = builder.link(&remote(1), [KeyValue::new("first", true)]).start();
        span.set_attribute("b", 2).add_link(&local, []).update_name("renamed");
    });
    assert_eq!((span.name.as_str(), span.kind), ("renamed", 4));
    assert_eq!(attributes(&span), [("a", Some(Any::IntValue(1))), ("b", Some(Any::IntValue(2)))]);
    let links: Vec<_> = span
        .links
        .iter()
        .map(|link| ((link.trace_id.clone(), link.span_id.clone()), link.flags, link.attributes.len()))
        .collect();
    assert_eq!(links, [(ids(&remote(1)), 0x301, 1), (ids(&local), 0x100, 0)]);
}

#[test]
fn a_span_may_be_ended_on_another_thread() {
    let spans = received(|tracer| {
        let mut span = tracer.start("moved");
        span.set_attribute("here", 1);
        let dropped = tracer.start("dropped");
        thread::spawn(move || {
            span.set_attribute("there", 2).add_event("there", []);
            span.end();
            drop(dropped);
        })
        .join()
        .expect("no panic");
    });
    assert_eq!(spans.len(), 2);
    let span = named(&spans, "moved");
    assert_eq!(attributes(span), [("here", Some(Any::IntValue(1))), ("there", Some(Any::IntValue(2)))]);
    let event = span.events[0].time_unix_nano;
    // Clocks of two threads may differ by a millisecond.
    assert!(span.start_time_unix_nano <= event + 1_000_000 && event <= span.end_time_unix_nano + 1_000_000);
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
}

#[test]
fn an_error_becomes_an_exception_event_a_type_and_a_status() {
    // SPAN-16, SPAN-17
    let error = "x".parse::<i32>().expect_err("no number");
    let kind = "core::num::error::ParseIntError";
    let span = received_one(|tracer| {
        tracer.start("failed").record_error(&error);
    });
    assert_eq!(attributes(&span), [("error.type", text(kind))]);
    assert_eq!(span.events.len(), 1);
    let event = &span.events[0];
    assert_eq!(event.name, "exception");
    // Without exception.escaped, which is deprecated.
    let expected = [("exception.type", text(kind)), ("exception.message", text(&error.to_string()))];
    assert_eq!(pairs(&event.attributes), expected);
    assert_eq!(span.status, Some(ReceivedStatus { code: 2, message: error.to_string() }));
}

#[test]
fn of_the_attributes_of_an_error_those_that_are_given_win() {
    // SPAN-16
    let error = "x".parse::<i32>().expect_err("no number");
    let given = [KeyValue::new("exception.message", "hidden"), KeyValue::new("line", 3)];
    let span = received_one(|tracer| {
        tracer.start("failed").record_error_with(&error, &given);
    });
    assert_eq!((span.events.len(), span.events[0].name.as_str()), (1, "exception"));
    let kind = ("exception.type", text("core::num::error::ParseIntError"));
    let expected = [kind, ("exception.message", text("hidden")), ("line", Some(Any::IntValue(3)))];
    assert_eq!(pairs(&span.events[0].attributes), expected);
    assert_eq!(span.status.map(|status| status.code), Some(2));
}

#[test]
fn recording_an_error_leaves_a_status_that_was_set_alone() {
    // SPAN-09, SPAN-16, SPAN-17
    let error = "x".parse::<i32>().expect_err("no number");
    let spans = received(|tracer| {
        tracer.start("ok").set_status(Status::Ok).record_error(&error);
        tracer.start("said before").set_status(Status::error("because")).record_error(&error);
        tracer.start("nothing failed").set_attribute("k", 1);
    });
    let status = |name| named(&spans, name).status.clone().map(|status| (status.code, status.message));
    assert_eq!(status("ok"), Some((1, String::new())));
    assert_eq!(status("said before"), Some((2, "because".to_owned())));
    assert_eq!(status("nothing failed"), None);
    assert!(["ok", "said before"].iter().all(|name| named(&spans, name).events.len() == 1));
}

#[test]
fn a_span_dropped_while_its_thread_panics_has_failed() {
    let spans = received(|tracer| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            tracer.in_span("outer", |_| {
                let _held: Span = tracer.start("held");
                let mut fine = tracer.start("fine");
                fine.set_status(Status::Ok);
                std::panic::resume_unwind(Box::new("on purpose"));
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(current_span(), None, "unwinding leaves what was entered");
        tracer.start("afterwards").end();
    });
    let code = |name| named(&spans, name).status.as_ref().map(|status| status.code);
    assert_eq!(["outer", "held", "fine", "afterwards"].map(code), [Some(2), Some(2), Some(1), None]);
}

#[test]
fn a_span_that_only_carries_a_context_is_not_sent() {
    // SPAN-18
    let spans = received(|tracer| {
        let mut wrapped = Span::from_context(remote(3));
        wrapped.set_attribute("k", 1).add_event("event", []).update_name("name");
        assert!(!wrapped.is_recording());
        let _entered = wrapped.enter();
        tracer.start("child").end();
        wrapped.end();
    });
    assert_eq!(spans.len(), 1);
    let child = &spans[0];
    assert_eq!((child.trace_id.clone(), child.parent_span_id.clone()), ids(&remote(3)));
    assert_eq!(child.flags, 0x303);
}

#[test]
fn a_span_that_is_too_large_arrives_cut_and_is_counted() {
    // ENC-05
    let receiver = Receiver::start().expect("a port");
    let client = Client::builder().with_endpoint(receiver.endpoint()).build().expect("valid settings");
    let long = "日".repeat(2 << 20);
    client.tracer("wire_values").start("recorded").set_attribute("k", &long);
    let context = SpanContext::new(TraceId::from_bytes([3; 16]), SpanId::from_bytes([4; 8]), 1, false);
    let given = SpanData::new(context, "given").with_attribute("k", long.clone());
    assert_eq!(client.export_spans([given]).expect("accepted").accepted, 1);
    client.shutdown(PATIENCE);
    let spans: Vec<_> = receiver.spans().into_iter().map(|span| span.span).collect();
    assert_eq!(spans.len(), 2);
    for name in ["recorded", "given"] {
        let [(_, Some(Any::StringValue(kept)))] = &attributes(named(&spans, name))[..] else { panic!("no text") };
        assert!(long.starts_with(kept.as_str()) && kept.len() > 4_000_000, "{name}");
    }
    assert_eq!(client.stats().truncated, 2);
}

#[test]
fn a_value_that_is_nested_without_end_does_not_cost_its_batch() {
    // LIM-03
    let nested = |maps: bool| {
        (0..200).fold(Value::from(7), |inner, _| match maps {
            true => Value::from(vec![KeyValue::new("k", inner)]),
            false => Value::from(vec![inner]),
        })
    };
    let spans = received(|tracer| {
        let mut span = tracer.start("deep");
        span.set_attribute("arrays", nested(false));
        span.set_attribute("maps", nested(true));
        span.add_event("event", [KeyValue::new("maps", nested(true))]);
    });
    assert_eq!((spans[0].attributes.len(), spans[0].events.len()), (2, 1));
}

#[test]
fn a_link_to_no_span_costs_nothing_and_is_kept_for_what_it_says() {
    // SPAN-14
    let spans = received(|tracer| {
        let nowhere = otlp::tracer("before init").start("not recorded");
        let mut span = tracer.start("linking");
        span.add_link(&nowhere.context(), []);
        span.add_link(&nowhere.context(), [KeyValue::new("why", "it was here")]);
    });
    assert_eq!(spans[0].links.len(), 1);
    assert_eq!(spans[0].links[0].attributes.len(), 1);
}
