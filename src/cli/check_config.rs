//! `ledgermq check-config`: what would be in force, and why.

use std::io::{self, Write};

use clap::Args;

use super::{Exit, Failure, Output, Settings};
use crate::config::Setting;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let effective = arguments.settings.load()?;
    let mut out = io::stdout().lock();
    let written = match arguments.output {
        Output::Text => text(&effective.settings, &mut out),
        Output::Json => json(&effective.settings, &mut out),
    };
    written.map_err(|error| Failure::new(Exit::Failure, format!("cannot write: {error}")))
}

/// `key = value  # origin`, one a line.
fn text(settings: &[Setting], out: &mut impl Write) -> io::Result<()> {
    let lines: Vec<String> =
        settings.iter().map(|setting| format!("{} = {}", setting.key, setting.value)).collect();
    let width = lines.iter().map(String::len).max().unwrap_or(0);
    for (line, setting) in lines.iter().zip(settings) {
        writeln!(out, "{line:width$}  # {}", setting.origin)?;
    }
    Ok(())
}

fn json(settings: &[Setting], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &serde_json::json!({ "items": settings }))?;
    writeln!(out)
}
