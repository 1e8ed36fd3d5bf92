//! Events become durable and ordered: raft-rs over raft-engine.
