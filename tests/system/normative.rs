//! The list of normative statements, `tests/normative/`, is complete and true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The last statement of each section of MQTT 5.0. A section's statements count from 1 without
/// gaps, but for 2.2.1, which begins with 2.
const MQTT5: &str = "1.5.4-3 1.5.5-1 1.5.7-1 2.1.3-1 2.2.1-6 2.2.2-1 3.1.0-2 3.1.2-30 3.1.3-12 \
    3.1.4-6 3.2.0-2 3.2.2-22 3.3.1-13 3.3.2-20 3.3.4-10 3.4.2-3 3.5.2-3 3.6.1-1 3.6.2-3 3.7.2-3 \
    3.8.1-1 3.8.3-5 3.8.4-8 3.9.2-2 3.9.3-2 3.10.1-1 3.10.3-2 3.10.4-6 3.11.2-2 3.11.3-2 3.12.4-1 \
    3.14.0-1 3.14.1-1 3.14.2-4 3.14.4-3 3.15.1-1 3.15.2-3 4.1.0-2 4.2-1 4.3.1-1 4.3.2-5 4.3.3-13 \
    4.4.0-2 4.5.0-2 4.6.0-6 4.7.0-1 4.7.1-2 4.7.2-1 4.7.3-4 4.8.2-6 4.9.0-3 4.12.0-7 4.12.1-2 \
    4.13.1-1 4.13.2-1 6.0.0-4";

/// The same of MQTT 3.1.1.
const MQTT311: &str = "1.5.3-3 2.2.2-2 2.3.1-7 3.1.0-2 3.1.2-24 3.1.3-11 3.1.4-5 3.2.0-1 3.2.2-6 \
    3.3.1-12 3.3.2-3 3.3.4-1 3.3.5-2 3.6.1-1 3.8.1-1 3.8.3-4 3.8.4-6 3.9.3-2 3.10.1-1 3.10.3-2 \
    3.10.4-6 3.12.4-1 3.14.1-1 3.14.4-3 4.1.0-2 4.3.1-1 4.3.2-2 4.3.3-2 4.4.0-1 4.5.0-2 4.6.0-6 \
    4.7.1-3 4.7.2-1 4.7.3-4 4.8.0-2 6.0.0-4 7.0.0-2 7.1.1-1 7.1.2-1";

/// One statement with what stands below it.
struct Statement {
    /// As tests bear it, in brackets.
    token: String,
    /// Lines that name a test, or begin with `-`.
    proofs: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn statements(file: &str, prefix: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    for line in read(format!("tests/normative/{file}")).lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(proof) = line.strip_prefix("    ") {
            let statement = statements.last_mut().expect("a statement comes first");
            statement.proofs.push(proof.to_owned());
            continue;
        }
        let [number, whom, _words] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{file}: {line}: a number, whom it concerns, what it is about");
        };
        assert!(matches!(whom, "server" | "client" | "both"), "{file}: {line}");
        let token = format!("[{prefix}{number}]");
        statements.push(Statement { token, proofs: Vec::new() });
    }
    statements
}

/// The text of a test with its doc comment, whatever block it stands in.
fn test_text(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let head = format!("fn {name}(");
    let at = lines.iter().position(|line| line.trim_start().starts_with(&head))?;
    let indent = lines[at].len() - lines[at].trim_start().len();
    let is_before = |line: &&&str| ["#[", "//"].iter().any(|word| line.trim().starts_with(word));
    let before = lines[..at].iter().rev().take_while(is_before).count();
    let end = format!("{}}}", " ".repeat(indent));
    let length = lines[at..].iter().position(|line| *line == end)?;
    let text = lines[at - before..=at + length].join("\n");
    text.contains("#[test]").then_some(text)
}

/// What the proof says that bears the number: the test, or the comments of a transcript.
fn bearer(proof: &str) -> Option<String> {
    match proof.split_once(' ') {
        Some((path, name)) => test_text(&read(path), name),
        None if proof.starts_with("core/tests/golden/connection/") => {
            let text = read(proof);
            let comments: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
            Some(comments.join("\n"))
        }
        None => None,
    }
}

#[test]
fn no_statement_is_missing_from_the_list() {
    for (file, prefix, last) in
        [("mqtt5.txt", "MQTT-", MQTT5), ("mqtt311.txt", "MQTT311-", MQTT311)]
    {
        let listed: Vec<_> = statements(file, prefix).into_iter().map(|it| it.token).collect();
        let mut expected = Vec::new();
        for (section, last) in last.split(' ').filter_map(|number| number.split_once('-')) {
            let first = if (prefix, section) == ("MQTT-", "2.2.1") { 2 } else { 1 };
            let numbers = first..=last.parse::<u32>().unwrap();
            expected.extend(numbers.map(|number| format!("[{prefix}{section}-{number}]")));
        }
        assert_eq!(listed, expected, "{file}");
    }
}

#[test]
fn each_statement_has_tests_that_bear_its_number_or_a_reason_why_not() {
    for (file, prefix) in [("mqtt5.txt", "MQTT-"), ("mqtt311.txt", "MQTT311-")] {
        for Statement { token, proofs } in statements(file, prefix) {
            assert!(!proofs.is_empty(), "{file}: {token} has neither tests nor a reason");
            for proof in proofs {
                if let Some(reason) = proof.strip_prefix("- ") {
                    assert!(!reason.is_empty(), "{file}: {token}");
                    continue;
                }
                let text = bearer(&proof)
                    .unwrap_or_else(|| panic!("{file}: {token}: there is no test {proof}"));
                assert!(text.contains(&token), "{file}: {proof} does not bear {token}");
            }
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "txt") {
            found.push(path);
        }
    }
}

#[test]
fn every_number_in_the_tree_is_one_of_the_list() {
    let known: BTreeSet<_> = statements("mqtt5.txt", "MQTT-")
        .into_iter()
        .chain(statements("mqtt311.txt", "MQTT311-"))
        .map(|statement| statement.token)
        .collect();
    let mut files = Vec::new();
    for folder in fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        for inner in ["src", "tests"].map(|inner| folder.join(inner)) {
            if inner.is_dir() {
                sources(&inner, &mut files);
            }
        }
    }
    ["src", "tests"].iter().for_each(|inner| sources(&root().join(inner), &mut files));
    let mut unknown = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("[MQTT") {
            let Some(end) = text[at..].find(']') else { continue };
            let token = &text[at..=at + end];
            // Not the ones that are put together, or spoken of (`x.y.z`).
            let numbers = token.split_once('-').map_or("", |(_, numbers)| numbers);
            let is_number = numbers.starts_with(|c: char| c.is_ascii_digit());
            if is_number && !known.contains(token) {
                unknown.insert(token.to_owned(), file.clone());
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}
