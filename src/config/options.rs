//! Settings made in code, before they are checked and completed.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    BackpressureController, BatchConfig, Compression, ConnectionManager, ConnectionPoolConfig, DropStrategy,
    ExitBudget, MemoryMonitor, MemoryPool, MonitoringConfig, OtlpConfig, PerformanceConfig, PerformanceMonitor,
    Protocol, ResourceConfig, ResourceDetector, RetryConfig, SpanLimits, SpoolConfig, TracesExporter, TransportConfig,
    WorkerPool, ZeroCopyBuffer,
};
use crate::{error::LogLevel, value::KeyValue};

/// Settings made in code; `None` leaves a setting to the environment, then to the default. Durations beyond a year
/// count as a year.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// Whether nothing is recorded or sent. Default false.
    pub(crate) sdk_disabled: Option<bool>,
    pub(crate) traces_exporter: Option<TracesExporter>,
    /// Whether nothing is recorded or sent unless an endpoint is configured.
    pub(crate) endpoint_required: bool,
    /// The receiver's base URL: `/v1/traces` is appended unless it is there already. Default
    /// `http://localhost:4318`.
    pub(crate) endpoint: Option<String>,
    /// The receiver's URL for traces, used unchanged. It takes precedence over `endpoint`.
    pub(crate) traces_endpoint: Option<String>,
    /// Request headers, in the order of the calls. They replace the environment's headers of the same name; the others
    /// stay.
    pub(crate) headers: Vec<(String, String)>,
    /// How long connecting may take, including TLS. Default 5 s; longer than zero.
    pub(crate) connect_timeout: Option<Duration>,
    /// How long one batch may take, including all attempts. Default 10 s; longer than zero.
    pub(crate) request_timeout: Option<Duration>,
    /// How long an idle connection is kept. Default 60 s; zero keeps none.
    pub(crate) keep_alive_timeout: Option<Duration>,
    /// How many idle connections are kept. Default 16; zero keeps none.
    pub(crate) max_idle_connections: Option<usize>,
    pub(crate) compression: Option<Compression>,
    /// A PEM or DER file with the only certificates trusted.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM or DER files with a client certificate and its key.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    /// Bytes of one request before compression. Default 64 MiB.
    pub(crate) max_request_bytes: Option<usize>,
    /// Bytes of one answer. Default 4 MiB.
    pub(crate) max_response_bytes: Option<usize>,
    /// `service.name`; not empty.
    pub(crate) service_name: Option<String>,
    /// `service.version`. Default: not sent.
    pub(crate) service_version: Option<String>,
    pub(crate) resource_attributes: Vec<KeyValue<'static>>,
    /// Exactly these detectors. Default: all but that of `host.id`.
    pub(crate) resource_detectors: Option<Vec<ResourceDetector>>,
    pub(crate) batch: Option<BatchConfig>,
    /// Threads, 1 to 64. Default: the CPUs this process may use, at most 4.
    pub(crate) worker_count: Option<usize>,
    /// Bytes; the hard bound on what the client holds. Default 64 MiB, at least 1 MiB.
    pub(crate) max_memory_usage: Option<usize>,
    pub(crate) drop_strategy: Option<DropStrategy>,
    /// The drop strategy of a whole configuration, which ranks below the setter and the companions.
    pub(crate) drop_strategy_of_config: Option<DropStrategy>,
    pub(crate) exit_budget: Option<ExitBudget>,
    pub(crate) retry: Option<RetryConfig>,
    pub(crate) log_level: Option<LogLevel>,
    /// The description of a sampler given to the client in code. Default: parent-based, always on.
    pub(crate) sampler: Option<String>,
    /// Whether there are processors, which are told of spans even if those are not exported.
    pub(crate) has_processors: bool,
    pub(crate) span_limits: Option<SpanLimits>,
    pub(crate) spool: Option<SpoolConfig>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) insecure: Option<bool>,
    /// Set by `set_connection_pool`, so that it and the settings of single fields override each other.
    pub(crate) connection_pool: Option<ConnectionPoolConfig>,
    /// Set by `set_connection_manager`; takes precedence over the pool.
    pub(crate) connection_manager: ConnectionManager,
    pub(crate) performance: Option<PerformanceConfig>,
    pub(crate) monitoring: Option<MonitoringConfig>,
    pub(crate) memory_pool: Option<MemoryPool>,
    pub(crate) zero_copy_buffer: Option<ZeroCopyBuffer>,
    pub(crate) worker_pool: Option<WorkerPool>,
    pub(crate) backpressure: Option<BackpressureController>,
    pub(crate) performance_monitor: Option<PerformanceMonitor>,
    pub(crate) memory_monitor: Option<MemoryMonitor>,
}

/// Sizes that companions asked for, each with the name of its setting.
pub(super) struct Sizes {
    pub(super) queue: Option<(&'static str, usize)>,
    pub(super) batch: Option<(&'static str, usize)>,
}

/// Some settings can be made in several places. The last call counts: it replaces what others had set.
impl Options {
    pub(crate) fn set_batch(&mut self, batch: BatchConfig) {
        self.forget_queue_size();
        if let Some(pool) = &mut self.worker_pool {
            pool.batch_size = None;
        }
        self.batch = Some(batch);
    }

    pub(crate) fn set_worker_pool(&mut self, pool: WorkerPool) {
        if pool.worker_count.is_some() {
            self.worker_count = None;
        }
        if pool.timeout.is_some() {
            self.request_timeout = None;
        }
        if pool.queue_size.is_some() {
            self.forget_queue_size();
        }
        let before = self.worker_pool.take().unwrap_or_default();
        self.worker_pool = Some(WorkerPool {
            worker_count: pool.worker_count.or(before.worker_count),
            queue_size: pool.queue_size.or(before.queue_size),
            batch_size: pool.batch_size.or(before.batch_size),
            timeout: pool.timeout.or(before.timeout),
        });
    }

    pub(crate) fn set_backpressure(&mut self, controller: BackpressureController) {
        if controller.drop_strategy.is_some() {
            self.drop_strategy = None;
        }
        if controller.max_queue_size.is_some() {
            self.forget_queue_size();
        }
        let before = self.backpressure.take().unwrap_or_default();
        self.backpressure = Some(BackpressureController {
            max_queue_size: controller.max_queue_size.or(before.max_queue_size),
            queue_threshold: controller.queue_threshold.or(before.queue_threshold),
            drop_strategy: controller.drop_strategy.or(before.drop_strategy),
            adaptive_throttling: controller.adaptive_throttling.or(before.adaptive_throttling),
        });
    }

    pub(crate) fn set_performance(&mut self, performance: PerformanceConfig) {
        self.max_memory_usage = None;
        if let Some(pool) = &mut self.memory_pool {
            pool.gc_threshold = None;
        }
        self.performance = Some(performance);
    }

    pub(crate) fn set_monitoring(&mut self, monitoring: MonitoringConfig) {
        self.log_level = None;
        self.monitoring = Some(monitoring);
    }

    pub(crate) fn set_transport(&mut self, transport: TransportConfig) {
        let TransportConfig {
            endpoint,
            traces_endpoint,
            headers,
            protocol,
            compression,
            connect_timeout,
            request_timeout,
            keep_alive_timeout,
            max_idle_connections,
            certificate,
            client_certificate,
            max_request_bytes,
            max_response_bytes,
        } = transport;
        self.endpoint = endpoint;
        self.traces_endpoint = traces_endpoint;
        self.headers = headers;
        self.protocol = protocol;
        self.compression = compression;
        self.connect_timeout = connect_timeout;
        self.request_timeout = request_timeout;
        self.keep_alive_timeout = keep_alive_timeout;
        self.max_idle_connections = max_idle_connections;
        self.certificate = certificate;
        self.client_certificate = client_certificate;
        self.max_request_bytes = max_request_bytes;
        self.max_response_bytes = max_response_bytes;
    }

    pub(crate) fn set_resource(&mut self, resource: ResourceConfig) {
        let ResourceConfig { service_name, service_version, attributes, detectors } = resource;
        self.service_name = service_name;
        self.service_version = service_version;
        self.resource_attributes = attributes;
        self.resource_detectors = detectors;
    }

    /// Sets everything at once.
    pub(crate) fn set_all(&mut self, config: OtlpConfig) {
        let OtlpConfig {
            transport,
            resource,
            batch,
            connection_pool,
            performance,
            monitoring,
            retry,
            drop_strategy,
            exit_budget,
            spool,
            span_limits,
            worker_count,
            performance_monitor,
            memory_monitor,
        } = config;
        let companions = Self {
            endpoint_required: self.endpoint_required,
            worker_pool: self.worker_pool.take(),
            backpressure: self.backpressure.take(),
            connection_manager: std::mem::take(&mut self.connection_manager),
            memory_pool: self.memory_pool.take(),
            zero_copy_buffer: self.zero_copy_buffer.take(),
            ..Self::default()
        };
        *self = companions;
        // The fields of the transport take precedence over those of the pool.
        self.set_connection_pool(connection_pool);
        self.set_transport(transport);
        self.set_resource(resource);
        self.set_batch(batch);
        self.set_performance(performance);
        self.set_monitoring(monitoring);
        self.retry = Some(retry);
        self.drop_strategy_of_config = Some(drop_strategy);
        if let Some(controller) = &mut self.backpressure {
            controller.drop_strategy = None;
        }
        self.exit_budget = Some(exit_budget);
        self.spool = Some(spool);
        self.span_limits = Some(span_limits);
        self.worker_count = worker_count;
        self.performance_monitor = performance_monitor;
        self.memory_monitor = memory_monitor;
    }

    /// Forgets the queue sizes that companions asked for.
    fn forget_queue_size(&mut self) {
        if let Some(pool) = &mut self.worker_pool {
            pool.queue_size = None;
        }
        if let Some(controller) = &mut self.backpressure {
            controller.max_queue_size = None;
        }
    }

    /// The sizes that companions asked for.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes { queue: self.queue_size(), batch: self.batch_size() }
    }

    /// The size of the queue that a companion asked for, and where.
    fn queue_size(&self) -> Option<(&'static str, usize)> {
        let pool = self.worker_pool.as_ref().and_then(|pool| pool.queue_size);
        let controller = self.backpressure.as_ref().and_then(|controller| controller.max_queue_size);
        let pool = pool.map(|spans| ("with_worker_pool.queue_size", spans));
        pool.or(controller.map(|spans| ("with_backpressure_controller.max_queue_size", spans)))
    }

    /// The size of a batch that a companion asked for.
    fn batch_size(&self) -> Option<(&'static str, usize)> {
        let spans = self.worker_pool.as_ref().and_then(|pool| pool.batch_size)?;
        Some(("with_worker_pool.batch_size", spans))
    }
}

/// URLs and headers may hold secrets here, unlike in [`Settings`].
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}
