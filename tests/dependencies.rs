//! What a program links with this crate, and what it never does.

use std::{collections::BTreeSet, path::Path, process::Command};

/// Never in any tree: the runtimes, and what brings one along.
const NEVER: &[&str] = &["async-std", "hyper", "smol", "tonic", "tokio"];

/// The crates of a program that depends on this one with these features, as `cargo tree` names them; this one is among
/// them.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .args(features)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    // What was shown before is marked, and so are macros.
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let crates: BTreeSet<_> = tree.lines().filter(|line| !line.is_empty()).map(name).collect();
    assert!(has(&crates, "otlp") && has(&crates, "ureq"), "the tree was read: {crates:?}");
    crates
}

fn has(crates: &BTreeSet<String>, name: &str) -> bool {
    crates.iter().any(|one| one.split(' ').next() == Some(name))
}

#[track_caller]
fn assert_without(crates: &BTreeSet<String>, names: &[&str]) {
    let found: Vec<_> = names.iter().filter(|name| has(crates, name)).collect();
    assert_eq!(found, Vec::<&&str>::new());
}

#[test]
fn by_default_there_is_no_async_runtime_and_at_most_72_crates() {
    let crates = crates(&[]);
    assert!(has(&crates, "rustls") && has(&crates, "opentelemetry-proto"));
    assert_without(&crates, NEVER);
    assert!(crates.len() <= 72, "{}: {crates:#?}", crates.len());
}

#[test]
fn for_plain_http_alone_30_crates_are_enough() {
    let crates = crates(&["--no-default-features"]);
    assert_without(&crates, NEVER);
    assert_without(&crates, &["opentelemetry-proto", "opentelemetry", "prost", "rustls", "ring", "webpki-roots"]);
    // Macros cost more to compile than what they would save here.
    assert_without(&crates, &["syn", "proc-macro2"]);
    assert!(crates.len() <= 30, "{}: {crates:#?}", crates.len());
}

#[test]
fn tls_without_the_receiver_brings_no_message_types() {
    let crates = crates(&["--no-default-features", "--features", "tls"]);
    assert!(has(&crates, "rustls"));
    assert_without(&crates, NEVER);
    assert_without(&crates, &["opentelemetry-proto", "opentelemetry", "prost"]);
}

#[test]
fn no_crate_is_there_in_two_versions_but_those_of_others() {
    // ring and rand ask for a getrandom of their own, prost-derive for a syn.
    let allowed = ["getrandom", "syn"];
    let crates = crates(&[]);
    let names: Vec<_> = crates.iter().map(|one| one.split(' ').next().unwrap()).collect();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.iter().all(|name| allowed.contains(name)), "{twice:?}");
}
