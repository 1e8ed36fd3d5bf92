//! Counts of a client's connection, asked of whichever worker holds it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_core::identity::ClientId;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::census::Census;
use crate::inbox::{Inbound, Inbox, Inboxes};
use crate::shard::ConnectionCounts;

/// How long a worker may take to answer: it does so once in every turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the counts of connections; a cheap clone.
#[derive(Clone)]
pub struct CountsReader {
    pub(crate) inboxes: Inboxes,
    pub(crate) census: Arc<Census>,
}

impl CountsReader {
    /// The counts of the connection of `client`, if it is at this node and its worker answers within
    /// two seconds. Needs a tokio runtime with timers.
    pub async fn counts(&self, client: &str) -> Option<ConnectionCounts> {
        if !self.census.is_open.load(Ordering::Relaxed) {
            return None;
        }
        let ask = |inbox: &Inbox| {
            let (answer, asked) = oneshot::channel();
            inbox.push(Inbound::Count(ClientId::from(client), answer));
            asked
        };
        let asked: Vec<_> = self.inboxes.iter().map(ask).collect();
        let any = async {
            for answer in asked {
                if let Ok(Some(counts)) = answer.await {
                    return Some(counts);
                }
            }
            None
        };
        timeout(ANSWER_TIMEOUT, any).await.ok().flatten()
    }
}
