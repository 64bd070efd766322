//! What few spans have: events, links, a status, and counts of what was left out.

use super::{Lack, MAX_RECORD_BYTES, Record, TAIL_BYTES, prefix};
use crate::{
    capture::{local, status::Status},
    proto::{
        span::{DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS, STATUS},
        status,
    },
    wire::field_len,
};

/// The most that is appended beside the description: three counts, the code and the heads.
pub(super) const TAIL_MARGIN: usize = 64;

/// The heads of the status and its description, and the code.
const STATUS_HEADS: usize = 16;

/// What is kept of a span besides its bytes. Most spans end without touching it.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) events: u32,
    pub(super) links: u32,
    status: u8,
    description: String,
    pub(super) dropped_attributes: u32,
    pub(super) dropped_events: u32,
    pub(super) dropped_links: u32,
    pub(super) lacks: Lacks,
}

/// Whether and why a span's record lacks something it was given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lacks {
    /// The record would have been too large.
    pub(super) truncated: bool,
    /// A limit left something out.
    pub(super) limited: bool,
    /// There was no memory for it.
    pub(super) no_memory: bool,
}

impl Extras {
    /// Bytes of memory it holds.
    pub(super) fn memory(&self) -> usize {
        self.description.capacity()
    }

    /// Resets it to that of a new span; keeps the memory.
    pub(super) fn clear(&mut self) {
        self.description.clear();
        *self = Self { description: std::mem::take(&mut self.description), ..Self::default() };
    }

    /// Counts an attribute that was left out.
    pub(super) fn drop_attribute(&mut self) {
        self.dropped_attributes = self.dropped_attributes.saturating_add(1);
    }

    /// Notes why something was left out.
    pub(super) fn lack(&mut self, lack: Lack) {
        match lack {
            Lack::TooLarge => self.lacks.truncated = true,
            Lack::Limit => self.lacks.limited = true,
            Lack::NoMemory => self.lacks.no_memory = true,
        }
    }
}

impl Record {
    /// Adds to the counts of attributes, events and links that were left out elsewhere.
    pub(crate) fn add_dropped(&mut self, [attributes, events, links]: [u32; 3]) {
        let extras = self.extras();
        extras.dropped_attributes = extras.dropped_attributes.saturating_add(attributes);
        extras.dropped_events = extras.dropped_events.saturating_add(events);
        extras.dropped_links = extras.dropped_links.saturating_add(links);
    }

    /// Attributes, events and links that were left out.
    pub(in crate::capture) fn dropped(&self) -> [u32; 3] {
        [self.extras.dropped_attributes, self.extras.dropped_events, self.extras.dropped_links]
    }

    /// Whether something was cut or left out because the record would have been too large.
    pub(crate) fn is_truncated(&self) -> bool {
        self.extras.lacks.truncated
    }

    /// Whether attributes, events or links were left out because of the limits.
    pub(crate) fn is_limited(&self) -> bool {
        self.extras.lacks.limited
    }

    /// Something was left out because there was no memory for it, within the bound or at all.
    pub(crate) fn lacks_memory(&self) -> bool {
        self.extras.lacks.no_memory
    }

    /// Ok is final, Unset changes nothing, the last Error wins.
    pub(crate) fn set_status(&mut self, status: &Status) {
        match status {
            Status::Unset => {}
            Status::Ok => {
                let extras = self.extras();
                extras.status = status::OK;
                extras.description.clear();
            }
            Status::Error(description) => self.set_error(description),
        }
    }

    /// Sets the status to an error, unless it is Ok already.
    pub(crate) fn set_error(&mut self, description: &str) {
        let extras = self.extras();
        if extras.status != status::OK {
            extras.status = status::ERROR;
            extras.description.clear();
            // The rest would be cut at the end anyway; it need not take memory until then.
            let description = prefix(description, MAX_RECORD_BYTES);
            if self.has_room_to_describe(description.len()) {
                self.extras.description.push_str(description);
            } else {
                self.extras.lack(Lack::NoMemory);
            }
        }
    }

    /// Whether the description, which is empty, has room for so many bytes, or can be made to.
    fn has_room_to_describe(&mut self, bytes: usize) -> bool {
        let before = self.extras.description.capacity();
        if bytes <= before {
            return true;
        }
        local::inside(|| self.extras.description = String::new());
        self.memory.shrink(before);
        if !self.memory.grow(bytes, !self.extras.lacks.no_memory) {
            return false;
        }
        let made = local::inside(|| self.extras.description.try_reserve_exact(bytes)).is_ok();
        self.memory.shrink(bytes - self.extras.description.capacity().min(bytes));
        made
    }

    /// Whether a status was set.
    pub(crate) fn has_status(&self) -> bool {
        self.extras.status != 0
    }

    /// Appends what is only known at the end: counts change until then, and a second status would be merged with the
    /// first.
    #[cold]
    #[inline(never)]
    pub(super) fn finish_extras(&mut self) {
        // Whatever was appended before has left room for these.
        debug_assert!(self.buffer.has_room(TAIL_MARGIN));
        let counts = [DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS].into_iter().zip(self.dropped());
        for (field, count) in counts.filter(|(_, count)| *count > 0) {
            self.buffer.varint_field(field, count.into());
        }
        if self.extras.status == 0 {
            return;
        }
        let description = std::mem::take(&mut self.extras.description);
        // The tail is kept free: short descriptions always fit, long ones as far as there is room.
        let fits = self.left().max(TAIL_BYTES - 128);
        let mut text = prefix(&description, fits);
        if text.len() < description.len() {
            self.extras.lack(Lack::TooLarge);
        }
        if !text.is_empty() && !self.has_room(text.len()) {
            // Beside its heads and the code there is room for some bytes.
            text = prefix(text, self.buffer.free().saturating_sub(STATUS_HEADS));
            self.extras.lack(Lack::NoMemory);
        }
        let message_len = if text.is_empty() { 0 } else { field_len(text.len()) };
        self.buffer.len_head(STATUS, message_len + 2);
        if !text.is_empty() {
            self.buffer.bytes_field(status::MESSAGE, text.as_bytes());
        }
        self.buffer.varint_field(status::CODE, self.extras.status.into());
        self.extras.description = description;
    }
}
