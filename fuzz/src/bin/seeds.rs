//! Writes the seeds of a target into a folder: `seeds TARGET FOLDER`.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [target, folder] = arguments.as_slice() else {
        eprintln!("usage: seeds TARGET FOLDER");
        return ExitCode::from(2);
    };
    let mut seeds = ledgermq_fuzz::seeds::of(target);
    seeds.extend(ledgermq_fuzz::transport::seeds(target));
    seeds.extend(ledgermq_fuzz::passwords::seeds(target));
    seeds.extend(ledgermq_fuzz::peers::seeds(target));
    if seeds.is_empty() {
        eprintln!("no such target: {target}");
        return ExitCode::from(2);
    }
    for (name, bytes) in seeds {
        if let Err(error) = fs::write(Path::new(folder).join(name), bytes) {
            eprintln!("cannot write to {folder}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
