//! What a tracer is made of, and whether anything comes of its spans.
#![cfg(feature = "testing")]

mod support;

use otlp::{KeyValue, Scope, testing::Receiver};
use support::{LONG, client_of};

#[test]
fn what_a_tracer_is_made_of_is_the_scope_of_its_spans() {
    // TPR-01, ENC-07
    const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";
    let receiver = Receiver::start().unwrap();
    // Whose schema would be the resource's.
    let client = client_of(&receiver).with_resource_detectors([]).build().unwrap();
    let shop = || Scope::new("shop");
    let scopes = [
        shop(),
        shop().with_version("1.2"),
        shop().with_schema_url(SCHEMA),
        shop().with_attribute(KeyValue::new("team", "blue")),
    ];
    for (number, scope) in scopes.into_iter().enumerate() {
        client.tracer(scope).start(&number.to_string()).end();
    }
    client.tracer("a name").start("4").end();
    assert!(client.flush(LONG).is_complete());

    let [request] = receiver.requests().try_into().unwrap();
    let resource = &request.message.unwrap().resource_spans[0];
    assert_eq!(resource.schema_url, "");
    let mut told: Vec<_> = resource
        .scope_spans
        .iter()
        .map(|group| {
            let scope = group.scope.as_ref().unwrap();
            let keys: Vec<_> = scope.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
            let [span] = &group.spans[..] else { panic!("{group:?}") };
            (span.name.as_str(), scope.name.as_str(), scope.version.as_str(), group.schema_url.as_str(), keys)
        })
        .collect();
    told.sort_unstable();
    let expected = [
        ("0", "shop", "", "", vec![]),
        ("1", "shop", "1.2", "", vec![]),
        ("2", "shop", "", SCHEMA, vec![]),
        ("3", "shop", "", "", vec!["team"]),
        ("4", "a name", "", "", vec![]),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_tracer_is_enabled_while_its_spans_go_somewhere() {
    // TPR-07
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("test");
    assert!(tracer.enabled() && tracer.start("span").is_recording());
    assert!(!otlp::tracer("nobody's").enabled(), "there is no process-wide client");
    client.shutdown(LONG);
    assert!(!tracer.enabled() && !client.tracer("another").enabled());
}
