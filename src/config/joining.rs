//! The token to join with: where it is said, and that nobody is shown it.

use std::fs;
use std::io;

use ledgermq_log::cluster::JoinToken;

use super::{ConfigError, Effective, Origin, Setting};

/// The variable that holds a token.
pub(super) const VARIABLE: &str = "LEDGERMQ_JOIN_TOKEN";
const FLAG: &str = "--join-token";
const FILE_KEY: &str = "cluster.join_token_file";
/// Listed in place of the token.
const KEY: &str = "cluster.join_token";
const NOT_SHOWN: &str = "(not shown)";
/// Bytes of a file that can be one; the rest of a larger one is not read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Finds the token, of `flag`, `variable` and file the first that says something, and lists where
/// it came from.
///
/// A file that is not there is none: a node that has joined needs it no more, and one that has not
/// is told so when it wants to.
pub(super) fn find_token(
    effective: &mut Effective,
    flag: Option<&str>,
    variable: Option<&str>,
) -> Result<(), ConfigError> {
    let is_said = |text: &&str| !text.trim().is_empty();
    let (text, origin) = if let Some(text) = flag {
        (text.to_owned(), Origin::Flag { name: FLAG })
    } else if let Some(text) = variable.filter(is_said) {
        (text.to_owned(), Origin::Environment { name: VARIABLE.to_owned() })
    } else {
        match file(effective)? {
            None => return Ok(()),
            Some(text) => (text, effective.origin(FILE_KEY)),
        }
    };
    let token: JoinToken = text.parse().map_err(|error| {
        ConfigError::Wrong(format!("the token to join with cannot be used: {error} ({origin})"))
    })?;
    effective.config.join_token = Some(token);
    let setting = Setting { key: KEY.to_owned(), value: NOT_SHOWN.into(), origin };
    let at = effective.settings.partition_point(|setting| setting.key.as_str() < KEY);
    effective.settings.insert(at, setting);
    Ok(())
}

/// What the file of the configuration holds.
fn file(effective: &Effective) -> Result<Option<String>, ConfigError> {
    let path = &effective.config.cluster.join_token_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let read = || {
        let mut text = String::new();
        let file = fs::File::open(path)?;
        io::Read::read_to_string(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read { path: path.clone(), source }),
    }
}
