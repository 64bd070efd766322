//! Requests that mean harm, to the parts that read them.

use proptest::prelude::*;
use prost::Message as _;

use super::super::{
    ReceivedSpan,
    http::{self, Framing, Head, ReadFailure},
    message, waterfall,
};
use super::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span};
use crate::hostile::{assert_linear, assert_linear_in, many, mutated};

/// The body of the request in `bytes`; none if it ends before it begins.
fn body_of(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, ReadFailure> {
    let Some(head) = Head::read(&mut bytes)? else { return Ok(None) };
    let mut body = Vec::new();
    Framing::of(&head)?.read(&mut bytes, &mut body)?;
    Ok(Some(body))
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

fn span(id: u64, parent: u64) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: "s".to_owned(),
        kind: 1,
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

#[test]
fn every_request_is_read_in_time_in_proportion_to_its_length() {
    // ERR-01
    assert_linear("a request", |text| body_of(text.as_bytes()).is_ok());
    assert_linear("a line of a header", |text| body_of(format!("POST / HTTP/1.1\r\na: {text}").as_bytes()).is_ok());
    assert_linear("chunks", |text| body_of(format!("{CHUNKED}{text}").as_bytes()).is_ok());
    type Make = fn(usize) -> String;
    let requests: [(&str, Make); 6] = [
        ("empty lines", |bytes| "\r\n".repeat(bytes / 2)),
        ("many headers", |bytes| many(bytes, |at| format!("k{at}: v\r\n"))),
        ("chunks of one byte", |bytes| format!("{CHUNKED}{}0\r\n\r\n", "1\r\na\r\n".repeat(bytes / 6))),
        ("extensions", |bytes| format!("{CHUNKED}{}", "1;a=b\r\na\r\n".repeat(bytes / 10))),
        ("trailers", |bytes| format!("{CHUNKED}0\r\n{}\r\n", "t: t\r\n".repeat(bytes / 6))),
        ("a long body", |bytes| format!("POST / HTTP/1.1\r\nContent-Length: {bytes}\r\n\r\n{}", "a".repeat(bytes))),
    ];
    for (what, make) in requests {
        assert_linear_in(what, make, |request| body_of(request.as_bytes()).is_ok());
    }
}

#[test]
fn every_message_is_checked_in_time_in_proportion_to_its_length() {
    // ERR-01
    assert_linear("a message", |text| message::check(text.as_bytes()));
    type Make = fn(usize) -> Vec<u8>;
    let messages: [(&str, Make); 6] = [
        ("spans", |bytes| request((1..bytes as u64 / 40).map(|id| span(id, id - 1)).collect())),
        ("envelopes", |bytes| request(vec![span(1, 0)]).repeat(bytes / 50)),
        ("empty envelopes", |bytes| b"\x0a\x00".repeat(bytes / 2)),
        ("bytes with the highest bit", |bytes| vec![0xff; bytes]),
        ("groups", |bytes| vec![0x0b; bytes]),
        ("names of one span", |bytes| request(vec![Span { name: "n".repeat(bytes), ..span(1, 0) }])),
    ];
    for (what, make) in messages {
        assert_linear_in(what, make, |body| message::check(body));
        assert_linear_in(what, make, |body| ExportTraceServiceRequest::decode(body.as_slice()).is_ok());
    }
}

#[test]
fn every_trace_is_drawn_in_time_in_proportion_to_its_spans() {
    // ERR-01
    let received = |span| ReceivedSpan { resource: Vec::new(), scope: Default::default(), span };
    type Shape = fn(u64) -> Span;
    let shapes: [(&str, Shape); 5] = [
        ("a chain", |at| span(at + 1, at)),
        ("a family", |at| span(at + 1, u64::from(at > 0))),
        ("strangers", |at| span(at + 1, u64::MAX)),
        ("its own ancestor, many times", |_| span(1, 1)),
        ("a child of many with one id", |at| span(1 + at % 2, 1)),
    ];
    for (what, shape) in shapes {
        let spans = |bytes: usize| (0..bytes as u64 / 40).map(|at| received(shape(at))).collect::<Vec<_>>();
        assert_linear_in(what, spans, |spans| waterfall(spans).len());
    }
    let named = |bytes: usize| vec![received(Span { name: "é".repeat(bytes / 2), ..span(1, 0) })];
    assert_linear_in("a long name", named, |spans| waterfall(spans).len());
}

proptest! {
    #[test]
    fn a_request_with_errors_in_it_is_read_or_refused(
        request in mutated(prop_oneof![
            Just(format!("{CHUNKED}3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\n").into_bytes()),
            Just(b"\r\nPOST /v1/traces HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc".to_vec()),
        ]),
    ) {
        // ERR-01
        match body_of(&request) {
            Ok(body) => prop_assert!(body.is_none_or(|body| body.len() <= request.len())),
            Err(ReadFailure::Answer(status, reason)) => {
                prop_assert!(matches!(status, 400 | 413), "{}: {}", status, reason);
            }
            Err(ReadFailure::Aborted) => {}
        }
    }

    #[test]
    fn a_message_with_errors_in_it_is_checked_or_refused(body in mutated(Just(request(vec![span(1, 0), span(2, 1)])))) {
        // ERR-01
        if let Ok(ids) = message::check(&body) {
            prop_assert!(!ids.is_empty());
            prop_assert!(ids.iter().all(|(trace, span)| *trace != [0; 16] && *span != [0; 8]));
        }
    }

    #[test]
    fn whatever_inflates_stays_within_its_limit(encoded in mutated(prop_oneof![
        Just({
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &[7; 5_000]).unwrap();
            encoder.finish().unwrap()
        }),
        any::<Vec<u8>>(),
    ]), limit in 0..10_000_u64) {
        // ERR-01
        let mut decoded = Vec::new();
        if matches!(http::inflate("gzip", &encoded, &mut decoded, limit), Ok(true)) {
            prop_assert!(decoded.len() as u64 <= limit);
        }
    }

    #[test]
    fn whatever_spans_arrive_are_drawn_each_at_most_once(
        spans in prop::collection::vec((0..6_u64, 0..6_u64, any::<u64>(), any::<u64>(), "\\PC{0,5}|[\r\n\0]"), 0..70),
    ) {
        // ERR-01
        let received = |(id, parent, start, end, name): (u64, u64, u64, u64, String)| {
            let span = Span { start_time_unix_nano: start, end_time_unix_nano: end, name, ..span(id, parent) };
            ReceivedSpan { resource: Vec::new(), scope: Default::default(), span }
        };
        let spans: Vec<_> = spans.into_iter().map(received).collect();
        let lines = waterfall(&spans).lines().count();
        prop_assert_eq!(lines, if spans.is_empty() { 0 } else { (spans.len() + 1).min(60) });
    }
}
