//! What `/readyz` says.

use serde::Serialize;
use serde_json::{Map, Value};

/// One thing that must hold for the node to be ready.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Name of the room or resource, such as `log`.
    pub name: &'static str,
    /// Whether it holds.
    pub ready: bool,
    /// Why it does not hold, for people; absent if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Figures behind it, in base units.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Check {
    /// A check that holds.
    #[must_use]
    pub fn ready(name: &'static str) -> Self {
        Self { name, ready: true, reason: None, details: Map::new() }
    }

    /// A check that does not hold, and why.
    #[must_use]
    pub fn failed(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, ready: false, reason: Some(reason.into()), details: Map::new() }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}

/// The whole answer: ready if every check holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    /// Whether every check holds.
    pub ready: bool,
    /// The checks, in the order in which they were given.
    pub checks: Vec<Check>,
}

impl From<Vec<Check>> for Readiness {
    fn from(checks: Vec<Check>) -> Self {
        Self { ready: checks.iter().all(|check| check.ready), checks }
    }
}
