//! Writes the library's lines to stderr: without waiting, or not at all.
//!
//! Takes no lock, allocates nothing and starts nothing, so it can be used anywhere: in the child of a fork, a panic
//! hook, an exit handler, the signal thread, a worker. It blocks the signals that a write may raise.
//!
//! The standard library's `stderr` is not used, because its lock may be held for ever: in the child of a fork by a
//! thread that is gone, and elsewhere by a thread of the program.

use std::fmt::{self, Write as _};

#[cfg(unix)]
mod descriptor;

#[cfg(unix)]
pub(super) use descriptor::notice;
#[cfg(unix)]
use descriptor::write_out;

/// The longest line. A pipe writes this much atomically: lines of others come before it or after it.
const LINE_BYTES: usize = 4096;

/// Room for the end of a line, including the mention of earlier ones.
const END_BYTES: usize = 64;

const CUT: &str = "…";

/// Writes one line, which also mentions `untold` earlier ones that could not be written. Returns whether stderr took
/// it. Never blocks.
pub(super) fn write(message: fmt::Arguments<'_>, untold: u64) -> bool {
    write_out(Line::new(message, untold).bytes())
}

/// A line to be written, after a line break that is left out unless it is needed.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
    /// The current limit of its length.
    limit: usize,
}

impl Line {
    fn new(message: fmt::Arguments<'_>, untold: u64) -> Self {
        let mut line = Self { bytes: [0; LINE_BYTES], length: 0, limit: LINE_BYTES - END_BYTES };
        line.push("\n");
        let is_whole = line.write_str("otlp: ").and_then(|()| line.write_fmt(message)).is_ok();
        line.limit = LINE_BYTES;
        if !is_whole {
            let _ = line.write_str(CUT);
        }
        let _ = match untold {
            0 => Ok(()),
            1 => line.write_str(" (1 earlier line could not be written)"),
            _ => line.write_fmt(format_args!(" ({untold} earlier lines could not be written)")),
        };
        line.push("\n");
        line
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Appends `text`; false if there was no room for it.
    fn push(&mut self, text: &str) -> bool {
        let end = self.length + text.len();
        let fits = end <= self.limit;
        if fits {
            self.bytes[self.length..end].copy_from_slice(text.as_bytes());
            self.length = end;
        }
        fits
    }
}

impl fmt::Write for Line {
    /// Appends what fits, without characters that would break the line.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut encoded = [0; 4];
        for char in text.chars() {
            let char = if char.is_control() { ' ' } else { char };
            if !self.push(char.encode_utf8(&mut encoded)) {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

/// Elsewhere the standard library's stderr is used.
#[cfg(not(unix))]
pub(super) fn notice() {}

#[cfg(not(unix))]
fn write_out(line: &[u8]) -> bool {
    use std::io::Write as _;
    // `eprintln!` would panic if stderr is closed.
    std::io::stderr().lock().write_all(&line[1..]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: fmt::Arguments<'_>, untold: u64) -> String {
        let apart = String::from_utf8(Line::new(message, untold).bytes().to_vec()).unwrap();
        apart.strip_prefix('\n').unwrap().to_owned()
    }

    #[test]
    fn a_line_tells_of_those_before_it_that_could_not_be_written() {
        assert_eq!(line(format_args!("{} spans", 3), 0), "otlp: 3 spans\n");
        assert_eq!(line(format_args!("3 spans"), 1), "otlp: 3 spans (1 earlier line could not be written)\n");
        assert_eq!(line(format_args!("3 spans"), 2), "otlp: 3 spans (2 earlier lines could not be written)\n");
    }

    #[test]
    fn a_line_is_one_line_whatever_it_is_made_of() {
        assert_eq!(line(format_args!("a\r\nb\u{1b}[31m\u{85}c\td"), 0), "otlp: a  b [31m c d\n");
    }

    #[test]
    fn a_line_is_cut_between_characters_so_that_a_pipe_takes_it_whole() {
        for letter in ["x", "ß", "€", "🦀"] {
            let long = line(format_args!("{}", letter.repeat(LINE_BYTES)), u64::MAX);
            assert!(long.len() <= LINE_BYTES && long.len() > LINE_BYTES - END_BYTES, "{}", long.len());
            let end = format!("{letter}… ({} earlier lines could not be written)\n", u64::MAX);
            assert!(long.ends_with(&end), "{long}");
        }
    }
}
