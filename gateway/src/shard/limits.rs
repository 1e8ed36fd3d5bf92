//! How much a shard keeps.

/// Bounds of what a shard keeps for one client.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    /// Bytes waiting to be written, beyond which messages wait as references.
    pub output_bytes_max: usize,
    /// Bytes waiting to be written, beyond which nothing more is read from the client: it does not
    /// read what it is answered.
    pub answers_bytes_max: usize,
    /// Retained messages that the unanswered SUBSCRIBEs of a client may bring, all of the node's for
    /// each, beyond which nothing more is read from it.
    pub awaited_messages_max: u64,
    /// Messages waiting for a client, from which on it is refused subscriptions that would bring it
    /// more that is retained.
    pub unread_messages_max: usize,
    /// References waiting for a session that ends with its connection; beyond it the newest are
    /// dropped.
    pub backlog_messages_max: usize,
    /// References waiting for a persistent session; what comes beyond is read from the owed view.
    pub persistent_messages_max: usize,
    /// Payload bytes that those references stand for.
    pub backlog_bytes_max: usize,
    /// Bytes of batches held in memory for those references; others are read from the log again.
    pub pinned_bytes_max: usize,
    /// Bytes of output of all connections: a half is what is written in a turn, beyond which messages
    /// wait as references; in the other half stays what sockets did not take.
    pub output_bytes_all_max: usize,
    /// Output that may go beyond that bound in one turn, so that something always goes on.
    pub overdraft_bytes: usize,
    /// Bytes that the references of all connections take themselves; what is beyond is treated like
    /// what is too much for one session.
    pub references_bytes_max: usize,
    /// Bytes of batches held in memory for the references of all connections, each counted once.
    pub pinned_bytes_all_max: usize,
    /// Bytes of the packets that have begun to come, on all connections, if they are long.
    pub input_bytes_all_max: usize,
    /// Bytes of the last batches held in memory for what groups give of them; others are read from
    /// the log again.
    pub recent_bytes_max: usize,
    /// Bytes of CONNECT packets that have not come whole, on all connections, beyond the 3 KiB that
    /// each may hold.
    pub unfinished_bytes_max: usize,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            output_bytes_max: 256 << 10,
            answers_bytes_max: 1 << 20,
            awaited_messages_max: 100_000,
            unread_messages_max: 100_000,
            backlog_messages_max: 100_000,
            persistent_messages_max: 1024,
            backlog_bytes_max: 256 << 20,
            pinned_bytes_max: 4 << 20,
            output_bytes_all_max: usize::MAX,
            overdraft_bytes: 64 << 10,
            references_bytes_max: usize::MAX,
            pinned_bytes_all_max: usize::MAX,
            input_bytes_all_max: usize::MAX,
            recent_bytes_max: 8 << 20,
            unfinished_bytes_max: 16 << 20,
        }
    }
}
