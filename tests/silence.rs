//! Neither the client's threads nor its calls write a line to the program's log, at whatever level that listens.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env,
    process::Command,
    sync::{Mutex, Once},
    thread,
    time::Duration,
};

use faults::{After, Answer, Closed, FaultServer, accept, answer};
use otlp::{
    Client, ClientBuilder, Compression, LogLevel, RetryConfig,
    config::{ConnectionPoolConfig, MonitoringConfig},
    testing::{Receiver, generate_test_spans},
};
use support::{LONG, wait_for};

const ROLE: &str = "OTLP_TEST_ROLE";

const TOKEN: &str = "tk_9fB2xQ7mZ4wL8vR1";

/// A logger for all that there is.
struct Everything;

/// Which thread wrote what.
static LINES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Servers of these tests run in the same process, on threads without a name.
        if let Some(name) = thread::current().name() {
            let line = format!("{} {}: {}", record.level(), record.target(), record.args());
            LINES.lock().unwrap().push((name.to_owned(), line));
        }
    }

    fn flush(&self) {}
}

/// Listens to everything from here on.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Everything).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        log::trace!(target: "test", "heard");
        let heard = std::mem::take(&mut *LINES.lock().unwrap());
        assert_eq!(heard.len(), 1, "the logger hears what is said");
    });
}

/// What was written by this thread, and by those of clients.
fn lines() -> Vec<(String, String)> {
    let own = thread::current().name().unwrap_or_default().to_owned();
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|(thread, _)| *thread == own || thread.starts_with("otlp")).cloned().collect()
}

#[track_caller]
fn assert_silent() {
    assert_eq!(lines(), []);
}

fn client_at(endpoint: String) -> ClientBuilder {
    let retry = RetryConfig { max_attempts: 3, initial_interval: Duration::from_millis(1), ..RetryConfig::default() };
    let pool = ConnectionPoolConfig { enable_connection_prewarming: true, ..ConnectionPoolConfig::default() };
    Client::builder()
        .with_endpoint(endpoint)
        .with_header("authorization", format!("Bearer {TOKEN}"))
        .with_retry_config(retry)
        .with_connection_pool_config(pool)
        .with_request_timeout(Duration::from_secs(1))
        // What it says goes to who asked for it.
        .with_error_handler(|_| {})
}

/// Everything that a client does, from its beginning to its end.
fn live(builder: ClientBuilder) {
    let client = builder.build().unwrap();
    let tracer = client.tracer("silence");
    thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|_| tracer.start("span").end()));
    });
    client.flush(LONG);
    let _ = client.export_spans(generate_test_spans(3));
    client.shutdown(LONG);
}

#[test]
fn a_client_is_silent_whatever_becomes_of_its_requests() {
    listen();
    for compression in [Compression::None, Compression::Gzip] {
        let server = FaultServer::plain([accept()]);
        live(client_at(server.endpoint()).with_compression(compression));
        assert_silent();
    }
    for hostile in [
        Answer::status(503).header("retry-after", "0"),
        Answer::status(404).body("no").chunked(),
        Answer::status(301).header("location", "http://elsewhere.invalid/"),
        Answer::status(500).then(After::Reset),
        Answer::status(200).cut_to(20).then(After::Close),
        Answer::raw("SSH-2.0-OpenSSH_9.6\r\n"),
        Answer::raw(
            "HTTP/1.1 103 Early\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ),
    ] {
        let server = FaultServer::plain([answer(hostile.clone())]);
        live(client_at(server.endpoint()));
        assert_silent();
    }
    // It has a use for own metrics and own spans, too.
    let receiver = Receiver::start().unwrap();
    let metrics_interval = Duration::from_millis(20);
    let log_level = LogLevel::Debug;
    let monitoring = MonitoringConfig { enable_metrics: true, metrics_interval, enable_tracing: true, log_level };
    let client = client_at(receiver.endpoint()).with_monitoring_config(monitoring).build().unwrap();
    client.tracer("silence").start("span").end();
    wait_for("own metrics", || !receiver.metrics().is_empty());
    client.shutdown(LONG);
    live(client_at(Closed::refusing().endpoint()));
    live(client_at(format!("http://{}.invalid:4318", "x".repeat(64))));
    assert_silent();
}

/// The whole way over TLS: a good server, one that is not trusted, and one that speaks none.
#[cfg(feature = "tls")]
fn live_over_tls() {
    let authority = faults::Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let untrusted = FaultServer::tls(faults::Authority::new().server(), [accept()]);
    let plain = FaultServer::plain([answer(Answer::status(400).then(After::Close))]);
    listen();
    for endpoint in [server.endpoint(), untrusted.endpoint(), plain.endpoint_by("https", "localhost")] {
        live(client_at(endpoint).with_certificate(authority.file("ca.pem", authority.certificate())));
    }
    assert!(!server.requests().is_empty(), "{:?}", server.failures());
}

/// Not a test of its own: what the child processes run, each with a log of its own.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("behind a proxy") => {
            listen();
            live(client_at("http://collector.invalid:4318".to_owned()));
            assert_silent();
        }
        #[cfg(feature = "tls")]
        Ok("over TLS") => {
            live_over_tls();
            let lines = lines();
            assert!(lines.iter().all(|(_, line)| !line.contains(&TOKEN[..8]) && !line.contains("POST")), "{lines:#?}");
        }
        #[cfg(feature = "tls")]
        Ok("silent over TLS") => {
            live_over_tls();
            assert_silent();
        }
        _ => {}
    }
}

/// Runs a child that has to succeed; answers what it said on stderr.
#[track_caller]
fn run(role: &str, proxy: Option<&str>) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    for (name, _) in env::vars().filter(|(name, _)| name.to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    let output = command.envs(proxy.map(|proxy| ("ALL_PROXY", proxy))).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_no_line_shows_a_header() {
    run("over TLS", None);
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_a_client_is_silent_too() {
    run("silent over TLS", None);
}

#[test]
fn a_client_behind_a_proxy_with_credentials_is_silent() {
    let tunnel = answer(Answer::raw("HTTP/1.1 200 Connected\r\n\r\n"));
    for script in [vec![tunnel, accept()], vec![answer(Answer::status(407).then(After::Close))]] {
        let proxy = FaultServer::plain(script);
        let said = run("behind a proxy", Some(&proxy.endpoint().replace("http://", "http://user:hunter2-of-trees@")));
        assert!(!said.contains("hunter2"), "{said}");
        assert!(faults::header(&proxy.requests()[0].head, "proxy-authorization").is_some());
    }
}
