//! What verbs that talk to this node find in its data directory: its address and its token.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ledgermq_api::access::Token;
use serde_json::json;

/// The token, made at the first start.
const TOKEN: &str = "admin.token";
/// Where the node answers.
const ADDRESS: &str = "admin.json";

/// Reads the token of the node, or makes one: 32 random bytes in hexadecimal, readable by the
/// owner only.
pub(super) fn token(dir: &Path) -> io::Result<Token> {
    let path = dir.join(TOKEN);
    let wrong = |detail: &str| {
        let text = format!("{}: {detail}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => {
            if fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
                return Err(wrong("others may read it: chmod 600, or delete it for a new one"));
            }
            text
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            write(&path, &format!("{text}\n"))?;
            text
        }
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
    };
    Token::new(&text).map_err(|error| wrong(&format!("{error}; delete it for a new one")))
}

/// Writes where the node answers. A full disk does not keep a node from starting.
pub(super) fn write_address(dir: &Path, address: SocketAddr) {
    let text = json!({ "url": format!("http://{address}") }).to_string();
    if let Err(error) = write(&dir.join(ADDRESS), &format!("{text}\n")) {
        tracing::warn!(%error, "admin.json could not be written");
    }
}

/// Writes a file whole or not at all, readable by the owner only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}
