//! The proof: the ids of the spans that were made against the ids of those that arrived.

use std::{cell::RefCell, cmp::Ordering};

use otlp::{Span, SpanId, TraceId};

/// Trace id and span id.
pub(crate) type Ids = ([u8; 16], [u8; 8]);

/// Notes the spans one thread makes. The room is there from the start, so that a note costs next to nothing.
pub(crate) struct Made(RefCell<Vec<Ids>>);

impl Made {
    pub(crate) fn with_capacity(spans: usize) -> Self {
        Self(RefCell::new(Vec::with_capacity(spans)))
    }

    pub(crate) fn note(&self, span: &Span) {
        let context = span.context();
        self.0.borrow_mut().push((context.trace_id().to_bytes(), context.span_id().to_bytes()));
    }

    pub(crate) fn into_ids(self) -> Vec<Ids> {
        self.0.into_inner()
    }
}

/// How what arrived differs from what was made.
#[derive(Default)]
pub(crate) struct Differences {
    missing: Vec<Ids>,
    duplicates: Vec<Ids>,
    unknown: Vec<Ids>,
}

pub(crate) fn compare(mut made: Vec<Ids>, mut received: Vec<Ids>) -> Differences {
    made.sort_unstable();
    received.sort_unstable();
    let mut differences = Differences::default();
    let mut received = received.into_iter().peekable();
    for span in made {
        while let Some(unknown) = received.next_if(|next| *next < span) {
            differences.unknown.push(unknown);
        }
        match received.peek().map(|next| next.cmp(&span)) {
            Some(Ordering::Equal) => drop(received.next()),
            _ => differences.missing.push(span),
        }
        while let Some(duplicate) = received.next_if_eq(&span) {
            differences.duplicates.push(duplicate);
        }
    }
    differences.unknown.extend(received);
    differences
}

impl Differences {
    /// One line for each kind there is.
    pub(crate) fn describe(&self) -> impl Iterator<Item = String> + '_ {
        let kinds = [
            ("never arrived", &self.missing),
            ("arrived more than once", &self.duplicates),
            ("arrived, but nobody made them", &self.unknown),
        ];
        kinds.into_iter().filter_map(|(what, spans)| {
            let (trace, span) = spans.first()?;
            let (trace, span) = (TraceId::from_bytes(*trace), SpanId::from_bytes(*span));
            Some(format!("{} spans {what}, among them {span} of trace {trace}", spans.len()))
        })
    }
}
