//! The W3C's own tests of Trace Context Level 2 (`test/test.py` of w3c/trace-context), against the example service.
//! Each test here says which of theirs it follows.
#![cfg(feature = "testing")]

mod support;

#[allow(dead_code)]
#[path = "../src/hostile.rs"]
mod hostile;
#[path = "../examples/w3c_service/http1.rs"]
mod http1;
#[path = "../examples/w3c_service/service.rs"]
mod service;
#[path = "support/w3c_harness.rs"]
mod w3c_harness;

use std::collections::HashSet;

use http1::Request;
use otlp::SpanKind;
use proptest::prelude::*;

use support::LONG;
use w3c_harness::{Carried, Harness};

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";
const SAMPLED: &str = "00-12345678901234567890123456789012-1234567890123456-01";
const UNSAMPLED: &str = "00-12345678901234567890123456789012-1234567890123456-00";

/// What a call carries for a request with these headers.
fn call(headers: &[(&str, &str)]) -> Carried {
    Harness::start().call(headers)
}

/// The same trace goes on for each of these headers.
#[track_caller]
fn assert_continued(name: &str, values: &[&str]) {
    let harness = Harness::start();
    for value in values {
        let carried = harness.call(&[(name, value)]);
        assert_eq!(carried.trace_id, TRACE, "{name}: {value:?}");
        assert_ne!(carried.parent_id, PARENT, "{name}: {value:?}");
    }
}

/// A trace of its own begins for each of these headers.
#[track_caller]
fn assert_restarted(name: &str, values: &[&str]) {
    let harness = Harness::start();
    let mut traces = HashSet::new();
    for value in values {
        let carried = harness.call(&[(name, value)]);
        assert!(!value.contains(&carried.trace_id), "{name}: {value:?}");
        assert_ne!(carried.trace_id, TRACE, "{name}: {value:?}");
        assert!(traces.insert(carried.trace_id), "{name}: {value:?}");
    }
}

/// What a call carries in a trace with these headers of trace state.
fn with_states(harness: &Harness, states: &[&str]) -> Carried {
    let mut headers = vec![("traceparent", UNSAMPLED)];
    headers.extend(states.iter().map(|state| ("tracestate", *state)));
    let carried = harness.call(&headers);
    assert_eq!(carried.trace_id, TRACE, "{states:?}");
    carried
}

/// Each of these headers of trace state leads to this list.
#[track_caller]
fn assert_states(cases: &[(&[&str], &str)]) {
    let harness = Harness::start();
    for (states, list) in cases {
        assert_eq!(with_states(&harness, states).list(), *list, "{states:?}");
    }
}

#[test]
fn without_a_trace_one_begins() {
    // W3C-01, W3C-14: test_both_traceparent_and_tracestate_missing
    let carried = call(&[]);
    assert_ne!(carried.trace_id, TRACE);
    assert_eq!(carried.context().len(), 1, "no empty tracestate and no baggage: {carried:?}");
    assert_eq!(carried.body, b"[0]");
}

#[test]
fn a_trace_goes_on_with_a_span_of_its_own() {
    // W3C-01: test_traceparent_included_tracestate_missing
    assert_continued("traceparent", &[SAMPLED]);
}

#[test]
fn a_traceparent_that_comes_twice_begins_a_trace() {
    // W3C-06: test_traceparent_duplicated
    let carried =
        call(&[("traceparent", "00-12345678901234567890123456789011-1234567890123456-01"), ("traceparent", SAMPLED)]);
    assert!(!["12345678901234567890123456789011", TRACE].contains(&carried.trace_id.as_str()));
}

#[test]
fn a_traceparent_by_another_name_is_none() {
    // W3C-05: test_traceparent_header_name
    assert_restarted("trace-parent", &[SAMPLED]);
    assert_restarted("trace.parent", &[SAMPLED]);
}

#[test]
fn a_traceparent_is_found_in_whatever_case_it_is_named() {
    // CTX-05: test_traceparent_header_name_valid_casing
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert_continued(name, &[SAMPLED]);
    }
}

#[test]
fn version_00_ends_with_its_flags() {
    // W3C-03: test_traceparent_version_0x00
    assert_restarted(
        "traceparent",
        &[
            "00-12345678901234567890123456789012-1234567890123456-01.",
            "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            "00-12345678901234567890123456789012-1234567890123456-01-",
        ],
    );
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    // W3C-03: test_traceparent_version_0xcc
    assert_continued(
        "traceparent",
        &[
            "cc-12345678901234567890123456789012-1234567890123456-01",
            "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        ],
    );
    assert_restarted(
        "traceparent",
        &["cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like"],
    );
}

#[test]
fn version_ff_is_invalid() {
    // W3C-03: test_traceparent_version_0xff
    assert_restarted("traceparent", &["ff-12345678901234567890123456789012-1234567890123456-01"]);
}

#[test]
fn a_version_is_two_digits() {
    // W3C-02: test_traceparent_version_illegal_characters, _too_long, _too_short
    assert_restarted(
        "traceparent",
        &[
            ".0-12345678901234567890123456789012-1234567890123456-01",
            "0.-12345678901234567890123456789012-1234567890123456-01",
            "000-12345678901234567890123456789012-1234567890123456-01",
            "0000-12345678901234567890123456789012-1234567890123456-01",
            "0-12345678901234567890123456789012-1234567890123456-01",
        ],
    );
}

#[test]
fn a_trace_id_is_thirty_two_digits_that_are_not_all_zero() {
    // W3C-02: test_traceparent_trace_id_all_zero, _illegal_characters, _too_long, _too_short
    assert_restarted(
        "traceparent",
        &[
            "00-00000000000000000000000000000000-1234567890123456-01",
            "00-.2345678901234567890123456789012-1234567890123456-01",
            "00-1234567890123456789012345678901.-1234567890123456-01",
            "00-123456789012345678901234567890123-1234567890123456-01",
            "00-1234567890123456789012345678901-1234567890123456-01",
        ],
    );
}

#[test]
fn a_parent_id_is_sixteen_digits_that_are_not_all_zero() {
    // W3C-02: test_traceparent_parent_id_all_zero, _illegal_characters, _too_long, _too_short
    assert_restarted(
        "traceparent",
        &[
            "00-12345678901234567890123456789012-0000000000000000-01",
            "00-12345678901234567890123456789012-.234567890123456-01",
            "00-12345678901234567890123456789012-123456789012345.-01",
            "00-12345678901234567890123456789012-12345678901234567-01",
            "00-12345678901234567890123456789012-123456789012345-01",
        ],
    );
}

#[test]
fn flags_are_two_digits() {
    // W3C-02: test_traceparent_trace_flags_illegal_characters, _too_long, _too_short
    assert_restarted(
        "traceparent",
        &[
            "00-12345678901234567890123456789012-1234567890123456-.0",
            "00-12345678901234567890123456789012-1234567890123456-0.",
            "00-12345678901234567890123456789012-1234567890123456-001",
            "00-12345678901234567890123456789012-1234567890123456-1",
        ],
    );
}

#[test]
fn spaces_and_tabs_around_a_traceparent_do_not_count() {
    // W3C-02: test_traceparent_ows_handling
    let around = [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")];
    let values = around.map(|(before, after)| format!("{before}{SAMPLED}{after}"));
    assert_continued("traceparent", &values.each_ref().map(String::as_str));
}

#[test]
fn a_trace_state_without_a_trace_is_dropped() {
    // W3C-05: test_tracestate_included_traceparent_missing
    let harness = Harness::start();
    for state in ["foo=1", "foo=1,bar=2"] {
        assert_eq!(harness.call(&[("tracestate", state)]).list(), "");
    }
}

#[test]
fn a_trace_state_goes_on_with_its_trace() {
    // W3C-01: test_tracestate_included_traceparent_included
    assert_states(&[(&["foo=1,bar=2"], "foo=1,bar=2")]);
}

#[test]
fn a_trace_state_is_found_by_its_name_in_whatever_case() {
    // CTX-05: test_tracestate_header_name, test_tracestate_header_name_valid_casing
    let harness = Harness::start();
    for (name, list) in [
        ("trace-state", ""),
        ("trace.state", ""),
        ("TraceState", "foo=1"),
        ("TrAcEsTaTe", "foo=1"),
        ("TRACESTATE", "foo=1"),
    ] {
        assert_eq!(harness.call(&[("traceparent", UNSAMPLED), (name, "foo=1")]).list(), list, "{name}");
    }
}

#[test]
fn an_empty_trace_state_means_nothing_and_is_not_sent() {
    // W3C-08, W3C-14: test_tracestate_empty_header
    assert_states(&[(&[""], ""), (&["foo=1", ""], "foo=1"), (&["", "foo=1"], "foo=1")]);
    assert!(!with_states(&Harness::start(), &[""]).context().contains_key("tracestate"));
}

#[test]
fn several_headers_of_trace_state_are_one_list() {
    // W3C-08: test_tracestate_multiple_headers_different_keys
    assert_states(&[(&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3")]);
}

#[test]
fn of_members_with_one_key_the_first_counts() {
    // W3C-12: test_tracestate_duplicated_keys
    assert_states(&[
        (&["foo=1,foo=1"], "foo=1"),
        (&["foo=1,foo=2"], "foo=1"),
        (&["foo=1", "foo=1"], "foo=1"),
        (&["foo=1", "foo=2"], "foo=1"),
    ]);
}

#[test]
fn every_character_that_is_allowed_is_passed_on() {
    // W3C-09, W3C-10: test_tracestate_all_allowed_characters
    let key: String = ('a'..='z').chain('0'..='9').chain("_-*/".chars()).collect();
    let value: String = (' '..='+').chain('-'..='<').chain('>'..='~').collect();
    let harness = Harness::start();
    for key in [key.clone(), format!("{key}@a-z0-9_-*/")] {
        let carried = with_states(&harness, &[&format!("{key}={value}")]);
        assert_eq!(carried.state(&key), Some(value.as_str()));
    }
}

#[test]
fn spaces_and_tabs_around_members_do_not_count() {
    // W3C-10: test_tracestate_ows_handling
    let three = "foo=1,bar=2,baz=3";
    assert_states(&[
        (&["foo=1 \t , \t bar=2, \t baz=3"], three),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], three),
        (&[" foo=1"], "foo=1"),
        (&["\tfoo=1"], "foo=1"),
        (&["foo=1 "], "foo=1"),
        (&["foo=1\t"], "foo=1"),
        (&["\t foo=1 \t"], "foo=1"),
    ]);
}

#[test]
fn a_key_is_of_small_letters_digits_and_few_signs() {
    // W3C-09, W3C-07: test_tracestate_key_illegal_characters, test_tracestate_key_illegal_vendor_format
    assert_states(&[
        (&["foo =1"], ""),
        (&["FOO=1"], ""),
        (&["foo.bar=1"], ""),
        (&["foo@=1,bar=2"], "foo@=1,bar=2"),
        (&["@foo=1,bar=2"], ""),
        (&["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
        (&["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
    ]);
}

#[test]
fn thirty_two_members_go_on_and_thirty_three_are_dropped() {
    // W3C-11: test_tracestate_member_count_limit
    let members = |range: std::ops::RangeInclusive<u32>| {
        range.map(|at| format!("bar{at:02}={at:02}")).collect::<Vec<_>>().join(",")
    };
    let [first, second, third] = [1..=10, 11..=20, 21..=30].map(members);
    let all = members(1..=32);
    assert_states(&[
        (&[&first, &second, &third, &members(31..=32)], &all),
        (&[&first, &second, &third, &members(31..=33)], ""),
    ]);
}

#[test]
fn a_key_has_at_most_256_characters_wherever_it_has_an_at_sign() {
    // W3C-09: test_tracestate_key_length_limit
    let harness = Harness::start();
    for (key, is_kept) in [
        ("z".repeat(256), true),
        ("z".repeat(257), false),
        (format!("{}@{}", "t".repeat(241), "v".repeat(14)), true),
        (format!("{}@v", "t".repeat(242)), true),
        (format!("t@{}", "v".repeat(15)), true),
    ] {
        let carried = with_states(&harness, &["foo=1", &format!("{key}=1")]);
        assert_eq!(
            (carried.state("foo"), carried.state(&key)),
            if is_kept { (Some("1"), Some("1")) } else { (None, None) },
            "{key}"
        );
    }
}

#[test]
fn a_value_without_characters_or_with_an_equals_sign_drops_the_list() {
    // W3C-10, W3C-11: test_tracestate_value_illegal_characters
    assert_states(&[(&["foo=bar=baz"], ""), (&["foo=,bar=3"], "")]);
}

#[test]
fn each_call_of_a_request_has_a_span_of_its_own_in_one_trace() {
    // W3C-01: AdvancedTest, all three
    let harness = Harness::start();
    let zero = "00-00000000000000000000000000000000-1234567890123456-01";
    for headers in [&[("traceparent", SAMPLED)][..], &[], &[("traceparent", zero)]] {
        let carried = harness.calls(headers, 3);
        let parents: HashSet<_> = carried.iter().map(|carried| &carried.parent_id).collect();
        let traces: HashSet<_> = carried.iter().map(|carried| carried.trace_id.as_str()).collect();
        assert_eq!((parents.len(), traces.len()), (3, 1), "{headers:?}");
        assert_eq!(traces.contains(TRACE), headers.contains(&("traceparent", SAMPLED)), "{headers:?}");
    }
}

#[test]
fn the_defined_flags_go_on_and_no_others() {
    // W3C-01, W3C-04, ID-02, ID-03: TraceContext2Test.test_propagates_random_flag
    let harness = Harness::start();
    for (flags, expected) in [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0)] {
        let carried = harness.call(&[("traceparent", &format!("00-{TRACE}-{PARENT}-{flags}"))]);
        assert_eq!((carried.trace_id.as_str(), carried.flags), (TRACE, expected), "{flags}");
        assert_ne!(carried.parent_id, PARENT);
    }
    assert_eq!(harness.call(&[]).flags, 3, "ids that begin here are random");
}

#[test]
fn several_headers_of_baggage_are_one_list_and_go_on_without_a_trace() {
    // BAG-05, BAG-06, BAG-07
    let harness = Harness::start();
    for trace in [&[][..], &[("traceparent", SAMPLED)], &[("traceparent", "garbage")]] {
        let headers = [trace, &[("baggage", "a=1;m , nonsense"), ("Baggage", "b=%C3%BC")]].concat();
        assert_eq!(harness.call(&headers).context().get("baggage"), Some(&"a=1;m,b=%C3%BC"), "{trace:?}");
        // The thread that served one request brings nothing of it to the next.
        assert!(!harness.call(trace).context().contains_key("baggage"));
    }
}

#[test]
fn what_the_service_does_is_recorded_within_the_callers_trace() {
    // W3C-01, ENC-06
    let harness = Harness::start();
    let carried = harness.call(&[("traceparent", SAMPLED), ("tracestate", "a=1")]);
    assert!(harness.client.flush(LONG).is_complete());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spans = harness.receiver.spans();
    let of = |kind: SpanKind| spans.iter().find(|span| span.span.kind == kind as i32).map(|span| &span.span).unwrap();
    let (server, client) = (of(SpanKind::Server), of(SpanKind::Client));
    assert_eq!((server.name.as_str(), hex(&server.parent_span_id)), ("POST /test", PARENT.to_owned()));
    assert_eq!((&client.parent_span_id, hex(&client.span_id)), (&server.span_id, carried.parent_id));
    for span in [server, client] {
        assert_eq!((hex(&span.trace_id).as_str(), span.trace_state.as_str()), (TRACE, "a=1"));
    }
}

#[test]
fn what_is_malformed_is_refused_and_the_next_request_is_served() {
    let harness = Harness::start();
    for body in [
        "",
        "null",
        "[",
        "{}",
        "[1]",
        r#"[{"arguments": []}]"#,
        r#"[{"url": 1, "arguments": []}]"#,
        r#"[{"url": "nowhere", "arguments": []}]"#,
        r#"[{"url": "https://127.0.0.1/", "arguments": []}]"#,
        r#"[{"url": "http://127.0.0.1/"}]"#,
        &"[".repeat(100_000),
    ] {
        assert_eq!(harness.post(&[], body).0, 400, "{body:.60}");
    }
    for (request, status) in [
        (&b"garbage\r\n\r\n"[..], 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"POST /test HTTP/1.1\r\n", 400),
        (b"POST /test HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /test HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n[]", 400),
        (b"POST /test HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /test HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /test HTTP/1.1\r\n\r\n", 405),
    ] {
        assert_eq!(harness.send(request).0, status, "{}", request.escape_ascii());
    }
    let closed = r#"[{"url": "http://127.0.0.1:1/", "arguments": []}]"#;
    assert_eq!(harness.post(&[], closed).0, 502);
    assert_eq!(harness.send(&[b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(20_000)].concat()).0, 431);
    assert_eq!(harness.call(&[("traceparent", SAMPLED)]).trace_id, TRACE);
}

#[test]
fn every_request_is_read_in_time_in_proportion_to_its_length() {
    // ERR-01
    let read = |text: &str| Request::read(&mut text.as_bytes()).is_ok();
    hostile::assert_linear("a request", read);
    hostile::assert_linear("a line of a header", |text| read(&format!("POST / HTTP/1.1\r\na: {text}")));
    let empty_lines = |bytes: usize| "\r\n".repeat(bytes / 2);
    hostile::assert_linear_in("empty lines", empty_lines, |text| read(text));
    let headers = |bytes| hostile::many(bytes, |at| format!("k{at}: v\r\n"));
    hostile::assert_linear_in("headers", headers, |text| read(text));
}

proptest! {
    #[test]
    fn a_request_with_errors_in_it_is_read_or_refused(request in hostile::mutated(Just(
        b"\r\nPOST /test HTTP/1.1\r\ntraceparent: x\r\nContent-Length: 2\r\n\r\n[]".to_vec(),
    ))) {
        // ERR-01
        match Request::read(&mut request.as_slice()) {
            Ok(read) => prop_assert!(read.is_none_or(|read| read.body.len() <= request.len())),
            Err(refusal) => prop_assert!(matches!(refusal.status, 400 | 411 | 413 | 431), "{:?}", refusal),
        }
    }
}
