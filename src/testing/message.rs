//! What the receiver demands of a message beyond being protobuf, and the ids of its spans.
//!
//! The check reads the wire format itself instead of decoded messages: it costs a tenth of decoding, allocates
//! nothing but the ids, and shares no code with the encoder it checks.

/// The trace id and span id of a span.
pub(super) type Ids = ([u8; 16], [u8; 8]);

/// The messages around a span, from the outside in: their name and the field that holds the next.
const ENVELOPES: &[(&str, u32)] = &[("the request", 1), ("a ResourceSpans", 2), ("a ScopeSpans", 2)];

/// Numbers of kinds a span may have: internal, server, client, producer, consumer.
const KINDS: std::ops::RangeInclusive<u64> = 1..=5;

/// The ids of the spans in an `ExportTraceServiceRequest`, or the first defect.
///
/// Checked are the envelopes, which must not be empty, and each span's ids, parent, links' ids, kind and times.
/// The inside of attributes, events and status is not looked at.
pub(super) fn check(body: &[u8]) -> Result<Vec<Ids>, String> {
    let mut ids = Vec::new();
    check_envelope(body, ENVELOPES, &mut ids)?;
    Ok(ids)
}

fn check_envelope(body: &[u8], envelopes: &[(&str, u32)], ids: &mut Vec<Ids>) -> Result<(), String> {
    let Some((&(name, inner), envelopes)) = envelopes.split_first() else {
        let span = SpanFields::read(body).map_err(|error| format!("span {}: {error}", ids.len() + 1))?;
        ids.push(
            span.check()
                .map_err(|error| format!("span {} {:?}: {error}", ids.len() + 1, String::from_utf8_lossy(span.name)))?,
        );
        return Ok(());
    };
    let before = ids.len();
    for field in Fields(body) {
        let (number, value) = field?;
        if number == inner {
            check_envelope(value.bytes()?, envelopes, ids)?;
        }
    }
    if ids.len() == before { Err(format!("{name} holds no span")) } else { Ok(()) }
}

/// The fields of a span that are checked; what is absent has the default.
#[derive(Default)]
struct SpanFields<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    name: &'a [u8],
    kind: u64,
    start: u64,
    end: u64,
}

impl<'a> SpanFields<'a> {
    fn read(body: &'a [u8]) -> Result<Self, String> {
        let mut span = Self::default();
        for field in Fields(body) {
            match field? {
                (1, value) => span.trace_id = value.bytes()?,
                (2, value) => span.span_id = value.bytes()?,
                (4, value) => span.parent_span_id = value.bytes()?,
                (5, value) => span.name = value.bytes()?,
                (6, value) => span.kind = value.varint()?,
                (7, value) => span.start = value.fixed64()?,
                (8, value) => span.end = value.fixed64()?,
                (13, value) => check_link(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(span)
    }

    fn check(&self) -> Result<Ids, String> {
        let ids = (id("trace id", self.trace_id)?, id("span id", self.span_id)?);
        if !self.parent_span_id.is_empty() {
            id::<8>("parent span id", self.parent_span_id)?;
        }
        if !KINDS.contains(&self.kind) {
            return Err(match self.kind {
                0 => "the kind is unspecified".to_owned(),
                kind => format!("there is no kind {kind}"),
            });
        }
        if self.end < self.start {
            return Err(format!("it ends at {}, before its start at {}", self.end, self.start));
        }
        Ok(ids)
    }
}

fn check_link(body: &[u8]) -> Result<(), String> {
    let (mut trace_id, mut span_id) = (&[][..], &[][..]);
    for field in Fields(body) {
        match field? {
            (1, value) => trace_id = value.bytes()?,
            (2, value) => span_id = value.bytes()?,
            _ => {}
        }
    }
    // A link may lead nowhere and still say something.
    sized::<16>("trace id of a link", trace_id)?;
    sized::<8>("span id of a link", span_id)?;
    Ok(())
}

fn id<const N: usize>(name: &str, bytes: &[u8]) -> Result<[u8; N], String> {
    let id = sized(name, bytes)?;
    if id == [0; N] { Err(format!("the {name} is all zero")) } else { Ok(id) }
}

fn sized<const N: usize>(name: &str, bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("the {name} has {} bytes instead of {N}", bytes.len()))
}

/// The fields of a protobuf message, in wire order. Stops after an error.
struct Fields<'a>(&'a [u8]);

#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Field<'a>), &'static str> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).unwrap_or(0);
        if number == 0 {
            return Err("protobuf does not decode: a field number is out of range");
        }
        let value = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().expect("8 bytes"))),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed32)?,
            _ => return Err("protobuf does not decode: unknown wire type"),
        };
        Ok((number, value))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or("protobuf does not decode: it is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err("protobuf does not decode: a varint does not end")
    }
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8], &'static str> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(WRONG_TYPE) }
    }

    fn varint(self) -> Result<u64, &'static str> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(WRONG_TYPE) }
    }

    fn fixed64(self) -> Result<u64, &'static str> {
        if let Self::Fixed64(value) = self { Ok(value) } else { Err(WRONG_TYPE) }
    }
}

const WRONG_TYPE: &str = "protobuf does not decode: a field has the wrong wire type";

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Link},
    };
    use prost::Message as _;

    use super::*;

    fn span() -> Span {
        Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "work".to_owned(),
            kind: 1,
            start_time_unix_nano: 5,
            end_time_unix_nano: 6,
            flags: 0x101,
            status: Some(Status::default()),
            ..Span::default()
        }
    }

    fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
    }

    fn defect(message: &ExportTraceServiceRequest) -> String {
        check(&message.encode_to_vec()).unwrap_err()
    }

    #[test]
    fn the_ids_come_in_the_order_of_the_message() {
        let mut message = request(vec![span(), Span { span_id: vec![3; 8], parent_span_id: vec![2; 8], ..span() }]);
        message.resource_spans.push(request(vec![span()]).resource_spans.remove(0));
        let ids = check(&message.encode_to_vec()).unwrap();
        assert_eq!(ids, [([1; 16], [2; 8]), ([1; 16], [3; 8]), ([1; 16], [2; 8])]);
    }

    #[test]
    fn a_span_that_breaks_a_rule_is_named_with_the_rule() {
        let link = Link { trace_id: vec![1; 16], span_id: vec![0; 7], ..Link::default() };
        for (bad, expected) in [
            (Span { trace_id: vec![1; 15], ..span() }, "the trace id has 15 bytes instead of 16"),
            (Span { trace_id: vec![0; 16], ..span() }, "the trace id is all zero"),
            (Span { span_id: Vec::new(), ..span() }, "the span id has 0 bytes instead of 8"),
            (Span { parent_span_id: vec![0; 8], ..span() }, "the parent span id is all zero"),
            (Span { kind: 0, ..span() }, "the kind is unspecified"),
            (Span { kind: 6, ..span() }, "there is no kind 6"),
            (Span { end_time_unix_nano: 4, ..span() }, "it ends at 4, before its start at 5"),
            (Span { links: vec![link], ..span() }, "the span id of a link has 7 bytes instead of 8"),
        ] {
            let defect = defect(&request(vec![span(), bad]));
            assert!(defect.starts_with("span 2") && defect.ends_with(expected), "{defect}");
        }
    }

    #[test]
    fn empty_envelopes_are_defects() {
        assert_eq!(defect(&ExportTraceServiceRequest::default()), "the request holds no span");
        let resource_spans = vec![ResourceSpans::default()];
        assert_eq!(defect(&ExportTraceServiceRequest { resource_spans }), "a ResourceSpans holds no span");
        assert_eq!(defect(&request(Vec::new())), "a ScopeSpans holds no span");
    }

    #[test]
    fn no_prefix_of_a_message_passes_and_none_panics() {
        let whole = request(vec![span()]).encode_to_vec();
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).is_err(), "{length}");
        }
    }
}
