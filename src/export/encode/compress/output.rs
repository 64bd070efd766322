//! A body as it grows. If the system gives no memory for more, it is cut there, and `finish` reports that.

/// Room added to the body when the encoder needs more.
pub(super) const BODY_STEP: usize = 16 * 1024;

/// The system gave no memory for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// The output of encoders.
pub(super) struct Output<'b> {
    body: &'b mut Vec<u8>,
    is_cut: bool,
}

impl<'b> Output<'b> {
    /// Appends to `body`.
    pub(super) fn new(body: &'b mut Vec<u8>) -> Self {
        Self { body, is_cut: false }
    }

    /// Makes room for `bytes` bytes; false if the system gives no memory for them, and everything written from then on
    /// is lost. Grows in steps of a quarter: a buffer that doubles holds up to twice what the body needs.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        let lacks = self.body.capacity() - self.body.len() < bytes;
        if lacks && !self.is_cut {
            let step = bytes.max(BODY_STEP).max(self.body.len() / 4);
            self.is_cut = self.body.try_reserve_exact(step).is_err() && self.body.try_reserve_exact(bytes).is_err();
        }
        !self.is_cut
    }

    /// Writes `bytes`.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.make_room(bytes.len()) {
            self.body.extend_from_slice(bytes);
        }
    }

    /// The body so far, to be appended to after [`make_room`](Self::make_room).
    pub(super) fn body(&mut self) -> &mut Vec<u8> {
        self.body
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
