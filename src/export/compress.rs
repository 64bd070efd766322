//! Compression: the pieces of a request in, the body of it out.

use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::config::Compression;

mod gzip;
#[cfg(feature = "zstd")]
mod zstd;

use gzip::Gzip;

/// Room added to the body when the encoder needs more.
const BODY_STEP: usize = 16 * 1024;

/// Writes request bodies. It keeps its state between bodies; one worker owns one.
pub(crate) enum Encoder {
    Plain,
    Gzip(Box<Gzip>),
    /// Keeps nothing: its state is made anew for each body, which is a small part of what it costs.
    #[cfg(feature = "brotli")]
    Brotli(Vec<u8>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::Zstd>),
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::Plain,
            #[cfg(feature = "brotli")]
            Compression::Brotli => Self::Brotli(Vec::new()),
            #[cfg(feature = "zstd")]
            Compression::Zstd => zstd::Zstd::new().map_or(Self::Plain, |zstd| Self::Zstd(Box::new(zstd))),
            // What is not compiled in was refused when the client was made.
            _ => Self::Gzip(Box::new(Gzip::new())),
        }
    }

    /// What it writes.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::Plain => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            #[cfg(feature = "brotli")]
            Self::Brotli(_) => Compression::Brotli,
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// Writes the body made of what `pieces` hands out to `body`, replacing what it holds.
    pub(crate) fn encode(&mut self, body: &mut Vec<u8>, pieces: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        body.clear();
        match self {
            Self::Plain => pieces(&mut |piece| body.extend_from_slice(piece)),
            Self::Gzip(gzip) => {
                gzip.begin(body);
                pieces(&mut |piece| gzip.write(piece, body));
                gzip.finish(body);
            }
            #[cfg(feature = "brotli")]
            Self::Brotli(gathered) => {
                gathered.clear();
                pieces(&mut |piece| gathered.extend_from_slice(piece));
                // Quality 1: higher ones take many times the CPU.
                let parameters = brotli::enc::BrotliEncoderParams { quality: 1, ..Default::default() };
                brotli::BrotliCompress(&mut gathered.as_slice(), body, &parameters).expect("a Vec takes all");
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => {
                zstd.begin();
                pieces(&mut |piece| zstd.write(piece, body));
                zstd.finish(body);
            }
        }
    }
}

/// What a body of this crate's own making held before compression; `len` bytes. None for one of a compression that
/// is not compiled in, which another program may have left in the spool.
pub(crate) fn decode(body: &[u8], compression: Compression, len: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    match compression {
        Compression::None => plain.extend_from_slice(body),
        Compression::Gzip => _ = GzDecoder::new(body).take(len as u64).read_to_end(&mut plain).ok()?,
        #[cfg(feature = "brotli")]
        Compression::Brotli => {
            _ = brotli::Decompressor::new(body, BODY_STEP).take(len as u64).read_to_end(&mut plain).ok()?;
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            _ = ::zstd::stream::read::Decoder::new(body).ok()?.take(len as u64).read_to_end(&mut plain).ok()?;
        }
        #[cfg(not(all(feature = "brotli", feature = "zstd")))]
        _ => return None,
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gunzip(body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(body).read_to_end(&mut plain).expect("valid gzip");
        plain
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pieces_of_any_size_inflate_to_their_concatenation(
            pieces in prop::collection::vec((any::<u8>(), 0_usize..40_000), 0..20), noisy: bool,
        ) {
            let pieces: Vec<Vec<u8>> = pieces
                .into_iter()
                .map(|(seed, len)| {
                    (0..len).map(|at| if noisy { (at * at * 31 + at) as u8 ^ seed } else { seed }).collect()
                })
                .collect();
            let mut body = b"left over".to_vec();
            for compression in Compression::ALL.into_iter().filter(|compression| compression.is_compiled_in()) {
                let mut encoder = Encoder::new(compression);
                prop_assert_eq!(encoder.compression(), compression);
                for _ in 0..2 {
                    encoder.encode(&mut body, |sink| pieces.iter().for_each(|piece| sink(piece)));
                    let len = pieces.concat().len();
                    prop_assert_eq!(decode(&body, compression, len), Some(pieces.concat()));
                    match compression {
                        Compression::None => prop_assert_eq!(&body, &pieces.concat()),
                        Compression::Gzip => prop_assert_eq!(gunzip(&body), pieces.concat()),
                        _ => {}
                    }
                }
            }
        }
    }
}
