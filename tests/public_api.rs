//! The public interface stands in tests/public_api.txt, so that nothing of it changes unseen.

#[path = "support/surface/mod.rs"]
mod surface;

use std::{
    collections::BTreeSet,
    env, fs,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use surface::{Crate, Surface, path_in};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const HEAD: &str = "\
# The public interface, with all features. OTLP_RENEW=1 cargo test --test public_api writes it anew.
# What stands here has a line for each thing that can be named, and for each trait that is implemented.
";

fn baseline() -> PathBuf {
    Path::new(ROOT).join("tests/public_api.txt")
}

/// Read once for all tests.
fn now() -> &'static Surface {
    static NOW: LazyLock<Surface> = LazyLock::new(|| surface::surface(&Crate::read(&Path::new(ROOT).join("src"))));
    &NOW
}

#[test]
fn the_public_interface_is_the_one_that_was_written_down() {
    let lines = &now().lines;
    if env::var_os("OTLP_RENEW").is_some() {
        fs::write(baseline(), format!("{HEAD}{}\n", lines.join("\n"))).unwrap();
    }
    let known = fs::read_to_string(baseline()).unwrap_or_default();
    let known: BTreeSet<_> = known.lines().filter(|line| !line.starts_with("# ")).map(str::to_owned).collect();
    let lines: BTreeSet<_> = lines.iter().cloned().collect();
    let gone = known.difference(&lines).map(|line| format!("- {line}"));
    let new = lines.difference(&known).map(|line| format!("+ {line}"));
    let mut changes: Vec<_> = gone.chain(new).collect();
    // What changed stands beside what it was.
    changes.sort_by_cached_key(|line| (path_in(line).to_owned(), line[2..].to_owned()));
    assert!(
        changes.is_empty(),
        "{}\n\nA line with - breaks programs, and so does one with + for a trait's required item or a struct without \
         #[non_exhaustive]. If it is meant: OTLP_RENEW=1 cargo test --test public_api",
        changes.join("\n")
    );
}

/// What never gets another field or variant, and why.
const COMPLETE: &[(&str, &str)] = &[
    // Literals with `..Default::default()` have to compile in a program: see `otlp::config`.
    ("otlp::BatchConfig", "a configuration"),
    ("otlp::ExitBudget", "a configuration"),
    ("otlp::OtlpConfig", "a configuration"),
    ("otlp::RetryConfig", "a configuration"),
    ("otlp::SpanLimits", "a configuration"),
    ("otlp::SpoolConfig", "a configuration"),
    ("otlp::config::ConnectionPoolConfig", "a configuration"),
    ("otlp::config::MemoryThresholds", "a configuration"),
    ("otlp::config::MonitoringConfig", "a configuration"),
    ("otlp::config::PerformanceConfig", "a configuration"),
    ("otlp::config::ResourceConfig", "a configuration"),
    ("otlp::config::TransportConfig", "a configuration"),
    ("otlp::core::PerformanceTargets", "a configuration"),
    ("otlp::KeyValue", "a key and a value"),
    ("otlp::SpanKind", "what OTLP has; programs map others to it"),
    ("otlp::Status", "what OTLP has"),
    ("otlp::sampling::SamplingDecision", "what the specification has"),
];

#[test]
fn whatever_may_grow_says_so() {
    let surface = now();
    for path in surface.types.keys() {
        let head = surface
            .lines
            .iter()
            .find(|line| path_in(line) == path && (line.contains("pub struct ") || line.contains("pub enum ")));
        let head = head.unwrap_or_else(|| panic!("{path} has no line"));
        let has_fields = || surface.lines.iter().any(|line| line.starts_with(&format!("pub {path}::")));
        let may_grow = head.contains("pub enum ") || has_fields();
        let is_complete = COMPLETE.iter().any(|(complete, _)| complete == path);
        let says_so = head.contains("#[non_exhaustive]");
        assert!(!may_grow || says_so != is_complete, "{head}: non_exhaustive, or in COMPLETE with a reason");
    }
    for (path, _) in COMPLETE {
        assert!(surface.types.contains_key(*path), "{path} is gone");
    }
}

#[test]
fn everything_public_can_be_shown_and_nothing_that_is_returned_is_lost_in_silence() {
    let surface = now();
    let silent: Vec<_> = surface.types.iter().filter(|(_, traits)| !traits.contains("Debug")).collect();
    assert!(silent.is_empty(), "no Debug: {silent:?}");
    assert!(
        surface.idle.is_empty(),
        "they do nothing unless what they answer is used, and are not must_use: {:?}",
        surface.idle
    );
}

/// What every program has without a `use`, and what hides the most where a glob brings it in.
const NAMES_OF_PROGRAMS: &[&str] = &[
    "Box",
    "Clone",
    "Copy",
    "Default",
    "Drop",
    "Duration",
    "Eq",
    "Err",
    "Error",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "Future",
    "Instant",
    "Into",
    "Iterator",
    "None",
    "Ok",
    "Option",
    "Ord",
    "PartialEq",
    "PartialOrd",
    "Read",
    "Result",
    "Send",
    "Some",
    "String",
    "Sync",
    "ToOwned",
    "ToString",
    "TryFrom",
    "TryInto",
    "Vec",
    "Write",
    "alloc",
    "core",
    "drop",
    "env",
    "fmt",
    "fs",
    "io",
    "std",
    "thread",
];

#[test]
fn globs_that_are_meant_for_it_hide_no_name_that_a_program_already_has() {
    let surface = now();
    for module in ["otlp::prelude", "otlp::config"] {
        let names: Vec<_> = surface
            .lines
            .iter()
            .filter_map(|line| path_in(line).strip_prefix(module)?.strip_prefix("::"))
            .filter(|name| !name.contains("::"))
            .collect();
        assert!(names.len() > 5, "{module}: {names:?}");
        let hidden: Vec<_> = names.iter().filter(|name| NAMES_OF_PROGRAMS.contains(name)).collect();
        assert!(hidden.is_empty(), "{module} hides {hidden:?}");
    }
}

/// What stays on its thread.
const OF_ONE_THREAD: &[&str] =
    &["otlp::DefaultGuard", "otlp::Entered", "otlp::propagation::EnteredBaggage", "otlp::propagation::EnteredContext"];

/// Asserts that types may be shared between threads, and answers their paths.
macro_rules! shared {
    ($($of:ty,)*) => {{
        fn is_shared<T: Send + Sync>(_: PhantomData<T>, path: &'static str) -> &'static str {
            path.split('<').next().unwrap()
        }
        [$(is_shared(PhantomData::<$of>, stringify!($of))),*]
    }};
}

#[test]
fn whatever_is_not_of_one_thread_can_be_shared_between_threads() {
    // TPR-08
    let mut shared: BTreeSet<_> = shared![
        otlp::BatchConfig,
        otlp::BatchStrategy,
        otlp::Client,
        otlp::ClientBuilder,
        otlp::Compression,
        otlp::Diagnostic<'static>,
        otlp::DropReason,
        otlp::DropStrategy,
        otlp::Dropped,
        otlp::Error,
        otlp::ErrorType,
        otlp::Event,
        otlp::ExitBudget,
        otlp::ExportReport,
        otlp::Guard,
        otlp::KeyValue<'static>,
        otlp::Link,
        otlp::LogLevel,
        otlp::MemoryStats,
        otlp::OtlpConfig,
        otlp::ParseError,
        otlp::ProcessSpan,
        otlp::Receipt,
        otlp::RetryConfig,
        otlp::Scope,
        otlp::Snapshot,
        otlp::Span,
        otlp::SpanBuffer,
        otlp::SpanBuilder<'static>,
        otlp::SpanContext,
        otlp::SpanData,
        otlp::SpanId,
        otlp::SpanKind,
        otlp::SpanLimits,
        otlp::SpoolConfig,
        otlp::Status,
        otlp::TraceId,
        otlp::TraceState,
        otlp::Tracer,
        otlp::Value<'static>,
        otlp::Variable,
        otlp::config::BackpressureController,
        otlp::config::ConnectionManager,
        otlp::config::ConnectionPoolConfig,
        otlp::config::Effort,
        otlp::config::MemoryMonitor,
        otlp::config::MemoryPool,
        otlp::config::MemoryThresholds,
        otlp::config::MetricType,
        otlp::config::MonitoringConfig,
        otlp::config::PerformanceConfig,
        otlp::config::PerformanceMonitor,
        otlp::config::Propagator,
        otlp::config::Propagators,
        otlp::config::Protocol,
        otlp::config::ResourceConfig,
        otlp::config::ResourceDetector,
        otlp::config::ReuseStrategy,
        otlp::config::TracesExporter,
        otlp::config::TransportConfig,
        otlp::config::Tuning,
        otlp::config::WorkerPool,
        otlp::config::ZeroCopyBuffer,
        otlp::core::AdaptiveCompression,
        otlp::core::AutoTuner,
        otlp::core::BatchManager,
        otlp::core::PerformanceTargets,
        otlp::core::TuningStrategy,
        otlp::monitoring::BatchMetrics,
        otlp::monitoring::NetworkUsage,
        otlp::monitoring::PerformanceMetrics,
        otlp::processing::BatchSpanProcessor,
        otlp::processing::EndedSpan<'static>,
        otlp::processing::ExportError,
        otlp::processing::ProcessorStats,
        otlp::processing::SimpleSpanProcessor<otlp::Client>,
        otlp::propagation::Baggage,
        otlp::propagation::Context,
        otlp::propagation::EnvironmentCarrier,
        otlp::sampling::AlwaysOff,
        otlp::sampling::AlwaysOn,
        otlp::sampling::AlwaysRecord,
        otlp::sampling::ParentBased,
        otlp::sampling::ProbabilitySampler,
        otlp::sampling::SamplingDecision,
        otlp::sampling::SamplingInput<'static>,
        otlp::sampling::SamplingResult,
        otlp::sampling::TraceIdRatioBased,
    ]
    .into_iter()
    .map(|path| path.replace(' ', ""))
    .collect();
    #[cfg(feature = "testing")]
    shared.extend(
        shared![
            otlp::testing::ConnectionCounts,
            otlp::testing::Keep,
            otlp::testing::ReceivedSpan,
            otlp::testing::Receiver,
            otlp::testing::ReceiverBuilder,
            otlp::testing::Request,
            otlp::testing::Response,
            otlp::testing::Totals,
        ]
        .map(str::to_owned),
    );
    let types = &now().types;
    let is_here = |path: &&String| cfg!(feature = "testing") || !path.starts_with("otlp::testing");
    let unknown: Vec<_> = types.keys().filter(is_here).filter(|path| !shared.contains(*path)).collect();
    assert_eq!(unknown, OF_ONE_THREAD, "not known to be shared");
}

/// A crate of three files with one of everything that names are made of.
#[test]
fn the_surface_is_what_a_program_can_name() {
    let directory = env::temp_dir().join(format!("otlp-surface-{}", std::process::id()));
    fs::create_dir_all(directory.join("inner")).unwrap();
    let write = |file: &str, text: &str| fs::write(directory.join(file), text).unwrap();
    write(
        "lib.rs",
        "mod inner; mod apart; #[cfg(test)] mod tests; #[doc(hidden)] pub mod hidden {}
         pub use inner::{Type, deep::make as made}; pub use http::Uri;
         pub mod offered { pub use crate::{Type, inner::deep::Trait as _, inner::deep::Trait}; }
         macro_rules! twice { ($($(#[$of:meta])* $name:ident: $kind:ty),+) => { $(#[derive(Copy)] $(#[$of])* pub struct $name(pub $kind);)+ }; }
         twice!(#[derive(Clone)] One: Vec<u8>, Two: u8);",
    );
    write(
        "inner.rs",
        "pub mod deep; use std::fmt::Display; use self::deep::Private;
         #[derive(Debug, Clone)] #[non_exhaustive] pub struct Type<'a> { pub field: &'a str, hidden: u8 }
         impl<'a> Type<'a> { pub const fn of(mut self, x: &mut [u8; 2]) -> Self { self } pub(crate) fn not(&self) {} fn nor() {} }
         impl From<Private> for Type<'_> {} impl deep::Trait for Type<'_> {} impl Display for Private {}
         impl super::apart::Unseen for Type<'_> {}",
    );
    write(
        "inner/deep.rs",
        "pub struct Private; #[must_use] pub fn make<T: Into<String>>(_: T) -> Option<u8> where T: Send {}
         pub trait Trait: Send { fn needed(&mut self); fn provided(&self) {} }
         impl<T: Trait + ?Sized> Trait for Box<T> {}",
    );
    write("apart.rs", "pub trait Unseen {} #[cfg(not(unix))] pub fn elsewhere() {}");
    let surface = surface::surface(&Crate::read(&directory));
    fs::remove_dir_all(&directory).unwrap();
    let expected = "\
pub mod otlp
pub struct otlp::One
impl Clone for otlp::One
impl Copy for otlp::One
pub otlp::One::0: Vec<u8>
pub struct otlp::Two
impl Copy for otlp::Two
pub otlp::Two::0: u8
#[non_exhaustive] pub struct otlp::Type<'a>
impl Clone for otlp::Type
impl Debug for otlp::Type
impl From<Private> for otlp::Type<'_>
impl otlp::offered::Trait for otlp::Type<'_>
pub otlp::Type::field: &'a str
pub const fn otlp::Type::of(self, x: &mut [u8; 2]) -> Self
pub use http::Uri as otlp::Uri
#[must_use] pub fn otlp::made<T: Into<String>>(_: T) -> Option<u8> where T: Send
pub mod otlp::offered
pub trait otlp::offered::Trait: Send
impl<T: Trait + ?Sized> otlp::offered::Trait for Box<T>
pub fn otlp::offered::Trait::needed(&mut self)
pub fn otlp::offered::Trait::provided(&self) (provided)
pub use otlp::Type as otlp::offered::Type
pub use otlp::offered::Trait as otlp::offered::_";
    assert_eq!(surface.lines.join("\n"), expected);
    assert_eq!(surface.idle, ["otlp::Type::of"]);
}
