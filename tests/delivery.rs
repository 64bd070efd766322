//! smoke
use otlp::testing::Receiver;
use otlp::*;
use std::time::Duration;
#[test]
fn smoke() {
    let receiver = Receiver::start().unwrap();
    let client = Client::builder().with_endpoint(receiver.endpoint()).build().unwrap();
    let tracer = client.tracer("a");
    for i in 0..1000 {
        tracer.in_span("outer", |s| {
            s.set_attribute("n", i);
            tracer.in_span("inner", |s| {
                s.set_attribute("x", "y");
            });
        });
    }
    let r = client.flush(Duration::from_secs(5));
    println!("{r:?} {:?}", client.stats());
    let r = client.shutdown(Duration::from_secs(5));
    println!("{r:?} {:?}", client.stats());
    println!("{:?} {:?}", receiver.totals(), receiver.errors());
    assert_eq!(receiver.span_count(), 2000);
}
