//! Proxies, which the environment names: each case is a process of its own.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::{
    env,
    process::{Command, Output},
    thread,
    time::Instant,
};

use faults::{After, Answer, Closed, FaultServer, accept, answer, header};
use otlp::{Client, config::ConnectionPoolConfig};
use relay::{Relay, Speaks};
use support::{LONG, SpoolDir, assert_accounted};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// Resolved by the proxy, if at all.
const ELSEWHERE: &str = "http://collector.invalid:4318";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("job") => {
            let _otlp = otlp::init().unwrap();
            otlp::tracer("child").start("span").end();
        }
        Ok("warm") => warm_child(),
        Ok("accounted") => accounted_child(),
        _ => {}
    }
}

/// Has a connection opened ahead, uses it, and tells what went over the wire beside the body.
fn warm_child() {
    let pool = ConnectionPoolConfig { enable_connection_prewarming: true, ..ConnectionPoolConfig::default() };
    let client = Client::builder().with_connection_pool_config(pool).build().unwrap();
    client.tracer("child").start("span").end();
    let begun = Instant::now();
    while client.stats().idle_connections == 0 && begun.elapsed() < LONG {
        thread::yield_now();
    }
    assert!(client.flush(LONG).is_complete());
    let stats = client.stats();
    eprintln!("otlp: {} {}", stats.connections, stats.wire_bytes - stats.sent_bytes);
}

/// Sends two spans one after the other, and tells what became of them.
fn accounted_child() {
    let client = Client::builder().with_service_name("child").build().unwrap();
    for _ in 0..2 {
        client.tracer("child").start("span").end();
        client.flush(LONG);
        assert_accounted(&client);
    }
    client.shutdown(LONG);
    let stats = assert_accounted(&client);
    let (exported, spooled, dropped) = (stats.exported, stats.spooled, &stats.dropped);
    eprintln!("otlp: exported {exported}, spooled {spooled}, dropped {dropped:?}");
}

/// Runs a child that sends one span to `endpoint`, with only these variables of ours and of proxies set; answers
/// what the library said.
fn run(endpoint: &str, variables: &[(&str, &str)]) -> String {
    run_as("job", endpoint, variables)
}

fn run_as(role: &str, endpoint: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let is_ours = |name: &str| name.starts_with("OTEL_") || name.starts_with("OTLP_");
    for (name, _) in env::vars().filter(|(name, _)| is_ours(name) || name.to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    command
        .env_remove("REQUEST_METHOD")
        .env(ROLE, role)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .envs(variables.iter().copied());
    let output: Output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said.lines().filter(|line| line.starts_with("otlp: ")).map(|line| format!("{line}\n")).collect()
}

/// The server's address with credentials.
fn with_credentials(endpoint: &str) -> String {
    endpoint.replace("http://", "http://user:hunter2@")
}

#[cfg(feature = "tls")]
#[test]
fn a_proxy_is_asked_for_a_connection_to_the_receiver_and_given_its_credentials() {
    // OTLPV-06
    let receiver = Receiver::start();
    let proxy = Relay::to(&receiver.server.endpoint(), Speaks::Http("HTTP/1.1 200 Connected\r\n\r\n"));
    let url = format!("http://user:hunter2@{}", proxy.address());
    assert_eq!(receiver.run_behind("accounted", &[("HTTPS_PROXY", &url)]), ALL_ARRIVED);
    let heads = proxy.heads();
    assert!(heads.len() == 1 && heads[0].starts_with("connect collector.test:4318 http/1.1"), "{heads:?}");
    assert!(header(&heads[0], "proxy-authorization").is_some());
    let requests = receiver.server.requests();
    assert!(requests[0].head.starts_with("post /v1/traces http/1.1"), "{}", requests[0].head);
    assert_eq!(header(&requests[0].head, "proxy-authorization"), None, "it is for the proxy alone");
}

#[test]
fn a_receiver_of_plain_http_is_asked_through_the_proxy_over_one_connection_and_credentials_go_along() {
    let proxy = FaultServer::plain([accept()]);
    let said = run_as("accounted", ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&proxy.endpoint()))]);
    assert_eq!(said, ALL_ARRIVED);
    assert_eq!((proxy.connections(), proxy.arrived().len()), (1, 2));
    for request in proxy.requests() {
        let head = request.head;
        assert!(head.starts_with("post http://collector.invalid:4318/v1/traces http/1.1"), "{head}");
        assert_eq!(header(&head, "host"), Some("collector.invalid:4318"), "{head}");
        assert_eq!(header(&head, "proxy-authorization"), Some("basic dxnlcjpodw50zxiy"), "{head}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_proxy_may_be_spoken_to_over_tls_and_its_certificate_is_checked_as_its_own() {
    let authority = faults::Authority::new();
    let proxy = FaultServer::tls(authority.server(), [accept()]);
    let file = authority.file("ca.pem", authority.certificate());
    let trusting = [("http_proxy", &*proxy.endpoint()), ("OTEL_EXPORTER_OTLP_CERTIFICATE", file.to_str().unwrap())];
    assert_eq!(run_as("accounted", ELSEWHERE, &trusting), ALL_ARRIVED);
    assert!(proxy.requests()[0].head.starts_with("post http://collector.invalid:4318/v1/traces"));
    let said = run_as("accounted", ELSEWHERE, &trusting[..1]);
    let words = ["TLS with the proxy localhost:", "(http_proxy) failed: ", "UnknownIssuer", "2 spans"];
    assert!(words.iter().all(|word| said.contains(word)) && !said.contains("receiver's"), "{said}");
    assert_eq!(proxy.connections(), 3, "each batch is tried once");
}

#[test]
fn a_socks_proxy_connects_by_name_or_by_address_and_is_shown_a_password() {
    let server = FaultServer::plain([accept()]);
    let open = Relay::to(&server.endpoint(), Speaks::Socks { method: 0, password: 0, reply: 0 });
    let guarded = Relay::to(&server.endpoint(), Speaks::Socks { method: 2, password: 0, reply: 0 });
    let by_name = [("ALL_PROXY", &*format!("socks5h://{}", open.address()))];
    assert_eq!(run_as("accounted", "http://collector.test:4318", &by_name), ALL_ARRIVED);
    assert_eq!(open.asked(), [b"\x05\x01\x00\x05\x01\x00\x03\x0ecollector.test\x10\xde"]);
    let by_address = [("ALL_PROXY", &*format!("socks5://us%65r:hunter2@{}", guarded.address()))];
    assert_eq!(run_as("accounted", "http://192.0.2.1:4318", &by_address), ALL_ARRIVED);
    let asked = b"\x05\x02\x00\x02\x01\x04user\x07hunter2\x05\x01\x00\x01\xc0\x00\x02\x01\x10\xde";
    assert_eq!(guarded.asked(), [asked]);
    assert_eq!(server.arrived().len(), 4);
    let head = &server.requests()[0].head;
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
}

#[cfg(feature = "tls")]
#[test]
fn tls_goes_through_a_socks_proxy_too() {
    let receiver = Receiver::start();
    let proxy = Relay::to(&receiver.server.endpoint(), Speaks::Socks { method: 0, password: 0, reply: 0 });
    let url = format!("socks5h://{}", proxy.address());
    assert_eq!(receiver.run_behind("accounted", &[("all_proxy", &url)]), ALL_ARRIVED);
}

#[test]
fn what_a_socks_proxy_refuses_is_told_with_what_helps_and_not_asked_again_unless_it_may_pass() {
    let server = FaultServer::plain([accept()]);
    let socks = |method, password, reply| Speaks::Socks { method, password, reply };
    for (user, speaks, words) in [
        ("", socks(255, 0, 0), "it wants credentials; its URL takes them"),
        ("me:hunter2@", socks(2, 1, 0), "does not accept the user name and the password"),
        ("", socks(0, 0, 2), "its rules do not allow collector.test:4318"),
    ] {
        let proxy = Relay::to(&server.endpoint(), speaks.clone());
        let url = format!("socks5h://{user}{}", proxy.address());
        let said = run_as("accounted", "http://collector.test:4318", &[("ALL_PROXY", &url), BRIEFLY]);
        assert!(said.contains(&format!("the proxy {} (ALL_PROXY)", proxy.address())) && said.contains(words), "{said}");
        assert!(said.contains("exported 0, spooled 0") && !said.contains("hunter2"), "{said}");
        if matches!(speaks, Speaks::Socks { .. }) {
            assert!(proxy.asked().len() == 2 && !said.contains("allow more time"), "{:?} {said}", proxy.asked());
        }
    }
    let other =
        FaultServer::plain([faults::answer_after(faults::Extent::Nothing, Answer::raw("HTTP/1.1 400 Bad\r\n\r\n"))]);
    let url = other.endpoint().replace("http://", "socks5h://");
    let said = run_as("accounted", "http://collector.test:4318", &[("ALL_PROXY", &url)]);
    assert!(said.contains("its answer is not SOCKS 5; is it a proxy of HTTP (http://)?"), "{said}");
    assert_eq!(other.connections(), 2, "{said}");
    let proxy = Relay::to(&server.endpoint(), socks(0, 0, 5));
    let url = format!("socks5h://{}", proxy.address());
    let said = run_as("accounted", "http://collector.test:4318", &[("ALL_PROXY", &url), BRIEFLY]);
    assert!(said.contains("collector.test:4318 refused the connection") && proxy.asked().len() > 2, "{said}");
}

#[test]
fn a_proxy_of_a_kind_that_is_not_supported_is_told_once_by_what_is() {
    let said = run(ELSEWHERE, &[("ALL_PROXY", "socks4://127.0.0.1:1080")]);
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("ALL_PROXY=")).collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("socks5h://") && warnings[0].contains("using no proxy"),
        "{said}"
    );
    // The triple that desktop proxies have people export.
    let proxy = FaultServer::plain([accept()]);
    let triple = [
        ("http_proxy", &*proxy.endpoint()),
        ("https_proxy", &*proxy.endpoint()),
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
    ];
    assert_eq!(run(ELSEWHERE, &triple), "");
    assert_eq!(proxy.arrived().len(), 1);
}

#[cfg(feature = "tls")]
#[test]
fn a_proxy_that_lets_nobody_through_is_asked_once_for_each_batch_and_the_spool_keeps_the_spans() {
    let server = FaultServer::plain([accept()]);
    for (answered, url, words) in [
        ("HTTP/1.1 407 A\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "", "407; its URL takes credentials, as in"),
        (
            "HTTP/1.1 407 A\r\nProxy-Authenticate: Basic\r\n\r\n",
            "me:hunter2@",
            "those that stand there it does not accept",
        ),
        (
            "HTTP/1.1 407 A\r\nproxy-authenticate: NTLM\r\nproxy-authenticate: Negotiate x\r\n\r\n",
            "",
            "by NTLM, Negotiate; only Basic",
        ),
        ("HTTP/1.1 401 A\r\n\r\n", "", "401; its URL takes credentials"),
        ("HTTP/1.1 403 A\r\n\r\n", "", "it must allow CONNECT to collector.test:4318"),
    ] {
        let spool = SpoolDir::new();
        let proxy = Relay::to(&server.endpoint(), Speaks::Http(answered));
        let url = format!("http://{url}{}", proxy.address());
        let variables = [("https_proxy", &*url), ("OTLP_SPOOL_DIR", spool.path().to_str().unwrap())];
        for (variables, kept) in [(&variables[..1], "exported 0, spooled 0"), (&variables, "exported 0, spooled 2")] {
            let before = proxy.asked().len();
            let said = run_as("accounted", "https://collector.test:4318", variables);
            assert!(said.contains(&format!("the proxy {} (https_proxy)", proxy.address())), "{said}");
            assert!(said.contains(words) && said.contains(kept), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("allow more time"), "{said}");
            // What was written to the spool may be tried once more at the end.
            let asked = proxy.asked().len() - before;
            assert!((2..=3).contains(&asked), "{asked} {said}");
        }
    }
    let proxy = Relay::to(&server.endpoint(), Speaks::Http("HTTP/1.1 503 A\r\n\r\n"));
    let said = run_as(
        "accounted",
        "https://collector.test:4318",
        &[("https_proxy", &format!("http://{}", proxy.address())), BRIEFLY],
    );
    assert!(said.contains("503; can it reach collector.test:4318?") && proxy.asked().len() > 2, "{said}");
}

#[test]
fn what_comes_by_way_of_a_proxy_says_so() {
    // A refusal that may be a node's is made sure of once, over another connection.
    for (status, words, requests) in [
        (407, "the proxy localhost:", 2..3),
        (403, "by way of the proxy localhost:", 3..4),
        (503, "by way of the proxy localhost:", 3..usize::MAX),
    ] {
        let page = Answer::status(status).header("content-type", "text/html").body("<html>denied</html>");
        let proxy = FaultServer::plain([answer(page)]);
        let variables = [("http_proxy", &*with_credentials(&proxy.endpoint())), BRIEFLY];
        let said = run_as("accounted", ELSEWHERE, &variables);
        assert!(said.contains(words) && said.contains("(http_proxy)") && said.contains(&status.to_string()), "{said}");
        assert!(!said.contains("<html") && !said.contains("hunter2") && said.contains("exported 0"), "{said}");
        assert!(requests.contains(&proxy.requests().len()), "{said}");
    }
    // What squid and tinyproxy say for themselves is no refusal of the receiver's.
    let squid = |status, what| Answer::status(status).header("via", "1.1 here").header("x-squid-error", what);
    for (own, is_asked_again, words) in [
        (squid(403, "ERR_ACCESS_DENIED 0"), false, "it must allow requests to collector.invalid:4318"),
        (squid(503, "ERR_CONNECT_FAIL 111"), true, "503; can it reach collector.invalid:4318?"),
        (Answer::status(500).header("server", "tinyproxy/1.11.1"), true, "500; can it reach collector.invalid:4318?"),
    ] {
        let proxy = FaultServer::plain([answer(own)]);
        let said = run_as("accounted", ELSEWHERE, &[("http_proxy", &proxy.endpoint()), BRIEFLY]);
        assert!(said.contains("passed nothing on") && said.contains(words), "{said}");
        assert!(said.contains(r#"dropped {"undelivered": 2}"#), "{said}");
        assert_eq!(proxy.requests().len() > 2, is_asked_again, "{said}");
    }
    let receivers = Answer::status(500).header("via", "1.1 here (tinyproxy/1.11.1)");
    let proxy = FaultServer::plain([answer(receivers)]);
    let said = run_as("accounted", ELSEWHERE, &[("http_proxy", &proxy.endpoint())]);
    assert!(said.contains(r#"dropped {"refused": 2}"#) && proxy.requests().len() == 3, "{said}");
    let said = run(ELSEWHERE, &[("http_proxy", "http://127.0.0.1:1"), ("OTEL_LOG_LEVEL", "debug")]);
    assert!(said.contains("by way of the proxy 127.0.0.1:1 (http_proxy) over http/protobuf"), "{said}");
}

#[test]
fn in_a_process_that_serves_a_web_request_upper_case_does_not_count() {
    let proxy = FaultServer::plain([accept()]);
    let variables = [("HTTP_PROXY", &*proxy.endpoint()), ("REQUEST_METHOD", "POST")];
    let said = run(ELSEWHERE, &variables);
    assert!(said.contains("the host name is not known") && proxy.connections() == 0, "{said}");
}

#[cfg(feature = "tls")]
#[test]
fn a_proxy_that_does_not_answer_costs_no_more_than_the_exit_may_take() {
    let silent = FaultServer::plain([faults::stall_after(faults::Extent::Head)]);
    for (endpoint, name) in [("https://collector.test", "https_proxy"), ("http://collector.test", "http_proxy")] {
        let begun = Instant::now();
        let said = run(endpoint, &[(name, &*silent.endpoint()), ("OTLP_EXIT_STALL_TIMEOUT", "100")]);
        assert!(said.contains("1 span was lost") && begun.elapsed() < LONG, "{said}");
    }
    let said = run_as(
        "accounted",
        "https://collector.test",
        &[("https_proxy", &*silent.endpoint()), ("OTEL_EXPORTER_OTLP_TIMEOUT", "300")],
    );
    assert!(
        said.contains("the proxy localhost:") && said.contains("no answer from the proxy") && said.contains(" within "),
        "{said}"
    );
}

/// So that what is tried again and again is over soon, and yet is tried more than once on a busy machine.
const BRIEFLY: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000");

/// What the child says when all is well.
const ALL_ARRIVED: &str = "otlp: exported 2, spooled 0, dropped {}\n";

/// A receiver called `collector.test`, over TLS.
#[cfg(feature = "tls")]
struct Receiver {
    server: FaultServer,
    authority: faults::Authority,
}

#[cfg(feature = "tls")]
impl Receiver {
    fn start() -> Self {
        let authority = faults::Authority::new();
        let server = FaultServer::tls(authority.issue(&["collector.test"]).server(None).into(), [accept()]);
        Self { server, authority }
    }

    /// A child that trusts it and sends to it.
    fn run_behind(&self, role: &str, variables: &[(&str, &str)]) -> String {
        let file = self.authority.file("ca.pem", self.authority.certificate());
        let certificate = ("OTEL_EXPORTER_OTLP_CERTIFICATE", file.to_str().unwrap());
        run_as(role, "https://collector.test:4318", &[variables, &[certificate]].concat())
    }
}

#[cfg(feature = "tls")]
#[test]
fn any_answer_of_success_is_a_connection_even_behind_interim_ones() {
    let receiver = Receiver::start();
    for answered in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 200 Connected\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 299 Fine\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let proxy = Relay::to(&receiver.server.endpoint(), Speaks::Http(answered));
        let url = format!("http://{}", proxy.address());
        assert_eq!(receiver.run_behind("accounted", &[("https_proxy", &url)]), ALL_ARRIVED, "{answered}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn what_a_proxy_found_wrong_is_told_as_what_it_is() {
    for (act, words) in [
        (answer(Answer::status(407).body("no").then(After::Close)), "407; its URL takes credentials"),
        (answer(Answer::raw("").then(After::Close)), "closed the connection without an answer"),
        (answer(Answer::raw("SSH-2.0-x\r\n").then(After::Close)), "its answer is not HTTP/1.1"),
    ] {
        let proxy = FaultServer::plain([act]);
        let said = run("https://collector.invalid", &[("HTTPS_PROXY", &with_credentials(&proxy.endpoint()))]);
        assert!(said.contains("the proxy localhost:") && said.contains(words) && !said.contains("hunter2"), "{said}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn where_the_url_has_no_port_it_is_that_of_the_scheme() {
    // OTLPV-05
    for (endpoint, line) in [
        ("http://collector.invalid", "post http://collector.invalid/v1/traces http/1.1"),
        ("https://collector.invalid/x", "connect collector.invalid:443 http/1.1"),
    ] {
        let proxy = FaultServer::plain([answer(Answer::status(403).then(After::Close))]);
        run(endpoint, &[("ALL_PROXY", &proxy.endpoint())]);
        let head = &proxy.requests()[0].head;
        assert!(head.starts_with(line), "{head}");
    }
}

#[test]
fn a_connection_through_a_proxy_can_be_opened_ahead_and_has_every_byte_counted() {
    let proxy = FaultServer::plain([accept()]);
    let said = run_as("warm", ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&proxy.endpoint()))]);
    let heads: usize = proxy.requests().iter().map(|request| request.head.len()).sum();
    assert_eq!((said, proxy.connections()), (format!("otlp: 1 {heads}\n"), 1));
    assert_eq!(proxy.arrived().len(), 1);
}

#[test]
fn a_receiver_on_this_machine_and_one_that_is_exempt_are_not_asked_for_by_proxy() {
    let proxy = FaultServer::plain([answer(Answer::status(403).then(After::Close))]);
    for host in ["localhost", "127.0.0.1"] {
        let receiver = FaultServer::plain([accept()]);
        let said = run(&receiver.endpoint_by("http", host), &[("ALL_PROXY", &proxy.endpoint())]);
        assert_eq!((said.as_str(), receiver.arrived().len()), ("", 1), "{host}");
    }
    for exempt in ["*.invalid", "a.test, collector.invalid", "invalid", "collector.invalid:4318"] {
        let said = run(ELSEWHERE, &[("HTTP_PROXY", &proxy.endpoint()), ("NO_PROXY", exempt)]);
        assert!(said.contains("the host name is not known"), "{said}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_proxy_that_is_not_there_or_refuses_is_named_without_its_credentials() {
    let closed = Closed::refusing();
    let said = run(ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&closed.endpoint()))]);
    let address = closed.endpoint().replace("http://", "");
    assert!(said.contains(&format!("connection refused by the proxy {address}")), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    let refusing = FaultServer::plain([answer(Answer::status(403).then(After::Close))]);
    let said = run(ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&refusing.endpoint()))]);
    assert!(said.contains("by way of the proxy localhost:") && said.contains("403"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(refusing.requests().len(), 2, "made sure of over another connection");
}
