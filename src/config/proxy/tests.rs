use super::*;

mod curl;

use curl::Curl;

/// A proxy by its URL.
pub(crate) fn proxy_for_tests(url: &str) -> Proxy {
    Proxy::parse("http_proxy", url).unwrap()
}

/// How curl treats an entry, as seen in releases 7.88.1 and 8.23.0.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    /// The same result as here.
    Same,
    /// curl uses the proxy, and this crate does not.
    Proxy,
    /// Some releases give the same result as here.
    Some,
}

use Says::{Proxy as Other, Same, Some as Varies};

/// Lists, hosts of URLs with port 4318, and whether they are exempt.
#[rustfmt::skip]
const EXEMPT: &[(&str, &str, bool, Says)] = &[
    // Separators.
    ("a.test,collector.test", "collector.test", true, Same),
    ("a.test, collector.test", "collector.test", true, Same),
    ("a.test ,\tcollector.test ", "collector.test", true, Same),
    ("a.test collector.test", "collector.test", true, Varies),
    (",,collector.test,", "collector.test", true, Same),
    ("a.test;collector.test", "collector.test", false, Same),
    (",", "collector.test", false, Same),
    // Domains.
    ("test", "collector.test", true, Same),
    (".test", "collector.test", true, Same),
    ("..test", "collector.test", false, Same),
    (".collector.test", "collector.test", true, Same),
    ("ector.test", "collector.test", false, Same),
    ("a.collector.test", "collector.test", false, Same),
    ("collector.test.", "collector.test", true, Same),
    ("collector.test", "collector.test.", true, Same),
    (".collector.test.", "a.collector.test", true, Same),
    ("COLLECTOR.Test", "collector.test", true, Same),
    ("collector.test", "COLLECTOR.Test", true, Same),
    (".", "collector.test", false, Same),
    ("*.test", "collector.test", true, Other),
    ("*test", "collector.test", false, Same),
    ("http://collector.test", "collector.test", false, Same),
    ("collector.test/24", "collector.test", false, Same),
    // All.
    ("*", "collector.test", true, Same),
    ("*", "[2001:db8::1]", true, Same),
    ("a.test,*", "collector.test", true, Other),
    (" * ", "collector.test", true, Other),
    // Ports.
    ("collector.test:4318", "collector.test", true, Other),
    ("collector.test:4319", "collector.test", false, Same),
    (".test:4318", "collector.test", true, Other),
    (":4318", "collector.test", false, Same),
    ("*:4318", "collector.test", false, Same),
    ("10.1.2.3:4318", "10.1.2.3", true, Other),
    ("10.1.2.3:4319", "10.1.2.3", false, Same),
    ("[2001:db8::1]:4318", "[2001:db8::1]", true, Other),
    ("[2001:db8::1]:4319", "[2001:db8::1]", false, Same),
    ("2001:db8:4318", "[2001:db8::1]", false, Same),
    // Addresses and networks of IPv4.
    ("10.1.2.3", "10.1.2.3", true, Same),
    ("10.1.2.3", "10.1.2.3.", true, Same),
    ("10.1.2", "10.1.2.3", false, Same),
    ("10.", "10.1.2.3", false, Same),
    ("2.3", "10.1.2.3", false, Same),
    ("10.0.0.0/8", "10.1.2.3", true, Same),
    ("10.0.0.0/8", "11.1.2.3", false, Same),
    ("10.0.0.0/12", "10.15.1.1", true, Same),
    ("10.0.0.0/12", "10.16.1.1", false, Same),
    ("10.1.2.3/32", "10.1.2.3", true, Same),
    ("10.1.2.3/33", "10.1.2.3", false, Same),
    ("10.1.2.3/", "10.1.2.3", false, Varies),
    ("10.1.2.3/+8", "10.1.2.3", false, Varies),
    ("10.1.2.3/255.0.0.0", "10.1.2.3", false, Same),
    ("10/8", "10.1.2.3", false, Same),
    ("0.0.0.0/0", "10.1.2.3", true, Other),
    ("0.0.0.0/0", "collector.test", false, Same),
    ("::/0", "10.1.2.3", false, Same),
    ("10.0.0.0/8", "10.1.2.3.example", false, Same),
    ("test", "10.1.2.test", true, Same),
    // Of IPv6.
    ("2001:db8::1", "[2001:db8::1]", true, Same),
    ("2001:DB8:0::1", "[2001:db8::1]", true, Varies),
    ("[2001:db8::1]", "[2001:db8::1]", true, Other),
    ("2001:db8::/32", "[2001:db8::1]", true, Varies),
    ("2001:db8::/32", "[2001:db9::1]", false, Same),
    ("2001:db8::/33", "[2001:db8:7fff::1]", true, Varies),
    ("2001:db8::/33", "[2001:db8:8fff::1]", false, Same),
    ("[2001:db8::]/32", "[2001:db8::1]", true, Other),
    ("[2001:db8::/32]", "[2001:db8::1]", true, Other),
    ("2001:db8::/129", "[2001:db8::1]", false, Same),
    ("::/0", "[2001:db8::1]", true, Other),
];

#[test]
fn a_list_of_exempt_hosts_is_read_as_curl_reads_it_and_entries_that_it_passes_over_are_read_too() {
    for (list, host, is_exempted, _) in EXEMPT {
        assert_eq!(is_exempt(list, host, 4318), *is_exempted, "{list:?} {host}");
    }
    let Some(curl) = Curl::find() else { return };
    for (list, host, is_exempted, says) in EXEMPT.iter().filter(|(.., says)| *says != Varies) {
        let went = curl.went(&format!("http://{host}:4318/"), &[("http_proxy", "http://{a}"), ("no_proxy", list)]);
        let expected = if *is_exempted && *says == Same { "direct" } else { "a" };
        assert_eq!(went, expected, "curl, {list:?} {host}");
    }
}

type Variables = &'static [(&'static str, &'static str)];

/// Schemes of receivers, variables, and the proxy that is used: `a`, `b` or `c`, or none. If curl differs, its result
/// follows.
#[rustfmt::skip]
const CHOICES: &[(&str, Variables, &str, &str)] = &[
    ("http", &[], "direct", "direct"),
    ("http", &[("http_proxy", "http://{a}"), ("HTTP_PROXY", "http://{b}")], "a", "a"),
    // curl reads it in lower case only; most others read both, as is done here.
    ("http", &[("HTTP_PROXY", "http://{b}")], "b", "direct"),
    ("http", &[("HTTP_PROXY", "http://{b}"), ("REQUEST_METHOD", "GET")], "direct", "direct"),
    ("http", &[("http_proxy", "http://{a}"), ("REQUEST_METHOD", "GET")], "a", "a"),
    ("https", &[("HTTPS_PROXY", "http://{b}"), ("REQUEST_METHOD", "GET")], "b", "b"),
    ("http", &[("ALL_PROXY", "http://{c}"), ("REQUEST_METHOD", "GET")], "c", "c"),
    ("http", &[("HTTP_PROXY", "http://{b}"), ("ALL_PROXY", "http://{c}"), ("REQUEST_METHOD", "GET")], "c", "c"),
    ("http", &[("https_proxy", "http://{a}"), ("HTTPS_PROXY", "http://{b}")], "direct", "direct"),
    ("https", &[("http_proxy", "http://{a}"), ("HTTP_PROXY", "http://{b}")], "direct", "direct"),
    ("https", &[("https_proxy", "http://{a}"), ("HTTPS_PROXY", "http://{b}")], "a", "a"),
    ("https", &[("HTTPS_PROXY", "http://{b}"), ("all_proxy", "http://{c}")], "b", "b"),
    ("http", &[("http_proxy", "http://{a}"), ("all_proxy", "http://{b}"), ("ALL_PROXY", "http://{c}")], "a", "a"),
    ("http", &[("all_proxy", "http://{b}"), ("ALL_PROXY", "http://{c}")], "b", "b"),
    ("https", &[("ALL_PROXY", "http://{c}")], "c", "c"),
    ("https", &[("https_proxy", ""), ("HTTPS_PROXY", "http://{b}")], "b", "b"),
    ("https", &[("https_proxy", ""), ("HTTPS_PROXY", ""), ("all_proxy", ""), ("ALL_PROXY", "http://{c}")], "c", "c"),
    ("http", &[("http_proxy", "http://{a}"), ("no_proxy", "a.test"), ("NO_PROXY", "collector.test")], "a", "a"),
    ("http", &[("http_proxy", "http://{a}"), ("no_proxy", ""), ("NO_PROXY", "collector.test")], "direct", "direct"),
    ("http", &[("http_proxy", "http://{a}"), ("no_proxy", "collector.test"), ("NO_PROXY", "a.test")], "direct", "direct"),
    ("http", &[("http_proxy", "{a}")], "a", "a"),
    ("http", &[("http_proxy", "HTTP://{a}/path?x#y")], "a", "a"),
    ("http", &[("http_proxy", "http://u:p@{a}")], "a", "a"),
    ("http", &[("http_proxy", "u:p@{a}")], "a", "a"),
    ("http", &[("all_proxy", "socks5://{a}")], "a", "a"),
    ("http", &[("all_proxy", "SOCKS5H://{a}")], "a", "a"),
    ("http", &[("http_proxy", " http://{a} ")], "a", "error"),
    ("http", &[("http_proxy", "http://u:p@w@{a}")], "a", "error"),
    // Where curl gives up, this crate warns and takes the next one.
    ("http", &[("http_proxy", "foo://{a}"), ("all_proxy", "http://{b}")], "b", "error"),
    ("http", &[("http_proxy", "foo://{a}")], "direct", "error"),
    ("http", &[("http_proxy", "http:{a}")], "direct", "error"),
    ("http", &[("http_proxy", "http://127.0.0.1:99999")], "direct", "error"),
    ("http", &[("http_proxy", "http://")], "direct", "error"),
];

#[test]
fn a_proxy_is_chosen_by_the_scheme_of_the_receiver_and_lower_case_comes_first() {
    let curl = Curl::find();
    for (scheme, variables, expected, in_curl) in
        CHOICES.iter().filter(|(scheme, ..)| cfg!(feature = "tls") || *scheme == "http")
    {
        let url = format!("{scheme}://collector.test:4318/v1/traces");
        // Without curl any port serves as an address.
        let ports = curl.as_ref().map_or([1, 2, 3], Curl::ports);
        let filled = variables.iter().map(|(name, value)| (*name, curl::filled(value, ports)));
        let (proxy, warnings) = Proxy::on_the_way(&Endpoint::parse(&url).unwrap(), &Environment::from_pairs(filled));
        let went = proxy.map(|proxy| ports.iter().position(|port| *port == proxy.at.address().1).expect("one of them"));
        assert_eq!(went.map_or("direct", |at| ["a", "b", "c"][at]), *expected, "{scheme} {variables:?}");
        let is_lenient = variables[..].iter().any(|(_, value)| value.starts_with(' ') || value.contains("p@w"));
        assert_eq!(
            warnings.len(),
            usize::from(*in_curl == "error" && !is_lenient),
            "{scheme} {variables:?} {warnings:?}"
        );
        if let Some(curl) = &curl {
            assert_eq!(curl.went(&url, variables), *in_curl, "curl, {scheme} {variables:?}");
        }
    }
}

#[test]
fn what_is_on_this_machine_is_asked_for_by_no_proxy() {
    let environment = Environment::from_pairs([("ALL_PROXY", "nonsense://")]);
    for url in ["http://localhost:4318", "http://127.0.0.1:4318", "http://[::1]:4318"] {
        let (proxy, warnings) = Proxy::on_the_way(&Endpoint::parse(url).unwrap(), &environment);
        assert!(proxy.is_none() && warnings.is_empty(), "{url}");
    }
}

#[test]
fn a_value_that_cannot_be_read_is_told_once_with_what_is_supported_and_without_credentials() {
    let endpoint = Endpoint::parse("http://collector.test:4318").unwrap();
    for value in [
        "socks4://user:hunter2@127.0.0.1:1080",
        "socks4a://127.0.0.1:1080",
        "socks://127.0.0.1:1080",
        "ftp://127.0.0.1",
        "http://user:hunter2/x@proxy:80",
        "http://user:hunter2#x@proxy:80",
        "http://user:1234/hunter2@proxy",
        "http://[::1:80",
        "::1",
        "http://proxy:0",
        "http://pröxy",
        "http:proxy:3128",
        &format!("socks5://user:{}@proxy", "hunter2".repeat(40)),
    ] {
        let environment = Environment::from_pairs([("ALL_PROXY", value)]);
        let (proxy, warnings) = Proxy::on_the_way(&endpoint, &environment);
        assert!(proxy.is_none() && warnings.len() == 1, "{value} {proxy:?} {warnings:?}");
        let said = &warnings[0];
        assert!(
            said.starts_with("ALL_PROXY=") && said.contains("socks5h://") && said.ends_with("using no proxy"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn ports_are_those_of_the_scheme_and_credentials_are_decoded() {
    for (url, address) in [
        ("http://proxy", "proxy:80"),
        ("proxy", "proxy:80"),
        ("http://proxy:", "proxy:80"),
        ("socks5://proxy", "proxy:1080"),
        ("socks5h://[2001:db8::1]", "[2001:db8::1]:1080"),
        ("http://[fe80::1%25eth0]:3128", "[fe80::1]:3128"),
    ] {
        assert_eq!(proxy_for_tests(url).to_string(), format!("{address} (http_proxy)"), "{url}");
    }
    #[cfg(feature = "tls")]
    assert_eq!(proxy_for_tests("https://proxy").to_string(), "proxy:443 (http_proxy)");
    assert_eq!(proxy_for_tests("http://[fe80::1%25eth0]:3128").at().zone(), Some("eth0"));
    for (url, basic) in [
        ("http://us%65r:p%40ss%3A@proxy", Some("dXNlcjpwQHNzOg==")),
        ("http://user@proxy", Some("dXNlcjo=")),
        ("http://:pw@proxy", Some("OnB3")),
        ("http://u%zz:p@proxy", Some("dSV6ejpw")),
        ("http://@proxy", None),
        ("http://proxy", None),
    ] {
        let credentials = proxy_for_tests(url).credentials.map(|credentials| credentials.basic());
        assert_eq!(credentials.as_deref(), basic, "{url}");
    }
}

#[test]
fn a_proxy_is_shown_without_its_credentials() {
    let proxy = proxy_for_tests("http://user:hunter2@proxy:8080");
    assert_eq!(
        (proxy.to_string(), format!("{proxy:?}")),
        ("proxy:8080 (http_proxy)".into(), "proxy:8080 (http_proxy)".into())
    );
    assert_eq!(proxy.secrets().collect::<Vec<_>>(), [&b"dXNlcjpodW50ZXIy"[..], b"user", b"hunter2"]);
}
