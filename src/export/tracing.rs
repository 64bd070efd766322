//! The client's own requests as spans, for who asks. Those that carry only such spans make none.

use std::sync::Arc;

use super::{encode::protobuf::Runs, outcome::Outcome, request::Request};
use crate::{
    capture::{Recorder, Scope, Span, SpanKind, Status, Tracer},
    config::Settings,
};

/// What the client's own spans are made with.
pub(crate) struct OwnTracing {
    tracer: Tracer,
    scope: u32,
    address: String,
    port: u16,
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
        })
    }

    /// Whether any of these spans is the program's.
    pub(super) fn is_worth_it(&self, runs: &Runs<'_>) -> bool {
        runs.iter().any(|(scope, _)| *scope != self.scope)
    }

    /// The span of one request, which is under way.
    pub(super) fn begin(&self, request: &Request) -> Span {
        self.tracer
            .span("POST")
            .root()
            .kind(SpanKind::Client)
            .attribute("http.request.method", "POST")
            .attribute("server.address", self.address.as_str())
            .attribute("server.port", self.port)
            .attribute("http.request.body.size", request.body.len())
            .attribute("http.request.resend_count", request.resends())
            .attribute("otlp.spans", request.spans)
            .start()
    }

    /// The request has been answered, or has failed.
    pub(super) fn end(mut span: Span, outcome: &Outcome) {
        if let Some(status) = outcome.status() {
            span.set_attribute("http.response.status_code", status);
        }
        if let Some(error) = outcome.error_type() {
            span.set_status(Status::error(""));
            span.set_attribute("error.type", error);
        }
        span.end();
    }
}
