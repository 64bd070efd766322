//! Huffman's code of RFC 7541, appendix B. It is canonical: the codes of one length are consecutive numbers in the order of
//! their symbols, and follow from the lengths alone.

/// The length of each symbol's code, in bits; the last symbol is the end.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SHORTEST: usize = 5;
const LONGEST: usize = 30;
const END: u16 = 256;

/// Codes of one length.
#[derive(Clone, Copy)]
struct Row {
    /// The first code, as a number of so many bits.
    first: u32,
    count: u32,
    /// Where its symbols begin.
    at: u16,
}

struct Codes {
    rows: [Row; LONGEST + 1],
    /// Symbols in the order of their codes.
    symbols: [u16; LENGTHS.len()],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut rows = [Row { first: 0, count: 0, at: 0 }; LONGEST + 1];
    let mut symbols = [0; LENGTHS.len()];
    let (mut next, mut placed, mut length) = (0, 0, SHORTEST);
    while length <= LONGEST {
        rows[length].first = next;
        rows[length].at = placed as u16;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[placed] = symbol as u16;
                placed += 1;
                next += 1;
                rows[length].count += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    Codes { rows, symbols }
}

/// Appends what `bytes` stand for; none if they are not in the code: it ends with the first bits of the end's code, fewer
/// than eight, and the end itself stands nowhere (section 5.2).
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut waiting, mut count) = (0_u64, 0_usize);
    let mut rest = bytes.iter();
    loop {
        while count <= 32
            && let Some(byte) = rest.next()
        {
            waiting = waiting << 8 | u64::from(*byte);
            count += 8;
        }
        let Some((symbol, length)) = first_symbol(waiting, count) else { break };
        if symbol == END {
            return None;
        }
        out.push(symbol as u8);
        count -= length;
        waiting &= (1 << count) - 1;
    }
    let is_padding = count < 8 && waiting == (1 << count) - 1;
    is_padding.then_some(())
}

/// The symbol that the first of `count` bits stand for, and the length of its code; none if they are too few.
fn first_symbol(waiting: u64, count: usize) -> Option<(u16, usize)> {
    (SHORTEST..=LONGEST.min(count)).find_map(|length| {
        let row = &CODES.rows[length];
        let code = (waiting >> (count - length)) as u32;
        let place = code.checked_sub(row.first).filter(|place| *place < row.count)?;
        Some((CODES.symbols[usize::from(row.at) + place as usize], length))
    })
}
