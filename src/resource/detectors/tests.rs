use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// Facts of a machine that does not exist.
fn facts() -> Facts {
    Facts {
        instance: Some("6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned()),
        pid: 4711,
        started: Some(UNIX_EPOCH + Duration::from_millis(1_700_558_734_850)),
        executable: Some("tool".to_owned()),
        host_name: Some("example".to_owned()),
        machine: Some("0123456789abcdef0123456789abcdef".to_owned()),
        arch: "x86_64",
        os: "linux",
    }
}

fn detected(list: impl IntoIterator<Item = ResourceDetector>, facts: &Facts) -> Vec<String> {
    let (attributes, _) = Detectors::new(list).detect(facts);
    attributes.iter().map(|attribute| format!("{}={:?}", attribute.key, attribute.value)).collect()
}

#[test]
fn each_detector_finds_what_it_is_there_for() {
    // RES-11, RES-12
    let one = |detector| detected([detector], &facts()).join(" ");
    assert_eq!(
        one(ResourceDetector::ServiceInstance),
        r#"service.instance.id=String("6ba7b810-9dad-41d1-80b4-00c04fd430c8")"#
    );
    assert_eq!(
        one(ResourceDetector::Process),
        r#"process.pid=I64(4711) process.creation.time=String("2023-11-21T09:25:34.850Z") process.executable.name=String("tool")"#
    );
    assert_eq!(one(ResourceDetector::Host), r#"host.name=String("example") host.arch=String("amd64")"#);
    assert_eq!(one(ResourceDetector::HostId), r#"host.id=String("0123456789abcdef0123456789abcdef")"#);
    assert_eq!(one(ResourceDetector::Os), r#"os.type=String("linux")"#);
}

#[test]
fn what_is_not_known_is_left_out() {
    // RES-09
    let nothing = Facts { pid: 1, arch: "riscv64", os: "macos", ..Facts::default() };
    let all = detected(ResourceDetector::ALL.iter().copied(), &nothing);
    assert_eq!(all, ["process.pid=I64(1)", r#"host.arch=String("riscv64")"#, r#"os.type=String("darwin")"#]);
}

#[test]
fn a_schema_url_is_named_where_something_was_found_and_nowhere_else() {
    // RES-10
    fn schema_url(list: &[ResourceDetector], facts: &Facts) -> &'static str {
        Detectors::new(list.iter().copied()).detect(facts).1
    }
    for detector in ResourceDetector::ALL {
        assert_eq!(schema_url(&[*detector], &facts()), "https://opentelemetry.io/schemas/1.44.0", "{detector:?}");
    }
    assert_eq!(schema_url(&[], &facts()), "");
    assert_eq!(schema_url(&[ResourceDetector::HostId], &Facts::default()), "");
}

#[test]
fn a_list_is_read_in_any_case_and_a_repeated_name_counts_once() {
    // ENV-07
    for (text, list) in [
        ("process,host", "process,host"),
        (" OS , ServiceInstance, os,", "os,serviceinstance"),
        (" All", "serviceinstance,process,host,hostid,os"),
        ("none", "none"),
    ] {
        let (read, rejected) = Detectors::parse(text);
        assert_eq!((read.unwrap().to_string().as_str(), rejected), (list, None), "{text}");
    }
    assert_eq!(Detectors::default().to_string(), "serviceinstance,process,host,os");
}

#[test]
fn an_unknown_detector_is_told_and_costs_only_itself() {
    // ENV-08
    for (text, list, why) in [
        ("process,container", Some("process"), "; \"container\" is unknown"),
        ("all,none,host", Some("host"), "; \"all\" is unknown; \"none\" is not alone"),
        ("banana", None, "; \"banana\" is unknown"),
        (",", None, "or none alone"),
    ] {
        let (read, rejected) = Detectors::parse(text);
        assert_eq!(read.map(|list| list.to_string()).as_deref(), list, "{text}");
        assert!(rejected.as_ref().unwrap().must.ends_with(why), "{rejected:?}");
    }
}
