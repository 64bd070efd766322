use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::{
    config::{Endpoint, base64},
    hostile::{assert_linear, assert_linear_in, many},
};

fn header(name: &'static str, value: &str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
}

fn of_headers(headers: &[(&'static str, &str)]) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add_headers(&headers.iter().map(|(name, value)| header(name, value)).collect());
    secrets
}

#[test]
fn what_is_repeated_of_a_header_is_overwritten_wherever_it_stands() {
    let secrets = of_headers(&[("x-key", "Bearer s3cret"), ("x-other", "abc"), ("x-third", "aaaa")]);
    for (text, shown) in [
        ("no: Bearer s3cret!", "no: *************!"),
        ("s3crets3cret", "************"),
        ("S3CRET", "******"),
        ("abc", "abc"),
        ("aaaaaaaaa", "*********"),
        ("é Bearer s3cret é", "é ************* é"),
        ("", ""),
    ] {
        assert_eq!(secrets.cleaned(text), shown);
    }
    assert!(!format!("{secrets:?}").contains("s3cret"));
}

#[test]
fn a_token_is_found_in_part_and_escaped() {
    let secrets = of_headers(&[("authorization", "Bearer eyJhbGci+Oi/JIUzI1NiJ9")]);
    for (before, secret, behind) in [
        ("", "Bearer eyJhbGci", "..."),
        ("token …", "eyJhbGci", "…"),
        ("token …", "JIUzI1NiJ9", ""),
        ("token …1NiJ9", "", ""),
        ("", "eyjhbgci", ""),
        ("", "eyJhbGci%2BOi%2fJIUzI1NiJ9", "."),
        ("", "eyJhbGci%252BOi%252FJIUzI1NiJ9", "."),
        ("", r"eyJhbGci\u002BOi\/JIUzI1NiJ9", "."),
        ("", r"\u0065yJhbGci", "."),
        ("", r"\145\x79JhbGci", "."),
        ("", "eyJhbGci&#43;Oi&#x2F;JIUz", "&plus;"),
        ("", "eyJhbGci&amp;#43;Oi&sol;JIUz", "&amp;"),
        ("", "eyJhbGci-Oi_JIUzI1NiJ9", ""),
        ("", "eyJhbGci Oi/JIUzI1NiJ9", ""),
    ] {
        let shown = format!("{before}{}{behind}", "*".repeat(secret.len()));
        assert_eq!(secrets.cleaned(&format!("{before}{secret}{behind}")), shown);
    }
}

#[test]
fn a_secret_that_looks_like_an_escape_is_found_as_it_is_and_escaped_once_more() {
    let secrets = of_headers(&[("x-key", r"a%41b\u0041c&lt;d")]);
    for text in [r"a%41b\u0041c&lt;d", r"a%2541b%5Cu0041c%26lt%3Bd", r"a%41b\\u0041c&lt;d", "aAbAc<d"] {
        let shown = secrets.cleaned(text);
        assert!(shown.chars().filter(|c| *c == '*').count() + 8 > text.len(), "{text}: {shown}");
    }
    assert_eq!(secrets.cleaned("aAbAc<d"), "*******");
}

#[test]
fn user_information_and_queries_are_secrets_and_words_that_all_use_are_none() {
    let url = "http://gustav:hunter2%40x@h:1/x?api_key=T0KEN&format=json&lonely&b=c;d=p%2Fss";
    let endpoint = Endpoint::parse(url).unwrap();
    let mut secrets = Secrets::default();
    let authorization = endpoint.authorization().unwrap().clone();
    secrets.add_headers(&vec![(http::header::AUTHORIZATION, authorization)]);
    secrets.add_query(endpoint.url().query().unwrap());
    for (text, shown) in [
        ("no user gustav", "no user ******"),
        ("hunter2@x is wrong, hunter2%40X too", "********* is wrong, *********** too"),
        ("Basic Z3VzdGF2Omh1bnRlcjJAeA==", "******************************"),
        ("no such page: /x?api_key=T0KEN&format=json&lonely", "no such page: /x?api_key=*****&format=json&******"),
        ("p/ss, p%2fss", "****, ******"),
        ("the format json is no json", "the format json is no json"),
    ] {
        assert_eq!(secrets.cleaned(text), shown);
    }
    let cookies =
        of_headers(&[("cookie", "id=s3ss; theme=dark"), ("accept", "text/plain"), ("host", "collector.test")]);
    assert_eq!(cookies.cleaned("s3ss at collector.test: text/plain"), "**** at collector.test: text/plain");
}

/// Ways in which a receiver may repeat what it was sent.
fn written(secret: &str, way: u8, odd: &[bool]) -> String {
    let mut odd = odd.iter().copied().cycle();
    let mut escaped = |escape: &dyn Fn(char) -> String| -> String {
        secret.chars().map(|c| if odd.next().unwrap_or(true) { escape(c) } else { c.to_string() }).collect()
    };
    let bytes = |c: char, format: &dyn Fn(u8) -> String| c.to_string().bytes().map(format).collect::<String>();
    match way {
        0 => secret.to_owned(),
        1 => secret.to_ascii_uppercase(),
        2 => escaped(&|c| bytes(c, &|byte| format!("%{byte:02X}"))),
        3 => escaped(&|c| bytes(c, &|byte| format!("%{byte:02x}"))),
        4 => escaped(&|c| format!("\\u{:04x}", c as u32)),
        5 => escaped(&|c| format!("\\u{:04X}", c as u32)),
        6 => serde_json::to_string(secret).unwrap().replace('/', r"\/"),
        7 => format!("{secret:?}"),
        8 => escaped(&|c| format!("&#{};", c as u32)),
        9 => escaped(&|c| format!("&#x{:X};", c as u32)),
        10 => secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
        11 => escaped(&|c| bytes(c, &|byte| format!("%25{byte:02X}"))),
        12 => serde_json::to_string(&escaped(&|c| format!("&#x{:X};", c as u32))).unwrap(),
        _ => secret.as_bytes().escape_ascii().to_string(),
    }
}

/// All meanings that a text could have, however it was escaped.
fn meanings(text: &str) -> Vec<Vec<u8>> {
    let mut all = vec![escapes::plain(text.as_bytes())];
    while all.len() < 5 {
        match unescaped(all.last().unwrap()) {
            Some(again) => all.push(again),
            None => break,
        }
    }
    all.iter().map(|bytes| bytes.iter().map(|byte| byte.value.to_ascii_lowercase()).collect()).collect()
}

proptest! {
    #[test]
    fn eight_characters_of_a_secret_in_a_row_are_never_left(
        secret in "[!-~]{1}[ -~]{6,60}[!-~]{1}",
        (before, behind) in ("[ -~é]{0,40}", "[ -~é]{0,40}"),
        (from, to) in (0.0..0.5, 0.5..1.0),
        way in 0..14_u8,
        odd in prop::collection::vec(any::<bool>(), 1..10),
    ) {
        let secrets = of_headers(&[("x-key", &secret)]);
        let part = |share: f64| (secret.len() as f64 * share) as usize;
        for piece in [secret.as_str(), &secret[..part(to)], &secret[part(from)..], &secret[part(from)..part(to)]] {
            let shown = secrets.cleaned(&format!("{before}{}{behind}", written(piece, way, &odd)));
            let low = secret.to_ascii_lowercase();
            for meant in meanings(&shown) {
                for part in low.as_bytes().windows(WINDOW) {
                    prop_assert!(!meant.windows(WINDOW).any(|there| there == part), "{shown}: {}", part.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn a_text_keeps_its_length_and_what_is_no_secret(
        text in "\\PC{0,80}",
        secret in "[a-z0-9]{20}",
    ) {
        let secrets = of_headers(&[("x-key", &secret)]);
        let shown = secrets.cleaned(&format!("{text} {secret} {text}"));
        prop_assert_eq!(shown, format!("{text} {} {text}", "*".repeat(20)));
        prop_assert_eq!(Secrets::default().cleaned(&text), text);
    }

    #[test]
    fn base64_is_read_as_it_was_written(bytes: Vec<u8>) {
        let text = base64(&bytes);
        prop_assert_eq!(base64_decoded(text.trim_end_matches('=').as_bytes()), bytes.clone());
        prop_assert_eq!(base64_decoded(text.as_bytes()), bytes);
    }
}

#[test]
fn looking_for_secrets_takes_time_in_proportion_to_the_text() {
    // RTY-11
    let secrets = of_headers(&[("x-key", &"a".repeat(200)), ("authorization", "Bearer =v%41k,;")]);
    assert_linear("secrets", |text| secrets.cleaned(text));
    let periodic = |bytes: usize| format!("{}b", "a".repeat(bytes / 4 - 1));
    assert_linear_in(
        "a text that nearly repeats a long secret",
        |bytes| (of_headers(&[("x-key", &"a".repeat(bytes / 4))]), periodic(bytes).repeat(4)),
        |(secrets, text)| secrets.cleaned(text),
    );
    assert_linear_in(
        "a text of escapes",
        |bytes| many(bytes, |at| format!("%25{:02x}\\u00{:02x}&#{at};&amp;", at % 256, at % 256)),
        |text| secrets.cleaned(text),
    );
}
