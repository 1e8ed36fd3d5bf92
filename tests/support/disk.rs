//! A disk of its own for a broker: a file system in a file, whose power can be cut. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted ext4 file system of a fixed size; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    files: TempDir,
}

impl Disk {
    /// Makes and mounts a file system of `mib` mebibytes.
    pub(crate) fn new(mib: u64) -> Self {
        let disk = Self { files: tempfile::tempdir().expect("a temporary directory") };
        let image = std::fs::File::create(disk.image()).expect("a file for the image");
        image.set_len(mib << 20).expect("room for the image");
        std::fs::create_dir(disk.path()).expect("a place to mount");
        // No bytes reserved for root: what is free is free for the broker.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(disk.image()));
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.files.path().join("disk")
    }

    /// Cuts the power: what was not synced is gone, and every access fails from now on.
    pub(crate) fn cut_power(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()));
    }

    /// Unmounts and mounts again, as after a power cut; nobody may have files open.
    pub(crate) fn remount(&self) {
        run(Command::new("umount").arg(self.path()));
        self.mount();
    }

    fn image(&self) -> PathBuf {
        self.files.path().join("image")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Free bytes of the file system on which `path` lies.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("a mounted file system");
    stat.f_bavail * stat.f_frsize
}

fn run(command: &mut Command) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = command.env("PATH", path).output().expect("./test.sh installs it");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
