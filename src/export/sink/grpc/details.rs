//! What stands beside a status: words in percent-encoding, and `google.rpc.Status` in Base64 with the pause that the
//! receiver asks for. Pure.

use std::time::Duration;

use crate::wire::{Field, Fields, LEN, tag};

/// The type of the detail that asks for a pause.
const RETRY_INFO: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// The fields of `google.rpc.Status`, of `google.protobuf.Any`, of `RetryInfo` and of `Duration`.
const DETAILS: u32 = 3;
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;
const RETRY_DELAY: u32 = 1;
const SECONDS: u32 = 1;
const NANOS: u32 = 2;

/// The pause that a status asks for, from its details in Base64; nothing of it is negative. None if it asks for none.
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = base64(details)?;
    let mut found = None;
    each(&status, |field| {
        if let Some(any) = bytes(&status, &field, DETAILS) {
            found = found.or(of_any(any));
        }
    })?;
    found
}

fn of_any(any: &[u8]) -> Option<Duration> {
    let (mut is_retry_info, mut value) = (false, None);
    each(any, |field| {
        if let Some(url) = bytes(any, &field, TYPE_URL) {
            is_retry_info = url == RETRY_INFO;
        }
        if let Some(bytes) = bytes(any, &field, VALUE) {
            value = Some(bytes);
        }
    })?;
    if !is_retry_info {
        return None;
    }
    // Without a delay it says that another attempt may succeed.
    let mut delay = Duration::ZERO;
    let info = value.unwrap_or_default();
    each(info, |field| {
        if let Some(duration) = bytes(info, &field, RETRY_DELAY) {
            delay = of_duration(duration).unwrap_or_default();
        }
    })?;
    Some(delay)
}

fn of_duration(duration: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    each(duration, |field| match field.number() {
        SECONDS => seconds = field.varint(duration).unwrap_or_default() as i64,
        NANOS => nanos = field.varint(duration).unwrap_or_default() as i64,
        _ => {}
    })?;
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Words as they were before they were percent-encoded. What is not encoded as it should be stands as it is.
pub(super) fn words(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = (*byte == b'%').then(|| behind.first_chunk::<2>()).flatten();
        let digits = escaped.and_then(|digits| str::from_utf8(digits).ok());
        match digits.filter(|digits| !digits.starts_with('+')).map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(decoded)) => {
                bytes.push(decoded);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Hands the fields of `message` on; none if it is no message.
fn each(message: &[u8], mut take: impl FnMut(Field)) -> Option<()> {
    let mut fields = Fields::new(message, 0);
    fields.by_ref().for_each(&mut take);
    fields.are_over().then_some(())
}

fn bytes<'a>(message: &'a [u8], field: &Field, number: u32) -> Option<&'a [u8]> {
    (field.tag == tag(number, LEN)).then(|| &message[field.body.clone()])
}

/// Decodes Base64, padded or not, of either alphabet.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    if padding > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut decoded = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut waiting, mut bits) = (0_u32, 0);
    for digit in digits {
        let sextet = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        waiting = waiting << 6 | u32::from(sextet);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            decoded.push((waiting >> bits) as u8);
            waiting &= (1 << bits) - 1;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{config::base64 as encoded, hostile::mutated};

    #[derive(Clone, PartialEq, prost::Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<Delay>,
    }

    fn status(delay: Option<Delay>) -> Vec<u8> {
        let other = Any { type_url: "type.googleapis.com/google.rpc.DebugInfo".into(), value: vec![1, 2, 3] };
        let info = Any {
            type_url: String::from_utf8(RETRY_INFO.to_vec()).unwrap(),
            value: RetryInfo { retry_delay: delay }.encode_to_vec(),
        };
        Status { code: 14, message: "later".into(), details: vec![other, info] }.encode_to_vec()
    }

    #[test]
    fn a_pause_is_read_wherever_it_stands_among_the_details() {
        // GRPC-04
        let delay = |seconds, nanos| retry_delay(encoded(&status(Some(Delay { seconds, nanos }))).as_bytes());
        assert_eq!(delay(2, 500_000_000), Some(Duration::from_millis(2_500)));
        assert_eq!(delay(0, 0), Some(Duration::ZERO));
        assert_eq!(delay(-1, 0), Some(Duration::ZERO), "that has passed");
        assert_eq!(retry_delay(encoded(&status(None)).as_bytes()), Some(Duration::ZERO));
        let none = Status { code: 8, message: String::new(), details: Vec::new() }.encode_to_vec();
        assert_eq!(retry_delay(encoded(&none).as_bytes()), None);
        assert_eq!(retry_delay(b""), None);
    }

    proptest! {
        #[test]
        fn base64_reads_as_it_was_written_with_and_without_padding(bytes: Vec<u8>) {
            let text = encoded(&bytes);
            prop_assert_eq!(base64(text.as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(base64(text.trim_end_matches('=').as_bytes()), Some(bytes));
        }

        #[test]
        fn whatever_stands_there_is_read_or_nothing(bytes in mutated(Just(status(Some(Delay { seconds: 1, nanos: 1 })))), raw: Vec<u8>) {
            retry_delay(encoded(&bytes).as_bytes());
            retry_delay(&raw);
        }
    }
}
