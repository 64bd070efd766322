//! All settings, each resolved once: code, then environment, then default.

use std::{ops::RangeInclusive, time::Duration};

use self::{
    chooser::{Chooser, Source},
    limits::schedule_delay,
};
use super::{
    BackpressureController, BatchConfig, Compression, ConnectionSettings, DropStrategy, Endpoint, ExitBudget, Headers,
    MemoryMonitor, MemoryPool, MetricType, MonitoringConfig, Options, PerformanceConfig, PerformanceMonitor,
    Propagators, Protocol, Proxy, RetryConfig, SamplerChoice, SpanLimits, SpoolConfig, Tls, TracesExporter,
    ZeroCopyBuffer,
    bounds::{DEFAULT_REQUEST_BYTES, MEMORY, positive, within},
    headers,
};
use crate::{
    env::{self, Environment, Rejected, timeout, whole_number},
    error::{Error, LogLevel},
    resource::{self, Detectors, Resource, Sources, resource},
    sync::LONGEST,
};

mod certificates;
mod chooser;
mod limits;
mod whole;

const MIB: usize = 1024 * 1024;

const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RESPONSE_BYTES: usize = 4 * MIB;
const DEFAULT_MEMORY: usize = 64 * MIB;
/// More workers would compete with the program for its CPUs; they have to be asked for.
const DEFAULT_WORKERS: RangeInclusive<usize> = 1..=4;

/// Allowed limits of a request and an answer. Fewer bytes could not hold a resource, or the text of an answer; no
/// program that exports spans can hold more.
const MESSAGE_BYTES: RangeInclusive<usize> = 1024..=1024 * MIB;
const WORKERS: RangeInclusive<usize> = 1..=64;

/// Bytes of headers, 32 added for each, up to which no server of gRPC refuses a call.
const GRPC_HEADER_BYTES: usize = 8 * 1024;

/// Every setting, complete and valid. Its `Debug` shows no header value and no user information.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Why nothing is recorded or sent; `None` if the client is enabled (SDKV-01, SDKV-11).
    pub(crate) disabled: Option<&'static str>,
    /// Whether spans are sent to the receiver.
    pub(crate) exports: bool,
    pub(crate) log_level: LogLevel,
    /// Whether the log level was set explicitly.
    pub(crate) log_level_is_asked: bool,
    /// The propagators set in the environment. They count for the whole process, even if the client is disabled
    /// (SDKV-02).
    pub(crate) propagators: Propagators,
    /// How requests are carried.
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: Endpoint,
    /// Whether no endpoint was configured, or only an unusable one.
    pub(crate) endpoint_is_default: bool,
    /// The proxy that connections, or the requests themselves, go through.
    pub(crate) proxy: Option<Proxy>,
    /// Names are unique; `Authorization` from the URL's user information is among them.
    pub(crate) headers: Headers,
    pub(crate) compression: Compression,
    pub(crate) tls: Tls,
    /// One absolute limit for one batch, including all attempts.
    pub(crate) export_timeout: Duration,
    /// Bytes of one request before compression; a larger one is not sent.
    pub(crate) max_request_bytes: usize,
    /// Bytes of one answer; a larger one is not read.
    pub(crate) max_response_bytes: usize,
    pub(crate) connections: ConnectionSettings,
    pub(crate) batch: BatchConfig,
    pub(crate) worker_count: usize,
    /// The hard bound on what the client holds, in bytes.
    pub(crate) max_memory_usage: usize,
    /// Whether bodies are compressed straight from ring memory.
    pub(crate) zero_copy: bool,
    /// Whether buffers are reused.
    pub(crate) recycles: bool,
    /// The share of the pool that may be idle.
    pub(crate) gc_threshold: f64,
    /// The pool; its sizes are at most `max_memory_usage`.
    pub(crate) memory_pool: MemoryPool,
    /// The buffers; their sizes are at most `max_memory_usage`.
    pub(crate) zero_copy_buffer: ZeroCopyBuffer,
    pub(crate) backpressure: BackpressureController,
    pub(crate) monitoring: MonitoringConfig,
    pub(crate) performance_monitor: Option<PerformanceMonitor>,
    /// What is measured, for users or for controllers.
    pub(crate) measured: Vec<MetricType>,
    pub(crate) memory_monitor: Option<MemoryMonitor>,
    pub(crate) drop_strategy: DropStrategy,
    pub(crate) exit_budget: ExitBudget,
    pub(crate) retry: RetryConfig,
    pub(crate) sampler: SamplerChoice,
    pub(crate) span_limits: SpanLimits,
    pub(crate) spool: SpoolConfig,
    pub(crate) resource: Resource,
}

impl Settings {
    /// Where the client's own metrics go, if they are enabled.
    pub(crate) fn metrics_endpoint(&self) -> Option<Endpoint> {
        let endpoint = || match self.protocol {
            Protocol::HttpProtobuf => self.endpoint.for_metrics(),
            // Another service at the same address.
            Protocol::Grpc => Some(self.endpoint.clone()),
        };
        self.monitoring.enable_metrics.then(endpoint).flatten()
    }

    /// Whether to report what only the program's author can fix. If no receiver was configured and none is there, the
    /// user of a released program is left alone, unless the log level was set explicitly.
    pub(crate) fn tells_author(&self) -> bool {
        let level = self.log_level_is_asked.then_some(self.log_level);
        is_for_the_author(self.endpoint_is_default, level, cfg!(debug_assertions))
    }

    /// The interval of the performance metrics, if they are enabled.
    pub(crate) fn metrics_interval(&self) -> Option<Duration> {
        self.performance_monitor.as_ref().map(|monitor| monitor.metrics_interval)
    }

    /// How many workers may send at once: all but one, which continues to compress when the receiver is slow.
    pub(crate) fn max_senders(&self) -> usize {
        self.worker_count.saturating_sub(1).max(1).min(self.connections.max_connections)
    }

    /// Resolves every setting, and reports unusable values in the environment: at most one warning per variable,
    /// without header values and user information.
    pub(crate) fn resolve(mut options: Options, environment: Environment) -> Result<(Self, Vec<String>), Error> {
        let mut choose = Chooser::new(&environment);

        choose.config_file();
        let sdk_disabled = choose.one(options.sdk_disabled, env::SDK_DISABLED, env::boolean, false);
        let exporter = choose.list(
            options.traces_exporter,
            env::TRACES_EXPORTER,
            TracesExporter::parse,
            TracesExporter::default(),
        );
        let exports = exporter != TracesExporter::None;
        let disabled = if sdk_disabled {
            Some("the SDK is disabled (OTEL_SDK_DISABLED, or with_sdk_disabled in code)")
        } else if !exports && !options.has_processors {
            Some("the traces exporter is none (OTEL_TRACES_EXPORTER, or with_traces_exporter in code)")
        } else {
            None
        };
        // A user who turned the client off needs no report about names; a user who configured a receiver may have
        // misspelt it.
        let is_off = disabled.is_some();
        let sizes = options.sizes();
        let monitoring = options.monitoring.take();
        monitoring.as_ref().map_or(Ok(()), MonitoringConfig::check)?;
        // A whole section sets a level too, even if it is the default.
        let level_in_code = options.log_level.is_some();
        choose.section = (!level_in_code && monitoring.is_some()).then_some("MonitoringConfig");
        let log_level = options.log_level.or(monitoring.as_ref().map(|monitoring| monitoring.log_level));
        let (log_level, source) =
            choose.value(log_level, &[env::LOG_LEVEL], |_, text| text.parse(), LogLevel::default());
        choose.section = None;
        // A section may repeat what the environment says.
        let said = environment.get(env::LOG_LEVEL).and_then(|text| text.ok()?.parse().ok());
        let log_level_is_asked = level_in_code
            || source == Source::Variable(env::LOG_LEVEL)
            || said == Some(log_level)
            || log_level == LogLevel::Debug;

        let propagators = choose.list(None, env::PROPAGATORS, Propagators::parse, Propagators::default());
        let connections = ConnectionSettings::resolve(&options)?;
        if let Some(missing) = options.protocol.filter(|protocol| !protocol.is_compiled_in()) {
            let allowed = format!("must be compiled in: turn on the cargo feature `{missing}` of otlp");
            return Err(Error::config("with_grpc_transport", missing, allowed));
        }
        let protocol = choose.protocol(options.protocol);
        let (endpoint, source) = match protocol {
            Protocol::HttpProtobuf => choose.endpoint(options.endpoint, options.traces_endpoint)?,
            Protocol::Grpc => {
                let variables = [env::TRACES_INSECURE, env::INSECURE];
                let is_insecure = choose.signal(options.insecure, variables, env::boolean, false);
                choose.grpc_endpoint(options.endpoint, options.traces_endpoint, is_insecure)?
            }
        };
        let endpoint_is_default = source == Source::Default;
        let disabled = disabled.or((endpoint_is_default && options.endpoint_required).then_some(
            "no receiver is configured, and the program asks for one (OTEL_EXPORTER_OTLP_ENDPOINT names it)",
        ));
        let (proxy, unusable) = Proxy::on_the_way(&endpoint, &environment);
        // A client that sends nothing needs no certificates.
        choose.warnings.extend(unusable.into_iter().filter(|_| disabled.is_none() && exports));
        let headers = choose.headers(headers::from_code(options.headers)?, &endpoint);
        if let Some(missing) = options.compression.filter(|compression| !compression.is_compiled_in()) {
            let allowed = format!("must be compiled in: turn on the cargo feature `{}` of otlp", missing.name());
            return Err(Error::config("with_compression", format!("{missing:?}"), allowed));
        }
        let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if protocol == Protocol::Grpc && header_bytes > GRPC_HEADER_BYTES {
            choose.warnings.push(format!(
                "the headers of each call (with_header, OTEL_EXPORTER_OTLP_HEADERS) are {header_bytes} bytes, and servers of gRPC \
                 take {GRPC_HEADER_BYTES} for certain; sending them all the same"
            ));
        }
        let compression = choose.signal(
            options.compression,
            [env::TRACES_COMPRESSION, env::COMPRESSION],
            compression,
            Compression::default(),
        );
        let tls = choose.tls(options.certificate, options.client_certificate)?;
        let max_request_bytes = within("with_max_request_bytes", options.max_request_bytes, MESSAGE_BYTES)?;
        let max_response_bytes = within("with_max_response_bytes", options.max_response_bytes, MESSAGE_BYTES)?;

        let worker_pool = options.worker_pool.take().unwrap_or_default();
        let request_timeout = positive("with_request_timeout", options.request_timeout)?;
        let request_timeout = request_timeout.or(positive("with_worker_pool.timeout", worker_pool.timeout)?);
        let request_timeout =
            choose.signal(request_timeout, [env::TRACES_TIMEOUT, env::TIMEOUT], timeout, DEFAULT_EXPORT_TIMEOUT);
        let bsp_timeout = choose.one(None, env::BSP_EXPORT_TIMEOUT, timeout, request_timeout);

        let worker_count = within("with_worker_count", options.worker_count, WORKERS)?;
        let worker_count = worker_count.or(within("with_worker_pool.worker_count", worker_pool.worker_count, WORKERS)?);
        let cpus = if disabled.is_some() { 0 } else { (environment.cpus)() };
        let worker_count = choose.one(
            worker_count,
            env::WORKERS,
            |text| whole_number(text, WORKERS),
            cpus.clamp(*DEFAULT_WORKERS.start(), *DEFAULT_WORKERS.end()),
        );
        let connections = connections.for_workers(worker_count);
        let performance = options.performance.take();
        performance.as_ref().map_or(Ok(()), PerformanceConfig::check)?;
        let max_memory_usage = within("with_max_memory_usage", options.max_memory_usage, MEMORY)?;
        choose.section = (max_memory_usage.is_none() && performance.is_some()).then_some("PerformanceConfig");
        let max_memory_usage = choose.one(
            max_memory_usage.or(performance.as_ref().map(|performance| performance.max_memory_usage)),
            env::MAX_MEMORY_USAGE,
            |text| whole_number(text, MEMORY),
            DEFAULT_MEMORY,
        );
        choose.section = None;
        let performance = performance.unwrap_or_default();
        let batch = choose.batch(options.batch, sizes, max_memory_usage)?;
        let memory_pool = choose.memory_pool(options.memory_pool, max_memory_usage)?;
        let zero_copy_buffer = choose.zero_copy_buffer(options.zero_copy_buffer, max_memory_usage)?;
        let backpressure = options.backpressure.unwrap_or_default();
        backpressure.check()?;
        if let Some(DropStrategy::Block(timeout)) = options.drop_strategy.or(options.drop_strategy_of_config) {
            positive("with_drop_strategy", Some(timeout))?;
        }
        let drop_strategy = options.drop_strategy.or(backpressure.drop_strategy);
        choose.section = drop_strategy.is_none().then_some("DropStrategy");
        let drop_strategy = drop_strategy.or(options.drop_strategy_of_config);
        let drop_strategy = choose.one(drop_strategy, env::DROP_STRATEGY, str::parse, DropStrategy::default());
        choose.section = None;
        options.performance_monitor.as_ref().map_or(Ok(()), PerformanceMonitor::check)?;
        options.memory_monitor.as_ref().map_or(Ok(()), MemoryMonitor::check)?;
        let exit_budget = choose.exit_budget(options.exit_budget)?;
        let retry = options.retry.unwrap_or_default().checked()?;
        let sampler = choose.sampler(options.sampler);
        let span_limits = choose.span_limits(options.span_limits);
        let spool = choose.spool(options.spool)?;

        let attributes = choose.text(env::RESOURCE_ATTRIBUTES, resource_attributes);
        let environment_service_name = choose.text(env::SERVICE_NAME, |text| Ok(text.to_owned()));
        if options.service_name.as_deref() == Some("") {
            return Err(Error::config("with_service_name", "\"\"", "must not be empty"));
        }
        let detectors = options.resource_detectors.map(Detectors::new);
        let detectors = choose.list(detectors, env::RESOURCE_DETECTORS, Detectors::parse, Detectors::default());
        let monitoring = monitoring.unwrap_or_default();
        if monitoring.enable_metrics && protocol == Protocol::HttpProtobuf && endpoint.for_metrics().is_none() {
            choose.warnings.push(format!(
                "with_monitoring_config.enable_metrics = true: {endpoint} does not end in /v1/traces, so that nobody \
                 knows where metrics should go; using false"
            ));
        }
        if !is_off {
            choose.tell_lost();
        }
        let mut warnings = choose.warnings;
        if !is_off {
            warnings.extend((environment.misspelt)());
        }
        let given = resource(Sources {
            executable: environment.executable.clone(),
            environment: attributes.unwrap_or_default(),
            environment_service_name,
            code: options.resource_attributes,
            service_name: options.service_name,
            service_version: options.service_version,
        });

        let settings = Self {
            disabled,
            exports,
            log_level,
            log_level_is_asked,
            propagators,
            protocol,
            endpoint,
            endpoint_is_default,
            proxy,
            headers,
            compression,
            tls,
            export_timeout: request_timeout.min(bsp_timeout).min(LONGEST),
            max_request_bytes: max_request_bytes.unwrap_or(DEFAULT_REQUEST_BYTES),
            max_response_bytes: max_response_bytes.unwrap_or(DEFAULT_RESPONSE_BYTES),
            connections,
            batch,
            worker_count,
            max_memory_usage,
            zero_copy: performance.enable_zero_copy,
            recycles: performance.enable_memory_pool,
            gc_threshold: memory_pool.gc_threshold.unwrap_or(performance.gc_threshold),
            memory_pool,
            zero_copy_buffer,
            backpressure,
            monitoring: MonitoringConfig { log_level, ..monitoring },
            measured: options.performance_monitor.iter().flat_map(|monitor| monitor.enabled_metrics.clone()).collect(),
            performance_monitor: options.performance_monitor,
            memory_monitor: options.memory_monitor,
            drop_strategy: match drop_strategy {
                DropStrategy::Block(timeout) => DropStrategy::Block(timeout.min(LONGEST)),
                other => other,
            },
            exit_budget,
            retry,
            sampler,
            span_limits,
            spool,
            resource: Resource { given, detectors, executable: environment.executable },
        };
        Ok((settings, warnings))
    }
}

/// The decision of [`Settings::tells_author`], for the given log level.
fn is_for_the_author(endpoint_is_default: bool, level: Option<LogLevel>, has_debug_assertions: bool) -> bool {
    !endpoint_is_default || has_debug_assertions || level.is_some_and(|level| level >= LogLevel::Info)
}

fn compression(text: &str) -> Result<Compression, Rejected> {
    let chosen: Compression = text.parse()?;
    if chosen.is_compiled_in() {
        return Ok(chosen);
    }
    Err(Rejected::new(text, format!("must be compiled in, with the cargo feature `{}` of otlp", chosen.name())))
}

fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, Rejected> {
    resource::parse_attributes(text).map_err(|must| Rejected::new(text, must))
}

// Tests of every setting, including those of TLS.
#[cfg(all(test, feature = "tls"))]
mod tests;
