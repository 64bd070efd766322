use std::{io::Write as _, time::Duration};

use flate2::{Compression as Level, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::hostile::mutated;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const MOST: usize = 10_000;

/// `google.rpc.Status` with a RetryInfo of two seconds, or without its delay.
const IN_TWO_SECONDS: &[u8] = b"CA4aMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAg";
const SOON: &[u8] = b"CA4aKgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbw";

fn ended(answer: Answer, end: End) -> Ended {
    Ended { answer, end, is_over: false }
}

fn answered(status: u32, message: &str, details: &[u8]) -> Ended {
    let answer = Answer {
        http: 200,
        content: Content::Grpc,
        status: Some(status),
        message: message.into(),
        details: details.to_vec(),
        ..Answer::default()
    };
    ended(answer, End::Whole)
}

fn of(ended: &Ended, bytes: usize) -> Outcome {
    classify(ended, bytes, MOST, &Secrets::default(), NOW)
}

fn outcome(status: u32, message: &str, details: &[u8]) -> Outcome {
    of(&answered(status, message, details), 100)
}

fn partial(rejected_spans: i64, error_message: &str) -> Vec<u8> {
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: error_message.into() });
    ExportTraceServiceResponse { partial_success }.encode_to_vec()
}

/// The body with a message in it.
fn framed(is_compressed: u8, message: &[u8]) -> Vec<u8> {
    [&[is_compressed][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn accepted_with(body: Vec<u8>, encoding: Option<&str>) -> Outcome {
    let mut ended = answered(0, "OK", b"");
    (ended.answer.body, ended.answer.encoding) = (body, encoding.map(Into::into));
    of(&ended, 100)
}

#[test]
fn every_code_is_final_or_worth_another_attempt_as_the_table_has_it() {
    // GRPC-02, GRPC-03
    for code in 1..=17 {
        let right = [1, 4, 10, 11, 14, 15].contains(&code);
        assert_eq!(matches!(outcome(code, "no", b""), Outcome::Failed { .. }), right, "{code}");
    }
    let refused = Outcome::Refused { code: Code::Grpc(StatusCode::INVALID_ARGUMENT), message: "bad: 50% off".into() };
    assert_eq!(outcome(3, "bad%3A 50% off", b""), refused);
}

#[test]
fn a_pause_that_the_receiver_asks_for_is_kept_and_makes_a_shortage_passing() {
    // GRPC-03, GRPC-04
    let after = |status, details| match outcome(status, "busy", details) {
        Outcome::Failed { failure, message, retry_after } => (failure, message, retry_after),
        other => panic!("{other:?}"),
    };
    let two = Some(Duration::from_secs(2));
    let (failure, message, pause) = after(14, IN_TWO_SECONDS);
    assert_eq!((failure, pause), (Failure::Unavailable(Code::Grpc(StatusCode::UNAVAILABLE)), two));
    assert_eq!(message, "status UNAVAILABLE (14): busy (asks for a pause of 2s)");
    let throttled = Failure::Throttled(Code::Grpc(StatusCode::RESOURCE_EXHAUSTED));
    assert_eq!((after(8, IN_TWO_SECONDS).0, after(8, IN_TWO_SECONDS).2), (throttled, two));
    assert_eq!((after(8, SOON).0, after(8, SOON).2), (throttled, Some(Duration::ZERO)));
    assert!(matches!(outcome(8, "quota", b""), Outcome::Refused { .. }));
    assert!(matches!(outcome(3, "bad", IN_TWO_SECONDS), Outcome::Refused { .. }), "what is wrong stays wrong");
}

#[test]
fn a_message_that_is_too_large_is_told_in_three_dialects() {
    let is_too_large =
        |status, message, bytes| matches!(of(&answered(status, message, b""), bytes), Outcome::TooLarge { .. });
    for (status, message) in [
        (8, "SERVER: Received message larger than max (5000003 vs. 4194304)"),
        (8, "Received message larger than max (5000003 vs 4194304)"),
        (11, "Error, decoded message length too large: found 5000003 bytes, the limit is: 4194304 bytes"),
        (2, "Payload Too Large"),
    ] {
        assert!(is_too_large(status, message, 100), "{message}");
    }
    for status in [8, 11] {
        assert!(!is_too_large(status, "quota", 4 << 20) && is_too_large(status, "", (4 << 20) + 1), "{status}");
    }
    assert!(!is_too_large(3, "message too large", 100) && !is_too_large(2, "", (4 << 20) + 1));
    let asked = of(&answered(8, "message larger than max", IN_TWO_SECONDS), 100);
    assert!(matches!(asked, Outcome::Failed { .. }), "it asks to come back: {asked:?}");
}

#[test]
fn a_partial_success_is_read_however_the_answer_is_compressed() {
    // GRPC-05
    let right = Outcome::Accepted { rejected: 3, message: Some("old".into()) };
    assert_eq!(accepted_with(framed(0, &partial(3, "old")), None), right);
    assert_eq!(accepted_with(framed(1, &gzip(&partial(3, "old"))), Some("gzip")), right);
    let all = Outcome::Accepted { rejected: 0, message: None };
    let large = partial(3, &"x".repeat(2 * MOST));
    for (body, encoding) in [
        (Vec::new(), None),
        (framed(0, b""), None),
        (framed(0, &partial(3, "old"))[..9].to_vec(), None),
        (framed(1, &partial(3, "old")), None),
        (framed(1, &gzip(&partial(3, "old"))), Some("deflate")),
        (framed(1, b"no gzip"), Some("gzip")),
        (framed(1, &gzip(&large)), Some("gzip")),
        ([framed(0, &partial(3, "old")), framed(0, b"")].concat(), None),
        (framed(0, b"\xff\xff"), None),
    ] {
        assert_eq!(accepted_with(body, encoding), all, "the spans were accepted");
    }
}

#[test]
fn an_answer_of_somebody_else_on_the_way_means_what_it_means_over_http() {
    let answer = |http, content, body: &[u8]| Answer { http, content, body: body.to_vec(), ..Answer::default() };
    let page = |http, body: &[u8]| of(&ended(answer(http, Content::Other, body), End::Whole), 100);
    let html = b"<html><body><h1>503 Service Unavailable</h1></body></html>";
    for (http, is_passing) in [(429, true), (502, true), (503, true), (504, true), (404, false), (500, false)] {
        assert_eq!(matches!(page(http, html), Outcome::Failed { .. }), is_passing, "{http}");
    }
    assert!(matches!(page(413, html), Outcome::TooLarge { code: Code::Http(413), .. }));
    for content in [Content::Grpc, Content::Other] {
        let outcome = of(&ended(answer(200, content, b""), End::Whole), 100);
        assert!(matches!(outcome, Outcome::Failed { failure: Failure::Unusable, .. }), "{outcome:?}");
    }
    let mut slow = answer(503, Content::Other, html);
    slow.retry_after = Some("7".into());
    let outcome = of(&ended(slow, End::Whole), 100);
    assert!(matches!(outcome, Outcome::Failed { retry_after: Some(pause), .. } if pause == Duration::from_secs(7)));
}

#[test]
fn a_call_that_is_cut_off_counts_as_the_status_that_its_code_stands_for() {
    let cut = |code| of(&ended(Answer::default(), End::Reset { code }), 100);
    for code in 0..=14 {
        let is_passing = matches!(cut(code), Outcome::Failed { .. });
        // REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM.
        assert_eq!(is_passing, [7, 8, 11].contains(&code), "{code}: {:?}", cut(code));
    }
    assert!(matches!(cut(11), Outcome::Failed { failure: Failure::Throttled(_), .. }));
    let said = Ended { end: End::Reset { code: 0 }, ..answered(8, "message larger than max", b"") };
    assert!(matches!(of(&said, 100), Outcome::TooLarge { .. }), "what was said before counts");
    let large = of(&ended(Answer { http: 200, ..Answer::default() }, End::TooLarge), 100);
    assert!(matches!(large, Outcome::Refused { code: Code::Http(200), .. }), "RTY-09");
}

#[test]
fn what_an_answer_says_of_a_connection() {
    let about_code = |status, compression| about(&outcome(status, "", b""), compression);
    for (status, right) in [
        (0, About::Success),
        (3, About::Request),
        (14, About::Node),
        (1, About::Node),
        // GRPC-03
        (8, About::Node),
        (16, About::NodeForGood),
        (12, About::NodeForGood),
        (13, About::NodeForGood),
    ] {
        assert_eq!(about_code(status, Compression::Gzip), right, "{status}");
    }
    for status in [12, 13] {
        assert_eq!(about_code(status, Compression::Zstd), About::Request, "{status}: another node knows it no better");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        status: Option<u32>, http: u16, message: String, details: Vec<u8>, encoding in prop::option::of("gzip|.*"),
        body in mutated(Just(framed(1, &gzip(&partial(3, "bad"))))), code in 0_u32..20, whole: bool,
    ) {
        let answer = Answer { http, status, message, details, encoding, body, ..Answer::default() };
        let end = if whole { End::Whole } else { End::Reset { code } };
        let words = of(&ended(answer, end), 100).words();
        prop_assert!(words.chars().count() <= 400 && !words.contains(char::is_control));
    }
}
