//! Compression: the pieces of a request in, the body of it out.

use std::io::Read as _;

use flate2::read::GzDecoder;

#[cfg(any(test, feature = "brotli"))]
use crate::config::Effort;
use crate::config::{Compression, Encoding};

mod deflate;
mod gzip;
mod output;
#[cfg(feature = "zstd")]
mod zstd;

use gzip::Gzip;
#[cfg(feature = "brotli")]
use output::BODY_STEP;
pub(crate) use output::NoMemory;
use output::Output;

/// The usual size of a body for this many uncompressed bytes, enough for most requests: a quarter for large ones, half
/// for small ones. Growing in steps leaves holes behind.
pub(crate) fn usual_len(compression: Compression, uncompressed: usize) -> usize {
    match compression {
        Compression::None => uncompressed,
        _ => uncompressed / 4 + 1024,
    }
}

/// Memory of the largest encoder that is made here, and its state.
const ENCODER_BYTES: usize = 320 * 1024;

/// Whether the system gives `bytes` bytes just now. Allocations of the libraries cannot be made fallible: after this
/// check they most likely succeed, unless another thread takes the memory in that moment.
pub(crate) fn can_have(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    let is_given = probe.try_reserve_exact(bytes).is_ok();
    // The compiler may remove an allocation that is not used.
    std::hint::black_box(&probe);
    is_given
}

/// Writes request bodies. It keeps its state between bodies; one worker owns one.
pub(crate) struct Encoder {
    encoding: Encoding,
    kind: Kind,
}

enum Kind {
    Plain,
    Gzip(Box<Gzip>),
    /// Keeps no state: it is made anew for each body, at a small part of the cost.
    #[cfg(feature = "brotli")]
    Brotli(Vec<u8>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::Zstd>),
}

impl Encoder {
    pub(crate) fn new(encoding: Encoding) -> Self {
        let kind = match encoding.compression {
            Compression::None => Kind::Plain,
            // Every receiver accepts uncompressed bodies.
            _ if !can_have(ENCODER_BYTES) => Kind::Plain,
            #[cfg(feature = "brotli")]
            Compression::Brotli => Kind::Brotli(Vec::new()),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                zstd::Zstd::new(encoding.effort).map_or(Kind::Plain, |zstd| Kind::Zstd(Box::new(zstd)))
            }
            // What is not compiled in was refused when the client was made.
            _ => Kind::Gzip(Box::new(Gzip::new(encoding.effort))),
        };
        Self { encoding, kind }
    }

    /// The encoding that was asked for.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether there was no memory for that, so that bodies are written uncompressed.
    pub(crate) fn is_makeshift(&self) -> bool {
        self.encoding.compression != self.compression()
    }

    /// The compression it writes.
    pub(crate) fn compression(&self) -> Compression {
        match self.kind {
            Kind::Plain => Compression::None,
            Kind::Gzip(_) => Compression::Gzip,
            #[cfg(feature = "brotli")]
            Kind::Brotli(_) => Compression::Brotli,
            #[cfg(feature = "zstd")]
            Kind::Zstd(_) => Compression::Zstd,
        }
    }

    /// Writes the body made of what `pieces` hands out to `body`, replacing what it holds. On [`NoMemory`] the content
    /// of `body` is unusable.
    pub(crate) fn encode(
        &mut self,
        body: &mut Vec<u8>,
        pieces: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Result<(), NoMemory> {
        body.clear();
        let mut body = Output::new(body);
        match &mut self.kind {
            Kind::Plain => pieces(&mut |piece| body.append(piece)),
            Kind::Gzip(gzip) => {
                gzip.begin(&mut body);
                pieces(&mut |piece| gzip.write(piece, &mut body));
                gzip.finish(&mut body);
            }
            #[cfg(feature = "brotli")]
            Kind::Brotli(gathered) => {
                gathered.clear();
                let mut whole = Output::new(gathered);
                pieces(&mut |piece| whole.append(piece));
                whole.finish()?;
                brotli_compress(self.encoding.effort, gathered, &mut body);
            }
            #[cfg(feature = "zstd")]
            Kind::Zstd(zstd) => {
                zstd.begin();
                pieces(&mut |piece| zstd.write(piece, &mut body));
                zstd.finish(&mut body);
            }
        }
        body.finish()
    }

    /// Writes the body made of `request` to `body`, replacing what it holds. Does not copy it first.
    pub(crate) fn encode_whole(&mut self, body: &mut Vec<u8>, request: &[u8]) -> Result<(), NoMemory> {
        body.clear();
        match &mut self.kind {
            Kind::Gzip(gzip) => {
                let mut body = Output::new(body);
                gzip.begin(&mut body);
                gzip.write_at_once(request, &mut body);
                gzip.finish(&mut body);
                body.finish()
            }
            #[cfg(feature = "brotli")]
            Kind::Brotli(_) => {
                let mut body = Output::new(body);
                brotli_compress(self.encoding.effort, request, &mut body);
                body.finish()
            }
            _ => self.encode(body, |sink| sink(request)),
        }
    }
}

#[cfg(feature = "brotli")]
fn brotli_compress(effort: Effort, mut request: &[u8], body: &mut Output<'_>) {
    // Higher qualities take many times the CPU.
    let quality = match effort {
        Effort::Least => 1,
        Effort::Normal => 5,
        Effort::Most => 9,
    };
    let parameters = brotli::enc::BrotliEncoderParams { quality, ..Default::default() };
    // Only the output can fail, which reports that itself.
    let _ = brotli::BrotliCompress(&mut request, body, &parameters);
}

/// The most bytes that one byte of a deflate stream can make: larger claimed lengths are not believed.
const MOST_EXPANSION: usize = 1032;

/// Decompresses a body made by this crate, to `len` bytes. `None` for a compression that is not compiled in, which
/// another program may have left in the spool.
pub(crate) fn decode(body: &[u8], compression: Compression, len: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let expected = match compression {
        Compression::None => body.len(),
        _ => len.min(body.len().saturating_mul(MOST_EXPANSION)),
    };
    plain.try_reserve_exact(expected).ok()?;
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

    #[test]
    fn more_effort_makes_smaller_bodies() {
        let words: Vec<_> =
            (0..20_000_u32).map(|number| format!("span {} ", number.wrapping_mul(2_654_435_761) >> 20)).collect();
        for compression in Compression::ALL.into_iter().filter(|compression| compression.is_compiled_in()) {
            let sizes = Effort::ALL.map(|effort| {
                let mut body = Vec::new();
                let text = words.concat();
                Encoder::new(Encoding { compression, effort }).encode(&mut body, |sink| sink(text.as_bytes())).unwrap();
                body.len()
            });
            let [least, _, most] = sizes;
            assert_eq!(compression != Compression::None, most < least, "{compression:?}: {sizes:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
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
            let ways = Compression::ALL.into_iter().filter(|compression| compression.is_compiled_in()).flat_map(
                |compression| Effort::ALL.map(|effort| Encoding { compression, effort }));
            for way in ways {
                let mut encoder = Encoder::new(way);
                let compression = way.compression;
                prop_assert_eq!(encoder.compression(), compression);
                for whole in [false, true] {
                    if whole {
                        encoder.encode_whole(&mut body, &pieces.concat()).unwrap();
                    } else {
                        encoder.encode(&mut body, |sink| pieces.iter().for_each(|piece| sink(piece))).unwrap();
                    }
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
