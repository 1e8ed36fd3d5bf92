//! Counts of a connection, which its node keeps in memory only.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

/// What passed over a client's connection since it was opened, by the name of the count.
pub type Counts = BTreeMap<&'static str, u64>;

/// Asks for the counts of a client's connection; none if it is not connected here.
pub type AskCounts =
    Arc<dyn Fn(&str) -> Pin<Box<dyn Future<Output = Option<Counts>> + Send>> + Send + Sync>;
