//! DEFLATE (RFC 1951), made for span records and for little CPU: half that of a general encoder at its fastest, and
//! fewer bytes.
//!
//! The input is copied to a window and compressed in chunks. The first of a block is parsed before it is written, and
//! the cheapest of several codes is chosen for it; those that follow are parsed and written in one pass with the same
//! code, until it no longer fits. Chunks that do not become smaller are stored.

mod bits;
mod code;
mod huffman;
mod matches;
mod same;
mod sequences;
mod symbols;
#[cfg(test)]
mod tests;
mod trained;
mod window;
mod writer;

use super::output::Output;
use bits::{Cursor, STAGED, Stage};
use code::{Code, Header};
use matches::Matches;
use sequences::{Counts, Sequences};
use trained::{FIXED, TRAINED};
use window::SlidingWindow;
use writer::Writer;

/// How much is compressed at a time. In the worst case, matches of three bytes that take 42 bits each, it becomes
/// 28 KiB, which fits the stage with everything that may stand around it.
const CHUNK: usize = 16 * 1024;

/// A code is fitted to chunks of at least this size: it takes as long as 50 spans do.
const WORTH_FITTING: usize = 8 * 1024;

/// The kinds of blocks (RFC 1951, section 3.2.3), above the bit that says whether it is the last one.
const STORED: u64 = 0b00;
const FIXED_CODE: u64 = 0b01;
const OWN_CODE: u64 = 0b10;
const KIND_BITS: u32 = 3;

/// Bits a stored block takes beside its bytes, at most: its kind, the rest of a byte, and the length twice.
const STORED_BITS: usize = KIND_BITS as usize + 7 + 32;

/// The code of the current block.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    Fixed,
    Trained,
    Fitted,
}

/// A reusable encoder. It takes up to 210 KiB of memory, a third of it for input that is not like spans; unused memory
/// is not touched.
pub(super) struct Deflate {
    window: SlidingWindow,
    matches: Matches,
    sequences: Sequences,
    stage: Box<Stage>,
    cursor: Cursor,
    fitted: Box<Code>,
    /// The header of the trained code, once it was needed.
    trained_header: Option<Box<Header>>,
    open: Option<Choice>,
    /// Bits that a chunk became when the code of the open block was chosen for it, and its bytes.
    expected: (usize, usize),
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self {
            window: SlidingWindow::new(),
            matches: Matches::new(),
            sequences: Sequences::new(),
            // Zeroed by the system, as the window is.
            stage: vec![0; STAGED + 8].into_boxed_slice().try_into().expect("as long as that"),
            cursor: Cursor::default(),
            fitted: Box::new(Code::fitted(&Counts::none())),
            trained_header: None,
            open: None,
            expected: (0, 1),
        }
    }

    /// Begins a body, whatever the state of the previous one.
    pub(super) fn begin(&mut self) {
        self.window.clear();
        self.matches.clear();
        self.cursor = Cursor::default();
        self.open = None;
    }

    /// Takes the beginning of `piece`, until a chunk [waits](Self::waiting). Returns the rest.
    pub(super) fn fill<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        self.window.fill(piece, CHUNK)
    }

    /// Whether a chunk is there to be compressed.
    pub(super) fn is_full(&self) -> bool {
        self.waiting().len() == CHUNK
    }

    /// The bytes that wait to be compressed, as one piece.
    pub(super) fn waiting(&self) -> &[u8] {
        self.window.waiting()
    }

    /// Compresses the waiting bytes.
    pub(super) fn compress(&mut self, body: &mut Output<'_>) {
        self.chunk(false, body);
    }

    /// Compresses the waiting bytes, and ends the body.
    pub(super) fn finish(&mut self, body: &mut Output<'_>) {
        // An empty block of the fixed code has to end the stream, where no block could know that it is the last.
        let is_ended = !self.waiting().is_empty() && self.chunk(true, body);
        if !is_ended {
            self.close();
            self.cursor.put(FIXED_CODE << 1 | 1, KIND_BITS);
            FIXED.write_end(&mut self.cursor, &mut self.stage);
        }
        self.cursor.align(&mut self.stage);
        self.cursor.unload(&self.stage, body);
    }

    /// Compresses the waiting bytes. With `is_last` it tries to end the stream; returns whether it did.
    fn chunk(&mut self, is_last: bool, body: &mut Output<'_>) -> bool {
        let is_ended = !self.goes_on() && self.begin_block(is_last, body);
        self.window.pass();
        self.cursor.unload(&self.stage, body);
        is_ended
    }

    /// Writes a chunk with the current code; false if there is none or it no longer fits.
    fn goes_on(&mut self) -> bool {
        let Some(choice) = self.open else { return false };
        let before = self.cursor;
        let code = code(choice, &self.fitted);
        let mut writer = Writer { code, stage: &mut self.stage, cursor: before };
        self.matches.parse(&self.window, &mut writer);
        let after = writer.cursor;
        // A third more than where the code was chosen, or half of it: the input is no longer what it was.
        let (bits, bytes) = self.expected;
        let len = self.window.waiting().len();
        let usual = bits / 8 * len / bytes;
        let fits = after.len <= len.min(usual + usual / 3 + 64) && after.len + 64 >= usual / 2;
        if fits {
            self.cursor = after;
        }
        fits
    }

    /// Writes a chunk in the cheapest way, in a new block unless that is the current code. Returns whether that ended
    /// the stream, because it was the last block as well as the last chunk.
    fn begin_block(&mut self, is_last: bool, body: &mut Output<'_>) -> bool {
        self.sequences.clear();
        self.matches.parse(&self.window, &mut self.sequences);
        let from = self.window.bounds().0;
        let counts = Counts::of(&self.sequences, &self.window, from);
        let len = self.window.waiting().len();
        let (cost, choice, fitted) = self.cheapest(&counts, len);
        if cost >= 8 * len + STORED_BITS {
            self.close();
            self.store(is_last, body);
            return is_last;
        }
        self.expected = (cost, len);
        let is_new = fitted.is_some() || self.open != Some(choice);
        if is_new {
            self.close();
            let kind = if choice == Choice::Fixed { FIXED_CODE } else { OWN_CODE };
            self.cursor.put(kind << 1 | u64::from(is_last), KIND_BITS);
            if let Some((code, header)) = fitted {
                header.write(&mut self.cursor, &mut self.stage);
                *self.fitted = code;
            } else if choice == Choice::Trained {
                let header = self.trained_header.get_or_insert_with(|| Box::new(TRAINED.header()));
                header.write(&mut self.cursor, &mut self.stage);
            }
            self.open = Some(choice);
        }
        let code = code(choice, &self.fitted);
        let mut writer = Writer { code, stage: &mut self.stage, cursor: self.cursor };
        self.sequences.replay(&self.window, from, &mut writer);
        self.cursor = writer.cursor;
        if is_new && is_last {
            self.close();
        }
        is_new && is_last
    }

    /// The code in which `counts`, of a chunk of `len` bytes, take the fewest bits, with its header if it needs one,
    /// and the code itself if it is new.
    fn cheapest(&mut self, counts: &Counts, len: usize) -> (usize, Choice, Option<(Code, Header)>) {
        let mut best = (FIXED.cost(counts), Choice::Fixed, None);
        let trained = TRAINED.cost(counts) + self.trained_header().bits();
        if trained < best.0 {
            best = (trained, Choice::Trained, None);
        }
        if let Some(choice) = self.open {
            // It needs no header.
            let cost = code(choice, &self.fitted).cost(counts);
            if cost < best.0 {
                best = (cost, choice, None);
            }
        }
        if len >= WORTH_FITTING {
            let code = Code::fitted(counts);
            let header = code.header();
            let cost = code.cost(counts) + header.bits();
            if cost < best.0 {
                best = (cost, Choice::Fitted, Some((code, header)));
            }
        }
        best
    }

    fn trained_header(&mut self) -> &Header {
        self.trained_header.get_or_insert_with(|| Box::new(TRAINED.header()))
    }

    /// Ends the current block, if there is one.
    fn close(&mut self) {
        if let Some(choice) = self.open.take() {
            code(choice, &self.fitted).write_end(&mut self.cursor, &mut self.stage);
        }
    }

    /// Writes the waiting bytes uncompressed (RFC 1951, section 3.2.4).
    fn store(&mut self, is_last: bool, body: &mut Output<'_>) {
        let len = self.window.waiting().len() as u64;
        self.cursor.put(STORED << 1 | u64::from(is_last), KIND_BITS);
        self.cursor.align(&mut self.stage);
        self.cursor.put(len | (!len & 0xffff) << 16, 32);
        self.cursor.flush(&mut self.stage);
        self.cursor.unload(&self.stage, body);
        body.append(self.window.waiting());
    }
}

/// The code that was chosen. A function: a method would borrow what the writer needs.
fn code(choice: Choice, fitted: &Code) -> &Code {
    match choice {
        Choice::Fixed => &FIXED,
        Choice::Trained => &TRAINED,
        Choice::Fitted => fitted,
    }
}
