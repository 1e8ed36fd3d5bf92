//! The counts of connections, as the API asks for them.

use std::sync::Arc;

use ledgermq_api::v1::{AskCounts, Counts};
use ledgermq_gateway::counts::CountsReader;
use ledgermq_gateway::shard::ConnectionCounts;

/// Asks the gateway.
pub(super) fn asking(reader: CountsReader) -> AskCounts {
    Arc::new(move |client: &str| {
        let (reader, client) = (reader.clone(), client.to_owned());
        Box::pin(async move { reader.counts(&client).await.map(shown) })
    })
}

fn shown(counts: ConnectionCounts) -> Counts {
    let ConnectionCounts {
        messages_received,
        messages_sent,
        bytes_received,
        bytes_sent,
        messages_refused,
        messages_dropped,
    } = counts;
    Counts {
        messages_received,
        messages_sent,
        bytes_received,
        bytes_sent,
        messages_refused,
        messages_dropped,
    }
}
