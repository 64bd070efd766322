//! What a spooled file holds: a header of fixed size, then a request body as it is sent. Pure.
//!
//! ```text
//!  0  magic "otlpspl"   7 version        8 compression   9 zero (3)
//! 12  spans (8)        20 bytes before compression (8)  28 bytes of the body (8)
//! 36  CRC-32 of the body (4)            40 CRC-32 of the 40 bytes before (4)
//! ```
//! Numbers are little-endian. The header has a checksum of its own, so that its numbers can be relied on before the
//! body was read.

use flate2::Crc;

use crate::config::Compression;

/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 44;

const MAGIC: &[u8; 7] = b"otlpspl";
const VERSION: u8 = 1;

/// More than any request of this crate's making has: what a header may make the reader allocate.
const MAX_UNCOMPRESSED: u64 = 256 * 1024 * 1024;

/// A request body and what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents<'a> {
    pub(crate) spans: u64,
    /// Bytes of the body before compression.
    pub(crate) uncompressed: usize,
    pub(crate) compression: Compression,
    pub(crate) body: &'a [u8],
}

impl Contents<'_> {
    pub(crate) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..7].copy_from_slice(MAGIC);
        header[7] = VERSION;
        header[8] = match self.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Brotli => 2,
            Compression::Zstd => 3,
        };
        header[12..20].copy_from_slice(&self.spans.to_le_bytes());
        header[20..28].copy_from_slice(&(self.uncompressed as u64).to_le_bytes());
        header[28..36].copy_from_slice(&(self.body.len() as u64).to_le_bytes());
        header[36..40].copy_from_slice(&crc(self.body).to_le_bytes());
        let sum = crc(&header[..40]);
        header[40..].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) spans: u64,
    /// Bytes of the body before compression.
    pub(crate) uncompressed: usize,
    pub(crate) compression: Compression,
    /// Bytes of the body.
    pub(crate) length: u64,
    sum: u32,
}

/// Why a header is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It was written by a later version of this crate, which can read it.
    Later,
    /// It is not what was written.
    Damaged(&'static str),
}

impl Header {
    /// Understands the beginning of a file of `file_bytes` bytes.
    pub(crate) fn parse(header: &[u8; HEADER_BYTES], file_bytes: u64) -> Result<Self, Unreadable> {
        if header[..7] != *MAGIC {
            return Err(Unreadable::Damaged("it does not begin like a spooled file"));
        }
        if number(header, 40, 4) as u32 != crc(&header[..40]) {
            return Err(Unreadable::Damaged("the checksum of its header is wrong"));
        }
        let compression = match (header[7], header[8]) {
            (VERSION, 0) => Compression::None,
            (VERSION, 1) => Compression::Gzip,
            (VERSION, 2) => Compression::Brotli,
            (VERSION, 3) => Compression::Zstd,
            _ => return Err(Unreadable::Later),
        };
        let (uncompressed, length) = (number(header, 20, 8), number(header, 28, 8));
        if file_bytes.checked_sub(HEADER_BYTES as u64) != Some(length) {
            return Err(Unreadable::Damaged("it is not as long as its header says"));
        }
        // A span takes at least a byte.
        if uncompressed > MAX_UNCOMPRESSED || number(header, 12, 8) > uncompressed {
            return Err(Unreadable::Damaged("its header is not of this crate's making"));
        }
        Ok(Self {
            spans: number(header, 12, 8),
            uncompressed: uncompressed as usize,
            compression,
            length,
            sum: number(header, 36, 4) as u32,
        })
    }

    /// Whether `body` is the one the header was written for.
    pub(crate) fn fits(&self, body: &[u8]) -> bool {
        body.len() as u64 == self.length && crc(body) == self.sum
    }
}

fn number(header: &[u8; HEADER_BYTES], at: usize, bytes: usize) -> u64 {
    header[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTENTS: Contents<'_> =
        Contents { spans: 0x1_0203, uncompressed: 70_000, compression: Compression::Gzip, body: b"a body" };

    #[test]
    fn what_was_written_is_what_is_read() {
        for compression in Compression::ALL {
            let contents = Contents { compression, ..CONTENTS };
            let header = Header::parse(&contents.header(), HEADER_BYTES as u64 + 6).unwrap();
            assert_eq!((header.spans, header.uncompressed, header.length), (0x1_0203, 70_000, 6));
            assert_eq!(header.compression, compression);
            assert!(header.fits(b"a body") && !header.fits(b"A body") && !header.fits(b"a body "));
        }
    }

    #[test]
    fn a_file_of_another_length_is_damaged() {
        for bytes in [0, 43, 44, 49, 51, u64::MAX] {
            assert!(matches!(Header::parse(&CONTENTS.header(), bytes), Err(Unreadable::Damaged(_))), "{bytes}");
        }
    }

    #[test]
    fn a_later_version_is_left_to_those_who_can_read_it() {
        for (at, value) in [(7, 2), (8, 9)] {
            let mut header = CONTENTS.header();
            header[at] = value;
            let sum = crc(&header[..40]);
            header[40..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(Header::parse(&header, 50), Err(Unreadable::Later));
        }
    }

    #[test]
    fn a_header_cannot_ask_for_more_memory_than_a_request_takes() {
        let contents = Contents { uncompressed: usize::MAX, ..CONTENTS };
        assert!(matches!(Header::parse(&contents.header(), 50), Err(Unreadable::Damaged(_))));
    }

    proptest! {
        #[test]
        fn one_changed_bit_anywhere_is_noticed(at in 0..(HEADER_BYTES + 6) * 8) {
            let mut file = CONTENTS.header().to_vec();
            file.extend_from_slice(CONTENTS.body);
            file[at / 8] ^= 1 << (at % 8);
            let header: [u8; HEADER_BYTES] = file[..HEADER_BYTES].try_into().unwrap();
            let noticed = Header::parse(&header, file.len() as u64).map_or(true, |h| !h.fits(&file[HEADER_BYTES..]));
            prop_assert!(noticed);
        }

        #[test]
        fn numbers_that_nobody_wrote_are_refused_or_read_as_they_stand(
            mut header: [u8; HEADER_BYTES], version in 0..3_u8, compression in 0..5_u8, small: bool, bytes: u64,
        ) {
            header[..7].copy_from_slice(MAGIC);
            (header[7], header[8]) = (version, compression);
            if small {
                header[20..28].copy_from_slice(&(MAX_UNCOMPRESSED - 1).to_le_bytes());
                header[17..20].fill(0);
            }
            let length = bytes.saturating_sub(HEADER_BYTES as u64);
            header[28..36].copy_from_slice(&length.to_le_bytes());
            let sum = crc(&header[..40]);
            header[40..].copy_from_slice(&sum.to_le_bytes());
            if let Ok(read) = Header::parse(&header, bytes) {
                prop_assert!(read.spans <= read.uncompressed as u64 && read.uncompressed as u64 <= MAX_UNCOMPRESSED);
                prop_assert_eq!((read.length, version), (length, VERSION));
            }
        }

        #[test]
        fn no_file_makes_the_reader_panic(header: [u8; HEADER_BYTES], bytes: u64) {
            prop_assert!(Header::parse(&header, bytes).is_err());
        }
    }
}
