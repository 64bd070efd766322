//! What stands beside a status: words in percent-encoding, and `google.rpc.Status` in Base64 with the pause that the
//! receiver asks for. Pure.

use std::{borrow::Cow, time::Duration};

use percent_encoding::percent_decode_str;

use crate::{
    config::base64_decoded,
    export::sink::answer::{bytes, fields},
    proto::{any, duration, retry_info, rpc_status},
};

/// The type of the detail that asks for a pause.
const RETRY_INFO: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// The pause that a status asks for, from its details in Base64; nothing of it is negative. None if it asks for none.
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = base64_decoded(details);
    let mut found = None;
    fields(&status, |field| {
        if field.number() == rpc_status::DETAILS {
            found = found.or(of_any(bytes(&status, &field)?));
        }
        Some(())
    })?;
    found
}

fn of_any(detail: &[u8]) -> Option<Duration> {
    let (mut url, mut value) = (&[][..], &[][..]);
    fields(detail, |field| {
        match field.number() {
            any::TYPE_URL => url = bytes(detail, &field)?,
            any::VALUE => value = bytes(detail, &field)?,
            _ => {}
        }
        Some(())
    })?;
    if url != RETRY_INFO {
        return None;
    }
    // Without a delay it says that another attempt may succeed.
    let mut delay = Duration::ZERO;
    fields(value, |field| {
        if field.number() == retry_info::RETRY_DELAY {
            delay = of_duration(bytes(value, &field)?).unwrap_or_default();
        }
        Some(())
    })?;
    Some(delay)
}

fn of_duration(message: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    fields(message, |field| {
        match field.number() {
            duration::SECONDS => seconds = field.varint(message)? as i64,
            duration::NANOS => nanos = field.varint(message)? as i64,
            _ => {}
        }
        Some(())
    })?;
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Words as they were before they were percent-encoded. What is not encoded as it should be stands as it is.
pub(super) fn words(encoded: &str) -> Cow<'_, str> {
    percent_decode_str(encoded).decode_utf8_lossy()
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
        fn whatever_stands_there_is_read_or_nothing(bytes in mutated(Just(status(Some(Delay { seconds: 1, nanos: 1 })))), raw: Vec<u8>) {
            retry_delay(encoded(&bytes).as_bytes());
            retry_delay(&raw);
        }
    }
}
