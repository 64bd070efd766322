//! A body that comes in chunks ([RFC 9112, 7.1](https://www.rfc-editor.org/rfc/rfc9112#section-7.1)), each behind a line
//! with its size; behind the last one there may be headers, which say nothing that matters here.

/// The most bytes of the line before a chunk, which may say more than the size.
const MOST_LINE_BYTES: usize = 8 * 1024;
/// The most bytes of the headers behind the last chunk.
const MOST_TRAILER_BYTES: usize = 64 * 1024;

/// How it stands with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum Progress {
    /// More has to come.
    Open,
    /// It has come whole.
    Whole,
    /// It has more bytes than are read.
    TooLarge,
    /// It breaks the rules of its framing.
    Malformed,
}

/// Where in its body a reader stands.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of the line, or of the trailer, so far.
    spent: usize,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// In the number before a chunk, which has so many digits so far.
    Size { size: u64, digits: u32 },
    /// Behind the number, which the line goes on after.
    Extension { size: u64 },
    /// In a chunk, of which so much is missing.
    Data { left: u64 },
    /// Behind a chunk, whose line is about to end; its carriage return has come.
    End { returned: bool },
    /// Behind the last chunk, in a line that is empty so far.
    Trailer { is_empty: bool },
    /// Behind the end.
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size { size: 0, digits: 0 }, spent: 0 }
    }
}

impl Chunks {
    /// Takes what has come, hands what is in chunks to `keep`, which refuses what is too much, and says how much of it
    /// was of this body.
    pub(super) fn take(&mut self, input: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> (usize, Progress) {
        let mut used = 0;
        while let Some(byte) = input.get(used) {
            if let At::Data { left } = self.at {
                let rest = &input[used..];
                let own = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if !keep(&rest[..own]) {
                    return (used, Progress::TooLarge);
                }
                used += own;
                let left = left - own as u64;
                self.at = if left == 0 { At::End { returned: false } } else { At::Data { left } };
                continue;
            }
            used += 1;
            self.spent += 1;
            match self.after(*byte) {
                Some(At::Over) => {
                    self.at = At::Over;
                    return (used, Progress::Whole);
                }
                Some(at) => self.at = at,
                None => return (used, Progress::Malformed),
            }
        }
        (used, Progress::Open)
    }

    /// Where the reader stands after a byte that is not in a chunk; none if it should not be there.
    fn after(&mut self, byte: u8) -> Option<At> {
        let most = if matches!(self.at, At::Trailer { .. }) { MOST_TRAILER_BYTES } else { MOST_LINE_BYTES };
        if self.spent > most {
            return None;
        }
        match (self.at, byte) {
            (At::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from(char::from(byte).to_digit(16)?);
                Some(At::Size { size: size.checked_mul(16)?.checked_add(digit)?, digits: digits + 1 })
            }
            (At::Size { digits: 0, .. } | At::Over | At::Data { .. }, _) => None,
            (At::Size { size, .. } | At::Extension { size }, b'\n') => {
                self.spent = 0;
                Some(if size == 0 { At::Trailer { is_empty: true } } else { At::Data { left: size } })
            }
            (At::Size { size, .. }, b';' | b' ' | b'\t' | b'\r') | (At::Extension { size }, _) => {
                Some(At::Extension { size })
            }
            (At::Size { .. }, _) => None,
            (At::End { returned: false }, b'\r') => Some(At::End { returned: true }),
            (At::End { .. }, b'\n') => {
                self.spent = 0;
                Some(At::Size { size: 0, digits: 0 })
            }
            (At::End { .. }, _) => None,
            (At::Trailer { is_empty: true }, b'\n') => Some(At::Over),
            (At::Trailer { .. }, b'\n') => Some(At::Trailer { is_empty: true }),
            (At::Trailer { is_empty }, _) => Some(At::Trailer { is_empty: is_empty && byte == b'\r' }),
        }
    }
}
