//! The status of a gRPC call, for an answer that was made for HTTP.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::exchange::Response;
use crate::config::base64;

/// What a message is not sent as it is, beside what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The trailers of an answer: those that were given, or what a server says in place of the status of HTTP.
pub(super) fn trailers(response: &Response) -> Vec<(&'static str, String)> {
    if let Some(status) = response.find("grpc-status") {
        let message = response.find("grpc-message").unwrap_or_default();
        let mut trailers = vec![("grpc-status", status.to_owned()), ("grpc-message", percent_encoded(message))];
        let code = status.parse().unwrap_or_default();
        trailers.extend(pause(response).map(|seconds| ("grpc-status-details-bin", details(code, seconds))));
        return trailers;
    }
    let status = code(response.status);
    let mut trailers = vec![("grpc-status", status.to_string())];
    if status != 0 {
        trailers.push(("grpc-message", percent_encoded(&message(response))));
    }
    let seconds = pause(response);
    if let Some(seconds) = seconds.or((response.status == 429).then_some(0)) {
        trailers.push(("grpc-status-details-bin", details(status, seconds)));
    }
    trailers
}

/// The seconds after which the client is to ask again.
fn pause(response: &Response) -> Option<u64> {
    response.find("retry-after").and_then(|after| after.parse().ok())
}

/// The status code of gRPC that means about the same.
fn code(status: u16) -> u32 {
    match status {
        200..=299 => 0,
        400 => 3,
        401 => 16,
        403 => 7,
        404 | 405 | 415 => 12,
        413 | 429 => 8,
        502..=504 => 14,
        _ => 13,
    }
}

/// The words of a failure: the message of its `google.rpc.Status`, or its body as text.
fn message(response: &Response) -> String {
    let body = response.body.as_slice();
    let words = String::from_utf8_lossy(only_message(body).unwrap_or(body)).into_owned();
    // Receivers say so in these words.
    if response.status == 413 { format!("Received message larger than max: {words}") } else { words }
}

/// What stands in the second field of a message that has no other.
fn only_message(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body.strip_prefix(&[0x12])?;
    let length = prost::encoding::decode_varint(&mut rest).ok()?;
    (length == rest.len() as u64).then_some(rest)
}

fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `google.rpc.Status` with a `RetryInfo` of so many seconds, in Base64.
fn details(status: u32, seconds: u64) -> String {
    let field = |number: u8, body: &[u8]| {
        let mut bytes = vec![number << 3 | 2];
        prost::encode_length_delimiter(body.len(), &mut bytes).expect("a Vec grows");
        bytes.extend_from_slice(body);
        bytes
    };
    let mut duration = vec![1 << 3];
    prost::encoding::encode_varint(seconds, &mut duration);
    let info = field(1, &duration);
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &info)].concat();
    base64(&[vec![1 << 3, status as u8], field(3, &any)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_status_that_means_the_same_or_the_one_it_was_given() {
        let of = |response: &Response| trailers(response);
        assert_eq!(of(&Response::ok()), [("grpc-status", "0".to_owned())]);
        let refused = of(&Response::status(400).body("50% bad\n"));
        assert_eq!(refused, [("grpc-status", "3".to_owned()), ("grpc-message", "50%25 bad%0A".to_owned())]);
        let exact = of(&Response::grpc(14, "no"));
        assert_eq!(exact, [("grpc-status", "14".to_owned()), ("grpc-message", "no".to_owned())]);
        let slow = of(&Response::status(503).header("Retry-After", "300"));
        assert_eq!(slow[2].0, "grpc-status-details-bin");
        assert_eq!(of(&Response::status(429)).len(), 3);
        let exact_and_slow = of(&Response::grpc(8, "no").header("retry-after", "300"));
        assert_eq!(exact_and_slow[2], ("grpc-status-details-bin", details(8, 300)));
        let words = "w".repeat(300);
        assert_eq!(of(&Response::failure(400, &words))[1], ("grpc-message", words));
    }
}
