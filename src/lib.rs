//! Synchronous OTLP span exporter.

mod capture;
mod client;
mod config;
mod env;
mod error;
mod export;
mod resource;
mod stats;
mod sync;
pub mod testing;
mod value;
mod wire;

pub use capture::{
    Entered, Scope, Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceId, Tracer, current_span,
};
pub use client::{Client, ClientBuilder, Guard, client, init, tracer};
pub use config::{BatchConfig, Compression, ExitBudget};
pub use env::{VARIABLES, Variable};
pub use error::{DropReason, Error, LogLevel};
pub use export::{Event, ExportReport, Link, SpanData};
pub use stats::{Dropped, Receipt, Snapshot};
pub use value::{KeyValue, Value};
