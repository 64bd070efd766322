//! Realistic requests: records of the real kind in the real envelope.

use crate::{
    capture::{CaptureLimits, Head, Record, Recorder, Scope, SpanContext, SpanId, SpanKind, Status, TraceId},
    export::encode::protobuf::{EncodedResource, Frame},
    value::KeyValue,
};

/// What is new in each span: ids, times, numbers.
struct Chance {
    state: u64,
    now: u64,
}

impl Chance {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 32) % end
    }

    fn trace_id(&mut self) -> TraceId {
        TraceId::from_bytes(std::array::from_fn(|_| self.next() as u8))
    }

    fn span_id(&mut self) -> SpanId {
        SpanId::from_bytes(self.next().to_be_bytes())
    }

    /// A time up to `within` nanoseconds later.
    fn later(&mut self, within: u64) -> u64 {
        self.now += 1 + self.below(within);
        self.now
    }
}

fn chance() -> Chance {
    Chance { state: 0x9e37_79b9_7f4a_7c15, now: 1_700_000_000_000_000_000 }
}

/// Writes one record behind the others.
struct Recordings {
    record: Record,
    records: Vec<u8>,
}

impl Recordings {
    fn begin(&mut self, name: &str, trace: TraceId, id: SpanId, parent: Option<SpanId>, kind: SpanKind, start: u64) {
        self.record.begin(name);
        let context = SpanContext::new(trace, id, 3, false);
        let parent = parent.map(|parent| (parent, false));
        self.record.set_head(&Head { context: &context, parent, kind, start });
    }

    fn end(&mut self, end: u64) {
        self.records.extend_from_slice(self.record.finish(end));
    }
}

/// The request that holds what `record` writes.
fn request(record: impl FnOnce(&mut Recordings, &mut Chance)) -> Vec<u8> {
    let mut recordings = Recordings { record: Record::new(), records: Vec::new() };
    record(&mut recordings, &mut chance());
    let recorder = Recorder::new(CaptureLimits { workers: 1, ..CaptureLimits::default() });
    let resource =
        EncodedResource::new(&[KeyValue::new("service.name", "shop"), KeyValue::new("process.pid", 4711)], "");
    let runs = [(recorder.scopes.id(&Scope::new("shop")), &recordings.records[..])];
    let mut request = Vec::new();
    Frame::new(&resource, &recorder, &runs).pieces(|piece| request.extend_from_slice(piece));
    request
}

/// A web service: traces of one to four spans of several kinds.
pub(super) fn http(spans: usize) -> Vec<u8> {
    request(|recorder, chance| {
        let routes = ["/users/{id}", "/orders", "/products/{id}/reviews", "/cart/{id}", "/healthz"];
        let (mut trace, mut root) = (chance.trace_id(), chance.span_id());
        for number in 0..spans {
            let kind = if number + 1 == spans { 0 } else { chance.below(4) };
            let (id, start) = (chance.span_id(), chance.later(100_000));
            if kind == 0 {
                let route = routes[chance.below(5) as usize];
                recorder.begin(&format!("GET {route}"), trace, root, None, SpanKind::Server, start);
                recorder.record.attribute("http.request.method", &"GET".into());
                recorder.record.attribute("http.route", &route.into());
                let path = route.replace("{id}", &chance.below(1_000_000).to_string());
                recorder.record.attribute("url.path", &path.as_str().into());
                recorder.record.attribute("http.response.status_code", &(200 + chance.below(3) as i64).into());
                if chance.below(9) == 0 {
                    recorder.record.set_status(&Status::Error("internal error".into()));
                }
                (trace, root) = (chance.trace_id(), chance.span_id());
            } else {
                recorder.begin("SELECT orders", trace, id, Some(root), SpanKind::Client, start);
                recorder.record.attribute("db.system.name", &"postgresql".into());
                let text = "SELECT id, total FROM orders WHERE user_id = $1 ORDER BY created DESC LIMIT 20";
                recorder.record.attribute("db.query.text", &text.into());
                recorder.record.attribute("db.response.returned_rows", &(chance.below(20) as i64).into());
            }
            let end = chance.later(5_000_000);
            recorder.end(end);
        }
    })
}

/// A batch job: spans of one kind in one trace.
pub(super) fn batch(spans: usize) -> Vec<u8> {
    request(|recorder, chance| {
        let (trace, root) = (chance.trace_id(), chance.span_id());
        for number in 0..spans {
            let table = ["customers", "orders", "order_items", "invoices"][number / 50 % 4];
            let (id, start) = (chance.span_id(), chance.later(20_000));
            recorder.begin(&format!("INSERT {table}"), trace, id, Some(root), SpanKind::Client, start);
            recorder.record.attribute("db.system.name", &"postgresql".into());
            recorder.record.attribute("db.collection.name", &table.into());
            let text = format!("INSERT INTO {table} (id, payload) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING");
            recorder.record.attribute("db.query.text", &text.as_str().into());
            recorder.record.attribute("job.row", &(number as i64 * 100).into());
            recorder.record.attribute("job.checksum", &format!("{:016x}", chance.next()).as_str().into());
            let end = chance.later(3_000_000);
            recorder.end(end);
        }
    })
}

/// A deep call tree: children end before their parents, with events.
pub(super) fn tree(spans: usize) -> Vec<u8> {
    request(|recorder, chance| {
        let names = ["parse", "resolve_imports", "check_types", "infer", "unify", "lower", "emit", "visit_expression"];
        let trace = chance.trace_id();
        let mut open = Vec::new();
        for left in (0..spans).rev() {
            // Down some levels, then up one.
            while open.len() <= left.min(1 + chance.below(14) as usize) {
                open.push((chance.span_id(), chance.later(5_000)));
            }
            let Some((id, start)) = open.pop() else { break };
            let name = names[chance.below(8) as usize];
            let parent = open.last().map(|(parent, _)| *parent);
            recorder.begin(name, trace, id, parent, SpanKind::Internal, start);
            recorder.record.attribute("code.function.name", &format!("compiler::{name}").as_str().into());
            recorder.record.attribute("code.line.number", &(chance.below(3000) as i64).into());
            for _ in 0..chance.below(3) {
                let time = chance.later(10_000);
                let key = format!("{:08x}", chance.next() as u32);
                recorder.record.event("cache lookup", time, &[KeyValue::new("key", key)]);
            }
            let end = chance.later(50_000);
            recorder.end(end);
        }
    })
}
