//! Single bits of files that change while nobody looks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::random::Random;

/// A bit of a file.
#[derive(Debug)]
pub(crate) struct Bit {
    file: PathBuf,
    at: u64,
    mask: u8,
}

impl Bit {
    /// Any bit of what the node has written of its log.
    pub(crate) fn of_log(dir: &Path, random: &mut Random) -> Self {
        let files = std::fs::read_dir(dir.join("log/raft")).expect("a node's log");
        let files = files.map(|entry| entry.expect("it can be listed").path());
        let mut logs: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|it| it == "raftlog")).collect();
        logs.sort();
        let choice = random.within(0..logs.len() as u64);
        Self::of_file(logs.swap_remove(usize::try_from(choice).expect("few files")), random)
    }

    /// Any bit of the node's projections.
    pub(crate) fn of_projections(dir: &Path, random: &mut Random) -> Self {
        Self::of_file(dir.join("projections.redb"), random)
    }

    /// Any bit up to the last byte that is not zero: behind it is room that was taken in advance.
    fn of_file(file: PathBuf, random: &mut Random) -> Self {
        let bytes = std::fs::read(&file).expect("the file of a node that is down");
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
        Self { file, at: random.within(0..end), mask: 1 << random.within(0..8) }
    }

    /// Flips it; twice is never.
    pub(crate) fn flip(&self) {
        let file = File::options().read(true).write(true).open(&self.file).expect("the same file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at).expect("it is in the file");
        file.write_all_at(&[byte[0] ^ self.mask], self.at).expect("it can be written");
    }

    /// Name of the file and place in it.
    pub(crate) fn describe(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        format!("byte {} of {name}", self.at)
    }
}
