//! Bodies of this crate's own making, read piece by piece as they were before compression.

use std::io::{self, Read};

use flate2::read::GzDecoder;

use super::output::BODY_STEP;
use crate::config::Compression;

/// What a decoder takes beside what it hands out, at most: the window of a body of so many bytes before compression.
pub(crate) fn decoder_bytes(compression: Compression, uncompressed: usize) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 64 * 1024,
        Compression::Brotli | Compression::Zstd => uncompressed.min(MOST_WINDOW) + 256 * 1024,
    }
}

/// The largest window that a body may ask for. With the most effort ours are half of that.
const MOST_WINDOW: usize = 1 << MOST_WINDOW_LOG;
const MOST_WINDOW_LOG: u32 = 23;

/// A body as it was before compression. None for a compression that is not compiled in, which another program may have
/// left in the spool.
pub(crate) fn reader<'b>(body: &'b [u8], compression: Compression) -> Option<Box<dyn Read + 'b>> {
    Some(match compression {
        Compression::None => Box::new(body),
        Compression::Gzip => Box::new(GzDecoder::new(body)),
        #[cfg(feature = "brotli")]
        Compression::Brotli => Box::new(brotli::Decompressor::new(body, BODY_STEP)),
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let mut decoder = ::zstd::stream::read::Decoder::new(body).ok()?;
            decoder.window_log_max(MOST_WINDOW_LOG).ok()?;
            Box::new(decoder)
        }
        #[cfg(not(all(feature = "brotli", feature = "zstd")))]
        _ => return None,
    })
}

/// Hands what `reader` reads to `sink`: exactly `len` bytes, or it is an error.
pub(crate) fn pour(reader: &mut dyn Read, len: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; BODY_STEP];
    let mut left = len;
    while left > 0 {
        let most = left.min(BODY_STEP);
        let read = match reader.read(&mut piece[..most]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sink(&piece[..read]);
        left -= read;
    }
    ends(reader)
}

/// Whether nothing is left.
pub(crate) fn ends(reader: &mut dyn Read) -> io::Result<()> {
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
