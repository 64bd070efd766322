//! The headers of a call. What is the same each time is compressed once.

use std::{io::Write as _, time::Duration};

use http::{
    Uri,
    header::{CONTENT_TYPE, HOST, TE, USER_AGENT},
};

use crate::{
    config::{Compression, Headers},
    export::{net::exchange::AGENT, request::Signal},
    http2::hpack::{index, put_indexed, put_literal, put_named},
};

/// A time-out has eight digits at most.
const MOST_TIMEOUT: u64 = 99_999_999;

/// What every call of one receiver has in common.
#[derive(Debug, Clone)]
pub(super) struct CallHead(Vec<u8>);

impl CallHead {
    /// Calls the service of a signal at `url`, whose path stands in front of its name, with these headers of the user's.
    pub(super) fn new(url: &Uri, signal: Signal, headers: &Headers) -> Self {
        let given = |name| headers.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_bytes());
        let mut block = Vec::new();
        put_indexed(&mut block, index::POST);
        put_indexed(&mut block, if url.scheme_str() == Some("https") { index::HTTPS } else { index::HTTP });
        put_named(&mut block, index::PATH, path(url, signal).as_bytes());
        let authority = url.authority().map_or("", |authority| authority.as_str());
        put_named(&mut block, index::AUTHORITY, given(HOST).unwrap_or(authority.as_bytes()));
        put_literal(&mut block, b"te", b"trailers", false);
        put_named(&mut block, index::CONTENT_TYPE, b"application/grpc");
        put_named(&mut block, index::USER_AGENT, given(USER_AGENT).unwrap_or(AGENT.as_bytes()));
        // Answers may be, whatever this says.
        put_literal(&mut block, b"grpc-accept-encoding", b"identity,gzip", false);
        for (name, value) in headers {
            if ![HOST, USER_AGENT, TE, CONTENT_TYPE].contains(name) {
                put_literal(&mut block, name.as_str().as_bytes(), value.as_bytes(), true);
            }
        }
        Self(block)
    }

    /// The headers of a call whose message is compressed like this and that is given up after `timeout`.
    pub(super) fn of(&self, compression: Compression, timeout: Duration, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.0);
        if let Some(encoding) = compression.content_encoding() {
            put_literal(into, b"grpc-encoding", encoding.as_bytes(), false);
        }
        let mut text = [0; 16];
        let mut rest = &mut text[..];
        // Sixteen bytes are enough for nine.
        let _ = write_timeout(&mut rest, timeout);
        let left = rest.len();
        put_literal(into, b"grpc-timeout", &text[..text.len() - left], false);
    }

    /// The most bytes of a block.
    pub(super) fn most_bytes(&self) -> usize {
        self.0.len() + 64
    }
}

fn path(url: &Uri, signal: Signal) -> String {
    let service = match signal {
        Signal::Traces => "trace.v1.TraceService",
        Signal::Metrics => "metrics.v1.MetricsService",
    };
    let prefix = url.path().trim_end_matches('/');
    format!("{prefix}/opentelemetry.proto.collector.{service}/Export")
}

/// A number of eight digits at most, and its unit: as exact as that allows.
fn write_timeout(into: &mut &mut [u8], timeout: Duration) -> std::io::Result<()> {
    let short = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    let units = [(short(timeout.as_micros()), 'u'), (short(timeout.as_millis()), 'm'), (timeout.as_secs(), 'S')];
    let exact = units.into_iter().find(|(count, _)| *count <= MOST_TIMEOUT);
    let (count, unit) = exact.unwrap_or((MOST_TIMEOUT, 'S'));
    write!(into, "{}{unit}", count.max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::http2::hpack::Decoder;

    fn read(head: &CallHead, compression: Compression, timeout: Duration) -> BTreeMap<String, String> {
        let mut block = Vec::new();
        head.of(compression, timeout, &mut block);
        let mut fields = BTreeMap::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut take = |name: &[u8], value: &[u8]| assert_eq!(fields.insert(text(name), text(value)), None);
        Decoder::default().decode(&block, &mut take).unwrap();
        fields
    }

    #[test]
    fn a_call_says_what_every_server_wants_to_hear() {
        let headers = vec![
            (HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer x")),
            (TE, HeaderValue::from_static("gzip")),
        ];
        let head = CallHead::new(&"http://[::1]:4317/".parse().unwrap(), Signal::Traces, &headers);
        let fields = read(&head, Compression::Gzip, Duration::from_secs(10));
        let right = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            (":authority", "[::1]:4317"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", AGENT),
            ("grpc-accept-encoding", "identity,gzip"),
            ("grpc-encoding", "gzip"),
            ("grpc-timeout", "10000000u"),
            ("authorization", "Bearer x"),
        ];
        assert_eq!(fields, right.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_path_of_the_url_stands_in_front_of_the_service() {
        let at = |url: &str, signal| {
            read(&CallHead::new(&url.parse().unwrap(), signal, &Headers::default()), Compression::None, Duration::ZERO)
                .remove(":path")
                .unwrap()
        };
        assert_eq!(at("https://h/a/", Signal::Traces), "/a/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!(at("https://h", Signal::Metrics), "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
    }

    #[test]
    fn a_time_out_has_eight_digits_at_most_and_is_never_nothing() {
        let written = |timeout| {
            let mut text = [0; 16];
            let mut rest = &mut text[..];
            write_timeout(&mut rest, timeout).unwrap();
            let left = rest.len();
            String::from_utf8(text[..16 - left].to_vec()).unwrap()
        };
        for (timeout, right) in [
            (Duration::ZERO, "1u"),
            (Duration::from_nanos(999), "1u"),
            (Duration::from_millis(250), "250000u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_secs(3_600 * 100), "360000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(written(timeout), right);
        }
    }
}
