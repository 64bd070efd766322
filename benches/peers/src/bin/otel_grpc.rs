//! The OpenTelemetry SDK over gRPC: the same program within a runtime, as tonic needs it.

#[path = "otel.rs"]
mod otel;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    otel::main();
}
