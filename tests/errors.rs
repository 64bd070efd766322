//! What an error says, and what it was caused by.

use std::{error::Error as _, io};

use otlp::{Client, Error, processing::ExportError};

fn assert_is_shared<T: std::error::Error + Send + Sync + 'static>(_: &T) {}

#[cfg(feature = "tls")]
#[test]
fn a_file_that_cannot_be_read_is_told_with_what_the_system_said() {
    let missing = std::env::temp_dir().join("otlp-no-such-file.pem");
    for builder in
        [Client::builder().with_certificate(&missing), Client::builder().with_client_certificate(&missing, &missing)]
    {
        let error = builder.build().unwrap_err();
        assert_is_shared(&error);
        let source: &io::Error = error.source().unwrap().downcast_ref().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(&source.to_string()), "{error}");
    }
    // Nobody but us says that this is no certificate.
    let error = Client::builder().with_certificate(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).build();
    assert!(error.as_ref().is_err_and(|error| error.source().is_none()), "{error:?}");
}

#[test]
fn an_error_that_wraps_no_other_has_no_source() {
    let error = Client::builder().with_worker_count(0).build().unwrap_err();
    assert!(matches!(&error, Error::Config { knob: "with_worker_count", .. }), "{error:?}");
    assert!(error.source().is_none() && Error::Shutdown.source().is_none());
    let error = "lzma".parse::<otlp::Compression>().unwrap_err();
    assert_is_shared(&error);
    assert!(error.source().is_none());
}

#[test]
fn an_exporter_says_what_made_it_fail() {
    let failure = ExportError::caused_by(io::Error::new(io::ErrorKind::StorageFull, "disk full"));
    assert_is_shared(&failure);
    assert_eq!(failure.to_string(), "disk full");
    let source: &io::Error = failure.source().unwrap().downcast_ref().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(matches!(&failure, ExportError::Failed { message, .. } if message == "disk full"), "{failure:?}");
    let failure = ExportError::failed("it rains");
    assert!(failure.source().is_none() && failure.to_string() == "it rains");
    assert!(ExportError::TimedOut.source().is_none());
}

/// A client that exports for another one tells why it did not.
#[test]
fn a_client_as_an_exporter_passes_its_error_on() {
    use otlp::{SpanContext, SpanData, SpanId, TraceId, processing::SpanExporter as _};

    let client = Client::builder().with_sdk_disabled(false).build().unwrap();
    let invalid = SpanData::new(SpanContext::new(TraceId::INVALID, SpanId::INVALID, 1, false), "invalid");
    let failure = client.export(&[invalid]).unwrap_err();
    let source: &Error = failure.source().unwrap().downcast_ref().unwrap();
    assert!(matches!(source, Error::InvalidSpan { index: 0, .. }), "{source:?}");
    assert_eq!(failure.to_string(), source.to_string());
}
