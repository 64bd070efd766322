//! The client's own requests as spans, for who asks. Those that carry only such spans make none.

use std::sync::Arc;

use super::{encode::protobuf::Runs, outcome::Outcome, request::Request};
use crate::{
    capture::{Recorder, Scope, Span, SpanKind, Status, Tracer},
    config::{Protocol, Settings},
    value::KeyValue,
};

/// What the client's own spans are made with.
pub(crate) struct OwnTracing {
    tracer: Tracer,
    scope: u32,
    address: String,
    port: u16,
    protocol: Protocol,
}

impl OwnTracing {
    /// None unless it was asked for.
    pub(crate) fn new(settings: &Settings, recorder: &Arc<Recorder>) -> Option<Self> {
        if !settings.monitoring.enable_tracing {
            return None;
        }
        let scope = Scope::new(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let (address, port) = settings.endpoint.address();
        Some(Self {
            scope: recorder.scopes.id(&scope),
            tracer: Tracer::bound(Some(recorder), scope),
            address: address.to_owned(),
            port,
            protocol: settings.protocol,
        })
    }

    /// Whether any of these spans is the program's.
    pub(super) fn is_worth_it(&self, runs: &Runs<'_>) -> bool {
        runs.iter().any(|(scope, _)| *scope != self.scope)
    }

    /// The span of one request, which is under way.
    pub(super) fn begin(&self, request: &Request) -> Span {
        let span = match self.protocol {
            Protocol::HttpProtobuf => self.tracer.span("POST").attribute("http.request.method", "POST"),
            Protocol::Grpc => {
                let method = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
                self.tracer.span(method).attribute("rpc.system.name", "grpc").attribute("rpc.method", method)
            }
        };
        span.root()
            .kind(SpanKind::Client)
            .attribute("server.address", self.address.as_str())
            .attribute("server.port", self.port)
            .attribute("http.request.body.size", request.body.len())
            .attribute("http.request.resend_count", request.resends())
            .attribute("otlp.spans", request.spans)
            .start()
    }

    /// The request has been answered, or has failed.
    pub(super) fn end(&self, mut span: Span, outcome: &Outcome) {
        if let Some(code) = outcome.code(self.protocol) {
            let KeyValue { key, value } = code.attribute();
            span.set_attribute(&key, value);
        }
        if let Some(error) = outcome.error_type() {
            span.set_status(Status::error(""));
            span.set_attribute("error.type", error);
        }
        span.end();
    }
}
