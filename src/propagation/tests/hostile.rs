//! Headers that mean harm, and carriers that fail.

use super::*;
use crate::hostile::{assert_linear, assert_linear_in, many, mutated_text, text};

fn valid_traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

#[test]
fn every_header_is_read_in_time_in_proportion_to_its_length() {
    // ERR-01, W3C-02, W3C-11, BAG-06
    assert_linear("traceparent", |text| read(text).is_some());
    assert_linear("tracestate", TraceState::parse);
    assert_linear("baggage", |text| Baggage::parse(text).to_string());
    assert_linear("a name of a variable", |text| EnvironmentCarrier::key(text).len());
    let valid = valid_traceparent();
    assert_linear("a whole carrier", |text| {
        let carrier = headers(&[("traceparent", &valid), ("tracestate", text), ("baggage", text)]);
        Propagators::default().extract(&Context::default(), &carrier)
    });
}

#[test]
fn headers_that_come_many_times_are_read_in_time_in_proportion_to_their_number() {
    // ERR-01, W3C-06, W3C-08, BAG-06
    let repeated = |name: &'static str, value: fn(usize) -> String| {
        move |bytes: usize| {
            let lines = (0..bytes / 32).map(|at| (name.to_owned(), value(at)));
            [("traceparent".to_owned(), valid_traceparent())].into_iter().chain(lines).collect::<Vec<_>>()
        }
    };
    let read = |carrier: &Vec<(String, String)>| Propagators::default().extract(&Context::default(), carrier);
    assert_linear_in("one state", repeated("tracestate", |_| "k=v".to_owned()), read);
    assert_linear_in("states", repeated("tracestate", |at| format!("k{at}=v")), read);
    assert_linear_in("empty states", repeated("tracestate", |_| String::new()), read);
    assert_linear_in("baggage", repeated("baggage", |at| format!("k{at}=v")), read);
    assert_linear_in("traces", repeated("traceparent", |_| valid_traceparent()), read);
    let environment = |bytes| (0..bytes / 32).map(|at| (format!("K{at}"), "v".to_owned())).collect::<Vec<_>>();
    assert_linear_in("variables", environment, |pairs| EnvironmentCarrier::from_pairs(pairs.iter().cloned()));
}

#[test]
fn of_ten_thousand_states_none_is_taken_and_of_ten_thousand_that_are_empty_all_are() {
    // W3C-08, W3C-11
    let valid = valid_traceparent();
    for (value, members) in [("k=v", 0), ("", 1)] {
        let mut lines = vec![("traceparent", valid.as_str()), ("tracestate", "a=1")];
        lines.resize(10_000, ("tracestate", value));
        let context = extract(&headers(&lines)).unwrap();
        assert_eq!(context.trace_state().header().split(',').filter(|member| !member.is_empty()).count(), members);
    }
}

#[test]
fn however_much_baggage_comes_what_is_kept_and_sent_stays_within_its_limits() {
    // BAG-06
    let small = many(1 << 20, |at| format!("k{at}=v,"));
    assert_eq!(Baggage::parse(&small).iter().count(), 64);
    // Each byte that is not UTF-8 becomes a character of three, and each of these is sent as three.
    let encoded = many(1 << 20, |at| format!("k{at}={},", "%FF".repeat(200)));
    let baggage = Baggage::parse(&encoded);
    assert_eq!(baggage.get("k0").map(str::len), Some(600));
    assert!(baggage.iter().count() <= 14 && baggage.to_string().len() <= 8192);
    assert_eq!(Baggage::parse(&baggage.to_string()).get("k0"), baggage.get("k0"));
}

/// Fails whoever asks.
struct Panicking;

impl Injector for Panicking {
    fn set(&mut self, _: &str, _: String) {
        panic!("a fault of the program's")
    }
}

impl Extractor for Panicking {
    fn get_all(&self, _: &str) -> Vec<&str> {
        panic!("a fault of the program's")
    }

    fn keys(&self) -> Vec<&str> {
        panic!("a fault of the program's")
    }
}

#[test]
fn a_carrier_that_panics_carries_nothing_and_harms_nobody() {
    // ERR-03
    let full = Context::default()
        .with_span_context(read(&valid_traceparent()).unwrap())
        .with_baggage(Baggage::default().insert("k", "v"));
    Propagators::default().inject(&full, &mut Panicking);
    full.baggage().inject(&mut Panicking);
    inject(full.span_context(), &mut Panicking);
    assert_eq!(extract(&Panicking), None);
    assert_eq!(Baggage::extract(&Panicking), Baggage::default());
    assert_eq!(Propagators::default().extract(&full, &Panicking), full);
}

proptest! {
    #[test]
    fn any_headers_are_read_and_what_is_read_is_sent_as_it_reads(
        traceparent in prop_oneof![text(), Just(valid_traceparent()), mutated_text(Just(valid_traceparent()))],
        states in prop::collection::vec(
            prop_oneof![text(), mutated_text(Just("a=1,ot=th:8;rv:00000000000abc,b@c=x y".to_owned()))], 0..4),
        baggage in prop::collection::vec(
            prop_oneof![text(), mutated_text(Just("k = v%20w ;p=1;q, k2=\"x\"".to_owned()))], 0..4),
    ) {
        // ERR-01, W3C-01 to W3C-14, BAG-01 to BAG-07
        let mut carrier = headers(&[("traceparent", traceparent.as_str())]);
        carrier.extend(states.iter().map(|state| ("tracestate".to_owned(), state.clone())));
        carrier.extend(baggage.iter().map(|baggage| ("baggage".to_owned(), baggage.clone())));
        let read = Propagators::default().extract(&Context::default(), &carrier);
        let span = read.span_context();
        prop_assert!(span.trace_state().header().split(',').count() <= 32);
        prop_assert!(span.is_valid() || span == &SpanContext::INVALID);
        let mut sent = Vec::new();
        Propagators::default().inject(&read, &mut sent);
        for (_, value) in &sent {
            prop_assert!(http::HeaderValue::from_str(value).is_ok(), "{:?}", value);
        }
        let again = Propagators::default().extract(&Context::default(), &sent);
        prop_assert_eq!(again.span_context(), span);
        prop_assert_eq!(again.baggage().iter().collect::<Vec<_>>(), read.baggage().iter().collect::<Vec<_>>());
        // An environment carries the same.
        let mut environment = EnvironmentCarrier::default();
        Propagators::default().inject(&read, &mut environment);
        prop_assert_eq!(Propagators::default().extract(&Context::default(), &environment), again);
    }

    #[test]
    fn whatever_is_set_on_a_trace_state_it_stays_one(changes in prop::collection::vec(
        (prop_oneof!["[a-c]{1,2}", text()], prop_oneof!["[0-9]{1,3}", text()], any::<bool>()), 0..60,
    )) {
        // W3C-11, W3C-12
        let mut state = TraceState::EMPTY;
        for (key, value, is_set) in changes {
            if !is_set {
                state = state.delete(&key);
                prop_assert_eq!(state.get(&key), None);
            } else if let Some(changed) = state.insert(&key, &value) {
                prop_assert!(changed.get(&key).as_deref() == Some(value.as_str()), "{}", changed);
                state = changed;
            }
            let header = state.header().into_owned();
            let parsed = TraceState::parse(&header);
            prop_assert_eq!(parsed.as_ref(), Some(&state));
            let mut keys: Vec<_> = header.split(',').map(|member| member.split('=').next()).collect();
            prop_assert!(keys.len() <= 32);
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!(keys.len(), header.split(',').count());
        }
    }

    #[test]
    fn any_name_becomes_that_of_a_variable_and_stays_one(key in text()) {
        // ENVC-01
        let name = EnvironmentCarrier::key(&key);
        prop_assert_eq!(EnvironmentCarrier::key(&name), name.clone());
        prop_assert!(!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()));
        prop_assert!(name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')));
    }
}
