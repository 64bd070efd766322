//! Header compression of HTTP/2 ([RFC 7541](https://www.rfc-editor.org/rfc/rfc7541)). What is sent uses the static table and
//! literals alone, so that a block is made once and sent each time; what comes may use everything. Pure.

use std::collections::VecDeque;

mod huffman;
mod table;

use table::STATIC;
pub(crate) use table::index;

/// The most that the dynamic table may hold, which is what the protocol starts with; an entry counts for its bytes and 32
/// (section 4.1).
const MOST_TABLE_BYTES: usize = 4_096;
const ENTRY_BYTES: usize = 32;

/// The most bytes of names and values in one block, counted in the same way. Servers send a few hundred.
pub(crate) const MOST_LIST_BYTES: usize = 64 * 1024;

/// Why a block cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It breaks the rules.
    Malformed,
    /// It has more than is read.
    TooLong,
}

use Unreadable::{Malformed, TooLong};

/// A name and a value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// Reads blocks. It lives as long as its connection: each block may refer to earlier ones.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest entry first.
    entries: VecDeque<Entry>,
    /// What they count for.
    bytes: usize,
    /// What they may count for; the other side may lower it.
    most_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, most_bytes: MOST_TABLE_BYTES }
    }
}

impl Decoder {
    /// Reads a whole block and hands each field on. Takes time in proportion to the block and to what it stands for, which
    /// is bounded.
    pub(crate) fn decode(&mut self, block: &[u8], mut take: impl FnMut(&[u8], &[u8])) -> Result<(), Unreadable> {
        let mut rest = block;
        let mut listed = 0;
        let (mut name, mut value) = (Vec::new(), Vec::new());
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            let kept = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    let (name, value) = self.entry(index)?;
                    count(&mut listed, name, value)?;
                    take(name, value);
                    may_resize = false;
                    continue;
                }
                0x20..0x40 => {
                    // Only at the beginning of a block (section 4.2).
                    let most = integer(&mut rest, 5)?;
                    if !may_resize || most > MOST_TABLE_BYTES {
                        return Err(Malformed);
                    }
                    self.most_bytes = most;
                    self.evict(0);
                    continue;
                }
                0x40..0x80 => true,
                // Not to be kept, by anybody or by this decoder, which passes nothing on.
                ..0x20 => false,
            };
            may_resize = false;
            let index = integer(&mut rest, if kept { 6 } else { 4 })?;
            name.clear();
            match index {
                0 => string(&mut rest, &mut name)?,
                index => name.extend_from_slice(self.entry(index)?.0),
            }
            value.clear();
            string(&mut rest, &mut value)?;
            count(&mut listed, &name, &value)?;
            take(&name, &value);
            if kept {
                self.keep(&name, &value);
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Unreadable> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.entries.get(at - STATIC.len()).ok_or(Malformed)?;
        Ok((name, value))
    }

    fn keep(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len() + ENTRY_BYTES;
        self.evict(bytes);
        // What is larger than the table empties it, and that is all (section 4.4).
        if bytes <= self.most_bytes {
            self.bytes += bytes;
            self.entries.push_front((name.into(), value.into()));
        }
    }

    /// Makes room for so many bytes.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.most_bytes
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.bytes -= name.len() + value.len() + ENTRY_BYTES;
        }
    }
}

fn count(listed: &mut usize, name: &[u8], value: &[u8]) -> Result<(), Unreadable> {
    *listed += name.len() + value.len() + ENTRY_BYTES;
    if *listed > MOST_LIST_BYTES { Err(TooLong) } else { Ok(()) }
}

/// An integer that begins in the low bits of the first byte (section 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Unreadable> {
    let mask = (1 << bits) - 1;
    let (first, mut behind) = rest.split_first().ok_or(Malformed)?;
    let mut number = u32::from(*first) & mask;
    if number == mask {
        let mut shift = 0;
        loop {
            let (byte, next) = behind.split_first().ok_or(Malformed)?;
            behind = next;
            // Nothing that is read has more than 21 bits behind the first ones.
            if shift > 14 {
                return Err(TooLong);
            }
            number += u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = behind;
    Ok(number as usize)
}

/// A string, as it is or in Huffman's code (section 5.2), behind what `out` holds.
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let is_coded = rest.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    if length > MOST_LIST_BYTES {
        return Err(TooLong);
    }
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = behind;
    if !is_coded {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    huffman::decode(bytes, out).ok_or(Malformed)
}

/// Appends a field that stands in the static table whole, by its index there.
pub(crate) fn put_indexed(out: &mut Vec<u8>, index: u8) {
    out.push(0x80 | index);
}

/// Appends a field with a name of the static table, by its index there.
pub(crate) fn put_named(out: &mut Vec<u8>, index: u8, value: &[u8]) {
    put_integer(out, 0, 4, index.into());
    put_string(out, value);
}

/// Appends a field with a name of its own. What is secret no proxy on the way is to keep in its table.
pub(crate) fn put_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8], is_secret: bool) {
    out.push(if is_secret { 0x10 } else { 0 });
    put_string(out, name);
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_integer(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_integer(out: &mut Vec<u8>, high: u8, bits: u32, number: usize) {
    let mask = (1 << bits) - 1;
    if number < mask {
        out.push(high | number as u8);
        return;
    }
    out.push(high | mask as u8);
    let mut rest = number - mask;
    while rest >= 0x80 {
        out.push(0x80 | rest as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests;
