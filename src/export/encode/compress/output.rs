//! A body as it grows. If the system gives no memory for more, it is cut there, and `finish` reports that.

use crate::export::encode::pages::{NoMemory, Pages};

/// Room added to the body when the encoder needs more.
pub(super) const BODY_STEP: usize = 16 * 1024;

/// What encoders write to.
pub(super) struct Output<'b> {
    pub(super) target: Target<'b>,
    is_cut: bool,
}

/// Where it is.
pub(super) enum Target<'b> {
    Heap(&'b mut Vec<u8>),
    Pages(&'b mut Pages),
}

impl<'b> Output<'b> {
    /// Appends to `body`.
    pub(super) fn new(body: &'b mut Vec<u8>) -> Self {
        Self { target: Target::Heap(body), is_cut: false }
    }

    /// As `new`, to pages.
    pub(super) fn paged(pages: &'b mut Pages) -> Self {
        Self { target: Target::Pages(pages), is_cut: false }
    }

    /// Makes room for `bytes` bytes; false if the system gives no memory for them, and everything written from then on
    /// is lost. Grows in steps of a quarter: a buffer that doubles holds up to twice what the body needs.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        match &mut self.target {
            _ if self.is_cut => {}
            Target::Heap(body) => {
                if body.capacity() - body.len() < bytes {
                    let step = bytes.max(BODY_STEP).max(body.len() / 4);
                    self.is_cut = body.try_reserve_exact(step).is_err() && body.try_reserve_exact(bytes).is_err();
                }
            }
            Target::Pages(pages) => self.is_cut = !pages.make_room(bytes),
        }
        !self.is_cut
    }

    /// Writes `bytes`.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.make_room(bytes.len()) {
            match &mut self.target {
                Target::Heap(body) => body.extend_from_slice(bytes),
                Target::Pages(pages) => pages.append(bytes),
            }
        }
    }

    /// What is written from now on is lost.
    #[cfg(feature = "zstd")]
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Returns an error unless the body is complete.
    pub(super) fn finish(self) -> Result<(), NoMemory> {
        if self.is_cut { Err(NoMemory) } else { Ok(()) }
    }
}

#[cfg(feature = "brotli")]
impl std::io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes);
        if self.is_cut { Err(std::io::ErrorKind::OutOfMemory.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_finds_no_memory_is_cut_and_says_so() {
        let mut body = b"has been ".to_vec();
        let mut output = Output::new(&mut body);
        output.append(b"kept");
        assert!(!output.make_room(isize::MAX as usize));
        output.append(b"lost");
        assert_eq!(output.finish(), Err(NoMemory));
        assert_eq!(body, b"has been kept");
    }
}
