//! Extra request headers: from the environment's list, from code and from the URL's user information.

use std::collections::{HashMap, hash_map::Entry};

use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, HOST},
};

use crate::{env::percent_decode, error::Error};

/// Header names are unique: of two headers with the same name, the later one counts. Values are marked as sensitive.
pub(crate) type Headers = Vec<(HeaderName, HeaderValue)>;

/// Headers that follow from the body and the connection, or determine the form of answers. Setting them differently
/// would make every request unreadable, have the client wait for what never comes (`Expect`, `Upgrade`), or bring
/// compressed answers, which are not inflated.
const OURS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const ALLOWED: &str = "must have a token as its name, which is none of the headers that describe the body, the \
                       connection or what an answer may look like, and a value without control characters";

/// Reads the list of an `OTEL_EXPORTER_OTLP_HEADERS` variable. Also returns which entries, counted from 1, are unusable
/// and left out.
///
/// The format is the W3C Baggage list (OTLPV-07, OTLPV-08): entries are separated by commas, the first `=` ends the
/// name, whitespace around names and values is dropped, `%XX` in values is decoded. Baggage's `;` properties do not
/// exist here, so a `;` belongs to the value. Empty entries, as a trailing comma makes them, mean nothing.
pub(crate) fn parse_list(text: &str) -> (Headers, Vec<usize>) {
    let mut headers = Headers::new();
    let mut unusable = Vec::new();
    for (entry, at) in text.split(',').zip(1..) {
        if entry.trim().is_empty() {
            continue;
        }
        match parse_entry(entry) {
            Some(header) => headers.push(header),
            None => unusable.push(at),
        }
    }
    (unique(headers), unusable)
}

fn parse_entry(entry: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = entry.split_once('=')?;
    header(name.trim().as_bytes(), &percent_decode(value.trim())?)
}

/// Checks the headers that were given in code.
pub(crate) fn from_code(given: Vec<(String, String)>) -> Result<Headers, Error> {
    let mut headers = Headers::new();
    for (name, value) in given {
        match header(name.as_bytes(), value.as_bytes()) {
            Some(header) => headers.push(header),
            None => {
                // A text that is no valid name may be a misplaced value.
                let name = HeaderName::from_bytes(name.as_bytes());
                let shown = name.as_ref().map_or("(hidden)", |name| name.as_str());
                return Err(Error::config("with_header", format_args!("{shown}: (hidden)"), ALLOWED));
            }
        }
    }
    Ok(unique(headers))
}

fn header(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name).ok()?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    // Names are in lower case here.
    let is_ours = OURS.contains(&name.as_str());
    // The HTTP client refuses other bytes in these two headers, once per request.
    let is_unsendable = [AUTHORIZATION, HOST].contains(&name) && value.to_str().is_err();
    (!is_ours && !is_unsendable).then_some((name, value))
}

/// Keeps each name once, at its first position, with its last value.
pub(crate) fn unique(all: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Headers {
    let mut headers = Headers::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (name, value) in all {
        match places.entry(name.as_str().to_owned()) {
            Entry::Occupied(place) => headers[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(headers.len());
                headers.push((name, value));
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(headers: &Headers) -> Vec<(&str, &[u8])> {
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    }

    #[test]
    fn the_list_follows_the_baggage_format() {
        // OTLPV-07, OTLPV-08
        for (text, expected) in [
            ("k1=v1,k2=v2", &[("k1", &b"v1"[..]), ("k2", b"v2")][..]),
            (" k1 = v1 \t,\tk2=v2 ", &[("k1", b"v1"), ("k2", b"v2")]),
            ("a=b=c", &[("a", b"b=c")]),
            ("Authorization=Basic%20dXNlcjpw%3D%3D", &[("authorization", b"Basic dXNlcjpw==")]),
            ("authorization=Bearer abc", &[("authorization", b"Bearer abc")]),
            ("cookie=a;b=c", &[("cookie", b"a;b=c")]),
            ("x=%E6%97%A5", &[("x", "日".as_bytes())]),
            ("empty=", &[("empty", b"")]),
            ("host=a.example,accept=*/*", &[("host", b"a.example"), ("accept", b"*/*")]),
            ("a=1,A=2", &[("a", b"2")]),
            (",a=1,,", &[("a", b"1")]),
            (" ", &[]),
        ] {
            let (headers, unusable) = parse_list(text);
            assert_eq!(pairs(&headers), expected, "{text}");
            assert!(unusable.is_empty(), "{text}");
            assert!(headers.iter().all(|(_, value)| value.is_sensitive()));
        }
    }

    #[test]
    fn an_unusable_entry_is_left_out_and_the_others_stay() {
        // OTLPV-08
        for (entry, why) in [
            ("x=%zz", "bad percent sequence"),
            ("x=%0d%0aInjected: 1", "control characters"),
            ("noequals", "no value"),
            ("=v", "no name"),
            ("a b=v", "not a token"),
            ("content-length=3", "belongs to the body"),
            ("Expect=100-continue", "the answer to it is not waited for"),
            ("accept-encoding=gzip", "nobody inflates answers"),
            ("TE=trailers", "belongs to the connection"),
            ("Trailer=x", "belongs to the body"),
            ("Upgrade=h2c", "belongs to the connection"),
            ("HTTP2-Settings=AAMAAABk", "belongs to the connection"),
            ("keep-alive=timeout%3D5", "belongs to the connection"),
            ("Proxy-Connection=close", "belongs to the connection"),
            (":authority=x", "not a token"),
            ("authorization=%E6", "cannot be sent"),
        ] {
            let (headers, unusable) = parse_list(&format!("y=1,{entry},z=2"));
            assert_eq!(pairs(&headers), [("y", &b"1"[..]), ("z", b"2")], "{why}");
            assert_eq!(unusable, [2], "{why}");
        }
    }

    #[test]
    fn a_bad_header_in_code_is_an_error_that_hides_what_was_given() {
        for (name, value, shown) in [
            ("x-key", "secret\n", "with_header = x-key: (hidden): "),
            ("secret name", "v", "with_header = (hidden): (hidden): "),
            ("Content-Type", "secret", "with_header = content-type: (hidden): "),
            ("Expect", "secret", "with_header = expect: (hidden): "),
        ] {
            let error = from_code(vec![(name.to_owned(), value.to_owned())]).unwrap_err();
            assert!(error.to_string().starts_with(shown), "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
