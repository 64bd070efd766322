//! Ways to escape a character, and how to undo them.

/// A byte, and the place of its written form in the original text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Byte {
    pub(super) value: u8,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The most digits of an escape.
const DIGITS: usize = 8;

/// Characters that HTML has names for and that occur in secrets.
const ENTITIES: &[(&[u8], u8)] = &[
    (b"amp;", b'&'),
    (b"apos;", b'\''),
    (b"equals;", b'='),
    (b"gt;", b'>'),
    (b"lt;", b'<'),
    (b"plus;", b'+'),
    (b"quot;", b'"'),
    (b"sol;", b'/'),
];

/// A text in which each byte stands for itself.
pub(super) fn plain(text: &[u8]) -> Vec<Byte> {
    text.iter().enumerate().map(|(at, value)| Byte { value: *value, from: at, to: at + 1 }).collect()
}

/// Returns `bytes` with every escape replaced by its meaning; `None` if there is no escape.
pub(super) fn unescaped(bytes: &[Byte]) -> Option<Vec<Byte>> {
    if !bytes.iter().any(|byte| matches!(byte.value, b'%' | b'\\' | b'&')) {
        return None;
    }
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let Some((meant, length)) = escape(&bytes[at..]) else {
            result.push(*byte);
            at += 1;
            continue;
        };
        let to = bytes[at + length - 1].to;
        let mut place = |value| result.push(Byte { value, from: byte.from, to });
        match meant {
            Meant::Byte(value) => place(value),
            Meant::Char(c) => c.encode_utf8(&mut [0; 4]).bytes().for_each(place),
        }
        at += length;
    }
    Some(result)
}

enum Meant {
    Byte(u8),
    Char(char),
}

/// The meaning of the escape that `bytes` begin with, and its length.
fn escape(bytes: &[Byte]) -> Option<(Meant, usize)> {
    let at = |at: usize| bytes.get(at).map(|byte| byte.value);
    match at(0)? {
        b'%' => Some((Meant::Byte(number(&bytes[1..], 16, 2, 2)?.0 as u8), 3)),
        b'\\' => match at(1)? {
            b'u' if at(2) == Some(b'{') => {
                let (code, digits) = number(&bytes[3..], 16, 1, DIGITS)?;
                (at(3 + digits) == Some(b'}')).then_some((Meant::Char(char::from_u32(code)?), 4 + digits))
            }
            b'u' => Some((Meant::Char(char::from_u32(number(&bytes[2..], 16, 4, 4)?.0)?), 6)),
            b'x' => Some((Meant::Byte(number(&bytes[2..], 16, 2, 2)?.0 as u8), 4)),
            b't' => Some((Meant::Byte(b'\t'), 2)),
            b'0'..=b'3' => Some((Meant::Byte(number(&bytes[1..], 8, 3, 3)?.0 as u8), 4)),
            value if value.is_ascii_punctuation() => Some((Meant::Byte(value), 2)),
            _ => None,
        },
        b'&' if at(1) == Some(b'#') => {
            let is_hex = matches!(at(2), Some(b'x' | b'X'));
            let (from, radix) = if is_hex { (3, 16) } else { (2, 10) };
            let (code, digits) = number(bytes.get(from..)?, radix, 1, DIGITS)?;
            let is_ended = at(from + digits) == Some(b';');
            Some((Meant::Char(char::from_u32(code)?), from + digits + usize::from(is_ended)))
        }
        b'&' => {
            let is_next = |name: &[u8]| {
                let rest = bytes[1..].iter().map(|byte| byte.value.to_ascii_lowercase());
                bytes.len() > name.len() && rest.take(name.len()).eq(name.iter().copied())
            };
            let (name, value) = ENTITIES.iter().find(|(name, _)| is_next(name))?;
            Some((Meant::Byte(*value), 1 + name.len()))
        }
        _ => None,
    }
}

/// The number that `bytes` begin with, of `least` to `most` digits, and how many digits it has.
fn number(bytes: &[Byte], radix: u32, least: usize, most: usize) -> Option<(u32, usize)> {
    let digits = bytes.iter().take(most).map_while(|byte| char::from(byte.value).to_digit(radix));
    let (value, count) =
        digits.fold((0_u32, 0), |(value, count), digit| (value.wrapping_mul(radix).wrapping_add(digit), count + 1));
    (count >= least).then_some((value, count))
}
