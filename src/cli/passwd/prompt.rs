//! Where a password comes from: standard input, on a terminal without an echo.

use std::io::{self, BufRead, IsTerminal as _, Read as _};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::cli::{Exit, Failure};

/// Bytes that a password has at most: what a CONNECT can carry.
const PASSWORD_BYTES_MAX: usize = 65_535;

/// Turns the terminal's echo on again, however the reading ended.
struct Silence(Termios);

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Asks for the password of `name`.
pub(super) fn password(name: &str) -> Result<Vec<u8>, Failure> {
    if io::stdin().is_terminal() {
        return ask(&format!("Password of {name}: "));
    }
    read_line()
}

/// Asks for a new password of `name`, on a terminal twice.
pub(super) fn new_password(name: &str) -> Result<Vec<u8>, Failure> {
    let password = password(name)?;
    if password.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "the password is empty; give it as one line on standard input",
        ));
    }
    if io::stdin().is_terminal() && ask("The same again: ")? != password {
        return Err(Failure::new(Exit::Usage, "the two passwords differ; nothing was changed"));
    }
    Ok(password)
}

fn ask(prompt: &str) -> Result<Vec<u8>, Failure> {
    let cannot = |error| Failure::new(Exit::Failure, format!("cannot ask for it: {error}"));
    let before = termios::tcgetattr(io::stdin()).map_err(cannot)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let _silence = Silence(before);
    termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(cannot)?;
    eprint!("{prompt}");
    let password = read_line();
    eprintln!();
    password
}

/// The first line of standard input, without its end.
fn read_line() -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    let bytes_max = PASSWORD_BYTES_MAX as u64 + 3;
    let read = io::stdin().lock().take(bytes_max).read_until(b'\n', &mut line);
    read.map_err(|error| Failure::new(Exit::Failure, format!("cannot read it: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() > PASSWORD_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, "a password has at most 65,535 bytes"));
    }
    Ok(line)
}
