use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::capture::{SpanId, TraceId, TraceState};

mod hostile;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(traceparent: &str) -> Option<SpanContext> {
    extract(&headers(&[("traceparent", traceparent)]))
}

#[test]
fn what_is_injected_is_extracted_as_remote() {
    // W3C-01, W3C-14, SPAN-05
    let ids = (TraceId::from_hex(TRACE).unwrap(), SpanId::from_hex(SPAN).unwrap());
    for flags in 0..4 {
        let local =
            SpanContext::new(ids.0, ids.1, flags, false).with_trace_state(TraceState::parse("a=1,b=2").unwrap());
        let mut sent = HashMap::new();
        inject(&local, &mut sent);
        assert_eq!(sent["traceparent"], format!("00-{TRACE}-{SPAN}-0{flags}"));
        assert_eq!((sent["tracestate"].as_str(), sent.len()), ("a=1,b=2", 2));
        let remote = SpanContext::new(ids.0, ids.1, flags, true).with_trace_state(local.trace_state().clone());
        assert_eq!(extract(&sent), Some(remote));
    }
}

#[test]
fn nothing_is_injected_for_an_invalid_context_nor_for_an_empty_trace_state() {
    // W3C-14
    let mut sent = HashMap::new();
    inject(&SpanContext::INVALID.with_trace_state(TraceState::parse("a=1").unwrap()), &mut sent);
    assert!(sent.is_empty());
    inject(&read(&format!("00-{TRACE}-{SPAN}-01")).unwrap(), &mut sent);
    assert_eq!(sent.keys().collect::<Vec<_>>(), ["traceparent"]);
}

#[test]
fn a_traceparent_of_version_00_has_exactly_its_form() {
    // W3C-02, W3C-03
    let valid = format!("00-{TRACE}-{SPAN}-01");
    assert!(read(&valid).unwrap().is_sampled() && read(&format!(" {valid}\t")).is_some());
    let upper = TRACE.to_uppercase();
    for malformed in [
        String::new(),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-0"),
        format!("00-{TRACE}-{SPAN}-011"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("00-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
        format!("00-{TRACE}-{SPAN}-+1"),
        format!("00-{TRACE}-{SPAN}-0A"),
        format!("00-{TRACE}-{SPAN}.01"),
        format!("00_{TRACE}-{SPAN}-01"),
        format!("0-{TRACE}-{SPAN}-01"),
        format!("+0-{TRACE}-{SPAN}-01"),
        format!("00-{upper}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}0-{SPAN}-01"),
        format!("00-{TRACE}-{}-01", &SPAN[1..]),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}é-{SPAN}-01", &TRACE[2..]),
        format!("00-{TRACE}-{SPAN}-é"),
        format!("00-{TRACE}-{}é01", &SPAN[..15]),
    ] {
        assert_eq!(read(&malformed), None, "{malformed}");
    }
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    // W3C-03
    for (header, is_read) in [
        (format!("cc-{TRACE}-{SPAN}-01"), true),
        (format!("cc-{TRACE}-{SPAN}-01-"), true),
        (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), true),
        (format!("cc-{TRACE}-{SPAN}-01.what"), false),
        (format!("cc-{TRACE}-{SPAN}-01é"), false),
        (format!("cc-{TRACE}-{SPAN}-0"), false),
        (format!("CC-{TRACE}-{SPAN}-01"), false),
        (format!("ff-{TRACE}-{SPAN}-01"), false),
    ] {
        assert_eq!(read(&header).is_some(), is_read, "{header}");
    }
    let mut sent = HashMap::new();
    inject(&read(&format!("cc-{TRACE}-{SPAN}-ff-x")).unwrap(), &mut sent);
    // W3C-04: undefined flags are not passed on.
    assert_eq!(sent["traceparent"], format!("00-{TRACE}-{SPAN}-03"));
}

#[test]
fn a_traceparent_that_comes_twice_is_none() {
    // W3C-06
    let valid = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(extract(&headers(&[("traceparent", &valid), ("Traceparent", &valid)])), None);
    let mut map = http::HeaderMap::new();
    map.append("traceparent", valid.parse().unwrap());
    assert!(extract(&map).is_some());
    map.append("traceparent", valid.parse().unwrap());
    assert_eq!(extract(&map), None);
}

#[test]
fn trace_states_are_joined_and_a_bad_one_leaves_the_trace_alone() {
    // W3C-05, W3C-07, W3C-08
    let valid = format!("00-{TRACE}-{SPAN}-01");
    for (states, expected) in
        [(&["a=1", "", "b=2, c=3"][..], "a=1,b=2,c=3"), (&["a=1", "==="], ""), (&["a=1,a=2"], "a=1"), (&[], "")]
    {
        let mut pairs = vec![("TraceParent", valid.as_str())];
        pairs.extend(states.iter().map(|state| ("tracestate", *state)));
        assert_eq!(extract(&headers(&pairs)).unwrap().trace_state().header(), expected, "{states:?}");
    }
    assert_eq!(extract(&headers(&[("tracestate", "a=1")])), None);
    assert_eq!(extract(&headers(&[("traceparent", "x"), ("tracestate", "a=1")])), None);
}

#[test]
fn every_carrier_holds_one_value_for_what_was_set_twice() {
    // CTX-05
    fn twice(carrier: &mut (impl Injector + Extractor)) {
        for value in ["1", "2"] {
            carrier.set("traceparent", value.to_owned());
        }
        assert_eq!((carrier.get_all("traceparent"), carrier.get("traceparent")), (vec!["2"], Some("2")));
        assert_eq!((carrier.keys().len(), carrier.get("tracestate")), (1, None));
    }
    twice(&mut HashMap::from([("Traceparent".to_owned(), "0".to_owned())]));
    twice(&mut headers(&[("Traceparent", "0")]));
    twice(&mut http::HeaderMap::new());
    twice(&mut EnvironmentCarrier::default());
}

proptest! {
    #[test]
    fn any_header_is_read_or_ignored(version in "00|cc|[0-9a-f]{2}|\\PC{1,3}", rest in "-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\\PC{0,3}|\\PC{0,60}") {
        // W3C-02, CTX-03
        let header = format!("{version}{rest}");
        if let Some(context) = read(&header) {
            let mut sent = headers(&[]);
            inject(&context, &mut sent);
            prop_assert_eq!(extract(&sent), Some(context));
        }
    }
}
