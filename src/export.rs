//! Exporting: runs on the client's threads, and may block. It runs on the application's threads only in `export_spans`,
//! `flush` and `shutdown`, whose documentation says so.

mod advice;
mod assembly;
mod delivery;
mod destination;
mod direct;
mod drain;
mod encode;
mod exporter;
mod failures;
mod holdings;
mod idle_buffers;
mod ledger;
mod measuring;
mod meter;
mod metrics;
mod net;
mod operations;
mod outbox;
mod outcome;
mod pace;
mod packing;
mod policy;
mod queue;
mod recording_reports;
mod request;
mod retry;
mod room;
mod sink;
mod span_buffer;
mod spool;
mod spooling;
#[cfg(feature = "bench")]
mod stages;
mod summary;
mod tracing;
mod tune;
mod workers;

pub use direct::ExportReport;
pub(crate) use drain::{Barrier, Patience};
pub(crate) use exporter::Exporter;
pub(crate) use measuring::{Flow, Interval};
pub use span_buffer::SpanBuffer;
#[cfg(feature = "bench")]
pub use stages::Stages;

#[cfg(all(test, not(loom)))]
mod tests;
