//! A client made in code, a trace of four spans, and the receipt that says they arrived.
//!
//! ```text
//! cargo run --example basic
//! ```
//!
//! It needs no collector: a receiver inside the process takes one's place, and draws what it got. The exit status is
//! not 0 if that is anything else than what was recorded.
//!
//! Left out: a client of the whole process, configured by its environment (`from_env`), threads (`worker_threads`),
//! and what happens when a program ends in the middle (`exit_behaviour`).

use std::{error::Error, io, time::Duration};

use otlp::{
    Client, KeyValue, SpanKind, Status, Tracer,
    testing::{
        ReceivedSpan, Receiver,
        proto::{common::v1::any_value::Value, trace::v1::status::StatusCode},
        waterfall,
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start()?;
    let client = Client::builder()
        .with_endpoint(receiver.endpoint()) // Of a collector: "http://collector:4318"
        .with_service_name("shop")
        .with_service_version("1.0.0")
        .build()?;

    // One tracer for each component, made once and kept.
    take_order(&client.tracer("orders"));

    // Nothing above has waited for the network. This does, for 5 s at most; dropping the client would do so too.
    let receipt = client.flush(Duration::from_secs(5));

    print!("{}", waterfall(&receiver.spans()));
    println!(
        "{} exported, {} rejected, {} dropped {:?}, {} pending",
        receipt.exported,
        receipt.rejected,
        receipt.dropped_total(),
        receipt.dropped,
        receipt.pending
    );
    assert!(receipt.is_complete(), "something did not arrive");
    check(&receiver.spans());
    Ok(())
}

fn take_order(tracer: &Tracer) {
    // What is known at the start is given at the start. `root` begins a trace, whatever is current.
    let mut order = tracer
        .span("POST /orders")
        .root()
        .kind(SpanKind::Server)
        .attribute("http.request.method", "POST")
        .attribute("http.route", "/orders")
        .start();
    {
        // As long as this guard lives, what the thread starts is a child of the order.
        let _current = order.enter();
        let items = tracer.in_span("load cart", |span| {
            let items = ["book", "lamp", "pen"];
            span.set_attribute("cart.items", items.as_slice());
            items.len()
        });
        order.set_attribute("order.items", items);
    }

    // A parent can be named as well. It need not be open, and not be of this thread.
    let mut payment = tracer.span("charge card").parent(&order.context()).kind(SpanKind::Client).start();
    payment.add_event("retrying", [KeyValue::new("attempt", 2), KeyValue::new("reason", "timeout")]);
    payment.set_status(Status::Ok);
    payment.end();

    // A failure: an event with the error's type and message, and the status error.
    let mut mail = tracer.span("send mail").parent(&order.context()).kind(SpanKind::Client).start();
    mail.record_error(&io::Error::other("mailbox full"));
    drop(mail); // Ends it, too.

    order.set_attribute("http.response.status_code", 201);
    order.end();
}

/// What must have arrived.
fn check(spans: &[ReceivedSpan]) {
    let find = |name| spans.iter().find(|span| span.span.name == name).unwrap_or_else(|| panic!("{name} is missing"));
    let status = |span: &ReceivedSpan| span.span.status.clone().unwrap_or_default();
    let (order, cart, payment, mail) =
        (find("POST /orders"), find("load cart"), find("charge card"), find("send mail"));

    assert_eq!(spans.len(), 4);
    assert!(order.span.parent_span_id.is_empty(), "the order is the root");
    for child in [cart, payment, mail] {
        assert_eq!(child.span.trace_id, order.span.trace_id);
        assert_eq!(child.span.parent_span_id, order.span.span_id, "{}", child.span.name);
    }

    assert_eq!(order.resource_attribute("service.name"), Some(&Value::StringValue("shop".to_owned())));
    assert_eq!(order.scope.name, "orders");
    assert_eq!(order.attribute("order.items"), Some(&Value::IntValue(3)));
    assert_eq!(order.attribute("http.response.status_code"), Some(&Value::IntValue(201)));

    assert_eq!(payment.span.events[0].name, "retrying");
    assert_eq!(status(payment).code(), StatusCode::Ok);
    assert_eq!(mail.span.events[0].name, "exception");
    assert_eq!((status(mail).code(), status(mail).message), (StatusCode::Error, "mailbox full".to_owned()));
}
