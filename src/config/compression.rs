//! How request bodies are compressed.

use std::{fmt, str::FromStr};

use crate::error::{ParseError, choice, name_of};

listed! {
    /// How request bodies are compressed. Environment: `OTEL_EXPORTER_OTLP_COMPRESSION` or
    /// `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION`, `none` or `gzip`, and beyond the specification `brotli` or `zstd`.
    ///
    /// Choosing a compression that is not compiled in is an error of `build()` that names the cargo feature to turn on.
    ///
    /// A receiver that answers 415 (unsupported media type) to any other compression gets the same batch again as gzip,
    /// once. If it accepts that, the client stays on gzip, and logs it.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Compression {
        /// Bodies are sent uncompressed: the least CPU, about six times the bytes.
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
}

impl Compression {
    /// The values of `OTEL_EXPORTER_OTLP_COMPRESSION`.
    const NAMES: [(&'static str, Self); Self::COUNT] =
        [("none", Self::None), ("gzip", Self::Gzip), ("brotli", Self::Brotli), ("zstd", Self::Zstd)];

    /// The name in the environment, which is also that of the cargo feature, if it needs one.
    pub(crate) fn name(self) -> &'static str {
        name_of(&self, &Self::NAMES)
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

/// Parses a value of `OTEL_EXPORTER_OTLP_COMPRESSION`, in any case: `none`, `gzip`, `brotli`, `zstd`. A compression
/// that is not compiled in is parsed too; `build()` refuses it.
impl FromStr for Compression {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        choice(text, &Self::NAMES)
    }
}

/// Writes the value of `OTEL_EXPORTER_OTLP_COMPRESSION`.
impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
