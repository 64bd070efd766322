//! What a program links with this crate, and what it never does.

use std::{collections::BTreeSet, path::Path, process::Command};

/// Never in any tree: the runtimes, and what brings one along.
const NEVER: &[&str] = &["async-std", "hyper", "smol", "tonic", "tokio"];

/// What reads and writes the messages of OTLP for the in-process receiver.
const MESSAGES: &[&str] = &["opentelemetry", "opentelemetry-proto", "opentelemetry_sdk", "prost", "prost-derive"];

/// What `cargo tree` says of this repository, one crate to a line.
fn tree(arguments: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--format", "{p}", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8(tree.stdout).unwrap()
}

/// Name and version. What was shown before is marked, and so are macros.
fn name(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// The crates of a program that depends on this one with these features; this one is among them.
fn crates(features: &[&str]) -> BTreeSet<String> {
    crates_by("normal", features)
}

fn crates_by(edges: &str, features: &[&str]) -> BTreeSet<String> {
    let arguments = ["--package", "otlp", "--edges", edges, "--prefix", "none"];
    let tree = tree(&[&arguments, features].concat());
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
fn by_default_there_are_neither_async_runtimes_nor_message_types_and_at_most_42_crates() {
    let crates = crates(&[]);
    assert!(has(&crates, "rustls"));
    assert_without(&crates, NEVER);
    assert_without(&crates, MESSAGES);
    assert!(crates.len() <= 42, "{}: {crates:#?}", crates.len());
}

#[test]
fn who_asks_for_the_receiver_gets_the_message_types_and_no_runtime_with_them() {
    let crates = crates(&["--features", "testing"]);
    assert!(has(&crates, "opentelemetry-proto") && has(&crates, "prost"));
    assert_without(&crates, NEVER);
    assert!(crates.len() <= 70, "{}: {crates:#?}", crates.len());
}

#[test]
fn for_plain_http_alone_30_crates_are_enough() {
    let crates = crates(&["--no-default-features"]);
    assert_without(&crates, NEVER);
    assert_without(&crates, MESSAGES);
    assert_without(&crates, &["rustls", "ring", "webpki-roots"]);
    // Macros cost more to compile than what they would save here.
    assert_without(&crates, &["syn", "proc-macro2"]);
    assert!(crates.len() <= 30, "{}: {crates:#?}", crates.len());
}

#[test]
fn no_crate_is_there_in_two_versions_but_those_of_others() {
    // ring asks for a getrandom of its own, prost-derive for a syn.
    let allowed = ["getrandom", "syn"];
    let crates = crates(&["--features", "testing"]);
    let names: Vec<_> = crates.iter().map(|one| one.split(' ').next().unwrap()).collect();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.iter().all(|name| allowed.contains(name)), "{twice:?}");
}

/// Whoever runs an example builds what it needs, and nothing of what tests and benchmarks need.
#[test]
fn the_first_example_is_built_from_at_most_75_crates() {
    let examples = tree(&["--package", "examples", "--edges", "normal,build,dev", "--depth", "1", "--prefix", "none"]);
    let own: BTreeSet<_> = examples.lines().filter_map(|line| line.split_once(" v")).map(|(name, _)| name).collect();
    assert_eq!(own.into_iter().collect::<Vec<_>>(), ["examples", "nix", "otlp"]);
    let crates = crates_by("normal,build", &["--features", "testing"]);
    assert!(has(&crates, "nix") && has(&crates, "cc"), "{crates:?}");
    assert_without(&crates, &["clap", "criterion", "proptest", "rcgen", "serde"]);
    // The package of the examples is one, and two parts of others come with features that tests and benchmarks ask for.
    assert!(crates.len() + 1 + 2 <= 75, "{}: {crates:#?}", crates.len());
}
