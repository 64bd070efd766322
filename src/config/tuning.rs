//! The settings that may change while a client runs.

use super::Compression;

/// Settings that controllers may change while a client runs; everything else is decided once, by `build()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuning {
    /// The most spans of one request. Default 4096.
    pub batch_size: usize,
    /// How many requests may be in progress at once, each over its own connection. Default 4; at least 1.
    pub connections: usize,
    /// How bodies are compressed. Default gzip.
    pub compression: Compression,
    /// The compressor's effort. Default [`Effort::Least`].
    pub effort: Effort,
}

impl Tuning {
    pub(crate) fn encoding(self) -> Encoding {
        Encoding { compression: self.compression, effort: self.effort }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self { batch_size: 4096, connections: 4, compression: Compression::default(), effort: Effort::default() }
    }
}

listed! {
    /// The effort of a compressor; ignored without compression.
    ///
    /// For span records more effort seldom pays: gzip's level 6 takes three times the CPU of level 1 for a tenth fewer
    /// bytes. It pays if the network is the bottleneck.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum Effort {
        /// The compressor's fastest level. The default.
        #[default]
        Least,
        /// The compressor's own default compromise.
        Normal,
        /// The fewest bytes at a reasonable time.
        Most,
    }
}

impl Effort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Least => "least",
            Self::Normal => "normal",
            Self::Most => "most",
        }
    }
}

/// How bodies are compressed, and with which effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) compression: Compression,
    pub(crate) effort: Effort,
}

impl Encoding {
    pub(crate) const NONE: Self = Self { compression: Compression::None, effort: Effort::Least };
    /// The encoding that every receiver understands.
    pub(crate) const GZIP: Self = Self { compression: Compression::Gzip, effort: Effort::Least };
}
