//! A buffer of the program's own: complete spans are written into it where they stay until they are sent.

use std::{fmt, sync::Arc};

use memmap2::MmapMut;

use super::{
    Exporter,
    idle_buffers::{PAGE_BYTES, mapped},
    room::Room,
};
use crate::{
    capture::{Record, SpanData},
    error::Error,
    proto::{resource_spans::SCOPE_SPANS, traces::RESOURCE_SPANS},
    wire::{PADDED_HEAD_BYTES, put_padded_head},
};

/// Spans up to this size are encoded in memory that nobody asks for.
const SMALL_BYTES: usize = 64 * 1024;

/// The share of the bound that buffers may take together which wait to be handed out again.
const IDLE_SHARE: usize = 16;

/// Memory that complete spans are written into once, as the body of a request, to be sent from there. From
/// [`Client::get_zero_copy_buffer`](crate::Client::get_zero_copy_buffer), for
/// [`Client::send_buffer`](crate::Client::send_buffer).
///
/// Its bytes are a valid `ExportTraceServiceRequest` after each call, with the resource of the client that made it.
/// They lie in pages of the operating system, and so at a multiple of any
/// [alignment](crate::config::ZeroCopyBuffer::with_alignment) there may be. The whole capacity counts towards
/// `max_memory_usage` until the buffer is sent or dropped. Dropping one forgets its spans; they were never counted.
pub struct SpanBuffer {
    /// Who made it; nobody, for a client that is disabled.
    exporter: Option<Arc<Exporter>>,
    /// None where memory had no room for it.
    pages: Option<MmapMut>,
    /// The most bytes it takes.
    capacity: usize,
    /// Bytes that the budget knows of.
    accounted: usize,
    written: Written,
}

/// What a buffer holds.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    len: usize,
    spans: u64,
    truncated: u64,
    limited: u64,
    no_memory: u64,
    /// The scope that was written last, and where its `ScopeSpans` begin.
    open: Option<(u32, usize)>,
}

impl SpanBuffer {
    /// One that takes everything and holds nothing.
    pub(crate) fn disabled() -> Self {
        Self { exporter: None, pages: None, capacity: 0, accounted: 0, written: Written::default() }
    }

    /// Adds spans, each encoded once and put behind the others; spans of one call that share a scope stand together.
    /// All of them or, on an error, none: what was written before stays as it is. May allocate, does not block.
    ///
    /// # Errors
    /// [`Error::InvalidSpan`] for a trace id or span id of zero, [`Error::BufferFull`] if they do not fit behind what
    /// is there: send it and write them into another one. [`Error::NoMemory`] if `max_memory_usage` left no room for
    /// the buffer when it was made, [`Error::Shutdown`] in the child of a `fork` for a buffer of its parent's.
    pub fn write_spans(&mut self, spans: &[SpanData]) -> Result<(), Error> {
        if let Some(index) = spans.iter().position(|span| !span.context.is_valid()) {
            return Err(Error::InvalidSpan { index });
        }
        let Some(exporter) = self.exporter.as_deref().filter(|_| !spans.is_empty()) else { return Ok(()) };
        if exporter.recorder.is_inherited() {
            // Its locks may be held for ever.
            return Err(Error::Shutdown);
        }
        let Some(pages) = &mut self.pages else {
            let limit = exporter.settings.max_memory_usage;
            return Err(Error::NoMemory { needed: self.capacity, limit });
        };
        let limits = exporter.recorder.span_limits;
        let largest = spans.iter().map(|span| span.most_encoded_len(limits)).max().unwrap_or(0);
        // What is small is not worth a look at what all threads share.
        let room = (largest > SMALL_BYTES).then(|| Room::try_of(&exporter.recorder, largest));
        if matches!(room, Some(None)) {
            let limit = exporter.settings.max_memory_usage;
            return Err(Error::NoMemory { needed: largest, limit });
        }
        let mut writer = Writer { memory: &mut pages[..self.capacity], written: self.written, closed: Vec::new() };
        if writer.write(exporter, spans, largest).is_none() {
            return Err(Error::BufferFull { capacity: self.capacity, left: self.capacity - self.written.len });
        }
        self.written = writer.close();
        Ok(())
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.written.len
    }

    /// Whether it holds no span.
    pub fn is_empty(&self) -> bool {
        self.written.spans == 0
    }

    /// Spans written so far.
    pub fn spans(&self) -> u64 {
        self.written.spans
    }

    /// The most bytes it takes; 0 for the buffer of a disabled client, which takes any spans and holds none.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The request as it stands, before compression.
    pub fn as_bytes(&self) -> &[u8] {
        self.pages.as_ref().map_or(&[], |pages| &pages[..self.written.len])
    }

    /// Spans in it that would have been too large, and those of which the limits left something out.
    pub(super) fn lacking(&self) -> (u64, u64) {
        (self.written.truncated, self.written.limited)
    }

    /// Spans in it of which something was left out because the system gave no memory for it.
    pub(super) fn lacking_memory(&self) -> u64 {
        self.written.no_memory
    }

    /// Takes the memory out, for a request to be sent from; none if there is none.
    pub(super) fn take_pages(&mut self) -> Option<MmapMut> {
        self.pages.take()
    }

    /// Puts it back, so that it can be used again.
    pub(super) fn put_pages(&mut self, pages: Option<MmapMut>) {
        self.pages = pages;
    }
}

impl Drop for SpanBuffer {
    fn drop(&mut self) {
        if let Some(exporter) = &self.exporter {
            exporter.take_buffer_back(self.pages.take(), self.accounted);
        }
    }
}

impl fmt::Debug for SpanBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { len, spans, .. } = self.written;
        let mut shown = f.debug_struct("SpanBuffer");
        shown.field("spans", &spans).field("len", &len).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// One call's spans on their way into a buffer, whose bytes so far stay as they are until all of them are there.
struct Writer<'a> {
    memory: &'a mut [u8],
    written: Written,
    /// Where groups begin and end that are complete.
    closed: Vec<(usize, usize)>,
}

impl Writer<'_> {
    /// None if there is no room for all of them.
    fn write(&mut self, exporter: &Exporter, spans: &[SpanData], largest: usize) -> Option<()> {
        let scopes: Vec<_> = spans.iter().map(|span| exporter.recorder.scopes.id(&span.scope)).collect();
        let open = self.written.open.map(|(scope, _)| scope);
        let mut order: Vec<_> = (0..spans.len()).collect();
        // Stable, and what goes on with the last scope comes first.
        order.sort_by_key(|at| (Some(scopes[*at]) != open, scopes[*at]));
        if self.written.len == 0 {
            self.room(PADDED_HEAD_BYTES)?;
            self.put(exporter.resource.as_slice())?;
        }
        let mut record = Record::for_spans_of(exporter.recorder.span_limits, largest);
        for at in order {
            self.enter(exporter, scopes[at])?;
            self.put(spans[at].encode(&mut record))?;
            self.written.spans += 1;
            self.written.truncated += u64::from(record.is_truncated());
            self.written.limited += u64::from(record.is_limited());
            self.written.no_memory += u64::from(record.lacks_memory());
        }
        Some(())
    }

    /// Begins a group for `scope`, if that is not the one that is open.
    fn enter(&mut self, exporter: &Exporter, scope: u32) -> Option<()> {
        match self.written.open {
            Some((open, _)) if open == scope => return Some(()),
            Some((_, at)) => self.closed.push((at, self.written.len)),
            None => {}
        }
        self.written.open = Some((scope, self.written.len));
        self.room(PADDED_HEAD_BYTES)?;
        let encoded = exporter.recorder.scopes.get(scope);
        self.put(&encoded.head)?;
        self.put(&encoded.tail)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let at = self.written.len;
        let room = self.memory.get_mut(at..at.checked_add(bytes)?)?;
        self.written.len += bytes;
        Some(room)
    }

    /// Writes the lengths of everything that is new or longer than before.
    fn close(self) -> Written {
        let Self { memory, written, closed } = self;
        let open = written.open.map(|(_, at)| (at, written.len));
        for (at, end) in closed.into_iter().chain(open) {
            put_padded_head(&mut memory[at..], SCOPE_SPANS, end - at - PADDED_HEAD_BYTES);
        }
        put_padded_head(memory, RESOURCE_SPANS, written.len - PADDED_HEAD_BYTES);
        written
    }
}

impl Exporter {
    /// A buffer, one that was used before if there is one. Where memory has no room for it, one without memory.
    pub(crate) fn lend_buffer(self: &Arc<Self>) -> SpanBuffer {
        let budget = &self.recorder.budget;
        let config = &self.settings.zero_copy_buffer;
        let capacity = config.capacity().min(budget.limit() / PAGE_BYTES * PAGE_BYTES);
        let mut pages = self.buffers.take();
        if pages.is_none() && budget.reserve_buffer(mapped(capacity)) {
            pages = MmapMut::map_anon(capacity).ok();
            if pages.is_none() {
                budget.release_buffer(mapped(capacity));
            }
        }
        let accounted = if pages.is_some() { mapped(capacity) } else { 0 };
        if let Some(pages) = &mut pages {
            (0..config.prefetch_size.min(capacity)).step_by(PAGE_BYTES).for_each(|at| pages[at] = 0);
        }
        SpanBuffer { exporter: Some(Arc::clone(self)), pages, capacity, accounted, written: Written::default() }
    }

    fn take_buffer_back(&self, pages: Option<MmapMut>, accounted: usize) {
        let recorder = &self.recorder;
        if accounted == 0 || recorder.is_inherited() {
            return;
        }
        let most =
            if recorder.budget.recycles() && !self.is_stopped() { recorder.budget.limit() / IDLE_SHARE } else { 0 };
        // The memory first: what is accounted for as free is.
        let is_kept = pages.is_some_and(|pages| self.buffers.keep(pages, most).is_ok());
        if !is_kept {
            recorder.budget.release_buffer(accounted);
            recorder.overflow.made_room();
        }
    }
}
