//! Each compression delivers the same spans, and one that is not compiled in says what to turn on.
#![cfg(feature = "testing")]

mod support;

use otlp::{
    Client, Compression, RetryConfig,
    testing::{Receiver, Response},
};
use support::{LONG, assert_accounted, assert_received, client_of, ids};

const ALL: [(Compression, Option<&str>, bool); 4] = [
    (Compression::None, None, true),
    (Compression::Gzip, Some("gzip"), true),
    (Compression::Brotli, Some("br"), cfg!(feature = "brotli")),
    (Compression::Zstd, Some("zstd"), cfg!(feature = "zstd")),
];

#[test]
fn every_compression_delivers_the_same_spans_in_fewer_bytes_than_none() {
    for (compression, encoding, _) in ALL.into_iter().filter(|(_, _, is_there)| *is_there) {
        let receiver = Receiver::start().unwrap();
        let client = client_of(&receiver).with_compression(compression).build().unwrap();
        let tracer = client.tracer("compression");
        let made: Vec<_> = (0..20_000)
            .map(|number| {
                let mut span = tracer.start("GET /items/{id}");
                span.set_attribute("http.request.method", "GET").set_attribute("number", number);
                ids(&span.context())
            })
            .collect();
        assert!(client.flush(LONG).is_complete(), "{compression:?}");
        assert_received(&receiver, &made);
        assert!(receiver.requests().iter().all(|request| request.header("content-encoding") == encoding));
        let stats = assert_accounted(&client);
        let share = stats.sent_bytes as f64 / stats.uncompressed_bytes as f64;
        assert!(if encoding.is_some() { share < 0.5 } else { share == 1.0 }, "{compression:?}: {share}");
    }
}

#[test]
fn a_compression_that_is_not_compiled_in_is_an_error_that_names_the_feature() {
    for (compression, _, is_there) in ALL {
        let built = Client::builder().with_compression(compression).build();
        let name = format!("{compression:?}").to_lowercase();
        match built {
            Ok(_) => assert!(is_there, "{name}"),
            Err(error) => assert!(!is_there && error.to_string().contains(&format!("`{name}`")), "{error}"),
        }
    }
}

#[test]
fn a_receiver_that_knows_only_gzip_gets_gzip_from_its_first_refusal_on() {
    // RTY-03
    // Not everyone says what it is that they do not know: some call the request a bad one.
    let there = ALL.into_iter().filter(|(_, _, is_there)| *is_there);
    for ((compression, encoding, _), status) in there.flat_map(|compression| [(compression, 415), (compression, 400)]) {
        if compression == Compression::None && status == 400 {
            continue;
        }
        let receiver = Receiver::builder()
            .respond_with(move |request| match request.header("content-encoding") {
                Some("gzip") => Response::ok(),
                _ => Response::status(status),
            })
            .start()
            .unwrap();
        let once = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
        let client = client_of(&receiver).with_compression(compression).with_retry_config(once).build().unwrap();
        for _ in 0..3 {
            client.tracer("compression").start("span").end();
            assert!(client.flush(LONG).is_complete(), "{compression:?}");
        }
        let requests = receiver.requests();
        let encodings: Vec<_> = requests.iter().map(|request| request.header("content-encoding")).collect();
        let refused = (encoding != Some("gzip")).then_some(encoding);
        let expected: Vec<_> = refused.into_iter().chain([Some("gzip"); 3]).collect();
        assert_eq!(encodings, expected);
        assert_eq!(receiver.span_count(), 3);
        assert_accounted(&client);
    }
}
