//! Lays the sources of the configuration over each other, key by key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use ledgermq_gateway::config::Listener;
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::unknown::{self, join};
use super::{Config, ConfigError, Effective, Origin, Setting};

/// Prefix of the environment variables; a further `__` goes one level down.
const PREFIX: &str = "LEDGERMQ_";
/// The one list whose elements are added up, not replaced.
const LISTENER: &str = "gateway.listener";

/// The values so far, and who said them.
pub(super) struct Layers {
    values: Table,
    origins: BTreeMap<String, Origin>,
    /// Every key that exists, with a value of its type.
    known: Table,
}

impl Layers {
    /// The defaults of all sections.
    pub(super) fn defaults() -> Self {
        let values = table(&Config::default());
        let mut example = Config::default();
        example.gateway.listener.push(Listener::default());
        Self { values, origins: BTreeMap::new(), known: table(&example) }
    }

    /// Lays the file at `path` with that `text` over what is there.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let wrong = |error: toml::de::Error| {
            ConfigError::Wrong(format!("{}: {}", path.display(), error.to_string().trim_end()))
        };
        let parsed = DeTable::parse(text).map_err(wrong)?;
        if let Some(unknown) = unknown::find(parsed.get_ref(), &self.known) {
            let line = line(text, unknown.at);
            let place = format!("{}:{line}", path.display());
            return Err(self.unknown(&place, &unknown.key));
        }
        // Types are judged on the file alone, since only its text has lines to show.
        toml::from_str::<Config>(text).map_err(wrong)?;
        let values: Table = toml::from_str(text).map_err(wrong)?;
        merge(&mut self.values, values);
        let origin = |at| Origin::File { path: path.to_owned(), line: line(text, at) };
        mark("", &DeValue::Table(parsed.into_inner()), 0, &origin, &mut self.origins);
        Ok(())
    }

    /// Lays an environment variable over what is there. Only names with a section are values of
    /// the configuration.
    pub(super) fn add_environment(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) else {
            return Ok(());
        };
        let key = key.to_ascii_lowercase().replace("__", ".");
        let wrong = |detail: String| ConfigError::Wrong(format!("environment {name}: {detail}"));
        let value = match get(&self.known, &key) {
            None => return Err(self.unknown(&format!("environment {name}"), &key)),
            Some(Value::Table(_) | Value::Array(_)) => {
                return Err(wrong(format!("{key} cannot be set by the environment")));
            }
            Some(Value::Boolean(_)) => {
                let value: Result<bool, _> = text.parse();
                value.map(Value::from).map_err(|_| wrong(format!("{text:?} is not true or false")))
            }
            Some(Value::Integer(_)) => {
                let value: Result<i64, _> = text.parse();
                value.map(Value::from).map_err(|_| wrong(format!("{text:?} is no whole number")))
            }
            Some(Value::String(_) | Value::Float(_) | Value::Datetime(_)) => Ok(text.into()),
        }?;
        self.set(&key, value, Origin::Environment { name: name.to_owned() });
        let checked = Config::deserialize(self.values.clone());
        checked.map(|_| ()).map_err(|error| wrong(error.message().to_owned()))
    }

    /// Lays the value of a flag over what is there.
    pub(super) fn add_flag(&mut self, key: &str, flag: &'static str, value: Value) {
        self.set(key, value, Origin::Flag { name: flag });
    }

    /// Puts the list of a flag in the place of what is there.
    pub(super) fn add_flag_list(&mut self, key: &str, flag: &'static str, values: &[String]) {
        let is_item =
            |path: &String| path.strip_prefix(key).is_some_and(|rest| rest.starts_with('['));
        self.origins.retain(|path, _| !is_item(path));
        for nth in 0..values.len() {
            self.origins.insert(format!("{key}[{nth}]"), Origin::Flag { name: flag });
        }
        self.set(key, values.to_vec().into(), Origin::Flag { name: flag });
    }

    /// Adds a listener for MQTT to those that are there.
    pub(super) fn add_listener(&mut self, address: SocketAddr, flag: &'static str) {
        let listener = table(&Listener { address, ..Listener::default() });
        self.push_listener(listener, &Origin::Flag { name: flag });
    }

    /// The configuration that the layers make together.
    pub(super) fn finish(mut self) -> Result<Effective, ConfigError> {
        let read = |values: &Table| {
            Config::deserialize(values.clone())
                .map_err(|error| ConfigError::Wrong(error.message().to_owned()))
        };
        for listener in read(&self.values)?.gateway.listeners().iter().skip(self.listeners()) {
            self.push_listener(table(listener), &Origin::Default);
        }
        // Once more through the types, so that defaults within a listener show too.
        let config = read(&self.values)?;
        let mut settings = Vec::new();
        flatten("", &Value::Table(table(&config)), &self.origins, &mut settings);
        Ok(Effective { config, settings })
    }

    fn push_listener(&mut self, listener: Table, origin: &Origin) {
        let path = format!("{LISTENER}[{}]", self.listeners());
        for key in listener.keys() {
            self.origins.insert(join(&path, key), origin.clone());
        }
        if let Some(Value::Array(items)) = get_mut(&mut self.values, LISTENER) {
            items.push(Value::Table(listener));
        }
    }

    fn listeners(&self) -> usize {
        get(&self.values, LISTENER).and_then(Value::as_array).map_or(0, Vec::len)
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        if let Some(slot) = get_mut(&mut self.values, key) {
            *slot = value;
            self.origins.insert(key.to_owned(), origin);
        }
    }

    fn unknown(&self, place: &str, key: &str) -> ConfigError {
        let nearest = unknown::nearest(key, &self.known);
        let hint = nearest.map_or(String::new(), |nearest| format!("; did you mean {nearest}?"));
        ConfigError::Wrong(format!("{place}: there is no key {key}{hint}"))
    }
}

fn table(value: &impl serde::Serialize) -> Table {
    Table::try_from(value).expect("sections have string keys and values that TOML can hold")
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
    }
}

fn get_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => get_mut(table.get_mut(section)?.as_table_mut()?, rest),
    }
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Remembers `origin` for every value below `path`.
fn mark(
    path: &str,
    value: &DeValue<'_>,
    at: usize,
    origin: &impl Fn(usize) -> Origin,
    origins: &mut BTreeMap<String, Origin>,
) {
    match value {
        DeValue::Table(table) => table.iter().for_each(|(key, value)| {
            let path = join(path, key.get_ref());
            mark(&path, value.get_ref(), key.span().start, origin, origins);
        }),
        DeValue::Array(items) => items.iter().enumerate().for_each(|(nth, item)| {
            mark(&format!("{path}[{nth}]"), item.get_ref(), item.span().start, origin, origins);
        }),
        _ => {
            origins.insert(path.to_owned(), origin(at));
        }
    }
}

fn flatten(
    path: &str,
    value: &Value,
    origins: &BTreeMap<String, Origin>,
    settings: &mut Vec<Setting>,
) {
    match value {
        Value::Table(table) => {
            table.iter().for_each(|(key, value)| {
                flatten(&join(path, key), value, origins, settings);
            });
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(nth, item)| {
            flatten(&format!("{path}[{nth}]"), item, origins, settings);
        }),
        value => {
            let origin = origins.get(path).cloned().unwrap_or(Origin::Default);
            settings.push(Setting { key: path.to_owned(), value: value.clone(), origin });
        }
    }
}

/// The line, from 1, of the byte `at` of `text`.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
