//! OTLP's field numbers, once: records, envelopes, answers and what reads them take them from here.
//!
//! From `opentelemetry/proto` 1.11, one module for each message, in the order in which they stand in each other.

/// `ExportTraceServiceRequest`.
pub(crate) mod traces {
    pub(crate) const RESOURCE_SPANS: u32 = 1;
}

/// `ResourceSpans`.
pub(crate) mod resource_spans {
    pub(crate) const RESOURCE: u32 = 1;
    pub(crate) const SCOPE_SPANS: u32 = 2;
    pub(crate) const SCHEMA_URL: u32 = 3;
}

/// `Resource`.
pub(crate) mod resource {
    pub(crate) const ATTRIBUTES: u32 = 1;
}

/// `ScopeSpans`.
pub(crate) mod scope_spans {
    pub(crate) const SCOPE: u32 = 1;
    pub(crate) const SPANS: u32 = 2;
    pub(crate) const SCHEMA_URL: u32 = 3;
}

/// `InstrumentationScope`.
pub(crate) mod scope {
    pub(crate) const NAME: u32 = 1;
    pub(crate) const VERSION: u32 = 2;
    pub(crate) const ATTRIBUTES: u32 = 3;
}

/// `Span`.
pub(crate) mod span {
    pub(crate) const TRACE_ID: u32 = 1;
    pub(crate) const SPAN_ID: u32 = 2;
    pub(crate) const TRACE_STATE: u32 = 3;
    pub(crate) const PARENT_SPAN_ID: u32 = 4;
    pub(crate) const NAME: u32 = 5;
    pub(crate) const KIND: u32 = 6;
    pub(crate) const START: u32 = 7;
    pub(crate) const END: u32 = 8;
    pub(crate) const ATTRIBUTES: u32 = 9;
    pub(crate) const DROPPED_ATTRIBUTES: u32 = 10;
    pub(crate) const EVENTS: u32 = 11;
    pub(crate) const DROPPED_EVENTS: u32 = 12;
    pub(crate) const LINKS: u32 = 13;
    pub(crate) const DROPPED_LINKS: u32 = 14;
    pub(crate) const STATUS: u32 = 15;
    pub(crate) const FLAGS: u32 = 16;
}

/// `Span.Event`.
pub(crate) mod event {
    pub(crate) const TIME: u32 = 1;
    pub(crate) const NAME: u32 = 2;
    pub(crate) const ATTRIBUTES: u32 = 3;
    pub(crate) const DROPPED_ATTRIBUTES: u32 = 4;
}

/// `Span.Link`.
pub(crate) mod link {
    pub(crate) const TRACE_ID: u32 = 1;
    pub(crate) const SPAN_ID: u32 = 2;
    pub(crate) const TRACE_STATE: u32 = 3;
    pub(crate) const ATTRIBUTES: u32 = 4;
    pub(crate) const DROPPED_ATTRIBUTES: u32 = 5;
    pub(crate) const FLAGS: u32 = 6;
}

/// `Status`, and its codes.
pub(crate) mod status {
    pub(crate) const MESSAGE: u32 = 2;
    pub(crate) const CODE: u32 = 3;
    pub(crate) const OK: u8 = 1;
    pub(crate) const ERROR: u8 = 2;
}

/// `KeyValue`.
pub(crate) mod key_value {
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// `AnyValue`.
pub(crate) mod any_value {
    pub(crate) const STRING: u32 = 1;
    pub(crate) const BOOL: u32 = 2;
    pub(crate) const INT: u32 = 3;
    pub(crate) const DOUBLE: u32 = 4;
    pub(crate) const ARRAY: u32 = 5;
    pub(crate) const MAP: u32 = 6;
    pub(crate) const BYTES: u32 = 7;
}

/// `ArrayValue` and `KeyValueList`.
pub(crate) mod list {
    pub(crate) const VALUES: u32 = 1;
}

/// `ExportTraceServiceResponse`; that for metrics is alike.
pub(crate) mod answer {
    pub(crate) const PARTIAL_SUCCESS: u32 = 1;
}

/// `ExportTracePartialSuccess`; that for metrics is alike.
pub(crate) mod partial_success {
    pub(crate) const REJECTED: u32 = 1;
    pub(crate) const ERROR_MESSAGE: u32 = 2;
}

/// `google.rpc.Status`, the body of a failure.
pub(crate) mod rpc_status {
    pub(crate) const CODE: u32 = 1;
    pub(crate) const MESSAGE: u32 = 2;
    #[cfg(feature = "grpc")]
    pub(crate) const DETAILS: u32 = 3;
}

/// `google.protobuf.Any`, a detail of a status.
#[cfg(feature = "grpc")]
pub(crate) mod any {
    pub(crate) const TYPE_URL: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// `google.rpc.RetryInfo`.
#[cfg(feature = "grpc")]
pub(crate) mod retry_info {
    pub(crate) const RETRY_DELAY: u32 = 1;
}

/// `google.protobuf.Duration`.
#[cfg(feature = "grpc")]
pub(crate) mod duration {
    pub(crate) const SECONDS: u32 = 1;
    pub(crate) const NANOS: u32 = 2;
}

/// `ExportMetricsServiceRequest`.
pub(crate) mod metrics {
    pub(crate) const RESOURCE_METRICS: u32 = 1;
}

/// `ResourceMetrics`.
pub(crate) mod resource_metrics {
    pub(crate) const SCOPE_METRICS: u32 = 2;
}

/// `ScopeMetrics`.
pub(crate) mod scope_metrics {
    pub(crate) const SCOPE: u32 = 1;
    pub(crate) const METRICS: u32 = 2;
}

/// `Metric`.
pub(crate) mod metric {
    pub(crate) const NAME: u32 = 1;
    pub(crate) const UNIT: u32 = 3;
    pub(crate) const GAUGE: u32 = 5;
    pub(crate) const SUM: u32 = 7;
    pub(crate) const HISTOGRAM: u32 = 9;
}

/// `Gauge`, `Sum` and `Histogram`.
pub(crate) mod data {
    pub(crate) const DATA_POINTS: u32 = 1;
    pub(crate) const TEMPORALITY: u32 = 2;
    pub(crate) const IS_MONOTONIC: u32 = 3;
    /// Of `AggregationTemporality`.
    pub(crate) const CUMULATIVE: u64 = 2;
}

/// `NumberDataPoint`; times are where a histogram's are.
pub(crate) mod number_point {
    pub(crate) const START: u32 = 2;
    pub(crate) const TIME: u32 = 3;
    pub(crate) const AS_INT: u32 = 6;
    pub(crate) const ATTRIBUTES: u32 = 7;
}

/// `HistogramDataPoint`.
pub(crate) mod histogram_point {
    pub(crate) const COUNT: u32 = 4;
    pub(crate) const SUM: u32 = 5;
    pub(crate) const BUCKET_COUNTS: u32 = 6;
    pub(crate) const ATTRIBUTES: u32 = 9;
    pub(crate) const MIN: u32 = 11;
    pub(crate) const MAX: u32 = 12;
}
