//! Halving a request that a receiver found too large. Off every fast path: the body is read again, piece by piece, so
//! that no more of it is in memory at a time than a few kilobytes, however many bytes it inflates to.

use std::io::{self, Read};

use crate::{
    export::encode::compress::ends,
    proto::{resource_spans::SCOPE_SPANS, scope_spans::SPANS, traces::RESOURCE_SPANS},
    wire::{FIXED32, FIXED64, LEN, VARINT, tag, varint_len, write_varint},
};

/// More groups than a request of this crate's making has, and as many as are worth remembering.
const MOST_GROUPS: usize = 4 * 1024;

/// What is read at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// Bytes of the longest head of a field: two varints.
const HEAD_BYTES: usize = 20;

/// Memory that halving takes beside the bodies, the decoder and the encoder.
pub(crate) const MEMORY_BYTES: usize = PIECE_BYTES + MOST_GROUPS * size_of::<Group>();

/// How a request is halved: which spans go where, and how long everything becomes.
pub(crate) struct Plan {
    /// Bytes before.
    uncompressed: usize,
    /// Spans of the first half.
    first: u64,
    /// The request, and then each `ResourceSpans`, each followed by its `ScopeSpans`, in order.
    groups: Vec<Group>,
}

/// What becomes of a message in the two halves.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    /// Bytes of it.
    len: [u64; 2],
    /// Spans in it. Without any it is left out.
    spans: [u64; 2],
}

impl Group {
    /// Adds a nested message with its head.
    fn add(&mut self, nested: Self) {
        for half in [0, 1].into_iter().filter(|half| nested.spans[*half] > 0) {
            self.len[half] += head_len(nested.len[half]) as u64 + nested.len[half];
            self.spans[half] += nested.spans[half];
        }
    }
}

impl Plan {
    /// Plans the halves of what `open` reads, `uncompressed` bytes with `spans` spans, or whatever there are. None if
    /// it is nothing that can be halved: it has fewer than two spans, or it is no request of this length.
    pub(crate) fn of<'r>(
        open: impl Fn() -> Option<Box<dyn Read + 'r>>,
        uncompressed: usize,
        spans: u64,
    ) -> Option<Self> {
        let mut first = spans / 2;
        loop {
            let groups = measure(Source::new(open()?), uncompressed as u64, first).ok()?;
            let [before, behind] = groups.first()?.spans;
            let half = (before + behind) / 2;
            if half == 0 {
                return None;
            }
            if first == half {
                return Some(Self { uncompressed, first, groups });
            }
            // There were others than expected.
            first = half;
        }
    }

    /// Bytes of a half.
    pub(crate) fn len(&self, half: usize) -> usize {
        self.groups[0].len[half] as usize
    }

    /// Spans of a half.
    pub(crate) fn spans(&self, half: usize) -> u64 {
        self.groups[0].spans[half]
    }

    /// Hands a half to `sink`, of what the plan was made of.
    pub(crate) fn write(&self, half: usize, reader: Box<dyn Read + '_>, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut source = Source::new(reader);
        let mut groups = self.groups.iter().skip(1);
        let mut next = || groups.next().copied().ok_or_else(broken);
        let mut spans = 0;
        let is_of_half = |number: u64| (number < self.first) == (half == 0);
        while let Some(field) = source.next(self.uncompressed as u64)? {
            if field.tag != tag(RESOURCE_SPANS, LEN) {
                source.copy(&field, sink)?;
                continue;
            }
            let (end, resource) = (source.at + field.len, next()?);
            put_head(RESOURCE_SPANS, &resource, half, sink);
            while let Some(field) = source.next(end)? {
                if field.tag != tag(SCOPE_SPANS, LEN) {
                    source.copy_if(resource.spans[half] > 0, &field, sink)?;
                    continue;
                }
                let (end, scope) = (source.at + field.len, next()?);
                put_head(SCOPE_SPANS, &scope, half, sink);
                while let Some(field) = source.next(end)? {
                    let is_span = field.tag == tag(SPANS, LEN);
                    let is_kept = scope.spans[half] > 0 && (!is_span || is_of_half(spans));
                    spans += u64::from(is_span);
                    source.copy_if(is_kept, &field, sink)?;
                }
            }
        }
        Ok(())
    }
}

/// The groups of a request whose first `first` spans go into the first half.
fn measure(mut source: Source<'_>, len: u64, first: u64) -> io::Result<Vec<Group>> {
    let mut groups = vec![Group::default()];
    let begin = |groups: &mut Vec<Group>| {
        groups.push(Group::default());
        if groups.len() > MOST_GROUPS { Err(broken()) } else { Ok(groups.len() - 1) }
    };
    let mut spans = 0;
    while let Some(field) = source.next(len)? {
        if field.tag != tag(RESOURCE_SPANS, LEN) {
            source.count(&field, &mut groups[0])?;
            continue;
        }
        let (end, resource) = (source.at + field.len, begin(&mut groups)?);
        while let Some(field) = source.next(end)? {
            if field.tag != tag(SCOPE_SPANS, LEN) {
                source.count(&field, &mut groups[resource])?;
                continue;
            }
            let (end, scope) = (source.at + field.len, begin(&mut groups)?);
            while let Some(field) = source.next(end)? {
                if field.tag == tag(SPANS, LEN) {
                    let half = usize::from(spans >= first);
                    spans += 1;
                    groups[scope].spans[half] += 1;
                    groups[scope].len[half] += field.whole();
                    source.skip(field.len)?;
                } else {
                    source.count(&field, &mut groups[scope])?;
                }
            }
            let nested = groups[scope];
            groups[resource].add(nested);
        }
        let nested = groups[resource];
        groups[0].add(nested);
    }
    source.ends()?;
    Ok(groups)
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Bytes of the head of a field of these, whose tags take one.
fn head_len(len: u64) -> usize {
    1 + varint_len(len)
}

fn put_head(field: u32, group: &Group, half: usize, sink: &mut dyn FnMut(&[u8])) {
    if group.spans[half] > 0 {
        let mut head = [tag(field, LEN) as u8; 11];
        let len = 1 + write_varint(&mut head[1..], group.len[half]);
        sink(&head[..len]);
    }
}

/// A field whose head was read.
struct Field {
    tag: u32,
    head: [u8; HEAD_BYTES],
    head_len: usize,
    /// Bytes that follow the head.
    len: u64,
}

impl Field {
    fn whole(&self) -> u64 {
        self.head_len as u64 + self.len
    }
}

/// A message that is read from front to back.
struct Source<'r> {
    reader: Box<dyn Read + 'r>,
    piece: Vec<u8>,
    /// What of the piece has been read.
    from: usize,
    to: usize,
    /// How far it has been read.
    at: u64,
}

impl<'r> Source<'r> {
    fn new(reader: Box<dyn Read + 'r>) -> Self {
        Self { reader, piece: vec![0; PIECE_BYTES], from: 0, to: 0, at: 0 }
    }

    /// What comes next, at most `most` bytes of it, and at least one.
    fn take(&mut self, most: u64) -> io::Result<&[u8]> {
        while self.from == self.to {
            self.from = 0;
            self.to = match self.reader.read(&mut self.piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
        }
        let from = self.from;
        let taken = ((self.to - from) as u64).min(most) as usize;
        self.from += taken;
        self.at += taken as u64;
        Ok(&self.piece[from..self.from])
    }

    /// The next field of a message that ends at `end`; none where it ends. What ends elsewhere is no message.
    fn next(&mut self, end: u64) -> io::Result<Option<Field>> {
        if self.at == end {
            return Ok(None);
        }
        let mut field = Field { tag: 0, head: [0; HEAD_BYTES], head_len: 0, len: 0 };
        field.tag = u32::try_from(self.varint(&mut field)?).map_err(|_| broken())?;
        field.len = match field.tag & 7 {
            VARINT => {
                self.varint(&mut field)?;
                0
            }
            FIXED64 => 8,
            FIXED32 => 4,
            LEN => self.varint(&mut field)?,
            _ => return Err(broken()),
        };
        let is_inside = self.at.checked_add(field.len).is_some_and(|to| to <= end);
        if field.tag >> 3 != 0 && is_inside { Ok(Some(field)) } else { Err(broken()) }
    }

    fn varint(&mut self, field: &mut Field) -> io::Result<u64> {
        let mut value = 0;
        for at in 0..10 {
            let byte = self.take(1)?[0];
            field.head[field.head_len] = byte;
            field.head_len += 1;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken())
    }

    /// Whether nothing is left.
    fn ends(&mut self) -> io::Result<()> {
        if self.from < self.to { Err(broken()) } else { ends(&mut *self.reader) }
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            bytes -= self.take(bytes)?.len() as u64;
        }
        Ok(())
    }

    /// Counts a field that both halves have.
    fn count(&mut self, field: &Field, group: &mut Group) -> io::Result<()> {
        group.len.iter_mut().for_each(|len| *len += field.whole());
        self.skip(field.len)
    }

    fn copy(&mut self, field: &Field, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        sink(&field.head[..field.head_len]);
        let mut left = field.len;
        while left > 0 {
            let piece = self.take(left)?;
            left -= piece.len() as u64;
            sink(piece);
        }
        Ok(())
    }

    fn copy_if(&mut self, is_kept: bool, field: &Field, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if is_kept { self.copy(field, sink) } else { self.skip(field.len) }
    }
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
    use crate::wire::Buffer;

    /// One half: how many spans it holds, and its bytes before compression.
    struct Half {
        spans: u64,
        request: Vec<u8>,
    }

    /// The halves of a request that may hold any number of spans.
    fn halves(request: &[u8]) -> Option<[Half; 2]> {
        let open = || Some(Box::new(request) as Box<dyn Read>);
        let plan = Plan::of(open, request.len(), 0)?;
        let half = |half| {
            let mut bytes = Vec::new();
            plan.write(half, open()?, &mut |piece| bytes.extend_from_slice(piece)).ok()?;
            assert_eq!(bytes.len(), plan.len(half), "as long as was planned");
            Some(Half { spans: plan.spans(half), request: bytes })
        };
        Some([half(0)?, half(1)?])
    }

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
    fn what_is_longer_or_shorter_than_it_should_be_has_no_halves() {
        let whole = request(&[3, 4]).encode_to_vec();
        let plan = |len| Plan::of(|| Some(Box::new(whole.as_slice()) as Box<dyn Read>), len, 7);
        assert!(plan(whole.len()).is_some());
        assert!(plan(whole.len() - 1).is_none() && plan(whole.len() + 1).is_none());
    }

    #[test]
    fn a_request_that_is_nothing_but_groups_is_not_planned_without_end() {
        let mut whole = Buffer::default();
        (0..=MOST_GROUPS).for_each(|_| whole.bytes_field(RESOURCE_SPANS, &[]));
        assert!(halves(whole.as_slice()).is_none());
    }

    #[test]
    fn lengths_are_rewritten_in_their_shortest_form() {
        let whole = request(&[40]).encode_to_vec();
        let [first, _] = halves(&whole).expect("two halves");
        let decoded = ExportTraceServiceRequest::decode(first.request.as_slice()).expect("valid protobuf");
        assert_eq!(decoded.encode_to_vec(), first.request);
    }
}
