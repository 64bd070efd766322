//! All settings, each decided once: code, then environment, then default.

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use http::header::AUTHORIZATION;

use super::{
    BatchConfig, Compression, DropStrategy, Endpoint, ExitBudget, Headers, Options, RetryConfig, SpoolConfig, Tls,
    endpoint, headers,
    tls::{self, Pem, Unpaired},
};
use crate::{
    env::{self, Environment, Rejected, allowed, milliseconds, timeout, whole_number},
    error::{Error, LogLevel},
    resource::{self, Sources, resource},
    value::KeyValue,
};

const MIB: usize = 1024 * 1024;

const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(60);
const DEFAULT_IDLE_CONNECTIONS: usize = 16;
const DEFAULT_MEMORY: usize = 64 * MIB;
/// More would compete with the program for its CPUs; who wants more says so.
const DEFAULT_WORKERS: RangeInclusive<usize> = 1..=4;

const SPANS: RangeInclusive<usize> = 1..=usize::MAX;
/// The largest request a receiver has to take (OTLPV-15).
const BATCH_BYTES: RangeInclusive<usize> = 1..=64 * MIB;
const WORKERS: RangeInclusive<usize> = 1..=64;
const MEMORY: RangeInclusive<usize> = MIB..=usize::MAX;
const SPOOL_BYTES: RangeInclusive<usize> = 1..=usize::MAX;
/// Zero would keep a worker spinning.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);
/// Added to any point in time, this overflows on no platform.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Every setting, complete and valid. Its `Debug` shows no header value and no user information.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Nothing is recorded or sent (SDKV-01, SDKV-11).
    pub(crate) disabled: bool,
    pub(crate) log_level: LogLevel,
    pub(crate) endpoint: Endpoint,
    /// Nobody said where to send, or not in a usable way.
    pub(crate) endpoint_is_default: bool,
    /// Names are unique; `Authorization` from the URL's user information is among them.
    pub(crate) headers: Headers,
    pub(crate) compression: Compression,
    pub(crate) tls: Tls,
    /// One absolute limit for one batch, all attempts included.
    pub(crate) export_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// How long an idle connection is kept; zero keeps none.
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) max_idle_connections: usize,
    pub(crate) batch: BatchConfig,
    pub(crate) worker_count: usize,
    /// Bytes.
    pub(crate) max_memory_usage: usize,
    pub(crate) drop_strategy: DropStrategy,
    pub(crate) exit_budget: ExitBudget,
    pub(crate) retry: RetryConfig,
    pub(crate) spool: SpoolConfig,
    /// Keys are unique and not empty.
    pub(crate) resource: Vec<KeyValue<'static>>,
}

impl Settings {
    /// Decides every setting, and tells what in the environment could not be used: at most one warning per variable,
    /// without header values and user information.
    pub(crate) fn resolve(options: Options, environment: Environment) -> Result<(Self, Vec<String>), Error> {
        let mut choose = Chooser { environment: &environment, warnings: Vec::new() };

        let disabled = choose.one(None, env::SDK_DISABLED, env::boolean, false);
        let exporters = [("otlp", TracesExporter::Otlp), ("none", TracesExporter::None)];
        let exporter =
            choose.one(None, env::TRACES_EXPORTER, |text| env::choice(text, &exporters), TracesExporter::Otlp);
        let disabled = disabled || exporter == TracesExporter::None;
        let log_level = choose.one(options.log_level, env::LOG_LEVEL, env::log_level, LogLevel::default());

        let (endpoint, source) = choose.endpoint(options.endpoint, options.traces_endpoint)?;
        let endpoint_is_default = source == Source::Default;
        let headers = choose.headers(headers::from_code(options.headers)?, &endpoint);
        if let Some(missing) = options.compression.filter(|compression| !compression.is_compiled_in()) {
            let allowed = format!("must be compiled in: turn on the cargo feature `{}` of otlp", missing.name());
            return Err(Error::config("with_compression", format!("{missing:?}"), allowed));
        }
        let compression = choose.signal(
            options.compression,
            [env::TRACES_COMPRESSION, env::COMPRESSION],
            compression,
            Compression::default(),
        );
        let tls = choose.tls(options.certificate, options.client_certificate)?;

        let request_timeout = choose.signal(
            positive("with_request_timeout", options.request_timeout)?,
            [env::TRACES_TIMEOUT, env::TIMEOUT],
            timeout,
            DEFAULT_EXPORT_TIMEOUT,
        );
        let bsp_timeout = choose.one(None, env::BSP_EXPORT_TIMEOUT, timeout, request_timeout);
        let connect_timeout = positive("with_connect_timeout", options.connect_timeout)?;

        let worker_count = choose.one(
            within("with_worker_count", options.worker_count, WORKERS)?,
            env::WORKERS,
            |text| whole_number(text, WORKERS),
            environment.cpus.clamp(*DEFAULT_WORKERS.start(), *DEFAULT_WORKERS.end()),
        );
        let max_memory_usage = choose.one(
            within("with_max_memory_usage", options.max_memory_usage, MEMORY)?,
            env::MAX_MEMORY_USAGE,
            |text| whole_number(text, MEMORY),
            DEFAULT_MEMORY,
        );
        let batch = choose.batch(options.batch, max_memory_usage)?;
        if let Some(DropStrategy::Block(timeout)) = options.drop_strategy {
            positive("with_drop_strategy", Some(timeout))?;
        }
        let drop_strategy =
            choose.one(options.drop_strategy, env::DROP_STRATEGY, drop_strategy, DropStrategy::default());
        let exit_budget = choose.exit_budget(options.exit_budget)?;
        let retry = options.retry.unwrap_or_default().checked()?;
        let spool = choose.spool(options.spool)?;

        let attributes = choose.text(env::RESOURCE_ATTRIBUTES, resource_attributes);
        let environment_service_name = choose.text(env::SERVICE_NAME, |text| Ok(text.to_owned()));
        if options.service_name.as_deref() == Some("") {
            return Err(Error::config("with_service_name", "\"\"", "must not be empty"));
        }
        let warnings = choose.warnings;
        let resource = resource(Sources {
            executable: environment.executable,
            environment: attributes.unwrap_or_default(),
            environment_service_name,
            code: options.resource_attributes,
            service_name: options.service_name,
            service_version: options.service_version,
        });

        let settings = Self {
            disabled,
            log_level,
            endpoint,
            endpoint_is_default,
            headers,
            compression,
            tls,
            export_timeout: request_timeout.min(bsp_timeout).min(LONGEST),
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            keep_alive_timeout: options.keep_alive_timeout.unwrap_or(DEFAULT_KEEP_ALIVE).min(LONGEST),
            max_idle_connections: options.max_idle_connections.unwrap_or(DEFAULT_IDLE_CONNECTIONS),
            batch,
            worker_count,
            max_memory_usage,
            drop_strategy: match drop_strategy {
                DropStrategy::Block(timeout) => DropStrategy::Block(timeout.min(LONGEST)),
                other => other,
            },
            exit_budget,
            retry,
            spool,
            resource,
        };
        Ok((settings, warnings))
    }
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Code,
    Variable(&'static str),
    Default,
}

/// Chooses among the sources of each setting and collects what there is to say about it.
struct Chooser<'a> {
    environment: &'a Environment,
    warnings: Vec<String>,
}

impl Chooser<'_> {
    /// Takes the first usable value: code, the variables in their order, the default. Each variable is read even if
    /// another source wins, so that a bad one is always told.
    fn value<T: fmt::Debug>(
        &mut self,
        code: Option<T>,
        variables: &[&'static str],
        read: impl Fn(&'static str, &str) -> Result<T, Rejected>,
        default: T,
    ) -> (T, Source) {
        let mut chosen = code.map(|value| (value, Source::Code));
        let mut rejected = Vec::new();
        for &name in variables {
            match self.environment.get(name).map(|text| read(name, text?)) {
                None => {}
                Some(Err(why)) => rejected.push((name, why)),
                Some(Ok(value)) => chosen = chosen.or(Some((value, Source::Variable(name)))),
            }
        }
        let chosen = chosen.unwrap_or((default, Source::Default));
        self.warnings.extend(
            rejected.into_iter().map(|(name, why)| format!("{name}={}: {}; using {:?}", why.value, why.must, chosen.0)),
        );
        chosen
    }

    /// A setting with one variable.
    fn one<T: fmt::Debug>(
        &mut self,
        code: Option<T>,
        variable: &'static str,
        read: impl Fn(&str) -> Result<T, Rejected>,
        default: T,
    ) -> T {
        self.value(code, &[variable], |_, text| read(text), default).0
    }

    /// A setting with a variable of the signal and a general one (OTLPV-01).
    fn signal<T: fmt::Debug>(
        &mut self,
        code: Option<T>,
        variables: [&'static str; 2],
        read: impl Fn(&str) -> Result<T, Rejected>,
        default: T,
    ) -> T {
        self.value(code, &variables, |_, text| read(text), default).0
    }

    /// What a variable adds by itself; an unusable one adds nothing.
    fn text<T>(&mut self, variable: &'static str, read: impl Fn(&str) -> Result<T, Rejected>) -> Option<T> {
        let value = self.environment.get(variable)?.and_then(read);
        let tell = |why: &Rejected| format!("{variable}={}: {}; using nothing of it", why.value, why.must);
        value.inspect_err(|why| self.warnings.push(tell(why))).ok()
    }

    fn endpoint(&mut self, base: Option<String>, traces: Option<String>) -> Result<(Endpoint, Source), Error> {
        let in_code = |knob, text: Option<String>| -> Result<Option<Endpoint>, Error> {
            let Some(text) = text else { return Ok(None) };
            let parsed = Endpoint::parse(&text);
            parsed.map(Some).map_err(|must| {
                let shown = Rejected::new(&endpoint::redacted(&text), must);
                Error::config(knob, shown.value, shown.must)
            })
        };
        let traces = in_code("with_traces_endpoint", traces)?;
        let base = in_code("with_endpoint", base)?.map(|base| {
            if !base.has_traces_path() {
                return base.with_traces_path();
            }
            if traces.is_none() {
                self.warnings.push(format!(
                    "with_endpoint = {base}: is a base URL and should not end in /v1/traces; using it as it is \
                     (with_traces_endpoint takes whole URLs)"
                ));
            }
            base
        });
        let read = |name, text: &str| {
            let text = text.trim();
            let parsed = Endpoint::parse(text).map_err(|must| Rejected::new(&endpoint::redacted(text), must))?;
            Ok(if name == env::ENDPOINT { parsed.with_traces_path() } else { parsed })
        };
        let default = Endpoint::parse(DEFAULT_ENDPOINT).map_err(|must| Error::config("with_endpoint", "", must))?;
        let (endpoint, source) = self.value(traces.or(base), &[env::TRACES_ENDPOINT, env::ENDPOINT], read, default);
        if source == Source::Variable(env::ENDPOINT) && endpoint.to_string().ends_with("/v1/traces/v1/traces") {
            self.warnings.push(format!(
                "{}: is a base URL and should not end in /v1/traces; using {endpoint} ({} takes whole URLs)",
                env::ENDPOINT,
                env::TRACES_ENDPOINT
            ));
        }
        Ok((endpoint, source))
    }

    /// The signal's variable replaces the general one; code and the URL's user information add to the list.
    fn headers(&mut self, code: Headers, endpoint: &Endpoint) -> Headers {
        let mut chosen: Option<Headers> = None;
        for name in [env::TRACES_HEADERS, env::HEADERS] {
            if let Some((headers, unusable)) = self.text(name, |text| Ok(headers::parse_list(text))) {
                self.warnings.extend(unusable_entries(name, &unusable));
                // A list without a usable entry still replaces the general one: credentials for one receiver must
                // not go to another because of a typing error.
                chosen.get_or_insert(headers);
            }
        }
        let mut headers = chosen.unwrap_or_default();
        for (name, value) in code {
            headers::set(&mut headers, name, value);
        }
        if let Some(authorization) = endpoint.authorization()
            && !headers.iter().any(|(name, _)| name == AUTHORIZATION)
        {
            headers.push((AUTHORIZATION, authorization.clone()));
        }
        headers
    }

    /// The files of TLS. A client certificate and its key count only together (OTLPV-13).
    fn tls(&mut self, roots: Option<PathBuf>, pair: Option<(PathBuf, PathBuf)>) -> Result<Tls, Error> {
        let knob = "with_client_certificate";
        let (chain, key) = pair.unzip();
        let roots = tls::in_code("with_certificate", roots.as_ref(), tls::roots)?;
        let chain = tls::in_code(knob, chain.as_ref(), tls::chain)?;
        let key = tls::in_code(knob, key.as_ref(), tls::key)?;

        let variables = [env::TRACES_CERTIFICATE, env::CERTIFICATE];
        let roots = self.signal(roots, variables, |text| tls::roots(text.as_ref()), Pem::default_roots());
        let variables = [env::TRACES_CLIENT_CERTIFICATE, env::CLIENT_CERTIFICATE];
        let none = Pem::Without(tls::NO_IDENTITY);
        let (chain, chain_source) = self.value(chain, &variables, |_, text| tls::chain(text.as_ref()), none);
        let variables = [env::TRACES_CLIENT_KEY, env::CLIENT_KEY];
        let none = Pem::Without(tls::NO_IDENTITY);
        let (key, key_source) = self.value(key, &variables, |_, text| tls::key(text.as_ref()), none);

        let (source, shown, must) = match tls::pair(&chain, &key) {
            Ok(identity) => return Ok(Tls { roots, identity }),
            Err(Unpaired::Certificate(must)) => (chain_source, chain.shown(), must),
            Err(Unpaired::Key(must)) => (key_source, key.shown(), must),
        };
        let Source::Variable(name) = source else { return Err(Error::config(knob, shown, must)) };
        self.warnings.push(format!("{name}={shown}: {must}; using {}", tls::NO_IDENTITY));
        Ok(Tls { roots, identity: None })
    }

    fn batch(&mut self, code: Option<BatchConfig>, max_memory_usage: usize) -> Result<BatchConfig, Error> {
        let default = BatchConfig::default();
        if let Some(batch) = &code {
            within("with_batch_config.max_batch_size", Some(batch.max_batch_size), SPANS)?;
            within("with_batch_config.max_batch_bytes", Some(batch.max_batch_bytes), BATCH_BYTES)?;
            within("with_batch_config.max_queue_size", Some(batch.max_queue_size), SPANS)?;
            positive("with_batch_config.batch_timeout", Some(batch.batch_timeout))?;
            // A size that nobody chose follows the queue.
            if batch.max_batch_size > batch.max_queue_size && batch.max_batch_size != default.max_batch_size {
                let allowed = format!("must be at most max_queue_size, which is {}", batch.max_queue_size);
                return Err(Error::config("with_batch_config.max_batch_size", batch.max_batch_size, allowed));
            }
        }
        let batch_timeout = code.as_ref().map(|batch| batch.batch_timeout);
        let batch_timeout = self.one(
            batch_timeout,
            env::BSP_SCHEDULE_DELAY,
            |text| Ok(milliseconds(text)?.max(SHORTEST_DELAY)),
            default.batch_timeout,
        );
        let spans = |_, text: &str| whole_number(text, SPANS).map(Spans);
        let max_queue_size = code.as_ref().map(|batch| Spans(batch.max_queue_size));
        let (Spans(max_queue_size), _) =
            self.value(max_queue_size, &[env::BSP_MAX_QUEUE_SIZE], spans, Spans(default.max_queue_size));
        let max_batch_size = code.as_ref().map(|batch| Spans(batch.max_batch_size.min(max_queue_size)));
        let (Spans(mut max_batch_size), source) = self.value(
            max_batch_size,
            &[env::BSP_MAX_EXPORT_BATCH_SIZE],
            spans,
            Spans(default.max_batch_size.min(max_queue_size)),
        );
        if max_batch_size > max_queue_size {
            if let Source::Variable(name) = source {
                self.warnings.push(format!(
                    "{name}=\"{max_batch_size}\": must be at most the queue size, which is {max_queue_size}; \
                     using {max_queue_size}"
                ));
            }
            max_batch_size = max_queue_size;
        }
        let mut max_batch_bytes = code.as_ref().map(|batch| batch.max_batch_bytes).unwrap_or(default.max_batch_bytes);
        if max_batch_bytes > max_memory_usage {
            self.warnings.push(format!(
                "with_batch_config.max_batch_bytes = {max_batch_bytes}: is more than the memory bound; \
                 using {max_memory_usage}"
            ));
            max_batch_bytes = max_memory_usage;
        }
        let batch_timeout = batch_timeout.min(LONGEST);
        Ok(BatchConfig { max_batch_size, max_batch_bytes, batch_timeout, max_queue_size })
    }

    fn exit_budget(&mut self, code: Option<ExitBudget>) -> Result<ExitBudget, Error> {
        let default = ExitBudget::default();
        let total = positive("with_exit_budget.total", code.as_ref().map(|budget| budget.total))?;
        let stall = positive("with_exit_budget.stall", code.as_ref().map(|budget| budget.stall))?;
        let total = self.one(total, env::EXIT_TIMEOUT, timeout, default.total).min(LONGEST);
        let stall = self.one(stall, env::EXIT_STALL_TIMEOUT, timeout, default.stall.min(total)).min(total);
        Ok(ExitBudget { stall, total })
    }

    fn spool(&mut self, code: Option<SpoolConfig>) -> Result<SpoolConfig, Error> {
        if let Some(spool) = &code {
            if spool.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
                return Err(Error::config("with_spool_config.dir", "\"\"", "must not be empty"));
            }
            if spool.max_bytes == 0 {
                return Err(Error::config("with_spool_config.max_bytes", 0, allowed(&SPOOL_BYTES)));
            }
        }
        let default = SpoolConfig::default();
        let code = code.as_ref();
        let path = |text: &str| Ok(Some(text.into()));
        let bytes = |text: &str| whole_number(text, SPOOL_BYTES).map(|bytes| bytes as u64);
        Ok(SpoolConfig {
            dir: self.one(code.map(|spool| spool.dir.clone()), env::SPOOL_DIR, path, None),
            max_bytes: self.one(code.map(|spool| spool.max_bytes), env::SPOOL_MAX_BYTES, bytes, default.max_bytes),
            max_age: self.one(code.map(|spool| spool.max_age), env::SPOOL_MAX_AGE, milliseconds, default.max_age),
            fsync: self.one(code.map(|spool| spool.fsync), env::SPOOL_FSYNC, env::boolean, default.fsync),
        })
    }
}

fn compression(text: &str) -> Result<Compression, Rejected> {
    let chosen = env::choice(text, &Compression::ALL.map(|compression| (compression.name(), compression)))?;
    if chosen.is_compiled_in() {
        return Ok(chosen);
    }
    Err(Rejected::new(text, format!("must be compiled in, with the cargo feature `{}` of otlp", chosen.name())))
}

fn drop_strategy(text: &str) -> Result<DropStrategy, Rejected> {
    let names = [("newest_first", DropStrategy::NewestFirst), ("oldest_first", DropStrategy::OldestFirst)];
    if let Some((name, timeout)) = text.split_once(':')
        && name.trim().eq_ignore_ascii_case("block")
    {
        let timeout = milliseconds(timeout).ok().filter(|timeout| !timeout.is_zero());
        return timeout
            .map(DropStrategy::Block)
            .ok_or_else(|| Rejected::new(text, "must be block: and a whole number of milliseconds, at least 1"));
    }
    env::choice(text, &names).map_err(|_| Rejected::new(text, "must be newest_first, oldest_first or block:<ms>"))
}

/// Where `OTEL_TRACES_EXPORTER` sends spans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TracesExporter {
    Otlp,
    None,
}

/// A number of spans, which says so where there is no limit.
struct Spans(usize);

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            usize::MAX => f.write_str("no limit"),
            spans => spans.fmt(f),
        }
    }
}

fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, Rejected> {
    resource::parse_attributes(text).map_err(|must| Rejected::new(text, must))
}

/// The one warning about a header list; it shows nothing of the list.
fn unusable_entries(name: &str, unusable: &[usize]) -> Option<String> {
    let places: Vec<_> = unusable.iter().map(ToString::to_string).collect();
    let (entries, are) = match unusable {
        [] => return None,
        [_] => ("entry", "is"),
        _ => ("entries", "are"),
    };
    Some(format!(
        "{name}: {entries} {} {are} not name=value with a usable name and a percent-encoded value; \
         using the list without (values are never shown)",
        places.join(", ")
    ))
}

fn within(knob: &'static str, value: Option<usize>, range: RangeInclusive<usize>) -> Result<Option<usize>, Error> {
    match value {
        Some(value) if !range.contains(&value) => Err(Error::config(knob, value, allowed(&range))),
        value => Ok(value),
    }
}

pub(super) fn positive(knob: &'static str, value: Option<Duration>) -> Result<Option<Duration>, Error> {
    match value {
        Some(Duration::ZERO) => Err(Error::config(knob, "0s", "must be longer than zero")),
        value => Ok(value.map(|value| value.min(LONGEST))),
    }
}

#[cfg(test)]
mod tests;
