//! What a client measures and adjusts while it runs, and the measurements of the last interval.

use std::{sync::Arc, time::Duration};

use super::{
    controls::Controls,
    scheduler::{Scheduler, Task},
};
use crate::{
    export::{Exporter, Interval},
    stats::PerformanceMetrics,
    sync::locks::Mutex,
};

/// Measures and adjusts one client. Its threads start with the first worker, each only if it has tasks.
pub(super) struct Housekeeping {
    /// The current interval, and the measurements of the last one.
    performance: Arc<Mutex<(Interval, Option<PerformanceMetrics>)>>,
    /// One scheduler measures and adjusts and must not wait for anything; the other waits for the receiver.
    schedulers: [Arc<Scheduler>; 2],
}

impl Housekeeping {
    /// Makes the housekeeping of one engine; `controls` give the tasks.
    pub(super) fn new(exporter: &Arc<Exporter>, controls: &Controls) -> Self {
        let performance = Arc::new(Mutex::new((Interval::new(), None)));
        let mut adjusting = controls.tasks(exporter);
        if let Some(interval) = exporter.settings().metrics_interval() {
            let measured = Arc::clone(&performance);
            let begin: Task = Box::new(move |exporter| {
                let (window, last) = &mut *measured.lock();
                *last = Some(exporter.measure(window));
                interval
            });
            adjusting.push((interval, begin));
        }
        let schedulers =
            [Scheduler::new("otlp-conductor", adjusting), Scheduler::new("otlp-metrics", report(exporter))];
        let (started, served) = (schedulers.clone(), Arc::downgrade(exporter));
        exporter.when_working(move || {
            if let Some(exporter) = served.upgrade() {
                started.iter().for_each(|scheduler| scheduler.start(&exporter));
            }
        });
        Self { performance, schedulers }
    }

    /// The measurements of the last interval; before the end of the first one, those so far.
    pub(super) fn performance(&self, exporter: &Exporter) -> PerformanceMetrics {
        let (window, last) = &*self.performance.lock();
        last.clone().unwrap_or_else(|| exporter.measure(&mut window.clone()))
    }

    /// Has the threads end.
    pub(super) fn stop(&self) {
        self.schedulers.iter().for_each(|scheduler| scheduler.stop());
    }
}

/// The task that exports the client's own metrics, if that is enabled.
fn report(exporter: &Exporter) -> Vec<(Duration, Task)> {
    if exporter.settings().metrics_endpoint().is_none() {
        return Vec::new();
    }
    let interval = exporter.settings().monitoring.metrics_interval;
    let export: Task = Box::new(move |exporter| {
        exporter.export_metrics(interval);
        interval
    });
    vec![(interval, export)]
}
