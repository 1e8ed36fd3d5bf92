//! The counts of connections, as the API asks for them.

use std::sync::Arc;

use ledgermq_api::v1::AskCounts;
use ledgermq_gateway::counts::CountsReader;

/// Asks the gateway.
pub(super) fn asking(reader: CountsReader) -> AskCounts {
    Arc::new(move |client: &str| {
        let (reader, client) = (reader.clone(), client.to_owned());
        Box::pin(async move {
            let counts = reader.counts(&client).await?;
            Some(counts.named().into_iter().collect())
        })
    })
}
