//! otlp, as its README uses it. The variant `builder` gives the attributes before the span starts, and `grpc` sends over
//! gRPC.

use std::time::Duration;

use otlp::{BatchConfig, BatchStrategy, Client, Tracer};
use peers::{Contender, Queue, Setup, task, work::Request};

struct Otlp {
    client: Client,
    tracer: Tracer,
}

impl Contender for Otlp {
    fn start(setup: Setup) -> Self {
        let builder = Client::builder().with_endpoint(setup.endpoint).with_service_name("peers");
        let builder = if task::variant() == "grpc" { builder.with_grpc_transport() } else { builder };
        let client = match setup.queue {
            // The default takes 64 MiB.
            Queue::Default | Queue::Room(_) => builder,
            Queue::Hold(_) => builder.with_batch_config(BatchConfig {
                strategy: BatchStrategy::TimeFirst,
                batch_timeout: Duration::from_secs(3600),
                ..BatchConfig::default()
            }),
        };
        let client = client.build().expect("a client");
        let tracer = client.tracer("peers");
        Self { client, tracer }
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let root = self.tracer.start("root");
        let _entered = root.enter();
        for request in requests {
            let mut span = self.tracer.start("hot");
            span.set_attribute("http.request.method", "GET");
            span.set_attribute("url.path", &*request.path);
            span.set_attribute("http.response.status_code", 200);
            span.set_attribute("retry", false);
            span.set_attribute("user.id", &*request.user);
            span.end();
        }
    }

    fn bare(&self, children: usize) {
        let root = self.tracer.start("root");
        let _entered = root.enter();
        for _ in 0..children {
            self.tracer.start("hot").end();
        }
    }

    fn flush(&self) {
        let receipt = self.client.flush(Duration::from_secs(30));
        assert!(receipt.is_complete(), "{receipt:?}");
    }

    fn shutdown(self) {
        drop(self);
    }
}

struct Builder(Otlp);

impl Contender for Builder {
    fn start(setup: Setup) -> Self {
        Self(Otlp::start(setup))
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        let root = self.0.tracer.start("root");
        let _entered = root.enter();
        for request in requests {
            let span = self.0.tracer.span("hot");
            span.attribute("http.request.method", "GET")
                .attribute("url.path", &*request.path)
                .attribute("http.response.status_code", 200)
                .attribute("retry", false)
                .attribute("user.id", &*request.user)
                .start()
                .end();
        }
    }

    fn bare(&self, children: usize) {
        let root = self.0.tracer.start("root");
        let _entered = root.enter();
        for _ in 0..children {
            self.0.tracer.span("hot").start().end();
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
        "builder" => task::run::<Builder>(),
        _ => task::run::<Otlp>(),
    }
}
