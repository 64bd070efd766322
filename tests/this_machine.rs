//! Ways to this machine itself: names that need no name server, a loopback interface that is down, addresses that are
//! told by their interface. And names that nobody knows.
//!
//! What needs a network of its own runs under `unshare`. Where that is not allowed those tests are skipped, or fail if
//! `OTLP_REQUIRE_INTEROP=1`.
#![cfg(all(feature = "testing", target_os = "linux"))]

mod support;

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, UdpSocket},
    process::{Command, Output},
    thread,
    time::Instant,
};

use otlp::{Client, ClientBuilder, DropReason, Error, LogLevel, RetryConfig, testing::generate_test_spans};
use support::{LONG, assert_accounted};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// A child with this variable has a name server that says nothing.
const SERVER: &str = "OTLP_TEST_SERVER";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("one span") => {
            let _silent = env::var_os(SERVER).map(|_| UdpSocket::bind("127.0.0.1:53").unwrap());
            let guard = otlp::init().unwrap();
            otlp::tracer("child").start("span").end();
            let begun = Instant::now();
            drop(guard);
            println!("ended within {} ms", begun.elapsed().as_millis());
        }
        Ok("deliver to localhost") => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://localhost:{}", listener.local_addr().unwrap().port());
            let answering = thread::spawn(move || answer_once(&listener));
            deliver(Client::builder().with_endpoint(endpoint));
            answering.join().unwrap();
        }
        _ => {}
    }
}

/// This test again, in a network of its own that `prepare` has changed; none where there can be no such network.
fn run_apart(role: &str, prepare: &str, variables: &[(&str, &str)]) -> Option<Output> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        assert!(env::var("OTLP_REQUIRE_INTEROP").as_deref() != Ok("1"), "unshare is required here");
        return None;
    }
    let mut command = unshare();
    command.args(["sh", "-ec", &format!("{prepare}\nexec \"$0\" \"$@\"")]).arg(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    let output = command.env(ROLE, role).envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(output)
}

/// The client's own lines.
fn said(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect()
}

/// How long the end took.
fn millis(output: &Output) -> u64 {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let end = stdout.split("ended within ").nth(1).unwrap_or_else(|| panic!("{stdout}"));
    end.split(' ').next().unwrap().parse().unwrap()
}

const LOOPBACK_UP: &str = "ip link set lo up";
const LOOPBACK_DOWN: &str = "";
/// Names are looked for in a file that does not have this one, and nowhere else.
const UNKNOWN_LOCALHOST: &str = "ip link set lo up
    mount --bind /dev/null /etc/hosts
    echo 'hosts: files' > /tmp/nsswitch.$$ && mount --bind /tmp/nsswitch.$$ /etc/nsswitch.conf && rm -f /tmp/nsswitch.$$";

#[test]
fn a_machine_that_cannot_reach_itself_is_as_one_where_nobody_listens() {
    // As it ends where nobody listens: a second attempt after 20 ms, and no wait of a second for progress.
    let Some(refused) = run_apart("one span", LOOPBACK_UP, &[]) else { return };
    for prepare in [LOOPBACK_DOWN, UNKNOWN_LOCALHOST] {
        let quickest = (0..3)
            .map(|_| {
                let output = run_apart("one span", prepare, &[]).unwrap();
                assert_eq!(said(&output).len(), said(&refused).len(), "{:?}", said(&output));
                millis(&output)
            })
            .min();
        assert!(quickest.unwrap() < 500, "{quickest:?} ms, and {} where it is refused", millis(&refused));
    }
}

#[test]
fn a_loopback_interface_that_is_down_is_told_where_an_endpoint_was_chosen() {
    let chosen = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")];
    let Some(output) = run_apart("one span", LOOPBACK_DOWN, &chosen) else { return };
    let said = said(&output);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 span was lost") && said[0].contains("loopback interface down"), "{said:?}");
    assert!(millis(&output) < 500, "{output:?}");
}

#[test]
fn localhost_is_this_machine_where_no_file_says_so() {
    run_apart("deliver to localhost", UNKNOWN_LOCALHOST, &[]);
}

#[test]
fn a_name_that_no_server_answers_for_in_time_is_told_at_the_end_and_was_no_shutdown() {
    // Its name server takes questions, and answers none.
    let prepare = "ip link set lo up
        echo 'nameserver 127.0.0.1' > /tmp/resolv.$$ && mount --bind /tmp/resolv.$$ /etc/resolv.conf
        echo 'hosts: dns' > /tmp/nsswitch.$$ && mount --bind /tmp/nsswitch.$$ /etc/nsswitch.conf
        rm -f /tmp/resolv.$$ /tmp/nsswitch.$$";
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
        ("OTLP_EXIT_STALL_TIMEOUT", "300"),
        (SERVER, "silent"),
    ];
    let Some(output) = run_apart("one span", prepare, &variables) else { return };
    let said = said(&output);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 span was lost {\"undelivered\": 1}"), "{said:?}");
    assert!(said[0].contains("the host name collector.example"), "{said:?}");
}

#[test]
fn an_unknown_name_is_told_at_the_end_and_was_no_shutdown() {
    let prepare = "ip link set lo up
        echo 'hosts: files' > /tmp/nsswitch.$$ && mount --bind /tmp/nsswitch.$$ /etc/nsswitch.conf
        rm -f /tmp/nsswitch.$$";
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"), ("OTLP_EXIT_STALL_TIMEOUT", "300")];
    let Some(output) = run_apart("one span", prepare, &variables) else { return };
    let said = said(&output);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 span was lost {\"undelivered\": 1}"), "{said:?}");
    assert!(said[0].contains("collector.example"), "{said:?}");
}

fn once(builder: ClientBuilder) -> ClientBuilder {
    builder
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
        .with_request_timeout(LONG)
        .with_log_level(LogLevel::None)
}

#[track_caller]
fn deliver(builder: ClientBuilder) {
    let client = once(builder).build().unwrap();
    assert_eq!(client.export_spans(generate_test_spans(2)).unwrap().accepted, 2);
    assert_accounted(&client);
}

/// Answers one request, and hands back its head in lower case.
fn answer_once(listener: &TcpListener) -> String {
    listener.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    let (stream, _) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(error) => assert!(begun.elapsed() < LONG, "nobody comes: {error}"),
        }
        thread::yield_now();
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    reader.read_exact(&mut vec![0; length]).unwrap();
    (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    head
}

#[test]
fn an_address_is_reached_by_the_interface_that_its_zone_names_and_the_receiver_hears_nothing_of_it() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let port = listener.local_addr().unwrap().port();
    for zone in ["%25lo", "%251", "%lo", ""] {
        thread::scope(|scope| {
            let answering = scope.spawn(|| answer_once(&listener));
            deliver(Client::builder().with_endpoint(format!("http://[::1{zone}]:{port}")));
            let head = answering.join().unwrap();
            assert!(head.contains(&format!("host: [::1]:{port}\r\n")), "{zone}: {head}");
        });
    }
    let client = once(Client::builder().with_endpoint(format!("http://[::1%25no-such-0]:{port}"))).build().unwrap();
    let error = client.export_spans(generate_test_spans(2)).unwrap_err();
    let Error::Unreachable { message, endpoint, .. } = error else { panic!("{error:?}") };
    assert!(message.contains("no network interface no-such-0"), "{message}");
    assert_eq!(endpoint, format!("http://[::1%25no-such-0]:{port}/v1/traces"));
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Undelivered), 2);
}

#[test]
fn hosts_that_are_written_in_unusual_ways_are_reached_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["localhost.", "LOCALHOST", "collector.localhost", "user:secret@127.0.0.1"] {
        thread::scope(|scope| {
            let answering = scope.spawn(|| answer_once(&listener));
            deliver(Client::builder().with_endpoint(format!("http://{host}:{port}")));
            let head = answering.join().unwrap();
            assert_eq!(head.contains("authorization: basic "), host.contains('@'), "{head}");
        });
    }
}
