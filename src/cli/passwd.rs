//! `ledgermq passwd`: the users of a `password_file`.

mod file;
mod prompt;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ledgermq_gateway::passwords::{Checked, hash};

use super::{Exit, Failure, Output};
use file::PasswordFile;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a user, or give one a new password. The password is read from standard input, or asked
    /// for on a terminal; it is never an argument, which other users of the machine could see.
    Add(User),
    /// Remove a user; exit code 3 if there is none of that name.
    Delete(User),
    /// Tell whether a password is that of a user: exit code 0 if so, 1 if not, 3 if there is no
    /// such user. The password is read as by add.
    Verify(User),
}

#[derive(Debug, Args)]
struct User {
    /// The file, as gateway.password_file names it. A running node reads it again at SIGHUP.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The user.
    #[arg(value_name = "NAME")]
    name: String,
    /// How to print what was done.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Add(user) => add(&user),
        Command::Delete(user) => delete(&user),
        Command::Verify(user) => verify(&user),
    }
}

fn add(user: &User) -> Result<(), Failure> {
    check_name(&user.name)?;
    let mut file = PasswordFile::open_or_new(&user.file)?;
    let password = prompt::new_password(&user.name)?;
    let hash = hash::of(&password).map_err(|error| Failure::new(Exit::Failure, error))?;
    let is_new = file.set(&user.name, &hash);
    file.save()?;
    report(user, if is_new { "added" } else { "changed" })
}

fn delete(user: &User) -> Result<(), Failure> {
    let mut file = PasswordFile::open(&user.file)?;
    if !file.remove(&user.name) {
        return Err(unknown(user));
    }
    file.save()?;
    report(user, "deleted")
}

fn verify(user: &User) -> Result<(), Failure> {
    let passwords = PasswordFile::open(&user.file)?.passwords;
    let password = prompt::password(&user.name)?;
    match passwords.check(&user.name, &password) {
        Checked::Right => report(user, "right"),
        Checked::Wrong => {
            let message = format!("the password is not that of user {:?}", user.name);
            Err(Failure::new(Exit::Failure, message))
        }
        Checked::Unknown => Err(unknown(user)),
    }
}

fn unknown(user: &User) -> Failure {
    let message = format!("there is no user {:?} in {}", user.name, user.file.display());
    Failure::new(Exit::NotFound, message)
}

/// A line of the file could not hold another name.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_good = !name.is_empty()
        && name.trim() == name
        && !name.starts_with(['#', '\u{feff}'])
        && !name.contains(|character: char| character == ':' || character.is_control());
    if is_good {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        "a user name in a password file is not empty, holds no colon and no control characters, \
         and begins neither with '#' nor begins or ends with a space",
    ))
}

fn report(user: &User, done: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match user.output {
        Output::Text => writeln!(out, "user {:?}: {done}", user.name),
        Output::Json => {
            writeln!(out, "{}", serde_json::json!({ "user": user.name, "result": done }))
        }
    };
    written.map_err(|error| Failure::new(Exit::Failure, format!("cannot write: {error}")))
}
