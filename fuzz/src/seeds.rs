//! Inputs to begin with: the golden bytes of the core crate, and topics.

const PACKETS: [(&str, &str); 2] = [
    ("v311", include_str!("../../core/tests/golden/packets-v311.txt")),
    ("v5", include_str!("../../core/tests/golden/packets-v5.txt")),
];
const BATCHES: [(&str, &str); 2] = [
    ("events", include_str!("../../core/tests/golden/events-v1.txt")),
    ("batch", include_str!("../../core/tests/golden/batch-v1.txt")),
];
const TOPICS: [&str; 8] = [
    "a/b/c\na/b/c\na/+/c\n+/+/+\n#\na/#\na/b/c/#\n+\na/b",
    "$SYS/broker\n#\n+/broker\n$SYS/#\n$SYS/+",
    "/\n+/+\n/\n/#\n/+\n+/",
    "a//b\na/+/b\na//#\n+//b",
    "sport\nsport/#\nsport/+\n#",
    "x\n$share/g/x\n$share/g/#\n$share/g\n$share//x\n$share/+/x\n$sharex/y",
    "a+b\n#a\na#\n+a\na/#/b",
    "\u{e4}/\u{20ac}/\u{1f600}\n\u{e4}/+/\u{1f600}\n\u{e4}/#",
];
const ACLS: [&str; 4] = [
    "c\nu\na/b\ntopic read a/#\nuser u\ntopic write a/+\ntopic deny a/b/#\ntopic readwrite my topic",
    "c\nu v\nx/c/u v\n# comment\n\npattern read x/%c/%u\nuser u v\npattern deny %u/y-%c/#",
    "+\n#\n$SYS/x\npattern %c/#\npattern read $SYS/#\npattern deny %u",
    "c\nu\n$share/g/a/+/#\ntopic read a/#\ntopic deny a/+\ntopic deny a/+/+/#\ntopic read a",
];

/// Seeds of a target by name; none for an unknown target.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "packet_decode" => golden(&PACKETS, ""),
        "event_batch" => golden(&BATCHES, ".canonical"),
        "topic_filter" => texts("topics", &TOPICS),
        "acl_file" => texts("acl", &ACLS),
        _ => Vec::new(),
    }
}

fn texts(name: &str, texts: &[&str]) -> Vec<(String, Vec<u8>)> {
    let texts = (0..).zip(texts);
    texts.map(|(number, text)| (format!("{name}-{number}"), text.as_bytes().into())).collect()
}

/// The lines `NAME = HEX` of golden files, but for names that end in `without`.
fn golden(files: &[(&str, &str)], without: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (file, text) in files {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (name, hex) in lines.filter_map(|line| line.split_once(" = ")) {
            if without.is_empty() || !name.ends_with(without) {
                seeds.push((format!("{file}-{name}"), unhex(hex)));
            }
        }
    }
    seeds
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    (0..text.len()).step_by(2).map(|at| digit(at).expect("a golden file holds hex")).collect()
}
