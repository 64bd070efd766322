//! Which tests cite which rows of the conformance table: read from the comments in their sources.
//!
//! A row is cited as `RTY-03`, several in a row as `ENC-01 to ENC-08`, in any comment inside a test, plain or of
//! proptest, or directly above it.

use std::{collections::BTreeSet, ops::Range};

/// A test and the rows it cites.
#[derive(Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) rows: BTreeSet<String>,
}

/// Every test of a source.
pub(crate) fn tests(source: &str) -> Vec<Test> {
    let (code, comments) = lex(source.as_bytes());
    let mut tests = Vec::new();
    let mut from = 0;
    while let Some(attribute) = find(&code, from, b"#[test]") {
        let (name, end) = function(&code, attribute);
        let whole = first_attribute(&code, attribute)..end;
        let inside = comments.iter().filter(|comment| whole.contains(&comment.start));
        let rows = inside.flat_map(|comment| rows(&source[comment.clone()])).collect();
        tests.push(Test { name, rows });
        from = end;
    }
    tests
}

/// The rows that a comment names.
pub(crate) fn rows(comment: &str) -> Vec<String> {
    let is_separator = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let words: Vec<_> = comment.split(is_separator).filter(|word| !word.is_empty()).collect();
    let mut rows = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some((family, first)) = row(word) else { continue };
        let last = match words[at + 1..] {
            ["to", last, ..] => row(last).filter(|(of, _)| *of == family).map(|(_, number)| number),
            _ => None,
        };
        rows.extend((first..=last.unwrap_or(first)).map(|number| format!("{family}-{number:02}")));
    }
    rows
}

/// The family and the number of a row, if `word` is the name of one: capitals and digits, and two digits.
pub(crate) fn row(word: &str) -> Option<(&str, u32)> {
    let (family, number) = word.split_once('-')?;
    let is_family = family.len() > 1
        && family.starts_with(|c: char| c.is_ascii_uppercase())
        && family.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_family && is_number).then(|| Some((family, number.parse().ok()?)))?
}

/// The source with its comments and texts blanked out, and where its comments are.
fn lex(source: &[u8]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut code = source.to_vec();
    let mut comments = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let is_in_word = at > 0 && (source[at - 1].is_ascii_alphanumeric() || source[at - 1] == b'_');
        let end = match &source[at..] {
            [b'/', b'/', ..] => find(source, at, b"\n").unwrap_or(source.len()),
            [b'/', b'*', ..] => find(source, at + 2, b"*/").map_or(source.len(), |end| end + 2),
            [b'"', ..] => text_end(source, at + 1),
            [b'r', b'"' | b'#', ..] if !is_in_word || source[at - 1] == b'b' => raw_text_end(source, at + 1),
            [b'\'', ..] => character_end(source, at + 1),
            _ => at,
        };
        if source[at] == b'/' && end > at {
            comments.push(at..end);
        }
        code[at..end].fill(b' ');
        at = end.max(at + 1);
    }
    (code, comments)
}

fn text_end(source: &[u8], mut at: usize) -> usize {
    while at < source.len() && source[at] != b'"' {
        at += if source[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(source.len())
}

/// The end of a raw text, whose marks begin at `at`; `at` if it is a raw name.
fn raw_text_end(source: &[u8], at: usize) -> usize {
    let marks = source[at..].iter().take_while(|byte| **byte == b'#').count();
    if source.get(at + marks) != Some(&b'"') {
        return at;
    }
    let end = [&b"\""[..], &b"#".repeat(marks)].concat();
    find(source, at + marks + 1, &end).map_or(source.len(), |found| found + end.len())
}

/// The end of a character that begins at `at`, behind its quote; `at` if it is the name of a lifetime.
fn character_end(source: &[u8], at: usize) -> usize {
    let closing = match source.get(at) {
        Some(b'\\') => find(source, at + 2, b"'"),
        // Of the bytes of one character only the first is no continuation.
        Some(_) => (at + 1..source.len()).find(|at| source[*at] & 0xc0 != 0x80).filter(|at| source[*at] == b'\''),
        None => None,
    };
    closing.map_or(at, |closing| closing + 1)
}

fn find(bytes: &[u8], from: usize, word: &[u8]) -> Option<usize> {
    let from = from.min(bytes.len());
    bytes[from..].windows(word.len()).position(|window| window == word).map(|at| from + at)
}

/// The name of the function that follows an attribute, and where its body ends.
fn function(code: &[u8], attribute: usize) -> (String, usize) {
    let name = find(code, attribute, b"fn ").expect("a function") + 3;
    let length = code[name..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let behind_parameters = closed(code, name, b'(', b')');
    let end = closed(code, behind_parameters, b'{', b'}');
    (String::from_utf8_lossy(&code[name..name + length]).into_owned(), end)
}

/// Behind what closes the first pair that opens at `from` or later.
fn closed(code: &[u8], from: usize, open: u8, close: u8) -> usize {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(from) {
        depth += i32::from(*byte == open);
        if *byte == close {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    code.len()
}

/// Behind the code before all the attributes and comments that belong to the one at `attribute`.
fn first_attribute(code: &[u8], attribute: usize) -> usize {
    let before = code[..attribute].trim_ascii_end();
    let opened = before.ends_with(b"]").then(|| before.iter().rposition(|byte| *byte == b'#')).flatten();
    opened.map_or(before.len(), |other| first_attribute(code, other))
}
