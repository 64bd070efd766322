//! What the end of a call means for the request. Pure.

use std::{io::Read as _, time::SystemTime};

use super::{
    call::{Answer, Content, End, PREFIX_BYTES},
    details::{retry_delay, words},
    exchange::Ended,
};
use crate::{
    config::{Compression, Secrets},
    export::{
        encode::compress,
        net::standing::About,
        outcome::{Code, Failure, Outcome, StatusCode},
        sink::{
            channel::too_many_bytes,
            classify::{accepted, classify as classify_http, excerpt, names_size, with_pause},
        },
    },
};

/// Servers take no larger messages unless they are told to: grpcio, grpc-js, tonic, Go's and the Collector.
const USUAL_LIMIT: usize = 4 * 1024 * 1024;

/// HTTP/2's code for a peer that asks for more than is due to it (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 11;

/// Classifies how a call ended whose message had so many bytes before compression, and of whose answer at most `most`
/// bytes were kept ([OTLP/gRPC response](https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response)).
///
/// `now` is what a `Retry-After` date of a proxy is compared with. What is repeated of the receiver's words is without
/// `secrets`.
pub(super) fn classify(ended: &Ended, bytes: usize, most: usize, secrets: &Secrets, now: SystemTime) -> Outcome {
    let answer = &ended.answer;
    let status = match (answer.status, ended.end) {
        (Some(status), _) => StatusCode(status),
        // RTY-09: an answer beyond the limit is final, whatever it would have said.
        (None, End::TooLarge) => {
            return Outcome::Refused { code: Code::Http(answer.http), message: too_many_bytes(most) };
        }
        (None, End::Reset { code } | End::Untaken { code }) => return reset(code),
        (None, End::Whole) => return without_status(answer, secrets, now),
    };
    if status == StatusCode::OK {
        // A body that is not the message it should be does not undo the acceptance.
        return accepted(&message(answer, most).unwrap_or_default(), secrets);
    }
    failed(status, answer, bytes, secrets)
}

/// What a connection is worth after an answer to a request with this compression.
pub(super) fn about(outcome: &Outcome, compression: Compression) -> About {
    match outcome {
        Outcome::Accepted { .. } => About::Success,
        Outcome::Refused { code: Code::Grpc(StatusCode::INVALID_ARGUMENT), .. } | Outcome::TooLarge { .. } => {
            About::Request
        }
        // GRPC-03: it is not asked again without a pause to keep. What comes next may go elsewhere.
        Outcome::Refused { code: Code::Grpc(StatusCode::RESOURCE_EXHAUSTED), .. } => About::Node,
        // Every node would say so.
        Outcome::Refused { code: Code::Grpc(StatusCode::UNIMPLEMENTED | StatusCode::INTERNAL), .. }
            if !matches!(compression, Compression::None | Compression::Gzip) =>
        {
            About::Request
        }
        Outcome::Refused { code: Code::Http(status), .. } => About::of(*status),
        Outcome::Refused { code: Code::Grpc(_), .. } => About::NodeForGood,
        Outcome::Failed { .. } | Outcome::Oversized { .. } => About::Node,
    }
}

/// A status that is none of success.
fn failed(status: StatusCode, answer: &Answer, bytes: usize, secrets: &Secrets) -> Outcome {
    let code = Code::Grpc(status);
    let said = excerpt(&words(&answer.message), secrets);
    let retry_after = retry_delay(&answer.details);
    let is_for_size = match status {
        StatusCode::RESOURCE_EXHAUSTED | StatusCode::OUT_OF_RANGE => names_size(&said) || bytes > USUAL_LIMIT,
        // What Envoy makes of its own 413.
        StatusCode::UNKNOWN => names_size(&said),
        _ => false,
    };
    if is_for_size && retry_after.is_none() {
        return Outcome::TooLarge { code, message: said };
    }
    // GRPC-03
    let failure = match (status, retry_after) {
        (StatusCode::RESOURCE_EXHAUSTED, Some(_)) => Failure::Throttled(code),
        (status, _) if status.is_passing() => Failure::Unavailable(code),
        _ => return Outcome::Refused { code, message: said },
    };
    Outcome::Failed { failure, message: with_pause(format!("status {status}"), &said, retry_after), retry_after }
}

/// A stream that was cut off before there was a status.
fn reset(code: u32) -> Outcome {
    let status = StatusCode::of_reset(code);
    let message = format!("the receiver broke the call off with code {code} of HTTP/2, which stands for {status}");
    let failure = match code {
        ENHANCE_YOUR_CALM => Failure::Throttled(Code::Grpc(status)),
        _ if status.is_passing() => Failure::Unavailable(Code::Grpc(status)),
        _ => return Outcome::Refused { code: Code::Grpc(status), message },
    };
    Outcome::Failed { failure, message, retry_after: None }
}

/// An answer that is not gRPC's: a proxy's or a web server's.
fn without_status(answer: &Answer, secrets: &Secrets, now: SystemTime) -> Outcome {
    match (answer.http, answer.content) {
        (200..=299, Content::Grpc) => unusable("the answer has no grpc-status; was it cut off on the way?"),
        (200..=299, Content::Other) => {
            unusable("the answer is not gRPC's, although it says that all is well; is it a web server?")
        }
        (status, _) => classify_http(status, answer.retry_after.as_deref(), &answer.body, secrets, now),
    }
}

fn unusable(message: &str) -> Outcome {
    Outcome::Failed { failure: Failure::Unusable, message: message.to_owned(), retry_after: None }
}

/// The message of an answer. None if the body is not exactly one, or it cannot be read within `most` bytes.
fn message(answer: &Answer, most: usize) -> Option<Vec<u8>> {
    let (prefix, message) = answer.body.split_first_chunk::<PREFIX_BYTES>()?;
    let [is_compressed, a, b, c, d] = *prefix;
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return None;
    }
    match (is_compressed, answer.encoding.as_deref()) {
        (0, _) => Some(message.to_vec()),
        (1, Some("gzip")) => {
            let mut plain = Vec::new();
            let read = compress::reader(message, Compression::Gzip)?.take(most as u64 + 1).read_to_end(&mut plain);
            (read.is_ok() && plain.len() <= most).then_some(plain)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
