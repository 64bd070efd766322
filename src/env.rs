//! The environment: which variables there are, and how their texts are parsed. No other module reads the process's
//! environment or its name.
//!
//! Parsing is pure over `(name, value)` pairs. [`Settings::resolve`](crate::config::Settings::resolve) decides what a
//! value means for the client.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

pub(crate) use crate::error::{ParseError as Rejected, choice};

mod misspelt;

/// The target the program was compiled for.
pub(crate) use std::env::consts::{ARCH, OS};

/// An environment variable that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variable {
    /// The variable's name, case-sensitive.
    pub name: &'static str,
    /// The value that counts if the variable is unset or empty, or a description in parentheses.
    pub default: &'static str,
    /// The unit or the format of its value.
    pub unit: &'static str,
    /// What the variable sets.
    pub meaning: &'static str,
}

pub(crate) const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
pub(crate) const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
pub(crate) const LOG_LEVEL: &str = "OTEL_LOG_LEVEL";
pub(crate) const PROPAGATORS: &str = "OTEL_PROPAGATORS";
pub(crate) const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
pub(crate) const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
pub(crate) const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
pub(crate) const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
pub(crate) const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
pub(crate) const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
pub(crate) const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
pub(crate) const INSECURE: &str = "OTEL_EXPORTER_OTLP_INSECURE";
pub(crate) const TRACES_INSECURE: &str = "OTEL_EXPORTER_OTLP_TRACES_INSECURE";
pub(crate) const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
pub(crate) const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
pub(crate) const COMPRESSION: &str = "OTEL_EXPORTER_OTLP_COMPRESSION";
pub(crate) const TRACES_COMPRESSION: &str = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION";
pub(crate) const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
pub(crate) const TRACES_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
pub(crate) const CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
pub(crate) const TRACES_CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE";
pub(crate) const CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
pub(crate) const TRACES_CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY";
pub(crate) const TRACES_SAMPLER: &str = "OTEL_TRACES_SAMPLER";
pub(crate) const TRACES_SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
pub(crate) const SPAN_ATTRIBUTE_COUNT_LIMIT: &str = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT";
pub(crate) const ATTRIBUTE_COUNT_LIMIT: &str = "OTEL_ATTRIBUTE_COUNT_LIMIT";
pub(crate) const SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: &str = "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT";
pub(crate) const ATTRIBUTE_VALUE_LENGTH_LIMIT: &str = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";
pub(crate) const SPAN_EVENT_COUNT_LIMIT: &str = "OTEL_SPAN_EVENT_COUNT_LIMIT";
pub(crate) const SPAN_LINK_COUNT_LIMIT: &str = "OTEL_SPAN_LINK_COUNT_LIMIT";
pub(crate) const EVENT_ATTRIBUTE_COUNT_LIMIT: &str = "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT";
pub(crate) const LINK_ATTRIBUTE_COUNT_LIMIT: &str = "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT";
pub(crate) const BSP_SCHEDULE_DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
pub(crate) const BSP_EXPORT_TIMEOUT: &str = "OTEL_BSP_EXPORT_TIMEOUT";
pub(crate) const BSP_MAX_QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
pub(crate) const BSP_MAX_EXPORT_BATCH_SIZE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
pub(crate) const EXIT_STALL_TIMEOUT: &str = "OTLP_EXIT_STALL_TIMEOUT";
pub(crate) const EXIT_TIMEOUT: &str = "OTLP_EXIT_TIMEOUT";
pub(crate) const WORKERS: &str = "OTLP_WORKERS";
pub(crate) const MAX_MEMORY_USAGE: &str = "OTLP_MAX_MEMORY_USAGE";
pub(crate) const DROP_STRATEGY: &str = "OTLP_DROP_STRATEGY";
pub(crate) const SPOOL_DIR: &str = "OTLP_SPOOL_DIR";
pub(crate) const SPOOL_MAX_BYTES: &str = "OTLP_SPOOL_MAX_BYTES";
pub(crate) const SPOOL_MAX_AGE: &str = "OTLP_SPOOL_MAX_AGE";
pub(crate) const SPOOL_FSYNC: &str = "OTLP_SPOOL_FSYNC";
pub(crate) const RESOURCE_DETECTORS: &str = "OTLP_RESOURCE_DETECTORS";

/// Variables that name a configuration file, which would replace all others. They are not supported, and setting one is
/// reported.
pub(crate) const CONFIG_FILES: [&str; 2] = ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"];

/// The variables that name a proxy; they are not defined by this crate.
pub(crate) const HTTP_PROXY: &str = "HTTP_PROXY";
pub(crate) const HTTP_PROXY_LOWER: &str = "http_proxy";
pub(crate) const HTTPS_PROXY: &str = "HTTPS_PROXY";
pub(crate) const HTTPS_PROXY_LOWER: &str = "https_proxy";
pub(crate) const ALL_PROXY: &str = "ALL_PROXY";
pub(crate) const ALL_PROXY_LOWER: &str = "all_proxy";
pub(crate) const NO_PROXY: &str = "NO_PROXY";
pub(crate) const NO_PROXY_LOWER: &str = "no_proxy";
/// Set in every process that serves a web request as a CGI program.
pub(crate) const REQUEST_METHOD: &str = "REQUEST_METHOD";

const ON_THE_WAY: [&str; 9] = [
    HTTP_PROXY,
    HTTP_PROXY_LOWER,
    HTTPS_PROXY,
    HTTPS_PROXY_LOWER,
    ALL_PROXY,
    ALL_PROXY_LOWER,
    NO_PROXY,
    NO_PROXY_LOWER,
    REQUEST_METHOD,
];

/// Every environment variable that configures something; the trace context of a process is in others, see
/// [`propagation`](crate::propagation). A variable that is set to the empty string counts as unset. Each has a
/// counterpart in code, which takes precedence: a setter of [`ClientBuilder`](crate::ClientBuilder), or
/// [`Propagators::set_global`](crate::propagation::Propagators::set_global).
///
/// Other variables of the specification: `OTEL_CONFIG_FILE` causes a warning, because configuration files are not
/// supported. `OTEL_ENTITIES` and the variables for metrics and logs are not read.
///
/// The proxy is named by the usual variables, which are not defined by this crate: `http_proxy` or `https_proxy` by the
/// scheme of the receiver's URL, then `all_proxy`, each in lower case before upper case; `no_proxy` exempts hosts.
///
/// Another name that begins with `OTLP_`, or that differs from these by a typo or by its case, causes one warning;
/// there are at most eight. Values of such variables are not read.
#[rustfmt::skip] // A table reads better in rows.
pub const VARIABLES: &[Variable] = &[
    row(SDK_DISABLED, "false", "true or false", "true records and sends nothing"),
    row(TRACES_EXPORTER, "otlp", "otlp or none", "none sends nothing, and records only for span processors"),
    row(LOG_LEVEL, "info", "none, off, error, warn, info or debug", "how much the client says about itself on stderr"),
    row(PROPAGATORS, "tracecontext,baggage", "tracecontext,baggage or none", "which context is taken from requests and environments, and passed on"),
    row(SERVICE_NAME, "(unknown_service:<executable>)", "text", "the resource attribute service.name"),
    row(RESOURCE_ATTRIBUTES, "(none)", "key=value,…, percent-encoded", "attributes of the resource; one error discards them all"),
    row(ENDPOINT, "http://localhost:4318", "URL", "the receiver's base URL, to which /v1/traces is appended; over gRPC nothing is, and the default is http://localhost:4317"),
    row(TRACES_ENDPOINT, "(from OTEL_EXPORTER_OTLP_ENDPOINT)", "URL", "the receiver's URL, used as it is"),
    row(PROTOCOL, "http/protobuf", "http/protobuf or grpc", "how requests are carried; http/json is not supported"),
    row(TRACES_PROTOCOL, "(from OTEL_EXPORTER_OTLP_PROTOCOL)", "http/protobuf or grpc", "how requests are carried"),
    row(INSECURE, "false", "true or false", "true speaks without TLS to a gRPC endpoint that has no scheme"),
    row(TRACES_INSECURE, "(from OTEL_EXPORTER_OTLP_INSECURE)", "true or false", "true speaks without TLS to a gRPC endpoint that has no scheme"),
    row(HEADERS, "(none)", "name=value,…, values percent-encoded", "headers of every request"),
    row(TRACES_HEADERS, "(from OTEL_EXPORTER_OTLP_HEADERS)", "name=value,…, values percent-encoded", "headers of every request, instead of OTEL_EXPORTER_OTLP_HEADERS"),
    row(TIMEOUT, "10000", "ms, 0 for no limit (one hour)", "how long one batch may take, all attempts included"),
    row(TRACES_TIMEOUT, "(from OTEL_EXPORTER_OTLP_TIMEOUT)", "ms, 0 for no limit (one hour)", "how long one batch may take, all attempts included"),
    row(COMPRESSION, "gzip", "gzip, none, zstd or brotli", "how request bodies are compressed"),
    row(TRACES_COMPRESSION, "(from OTEL_EXPORTER_OTLP_COMPRESSION)", "gzip, none, zstd or brotli", "how request bodies are compressed"),
    row(CERTIFICATE, "(the bundled roots)", "PEM or DER file", "the only certificates the receiver's may be derived from"),
    row(TRACES_CERTIFICATE, "(from OTEL_EXPORTER_OTLP_CERTIFICATE)", "PEM or DER file", "the only certificates the receiver's may be derived from"),
    row(CLIENT_CERTIFICATE, "(none)", "PEM or DER file", "the certificate to show to a receiver that asks, and those that signed it"),
    row(TRACES_CLIENT_CERTIFICATE, "(from OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE)", "PEM or DER file", "the certificate to show to a receiver that asks, and those that signed it"),
    row(CLIENT_KEY, "(none)", "PEM or DER file", "the key of the client certificate"),
    row(TRACES_CLIENT_KEY, "(from OTEL_EXPORTER_OTLP_CLIENT_KEY)", "PEM or DER file", "the key of the client certificate"),
    row(TRACES_SAMPLER, "parentbased_always_on", "[parentbased_]always_on, [parentbased_]always_off or [parentbased_]traceidratio", "which traces are recorded; parentbased_ does as the parent did, where there is one"),
    row(TRACES_SAMPLER_ARG, "1.0", "from 0 to 1", "the share of traces that traceidratio keeps"),
    row(SPAN_ATTRIBUTE_COUNT_LIMIT, "(from OTEL_ATTRIBUTE_COUNT_LIMIT)", "attributes", "how many attributes of a span are kept"),
    row(ATTRIBUTE_COUNT_LIMIT, "128", "attributes", "how many attributes of a span are kept"),
    row(SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, "(from OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT)", "characters, or bytes of a byte array", "how much of each attribute's text is kept"),
    row(ATTRIBUTE_VALUE_LENGTH_LIMIT, "(no limit)", "characters, or bytes of a byte array", "how much of each attribute's text is kept"),
    row(SPAN_EVENT_COUNT_LIMIT, "128", "events", "how many events of a span are kept"),
    row(SPAN_LINK_COUNT_LIMIT, "128", "links", "how many links of a span are kept"),
    row(EVENT_ATTRIBUTE_COUNT_LIMIT, "128", "attributes", "how many attributes of an event are kept"),
    row(LINK_ATTRIBUTE_COUNT_LIMIT, "128", "attributes", "how many attributes of a link are kept"),
    row(BSP_SCHEDULE_DELAY, "5000", "ms, 0 for at once", "how long an ended span waits for its batch to fill"),
    row(BSP_EXPORT_TIMEOUT, "(none)", "ms, 0 for no limit (one hour)", "lowers the time one batch may take, where it is shorter"),
    row(BSP_MAX_QUEUE_SIZE, "(bounded by OTLP_MAX_MEMORY_USAGE)", "spans, at least 1", "how many ended spans may wait"),
    row(BSP_MAX_EXPORT_BATCH_SIZE, "4096", "spans, at least 1", "the most spans of one request; a batch is ready at 512 spans, or at so many where they are fewer"),
    row(EXIT_STALL_TIMEOUT, "1000", "ms, 0 for no limit (one hour)", "how long the exit waits without progress"),
    row(EXIT_TIMEOUT, "10000", "ms, 0 for no limit (one hour)", "how long the exit waits in all"),
    row(WORKERS, "(number of CPUs, at most 4)", "threads, 1 to 64", "the most threads that send"),
    row(MAX_MEMORY_USAGE, "67108864", "bytes, at least 1048576", "the hard bound on what the client holds"),
    row(DROP_STRATEGY, "newest_first", "newest_first, oldest_first or block:<ms>", "what is dropped when there is no room, or how long ending a span waits for some"),
    row(SPOOL_DIR, "(none: no spool)", "path", "the directory for what could not be delivered in time, to be sent later"),
    row(SPOOL_MAX_BYTES, "67108864", "bytes, at least 1", "the most that the spool directory may hold"),
    row(SPOOL_MAX_AGE, "604800000", "ms, 0 for no limit", "how long spans may wait in the spool"),
    row(SPOOL_FSYNC, "false", "true or false", "true forces each spooled file to the disk"),
    row(RESOURCE_DETECTORS, "serviceinstance,process,host,os", "list of serviceinstance, process, host, hostid and os; all or none", "what the resource tells without being given it"),
];

const fn row(name: &'static str, default: &'static str, unit: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, unit, meaning }
}

/// The names that are read.
fn names() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|variable| variable.name).chain(CONFIG_FILES).chain(ON_THE_WAY)
}

/// What a client reads from its process: the variables of [`VARIABLES`] that are set and not empty (ENV-01), and facts
/// about the process itself.
#[derive(Clone)]
pub(crate) struct Environment {
    values: BTreeMap<&'static str, OsString>,
    /// The file name of the program, if known.
    pub(crate) executable: Option<String>,
    /// The number of CPUs this process may use; 0 if unknown. A function, because reading control groups takes 0.1 ms,
    /// which a disabled client should not cost.
    pub(crate) cpus: fn() -> usize,
    /// Warnings about names that are not read. A function, because it goes through the whole environment, which a
    /// disabled client should not cost.
    pub(crate) misspelt: fn() -> Vec<String>,
}

impl Default for Environment {
    fn default() -> Self {
        Self { values: BTreeMap::new(), executable: None, cpus: || 0, misspelt: Vec::new }
    }
}

impl Environment {
    /// The current environment of this process.
    pub(crate) fn from_process() -> Self {
        // Read one by one: the whole environment may be large, and its names are case-insensitive on some platforms.
        let pairs = names().filter_map(|name| Some((name, env::var_os(name)?)));
        Self { executable: executable(), cpus, misspelt, ..Self::from_pairs(pairs) }
    }

    /// An environment of the given pairs. Among equal names the last counts; unknown names are ignored.
    pub(crate) fn from_pairs<N: AsRef<OsStr>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            if let Some(known) = names().find(|known| name.as_ref() == *known) {
                values.insert(known, value.into());
            }
        }
        values.retain(|_, value| !value.is_empty());
        Self { values, ..Self::default() }
    }

    /// A variable's text, `None` if it is unset, or an error if it is not text at all.
    pub(crate) fn get(&self, name: &str) -> Option<Result<&str, Rejected>> {
        debug_assert!(names().any(|known| known == name), "{name} is missing in VARIABLES");
        let value = self.values.get(name)?;
        Some(value.to_str().ok_or_else(|| Rejected::hidden("must be UTF-8")))
    }
}

/// Shows no values: they may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// The number of CPUs this process may use, by its affinity and its control groups; 0 if unknown.
fn cpus() -> usize {
    thread::available_parallelism().map_or(0, usize::from)
}

/// Warnings about the names in the environment of this process. Names that are not text are no typos.
fn misspelt() -> Vec<String> {
    let set = variables().filter(|(_, value)| !value.is_empty());
    let names: Vec<_> = set.filter_map(|(name, _)| name.into_string().ok()).collect();
    misspelt::warnings(names.iter().map(String::as_str))
}

/// The raw value of a variable that is not a setting.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// Every variable of the environment.
pub(crate) fn variables() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os()
}

/// The name of this machine.
#[cfg(unix)]
pub(crate) fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

#[cfg(not(unix))]
pub(crate) fn host_name() -> Option<String> {
    env::var("COMPUTERNAME").ok()
}

/// The base name of the target of `/proc/self/exe` or its equivalent, else of the first argument.
fn executable() -> Option<String> {
    let path = env::current_exe().ok().or_else(|| env::args_os().next().map(PathBuf::from))?;
    file_name(&path)
}

fn file_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    // Linux appends this after the file was replaced or removed, for example by an upgrade.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Only `true`, in any case, is true (ENV-02).
pub(crate) fn boolean(text: &str) -> Result<bool, Rejected> {
    choice(text, &[("true", true), ("false", false)])
}

/// How many unusable names of a list are reported.
const TOLD: usize = 4;

/// Parses a comma-separated list of names; also returns what to report about it. In a list with unusable names the
/// others count, and `none` among others is unusable. `None` if nothing is left (ENV-07, ENV-08). `known` parses one
/// name, `unsupported` are names that other implementations know, and `must` says what the list must be.
pub(crate) fn list<T>(
    text: &str,
    must: &str,
    unsupported: &[&str],
    known: impl Fn(&str) -> Option<T>,
) -> (Option<Vec<T>>, Option<Rejected>) {
    let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let is_none = |name: &str| name.eq_ignore_ascii_case("none");
    if let [name] = names[..]
        && is_none(name)
    {
        return (Some(Vec::new()), None);
    }
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for name in names {
        match known(name) {
            Some(known) => usable.push(known),
            None => unusable.push(name),
        }
    }
    let usable = Some(usable).filter(|list| !list.is_empty());
    if usable.is_some() && unusable.is_empty() {
        return (usable, None);
    }
    let why = |name: &str| match unsupported.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        true => "is not supported",
        false if is_none(name) => "is not alone",
        false => "is unknown",
    };
    let told = unusable.iter().take(TOLD).map(|name| format!("; {} {}", Rejected::new(name, "").value, why(name)));
    (usable, Some(Rejected::new(text, must.to_owned() + &told.collect::<String>())))
}

/// A whole number within `range`; nothing outside has a private meaning (ENV-03, ENV-04).
pub(crate) fn whole_number(text: &str, range: RangeInclusive<usize>) -> Result<usize, Rejected> {
    let number = text.trim().parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| Rejected::new(text, allowed(&range)))
}

/// A share, from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, Rejected> {
    let share = text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Rejected::new(text, "must be a number from 0 to 1"))
}

/// What a whole number must be, for messages about code and environment.
pub(crate) fn allowed(range: &RangeInclusive<usize>) -> String {
    match (range.start(), range.end()) {
        (least, &usize::MAX) => format!("must be a whole number, at least {least}"),
        (least, most) => format!("must be a whole number from {least} to {most}"),
    }
}

/// A duration in milliseconds, zero included (ENV-05).
pub(crate) fn milliseconds(text: &str) -> Result<Duration, Rejected> {
    let number = text.trim().parse().map(Duration::from_millis);
    number.map_err(|_| Rejected::new(text, "must be a whole number of milliseconds"))
}

/// Used for "no limit": an export must never block for ever.
pub(crate) const NO_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A timeout in milliseconds, where zero means no limit (ENV-05, ENV-06).
pub(crate) fn timeout(text: &str) -> Result<Duration, Rejected> {
    milliseconds(text).map(|timeout| if timeout.is_zero() { NO_LIMIT } else { timeout })
}

/// Decodes `%XX`; every other byte stands for itself, `+` included. `None` where a `%` is not followed by
/// two hexadecimal digits.
pub(crate) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            byte => byte,
        });
    }
    Some(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::LogLevel;

    #[test]
    fn the_table_names_each_variable_once_and_leaves_no_cell_empty() {
        for (at, variable) in VARIABLES.iter().enumerate() {
            assert!(variable.name.starts_with("OTEL_") || variable.name.starts_with("OTLP_"), "{variable:?}");
            assert!(VARIABLES[..at].iter().all(|other| other.name != variable.name), "{variable:?}");
            for cell in [variable.default, variable.unit, variable.meaning] {
                assert!(!cell.is_empty() && !cell.contains('|'), "{variable:?}");
            }
        }
    }

    #[test]
    fn an_empty_variable_is_unset_and_an_unknown_one_is_not_kept() {
        // ENV-01
        let environment = Environment::from_pairs([(TIMEOUT, ""), ("PATH", "/bin"), (WORKERS, "2")]);
        assert_eq!(environment.get(TIMEOUT), None);
        assert_eq!(environment.get(WORKERS), Some(Ok("2")));
        assert_eq!(format!("{environment:?}"), r#"{"OTLP_WORKERS"}"#);
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_rejected_without_being_shown() {
        use std::os::unix::ffi::OsStringExt as _;
        let environment = Environment::from_pairs([(HEADERS, OsString::from_vec(vec![b'a', b'=', 0xFF]))]);
        assert_eq!(environment.get(HEADERS), Some(Err(Rejected::hidden("must be UTF-8"))));
    }

    #[test]
    fn a_boolean_is_true_only_when_it_says_true() {
        // ENV-02
        for text in ["true", "TRUE", "True", " true "] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["false", "FALSE"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["1", "yes", "on", "t", "0", "no", "truthy", " "] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_whole_and_in_range_or_rejected() {
        // ENV-03, ENV-04
        for (text, number) in [("1", 1), (" 64\t", 64), ("0064", 64)] {
            assert_eq!(whole_number(text, 1..=64), Ok(number), "{text}");
        }
        for text in ["0", "65", "-1", "12.5", "1e3", "abc", "1 2", "0x10", "99999999999999999999", " ", "１"] {
            assert!(whole_number(text, 1..=64).is_err(), "{text}");
        }
        assert_eq!(whole_number("2147483647", 1..=usize::MAX), Ok(2_147_483_647));
        assert_eq!(whole_number("65", 1..=64).unwrap_err().must, "must be a whole number from 1 to 64");
    }

    #[test]
    fn durations_are_whole_milliseconds_and_a_timeout_of_zero_is_no_limit() {
        // ENV-05, ENV-06
        assert_eq!(milliseconds("200"), Ok(Duration::from_millis(200)));
        assert_eq!(milliseconds("0"), Ok(Duration::ZERO));
        assert_eq!(timeout("300"), Ok(Duration::from_millis(300)));
        assert_eq!(timeout("0"), Ok(NO_LIMIT));
        for text in ["-5", "5s", "0.5", "18446744073709551616"] {
            assert!(milliseconds(text).is_err() && timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_choice_ignores_case_and_an_unknown_one_is_shown_with_the_known() {
        // ENV-07, ENV-08
        for (text, level) in [("NONE", LogLevel::None), ("off", LogLevel::None), ("Debug", LogLevel::Debug)] {
            assert_eq!(text.parse(), Ok(level));
        }
        let rejected = "banana".parse::<LogLevel>().unwrap_err();
        assert_eq!(rejected.value, r#""banana""#);
        assert_eq!(rejected.must, "must be one of none, off, error, warn, info, debug");
    }

    #[test]
    fn the_program_is_named_by_its_file_even_after_an_upgrade_replaced_it() {
        for (path, name) in [("/usr/bin/tool", "tool"), ("tool", "tool"), ("/usr/bin/tool (deleted)", "tool")] {
            assert_eq!(file_name(Path::new(path)).as_deref(), Some(name));
        }
        assert_eq!(file_name(Path::new("/")), None);
        assert!(executable().is_some());
    }

    #[test]
    fn percent_sequences_decode_and_broken_ones_are_refused() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("a+b", Some(b"a+b")),
            ("%41%2c%2C", Some(b"A,,")),
            ("%E6%97%A5", Some("日".as_bytes())),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%4é", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), expected, "{text}");
        }
    }
}
