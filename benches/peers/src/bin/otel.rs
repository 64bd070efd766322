//! The OpenTelemetry SDK. The variant `builder` gives the attributes before the span starts.

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Tracer as _, TracerProvider as _, mark_span_as_active},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use peers::{Contender, Setup, otel, task, work::Request};

struct Sdk {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Contender for Sdk {
    fn start(setup: Setup) -> Self {
        let provider = otel::provider(&setup);
        let tracer = provider.tracer("peers");
        Self { provider, tracer }
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let _root = mark_span_as_active(self.tracer.start("root"));
        for request in requests {
            let mut span = self.tracer.start("hot");
            span.set_attribute(KeyValue::new("http.request.method", "GET"));
            span.set_attribute(KeyValue::new("url.path", request.path.clone()));
            span.set_attribute(KeyValue::new("http.response.status_code", 200));
            span.set_attribute(KeyValue::new("retry", false));
            span.set_attribute(KeyValue::new("user.id", request.user.clone()));
            span.end();
        }
    }

    fn bare(&self, children: usize) {
        let _root = mark_span_as_active(self.tracer.start("root"));
        for _ in 0..children {
            self.tracer.start("hot").end();
        }
    }

    fn flush(&self) {
        self.provider.force_flush().expect("flushed");
    }

    fn shutdown(self) {
        // What it answers is for a program to log.
        let _ = self.provider.shutdown();
    }
}

struct Builder(Sdk);

impl Contender for Builder {
    fn start(setup: Setup) -> Self {
        Self(Sdk::start(setup))
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let _root = mark_span_as_active(self.0.tracer.start("root"));
        for request in requests {
            let span = self.0.tracer.span_builder("hot").with_attributes([
                KeyValue::new("http.request.method", "GET"),
                KeyValue::new("url.path", request.path.clone()),
                KeyValue::new("http.response.status_code", 200),
                KeyValue::new("retry", false),
                KeyValue::new("user.id", request.user.clone()),
            ]);
            span.start(&self.0.tracer).end();
        }
    }

    fn bare(&self, children: usize) {
        let _root = mark_span_as_active(self.0.tracer.start("root"));
        for _ in 0..children {
            self.0.tracer.span_builder("hot").start(&self.0.tracer).end();
        }
    }

    fn flush(&self) {
        self.0.flush();
    }

    fn shutdown(self) {
        self.0.shutdown();
    }
}

pub(crate) fn main() {
    match &*task::variant() {
        "builder" => task::run::<Builder>(),
        _ => task::run::<Sdk>(),
    }
}
