//! A plain threaded HTTP service that passes trace context and baggage on, for the
//! [W3C's own tests](https://github.com/w3c/trace-context/tree/main/test) of trace context.
//!
//! ```text
//! cargo run --example w3c_service -- 5055
//! SPEC_LEVEL=2 python test.py http://127.0.0.1:5055/test    # in the test directory of w3c/trace-context
//! ```
//!
//! It takes the JSON array that it is sent, `[{"url": …, "arguments": …}, …]`, and posts the arguments of each element
//! to its URL, within the trace the request came with. What is malformed is answered with 400. Its spans go where the
//! environment says; no collector is needed, and with `OTEL_LOG_LEVEL=none` nothing is said about its absence.
//!
//! `service.rs` shows how context is taken in and passed on; the HTTP is the least that serves, and leaves out TLS and
//! chunked bodies.

use std::{convert::Infallible, env, error::Error, process::ExitCode};

use service::Service;

mod http1;
mod service;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let port = match &arguments[..] {
        [] => Some(5055),
        [port] => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: w3c_service [port]");
        return ExitCode::FAILURE;
    };
    let Err(error) = run(port);
    eprintln!("w3c_service: {error}");
    ExitCode::FAILURE
}

fn run(port: u16) -> Result<Infallible, Box<dyn Error>> {
    let otlp = otlp::init()?;
    #[cfg(unix)]
    otlp.close_on_signals()?;
    let service = Service::bind(port, otlp::tracer("w3c_service"))?;
    println!("listening on http://{}", service.address()?);
    service.run()
}
