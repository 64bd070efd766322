//! Halving a request that a receiver found too large. Off every fast path: the body is taken apart again.

use crate::{
    export::encode::compress::can_have,
    proto::{resource_spans::SCOPE_SPANS, scope_spans::SPANS, traces::RESOURCE_SPANS},
    wire::{Buffer, Fields, LEN, tag},
};

/// How often the request may be in memory while it is halved, each level of messages in a buffer that doubled.
const COPIES: usize = 4;

/// One half: how many spans it holds, and its bytes before compression.
pub(crate) struct Half {
    pub(crate) spans: u64,
    pub(crate) request: Vec<u8>,
}

/// The two halves of `request`, in order; none if it holds fewer than two spans, or there is no
/// memory to take it apart.
pub(crate) fn halves(request: &[u8]) -> Option<[Half; 2]> {
    if !can_have(COPIES * request.len().next_power_of_two()) {
        return None;
    }
    let mut spans = 0;
    walk(request, |_| {
        spans += 1;
        true
    });
    let first = spans / 2;
    if first == 0 {
        return None;
    }
    let half = |spans: u64, range: std::ops::Range<u64>| {
        let mut at = 0;
        let request = walk(request, |_| {
            at += 1;
            range.contains(&(at - 1))
        });
        Half { spans, request }
    };
    Some([half(first, 0..first), half(spans - first, first..spans)])
}

/// Copies `request` with those of its spans that `keep` keeps; groups that end up without spans are left out.
fn walk(request: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let resources = rebuild(request, tag(RESOURCE_SPANS, LEN), &mut |resource_spans| {
        let scopes = rebuild(resource_spans, tag(SCOPE_SPANS, LEN), &mut |scope_spans| {
            let mut kept = 0;
            let mut copy = Buffer::default();
            for field in Fields::new(scope_spans, 0) {
                let is_span = field.tag == tag(SPANS, LEN);
                if !is_span || keep(&scope_spans[field.body]) {
                    kept += usize::from(is_span);
                    copy.raw(&scope_spans[field.whole]);
                }
            }
            (kept > 0).then_some(copy)
        })?;
        Some(scopes)
    });
    resources.map_or_else(Vec::new, |request| request.as_slice().to_vec())
}

/// Copies `message` with each field `nested` replaced by what `change` makes of it; none if none is left.
fn rebuild(message: &[u8], nested: u32, change: &mut dyn FnMut(&[u8]) -> Option<Buffer>) -> Option<Buffer> {
    let mut copy = Buffer::default();
    let mut kept = false;
    for field in Fields::new(message, 0) {
        if field.tag != nested {
            copy.raw(&message[field.whole]);
        } else if let Some(changed) = change(&message[field.body]) {
            kept = true;
            copy.len_head(nested >> 3, changed.len());
            copy.raw(changed.as_slice());
        }
    }
    kept.then_some(copy)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::InstrumentationScope,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn request(scopes: &[usize]) -> ExportTraceServiceRequest {
        let mut number = 0;
        let scope_spans = scopes.iter().map(|spans| {
            let span = |_| {
                number += 1;
                Span { name: format!("span {number}"), ..Span::default() }
            };
            ScopeSpans {
                scope: Some(InstrumentationScope { name: format!("scope {spans}"), ..Default::default() }),
                schema_url: "https://example.com/1".into(),
                spans: (0..*spans).map(span).collect(),
            }
        });
        let resource_spans = vec![ResourceSpans {
            resource: Some(Default::default()),
            scope_spans: scope_spans.collect(),
            ..ResourceSpans::default()
        }];
        ExportTraceServiceRequest { resource_spans }
    }

    fn names(request: &[u8]) -> Vec<(String, String)> {
        let request = ExportTraceServiceRequest::decode(request).expect("valid protobuf");
        let scopes = request.resource_spans.into_iter().flat_map(|resource| {
            assert!(resource.resource.is_some());
            resource.scope_spans
        });
        scopes
            .flat_map(|scope| {
                assert!(!scope.spans.is_empty() && !scope.schema_url.is_empty());
                let name = scope.scope.expect("kept").name;
                scope.spans.into_iter().map(move |span| (name.clone(), span.name))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn halves_hold_every_span_once_in_order_and_in_its_scope(scopes in prop::collection::vec(1_usize..6, 0..6)) {
            let whole = request(&scopes).encode_to_vec();
            let spans: usize = scopes.iter().sum();
            match halves(&whole) {
                None => prop_assert!(spans < 2),
                Some([first, second]) => {
                    prop_assert_eq!((first.spans, second.spans), ((spans / 2) as u64, spans.div_ceil(2) as u64));
                    prop_assert_eq!(names(&first.request).len() as u64, first.spans);
                    let both = [names(&first.request), names(&second.request)].concat();
                    prop_assert_eq!(both, names(&whole));
                }
            }
        }

        #[test]
        fn bytes_that_are_no_request_are_not_halved_into_more(bytes: Vec<u8>) {
            if let Some(halves) = halves(&bytes) {
                prop_assert!(halves.iter().all(|half| half.request.len() <= bytes.len() + 16));
            }
        }
    }

    #[test]
    fn lengths_are_rewritten_in_their_shortest_form() {
        let whole = request(&[40]).encode_to_vec();
        let [first, _] = halves(&whole).expect("two halves");
        let decoded = ExportTraceServiceRequest::decode(first.request.as_slice()).expect("valid protobuf");
        assert_eq!(decoded.encode_to_vec(), first.request);
    }
}
