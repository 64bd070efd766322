//! What a client is given in confidence appears nowhere but in its requests, whatever a receiver makes of it.
#![cfg(feature = "testing")]

mod support;

use std::{
    env,
    fmt::Write as _,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use otlp::{
    Client, ClientBuilder, LogLevel, RetryConfig,
    config::{MonitoringConfig, OtlpConfig, TransportConfig},
    testing::{Keep, Receiver, Request, Response, generate_test_spans},
};
use support::{LONG, wait_for};

const ROLE: &str = "OTLP_TEST_ROLE";

const USER: &str = "gustav.klimt";
const PASSWORD: &str = "Hunter2/of+Trees";
/// The Basic credentials of the two.
const BASIC: &str = "Z3VzdGF2LmtsaW10Okh1bnRlcjIvb2YrVHJlZXM=";
/// In the query, where it stands percent-encoded.
const KEY: &str = "Qk3y/77aXw+Zp0=kk";
const TOKEN: &str = "tk_9fB2+xQ7/mZ4wL8\"vR1<&>\\y";
const TENANT: &str = "deadBEEF00c0ffee";

const SECRETS: [&str; 6] = [USER, PASSWORD, BASIC, KEY, TOKEN, TENANT];

/// What a receiver at `address` is asked at.
fn url(address: &str) -> String {
    format!("http://{USER}:Hunter2%2Fof%2BTrees@{address}/v1/traces?api_key=Qk3y%2F77aXw%2BZp0%3Dkk&format=json")
}

/// Eight characters of a secret in a row are as secret as it is.
#[track_caller]
fn assert_hidden(what: &str, text: &str) {
    let text = text.to_lowercase();
    // As it is read, too.
    let json: String = text.replace(r"\/", "/").replace(r#"\""#, "\"").replace(r"\\", r"\");
    for secret in SECRETS {
        for part in secret.to_lowercase().as_bytes().windows(8) {
            let part = str::from_utf8(part).unwrap();
            assert!(!text.contains(part) && !json.contains(part), "{what} shows {part:?} of {secret:?}: {text}");
        }
    }
}

/// A receiver's way to repeat something in its answer.
type Way = fn(&str) -> String;
const WAYS: &[(&str, Way)] = &[
    ("whole", str::to_owned),
    ("in upper case", |text| text.to_ascii_uppercase()),
    ("its beginning", |text| text.chars().take(text.len() * 2 / 3).collect()),
    ("its end", |text| text.chars().skip(text.len() / 3).collect()),
    ("percent-encoded", |text| text.bytes().map(|byte| format!("%{byte:02x}")).collect()),
    ("as JSON", |text| serde_json::to_string(text).unwrap().replace('/', r"\/")),
    ("as numbers of JSON", |text| text.chars().map(|c| format!("\\u{:04X}", c as u32)).collect()),
    ("as numbers of HTML", |text| text.chars().map(|c| format!("&#{};", c as u32)).collect()),
    ("as HTML", |text| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        text.replace('"', "&quot;").replace('/', "&#x2F;")
    }),
    ("as Rust", |text| format!("{text:?}")),
];

/// A receiver that repeats each part of a request, in this way, one after the other, with these statuses.
fn repeating(way: Way) -> Receiver {
    let statuses = [400, 404, 413, 200];
    let respond = move |request: &Request| {
        let parts: Vec<String> =
            [request.path.clone()].into_iter().chain(request.headers.iter().map(|(_, value)| value.clone())).collect();
        let query = request.path.split("api_key=").nth(1).unwrap_or_default().split('&').next().unwrap();
        let whole = [KEY, query, USER, PASSWORD].into_iter().map(str::to_owned).chain(parts).collect::<Vec<_>>();
        let number = request.number as usize;
        let said = format!("no: {}, so", way(&whole[number / statuses.len() % whole.len()]));
        match statuses[number % statuses.len()] {
            200 => Response::partial_success(1, &said),
            status => Response::status(status).body(said),
        }
    };
    Receiver::builder().keep(Keep::Everything).respond_with(respond).start().unwrap()
}

fn confided(builder: ClientBuilder, address: &str) -> ClientBuilder {
    builder.with_traces_endpoint(url(address)).with_header("x-api-key", TOKEN).with_header("x-tenant", TENANT)
}

#[test]
fn nothing_a_receiver_repeats_shows_a_secret_in_whatever_way_it_does() {
    for (name, way) in WAYS {
        let receiver = repeating(*way);
        let told = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&told);
        let monitoring = MonitoringConfig {
            enable_metrics: true,
            metrics_interval: Duration::from_millis(20),
            enable_tracing: true,
            log_level: LogLevel::Debug,
        };
        let client = confided(Client::builder(), &receiver.address().to_string())
            .with_monitoring_config(monitoring)
            .with_log_level(LogLevel::Debug)
            .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
            .with_error_handler(move |said| writeln!(heard.lock().unwrap(), "{said} {said:?}").unwrap())
            .build()
            .unwrap();
        let mut results = String::new();
        // Each part of a request with each status.
        for _ in 0..4 * 14 {
            match client.export_spans(generate_test_spans(1)) {
                Ok(report) => writeln!(results, "{report:?}").unwrap(),
                Err(error) => writeln!(results, "{error} {error:?}").unwrap(),
            }
        }
        assert!(results.contains("no: ") && results.contains("404"), "{name}: {results}");
        assert!(results.contains('*'), "{name}: something was hidden: {results}");
        client.tracer("secrets").start("span").end();
        writeln!(results, "{:?}", client.flush(LONG)).unwrap();
        writeln!(results, "{client:?} {:?} {:?}", client.stats(), client.get_performance_metrics()).unwrap();
        writeln!(results, "{:?}", client.shutdown(LONG)).unwrap();
        let told = told.lock().unwrap().clone();
        assert!(told.contains("no: "), "{name}: {told}");
        assert_hidden(name, &told);
        assert_hidden(name, &results);
        for request in receiver.requests() {
            assert_eq!(request.header("x-api-key"), Some(TOKEN), "it arrived");
            assert_hidden(name, &format!("{:?}", request.message));
        }
        assert_hidden(name, &format!("{:?}", receiver.metrics()));
    }
}

#[test]
fn own_metrics_and_own_spans_carry_no_secret() {
    let receiver = Receiver::start().unwrap();
    let monitoring = MonitoringConfig {
        enable_metrics: true,
        metrics_interval: Duration::from_millis(20),
        enable_tracing: true,
        log_level: LogLevel::Debug,
    };
    // The receiver knows metrics by a path without a query.
    let address = receiver.address().to_string();
    let client = confided(Client::builder(), &address)
        .with_traces_endpoint(url(&address).split('?').next().unwrap())
        .with_monitoring_config(monitoring)
        .build()
        .unwrap();
    client.tracer("secrets").start("span").end();
    assert!(client.flush(LONG).is_complete());
    wait_for("own metrics", || !receiver.metrics().is_empty());
    assert!(client.shutdown(LONG).is_complete());
    assert!(receiver.spans().iter().any(|span| span.scope.name == "otlp"), "own spans");
    assert_hidden("own spans", &format!("{:?}", receiver.spans()));
    assert_hidden("own metrics", &format!("{:?}", receiver.metrics()));
}

#[test]
fn a_message_stays_readable_around_what_is_hidden() {
    let respond = |request: &Request| {
        let tenant = request.header("x-tenant").unwrap();
        Response::status(404)
            .body(format!("no tenant {tenant} here; path {} is unknown, send application/json", request.path))
    };
    let receiver = Receiver::builder().respond_with(respond).start().unwrap();
    let client = confided(Client::builder(), &receiver.address().to_string()).with_header("accept", "application/json");
    let client = client.with_log_level(LogLevel::None).build().unwrap();
    let said = client.export_spans(generate_test_spans(1)).unwrap_err().to_string();
    let expected = format!(
        "no tenant {} here; path /v1/traces?api_key={}&format=json is unknown, send application/json",
        "*".repeat(TENANT.len()),
        "*".repeat("Qk3y%2F77aXw%2BZp0%3Dkk".len()),
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn what_holds_settings_shows_no_secret_and_neither_do_errors_about_them() {
    let builder = confided(Client::builder(), "collector.test:4318");
    assert_hidden("a builder", &format!("{builder:?} {builder:#?}"));
    let transport = TransportConfig {
        endpoint: Some(url("collector.test:4318")),
        traces_endpoint: Some(url("collector.test:4318")),
        headers: vec![("x-api-key".to_owned(), TOKEN.to_owned())],
        ..TransportConfig::default()
    };
    assert_hidden("a configuration", &format!("{transport:?}"));
    let config = OtlpConfig { transport, ..OtlpConfig::default() };
    assert_hidden("a whole configuration", &format!("{config:?} {config:#?}"));
    assert_hidden("a builder of it", &format!("{:?}", Client::builder().with_config(config)));
    for broken in ["collector.test:99999", "collector test", "", "[::x]"] {
        let error = Client::builder().with_endpoint(url(broken)).build().unwrap_err();
        assert_hidden("an error", &format!("{error} {error:?}"));
    }
    for (name, value) in [(TOKEN, "v"), ("x-key", "tk_9fB2+xQ7/mZ4wL8\n"), ("content-length", TENANT)] {
        let error = Client::builder().with_header(name, value).build().unwrap_err();
        assert_hidden("an error", &format!("{error} {error:?}"));
    }
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    if env::var(ROLE).is_err() {
        return;
    }
    let _otlp = otlp::init().unwrap();
    otlp::tracer("child").start("span").end();
    eprintln!("{:?} {:?}", otlp::client(), otlp::client().flush(LONG));
}

/// What a process says whose environment is full of secrets.
fn run(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let is_ours = |name: &str| name.starts_with("OTEL_") || name.starts_with("OTLP_");
    for (name, _) in env::vars().filter(|(name, _)| is_ours(name) || name.to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    let headers = "x-api-key=tk_9fB2%2BxQ7/mZ4wL8%22vR1%3C&%3E%5Cy,x-tenant=deadBEEF00c0ffee";
    command
        .env(ROLE, "child")
        .env("OTEL_LOG_LEVEL", "debug")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
        .env("OTEL_EXPORTER_OTLP_HEADERS", headers);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_hidden("stdout", &String::from_utf8_lossy(&output.stdout));
    said
}

#[test]
fn a_process_shows_no_secret_of_its_environment() {
    let refusing =
        |request: &Request| Response::status(404).body(format!("404 {} {:?}", request.path, request.headers));
    let receiver = Receiver::builder().respond_with(refusing).start().unwrap();
    let said = run(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url(&receiver.address().to_string()))]);
    assert!(said.contains("otlp: ") && said.contains("404 /v1/traces?api_key=*"), "{said}");
    assert_hidden("stderr", &said);
    assert_hidden("stderr", &run(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url("127.0.0.1:1"))]));
    assert_hidden("stderr", &run(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url("collector test"))]));
    assert_hidden("stderr", &run(&[("OTEL_EXPORTER_OTLP_HEADERS", &format!("{TOKEN} {TENANT},x=%zz{KEY}"))]));

    // A proxy is shown credentials of its own, and repeats what it was sent.
    let proxy = repeating(str::to_owned);
    let asking = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.invalid:4318"),
        ("ALL_PROXY", &url(&proxy.address().to_string())),
    ];
    let said = run(&asking);
    assert!(said.contains("the proxy 127.0.0.1:"), "{said}");
    assert_hidden("stderr", &said);
}
