//! The directory `cluster/` of a node: who it is, and the keys with which it proves that.
//!
//! | file | content |
//! |---|---|
//! | `identity` | [`Identity`], written last: where it is, everything else is |
//! | `ca.pem`, `ca.key` | the cluster's authority; the key only where the log is kept |
//! | `node.pem`, `node.key` | the node's own certificate and key |
//! | `members` | the members as the log had them last, for a node that finds its log gone |
//! | `repair` | there while the log is replaced by an empty one ([`Repair`]): text for people |
//!
//! Every file is written beside its place, synced and moved there; keys can be read by the owner
//! only. A crash before `identity` leaves a node that asks to be let in again, with the same key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::tls::Credentials;
use crate::cluster::authority::{Authority, AuthorityError, NodeKey, PublicKey, Shown, node_of};
use crate::cluster::frame::{Joined, Secret};
use crate::cluster::identity::{Identity, IdentityError};
use crate::cluster::members::Members;

const IDENTITY: &str = "identity";
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "node.pem";
const KEY: &str = "node.key";
const MEMBERS: &str = "members";
const REPAIR: &str = "repair";
/// First lines of the file `repair`.
const TO_MOVE: &str = "the log is to be moved away";
const MOVED: &str = "the log was moved away";
const LINE: usize = 64;

/// What cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system refused something.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path} cannot be used: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A key or certificate cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// What a directory holds.
#[derive(Debug)]
pub struct Loaded {
    /// Who the node is.
    pub identity: Identity,
    /// What it shows the others.
    pub credentials: Credentials,
    /// The cluster's authority, if the node keeps the log.
    pub authority: Option<Authority>,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
}

/// A log that is not what it promised makes way for an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Why, for people.
    pub why: String,
    /// It is out of the way.
    pub is_moved: bool,
}

/// The directory `cluster/`.
#[derive(Clone, Debug)]
pub struct ClusterDir {
    dir: PathBuf,
}

impl ClusterDir {
    /// The directory below the node's data directory; made when something is written.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self { dir: data.join("cluster") }
    }

    /// Reads everything; none if the node belongs to no cluster yet.
    ///
    /// # Errors
    ///
    /// If something is missing, damaged or does not belong together.
    pub fn load(&self) -> Result<Option<Loaded>, FilesError> {
        let Some(bytes) = self.read(IDENTITY)? else { return Ok(None) };
        let identity = Identity::decode(&bytes)
            .map_err(|error: IdentityError| self.damaged(IDENTITY, error))?;
        let authority = self.certificate(AUTHORITY)?;
        let certificate = self.certificate(CERTIFICATE)?;
        let key = self.key(KEY)?.ok_or_else(|| self.damaged(KEY, "it is missing"))?;
        let named = node_of(&certificate).map_err(|error| self.damaged(CERTIFICATE, error))?;
        if named != (identity.cluster, identity.node) {
            let what = format!("it is for node {} of {}", named.1, named.0);
            return Err(self.damaged(CERTIFICATE, what));
        }
        let public = public(&key).map_err(|error| self.damaged(KEY, error))?;
        let authority_of = |key| Authority::load(identity.cluster, authority.clone(), key);
        let kept = self.key(AUTHORITY_KEY)?.map(authority_of).transpose();
        let kept = kept.map_err(|error| self.damaged(AUTHORITY_KEY, error))?;
        let credentials = Credentials { authority, certificate, key };
        Ok(Some(Loaded { identity, credentials, authority: kept, key: public.fingerprint }))
    }

    /// Makes a node the first of a new cluster, at `now_s` (seconds since 1970).
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn found(&self, identity: &Identity, now_s: u64) -> Result<Loaded, FilesError> {
        let authority = Authority::found(identity.cluster)?;
        let key = self.node_key()?;
        let public = PublicKey::of_request(&key.request()?)?;
        let certificate = authority.issue(identity.node, &public, now_s)?;
        self.write_pem(AUTHORITY, "CERTIFICATE", authority.certificate(), PUBLIC)?;
        self.write_pem(AUTHORITY_KEY, "PRIVATE KEY", &authority.key().0, PRIVATE)?;
        self.write_pem(CERTIFICATE, "CERTIFICATE", &certificate, PUBLIC)?;
        self.write(IDENTITY, &identity.encode(), PUBLIC)?;
        self.load()?.ok_or_else(|| self.damaged(IDENTITY, "it is missing"))
    }

    /// The node's key, made if there is none: a node that asks again asks with the same.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written.
    pub fn node_key(&self) -> Result<NodeKey, FilesError> {
        if let Some(der) = self.key(KEY)? {
            return NodeKey::from_der(&der).map_err(|error| self.damaged(KEY, error));
        }
        let key = NodeKey::generate()?;
        self.write_pem(KEY, "PRIVATE KEY", &key.to_der().0, PRIVATE)?;
        Ok(key)
    }

    /// Writes what `node` was given when it was let in.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or is not for this node.
    pub fn joined(&self, node: u64, joined: &Joined) -> Result<Loaded, FilesError> {
        let Joined { cluster, generation, start_min, .. } = *joined;
        self.check_joined(node, joined)?;
        self.write_pem(AUTHORITY, "CERTIFICATE", &joined.authority, PUBLIC)?;
        if !joined.authority_key.0.is_empty() {
            self.write_pem(AUTHORITY_KEY, "PRIVATE KEY", &joined.authority_key.0, PRIVATE)?;
        }
        self.write_pem(CERTIFICATE, "CERTIFICATE", &joined.certificate, PUBLIC)?;
        let identity = Identity { cluster, node, generation, start_min };
        self.write(IDENTITY, &identity.encode(), PUBLIC)?;
        self.load()?.ok_or_else(|| self.damaged(IDENTITY, "it is missing"))
    }

    /// Whether all of it is for this node, before any of it takes the place of what is there.
    fn check_joined(&self, node: u64, joined: &Joined) -> Result<(), FilesError> {
        let shown = Shown::of(&joined.certificate);
        let shown = shown.map_err(|error| self.damaged(CERTIFICATE, error))?;
        if (shown.cluster, shown.node) != (joined.cluster, node) {
            let what = format!("it was given for node {} of {}", shown.node, shown.cluster);
            return Err(self.damaged(CERTIFICATE, what));
        }
        let key = self.node_key()?.to_der();
        let public = public(&key).map_err(|error| self.damaged(KEY, error))?;
        if public.fingerprint != shown.key {
            return Err(self.damaged(CERTIFICATE, "it was given for another key"));
        }
        let Joined { cluster, authority, authority_key, members, .. } = joined;
        if !authority_key.0.is_empty() {
            Authority::load(*cluster, authority.clone(), authority_key.clone())
                .map_err(|error| self.damaged(AUTHORITY_KEY, error))?;
        }
        let is_in = members.nodes.get(&node).is_some_and(|member| member.key == shown.key);
        if members.cluster != *cluster || !is_in {
            return Err(self.damaged(MEMBERS, "what was given does not name this node"));
        }
        Ok(())
    }

    /// Changes what the node is: another generation, another lowest start.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), FilesError> {
        self.write(IDENTITY, &identity.encode(), PUBLIC)
    }

    /// The members as they were noted last; none if they never were, or cannot be read.
    ///
    /// # Errors
    ///
    /// If the system refuses to read them.
    pub fn members(&self) -> Result<Option<Members>, FilesError> {
        Ok(self.read(MEMBERS)?.and_then(|bytes| Members::decode(&bytes).ok()))
    }

    /// Notes the members.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn set_members(&self, members: &Members) -> Result<(), FilesError> {
        self.write(MEMBERS, &members.encode(), PUBLIC)
    }

    /// How far the replacement of the log has come; none if it need not be replaced.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or nobody has written it.
    pub fn repair(&self) -> Result<Option<Repair>, FilesError> {
        let Some(bytes) = self.read(REPAIR)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let (stage, why) = text.split_once('\n').unwrap_or((&text, ""));
        let why = why.trim_end().to_owned();
        match stage {
            TO_MOVE => Ok(Some(Repair { why, is_moved: false })),
            MOVED => Ok(Some(Repair { why, is_moved: true })),
            _ => Err(self.damaged(REPAIR, "it does not say how far the repair has come")),
        }
    }

    /// Notes how far it has come; none when nothing is left to be done.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn set_repair(&self, repair: Option<&Repair>) -> Result<(), FilesError> {
        if let Some(Repair { why, is_moved }) = repair {
            let stage = if *is_moved { MOVED } else { TO_MOVE };
            return self.write(REPAIR, format!("{stage}\n{why}\n").as_bytes(), PUBLIC);
        }
        let path = self.dir.join(REPAIR);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FilesError::Io { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    fn certificate(&self, name: &str) -> Result<Vec<u8>, FilesError> {
        let pem = self.read(name)?.ok_or_else(|| self.damaged(name, "it is missing"))?;
        let der = CertificateDer::from_pem_slice(&pem);
        der.map(|der| der.to_vec()).map_err(|error| self.damaged(name, error))
    }

    fn key(&self, name: &str) -> Result<Option<Secret>, FilesError> {
        let Some(pem) = self.read(name)? else { return Ok(None) };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem);
        let der = der.map_err(|error| self.damaged(name, error))?;
        Ok(Some(Secret(der.secret_pkcs8_der().to_vec())))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FilesError> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FilesError::Io { action: "read", path, source }),
        }
    }

    fn write_pem(&self, name: &str, label: &str, der: &[u8], mode: u32) -> Result<(), FilesError> {
        self.write(name, pem(label, der).as_bytes(), mode)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
        let path = self.dir.join(name);
        replace(&self.dir, &path, bytes, mode).map_err(|source| FilesError::Io {
            action: "write",
            path,
            source,
        })
    }

    fn damaged(&self, name: &str, what: impl ToString) -> FilesError {
        FilesError::Damaged { path: self.dir.join(name), what: what.to_string() }
    }
}

/// Readable for everybody, or for the owner only.
const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

fn public(key: &Secret) -> Result<PublicKey, AuthorityError> {
    PublicKey::of_request(&NodeKey::from_der(key)?.request()?)
}

/// Puts a file into its place whole, or not at all.
fn replace(dir: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let beside = path.with_extension("new");
    // What a crash left there may have other rights.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
