//! The MQTT edge: listeners, workers that own connections, delivery.
