//! A library that a host loads, which records what it does, and which the host closes again.

use std::{ffi::c_int, mem, panic::catch_unwind, time::Duration};

use otlp::{Client, monitoring::PerformanceMonitor, processing::BatchSpanProcessor};

/// A client of its own instead of the process-wide one.
const OWN_CLIENT: c_int = 1;
/// The client is never closed by the library.
const FORGOTTEN: c_int = 2;
/// Signals close the process-wide client.
const SIGNALS: c_int = 4;
/// The client has all the threads there are.
const THREADS: c_int = 8;

/// Takes what it exports.
struct Sink;

impl otlp::processing::SpanExporter for Sink {
    fn export(&self, _: &[otlp::SpanData]) -> Result<(), otlp::processing::ExportError> {
        Ok(())
    }
}

/// Records three spans; 0 if all went well.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_use(how: c_int) -> c_int {
    catch_unwind(|| record(how)).map_or(1, |()| 0)
}

fn record(how: c_int) {
    let is = |flag| how & flag != 0;
    if is(OWN_CLIENT) {
        let mut builder = Client::builder();
        if is(THREADS) {
            let monitor = PerformanceMonitor::new().with_metrics_interval(Duration::from_millis(100));
            builder = builder
                .with_performance_monitor(monitor)
                .with_span_processor(BatchSpanProcessor::new(Sink).with_schedule_delay(Duration::from_millis(10)));
        }
        let client = builder.build().unwrap();
        (0..3).for_each(|_| client.tracer("plugin").start("step").end());
        if is(FORGOTTEN) {
            mem::forget(client);
        }
        return;
    }
    let guard = otlp::init().unwrap();
    if is(SIGNALS) {
        guard.close_on_signals().unwrap();
    }
    // Ended by the guard, or at exit.
    guard.root("job");
    (0..2).for_each(|_| otlp::tracer("plugin").start("step").end());
    if is(FORGOTTEN) {
        mem::forget(guard);
    }
}
