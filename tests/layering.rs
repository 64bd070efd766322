//! The map holds: imports point upstream, and what is fenced stays inside its fence.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What each stage may import from the crate. A stage that is not listed fails the test.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("wire", &[]),
    ("http2", &[]),
    ("proto", &[]),
    ("value", &[]),
    ("error", &["plugin", "sync"]),
    ("plugin", &[]),
    ("exit", &["capture", "fork", "sync", "value"]),
    ("fork", &["sync"]),
    ("hostile", &[]),
    ("listed", &[]),
    ("stats", &["config", "error"]),
    ("env", &["error"]),
    ("resource", &["env", "value"]),
    ("config", &["env", "error", "resource", "sync", "value"]),
    ("capture", &["config", "error", "fork", "plugin", "proto", "stats", "sync", "value", "wire"]),
    ("export", &["capture", "config", "error", "http2", "proto", "stats", "sync", "value", "wire"]),
    ("control", &["config", "error", "stats"]),
    ("compat", &["client", "config", "control", "export", "stats"]),
    ("processing", &["capture", "error", "plugin", "sync", "value"]),
    ("propagation", &["capture", "config", "env", "plugin"]),
    (
        "client",
        &[
            "capture",
            "config",
            "control",
            "env",
            "error",
            "exit",
            "export",
            "fork",
            "plugin",
            "processing",
            "propagation",
            "stats",
            "sync",
            "value",
        ],
    ),
    ("testing", &["capture", "config", "export", "http2", "sync", "value"]),
    ("bench", &["capture", "config", "control", "error", "export"]),
];

/// Where `unsafe` may stand, and why there.
const UNSAFE: &[(&str, &str)] = &[
    ("src/capture/ring.rs", "the producer's pointer to its tail chunk, which the chain keeps alive"),
    ("src/capture/memory/chunk.rs", "record memory that one thread writes while another reads what is published"),
    ("src/capture/clock.rs", "reading the time stamp counter"),
    ("src/wire/storage.rs", "memory of the allocator or of the system, read and written in one way"),
    ("src/fork.rs", "registering a handler with the C library"),
    ("src/exit.rs", "registering a handler with the C library"),
    ("src/exit/signals.rs", "saying what a signal does"),
    ("src/error/door/descriptor.rs", "asking whether a descriptor closes on exec, and sending without waiting"),
    ("src/sync/raised.rs", "asking which signals are pending, and taking back what a write raised"),
    ("src/export/net/interface.rs", "asking the C library for the number of a network interface"),
    ("src/sync/bare.rs", "starting a thread by the C library"),
    ("src/sync/image.rs", "asking the loader which file this code is in, and to keep it"),
    (
        "src/export/encode/compress/deflate/same.rs",
        "comparing blocks with instructions that are part of the architecture",
    ),
];

/// Words that stand in one place only.
const FENCES: &[(&str, &[&str])] = &[
    (
        "ureq",
        &[
            "src/export/net/buffers.rs",
            "src/export/net/pool.rs",
            "src/export/net/pool/tests.rs",
            "src/export/net/deadline.rs",
            "src/export/net/detour.rs",
            "src/export/net/early.rs",
            "src/export/net/exchange.rs",
            "src/export/net/fault.rs",
            "src/export/net/line.rs",
            "src/export/net/telling.rs",
            "src/export/net/no_tls.rs",
            "src/export/net/proxy.rs",
            "src/export/net/resolver.rs",
            "src/export/net/dial.rs",
            "src/export/net/socket.rs",
            "src/export/net/socks.rs",
            "src/export/net/tls.rs",
            "src/export/net/tls/failure.rs",
            "src/export/net/trial.rs",
        ],
    ),
    (
        "rustls",
        &[
            "src/config/tls/content.rs",
            "src/config/tls/der.rs",
            "src/config/tls/files.rs",
            "src/export/net/tls.rs",
            "src/export/net/tls/failure.rs",
            "src/export/net/tls/trust.rs",
        ],
    ),
    // Whoever else makes requests would say so in the log of the host, with all that stands in them.
    ("ureq::post", &[]),
    ("Agent::with_parts", &[]),
    ("log::", &[]),
    ("std::env", &["src/env.rs"]),
    (
        "fs::",
        &[
            "src/export/spool.rs",
            "src/export/spool/claim.rs",
            "src/export/spool/steps.rs",
            "src/capture/clock.rs",
            "src/capture/memory/process_limits.rs",
            "src/config/tls/files.rs",
            "src/resource/facts.rs",
            "src/sync/threads.rs",
        ],
    ),
    ("fs4", &["src/export/spool/claim.rs"]),
    // The C library has these in a file of its own, which would be loaded into every process.
    (".exp()", &[]),
    (".exp2()", &[]),
    (".ln()", &[]),
    (".powf(", &[]),
    (
        "thread::Builder",
        &[
            "src/sync/threads.rs",
            // They are no part of a client.
            "src/testing/receiver.rs",
            "src/testing/shared.rs",
        ],
    ),
];

/// What the library never does.
const NEVER: &[&str] =
    &["println!", "print!", "eprintln!", "eprint!", "dbg!", "process::exit", "thread::sleep", "todo!"];

fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    found.sort();
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// The code of a source: comments, and what only tests compile, left out.
fn code(source: &str) -> String {
    let until_tests = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let until_tests = until_tests.split("#[cfg(all(test, not(loom)))]\nmod tests {").next().unwrap();
    until_tests.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn stage_of(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

/// The first names of all paths that begin with `crate::`, groups in braces included.
fn imported_stages(code: &str) -> BTreeSet<String> {
    let mut stages = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let path = &code[at + "crate::".len()..];
        if !path.starts_with('{') {
            stages.insert(path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned());
            continue;
        }
        let mut depth = 0;
        let mut name = String::new();
        for c in path.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && (c.is_alphanumeric() || c == '_') {
                name.push(c);
                continue;
            }
            if depth == 1 && c == ':' || depth <= 1 && matches!(c, ',' | '}') {
                if !name.is_empty() && !name.starts_with(':') {
                    stages.insert(name.clone());
                }
                // Until the next comma at this depth, names belong to the stage that was just seen.
                name = if c == ':' { ":".to_owned() } else { String::new() };
            }
            if depth == 0 {
                break;
            }
        }
    }
    stages
}

#[test]
fn imports_point_upstream_or_to_a_leaf() {
    let stages: BTreeSet<&str> = MAY_IMPORT.iter().map(|(stage, _)| *stage).collect();
    for (path, source) in sources() {
        let stage = stage_of(&path);
        if stage == "lib" || is_test(&path) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == stage) else {
            panic!("{path}: the stage `{stage}` is not on the map in tests/layering.rs");
        };
        for imported in imported_stages(&code(&source)) {
            // Names re-exported at the root are the public interface, which only `testing` stands outside of.
            let known = stages.contains(imported.as_str());
            assert!(known || stage == "testing", "{path} imports `crate::{imported}`, which is no stage");
            let upstream = !known || imported == stage || allowed.contains(&imported.as_str());
            assert!(upstream, "{path}: `{stage}` may not import `{imported}`");
        }
    }
}

#[test]
fn the_import_reader_sees_single_paths_groups_and_nested_groups() {
    let seen =
        imported_stages("use crate::wire::Buffer; use crate::{value::{A, B}, sync::Arc, error}; crate::stats::x()");
    let expected = ["error", "stats", "sync", "value", "wire"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn unsafe_stands_in_the_files_of_the_allow_list_and_nowhere_else() {
    let found: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(path, source)| {
            let words = code(source).replace("unsafe_op_in_unsafe_fn", "");
            !is_test(path) && words.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
        })
        .map(|(path, _)| path)
        .collect();
    let allowed: BTreeSet<String> = UNSAFE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, allowed, "files with unsafe, and files that may have it");
    assert!(UNSAFE.iter().all(|(_, reason)| !reason.is_empty()));
}

#[test]
fn what_is_fenced_stays_inside_its_fence() {
    for (path, source) in sources() {
        let code = code(&source);
        for (word, places) in FENCES {
            let inside = places.contains(&path.as_str()) || is_test(&path);
            assert!(inside || !code.contains(word), "{path} uses `{word}`, which belongs in {places:?}");
        }
        for word in NEVER {
            let used = code.match_indices(word).any(|(at, _)| {
                // `eprintln!` contains `println!`, and so on.
                !code[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_')
            });
            assert!(is_test(&path) || !used, "{path} uses `{word}`");
        }
    }
}

#[test]
fn files_stay_small_enough_to_hold_one_idea() {
    for (path, source) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let lines = code(&source).lines().count();
        assert!(lines <= 500, "{path} has {lines} lines of code: does it hold one idea?");
    }
}
