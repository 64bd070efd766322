//! fastrace, with fastrace-opentelemetry before the exporter of the OpenTelemetry SDK. Its attributes are text: the
//! status code and the flag are given as literals. The variant `local` makes its children with `LocalSpan`.

use std::{borrow::Cow, time::Duration};

use fastrace::{
    collector::{Config, SpanContext},
    local::LocalSpan,
    prelude::Span,
};
use fastrace_opentelemetry::OpenTelemetryReporter;
use opentelemetry::InstrumentationScope;
use peers::{Contender, Queue, Setup, otel, task, work::Request};

type Property = (&'static str, Cow<'static, str>);

fn properties(request: &Request) -> [Property; 5] {
    [
        ("http.request.method", Cow::Borrowed("GET")),
        ("url.path", Cow::Owned(request.path.clone())),
        ("http.response.status_code", Cow::Borrowed("200")),
        ("retry", Cow::Borrowed("false")),
        ("user.id", Cow::Owned(request.user.clone())),
    ]
}

struct Spans;

impl Contender for Spans {
    fn start(setup: Setup) -> Self {
        let scope = InstrumentationScope::builder("peers").build();
        let reporter = OpenTelemetryReporter::new(otel::exporter(&setup), Cow::Owned(otel::resource()), scope);
        let config = match setup.queue {
            // Its queues grow; there is nothing to set.
            Queue::Default | Queue::Room(_) => Config::default(),
            Queue::Hold(_) => Config::default().report_interval(Duration::from_secs(3600)),
        };
        fastrace::set_reporter(reporter, config);
        Self
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let root = Span::root("root", SpanContext::random());
        let _entered = root.set_local_parent();
        for request in requests {
            drop(Span::enter_with_local_parent("hot").with_properties(|| properties(request)));
        }
    }

    fn bare(&self, children: usize) {
        let root = Span::root("root", SpanContext::random());
        let _entered = root.set_local_parent();
        for _ in 0..children {
            drop(Span::enter_with_local_parent("hot"));
        }
    }

    fn flush(&self) {
        fastrace::flush();
    }

    fn shutdown(self) {
        fastrace::flush();
    }
}

struct LocalSpans(Spans);

impl Contender for LocalSpans {
    fn start(setup: Setup) -> Self {
        Self(Spans::start(setup))
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let root = Span::root("root", SpanContext::random());
        let _entered = root.set_local_parent();
        for request in requests {
            drop(LocalSpan::enter_with_local_parent("hot").with_properties(|| properties(request)));
        }
    }

    fn bare(&self, children: usize) {
        let root = Span::root("root", SpanContext::random());
        let _entered = root.set_local_parent();
        for _ in 0..children {
            drop(LocalSpan::enter_with_local_parent("hot"));
        }
    }

    fn flush(&self) {
        self.0.flush();
    }

    fn shutdown(self) {
        self.0.shutdown();
    }
}

fn main() {
    match &*task::variant() {
        "local" => task::run::<LocalSpans>(),
        _ => task::run::<Spans>(),
    }
}
