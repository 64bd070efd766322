//! The table in `conformance.md` and the tests say the same: each row that is met is cited by the tests that the table
//! lists, and each row that is not has a reason.

#[path = "support/citations.rs"]
mod citations;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TABLE: &str = "tests/conformance.md";

/// The words for a state. What the first three say is shown by tests.
const STATES: [&str; 5] = ["met", "partly", "deviates", "open", "not offered"];
const SHOWN: [&str; 3] = ["met", "partly", "deviates"];

/// Shorter than any reason.
const SHORTEST_REASON: usize = 20;

/// Rows, each with the tests that cite it.
type Cited = BTreeMap<String, BTreeSet<String>>;

/// A row of the table.
struct Row<'t> {
    id: &'t str,
    state: &'t str,
    how: &'t str,
    tests: Vec<&'t str>,
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
    inner.map_or(Vec::new(), |inner| inner.split(" | ").map(str::trim).collect())
}

/// The row that a line holds, if it holds one: what is wrong with its form, otherwise.
fn row(line: &str) -> Option<Result<Row<'_>, String>> {
    let cells = cells(line);
    let id = cells.first().copied().filter(|id| citations::row(id).is_some())?;
    let [_, _, state, how, tests] = cells[..] else {
        return Some(Err(format!("{id} has {} cells, not 5", cells.len())));
    };
    let tests = tests.split("<br>").filter(|test| !test.is_empty()).collect();
    Some(Ok(Row { id, state, how, tests }))
}

/// All that is wrong with the table, each as a line.
fn problems(table: &str, cited: &Cited) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for row in table.lines().filter_map(row) {
        match row {
            Ok(row) => rows.push(row),
            Err(form) => wrong.push(form),
        }
    }
    wrong.extend(out_of_order(&rows));
    let none = BTreeSet::new();
    for Row { id, state, how, tests } in &rows {
        let citing = cited.get(*id).unwrap_or(&none);
        if !STATES.contains(state) {
            wrong.push(format!("{id} is {state:?}, which is none of {STATES:?}"));
        }
        if SHOWN.contains(state) && citing.is_empty() {
            wrong.push(format!("{id} is {state}, and no test cites it"));
        }
        if how.is_empty() || *state != "met" && (how.len() < SHORTEST_REASON || !how.ends_with('.')) {
            wrong.push(format!("{id} is {state} without a sentence that says how or why: {how:?}"));
        }
        let listed: BTreeSet<_> = tests.iter().map(|test| (*test).to_owned()).collect();
        if listed.len() < tests.len() {
            wrong.push(format!("{id} lists a test twice"));
        }
        let gone = listed.difference(citing);
        wrong.extend(gone.map(|test| format!("{id} lists {test}, which does not exist or does not cite it")));
        let new = citing.difference(&listed);
        wrong.extend(new.map(|test| format!("{id} is cited by {test}, which it does not list")));
    }
    let families: BTreeSet<_> =
        rows.iter().filter_map(|row| citations::row(row.id)).map(|(family, _)| family).collect();
    for (id, tests) in cited {
        let is_known = citations::row(id).is_some_and(|(family, _)| families.contains(family));
        if is_known && !rows.iter().any(|row| row.id == id) {
            wrong.push(format!("{id}, which {tests:?} cite, is not in the table"));
        }
    }
    for state in STATES {
        let is = rows.iter().filter(|row| row.state == state).count().to_string();
        let said: Vec<_> = table.lines().map(cells).filter(|cells| cells.len() == 2 && cells[0] == state).collect();
        if !matches!(&said[..], [said] if said[1] == is) {
            wrong.push(format!("{is} rows are {state}, and the counts say {said:?}"));
        }
    }
    wrong
}

/// Rows of one family stand together, counted from 1 without a gap.
fn out_of_order(rows: &[Row<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut before = ("", 0);
    for Row { id, .. } in rows {
        let (family, number) = citations::row(id).expect("the name of a row");
        let due = if family == before.0 { before.1 + 1 } else { 1 };
        if !seen.insert(*id) {
            wrong.push(format!("{id} appears twice"));
        } else if number != due || family != before.0 && seen.iter().filter(|id| is_of(id, family)).count() > 1 {
            wrong.push(format!("{id} stands where {family}-{due:02} is due, or away from its family"));
        }
        before = (family, number);
    }
    wrong
}

fn is_of(id: &str, family: &str) -> bool {
    citations::row(id).is_some_and(|(of, _)| of == family)
}

/// The table with the tests that cite each row; nothing else of it changes.
fn renewed(table: &str, cited: &Cited) -> String {
    let renew = |line: &str| match row(line) {
        Some(Ok(row)) => {
            let tests: Vec<_> = cited.get(row.id).into_iter().flatten().map(String::as_str).collect();
            let (others, _) = line.trim_end_matches(" |").rsplit_once(" | ").expect("five cells");
            format!("{others} | {} |\n", tests.join("<br>"))
        }
        _ => format!("{line}\n"),
    };
    table.lines().map(renew).collect()
}

/// How the table calls the tests of a file: `tests/faults` or, of the library's own, `export/retry`.
fn label(path: &str) -> String {
    let path = path.trim_end_matches(".rs");
    match path.strip_prefix("src/") {
        Some(path) => path.split('/').filter(|part| *part != "tests").collect::<Vec<_>>().join("/"),
        None => path.to_owned(),
    }
}

/// What all sources cite.
fn cited() -> Cited {
    fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, visit);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                visit(&path);
            }
        }
    }
    let mut cited = Cited::new();
    for directory in ["src", "tests"] {
        walk(&Path::new(ROOT).join(directory), &mut |path| {
            let relative = path.strip_prefix(ROOT).unwrap().to_string_lossy().replace('\\', "/");
            for test in citations::tests(&fs::read_to_string(path).unwrap()) {
                for row in test.rows {
                    cited.entry(row).or_default().insert(format!("{}::{}", label(&relative), test.name));
                }
            }
        });
    }
    cited
}

#[test]
fn the_table_and_the_tests_say_the_same() {
    let path = Path::new(ROOT).join(TABLE);
    let (mut table, cited) = (fs::read_to_string(&path).unwrap(), cited());
    assert!(cited.len() > 100, "the sources were read: {cited:?}");
    if env::var("OTLP_RENEW").is_ok_and(|renew| renew == "1") {
        table = renewed(&table, &cited);
        fs::write(&path, &table).unwrap();
    }
    let wrong = problems(&table, &cited);
    let advice = "OTLP_RENEW=1 cargo test --test conformance lists the tests as they are";
    assert!(wrong.is_empty(), "{TABLE}:\n{}\n{advice}", wrong.join("\n"));
}

#[test]
fn the_changelog_names_the_specification_that_the_table_restates() {
    // PKG-02
    let changelog = fs::read_to_string(Path::new(ROOT).join("CHANGELOG.md")).unwrap();
    let table = fs::read_to_string(Path::new(ROOT).join(TABLE)).unwrap();
    let stated = |text: &str| {
        let (_, version) = text.split_once("OpenTelemetry specification as of v").expect("a version");
        version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>()
    };
    assert_eq!(stated(&changelog).trim_end_matches('.'), stated(&table).trim_end_matches('.'));
}

/// A table without a fault, and what it goes with.
fn example() -> (String, Cited) {
    let table = "\
# Example

| row | requirement, in brief | state | how, or why not | tests |
|---|---|---|---|---|
| AB-01 | one | met | Through `one`. | tests/a::x<br>tests/b::y |
| AB-02 | two | not offered | Nobody has asked for it yet. |  |
| CD-01 | three | deviates | It does something else instead. | tests/a::x |

| state | rows |
|---|---|
| met | 1 |
| partly | 0 |
| deviates | 1 |
| open | 0 |
| not offered | 1 |
";
    let tests = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let cited = [("AB-01", tests(&["tests/a::x", "tests/b::y"])), ("CD-01", tests(&["tests/a::x"]))];
    (table.to_owned(), cited.into_iter().map(|(row, tests)| (row.to_owned(), tests)).collect())
}

#[test]
fn each_disagreement_is_named_with_its_row_and_its_test() {
    let (table, cited) = example();
    assert_eq!(problems(&table, &cited), Vec::<String>::new());
    let last = "| CD-01 | three | deviates | It does something else instead. | tests/a::x |\n";
    for (from, to, expected) in [
        ("<br>tests/b::y", "", "AB-01 is cited by tests/b::y, which it does not list"),
        ("<br>tests/b::y", "<br>tests/b::y<br>c::z", "AB-01 lists c::z, which does not exist or does not cite it"),
        ("<br>tests/b::y", "<br>tests/b::y<br>tests/a::x", "AB-01 lists a test twice"),
        ("not offered | Nobody", "met | Nobody", "AB-02 is met, and no test cites it"),
        ("Nobody has asked for it yet.", "No.", "AB-02 is not offered without a sentence"),
        ("Through `one`.", "", "AB-01 is met without a sentence"),
        ("| met | Through", "| fine | Through", "AB-01 is \"fine\", which is none of"),
        ("| two |", "| two | and more |", "AB-02 has 6 cells, not 5"),
        ("AB-02", "AB-03", "AB-03 stands where AB-02 is due"),
        ("AB-02", "AB-01", "AB-01 appears twice"),
        (last, "", "1 rows are deviates, and the counts say"),
        ("| open | 0 |", "| open | 2 |", "0 rows are open, and the counts say"),
        ("| open | 0 |\n", "", "0 rows are open, and the counts say"),
    ] {
        assert!(table.contains(from), "{from}");
        let (from, to) =
            if expected.starts_with("1 rows") { ("| deviates | 1 |", "| deviates | 0 |") } else { (from, to) };
        let wrong = problems(&table.replacen(from, to, 1), &cited);
        assert!(wrong.iter().any(|line| line.starts_with(expected)), "{expected}: {wrong:?}");
    }
    let mut more = cited.clone();
    more.insert("AB-07".to_owned(), BTreeSet::from(["tests/a::x".to_owned()]));
    // Not of a family of rows: a checksum.
    more.insert("CRC-32".to_owned(), BTreeSet::from(["tests/a::x".to_owned()]));
    assert_eq!(problems(&table, &more), [r#"AB-07, which {"tests/a::x"} cite, is not in the table"#]);
    let twice = table.replace(last, &format!("{last}| AB-03 | four | open | It has not come yet. |  |\n"));
    let wrong = problems(&twice.replace("| open | 0 |", "| open | 1 |"), &cited);
    assert!(matches!(&wrong[..], [one] if one.starts_with("AB-03 stands where AB-01 is due")), "{wrong:?}");
}

#[test]
fn renewing_writes_the_tests_that_cite_each_row_and_nothing_else() {
    let (table, cited) = example();
    let stale =
        table.replace("tests/a::x<br>tests/b::y", "tests/gone::z").replace("instead. | tests/a::x", "instead. | ");
    assert_ne!(stale, table);
    assert_eq!(renewed(&stale, &cited), table);
    assert_eq!(renewed(&table, &cited), table);
}

#[test]
fn a_test_is_called_by_its_file_and_its_name() {
    assert_eq!(label("tests/faults.rs"), "tests/faults");
    assert_eq!(label("src/capture/record/tests/limit.rs"), "capture/record/limit");
    assert_eq!(label("src/propagation/tests.rs"), "propagation");
    assert_eq!(label("src/env.rs"), "env");
}

#[test]
fn citations_are_found_in_the_comments_of_tests_and_nowhere_else() {
    let source = r##"
        //! AB-01: the file.
        fn no_test<'a>(of: &'a str) -> char {
            // AB-02
            '\''
        }
        /// AB-03: above it,
        // AB-04, and AB-05 to AB-07, but no AB-8, XAB-09x, test_AB-10 or AB-111.
        #[cfg(unix)]
        #[test]
        #[ignore = "AB-11"]
        fn first() {
            let texts = ["// AB-12", r#"AB-13 " { "#, "\"{", "a{"];
            let characters = ['{', '"', '\'', 'é', '\u{7b}', b'{' as char]; // AB-14
            /* AB-15 */
            if texts.is_empty() { } // AB-14
        }
        // AB-16
        const BETWEEN: u8 = 1;
        proptest! {
            #![proptest_config(Config::default())]
            // AB-17
            #[test]
            fn second(value in prop_oneof![Just("{ AB-18")], other in { any::<u8>() }) {
                // AB-19
            }

            /// CD-01: sixty-four (CD-02)
            #[test]
            fn third(r#type: u8) { let br = r#type; /* CD-03 */ }
        }
        // AB-20
    "##;
    let found: Vec<_> = citations::tests(source).into_iter().map(|test| (test.name, test.rows)).collect();
    let rows = |rows: &str| rows.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let expected = [
        ("first".to_owned(), rows("AB-03 AB-04 AB-05 AB-06 AB-07 AB-14 AB-15")),
        ("second".to_owned(), rows("AB-17 AB-19")),
        ("third".to_owned(), rows("CD-01 CD-02 CD-03")),
    ];
    assert_eq!(found, expected);
}
