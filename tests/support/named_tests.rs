//! Tests that documents name as `file::test`.

use std::{fs, path::Path};

pub(crate) fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands in a cell between backticks.
pub(crate) fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails unless `test` is the path of a file, `::` and the name of a test in it.
pub(crate) fn assert_exists(test: &str, of: &str) {
    let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{of}: {test} names no file"));
    let source = read(file);
    let at = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{of}: {test} does not exist"));
    let before = source[..at].lines().rev().take(6).collect::<Vec<_>>().join("\n");
    assert!(before.contains("#[test]"), "{of}: {test} is no test");
}
