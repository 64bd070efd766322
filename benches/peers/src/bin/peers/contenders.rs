//! Who is compared.

/// A column of the table.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The program, and the feature that builds it.
    pub(crate) program: &'static str,
    /// The program's first argument.
    pub(crate) variant: &'static str,
    pub(crate) scope: Scope,
}

/// What is measured of a contender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Recording alone: another way to write the same span, which is sent in the same way.
    Recording,
    /// What is delivered too: another way to record, which changes what has to be sent.
    Delivery,
    /// Everything.
    Program,
}

pub(crate) const CONTENDERS: &[Contender] = &[
    OURS,
    Contender { name: "otlp, attributes in the builder", program: "ours", variant: "builder", scope: Scope::Recording },
    Contender { name: "otlp, gRPC", program: "ours", variant: "grpc", scope: Scope::Delivery },
    Contender { name: "OpenTelemetry SDK", program: "otel", variant: "plain", scope: Scope::Program },
    Contender {
        name: "OpenTelemetry SDK, in the builder",
        program: "otel",
        variant: "builder",
        scope: Scope::Recording,
    },
    Contender { name: "OpenTelemetry SDK, gRPC", program: "otel_grpc", variant: "plain", scope: Scope::Delivery },
    Contender { name: "tracing", program: "tracing", variant: "plain", scope: Scope::Program },
    Contender { name: "fastrace, Span", program: "fastrace", variant: "plain", scope: Scope::Program },
    Contender { name: "fastrace, LocalSpan", program: "fastrace", variant: "local", scope: Scope::Delivery },
    Contender { name: "emit", program: "emit", variant: "plain", scope: Scope::Program },
    FLOOR,
];

/// What the others are compared with.
pub(crate) const OURS: Contender = Contender { name: "otlp", program: "ours", variant: "plain", scope: Scope::Program };

/// The same work without tracing: what the others cost more is theirs.
pub(crate) const FLOOR: Contender =
    Contender { name: "floor", program: "floor", variant: "plain", scope: Scope::Delivery };

/// Programs that need a feature of their name.
pub(crate) const PROGRAMS: &[&str] =
    &["ours", "otel", "otel_grpc", WITH_TLS, "tracing", "fastrace", "emit", "receiver"];

/// The OpenTelemetry SDK with TLS, which otlp and emit have anyway.
pub(crate) const WITH_TLS: &str = "otel_tls";

/// The packages whose versions are told.
pub(crate) const PACKAGES: &[&str] = &[
    "otlp",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "tracing",
    "tracing-opentelemetry",
    "fastrace",
    "fastrace-opentelemetry",
    "emit",
    "emit_otlp",
];

/// Those of whom so much is measured.
pub(crate) fn measured(scope: Scope) -> impl Iterator<Item = &'static Contender> {
    CONTENDERS.iter().filter(move |contender| contender.scope >= scope)
}
