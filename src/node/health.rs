//! What `/readyz` says of this node.

use ledgermq_api::readiness::Check;
use ledgermq_log::{Gate, Log};
use ledgermq_projections::reader::Reader;

use super::access::Warnings;
use super::descriptors::Descriptors;
use super::memory::Level;
use super::quorum;

/// Committed batches that the views may be behind.
const LAG_MAX: u64 = 1_000;

const DRAINING: &str = "draining: this node lets no new clients in, until it is undrained \
    (ledgermq cluster drain N --undo) or starts again";

/// The checks of a running node.
pub(super) fn checks(
    log: &Log,
    views: &Reader,
    descriptors: Descriptors,
    warnings: &Warnings,
    memory: &Level,
    is_insecure: bool,
) -> Vec<Check> {
    let access = warnings.check(views);
    let descriptors = descriptors_check(descriptors);
    let cluster = quorum::check(log, is_insecure);
    let views = views_check(log, views);
    let mut checks = vec![log_check(log), cluster, views, descriptors, access, memory.check()];
    if log.is_draining() {
        checks.push(Check::failed("drain", DRAINING));
    }
    checks
}

/// What was dealt out at the start; it always holds then.
fn descriptors_check(descriptors: Descriptors) -> Check {
    Check::ready("file_descriptors")
        .with("limit", descriptors.limit)
        .with("log_files_max", descriptors.log)
        .with("connections_max", descriptors.connections)
}

fn log_check(log: &Log) -> Check {
    let status = log.status();
    let check = match log.gate() {
        Gate::Open => Check::ready("log"),
        Gate::RefusePublishes { reason }
        | Gate::RefuseOpens { reason }
        | Gate::NoQuorum { reason }
        | Gate::Left { reason }
        | Gate::Stopped { reason } => Check::failed("log", &*reason),
    };
    let mut check = check
        .with("first_index", status.first_index)
        .with("commit_index", status.commit_index)
        .with("disk_bytes", status.disk_bytes)
        .with("purge_allowed_index", status.purge_allowed);
    if let Some(wanted) = status.purge_wanted {
        check = check.with("purge_wanted_index", wanted).with(
            "purge",
            "the hot log is beyond its bounds or the disk lacks room: the oldest entries go, owed \
             messages are kept",
        );
    }
    if let Some(jump) = status.clock_jumped {
        check = check.with("clock_off_seconds", jump.as_secs());
    }
    check
}

fn views_check(log: &Log, views: &Reader) -> Check {
    let applied = views.applied();
    let lag = log.status().commit_index.saturating_sub(applied);
    let check = if let Some(failure) = views.failure() {
        Check::failed("projections", failure)
    } else if !views.is_ready() {
        Check::failed("projections", "the log is still being folded")
    } else if lag > LAG_MAX {
        Check::failed("projections", "the views are far behind the log")
    } else {
        Check::ready("projections")
    };
    check.with("applied_index", applied).with("lag_batches", lag)
}
