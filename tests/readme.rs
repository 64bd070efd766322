//! The README's table of variables is the code's; its snippets are compiled as documentation tests.

use std::fs;

#[test]
fn the_environment_table_of_the_readme_is_that_of_the_code() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## Environment").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = otlp::VARIABLES
        .iter()
        .map(|variable| {
            let otlp::Variable { name, default, unit, meaning, .. } = *variable;
            format!("| `{name}` | {default} | {unit} | {meaning} |")
        })
        .collect();
    assert_eq!(rows, expected);
}
