//! Hostile environments and code: reading them takes time proportional to their length.

use super::*;
use crate::hostile::{assert_linear, assert_linear_after, assert_linear_in, many, mutated_text};
use proptest::prelude::*;

/// One variable for each kind of text.
const READ: [&str; 14] = [
    env::HEADERS,
    env::RESOURCE_ATTRIBUTES,
    env::PROPAGATORS,
    env::ENDPOINT,
    env::TRACES_ENDPOINT,
    env::SERVICE_NAME,
    env::DROP_STRATEGY,
    env::TRACES_SAMPLER,
    env::TRACES_SAMPLER_ARG,
    env::COMPRESSION,
    env::TIMEOUT,
    env::WORKERS,
    env::CERTIFICATE,
    env::SPOOL_DIR,
];

/// Resolves the settings with one variable set, and checks that all reports are short.
fn read(variable: &str, text: &str) -> Settings {
    let (settings, warnings) = resolve(Options::default(), &[(variable, text)]).unwrap();
    assert!(warnings.iter().all(|warning| warning.len() < 1_000), "{variable}");
    settings
}

#[test]
fn every_variable_is_read_in_time_in_proportion_to_its_length() {
    // ERR-01, RES-06, OTLPV-07
    for variable in READ {
        assert_linear(variable, |text| read(variable, text));
    }
}

#[test]
fn what_only_begins_like_a_value_is_read_in_time_in_proportion_to_its_length() {
    // ERR-01
    for (variable, beginning) in [
        (env::ENDPOINT, "http://"),
        (env::ENDPOINT, "http://h/"),
        (env::TRACES_ENDPOINT, "https://user:"),
        (env::TRACES_ENDPOINT, "http://["),
        (env::TRACES_ENDPOINT, "http://h:"),
        (env::DROP_STRATEGY, "block:"),
        (env::PROPAGATORS, "baggage,tracecontext,"),
    ] {
        assert_linear_after(&format!("{variable}={beginning}"), beginning, |text| read(variable, text));
    }
}

#[test]
fn as_many_headers_and_attributes_as_a_program_gives_take_time_in_proportion_to_their_number() {
    // ERR-01
    let headers = |bytes| (0..bytes / 8).map(|at| (format!("k{at}"), "v".to_owned())).collect::<Vec<_>>();
    assert_linear_in("headers", headers, |headers| {
        let settings = from_code(Options { headers: headers.clone(), ..Options::default() });
        assert_eq!(settings.headers.len(), headers.len());
        settings
    });
    let attributes = |bytes| (0..bytes / 8).map(|at| KeyValue::new(format!("k{at}"), at)).collect::<Vec<_>>();
    assert_linear_in("attributes", attributes, |attributes| {
        let options = Options { resource_attributes: attributes.clone(), ..Options::default() };
        let settings = from_code(options);
        assert!(settings.resource.given.len() > attributes.len());
        settings
    });
}

#[test]
fn of_many_members_each_name_is_there_once_where_it_was_first_with_its_last_value() {
    // RES-07, OTLPV-07
    let list = many(100_000, |at| format!("k{}={at},", at % 1_000));
    let settings = read(env::HEADERS, &list);
    assert_eq!(settings.headers.len(), 1_000);
    let names: Vec<_> = settings.headers.iter().map(|(name, _)| name.as_str().to_owned()).collect();
    assert_eq!(names, (0..1_000).map(|at| format!("k{at}")).collect::<Vec<_>>());
    let last = list.split(',').rfind(|member| member.starts_with("k7=")).unwrap();
    assert_eq!(header(&settings, "k7"), last.strip_prefix("k7="));
    let settings = read(env::RESOURCE_ATTRIBUTES, &list);
    assert_eq!(attribute(&settings, "k7").as_deref(), last.strip_prefix("k7="));
    assert_eq!(settings.resource.given.len(), 4 + 1_000);
}

#[test]
fn of_many_unusable_headers_a_few_are_told() {
    // OTLPV-08
    let (_, warning) = with_warning(&[(env::HEADERS, &"bad,".repeat(1_000))]);
    assert!(warning.contains("entries 1, 2, 3, 4, 5, 6, 7, 8, and 992 more are not"), "{warning}");
    let (_, warning) = with_warning(&[(env::HEADERS, &"bad,".repeat(9))]);
    assert!(warning.contains("7, 8, and 1 more are not"), "{warning}");
    let (_, warning) = with_warning(&[(env::HEADERS, &"bad,".repeat(8))]);
    assert!(warning.contains("7, 8 are not"), "{warning}");
}

proptest! {
    #[test]
    fn a_valid_value_with_errors_in_it_is_read_or_told(
        at in 0..READ.len(),
        text in mutated_text(prop_oneof![
            Just("authorization=Bearer%20x,k=v".to_owned()),
            Just("https://user:pass%20word@[::1]:4318/base/v1/traces?tenant=1#x".to_owned()),
            Just("tracecontext,baggage".to_owned()),
            Just("parentbased_traceidratio".to_owned()),
            Just("block:250".to_owned()),
            Just("0.125".to_owned()),
        ]),
    ) {
        // ERR-01, ENV-08
        let settings = read(READ[at], &text);
        let mut names: Vec<_> = settings.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), settings.headers.len());
        // A URL that was parsed can be parsed again, and shown without its secrets.
        let url = settings.endpoint.url().to_string();
        prop_assert_eq!(Endpoint::parse(&url).map(|again| again.url().to_string()), Ok(url));
        prop_assert!(!settings.endpoint.to_string().contains("pass"), "{:?}", settings.endpoint);
    }
}
