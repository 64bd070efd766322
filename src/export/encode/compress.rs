//! Compression: the pieces of a request in, the body of it out.

#[cfg(any(test, feature = "brotli"))]
use crate::config::Effort;
use crate::config::{Compression, Encoding};

mod deflate;
mod gzip;
mod inflate;
mod output;
#[cfg(feature = "zstd")]
mod zstd;

pub(crate) use super::pages::NoMemory;
use super::{
    body::Body,
    pages::{LARGE_BYTES, Pages},
};
use gzip::Gzip;
pub(crate) use inflate::{decoder_bytes, ends, pour, reader};
use output::{BODY_STEP, Output};

/// Bytes of a request from which on its body is written to pages. The buffers of smaller ones are used again.
const PAGED_BYTES: usize = 512 * 1024;

/// The usual size of a body for this many uncompressed bytes, enough for most requests: a quarter for large ones, half
/// for small ones. Growing in steps leaves holes behind.
pub(crate) fn usual_len(compression: Compression, uncompressed: usize) -> usize {
    match compression {
        Compression::None => uncompressed,
        _ => uncompressed / 4 + 1024,
    }
}

/// Memory of the largest encoder that is made here, and its state.
pub(crate) const ENCODER_BYTES: usize = 320 * 1024;

/// Memory of an encoder that writes one body of so many bytes before compression.
pub(crate) fn encoder_bytes(compression: Compression, uncompressed: usize) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip => ENCODER_BYTES,
        // A window, tables that are about as large, and for one of them the whole request.
        Compression::Brotli | Compression::Zstd => ENCODER_BYTES + uncompressed.min(4 << 20) * 3,
    }
}

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
    /// Bytes of a request from which on its body is written to pages.
    paged_from: usize,
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
        Self { encoding, paged_from: PAGED_BYTES, kind }
    }

    /// With pages for all bodies that are worth them: no buffer of theirs is used again.
    pub(crate) fn paging(self) -> Self {
        Self { paged_from: LARGE_BYTES, ..self }
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

    /// Writes the body made of what `pieces` hands out, `len` bytes in all, to `body`, replacing what it holds. Where
    /// there is no memory for it, what stands there is no body.
    pub(crate) fn encode(
        &mut self,
        body: &mut Vec<u8>,
        len: usize,
        pieces: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Result<(), NoMemory> {
        body.clear();
        self.encode_to(Output::new(body), len, pieces)
    }

    /// As `encode`: to pages where the body may become so large that the allocator would keep what it takes.
    pub(crate) fn encode_body(
        &mut self,
        body: &mut Body,
        len: usize,
        pieces: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Result<(), NoMemory> {
        let Some(mut pages) = self.pages_for(len) else {
            return self.encode(self.buffer_of(body, len), len, pieces);
        };
        *body = Body::default();
        self.encode_to(Output::paged(&mut pages), len, pieces)?;
        *body = Body::of(pages);
        Ok(())
    }

    /// Pages for the body of a large request.
    fn pages_for(&self, len: usize) -> Option<Pages> {
        // What does not compress is a little longer afterwards. What is not needed takes no memory.
        let most = if self.compression() == Compression::None { len } else { len + len / 16 + BODY_STEP };
        (len >= self.paged_from).then(|| Pages::with_room(most)).flatten()
    }

    /// A buffer for the body of another one.
    fn buffer_of<'b>(&self, body: &'b mut Body, len: usize) -> &'b mut Vec<u8> {
        let buffer = body.buffer();
        buffer.clear();
        // Without memory for so much it may still do with less.
        let _ = buffer.try_reserve_exact(usual_len(self.compression(), len));
        buffer
    }

    fn encode_to(
        &mut self,
        mut body: Output<'_>,
        #[cfg_attr(not(feature = "zstd"), expect(unused_variables))] len: usize,
        pieces: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Result<(), NoMemory> {
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
                zstd.begin(len);
                pieces(&mut |piece| zstd.write(piece, &mut body));
                zstd.finish(&mut body);
            }
        }
        body.finish()
    }

    /// Writes the body made of `request` to `body`, replacing what it holds. Reads it where it is.
    pub(crate) fn encode_whole(&mut self, body: &mut Body, request: &[u8]) -> Result<(), NoMemory> {
        let Some(mut pages) = self.pages_for(request.len()) else {
            let buffer = self.buffer_of(body, request.len());
            return self.encode_whole_to(Output::new(buffer), request);
        };
        *body = Body::default();
        self.encode_whole_to(Output::paged(&mut pages), request)?;
        *body = Body::of(pages);
        Ok(())
    }

    fn encode_whole_to(&mut self, mut body: Output<'_>, request: &[u8]) -> Result<(), NoMemory> {
        match &mut self.kind {
            Kind::Gzip(gzip) => {
                gzip.begin(&mut body);
                gzip.write_at_once(request, &mut body);
                gzip.finish(&mut body);
                body.finish()
            }
            #[cfg(feature = "brotli")]
            Kind::Brotli(_) => {
                brotli_compress(self.encoding.effort, request, &mut body);
                body.finish()
            }
            _ => self.encode_to(body, request.len(), |sink| sink(request)),
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

/// What a body held before compression, `len` bytes.
#[cfg(test)]
pub(crate) fn decode(body: &[u8], compression: Compression, len: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    pour(&mut reader(body, compression)?, len, &mut |piece| plain.extend_from_slice(piece)).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
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
                Encoder::new(Encoding { compression, effort })
                    .encode(&mut body, text.len(), |sink| sink(text.as_bytes()))
                    .unwrap();
                body.len()
            });
            let [least, _, most] = sizes;
            assert_eq!(compression != Compression::None, most < least, "{compression:?}: {sizes:?}");
        }
    }

    #[test]
    fn what_inflates_to_more_or_less_than_was_said_is_not_read() {
        for compression in Compression::ALL.into_iter().filter(|compression| compression.is_compiled_in()) {
            let (text, mut body) = ([b'x'; 100_000], Vec::new());
            let way = Encoding { compression, effort: Effort::Least };
            Encoder::new(way).encode(&mut body, text.len(), |sink| sink(&text)).unwrap();
            assert!(decode(&body, compression, text.len()).is_some());
            assert!(decode(&body, compression, text.len() - 1).is_none(), "{compression:?}");
            assert!(decode(&body, compression, text.len() + 1).is_none(), "{compression:?}");
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_zstd_body_is_one_frame_that_says_how_long_it_is() {
        for effort in Effort::ALL {
            let mut encoder = Encoder::new(Encoding { compression: Compression::Zstd, effort });
            for len in [0, 1, 255, 256, 100_000, 3 << 20] {
                let text: Vec<_> = (0..len).map(|at: u32| (at.wrapping_mul(at) >> 7) as u8).collect();
                let (mut pieces, mut whole) = (Body::default(), Body::default());
                encoder.encode_body(&mut pieces, text.len(), |sink| text.chunks(1000).for_each(sink)).unwrap();
                encoder.encode_whole(&mut whole, &text).unwrap();
                for body in [pieces.to_vec(), whole.to_vec()] {
                    // RFC 8878, 3.1.1.1: the magic number, and a descriptor that says where the size stands.
                    assert_eq!(&body[..4], &0xfd2f_b528_u32.to_le_bytes());
                    let (size_flag, is_single) = (body[4] >> 6, body[4] & 0x20 != 0);
                    assert_eq!(body[4] & 3, 0, "no dictionary");
                    let at = if is_single { 5 } else { 6 };
                    let size = match size_flag {
                        0 if is_single => u64::from(body[at]),
                        0 => panic!("{len}: no content size"),
                        1 => u64::from(u16::from_le_bytes([body[at], body[at + 1]])) + 256,
                        2 => u64::from(u32::from_le_bytes(body[at..at + 4].try_into().unwrap())),
                        _ => u64::from_le_bytes(body[at..at + 8].try_into().unwrap()),
                    };
                    assert_eq!(size, u64::from(len));
                    // Behind the first frame there is nothing.
                    let mut decoder = ::zstd::stream::read::Decoder::new(body.as_slice()).unwrap().single_frame();
                    let mut plain = Vec::new();
                    decoder.read_to_end(&mut plain).unwrap();
                    assert_eq!(plain, text);
                    assert!(decoder.finish().buffer().is_empty(), "one frame");
                }
            }
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
                        let mut whole = Body::Buffer(body);
                        encoder.encode_whole(&mut whole, &pieces.concat()).unwrap();
                        body = whole.to_vec();
                    } else {
                        let len = pieces.iter().map(Vec::len).sum();
                        encoder.encode(&mut body, len, |sink| pieces.iter().for_each(|piece| sink(piece))).unwrap();
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
