//! The walls of the house: who may use whom.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The staircase. A room may use those on lower steps, none on its own or above.
const STEPS: [(&str, u8); 6] = [
    ("ledgermq-core", 1),
    ("ledgermq-log", 3),
    ("ledgermq-projections", 4),
    ("ledgermq-gateway", 5),
    ("ledgermq-api", 5),
    ("ledgermq", 6),
];

/// Crates that would give the pure room a runtime, a socket, a clock, a thread or a dice.
const IMPURE: [&str; 18] = [
    "tokio",
    "mio",
    "socket2",
    "async-std",
    "smol",
    "futures",
    "rayon",
    "crossbeam",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "uuid",
    "chrono",
    "time",
    "quanta",
    "rustix",
    "libc",
];

/// What cargo prints, asked without network.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn rooms_use_only_rooms_on_lower_steps() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let step = |name: &str| STEPS.iter().find(|(room, _)| *room == name).map(|(_, step)| *step);
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let own = step(name).unwrap_or_else(|| panic!("{name} has no step: add it to STEPS"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            // A room may name itself: that is how its own tests ask for a feature.
            if let Some(below) = step(used).filter(|_| used != name) {
                assert!(below < own, "{name} (step {own}) must not use {used} (step {below})");
            }
        }
    }
    assert_eq!(packages.len(), STEPS.len(), "every room of STEPS exists");
}

#[test]
fn core_is_pure() {
    // Procedural macros and build scripts run in the compiler; tests may use anything.
    let tree =
        cargo(&["tree", "-p", "ledgermq-core", "-e", "normal,no-proc-macro", "--prefix=none"]);
    let used: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(used.contains("ledgermq-core"), "{tree}");
    for impure in IMPURE {
        assert!(!used.contains(impure), "core must not use {impure}, not even indirectly");
    }
}

/// The words between backticks of a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn paths_in_the_readme_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let is_path = |word: &&str| word.ends_with(".rs") || word.ends_with(".toml");
    for path in quoted(&readme).filter(is_path) {
        assert!(root.join(path).exists(), "{path}");
    }
}
