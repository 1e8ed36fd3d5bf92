//! Damaged log files under the real binary; every position is tried in process by the log's own
//! tests.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ledgermq_core::packet::QoS;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::Options;
use crate::support::random::Random;

/// Positions tried: half of them flipped, half truncated.
const POSITIONS: u64 = 20;
/// The end of the log in which they lie.
const TAIL_BYTES: u64 = 64 << 10;
/// Messages below the log's watermark, which is renewed every second: none of them may be missing.
const MARKED: usize = 400;
/// Messages above it, each in a write of its own. What is cut off there by someone who shortens the
/// file cannot be told from a write that was never finished; what is changed there can, but for the
/// very last write.
const UNMARKED: usize = 5;

fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(300 + number % 50, b'a' + u8::try_from(number % 26).expect("below 26"));
    payload
}

/// The newest log file of a node that has more than its head.
fn last_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("log/raft")).unwrap().map(|entry| entry.unwrap().path());
    let has_content = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "raftlog") && end(path) > 1_024
    };
    files.filter(has_content).max().expect("a log file")
}

/// Where the content of a file ends; behind it the log has room that it took in advance.
fn end(file: &Path) -> u64 {
    let bytes = std::fs::read(file).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn damage(file: &Path, at: u64, truncate: bool) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    if truncate {
        file.set_len(at).unwrap();
        return;
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

/// A data directory with a log in which a sleeping session is owed all messages.
fn prepare(dir: &Path) {
    let mut broker = BrokerOptions::default().dir(dir).start();
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.disconnect();
    let mut publisher = Options::v5("publisher").persistent().connect(broker.mqtt);
    for number in 0..MARKED + UNMARKED {
        if number == MARKED {
            std::thread::sleep(Duration::from_millis(2_500));
        }
        publisher.publish("t", payload(number), QoS::AtLeastOnce);
    }
    broker.kill();
}

/// How many messages a node with that damage serves, each whole and in its place. `None` if it does
/// not start; it says where the damage is then.
fn served(broker: &mut Broker, damaged: &Path) -> Option<usize> {
    broker.spawn();
    let mut is_ready = false;
    broker.wait_for("ready or an end", |broker| {
        is_ready = broker.stderr().lines().any(|line| line == "ready");
        is_ready || broker.ended().is_some()
    });
    if !is_ready {
        let status = broker.wait_end();
        let stderr = broker.stderr();
        let name = damaged.file_name().unwrap().to_str().unwrap();
        assert!(!status.success());
        assert!(stderr.contains(name) && stderr.contains("byte"), "{stderr}");
        return None;
    }
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    assert!(sleeper.session_present());
    let mut served = 0;
    while let Some(message) = sleeper.message_within(Duration::from_millis(300)) {
        assert!(message.payload == payload(served), "message {served} is served as it was sent");
        served += 1;
    }
    Some(served)
}

#[test]
#[ignore = "part damage of ./test.sh"]
fn a_damaged_log_is_refused_or_cut_at_its_very_end_and_never_served() {
    let mut random = Random::announced("damage");
    let origin = tempfile::tempdir().unwrap();
    prepare(&origin.path().join("data"));
    let length = end(&last_file(&origin.path().join("data")));
    assert!(length > TAIL_BYTES, "the log reaches beyond the part that is damaged");
    let mut cut = 0_u64;
    for n in 0..POSITIONS {
        // The first four lie in the last writes, the others anywhere in the tail.
        let before_end = random.within(if n < 4 { 1..300 } else { 1..TAIL_BYTES });
        let at = length - before_end;
        let truncate = n % 2 == 0;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        copy(&origin.path().join("data"), &data);
        let file = last_file(&data);
        damage(&file, at, truncate);
        let mut broker = BrokerOptions::default().dir(&data).prepare();
        let served = served(&mut broker, &file);
        let how = if truncate { "truncated" } else { "flipped" };
        println!("{how} {before_end} bytes before the end: served {served:?}");
        let Some(served) = served else { continue };
        cut += 1;
        let least = MARKED + if truncate { 0 } else { UNMARKED - 1 };
        assert!(served >= least, "{served} messages are left of at least {least}");
    }
    println!("{POSITIONS} damages: {cut} cut at the end, {} refused", POSITIONS - cut);
}
