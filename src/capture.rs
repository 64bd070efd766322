//! Recording: runs on the application's threads. No lock, no I/O, no log, and no allocation once warm.
//!
//! `tracer` starts a `span`, whose `record` holds its protobuf so far; ending it copies the record into this thread's
//! `ring`. `local` is what a thread owns, `thread_queue` its place at one client, `recorder` what the threads of one
//! client share.

mod attribute;
mod binding;
mod clock;
mod context;
mod data;
mod decode;
mod doorbell;
mod ended;
mod generator;
mod id;
mod installed;
mod local;
mod memory;
mod notice;
mod open_span;
mod processor;
mod record;
mod recorder;
mod registry;
mod ring;
mod sampler;
mod scope;
mod span;
mod status;
mod thread_queue;
mod tracer;
mod tracestate;
mod untaken;

pub use context::SpanContext;
pub(crate) use context::{end_process_span, set_incoming, set_process_span};
pub use data::{Event, Link, SpanData};
pub use ended::EndedSpan;
pub use generator::IdGenerator;
pub use id::{SpanId, TraceId};
pub use processor::SpanProcessor;
pub use sampler::{
    AlwaysOff, AlwaysOn, AlwaysRecord, ParentBased, ProbabilitySampler, Sampler, SamplingDecision, SamplingInput,
    SamplingResult, TraceIdRatioBased,
};
pub(crate) use scope::EncodedScope;
pub use scope::Scope;
pub use span::{Entered, Span};
pub use status::{SpanKind, Status};
pub(crate) use tracer::context_to_pass;
pub use tracer::{SpanBuilder, Tracer, current_span};
pub use tracestate::TraceState;

pub(crate) use attribute::{attribute_field_len, put_attribute, recorded};
pub(crate) use clock::Clock;
pub(crate) use installed::{ask_about, ask_threads, install, is_installed};
pub(crate) use local::OwnThread;
pub(crate) use memory::{Limit, MemoryBudget, Pooling, Reservation, Shed, Slice};
pub(crate) use notice::Notice;
pub(crate) use processor::{Processors, processing};
#[cfg(test)]
pub(crate) use record::Head;
pub(crate) use record::{RECORD_HEAD, Record, ends, first_trace_id};
pub(crate) use recorder::{CaptureLimits, Recorder, Recording};
pub(crate) use ring::Ring;
#[cfg(feature = "bench")]
pub use ring::RingPair;
pub(crate) use span::unix_nanos;
pub(crate) use untaken::{Untaken, untaken, when_first_untaken};
