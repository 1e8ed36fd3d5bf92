//! Who may come in and do what: the files that are read at the start and at SIGHUP.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ledgermq_api::readiness::Check;
use ledgermq_core::access::{self, AclError, FILE_BYTES_MAX, RuleList, Subject};
use ledgermq_gateway::authenticator::{self, PasswordsError};
use ledgermq_projections::reader::Reader;

use crate::config::Config;

/// Why an `acl_file` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("gateway.acl_file {}: {fault}", path.display())]
pub(crate) struct AclFileError {
    path: PathBuf,
    fault: AclFileFault,
}

/// What is wrong with an `acl_file`.
#[derive(Debug, thiserror::Error)]
enum AclFileFault {
    #[error("cannot be read ({0}); correct the path or its rights")]
    Read(io::Error),
    #[error("has more than {} MiB; use patterns instead of many rules", FILE_BYTES_MAX >> 20)]
    TooLarge,
    #[error("{0}")]
    Line(AclError),
}

/// What went wrong when the files were read again, for `/readyz`; a cheap clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Replaces them.
    pub(super) fn set(&self, warnings: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }

    /// A check that holds whatever they are: what was in force stays in force.
    pub(super) fn check(&self, views: &Reader) -> Check {
        let warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (rules, since) = views.with(|views| {
            let access = views.access();
            (access.rules().list().map(RuleList::len), access.since())
        });
        let mut check = Check::ready("access");
        if let Some(since) = since {
            check = check.with("rules", rules).with("rules_since_index", since.index);
        }
        match warnings.is_empty() {
            true => check,
            false => check.with("warning", warnings.join("; ")),
        }
    }
}

/// Reads the rules of the `acl_file`; none if none is configured.
pub(super) fn rules(config: &Config) -> Result<Option<RuleList>, AclFileError> {
    let path = &config.gateway.acl_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    read(path).map(Some).map_err(|fault| AclFileError { path: path.clone(), fault })
}

fn read(path: &Path) -> Result<RuleList, AclFileFault> {
    let length = fs::metadata(path).map_err(AclFileFault::Read)?.len();
    if length > FILE_BYTES_MAX as u64 {
        return Err(AclFileFault::TooLarge);
    }
    let text = fs::read_to_string(path).map_err(AclFileFault::Read)?;
    access::parse(&text).map_err(AclFileFault::Line)
}

/// Whether those access rules are in force that a node starts with: of the only member those of its
/// file, of one among several those of the log, which another may have put there.
pub(super) fn are_in_force(views: &Reader, file: Option<&RuleList>, is_sole_member: bool) -> bool {
    let has_any = || views.with(|views| views.access().since().is_some());
    is_file_in_force(views, file) || !is_sole_member && has_any()
}

/// What an operator is told whose `acl_file` has other rules than the cluster when a node starts. A
/// node without a file has nothing to say.
pub(super) fn difference(views: &Reader, file: Option<&RuleList>) -> Option<String> {
    (file.is_some() && !is_file_in_force(views, file)).then(|| {
        "gateway.acl_file of this node has other rules than the cluster, and those of the cluster \
         are in force: correct the file, or send SIGHUP to put its rules in force on all nodes"
            .to_owned()
    })
}

fn is_file_in_force(views: &Reader, file: Option<&RuleList>) -> bool {
    views.with(|views| views.access().rules().list() == file)
}

/// Looks whether the `password_file` can be used, before anything is opened.
pub(super) fn check_passwords(config: &Config) -> Result<(), PasswordsError> {
    match &config.gateway.password_file {
        file if file.as_os_str().is_empty() => Ok(()),
        file => authenticator::read(file).map(|_| ()),
    }
}

/// Says aloud what is allowed and hardly meant.
pub(super) fn advise(config: &Config, rules: Option<&RuleList>) {
    let gateway = &config.gateway;
    let file = &gateway.password_file;
    let has_passwords = !file.as_os_str().is_empty();
    if has_passwords && authenticator::is_readable_by_others(file) {
        tracing::warn!(
            file = %file.display(),
            "gateway.password_file can be read by every user of this machine: chmod 600 it"
        );
    }
    let Some(rules) = rules else { return };
    if rules.is_empty() {
        tracing::warn!("gateway.acl_file grants nothing: no client can publish or receive");
    }
    let is_for_user = |subject: &Subject| matches!(subject, Subject::User(_));
    let names_users = rules.groups().iter().any(|group| is_for_user(&group.subject));
    if names_users && !has_passwords && gateway.allow_anonymous {
        tracing::warn!(
            "gateway.acl_file has rules for users, but without gateway.password_file nobody \
             proves to be one: any client can use any user name"
        );
    }
}
