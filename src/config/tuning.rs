//! The settings that may change while a client runs.

use super::Compression;

/// What controllers may change while a client runs; everything else is decided once, by `build()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuning {
    /// The most spans of one request. Default 4096.
    pub batch_size: usize,
    /// How many requests may be under way at once, each over a connection of its own. Default 4; at least 1.
    pub connections: usize,
    /// How bodies are compressed. Default gzip.
    pub compression: Compression,
    /// How hard the compressor tries. Default [`Effort::Least`].
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
    /// How hard a compressor tries; without meaning where nothing is compressed.
    ///
    /// On span records more than the least seldom pays: gzip's level 6 takes three times the CPU of level 1 for a tenth
    /// fewer bytes. It does where the network is what is scarce.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum Effort {
        /// The compressor's fastest level. The default.
        #[default]
        Least,
        /// The level the compressor itself takes for a compromise.
        Normal,
        /// The fewest bytes that are worth their time.
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

/// How bodies are compressed, and how hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) compression: Compression,
    pub(crate) effort: Effort,
}

impl Encoding {
    pub(crate) const NONE: Self = Self { compression: Compression::None, effort: Effort::Least };
    /// What every receiver understands.
    pub(crate) const GZIP: Self = Self { compression: Compression::Gzip, effort: Effort::Least };
}
