//! A tool that is configured by its environment and by nothing else: `init`, the guard, the process span.
//!
//! ```text
//! cargo run --example from_env
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 OTEL_SERVICE_NAME=importer cargo run --example from_env
//! ```
//!
//! The second sends to a collector of yours, as does one with `OTEL_EXPORTER_OTLP_PROTOCOL=grpc` alone, at port 4317. The
//! first needs none: where neither an endpoint nor a protocol is set, the program starts a receiver, sets the variables
//! and starts itself again, since a process should not change its own environment. Either way the exit status is not 0 if
//! a span did not arrive. `import` is the part to copy.
//!
//! Left out: ending by a signal, a panic or `process::exit` (`exit_behaviour`), and handing the trace on to child
//! processes (`child_processes`).

use std::{
    env,
    error::Error,
    process::{Command, ExitStatus},
};

use otlp::testing::{ReceivedSpan, Receiver, proto::common::v1::any_value::Value, waterfall};

/// What the program sets for itself.
const VARIABLES: [(&str, &str); 4] = [
    ("OTEL_SERVICE_NAME", "importer"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=1.0.0"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=imports"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let chosen = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    if !chosen.into_iter().any(is_set) {
        return against_a_receiver();
    }
    report();
    import()?;
    account()
}

/// The tool.
fn import() -> Result<(), Box<dyn Error>> {
    // Keep the guard until the end: dropping it sends what is left, and waits for that, 10 s at most.
    let otlp = otlp::init()?;

    // The process span covers the job as a whole and ends with the process, however that ends.
    let job = otlp.root("nightly-import");
    job.set_attribute("files", 2);

    // Tracers of the process-wide client can be had anywhere. The process span is the parent of what has no other.
    let tracer = otlp::tracer("import");
    for file in ["a.csv", "b.csv"] {
        tracer.in_span("load", |span| {
            span.set_attribute("file", file);
        });
    }
    Ok(())
}

/// What became of the spans; a tool need not ask.
fn account() -> Result<(), Box<dyn Error>> {
    let stats = otlp::client().stats();
    println!("{} spans ended, {} exported", stats.ended, stats.exported);
    if stats.ended == 0 {
        return Err("nothing was recorded: does the environment disable it?".into());
    }
    if stats.exported < stats.ended {
        return Err(format!("not all spans have arrived: {:?}", stats.dropped).into());
    }
    Ok(())
}

/// Which variables are set. Not their values: a URL may hold a password, a header a token.
fn report() {
    println!("Configured by");
    for variable in otlp::VARIABLES.iter().filter(|variable| is_set(variable.name)) {
        println!("  {:<36}{}", variable.name, variable.meaning);
    }
}

/// An empty variable counts as unset.
fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Runs the tool against a receiver in this process, and looks at what arrived.
fn against_a_receiver() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start()?;
    let status = run_with(&receiver)?;
    let spans = receiver.spans();
    print!("{}", waterfall(&spans));
    if !status.success() {
        return Err(format!("the tool: {status}").into());
    }
    check(&receiver, &spans);
    println!("all as the environment says");
    Ok(())
}

/// Starts this program again, with nothing in its environment that would lead elsewhere.
fn run_with(receiver: &Receiver) -> Result<ExitStatus, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    for variable in otlp::VARIABLES {
        command.env_remove(variable.name);
    }
    command.env_remove("TRACEPARENT").envs(VARIABLES).env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    Ok(command.status()?)
}

/// What each variable must have led to.
fn check(receiver: &Receiver, spans: &[ReceivedSpan]) {
    for request in receiver.requests() {
        assert_eq!(request.header("x-team"), Some("imports"));
        assert_eq!(request.header("content-encoding"), None);
    }
    let of_the_resource = |key: &str| match spans[0].resource_attribute(key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key} is {other:?}"),
    };
    assert_eq!(of_the_resource("service.name"), "importer");
    assert_eq!(of_the_resource("service.version"), "1.0.0");
    assert_eq!(of_the_resource("deployment.environment.name"), "test");

    let (roots, loads): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.span.parent_span_id.is_empty());
    assert_eq!((roots.len(), loads.len()), (1, 2));
    assert_eq!(roots[0].span.name, "nightly-import");
    assert!(loads.iter().all(|load| load.span.parent_span_id == roots[0].span.span_id));
}
