//! tracing, with tracing-opentelemetry before the OpenTelemetry SDK. What the layer adds by itself (threads, source
//! locations, idle and busy times, targets) is off, so that its spans are those of the others.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use peers::{Contender, Setup, otel, task, work::Request};
use tracing::info_span;
use tracing_subscriber::{Registry, filter::LevelFilter, layer::SubscriberExt as _};

struct Layered {
    provider: SdkTracerProvider,
}

impl Contender for Layered {
    fn start(setup: Setup) -> Self {
        let provider = otel::provider(&setup);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("peers"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        // The level keeps the spans and events of the exporter's own HTTP client out.
        let subscriber = Registry::default().with(LevelFilter::INFO).with(layer);
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
        Self { provider }
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let _root = info_span!("root").entered();
        for request in requests {
            drop(info_span!(
                "hot",
                "http.request.method" = "GET",
                "url.path" = &*request.path,
                "http.response.status_code" = 200,
                "retry" = false,
                "user.id" = &*request.user,
            ));
        }
    }

    fn bare(&self, children: usize) {
        let _root = info_span!("root").entered();
        for _ in 0..children {
            drop(info_span!("hot"));
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

fn main() {
    task::run::<Layered>();
}
