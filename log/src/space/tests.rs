//! The levels of room, as a table.

use ledgermq_core::quantity::ByteSize;

use super::*;
use crate::class::Class;

/// A file system of which the test says how much is free.
#[derive(Clone, Default)]
struct Fake(Arc<std::sync::Mutex<(u64, u64)>>);

impl Fake {
    fn set_free(&self, bytes: u64) {
        self.0.lock().expect("one thread").0 = bytes;
    }
}

impl Space for Fake {
    fn free(&mut self) -> io::Result<u64> {
        Ok(self.0.lock().expect("one thread").0)
    }

    fn ballast(&mut self) -> u64 {
        self.0.lock().expect("one thread").1
    }

    fn lay_ballast(&mut self, bytes: u64) -> io::Result<()> {
        let mut space = self.0.lock().expect("one thread");
        *space = (space.0.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?, bytes);
        Ok(())
    }

    fn drop_ballast(&mut self) -> io::Result<()> {
        let mut space = self.0.lock().expect("one thread");
        *space = (space.0 + space.1, 0);
        Ok(())
    }
}

#[test]
fn the_gate_closes_by_class_and_opens_with_a_little_more() {
    let mib = 1 << 20;
    let config = Config {
        file_bytes: ByteSize(8 * mib),
        reserve_publish: ByteSize(32 * mib),
        reserve_open: ByteSize(16 * mib),
        ballast: ByteSize(16 * mib),
        ..Config::default()
    };
    let space = Fake::default();
    let mut monitor = Monitor::new(&config, Box::new(space.clone()));
    // Free MiB, then: publishes accepted, opens accepted, ballast in place.
    let steps: [(u64, bool, bool, bool); 12] = [
        (100, true, true, true),
        (33, true, true, true),
        (31, false, true, true),
        (35, false, true, true),
        (37, true, true, true),
        (15, false, false, true),
        (17, false, false, true),
        (19, false, true, true),
        // Nearly full: the ballast goes, and what it gave is not for messages.
        (3, false, false, false),
        (40, false, true, false),
        // Enough for the ballast and to open again at once.
        (60, true, true, true),
        (100, true, true, true),
    ];
    for (step, (free, publishes, opens, ballast)) in (0_u32..).zip(steps) {
        space.set_free(free * mib);
        let gate = monitor.look(Duration::from_secs(u64::from(step))).expect("it is time");
        let accepts = (gate.accepts(Class::Publish), gate.accepts(Class::Open));
        assert_eq!((accepts, monitor.has_ballast()), ((publishes, opens), ballast), "step {step}");
        assert!(gate.accepts(Class::Progress));
    }
}

#[test]
fn a_fast_writer_is_watched_more_often_than_the_clock_tells() {
    let space = Fake::default();
    space.set_free(1 << 40);
    let mut monitor = Monitor::new(&Config::default(), Box::new(space));
    assert!(monitor.look(Duration::ZERO).is_some());
    assert!(monitor.look(Duration::from_millis(1)).is_none());
    monitor.wrote(20 << 20);
    assert!(monitor.look(Duration::from_millis(2)).is_some());
}

#[test]
fn a_directory_lays_and_drops_its_ballast() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut space = DirSpace::new(dir.path().to_owned());
    assert!(space.free().expect("told") > 0);
    assert_eq!(space.ballast(), 0);
    space.lay_ballast(1 << 20).expect("room");
    assert_eq!(space.ballast(), 1 << 20);
    space.drop_ballast().expect("possible");
    assert_eq!(space.ballast(), 0);
    assert!(space.lay_ballast(u64::MAX >> 2).is_err());
    assert_eq!(space.ballast(), 0, "nothing of it remains");
}
