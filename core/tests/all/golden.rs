//! Bytes that must never change their meaning.
//!
//! `tests/golden/*.txt` holds lines `NAME = HEX`. What they say must still be decoded, and what is
//! encoded today must be the same bytes. With `UPDATE_GOLDEN=1` lines of new names are appended;
//! a line that is there is never changed.

mod events;
mod packets;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// A golden file.
struct Golden {
    path: PathBuf,
    text: String,
}

impl Golden {
    fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { path, text }
    }

    fn lines(&self) -> BTreeMap<&str, Vec<u8>> {
        let lines = self.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines
            .map(|line| {
                let (name, hex) = line.split_once(" = ").expect("NAME = HEX");
                (name, unhex(hex))
            })
            .collect()
    }

    /// Compares the file with what is encoded today.
    #[track_caller]
    fn check(mut self, today: &[(String, Vec<u8>)]) {
        let mut missing = String::new();
        let lines = self.lines();
        for (name, bytes) in today {
            match lines.get(name.as_str()) {
                Some(known) => assert_eq!(known, bytes, "the bytes of {name} changed"),
                None => writeln!(missing, "{name} = {}", hex(bytes)).unwrap(),
            }
        }
        for name in lines.keys() {
            let is_known = today.iter().any(|(known, _)| known == name);
            assert!(is_known, "{name} is encoded no longer");
        }
        if missing.is_empty() {
            return;
        }
        assert!(std::env::var_os("UPDATE_GOLDEN").is_some(), "not in {:?}:\n{missing}", self.path);
        self.text.push_str(&missing);
        fs::write(&self.path, &self.text).unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
