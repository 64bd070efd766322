//! The envelope: an `ExportTraceServiceRequest` around records that are encoded already, grouped by scope.
//! No span is parsed; lengths are sums.

use std::sync::Arc;

use super::compress::{NoMemory, can_have};
use crate::{
    capture::{EncodedScope, Recorder, Slice, attribute_field_len, put_attribute, recorded},
    proto::{
        resource::ATTRIBUTES,
        resource_spans::{RESOURCE, SCHEMA_URL, SCOPE_SPANS},
        traces::RESOURCE_SPANS,
    },
    value::KeyValue,
    wire::{Buffer, field_len},
};

/// A resource in the form in which it stands in every request of a client, followed by its schema URL if it has one.
pub(crate) struct EncodedResource(Box<[u8]>);

impl EncodedResource {
    pub(crate) fn new(attributes: &[KeyValue<'_>], schema_url: &str) -> Self {
        let message = recorded(attributes).map(attribute_field_len).sum();
        let mut field = Buffer::default();
        field.len_head(RESOURCE, message);
        recorded(attributes).for_each(|entry| put_attribute(&mut field, ATTRIBUTES, &entry.key, &entry.value));
        if !schema_url.is_empty() {
            field.bytes_field(SCHEMA_URL, schema_url.as_bytes());
        }
        Self(field.as_slice().into())
    }

    /// The fields with their heads.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Runs of records: (scope, bytes). Records of one scope keep their order.
pub(crate) type Runs<'a> = Vec<(u32, &'a [u8])>;

/// The runs of a batch, equal scopes next to each other.
pub(crate) fn runs_by_scope(slices: &[Slice]) -> Result<Runs<'_>, NoMemory> {
    let mut runs = Runs::new();
    for run in slices.iter().flat_map(Slice::runs) {
        runs.try_reserve(1).map_err(|_| NoMemory)?;
        runs.push(run);
    }
    // Usually there is only one scope. Sorting allocates as much again, and that allocation cannot be made fallible.
    if !runs.is_sorted_by_key(|(scope, _)| *scope) {
        if !can_have(size_of_val(runs.as_slice())) {
            return Err(NoMemory);
        }
        // Stable.
        runs.sort_by_key(|(scope, _)| *scope);
    }
    Ok(runs)
}

/// Runs in memory of their own.
pub(crate) struct CopiedRuns {
    bytes: Vec<u8>,
    /// The scope of each run and where it ends.
    ends: Vec<(u32, usize)>,
}

impl CopiedRuns {
    pub(crate) fn of(runs: &Runs<'_>) -> Result<Self, NoMemory> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        bytes.try_reserve_exact(runs.iter().map(|(_, run)| run.len()).sum()).map_err(|_| NoMemory)?;
        ends.try_reserve_exact(runs.len()).map_err(|_| NoMemory)?;
        for (scope, run) in runs {
            bytes.extend_from_slice(run);
            ends.push((*scope, bytes.len()));
        }
        Ok(Self { bytes, ends })
    }

    /// Bytes that were copied.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn runs(&self) -> Result<Runs<'_>, NoMemory> {
        let (mut runs, mut start) = (Runs::new(), 0);
        runs.try_reserve_exact(self.ends.len()).map_err(|_| NoMemory)?;
        let run = |(scope, end): &(u32, usize)| (*scope, &self.bytes[std::mem::replace(&mut start, *end)..*end]);
        runs.extend(self.ends.iter().map(run));
        Ok(runs)
    }
}

/// A framed request, as the pieces of memory it consists of.
pub(crate) struct Frame<'a> {
    resource: &'a EncodedResource,
    groups: Vec<Group<'a>>,
    /// Bytes of the `ResourceSpans` message.
    len: usize,
}

struct Group<'a> {
    scope: Arc<EncodedScope>,
    runs: &'a [(u32, &'a [u8])],
    /// Bytes of the `ScopeSpans` message.
    len: usize,
}

impl<'a> Frame<'a> {
    /// Frames `runs`, in which equal scopes stand next to each other.
    pub(crate) fn new(resource: &'a EncodedResource, recorder: &Recorder, runs: &'a [(u32, &'a [u8])]) -> Self {
        let groups: Vec<_> = runs
            .chunk_by(|one, other| one.0 == other.0)
            .map(|runs| {
                let scope = recorder.scopes.get(runs[0].0);
                let spans: usize = runs.iter().map(|(_, run)| run.len()).sum();
                let len = scope.head.len() + spans + scope.tail.len();
                Group { scope, runs, len }
            })
            .collect();
        let len = resource.0.len() + groups.iter().map(|group| field_len(group.len)).sum::<usize>();
        Self { resource, groups, len }
    }

    /// Bytes of the whole request.
    pub(crate) fn len(&self) -> usize {
        field_len(self.len)
    }

    /// Hands the pieces of the request to `sink`, in order.
    pub(crate) fn pieces(&self, mut sink: impl FnMut(&[u8])) {
        let mut head = Buffer::default();
        head.len_head(RESOURCE_SPANS, self.len);
        sink(head.as_slice());
        sink(&self.resource.0);
        for group in &self.groups {
            head.clear();
            head.len_head(SCOPE_SPANS, group.len);
            sink(head.as_slice());
            sink(&group.scope.head);
            group.runs.iter().for_each(|(_, run)| sink(run));
            sink(&group.scope.tail);
        }
    }
}

#[cfg(test)]
mod tests;
