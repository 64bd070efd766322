//! What the resource tells: found out, from the environment, and from code.
#![cfg(feature = "testing")]

mod support;

use std::{
    env,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use otlp::{
    Client, ClientBuilder, KeyValue,
    config::{MonitoringConfig, OtlpConfig, ResourceDetector},
    testing::{Receiver, proto::common::v1::any_value::Value},
};
use support::LONG;

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// A resource as it arrived: its attributes in order, and its schema URL.
type Arrived = (Vec<(String, String)>, String);

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("job") => {
            let _otlp = otlp::init().unwrap();
            otlp::tracer("job").start("work").end();
        }
        #[cfg(unix)]
        Ok("fork") => fork(),
        _ => {}
    }
}

/// Runs a child with an argument that nobody is to know, and only the given variables of ours set.
fn run(role: &str, receiver: &Receiver, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1", "--skip", "hunter2"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command.env(ROLE, role).env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()).envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The resources of all requests, in the order they arrived.
fn resources(receiver: &Receiver) -> Vec<Arrived> {
    let messages = receiver.requests().into_iter().filter_map(|request| request.message);
    let all = messages.flat_map(|message| message.resource_spans).map(|spans| {
        let text = |value: Value| match value {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        let attributes = spans.resource.unwrap().attributes.into_iter();
        let attributes =
            attributes.map(|attribute| (attribute.key, text(attribute.value.unwrap().value.unwrap()))).collect();
        (attributes, spans.schema_url)
    });
    all.collect()
}

/// The one resource that came of `builder`.
fn resource(builder: ClientBuilder) -> Arrived {
    let receiver = Receiver::start().unwrap();
    let client = builder.with_endpoint(receiver.endpoint()).build().unwrap();
    client.tracer("test").start("span").end();
    assert!(client.close().is_complete());
    let mut resources = resources(&receiver);
    assert_eq!(resources.len(), 1);
    resources.remove(0)
}

#[track_caller]
fn value<'a>(resource: &'a Arrived, key: &str) -> Option<&'a str> {
    let mut values = resource.0.iter().filter(|(known, _)| known == key);
    let value = values.next().map(|(_, value)| value.as_str());
    assert!(values.next().is_none(), "{key} occurs twice");
    value
}

/// What detectors added.
fn found(resource: &Arrived) -> Vec<&str> {
    let keys = resource.0.iter().map(|(key, _)| key.as_str());
    keys.filter(|key| *key != "service.name" && !key.starts_with("telemetry.sdk.")).collect()
}

#[test]
fn by_default_a_resource_tells_the_instance_the_process_the_host_and_the_system() {
    // RES-10, RES-11, RES-12
    let receiver = Receiver::start().unwrap();
    let before = SystemTime::now();
    run("job", &receiver, &[]);
    let after = SystemTime::now();
    let resource = &resources(&receiver)[0];
    let text = |key| value(resource, key).unwrap_or_else(|| panic!("{key} is missing in {resource:?}"));

    let instance = text("service.instance.id");
    let groups: Vec<_> = instance.split('-').map(str::len).collect();
    assert_eq!((groups, &instance[14..15]), (vec![8, 4, 4, 4, 12], "4"), "a random UUID: {instance}");
    assert_ne!(text("process.pid"), std::process::id().to_string());
    assert_eq!(text("process.executable.name"), env::current_exe().unwrap().file_name().unwrap().to_str().unwrap());
    if cfg!(target_os = "linux") {
        let created = humantime::parse_rfc3339(text("process.creation.time")).unwrap();
        // What the kernel counts in, and what the clocks may differ by.
        let blur = Duration::from_millis(20);
        assert!(before - blur <= created && created <= after + blur, "{before:?} {created:?} {after:?}");
    }
    assert!(!text("host.name").is_empty() && !text("host.arch").is_empty());
    assert_eq!(text("os.type"), if cfg!(target_os = "macos") { "darwin" } else { env::consts::OS });
    assert_eq!(resource.1, "https://opentelemetry.io/schemas/1.44.0");
    // Neither what was not asked for, nor anything of the command line.
    assert_eq!(value(resource, "host.id"), None);
    assert!(!resource.0.iter().any(|(key, _)| key.starts_with("process.command")), "{resource:?}");
    assert!(!format!("{:?}", receiver.requests()).contains("hunter2"));
}

#[test]
fn exactly_the_chosen_detectors_find_something_out() {
    // RES-09, RES-10, ENV-09
    let process: &[&str] = match cfg!(target_os = "linux") {
        true => &["process.pid", "process.creation.time", "process.executable.name"],
        false => &["process.pid", "process.executable.name"],
    };
    for (detector, expected) in [
        (ResourceDetector::ServiceInstance, &["service.instance.id"][..]),
        (ResourceDetector::Process, process),
        (ResourceDetector::Host, &["host.name", "host.arch"]),
        (ResourceDetector::Os, &["os.type"]),
    ] {
        let resource = resource(Client::builder().with_resource_detectors([detector, detector]));
        assert_eq!((found(&resource), resource.1.is_empty()), (expected.to_vec(), false), "{detector:?}");
    }
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let host = resource(Client::builder().with_resource_detectors([ResourceDetector::HostId]));
    if machine.trim().len() == 32 {
        assert_eq!(value(&host, "host.id"), Some(machine.trim()));
    }
    let mut config = OtlpConfig::default();
    config.resource.detectors = Some(vec![ResourceDetector::Os]);
    assert_eq!(found(&resource(Client::builder().with_config(config))), ["os.type"]);
}

#[test]
fn without_detectors_nothing_is_added_and_no_schema_url_is_named() {
    // RES-10
    let bare = resource(Client::builder().with_resource_detectors([]));
    assert_eq!((found(&bare), bare.1.as_str()), (vec![], ""));

    let receiver = Receiver::start().unwrap();
    run("job", &receiver, &[("OTLP_RESOURCE_DETECTORS", "None"), ("OTEL_RESOURCE_ATTRIBUTES", "host.name=a")]);
    let from_environment = &resources(&receiver)[0];
    assert_eq!((found(from_environment), from_environment.1.as_str()), (vec!["host.name"], ""));
}

#[test]
fn the_environment_beats_what_is_found_out_and_code_beats_both() {
    // RES-04, RES-12
    let receiver = Receiver::start().unwrap();
    let given = "service.instance.id=mine,process.pid=7,os.type=";
    run(
        "job",
        &receiver,
        &[("OTEL_RESOURCE_ATTRIBUTES", given), ("OTLP_RESOURCE_DETECTORS", "serviceinstance,process,os")],
    );
    let arrived = &resources(&receiver)[0];
    for (key, expected) in [("service.instance.id", "mine"), ("process.pid", "7"), ("os.type", "")] {
        assert_eq!(value(arrived, key), Some(expected));
    }
    assert_eq!(value(arrived, "host.name"), None);

    let code = KeyValue::new("service.instance.id", "by code");
    assert_eq!(
        value(&resource(Client::builder().with_resource_attribute(code)), "service.instance.id"),
        Some("by code")
    );
}

#[test]
fn each_client_is_another_instance_of_the_same_process() {
    // RES-12
    let (one, other) = (resource(Client::builder()), resource(Client::builder()));
    assert_ne!(value(&one, "service.instance.id"), value(&other, "service.instance.id"));
    for key in ["process.pid", "process.creation.time", "host.name"] {
        assert_eq!(value(&one, key), value(&other, key), "{key}");
    }
    assert_eq!(value(&one, "process.pid"), Some(std::process::id().to_string().as_str()));
}

#[test]
fn every_request_of_a_client_names_the_same_resource() {
    // RES-08
    let receiver = Receiver::start().unwrap();
    let monitoring = MonitoringConfig { enable_metrics: true, ..MonitoringConfig::default() };
    let client =
        Client::builder().with_endpoint(receiver.endpoint()).with_monitoring_config(monitoring).build().unwrap();
    let tracer = client.tracer("test");
    for _ in 0..3 {
        tracer.start("span").end();
        assert!(client.flush(LONG).is_complete());
    }
    client.export_spans(otlp::testing::generate_test_spans(1)).unwrap();
    let mut buffer = client.get_zero_copy_buffer();
    buffer.write_spans(&otlp::testing::generate_test_spans(1)).unwrap();
    client.send_buffer(buffer).unwrap();
    client.close();

    let all = resources(&receiver);
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    // The client's own metrics come from it too.
    let metrics = receiver.metrics().pop().unwrap().resource_metrics.remove(0);
    let keys: Vec<_> = metrics.resource.unwrap().attributes.into_iter().map(|attribute| attribute.key).collect();
    assert_eq!(keys, all[0].0.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
    assert_eq!(metrics.schema_url, all[0].1);
}

/// Parent and child record, one after the other.
#[cfg(unix)]
fn fork() {
    let otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("test");
    // SAFETY: there is no other thread yet but the one that waits for this test.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            tracer.start("a child's").end();
            drop(otlp);
            std::process::exit(0)
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).unwrap();
            tracer.start("its parent's").end();
        }
    }
}

#[cfg(unix)]
#[test]
fn the_child_of_a_fork_is_another_instance_with_a_pid_of_its_own() {
    // RES-08, RES-12
    let receiver = Receiver::start().unwrap();
    run("fork", &receiver, &[]);
    let [child, parent] = &resources(&receiver)[..] else { panic!("{:?}", resources(&receiver)) };
    for key in ["service.instance.id", "process.pid"] {
        assert!(value(child, key).is_some());
        assert_ne!(value(child, key), value(parent, key), "{key}");
    }
    assert_eq!(value(child, "service.name"), value(parent, "service.name"));
    assert_eq!(child.1, parent.1);

    let receiver = Receiver::start().unwrap();
    run("fork", &receiver, &[("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")]);
    for resource in resources(&receiver) {
        assert_eq!(value(&resource, "service.instance.id"), Some("mine"));
    }
}
