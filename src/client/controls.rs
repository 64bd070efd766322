//! Which controllers a client was given, and when each of them is asked.

use std::{sync::Arc, time::Duration};

use super::conductor::Task;
use crate::{
    config::{MetricType, Settings, Tuning},
    control::{AdaptiveCompression, BatchManager, MemoryWatch},
    error::{Error, LogLevel, Subject},
    export::{Exporter, Window},
};

/// How often batch size and compression are thought over, where no performance monitor says otherwise.
const CONTROL_INTERVAL: Duration = Duration::from_secs(1);

/// The controllers that were set in code.
#[derive(Debug, Clone, Default)]
pub(super) struct Controls {
    pub(super) batch_manager: Option<BatchManager>,
    pub(super) adaptive_compression: Option<AdaptiveCompression>,
}

impl Controls {
    /// The same, if they make sense; with those that `settings` turn on. What they need to know is measured.
    pub(super) fn checked(mut self, settings: &mut Settings) -> Result<Self, Error> {
        if self.batch_manager.is_none() && settings.batch.adaptive_sizing {
            self.batch_manager = Some(BatchManager::new().with_initial_config(settings.batch.clone()));
        }
        self.batch_manager = self.batch_manager.map(BatchManager::checked).transpose()?;
        self.adaptive_compression = self.adaptive_compression.map(AdaptiveCompression::checked).transpose()?;
        if self.batch_manager.is_some() {
            settings.measured.push(MetricType::Latency);
        }
        if self.adaptive_compression.is_some() {
            settings.measured.push(MetricType::CpuUsage);
        }
        Ok(self)
    }

    /// What there is to do, and after which time first.
    pub(super) fn tasks(&self, exporter: &Arc<Exporter>) -> Vec<(Duration, Task)> {
        let settings = exporter.settings();
        let interval = settings.metrics_interval().unwrap_or(CONTROL_INTERVAL);
        let mut tasks = Vec::new();
        if let Some(manager) = &self.batch_manager {
            tasks.push((interval, size_batches(manager.clone(), interval)));
        }
        if let Some(adaptive) = &self.adaptive_compression {
            let Tuning { compression, effort, .. } = exporter.tuning();
            // It was checked when the client was made.
            if let Ok(mut chooser) = adaptive.clone().start(compression, effort) {
                let mut window = Window::new();
                let choose: Task = Box::new(move |exporter| {
                    let metrics = exporter.measure(&mut window);
                    let (compression, effort) = chooser.choose(&metrics, &exporter.understood());
                    exporter.tune(Tuning { compression, effort, ..exporter.tuning() });
                    interval
                });
                tasks.push((interval, choose));
            }
        }
        if let Some(monitor) = &settings.memory_monitor {
            let interval = monitor.interval();
            tasks.push((interval, watch_memory(MemoryWatch::new(monitor), interval)));
        }
        if settings.metrics_url().is_some() {
            let interval = settings.monitoring.metrics_interval;
            let export: Task = Box::new(move |exporter| {
                exporter.export_metrics(interval);
                interval
            });
            tasks.push((interval, export));
        }
        tasks
    }
}

fn size_batches(mut manager: BatchManager, interval: Duration) -> Task {
    let mut window = Window::new();
    Box::new(move |exporter| {
        manager.adjust_batch_size_based_on_performance(&exporter.measure(&mut window));
        let batch_size = manager.current_config().max_batch_size;
        exporter.tune(Tuning { batch_size, ..exporter.tuning() });
        interval
    })
}

fn watch_memory(mut watch: MemoryWatch, interval: Duration) -> Task {
    Box::new(move |exporter| {
        let (used, limit) = exporter.memory();
        let response = watch.step(used as f64 / limit as f64);
        if response.warn {
            exporter.diagnostics().say(
                LogLevel::Warn,
                Subject::Memory,
                format_args!(
                    "spans take {used} of {limit} bytes; raise OTLP_MAX_MEMORY_USAGE if the receiver keeps up on average"
                ),
            );
        }
        interval
    })
}
