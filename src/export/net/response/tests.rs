use proptest::prelude::*;

use super::*;
use crate::hostile::{assert_linear_in, many, mutated};

/// The first head of `input`, which comes whole.
fn head(input: &[u8]) -> Result<Option<(Head, usize)>, Unusable> {
    HeadReader::default().read(input)
}

#[track_caller]
fn complete(text: &str) -> Head {
    head(text.as_bytes()).unwrap().expect("a whole head").0
}

/// What an answer came to.
#[derive(Debug, PartialEq)]
enum Came {
    Answer { head: Head, body: Vec<u8>, progress: Progress, used: usize },
    Unusable(Unusable),
    More,
}

/// Reads an answer that comes in these pieces, as the exchange does. What an error is found in depends on the pieces.
fn read(pieces: &[&[u8]], most: usize) -> Came {
    let (mut input, mut used) = (Vec::new(), 0);
    let mut pieces = pieces.iter();
    let mut reader = HeadReader::default();
    let head = loop {
        match reader.read(&input) {
            Ok(Some((head, length))) => {
                input.drain(..length);
                used += length;
                if !head.is_interim() {
                    break head;
                }
                reader = HeadReader::default();
            }
            Ok(None) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return Came::More,
            },
            Err(what) => return Came::Unusable(what),
        }
    };
    let mut body = Body::of(&head, most);
    loop {
        let (own, progress) = body.take(&input);
        input.drain(..own);
        used += own;
        match pieces.next() {
            Some(piece) if progress == Progress::Open => input.extend_from_slice(piece),
            _ => return Came::Answer { head, body: body.into_bytes(), progress, used },
        }
    }
}

fn in_pieces(bytes: &[u8], mut sizes: impl Iterator<Item = usize>, most: usize) -> Came {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        pieces.push(piece);
        rest = others;
    }
    read(&pieces, most)
}

/// Answers by the book, and how many bytes of each are the answer.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let interim = prop_oneof![
        Just(String::new()),
        Just("HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        Just("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 7\r\n\r\n".to_owned()),
    ];
    let headers = prop::collection::vec("[a-z-]{1,12}: [ -~]{0,40}", 0..5);
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5);
    (interim, 200..600_u16, headers, chunks, 0..4_u8).prop_map(|(interim, status, headers, chunks, framing)| {
        let mut answer = format!("{interim}HTTP/1.1 {status} Words\r\n").into_bytes();
        for header in headers.iter().filter(|header| !header.contains("content-length")) {
            answer.extend(format!("x-{header}\r\n").bytes());
        }
        match framing {
            0 | 1 => {
                let trailer = if framing == 0 { "" } else { "x-trailer: y\r\n" };
                answer.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    answer.extend(format!("{:X};name=\"value\"\r\n", chunk.len()).bytes());
                    answer.extend(chunk);
                    answer.extend(b"\r\n");
                }
                answer.extend(format!("000\r\n{trailer}\r\n").bytes());
            }
            _ => {
                let body = chunks.concat();
                answer.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
                answer.extend(body);
            }
        }
        answer
    })
}

#[test]
fn a_body_ends_where_its_head_says() {
    for (headers, framing) in [
        ("content-length: 5", Framing::Length(5)),
        ("content-length: 5\r\nContent-Length: 5, 5", Framing::Length(5)),
        ("content-length: 99999999999999999999999", Framing::Length(u64::MAX)),
        ("transfer-encoding: gzip, Chunked", Framing::Chunked),
        ("transfer-encoding: chunked\r\ncontent-length: 5", Framing::Chunked),
        ("transfer-encoding: gzip", Framing::UntilClose),
        ("x: y", Framing::UntilClose),
    ] {
        assert_eq!(complete(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n")).framing, framing, "{headers}");
        for status in [101, 204, 304] {
            let bare = complete(&format!("HTTP/1.1 {status} OK\r\n{headers}\r\n\r\n"));
            assert_eq!(bare.framing, Framing::Length(0), "{status}, {headers}");
        }
    }
    for headers in ["content-length: 1\r\ncontent-length: 2", "content-length: 1, 2", "content-length: -1"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
        assert!(matches!(head(answer.as_bytes()), Err(Unusable::Malformed(_))), "{headers}");
    }
}

#[test]
fn a_connection_serves_again_where_version_headers_and_framing_say_so() {
    for (line, headers, kept) in [
        ("HTTP/1.1 200 OK", "x: y", true),
        ("HTTP/1.1 200", "Connection: Close", false),
        ("HTTP/1.1 200 OK", "connection: upgrade, close", false),
        ("HTTP/1.1 101 Switched", "connection: upgrade", false),
        ("HTTP/1.1 200 OK", "transfer-encoding: chunked", true),
        ("HTTP/1.1 200 OK", "transfer-encoding: chunked\r\ncontent-length: 5", false),
        ("HTTP/1.0 200 OK", "content-length: 5", false),
        ("HTTP/1.0 200 OK", "connection: Keep-Alive\r\ncontent-length: 5", true),
        ("HTTP/1.0 200 OK", "connection: Keep-Alive, close", false),
    ] {
        assert_eq!(complete(&format!("{line}\r\n{headers}\r\n\r\n")).keeps_alive, kept, "{line}, {headers}");
    }
}

#[test]
fn what_cannot_become_an_answer_is_told_at_once_and_as_what_it_is() {
    for (input, what) in [
        (&b"\x00\x00\x06\x04\x00"[..], Unusable::OtherProtocol),
        (b"SSH-2.0", Unusable::OtherProtocol),
        (b"\x15\x03\x01\x00\x02", Unusable::OtherProtocol),
        (b"HTTP/2", Unusable::OtherProtocol),
        (b"HTTP/1.9 200 OK\r\n", Unusable::OtherProtocol),
        (b"\r\n\r\n\r\n", Unusable::OtherProtocol),
    ] {
        assert_eq!(head(input), Err(what), "{}", input.escape_ascii());
    }
    let many: String = (0..=MOST_HEADERS).map(|number| format!("x-{number}: y\r\n")).collect();
    assert_eq!(head(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()), Err(Unusable::Endless));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(MOST_HEAD_BYTES));
    assert_eq!(head(long.as_bytes()), Err(Unusable::Endless));
    assert_eq!(head(&long.as_bytes()[..MOST_HEAD_BYTES + 1]), Err(Unusable::Endless));
    for malformed in ["HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n", "HTTP/1.1 200 OK\r\nx: \x01\r\n\r\n"]
    {
        assert!(matches!(head(malformed.as_bytes()), Err(Unusable::Malformed(_))), "{malformed:?}");
    }
    for open in ["", "\r\n", "HTT", "HTTP/1.1 200 OK\r\nx: y\r\n", "\r\n\nHTTP/1.1 200\r\n"] {
        assert_eq!(head(open.as_bytes()), Ok(None), "{open:?}");
    }
}

#[test]
fn a_chunked_body_that_breaks_the_rules_ends_there() {
    let read = |body: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        match read(&[answer.as_bytes()], 100) {
            Came::Answer { body, progress, .. } => (String::from_utf8(body).unwrap(), progress),
            other => panic!("{other:?}"),
        }
    };
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(10_000));
    let trailer = format!("0\r\n{}", "x: y\r\n".repeat(20_000));
    for (body, kept, progress) in [
        ("3\r\nabc\r\n0\r\n\r\n", "abc", Progress::Whole),
        ("3 ; x\nabc\n0\n\n", "abc", Progress::Whole),
        ("3\r\nabc\r\n0\r\nx: y\r\n\r\n", "abc", Progress::Whole),
        ("3\r\nabc\r\n0\r\n", "abc", Progress::Open),
        ("3\r\nabcd\r\n", "abc", Progress::Malformed),
        ("x\r\n", "", Progress::Malformed),
        ("\r\n", "", Progress::Malformed),
        ("-1\r\n", "", Progress::Malformed),
        ("11111111111111111\r\n", "", Progress::Malformed),
        ("ffffffffffffffff\r\nabc", "abc", Progress::Open),
        (&long, "", Progress::Malformed),
        (&trailer, "", Progress::Malformed),
    ] {
        assert_eq!(read(body), (kept.to_owned(), progress), "{:.40}", body);
    }
}

#[test]
fn a_body_of_exactly_what_is_read_is_whole_and_one_of_a_byte_more_is_too_large() {
    for (bytes, progress) in [(10, Progress::Whole), (11, Progress::TooLarge)] {
        let text = "x".repeat(bytes);
        for answer in [
            format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{text}"),
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{text}\r\n0\r\n\r\n"),
        ] {
            let Came::Answer { progress: came, body, .. } = in_pieces(answer.as_bytes(), std::iter::repeat(1), 10)
            else {
                panic!("{answer}")
            };
            assert_eq!(came, progress, "{answer}");
            assert!(body.len() <= 10);
        }
    }
}

proptest! {
    #[test]
    fn an_answer_is_the_same_however_it_comes(
        answer in valid(),
        behind in prop::collection::vec(any::<u8>(), 0..20),
        sizes in prop::collection::vec(1_usize..50, 1..20),
    ) {
        let whole = read(&[&answer], usize::MAX);
        let Came::Answer { head, progress, used, .. } = &whole else { panic!("{whole:?}") };
        let is_bare = matches!(head.status, 204 | 304);
        prop_assert!(*progress == Progress::Whole && (*used == answer.len() || is_bare));
        let more = [answer.as_slice(), &behind].concat();
        prop_assert_eq!(&in_pieces(&more, sizes.iter().copied().cycle(), usize::MAX), &whole);
        prop_assert_eq!(&in_pieces(&more, std::iter::repeat(1), usize::MAX), &whole);
    }

    #[test]
    fn no_answer_makes_it_panic_or_keep_more_than_it_may(
        answer in prop_oneof![mutated(valid()), prop::collection::vec(any::<u8>(), 0..200)],
        sizes in prop::collection::vec(1_usize..50, 1..20),
        most in 0_usize..100,
    ) {
        for came in [read(&[&answer], most), in_pieces(&answer, sizes.iter().copied().cycle(), most)] {
            if let Came::Answer { body, used, .. } = came {
                prop_assert!(body.len() <= most && used <= answer.len());
            }
        }
    }

    #[test]
    fn a_head_that_is_read_is_the_one_that_httparse_reads_of_it_all(answer in mutated(valid())) {
        if let Ok(Some((head, length))) = head(&answer) {
            let mut headers = [EMPTY_HEADER; MOST_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            prop_assert_eq!(response.parse(&answer), Ok(Status::Complete(length)));
            prop_assert_eq!(response.code, Some(head.status));
        }
    }
}

#[test]
fn every_answer_is_read_in_time_in_proportion_to_its_length_even_byte_by_byte() {
    // RTY-11
    type Make = fn(usize) -> Vec<u8>;
    let headed = |body: Vec<u8>| [&b"HTTP/1.1 500 Chunks\r\ntransfer-encoding: chunked\r\n\r\n"[..], &body].concat();
    // Of heads a 16th: the rest would not be read.
    let heads: [(&str, Make); 6] = [
        ("headers", |bytes| many(bytes / 16, |at| format!("x-{at}: y\r\n")).into_bytes()),
        ("one long header", |bytes| format!("x: {}", "y".repeat(bytes / 16)).into_bytes()),
        ("a long reason", |bytes| vec![b' '; bytes / 16]),
        ("line feeds", |bytes| b"x:\n".repeat(bytes / 48)),
        ("carriage returns", |bytes| vec![b'\r'; bytes / 16]),
        ("interim answers", |bytes| b"HTTP/1.1 100 C\r\nx: y\r\n\r\n".repeat(bytes / 16 / 24)),
    ];
    for (what, make) in heads {
        let make = |bytes| {
            let beginning = if what.starts_with("interim") { &b""[..] } else { b"HTTP/1.1 200 OK\r\nx: y\r\n" };
            [beginning, &make(bytes)].concat()
        };
        assert_linear_in(what, make, |answer: &Vec<u8>| byte_by_byte(answer));
    }
    let bodies: [(&str, Make); 5] = [
        ("small chunks", |bytes| b"1\r\nx\r\n".repeat(bytes / 6)),
        ("extensions", |bytes| b"1;x=yyyyyyyyyyyyyyyyyyyyyyyyyy\r\nx\r\n".repeat(bytes / 34)),
        ("one large chunk", |bytes| [b"ffffff\r\n", vec![0; bytes].as_slice()].concat()),
        ("zeros", |bytes| vec![b'0'; bytes]),
        ("a trailer", |bytes| [&b"0\r\n"[..], &b"x: y\r\n".repeat(bytes / 6)].concat()),
    ];
    for (what, make) in bodies {
        assert_linear_in(what, |bytes| headed(make(bytes)), |answer: &Vec<u8>| read(&[answer], usize::MAX));
        assert_linear_in(what, |bytes| headed(make(bytes)), |answer: &Vec<u8>| body_byte_by_byte(answer));
    }
}

/// Reads heads as they come over a slow line.
fn byte_by_byte(answer: &[u8]) -> usize {
    let (mut reader, mut from, mut heads) = (HeadReader::default(), 0, 0);
    for to in 0..answer.len() {
        match reader.read(&answer[from..to]) {
            Ok(Some((_, length))) => {
                (reader, from) = (HeadReader::default(), from + length);
                heads += 1;
            }
            Ok(None) => {}
            Err(_) => break,
        }
    }
    heads
}

fn body_byte_by_byte(answer: &[u8]) -> usize {
    let (head, length) = head(answer).unwrap().unwrap();
    let mut body = Body::of(&head, usize::MAX);
    let mut pieces = answer[length..].chunks(1);
    pieces.by_ref().take_while(|piece| body.take(piece).1 == Progress::Open).count()
}
