//! What an HTTP answer means for the request that it answers.

use std::time::{Duration, SystemTime};

use super::answer::{self, PartialSuccess};
use crate::{
    config::Secrets,
    export::outcome::{Code, Failure, Outcome},
};

/// How much of a receiver's own words is repeated.
const MESSAGE_CHARS: usize = 256;
/// What stands beside them, at most.
const BESIDE_WORDS: usize = 80;
/// How much behind it is looked at, for secrets that begin in it.
const CONTEXT_CHARS: usize = 1024;

/// Classifies an answer ([OTLP/HTTP response](https://opentelemetry.io/docs/specs/otlp/#otlphttp-response)).
///
/// `now` is what a `Retry-After` date is compared with. What is repeated of the receiver's words is without `secrets`.
pub(super) fn classify(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
    secrets: &Secrets,
    now: SystemTime,
) -> Outcome {
    let code = Code::Http(status);
    match status {
        200..=299 => {
            // A body that is not the message it should be does not undo the acceptance. What is one in JSON is none in
            // protobuf: a brace would begin a group.
            accepted(body, secrets)
        }
        429 | 502 | 503 | 504 => {
            let retry_after = retry_after.and_then(|value| delay(value.trim(), now));
            Outcome::Failed {
                failure: if status == 429 { Failure::Throttled(code) } else { Failure::Unavailable(code) },
                message: unavailable(status, &refusal(body, secrets), retry_after),
                retry_after,
            }
        }
        413 => Outcome::TooLarge { code, message: refusal(body, secrets) },
        400 => {
            let message = refusal(body, secrets);
            if names_size(&message) { Outcome::TooLarge { code, message } } else { Outcome::Refused { code, message } }
        }
        _ => Outcome::Refused { code, message: refusal(body, secrets) },
    }
}

/// The request was accepted, with this message, or something else that changes nothing about it.
pub(super) fn accepted(body: &[u8], secrets: &Secrets) -> Outcome {
    let partial = PartialSuccess::read(body).or_else(|| PartialSuccess::read_json(body)).unwrap_or_default();
    Outcome::Accepted {
        rejected: partial.rejected_spans.try_into().unwrap_or(0),
        message: (!partial.message.is_empty()).then(|| excerpt(&partial.message, secrets)),
    }
}

/// A status that asks to come back, with the receiver's own words and wishes.
fn unavailable(status: u16, words: &str, retry_after: Option<Duration>) -> String {
    with_pause(format!("status {status}"), &without_markup(words), retry_after)
}

/// A status with the receiver's own words and wishes.
pub(super) fn with_pause(mut message: String, words: &str, retry_after: Option<Duration>) -> String {
    let words: String = words.chars().take(MESSAGE_CHARS - BESIDE_WORDS).collect();
    if !words.is_empty() {
        message.push_str(": ");
        message.push_str(&words);
    }
    if let Some(pause) = retry_after.filter(|pause| !pause.is_zero()) {
        message.push_str(&format!(" (asks for a pause of {pause:?})"));
    }
    message
}

/// Whether a bad request is one for its size: servers that read no more than so much call what is left bad.
pub(super) fn names_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let is_size = ["too large", "too big", "larger than", "exceeds"].iter().any(|words| message.contains(words));
    is_size && ["body", "request", "message", "payload", "entity"].iter().any(|of| message.contains(of))
}

/// The text of a page that was written for browsers; other text as it is.
fn without_markup(text: &str) -> String {
    if !text.starts_with('<') {
        return text.to_owned();
    }
    let texts = text.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim());
    let mut words: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
    // The title says often what the heading says.
    words.dedup();
    words.join(" ")
}

/// `Retry-After`, as seconds or as an HTTP date; none where it is neither.
fn delay(retry_after: &str, now: SystemTime) -> Option<Duration> {
    match retry_after.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // More seconds than can be counted.
        Err(_) if !retry_after.is_empty() && retry_after.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Duration::MAX)
        }
        Err(_) => {
            let date = httpdate::parse_http_date(retry_after).ok()?;
            // A date that has passed means now.
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// What the body of a failure says: the message of a `google.rpc.Status`, or text as it is.
fn refusal(body: &[u8], secrets: &Secrets) -> String {
    match answer::status_message(body) {
        Some(message) if !message.is_empty() => excerpt(message, secrets),
        _ => excerpt(&String::from_utf8_lossy(body), secrets),
    }
}

/// The first line's worth of `text`, without secrets and control characters.
pub(super) fn excerpt(text: &str, secrets: &Secrets) -> String {
    // What is cut off takes with it what an escaped secret at the end is recognised by, so that comes later.
    let end = text.char_indices().nth(MESSAGE_CHARS + CONTEXT_CHARS).map_or(text.len(), |(at, _)| at);
    let text = secrets.cleaned(&text[..end]);
    text.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().into()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::hostile::{assert_linear, assert_linear_in, mutated, text};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    /// Without secrets.
    fn classify(status: u16, retry_after: Option<&str>, body: &[u8], now: SystemTime) -> Outcome {
        super::classify(status, retry_after, body, &Secrets::default(), now)
    }

    fn partial(rejected_spans: i64, error_message: &str) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: error_message.into() });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    #[test]
    fn success_carries_the_rejected_spans_and_the_message() {
        // RTY-06
        let accepted =
            |rejected, message: Option<&str>| Outcome::Accepted { rejected, message: message.map(Into::into) };
        assert_eq!(classify(200, None, &[], NOW), accepted(0, None));
        assert_eq!(classify(200, None, &partial(3, "bad"), NOW), accepted(3, Some("bad")));
        assert_eq!(classify(200, None, &partial(0, "hint"), NOW), accepted(0, Some("hint")));
        assert_eq!(classify(200, None, &partial(-1, ""), NOW), accepted(0, None));
    }

    #[test]
    fn only_four_statuses_are_worth_another_attempt() {
        // RTY-02, RTY-03, RTY-11: whatever the body says, a `Status` of code 3 or 14, or a page.
        for body in [&b""[..], b"\x08\x03\x12\x05wrong", b"\x08\x0e", b"<html>\xff"] {
            for status in 300..=599 {
                let may_retry = matches!(classify(status, None, body, NOW), Outcome::Failed { .. });
                assert_eq!(may_retry, [429, 502, 503, 504].contains(&status), "{status}");
            }
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        // RTY-04
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let delay = |text| match classify(503, Some(text), &[], now) {
            Outcome::Failed { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(delay(" 2 "), Some(Duration::from_secs(2)));
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:39 GMT"), Some(Duration::from_secs(2)));
        assert_eq!(delay("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(delay("99999999999999999999999999"), Some(Duration::MAX));
        assert_eq!((delay("soon"), delay("-1"), delay("")), (None, None, None));
    }

    #[test]
    fn who_asks_to_come_back_is_quoted_and_pages_lose_their_markup() {
        let told = |retry_after, body: &[u8]| match classify(503, retry_after, body, NOW) {
            Outcome::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(None, b""), "status 503");
        assert_eq!(told(Some("7"), b"\x08\x0e\x12\x04busy"), "status 503: busy (asks for a pause of 7s)");
        let page = b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available.\n</body></html>";
        assert_eq!(told(None, page), "status 503: 503 Service Unavailable No server is available.");
    }

    #[test]
    fn a_bad_request_that_names_its_size_is_too_large() {
        let is_too_large = |body: &[u8]| matches!(classify(400, None, body, NOW), Outcome::TooLarge { .. });
        for text in
            [&b"http: request body too large"[..], b"Message is larger than max (9 vs. 4)", b"payload exceeds 4MB"]
        {
            assert!(is_too_large(text));
        }
        for text in [&b""[..], b"wrong", b"too large a number of attributes", b"request has no body"] {
            assert!(!is_too_large(text));
        }
    }

    #[test]
    fn a_refusal_repeats_what_the_receiver_said_in_one_line() {
        // RTY-03, RTY-11
        let refused = |body: &[u8]| match classify(400, None, body, NOW) {
            Outcome::Refused { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(b"\x08\x03\x12\x05wrong"), "wrong");
        assert_eq!(refused(b"<html>\nno"), "<html> no");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status: u16, retry_after: Option<String>, body: Vec<u8>) {
            // RTY-11
            classify(status, retry_after.as_deref(), &body, NOW);
        }

        #[test]
        fn an_answer_with_errors_in_it_is_told_in_a_short_line(
            status in prop_oneof![200_u16..300, Just(400), Just(413), Just(503)],
            after in prop_oneof![
                text(),
                Just("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
                Just("Fri, 31 Dec 9999 23:59:59 GMT".to_owned()),
                "[0-9]{1,30}",
            ],
            body in prop_oneof![
                mutated(Just(partial(3, "bad"))),
                mutated(Just(partial(i64::MIN, &"é".repeat(300)))),
                mutated(Just(b"\x08\x03\x12\x05wrong".to_vec())),
            ],
        ) {
            // RTY-04, RTY-06, RTY-11
            let message = match classify(status, Some(&after), &body, NOW) {
                Outcome::Accepted { rejected, message } => {
                    prop_assert!(rejected <= i64::MAX as u64);
                    message.unwrap_or_default()
                }
                Outcome::Refused { message, .. } | Outcome::TooLarge { message, .. } => message,
                Outcome::Failed { message, .. } => message,
                Outcome::Oversized { .. } => unreachable!("an answer came"),
            };
            prop_assert!(message.chars().count() <= MESSAGE_CHARS && !message.contains(char::is_control));
        }
    }

    #[test]
    fn every_answer_is_read_in_time_in_proportion_to_its_length() {
        // RTY-11
        for status in [200, 400, 413] {
            assert_linear(&format!("the body of a {status}"), |text| classify(status, None, text.as_bytes(), NOW));
        }
        assert_linear("retry-after", |text| classify(503, Some(text), &[], NOW));
        type Make = fn(usize) -> Vec<u8>;
        let bodies: [(&str, Make); 6] = [
            ("a long message", |bytes| partial(1, &"é".repeat(bytes / 2))),
            ("many partial successes", |bytes| partial(1, "no").repeat(bytes / 8)),
            ("many messages", |bytes| b"\x12\x02no".repeat(bytes / 4)),
            ("groups within groups", |bytes| vec![0x1b; bytes]),
            ("fields that nobody knows", |bytes| b"\x78\x00".repeat(bytes / 2)),
            ("a number that does not end", |bytes| vec![0xff; bytes]),
        ];
        for (what, make) in bodies {
            for status in [200, 400] {
                assert_linear_in(&format!("{what} in a {status}"), make, |body| classify(status, None, body, NOW));
            }
        }
    }
}
