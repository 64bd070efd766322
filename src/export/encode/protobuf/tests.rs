//! Requests compared with `ExportTraceServiceRequest` messages of opentelemetry-proto.

use std::io::Read as _;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{self as common, AnyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    capture::{CaptureLimits, Head, Limit, Record, Scope, SpanContext, SpanId, SpanKind, TraceId},
    config::{Compression, Effort, Encoding},
    export::encode::compress::{Encoder, decode},
};

fn recorder() -> Arc<Recorder> {
    Recorder::new(CaptureLimits { workers: 1, ..CaptureLimits::default() })
}

/// A record of a span with a number, and the message it stands for.
fn span(number: u64, padding: usize) -> (Vec<u8>, Span) {
    let context = SpanContext::new(TraceId::from_bytes([9; 16]), SpanId::from_bytes(number.to_be_bytes()), 3, false);
    let (name, padding) = (format!("span {number}"), "p".repeat(padding));
    let mut record = Record::new();
    record.begin(&name);
    record.set_head(&Head { context: &context, parent: None, kind: SpanKind::Server, start: number });
    record.attribute("padding", &padding.as_str().into());
    let span = Span {
        trace_id: vec![9; 16],
        span_id: number.to_be_bytes().to_vec(),
        name,
        kind: 2,
        flags: 0x103,
        start_time_unix_nano: number,
        end_time_unix_nano: number + 1,
        attributes: vec![text("padding", &padding)],
        ..Span::default()
    };
    (record.finish(number + 1).to_vec(), span)
}

fn text(key: &str, text: &str) -> common::KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) };
    common::KeyValue { key: key.to_owned(), value: Some(value), key_strindex: 0 }
}

/// Scopes that differ in one thing each, and one that says nothing.
fn scopes() -> Vec<(Scope, ScopeSpans)> {
    let message = |name: &str, version: &str, attributes, schema_url: &str| ScopeSpans {
        scope: Some(common::InstrumentationScope {
            name: name.to_owned(),
            version: version.to_owned(),
            attributes,
            dropped_attributes_count: 0,
        }),
        spans: Vec::new(),
        schema_url: schema_url.to_owned(),
    };
    let url = "https://opentelemetry.io/schemas/1.44.0";
    let long = "s".repeat(20_000);
    let repeated =
        Scope::new("a").with_attribute(KeyValue::new("k", "first")).with_attribute(KeyValue::new("", "nameless"));
    vec![
        (Scope::default(), message("", "", vec![], "")),
        (Scope::new("a"), message("a", "", vec![], "")),
        (Scope::new("a").with_version("1"), message("a", "1", vec![], "")),
        (Scope::new("a").with_schema_url(url), message("a", "", vec![], url)),
        (Scope::new("a").with_version("1").with_schema_url(url), message("a", "1", vec![], url)),
        (repeated.with_attribute(KeyValue::new("k", "last")), message("a", "", vec![text("k", "last")], "")),
        (Scope::new(long.clone()).with_version("日本語"), message(&long, "日本語", vec![], "")),
    ]
}

/// Attributes and a schema URL, and the message they stand for.
fn resources() -> Vec<(Vec<KeyValue<'static>>, &'static str, Resource)> {
    let message = |attributes| Resource { attributes, ..Resource::default() };
    let long = "r".repeat(20_000);
    vec![
        (vec![], "", message(vec![])),
        (
            vec![KeyValue::new("service.name", "first"), KeyValue::new("", 1), KeyValue::new("service.name", "last")],
            "",
            message(vec![text("service.name", "last")]),
        ),
        (
            vec![KeyValue::new("a", "1"), KeyValue::new("b", long.clone())],
            "https://opentelemetry.io/schemas/1.44.0",
            message(vec![text("a", "1"), text("b", &long)]),
        ),
    ]
}

/// Encodes and inflates the request, and checks the announced length.
fn body(frame: &Frame<'_>, compression: Compression) -> Vec<u8> {
    let mut body = Vec::new();
    let mut encoder = Encoder::new(Encoding { compression, effort: Effort::Least });
    encoder.encode(&mut body, frame.len(), |sink| frame.pieces(sink)).unwrap();
    let mut plain = Vec::new();
    match compression {
        Compression::None => plain = body,
        Compression::Gzip => {
            let mut inflating = flate2::bufread::GzDecoder::new(&body[..]);
            inflating.read_to_end(&mut plain).expect("valid gzip");
            assert!(inflating.into_inner().is_empty(), "nothing behind the gzip member");
        }
        other => plain = decode(&body, other, frame.len()).expect("what was written"),
    }
    assert_eq!(plain.len(), frame.len());
    plain
}

fn assert_reads_as(frame: &Frame<'_>, expected: &ExportTraceServiceRequest) {
    let mut handed_out = 0;
    frame.pieces(|piece| handed_out += piece.len());
    assert_eq!(handed_out, frame.len());
    assert_eq!(frame.len(), expected.encoded_len(), "prost writes as many bytes");
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_compiled_in()) {
        let body = body(frame, compression);
        let request = ExportTraceServiceRequest::decode(&body[..]).expect("valid protobuf");
        assert!(request == *expected, "{request:?}\nis not\n{expected:?}");
    }
}

fn request(resource: &Resource, schema_url: &str, scope_spans: Vec<ScopeSpans>) -> ExportTraceServiceRequest {
    let schema_url = schema_url.to_owned();
    let resource_spans = ResourceSpans { resource: Some(resource.clone()), scope_spans, schema_url };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn records_from_a_ring_arrive_grouped_by_scope_in_their_order(
        spans in prop::collection::vec((0..scopes().len(), prop_oneof![4 => 0..200_usize, 1 => 0..70_000_usize]), 1..40),
        resource in 0..resources().len(),
        per_batch in 1_u32..50,
    ) {
        // ENC-07, RES-10
        let (attributes, schema_url, resource) = &resources()[resource];
        let encoded = EncodedResource::new(attributes, schema_url);
        let recorder = recorder();
        let mut producer = recorder.registry.check_out();
        let mut messages = scopes();
        // The first scope that is seen has the lowest id, and groups stand in the order of ids.
        let ids: Vec<_> = messages.iter().map(|(scope, _)| recorder.scopes.id(scope)).collect();
        prop_assert!(ids.is_sorted());

        let mut batched = Vec::new();
        for (number, (scope, padding)) in (1..).zip(spans) {
            let (record, span) = span(number, padding);
            prop_assert!(producer.push(&recorder.budget, ids[scope], &record).is_ok());
            batched.push((scope, span));
        }
        while recorder.registry.waiting() > 0 {
            let mut slices = Vec::new();
            producer.ring().detach(&mut Limit { records: per_batch, bytes: usize::MAX }, &mut slices);
            let taken: usize = slices.iter().map(|slice| slice.records() as usize).sum();
            prop_assert!(taken > 0);
            for (scope, span) in batched.drain(..taken) {
                messages[scope].1.spans.push(span);
            }
            let groups = messages.iter_mut().filter(|(_, message)| !message.spans.is_empty()).map(|(_, message)| {
                ScopeSpans { spans: std::mem::take(&mut message.spans), ..message.clone() }
            });
            let expected = request(resource, schema_url, groups.collect());
            let runs = runs_by_scope(&slices).unwrap();
            assert_reads_as(&Frame::new(&encoded, &recorder, &runs), &expected);
        }
        prop_assert!(batched.is_empty());
    }
}

#[test]
fn lengths_around_every_power_of_128_are_canonical() {
    let recorder = recorder();
    let scope = recorder.scopes.id(&Scope::default());
    let encoded = EncodedResource::new(&[], "");
    for around in [128, 16_384, 2_097_152] {
        // Paddings for which the lengths of span, group and request pass the boundary one by one.
        for padding in around - 128..around + 4 {
            if around > 20_000 && padding % 8 > 1 {
                continue;
            }
            let (record, span) = span(1, padding);
            let runs = [(scope, &record[..])];
            let frame = Frame::new(&encoded, &recorder, &runs);
            let scope_spans = ScopeSpans {
                scope: Some(common::InstrumentationScope::default()),
                spans: vec![span],
                schema_url: String::new(),
            };
            let expected = request(&Resource::default(), "", vec![scope_spans]);
            assert_eq!(frame.len(), expected.encoded_len(), "{padding}");
            let mut handed_out = 0;
            frame.pieces(|piece| handed_out += piece.len());
            assert_eq!(handed_out, frame.len(), "{padding}");
        }
    }
}

#[test]
fn every_scope_and_resource_is_told_apart() {
    // ENC-07, RES-10
    for (attributes, schema_url, resource) in resources() {
        let encoded = EncodedResource::new(&attributes, schema_url);
        let recorder = recorder();
        let mut groups = Vec::new();
        let mut records = Vec::new();
        for (number, (scope, mut message)) in (1..).zip(scopes()) {
            let (record, span) = span(number, 0);
            records.push((recorder.scopes.id(&scope), record));
            message.spans.push(span);
            groups.push(message);
        }
        let runs: Vec<_> = records.iter().map(|(scope, record)| (*scope, &record[..])).collect();
        assert_reads_as(&Frame::new(&encoded, &recorder, &runs), &request(&resource, schema_url, groups));
    }
}

#[test]
fn one_encoder_writes_one_body_after_another() {
    let recorder = recorder();
    let encoded = EncodedResource::new(&[], "");
    let scope = recorder.scopes.id(&Scope::new("a"));
    let mut encoder = Encoder::new(Encoding::GZIP);
    let mut body = Vec::new();
    for number in 1..20 {
        let (record, span) = span(number, number as usize * 1000);
        let runs = [(scope, &record[..])];
        let frame = Frame::new(&encoded, &recorder, &runs);
        encoder.encode(&mut body, frame.len(), |sink| frame.pieces(sink)).unwrap();
        let mut plain = Vec::new();
        flate2::bufread::GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("valid gzip");
        let request = ExportTraceServiceRequest::decode(&plain[..]).expect("valid protobuf");
        assert_eq!(request.resource_spans[0].scope_spans[0].spans, [span]);
    }
}
