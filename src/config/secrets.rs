//! What a client must never show: values of headers, user information, and the query of its URL. All text from outside
//! that users see goes through here first: receivers repeat what they were sent.
//!
//! A secret is found whole and in part, in upper and lower case, and with any escaping: percent signs, JSON, HTML or
//! source code, up to three times over.

use std::{fmt, ops::Range};

use http::header::COOKIE;
use once_cell::race::OnceBox;

mod escapes;

use escapes::{Byte, unescaped};

use super::{Headers, Settings};

/// A shorter text occurs everywhere, and is not treated as secret.
const SHORTEST: usize = 4;
/// This many consecutive characters of a secret are treated as secret.
const WINDOW: usize = 8;
/// How often a text is unescaped.
const TIMES: usize = 3;

/// Headers that give instructions to receivers, and which receivers mention in answers.
const OPEN_HEADERS: &[&str] =
    &["accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "host", "user-agent"];

/// Words that are never treated as secrets: messages are made of them.
const OPEN_WORDS: &[&str] = &[
    "admin",
    "apikey",
    "application/json",
    "application/x-protobuf",
    "basic",
    "bearer",
    "default",
    "false",
    "gzip",
    "http",
    "http/json",
    "http/protobuf",
    "https",
    "json",
    "logs",
    "main",
    "metrics",
    "none",
    "null",
    "otel",
    "otlp",
    "prod",
    "production",
    "protobuf",
    "root",
    "test",
    "token",
    "trace",
    "traces",
    "true",
    "user",
    "utf-8",
    "v1/traces",
    "zstd",
];

/// All secrets of a client. Neither `Display` nor `Debug` shows any.
#[derive(Default)]
pub(crate) struct Secrets {
    /// The secrets in the form in which they are sent.
    sent: Vec<Vec<u8>>,
    /// Made at the first search.
    index: OnceBox<Index>,
}

/// The patterns to search for, by length from [`SHORTEST`] to [`WINDOW`]: short secrets whole, of the others every part
/// of length `WINDOW`. Each is a number made of its bytes, in order.
#[derive(Default)]
struct Index([Vec<u64>; WINDOW - SHORTEST + 1]);

impl Secrets {
    /// Collects the secrets of `settings`.
    pub(crate) fn of(settings: &Settings) -> Self {
        let mut secrets = Self::default();
        secrets.add_headers(&settings.headers);
        secrets.add_query(settings.endpoint.url().query().unwrap_or_default());
        if let Some(proxy) = &settings.proxy {
            secrets.add_query(proxy.query());
            proxy.secrets().for_each(|secret| secrets.add(&secret));
        }
        secrets
    }

    fn add_headers(&mut self, headers: &Headers) {
        for (name, value) in headers.iter().filter(|(name, _)| !OPEN_HEADERS.contains(&name.as_str())) {
            let value = value.as_bytes();
            self.add(value);
            if name == COOKIE {
                value.split(|byte| *byte == b';').for_each(|pair| self.add_value(pair));
            }
            // The token after the scheme.
            let Some(space) = value.iter().position(|byte| *byte == b' ') else { continue };
            let (scheme, token) = (&value[..space], &value[space + 1..]);
            self.add(token);
            if scheme.eq_ignore_ascii_case(b"basic") {
                let credentials = base64_decoded(token);
                self.add(&credentials);
                credentials.splitn(2, |byte| *byte == b':').for_each(|part| self.add(part));
            }
        }
    }

    /// Adds the values of a query; an item without a name counts as a value.
    fn add_query(&mut self, query: &str) {
        query.split(['&', ';']).for_each(|pair| self.add_value(pair.as_bytes()));
    }

    /// Adds what follows the first equals sign, or the whole pair.
    fn add_value(&mut self, pair: &[u8]) {
        let value = pair.iter().position(|byte| *byte == b'=').map_or(pair, |at| &pair[at + 1..]);
        self.add(value.trim_ascii());
    }

    /// Adds a secret.
    pub(crate) fn add(&mut self, secret: &[u8]) {
        let is_open = OPEN_WORDS.iter().any(|word| secret.eq_ignore_ascii_case(word.as_bytes()));
        if secret.len() >= SHORTEST && !is_open {
            self.sent.push(secret.to_vec());
        }
    }

    /// Returns `text` with every secret overwritten, in time proportional to its length. Each hidden character becomes
    /// one asterisk, so that the surrounding text keeps its place.
    pub(crate) fn cleaned(&self, text: &str) -> String {
        if self.sent.is_empty() {
            return text.to_owned();
        }
        let index = self.index.get_or_init(|| Box::new(Index::of(&self.sent)));
        let mut hidden = vec![false; text.len()];
        let mut bytes = escapes::plain(text.as_bytes());
        for _ in 0..=TIMES {
            index.find(&bytes, |range| hidden[range].fill(true));
            match unescaped(&bytes) {
                Some(again) => bytes = again,
                None => break,
            }
        }
        let is_hidden = |at: usize, c: char| hidden[at..at + c.len_utf8()].contains(&true);
        text.char_indices().map(|(at, c)| if is_hidden(at, c) { '*' } else { c }).collect()
    }
}

impl Index {
    fn of(secrets: &[Vec<u8>]) -> Self {
        let mut index = Self::default();
        for secret in secrets {
            // Text is unescaped as a whole, so the secret in it may be unescaped too.
            let mut bytes = escapes::plain(secret);
            for _ in 0..=TIMES {
                index.add(&bytes);
                match unescaped(&bytes) {
                    Some(again) => bytes = again,
                    None => break,
                }
            }
        }
        for parts in &mut index.0 {
            parts.sort_unstable();
            parts.dedup();
        }
        index
    }

    fn add(&mut self, secret: &[Byte]) {
        let length = secret.len().min(WINDOW);
        if length >= SHORTEST {
            let parts =
                secret.windows(length).map(|part| part.iter().fold(0, |number, byte| number << 8 | folded(byte)));
            self.0[length - SHORTEST].extend(parts);
        }
    }

    /// Calls `found` with each place in the original text at which a secret stands in `bytes`.
    fn find(&self, bytes: &[Byte], mut found: impl FnMut(Range<usize>)) {
        let mut last = 0_u64;
        for (at, byte) in bytes.iter().enumerate() {
            last = last << 8 | folded(byte);
            for (parts, length) in self.0.iter().zip(SHORTEST..) {
                let is_there = |part| parts.binary_search(&part).is_ok();
                if at + 1 >= length && !parts.is_empty() && is_there(last & u64::MAX >> (64 - 8 * length)) {
                    found(bytes[at + 1 - length].from..byte.to);
                }
            }
        }
    }
}

/// A byte in the form for comparison: without case, and with characters as one that stand for each other in the
/// alphabets of Base64 and in forms.
fn folded(byte: &Byte) -> u64 {
    u64::from(match byte.value {
        b'+' | b'-' => b' ',
        b'_' => b'/',
        value => value.to_ascii_lowercase(),
    })
}

/// Decodes Base64 as far as it is valid.
pub(crate) fn base64_decoded(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        (bits, count) = (bits << 6 | u32::from(sextet), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
