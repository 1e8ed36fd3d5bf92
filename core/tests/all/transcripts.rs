//! Transcripts of the connection machine: commands, `----`, what came out.
//!
//! The files are `core/tests/golden/connection/*.txt`. A paragraph is commands up to `----` and
//! then the expected lines; `#` begins a comment. `REWRITE=1 cargo test -p ledgermq-core` writes
//! what came out into the files instead of comparing: read the difference before you keep it.

mod commands;
mod machine;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use machine::Machine;

/// Runs every paragraph of a file against one machine (until `new`) and compares.
fn check(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let actual = replay(&text);
    if std::env::var_os("REWRITE").is_some() {
        fs::write(path, actual).unwrap();
        return;
    }
    let differs = actual.lines().zip(text.lines()).position(|(actual, text)| actual != text);
    if let Some(line) = differs {
        let (now, was) = (actual.lines().nth(line), text.lines().nth(line));
        panic!("{}:{}\n  expected: {was:?}\n  came out: {now:?}", path.display(), line + 1);
    }
    assert_eq!(actual, text, "{}", path.display());
}

/// The text of the file with what came out in the place of what was expected.
fn replay(text: &str) -> String {
    let mut machine = Machine::default();
    let mut written = String::new();
    let mut outputs: Vec<String> = Vec::new();
    let mut is_expected = false;
    for line in text.lines() {
        if line.is_empty() {
            is_expected = false;
        } else if line == "----" {
            is_expected = true;
            written.push_str("----\n");
            for output in outputs.drain(..) {
                written.push_str(&output);
                written.push('\n');
            }
            continue;
        } else if is_expected {
            continue;
        } else if !line.starts_with('#') {
            machine.command(line);
            outputs.append(&mut machine.outputs());
        }
        written.push_str(line);
        written.push('\n');
    }
    assert!(outputs.is_empty(), "the last paragraph lacks its ----");
    written
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(&golden(stringify!($name)));
        })*

        #[test]
        fn every_transcript_is_run() {
            let mut files: Vec<_> = fs::read_dir(golden("x").parent().unwrap())
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
                .collect();
            files.sort_unstable();
            let mut names = vec![$(stringify!($name)),*];
            names.sort_unstable();
            assert_eq!(files, names);
        }
    };
}

// One line a file: a failing one is named by its test.
transcripts! {
    acknowledging
    aliases
    authenticating
    authorizing
    closing
    connecting
    delivering
    opening
    publishing
    refusing
    resuming
    sharing
    starting
    subscribing
    keeping_alive
    limits
    window
}

fn golden(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/connection");
    Path::new(folder).join(name).with_extension("txt")
}
