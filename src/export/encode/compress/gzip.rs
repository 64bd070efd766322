//! Gzip, the default: a deflate stream between our own header and trailer, so that its state can be reused.

use crc32fast::Hasher;
use flate2::{Compress, FlushCompress, Status};

use super::{
    deflate::Deflate,
    output::{BODY_STEP, Output, Target},
};
use crate::config::Effort;

/// Pieces shorter than this are gathered first: the library pays per call, and more than a copy costs.
const SHORT_PIECE: usize = 8 * 1024;

/// How much is gathered at a time; stays in the first-level cache.
const GATHER_BYTES: usize = 16 * 1024;

/// RFC 1952: magic, deflate, no flags, no time, fastest, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// A reusable gzip encoder.
pub(crate) struct Gzip {
    stream: Stream,
    crc: Hasher,
    /// Bytes compressed so far, modulo 2³².
    len: u32,
}

/// The encoder of the stream.
enum Stream {
    /// Our own, for the least effort.
    Own(Deflate),
    /// The library's, for more effort: `GzEncoder` cannot be reset, but the deflate state below it can.
    Library(Library),
}

impl Gzip {
    pub(super) fn new(effort: Effort) -> Self {
        let stream = match effort {
            Effort::Least => Stream::Own(Deflate::new()),
            // Level 6 takes five times the CPU for a tenth fewer bytes on span records.
            Effort::Normal => Stream::Library(Library::new(6)),
            Effort::Most => Stream::Library(Library::new(9)),
        };
        Self { stream, crc: Hasher::new(), len: 0 }
    }

    /// Begins a body. After a panic during the previous one some of it may be left.
    pub(super) fn begin(&mut self, body: &mut Output<'_>) {
        match &mut self.stream {
            Stream::Own(deflate) => deflate.begin(),
            Stream::Library(library) => library.begin(),
        }
        self.crc.reset();
        self.len = 0;
        body.append(&GZIP_HEADER);
    }

    pub(super) fn write(&mut self, mut piece: &[u8], body: &mut Output<'_>) {
        self.len = self.len.wrapping_add(piece.len() as u32);
        match &mut self.stream {
            Stream::Own(deflate) => loop {
                piece = deflate.fill(piece);
                if !deflate.is_full() {
                    return;
                }
                self.crc.update(deflate.waiting());
                deflate.compress(body);
            },
            Stream::Library(library) => library.write(piece, &mut self.crc, body),
        }
    }

    /// Compresses `piece` from where it is, however short, if that saves a copy.
    pub(super) fn write_at_once(&mut self, piece: &[u8], body: &mut Output<'_>) {
        let Stream::Library(library) = &mut self.stream else { return self.write(piece, body) };
        self.len = self.len.wrapping_add(piece.len() as u32);
        library.write_at_once(piece, &mut self.crc, body);
    }

    pub(super) fn finish(&mut self, body: &mut Output<'_>) {
        match &mut self.stream {
            Stream::Own(deflate) => {
                self.crc.update(deflate.waiting());
                deflate.finish(body);
            }
            Stream::Library(library) => library.finish(&mut self.crc, body),
        }
        body.append(&self.crc.clone().finalize().to_le_bytes());
        body.append(&self.len.to_le_bytes());
    }
}

/// The stream of the library.
struct Library {
    deflate: Compress,
    gathered: Vec<u8>,
}

impl Library {
    fn new(level: u32) -> Self {
        let deflate = Compress::new(flate2::Compression::new(level), false);
        Self { deflate, gathered: Vec::with_capacity(GATHER_BYTES + SHORT_PIECE) }
    }

    fn begin(&mut self) {
        self.gathered.clear();
        self.deflate.reset();
    }

    fn write(&mut self, piece: &[u8], crc: &mut Hasher, body: &mut Output<'_>) {
        if piece.len() < SHORT_PIECE {
            self.gathered.extend_from_slice(piece);
            if self.gathered.len() < GATHER_BYTES {
                return;
            }
            self.write_gathered(crc, body);
        } else {
            self.write_at_once(piece, crc, body);
        }
    }

    fn write_at_once(&mut self, piece: &[u8], crc: &mut Hasher, body: &mut Output<'_>) {
        self.write_gathered(crc, body);
        self.deflate(piece, FlushCompress::None, crc, body);
    }

    fn write_gathered(&mut self, crc: &mut Hasher, body: &mut Output<'_>) {
        let gathered = std::mem::take(&mut self.gathered);
        self.deflate(&gathered, FlushCompress::None, crc, body);
        self.gathered = gathered;
        self.gathered.clear();
    }

    fn finish(&mut self, crc: &mut Hasher, body: &mut Output<'_>) {
        self.write_gathered(crc, body);
        self.deflate(&[], FlushCompress::Finish, crc, body);
    }

    fn deflate(&mut self, mut input: &[u8], flush: FlushCompress, crc: &mut Hasher, body: &mut Output<'_>) {
        crc.update(input);
        while body.make_room(BODY_STEP / 4) {
            let (before, written) = (self.deflate.total_in(), self.deflate.total_out());
            let status = match &mut body.target {
                Target::Heap(body) => self.deflate.compress_vec(input, body, flush),
                Target::Pages(pages) => {
                    let status = self.deflate.compress(input, pages.free(), flush);
                    pages.advance((self.deflate.total_out() - written) as usize);
                    status
                }
            };
            let status = status.expect("the stream is never finished twice");
            input = &input[(self.deflate.total_in() - before) as usize..];
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty(),
            };
            if done {
                return;
            }
        }
    }
}
