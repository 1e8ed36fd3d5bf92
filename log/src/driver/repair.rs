//! A log that is not what it promised makes way for an empty one, if others have what it lacks.
//!
//! | step | noted by | a crash before the next |
//! |---|---|---|
//! | it is found out: while the log opens, or by the process that ends then | `cluster/repair`: to be moved | the next start goes on |
//! | what was made from the log is moved into its directory, then that is moved to `log.damaged-TIME` | the names | moves what is there |
//! | an empty log begins | `cluster/repair`: was moved | a node with an empty log asks to be re-admitted, noted or not |
//! | the node is re-admitted | key `J` of the new log | the note is removed then |
//!
//! What was moved is never removed by the node.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Options;
use crate::error::OpenError;
use crate::machine::describe;
use crate::peers::{ClusterDir, FilesError, Repair};
use crate::store::engine::{DirLock, EngineStore};

/// Who had a vote, as far as was noted; nobody if nothing was.
fn noted_voters(options: &Options) -> Vec<u64> {
    let members = cluster_dir(options).and_then(|dir| dir.members().ok().flatten());
    members.map_or_else(Vec::new, |members| members.voters().collect())
}

/// Whether others had a vote.
fn has_others(options: &Options) -> bool {
    noted_voters(options).iter().any(|voter| *voter != options.node)
}

/// Whether the others are a majority without this node: they can let it out and in again, and have all
/// that is committed. If not, its log is better than none.
pub(super) fn can_be_spared(options: &Options) -> bool {
    is_spared(options.node, &noted_voters(options))
}

fn is_spared(node: u64, voters: &[u64]) -> bool {
    let others = voters.iter().filter(|voter| **voter != node).count();
    others > voters.len() / 2
}

/// Notes why the log has to make way.
pub(super) fn note(options: &Options, why: String) -> Result<(), OpenError> {
    let Some(dir) = cluster_dir(options) else { return Ok(()) };
    dir.set_repair(Some(&Repair { why, is_moved: false })).map_err(setting)
}

/// Moves the log away, if that was noted; and without a log what was made from one that is gone.
pub(super) fn make_way(
    options: &Options,
    lock: DirLock,
    now_millis: u64,
) -> Result<DirLock, OpenError> {
    let Some(cluster) = cluster_dir(options) else { return Ok(lock) };
    let noted = cluster.repair().map_err(setting)?;
    let is_noted = noted.as_ref().is_some_and(|repair| !repair.is_moved);
    let is_gone = || !options.dir.join("watermark").exists() && !options.dir.join("raft").exists();
    let has_derived = || options.derived.iter().any(|path| path.exists());
    // A log that was lost with its directory leaves what was derived from it.
    let is_lost = || has_derived() && is_gone() && has_others(options);
    if !(is_noted || is_lost()) {
        return Ok(lock);
    }
    let away = away(&options.dir, now_millis);
    for path in &options.derived {
        let Some(name) = path.file_name() else { continue };
        move_to(path, &options.dir.join(name))?;
    }
    sync(&options.dir)?;
    move_to(&options.dir, &away)?;
    drop(lock);
    tracing::warn!(to = %away.display(), "the log was moved away");
    if let Some(Repair { why, .. }) = noted {
        cluster.set_repair(Some(&Repair { why, is_moved: true })).map_err(setting)?;
    }
    EngineStore::lock(&options.dir)
}

fn cluster_dir(options: &Options) -> Option<ClusterDir> {
    options.cluster.as_ref().map(|cluster| ClusterDir::new(&cluster.data))
}

/// Where a log goes that makes way.
fn away(dir: &Path, now_millis: u64) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{now_millis}"));
    dir.with_file_name(name)
}

/// Moves what is there, and makes that durable.
fn move_to(from: &Path, to: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { action: "move away", path: from.to_owned(), source };
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(()) => from.parent().map_or(Ok(()), sync),
    }
}

fn sync(dir: &Path) -> Result<(), OpenError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| OpenError::Io { action: "sync", path: dir.to_owned(), source })
}

fn setting(error: FilesError) -> OpenError {
    OpenError::Setting(describe(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_voters_none_can_be_spared() {
        let spared = [&[1][..], &[1, 2], &[2], &[1, 2, 3], &[1, 2, 3, 4], &[2, 3]]
            .map(|voters| is_spared(1, voters));
        assert_eq!(spared, [false, false, true, true, true, true]);
    }
}
