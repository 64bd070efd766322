//! What a client holds, by what holds it.

/// The memory of a client now, in bytes unless said otherwise. See
/// [`Client::memory`](crate::Client::memory).
///
/// `used` is the sum of `chunks_in_use`, `chunks_idle`, `open_spans`, the three kinds of bodies, the two kinds of
/// buffers and
/// `set_aside`, and at most `limit` but for bodies that exist before what they were made of is free. Chunks and buffers
/// count with all of their bytes, also with those that were never touched and that the system therefore has not
/// provided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The bound on `used`: `max_memory_usage`.
    pub limit: u64,
    /// The sum of the parts below.
    pub used: u64,
    /// Chunks that hold ended spans, or are the one a thread writes to.
    pub chunks_in_use: u64,
    /// Chunks that wait to be used again.
    pub chunks_idle: u64,
    /// Spans that are open, and the records that threads keep for their next ones.
    pub open_spans: u64,
    /// Compressed batches that wait to be sent, or to be sent again.
    pub bodies_waiting: u64,
    /// Batches that are being sent.
    pub bodies_in_flight: u64,
    /// Body buffers that wait to be used again.
    pub bodies_spare: u64,
    /// Buffers of [`Client::buffer`](crate::Client::buffer) that the program has, or that are being
    /// sent.
    pub buffers: u64,
    /// Such buffers that wait to be handed out again.
    pub buffers_idle: u64,
    /// What the client and its workers take beside all this (compressors, connections, stacks), set aside from the
    /// beginning whether or not it is in use.
    pub set_aside: u64,
    /// How often idle memory went back to the system because nobody needed it; a count.
    pub trims: u64,
    /// How many bytes went back that way since the client began.
    pub trimmed_bytes: u64,
}

impl MemoryStats {
    /// With `used` as the sum of the parts.
    pub(crate) fn summed(self) -> Self {
        let Self {
            chunks_in_use,
            chunks_idle,
            open_spans,
            bodies_waiting,
            bodies_in_flight,
            bodies_spare,
            buffers,
            buffers_idle,
            set_aside,
            ..
        } = self;
        let rings = chunks_in_use + chunks_idle + open_spans;
        let bodies = bodies_waiting + bodies_in_flight + bodies_spare;
        Self { used: rings + bodies + buffers + buffers_idle + set_aside, ..self }
    }
}
