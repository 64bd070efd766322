//! emit, with emit_otlp.

use std::time::Duration;

use peers::{Contender, Setup, task, work::Request};

/// What its documentation flushes with.
const FLUSH: Duration = Duration::from_secs(30);

struct Emit {
    runtime: emit::setup::Init<'static, emit_otlp::Otlp>,
}

#[emit::span(
    "hot",
    #[emit::key("http.request.method")] method: "GET",
    #[emit::key("url.path")] path,
    #[emit::key("http.response.status_code")] status: 200,
    #[emit::key("retry")] retry: false,
    #[emit::key("user.id")] user,
)]
fn hot(path: &str, user: &str) {}

#[emit::span("hot")]
fn bare() {}

#[emit::span("root")]
fn root(children: impl FnOnce()) {
    children();
}

impl Contender for Emit {
    fn start(setup: Setup) -> Self {
        // Its queue of 10,000 and its sending at once have no settings.
        let otlp = emit_otlp::new()
            .resource(emit::props! {
                #[emit::key("service.name")]
                service_name: "peers",
            })
            .traces(emit_otlp::traces_http_proto(format!("{}/v1/traces", setup.endpoint)))
            .spawn();
        Self { runtime: emit::setup().emit_to(otlp).init() }
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        root(|| requests.for_each(|request| hot(&request.path, &request.user)));
    }

    fn bare(&self, children: usize) {
        root(|| (0..children).for_each(|_| bare()));
    }

    fn flush(&self) {
        assert!(self.runtime.blocking_flush(FLUSH), "not flushed");
    }

    fn shutdown(self) {
        // What it answers is for a program to log.
        let _ = self.runtime.blocking_flush(FLUSH);
    }
}

fn main() {
    task::run::<Emit>();
}
