//! Proxies, which the environment names: each case is a process of its own.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env,
    process::{Command, Output},
    thread,
    time::Instant,
};

use faults::{After, Answer, Closed, FaultServer, accept, answer, header};
use otlp::{Client, config::ConnectionPoolConfig};
use support::LONG;

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
    command.env(ROLE, role).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).envs(variables.iter().copied());
    let output: Output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said.lines().filter(|line| line.starts_with("otlp: ")).map(|line| format!("{line}\n")).collect()
}

/// The server's address with credentials.
fn with_credentials(endpoint: &str) -> String {
    endpoint.replace("http://", "http://user:hunter2@")
}

#[test]
fn a_proxy_is_asked_for_a_connection_to_the_receiver_and_given_its_credentials() {
    // OTLPV-06
    let tunnel = answer(Answer::raw("HTTP/1.1 200 Connected\r\n\r\n"));
    let proxy = FaultServer::plain([tunnel, accept()]);
    let said = run(ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&proxy.endpoint()))]);
    assert_eq!(said, "");
    let requests = proxy.requests();
    assert!(requests[0].head.starts_with("connect collector.invalid:4318 http/1.1"), "{}", requests[0].head);
    assert!(header(&requests[0].head, "proxy-authorization").is_some());
    assert!(requests[1].head.starts_with("post /v1/traces"), "{}", requests[1].head);
    assert_eq!(header(&requests[1].head, "proxy-authorization"), None, "it is for the proxy alone");
    assert_eq!(proxy.arrived().len(), 1);
}

#[test]
fn any_answer_of_success_is_a_connection_even_behind_interim_ones() {
    for answered in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 200 Connected\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 299 Fine\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let proxy = FaultServer::plain([answer(Answer::raw(answered)), accept()]);
        assert_eq!(run(ELSEWHERE, &[("HTTP_PROXY", &proxy.endpoint())]), "", "{answered}");
        assert_eq!(proxy.arrived().len(), 1, "{answered}");
    }
}

#[test]
fn what_a_proxy_found_wrong_is_told_as_what_it_is() {
    for (act, words) in [
        (answer(Answer::status(407).body("no").then(After::Close)), "407; its URL takes credentials"),
        (answer(Answer::raw("").then(After::Close)), "closed the connection without an answer"),
        (answer(Answer::raw("SSH-2.0-x\r\n").then(After::Close)), "its answer is not HTTP/1.1"),
    ] {
        let proxy = FaultServer::plain([act]);
        let said = run(ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&proxy.endpoint()))]);
        assert!(said.contains("the proxy localhost:") && said.contains(words) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn where_the_url_has_no_port_it_is_that_of_the_scheme() {
    // OTLPV-05
    for (endpoint, authority) in
        [("http://collector.invalid", "collector.invalid:80"), ("https://collector.invalid/x", "collector.invalid:443")]
    {
        let proxy = FaultServer::plain([answer(Answer::status(403).then(After::Close))]);
        run(endpoint, &[("ALL_PROXY", &proxy.endpoint())]);
        let head = &proxy.requests()[0].head;
        assert!(head.starts_with(&format!("connect {authority} http/1.1")), "{head}");
    }
}

#[test]
fn a_connection_through_a_proxy_can_be_opened_ahead_and_has_every_byte_counted() {
    let tunnel = answer(Answer::raw("HTTP/1.1 200 Connected\r\n\r\n"));
    let proxy = FaultServer::plain([tunnel, accept()]);
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
    let exempt = [("HTTP_PROXY", proxy.endpoint()), ("NO_PROXY", "*.invalid".to_owned())];
    let said = run(ELSEWHERE, &exempt.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert!(said.contains("the host name is not known"), "{said}");
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_proxy_that_is_not_there_or_refuses_is_named_without_its_credentials() {
    let closed = Closed::refusing();
    let said = run(ELSEWHERE, &[("HTTPS_PROXY", &with_credentials(&closed.endpoint()))]);
    let address = closed.endpoint().replace("http://", "");
    assert!(said.contains(&format!("connection refused by the proxy {address}")), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    let refusing = FaultServer::plain([answer(Answer::status(403).then(After::Close))]);
    let said = run(ELSEWHERE, &[("HTTP_PROXY", &with_credentials(&refusing.endpoint()))]);
    assert!(said.contains("the proxy localhost:") && said.contains("403"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(refusing.arrived().len(), 0);
}
