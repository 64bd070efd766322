//! The exporter and the processor of the OpenTelemetry SDK, as three contenders use them.

use std::time::Duration;

#[cfg(feature = "otel_grpc")]
use opentelemetry_otlp::WithTonicConfig;
use opentelemetry_otlp::{Compression, SpanExporter, WithExportConfig};
#[cfg(not(feature = "otel_grpc"))]
use opentelemetry_otlp::{Protocol, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};

use crate::{Queue, Setup};

/// Gzipped protobuf over gRPC.
#[cfg(feature = "otel_grpc")]
pub fn exporter(setup: &Setup) -> SpanExporter {
    SpanExporter::builder()
        .with_tonic()
        .with_compression(Compression::Gzip)
        .with_endpoint(&setup.endpoint)
        .build()
        .expect("an exporter")
}

/// Gzipped protobuf over HTTP.
#[cfg(not(feature = "otel_grpc"))]
pub fn exporter(setup: &Setup) -> SpanExporter {
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_compression(Compression::Gzip)
        .with_endpoint(format!("{}/v1/traces", setup.endpoint))
        .build()
        .expect("an exporter")
}

/// The resource of everything sent.
pub fn resource() -> Resource {
    Resource::builder().with_service_name("peers").build()
}

/// The batch processor before the exporter.
pub fn provider(setup: &Setup) -> SdkTracerProvider {
    let provider = SdkTracerProvider::builder().with_resource(resource());
    let config = match setup.queue {
        Queue::Default => return provider.with_batch_exporter(exporter(setup)).build(),
        Queue::Room(spans) => BatchConfigBuilder::default().with_max_queue_size(spans),
        Queue::Hold(spans) => BatchConfigBuilder::default()
            .with_max_queue_size(spans + 1)
            .with_max_export_batch_size(spans + 1)
            .with_scheduled_delay(Duration::from_secs(3600)),
    };
    let processor = BatchSpanProcessor::builder(exporter(setup)).with_batch_config(config.build()).build();
    provider.with_span_processor(processor).build()
}
