"""The comparison of LedgerMQ with other brokers that `benches/compare` runs."""
