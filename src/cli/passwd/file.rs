//! A `password_file` that is changed line by line.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use ledgermq_gateway::authenticator::{self, PasswordsFault};
use ledgermq_gateway::passwords::{Passwords, is_comment, split};

use crate::cli::{Exit, Failure};

/// The lines of a file, and what they mean.
pub(super) struct PasswordFile {
    path: PathBuf,
    lines: Vec<String>,
    pub(super) passwords: Passwords,
}

impl PasswordFile {
    /// Reads the file at `path`; a line that is wrong is an error, so that nobody's password is
    /// lost by a change of another.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let passwords = authenticator::read(path).map_err(|error| {
            let exit = match &error.fault {
                PasswordsFault::Read(source) => match source.kind() {
                    io::ErrorKind::NotFound => Exit::NotFound,
                    io::ErrorKind::PermissionDenied => Exit::NotAllowed,
                    _ => Exit::Failure,
                },
                PasswordsFault::TooLarge | PasswordsFault::Line(_) => Exit::Failure,
            };
            Failure::new(exit, format!("{}: {}", path.display(), error.fault))
        })?;
        let text = fs::read_to_string(path).map_err(|error| cannot("read", path, &error))?;
        let lines = text.lines().map(str::to_owned).collect();
        Ok(Self { path: path.to_owned(), lines, passwords })
    }

    /// The same, or an empty one if there is none.
    pub(super) fn open_or_new(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            return Self::open(path);
        }
        let passwords = Passwords::parse("").map_err(|error| Failure::new(Exit::Failure, error))?;
        Ok(Self { path: path.to_owned(), lines: Vec::new(), passwords })
    }

    /// Gives `name` this hash; says whether it is new. All other lines stay as they are.
    pub(super) fn set(&mut self, name: &str, hash: &str) -> bool {
        let line = format!("{name}:{hash}");
        let held = self.lines.iter_mut().find(|line| is_of(line, name));
        let is_new = held.is_none();
        match held {
            Some(held) => *held = line,
            None => self.lines.push(line),
        }
        is_new
    }

    /// Removes `name`; says whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !is_of(line, name));
        self.lines.len() < before
    }

    /// Puts the lines in the place of the file, whole or not at all, readable by its owner alone.
    pub(super) fn save(&self) -> Result<(), Failure> {
        // A symbolic link stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = path.with_file_name(name);
        self.write(&path, &new).map_err(|error| {
            let _ = fs::remove_file(&new);
            cannot("write", &self.path, &error)
        })
    }

    fn write(&self, path: &Path, new: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        if let Ok(old) = fs::metadata(path)
            && let Ok(fresh) = file.metadata()
            && (old.uid(), old.gid()) != (fresh.uid(), fresh.gid())
        {
            // The node may run as another user: it must still be able to read its file.
            chown(new, Some(old.uid()), Some(old.gid()))?;
        }
        for line in &self.lines {
            writeln!(file, "{line}")?;
        }
        file.sync_all()?;
        fs::rename(new, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn is_of(line: &str, name: &str) -> bool {
    !is_comment(line) && split(line).is_some_and(|(user, _)| user == name)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotAllowed,
        io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Failure,
    };
    Failure::new(exit, format!("cannot {what} {}: {error}", path.display()))
}
