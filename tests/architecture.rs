//! ARCHITECTURE.md tells of every room of the tree, and of none that is not there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Everything in backticks that looks like a path.
fn named(document: &str) -> BTreeSet<String> {
    let quoted = document.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains('/') && !text.contains(' ')).map(str::to_owned).collect()
}

/// The folders of `src` that hold more than tests, and the files that stand in `src` itself.
fn rooms(directory: &Path, rooms: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        if path.is_dir() {
            let files = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
            let is_tested_only = files.into_iter().all(|file| file == "tests.rs" || file == "tests");
            if !name.ends_with("/tests") && !is_tested_only {
                rooms_in(&path, &name, rooms);
            }
        } else if directory == root().join("src") {
            rooms.insert(name);
        }
    }
}

fn rooms_in(path: &Path, name: &str, found: &mut BTreeSet<String>) {
    found.insert(format!("{name}/"));
    rooms(path, found);
}

#[test]
fn the_map_names_every_room_and_every_name_is_a_room() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map = document.split("## The map").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut there = BTreeSet::new();
    rooms(&root().join("src"), &mut there);
    assert_eq!(named(map), there);
}

#[test]
fn every_file_that_the_document_names_exists() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for path in named(&document) {
        let is_there = [path.clone(), format!("src/{path}")].iter().any(|path| root().join(path).exists());
        assert!(is_there, "ARCHITECTURE.md names {path}");
    }
}
