//! The OpenTelemetry SDK with TLS, for a size to compare with programs that have it.

#[path = "otel.rs"]
mod otel;

fn main() {
    otel::main();
}
