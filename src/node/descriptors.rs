//! File descriptors: the log must never lack one, so clients get what it leaves.

use ledgermq_log::Config as LogConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::NodeError;

/// What the node itself takes: HTTP (256), listeners, workers, the projections, files opened for a
/// moment.
const OWN: u64 = 512;
/// Fewer connections than this are none.
const CONNECTIONS_MIN: u64 = 16;

/// How the descriptors of the process are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// What the process may have; `None` if there is no limit.
    pub(super) limit: Option<u64>,
    /// Kept for the files of the log.
    pub(super) log: u64,
    /// Network Connections at the same time.
    pub(super) connections: u32,
}

impl Descriptors {
    /// Raises the limit of this process as far as it may be, and deals it out.
    ///
    /// # Errors
    ///
    /// If the log as it is configured, and the node, leave nothing for clients.
    pub(super) fn claim(log: &LogConfig, connections: u32) -> Result<Self, NodeError> {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // A system may refuse a limit that it claims to allow: then the lower one holds.
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let limit = if raised.is_ok() { maximum } else { current };
        let dealt = deal(limit, log, connections).map_err(NodeError::Descriptors)?;
        tracing::info!(
            limit = dealt.limit,
            log = dealt.log,
            own = OWN,
            connections = dealt.connections,
            "file descriptors"
        );
        Ok(dealt)
    }
}

fn deal(limit: Option<u64>, log: &LogConfig, connections: u32) -> Result<Descriptors, String> {
    // Twice, for what is owed can keep files beyond the bound.
    let files = log.hot_bytes_max.0.div_ceil(log.file_bytes.0.max(1)).saturating_mul(2);
    let taken = files.saturating_add(OWN);
    let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(taken));
    if left < CONNECTIONS_MIN {
        let least = taken.saturating_add(CONNECTIONS_MIN);
        let limit = limit.unwrap_or_default();
        return Err(format!(
            "the process may have {limit} file descriptors, but needs {least}: {files} for the \
             files of the log (twice log.hot_bytes_max / log.file_bytes), {OWN} for itself and \
             {CONNECTIONS_MIN} for clients; raise the hard limit (ulimit -H -n, LimitNOFILE=), or \
             set a larger log.file_bytes or a smaller log.hot_bytes_max"
        ));
    }
    let connections = u32::try_from(left).unwrap_or(u32::MAX).min(connections);
    Ok(Descriptors { limit, log: files, connections })
}

#[cfg(test)]
mod tests {
    use ledgermq_core::quantity::ByteSize;

    use super::*;

    fn log(hot: ByteSize) -> LogConfig {
        LogConfig { hot_bytes_max: hot, file_bytes: ByteSize::mib(32), ..LogConfig::default() }
    }

    #[test]
    fn clients_get_what_the_log_and_the_node_leave() {
        let connections = |limit, wanted| {
            deal(limit, &log(ByteSize::gib(1)), wanted).map(|dealt| dealt.connections)
        };
        assert_eq!(connections(None, 1_000_000), Ok(1_000_000));
        assert_eq!(connections(Some(4096), 1_000_000), Ok(4096 - 64 - 512));
        assert_eq!(connections(Some(4096), 100), Ok(100), "a lower bound is kept");
    }

    #[test]
    fn a_log_that_does_not_fit_is_refused_with_what_to_do() {
        let error = deal(Some(1024), &log(ByteSize::gib(20)), 100).unwrap_err();
        assert!(error.contains("1024") && error.contains("needs 1808"), "{error}");
        assert!(error.contains("log.file_bytes") && error.contains("ulimit"), "{error}");
    }
}
