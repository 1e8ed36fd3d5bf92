//! A wall clock of a broker that jumps when a test says so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::broker::Options;

/// A library that is preloaded into brokers.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    files: Arc<TempDir>,
}

impl Library {
    /// Builds it with the C compiler, which building the broker needs, too.
    pub(crate) fn build() -> Self {
        let library = Self { files: Arc::new(tempfile::tempdir().expect("a temporary directory")) };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/wall_clock.c");
        let output = Command::new("cc")
            .args(["-O2", "-Wall", "-shared", "-fPIC", "-o"])
            .arg(library.path())
            .arg(source)
            .output()
            .expect("a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    }

    fn path(&self) -> PathBuf {
        self.files.path().join("wall_clock.so")
    }
}

/// The wall clock of one broker.
#[derive(Debug)]
pub(crate) struct WallClock {
    library: Library,
    path: PathBuf,
    file: File,
}

impl WallClock {
    /// The right time, for now.
    pub(crate) fn new(library: &Library, name: &str) -> Self {
        let library = library.clone();
        let path = library.files.path().join(name);
        let options = File::options().create(true).truncate(true).write(true).open(&path);
        let clock = Self { library, path, file: options.expect("room for a file") };
        clock.set_ahead(0);
        clock
    }

    /// Has a broker tell the time by it.
    pub(crate) fn given_to(&self, options: Options) -> Options {
        options
            .variable("LD_PRELOAD", &self.library.path().display().to_string())
            .variable("LEDGERMQ_TEST_CLOCK", &self.path.display().to_string())
    }

    /// From now on it is ahead of the right time by so many seconds.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).expect("room for eight bytes");
    }
}
