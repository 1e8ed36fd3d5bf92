//! Files that say who may come in and do what.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::broker::{Broker, Options};

/// A directory with a password file and an ACL file.
#[derive(Debug)]
pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn passwords(&self) -> PathBuf {
        self.dir.path().join("passwords")
    }

    pub(crate) fn acl(&self) -> PathBuf {
        self.dir.path().join("acl")
    }

    /// Adds a user by the command; exit code and stderr.
    pub(crate) fn add(&self, name: &str, password: &str) {
        let (code, _, stderr) = passwd(&["add"], &self.passwords(), name, password);
        assert_eq!(code, 0, "{stderr}");
    }

    pub(crate) fn write_acl(&self, text: &str) {
        fs::write(self.acl(), text).expect("the directory is ours");
    }

    /// A broker with both files, or those of them that are there.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::default();
        if self.passwords().exists() {
            options = options.set("gateway.password_file", self.passwords().display());
        }
        if self.acl().exists() {
            options = options.set("gateway.acl_file", self.acl().display());
        }
        options
    }

    /// Puts other rules in force, and waits until they are.
    pub(crate) fn replace_acl(&self, broker: &mut Broker, text: &str) {
        let before = broker.get("/readyz").1;
        self.write_acl(text);
        broker.reload();
        let index = |text: &str| {
            let at = text.find("rules_since_index").map(|at| &text[at..]);
            at.and_then(|text| text.split([',', '}']).next()).map(str::to_owned)
        };
        let before = index(&before);
        broker.wait_for("the new rules", |broker| index(&broker.get("/readyz").1) != before);
    }
}

/// Runs `ledgermq passwd` with `password` on its standard input; exit code, stdout and stderr.
pub(crate) fn passwd(
    command: &[&str],
    file: &Path,
    name: &str,
    password: &str,
) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ledgermq"))
        .arg("passwd")
        .args(command)
        .arg("--file")
        .arg(file)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // It may end without reading.
    let _ = writeln!(child.stdin.take().expect("piped"), "{password}");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
