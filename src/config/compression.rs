//! How request bodies are compressed.

/// How request bodies are compressed. Environment: `OTEL_EXPORTER_OTLP_COMPRESSION` or
/// `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION`, `none` or `gzip`, and beyond the specification `brotli` or `zstd`.
///
/// Choosing one that is not compiled in is an error of `build()` that names the cargo feature to turn on.
///
/// A receiver that answers 415 (unsupported media type) to anything else gets the same batch again as gzip, once. If it
/// accepts that, the client stays on gzip, and says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Bodies are sent as they are: the least CPU, about six times the bytes.
    None,
    /// Bodies are sent with `Content-Encoding: gzip`, which every OTLP receiver understands. The default.
    #[default]
    Gzip,
    /// Bodies are sent with `Content-Encoding: br`: twice the CPU of gzip and no fewer bytes, for receivers that want
    /// it. Needs the cargo feature `brotli`.
    Brotli,
    /// Bodies are sent with `Content-Encoding: zstd`, which the OpenTelemetry Collector understands: less CPU and fewer
    /// bytes than gzip. Needs the cargo feature `zstd`, and a C compiler to build it.
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in the environment, and that of the cargo feature, where it needs one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }

    /// The value of `Content-Encoding`, if there is one.
    pub(crate) fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    pub(crate) fn is_compiled_in(self) -> bool {
        match self {
            Self::None | Self::Gzip => true,
            Self::Brotli => cfg!(feature = "brotli"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}
