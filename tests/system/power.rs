//! Power cuts under traffic: the file system is shut down below the broker, what was not synced is
//! gone.

use std::time::Duration;

use crate::support::broker::Options;
use crate::support::disk::Disk;
use crate::support::random::Random;
use crate::support::{count_of, traffic::QUEUE, traffic::Traffic};

/// Cuts in a run of `./test.sh`.
const CUTS: u64 = 6;

#[test]
#[ignore = "part power of ./test.sh"]
fn nothing_acknowledged_is_lost_by_power_cuts() {
    let cuts = count_of("LEDGERMQ_TEST_CUTS", CUTS);
    let mut random = Random::announced("power");
    let disk = Disk::new(1024);
    let mut broker =
        Options::default().dir(disk.path().join("data")).set(QUEUE, 100_000_000).start();
    let traffic = Traffic::start(broker.mqtt);
    for n in 1..=cuts {
        std::thread::sleep(Duration::from_millis(random.within(50..700)));
        disk.cut_power();
        // The process may go on for a moment with a disk that fails: it must not acknowledge now.
        std::thread::sleep(Duration::from_millis(random.within(0..50)));
        broker.kill();
        disk.remount();
        broker.start();
        if n % 10 == 0 {
            println!("{n} power cuts, {} arrivals", traffic.arrivals());
        }
    }
    traffic.finish().announce(&format!("{cuts} power cuts"));
    assert_eq!(broker.get("/readyz").0, 200);
}
