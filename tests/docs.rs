//! What the README and the documents say is what the code does. Their snippets are compiled as documentation tests.

#[path = "support/named_tests.rs"]
mod named_tests;

use named_tests::{assert_exists, code, read};

/// The rows of the tables in a text, without their heads, each as its cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect());
    cells.filter(|cells: &Vec<String>| !cells[0].starts_with("---")).collect()
}

#[test]
fn the_table_of_the_environment_is_that_of_the_code() {
    let text = read("docs/environment.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = otlp::VARIABLES
        .iter()
        .map(|variable| {
            let otlp::Variable { name, default, unit, meaning, .. } = *variable;
            format!("| `{name}` | {default} | {unit} | {meaning} |")
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_table_of_features_is_that_of_the_package() {
    let package = read("Cargo.toml");
    let features = package.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    let default = features.lines().find(|line| line.starts_with("default = ")).unwrap();
    let mut declared: Vec<_> = features
        .lines()
        .filter_map(|line| line.split_once(" = ["))
        .map(|(name, _)| name.to_owned())
        // The set of the others, and what is no part of the interface.
        .filter(|name| !["default", "bench"].contains(&name.as_str()))
        .map(|name| (if default.contains(&format!("\"{name}\"")) { "on" } else { "off" }.to_owned(), name))
        .collect();
    let documented = rows(&read("docs/features.md"));
    let mut documented: Vec<_> =
        documented.iter().skip(1).map(|cells| (cells[1].clone(), code(&cells[0]).remove(0))).collect();
    declared.sort();
    documented.sort();
    assert_eq!(documented, declared);
}

#[test]
fn what_the_readme_says_of_costs_stands_in_the_table_of_the_comparison() {
    let measured = read("benches/peers/README.md");
    let measured = rows(measured.split("## Measured").nth(1).unwrap());
    let row = |name: &str| measured.iter().find(|cells| cells[0].starts_with(name)).expect(name);
    // The median: the minimum stands behind it in brackets.
    let value = |name: &str, contender: usize| row(name)[contender].split(' ').next().unwrap().to_owned();
    let readme = rows(&read("README.md"));
    let said: Vec<_> = readme.iter().skip(1).take(5).collect();
    (1..=3).for_each(|contender| {
        let number = |at: usize| said[at][contender].replace("**", "").replace(',', "");
        assert_eq!(number(0), value("ns to record a span, five attributes", contender) + " ns");
        let allocations = &row("allocations + reallocations, five attributes")[contender];
        let sum: f64 = allocations.split(" + ").map(|part| part.parse::<f64>().unwrap()).sum();
        assert_eq!(number(1), format!("{sum}"));
        assert_eq!(number(2), value("CPU ns per delivered span, burst, 1 thread", contender) + " ns");
        assert_eq!(number(3).replace("100 %", "100.0 %"), row("delivered of a burst, 1 thread")[contender]);
        assert_eq!(number(4), value("a short program, receiver refuses, s", contender) + " s");
    });
}

#[test]
fn every_situation_that_is_survived_names_tests_that_exist() {
    let table = rows(&read("docs/harmless.md"));
    let situations: Vec<_> = table.iter().filter(|cells| cells[0] != "situation").collect();
    assert!(situations.len() >= 33, "{}", situations.len());
    for cells in situations {
        let [situation, _, tests] = &cells[..] else { panic!("{cells:?}") };
        let tests = code(tests);
        assert!(!tests.is_empty(), "{situation} has no test");
        tests.iter().for_each(|test| assert_exists(test, situation));
    }
}

#[test]
fn the_recipe_for_debug_builds_is_for_this_package() {
    let recipe = read("docs/recipes.md");
    let section = recipe.split("## Debug builds").nth(1).unwrap().split("\n## ").next().unwrap();
    let name = read("Cargo.toml").lines().find_map(|line| Some(line.strip_prefix("name = \"")?.to_owned())).unwrap();
    let name = name.trim_end_matches('"');
    assert!(section.contains(&format!("[profile.dev.package.{name}]\nopt-level = 3")), "{section}");
    // What was measured, with and without.
    assert_eq!(rows(section).len(), 1 + 4, "{section}");
}

/// Paths in the README and the documents, which people follow.
#[test]
fn every_link_into_the_repository_leads_somewhere() {
    for (document, folder) in [
        ("README.md", ""),
        ("docs/environment.md", "docs/"),
        ("docs/first_hour.md", "docs/"),
        ("docs/harmless.md", "docs/"),
        ("docs/limits.md", "docs/"),
        ("docs/recipes.md", "docs/"),
        ("docs/spool.md", "docs/"),
        ("docs/tuning.md", "docs/"),
    ] {
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.contains("://") && !link.is_empty() {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(link);
                assert!(path.exists(), "{document}: {link}");
            }
        }
    }
}
