//! SIGKILL under traffic: proves recovery of what the process knew, not of the disk (the page
//! cache survives; see `power`).

use std::time::{Duration, Instant};

use crate::support::broker::Options;
use crate::support::random::Random;
use crate::support::{count_of, traffic::QUEUE, traffic::Traffic};

/// Kills in a run of `./test.sh`.
const KILLS: u64 = 10;

#[test]
#[ignore = "part kill of ./test.sh"]
fn nothing_acknowledged_is_lost_by_kills() {
    campaign(Options::default(), count_of("LEDGERMQ_TEST_KILLS", KILLS));
}

#[test]
#[ignore = "part kill of ./test.sh"]
fn nothing_acknowledged_into_the_page_cache_is_lost_by_kills() {
    campaign(Options::default().set("log.durability", "os-cache"), KILLS / 2);
}

fn campaign(options: Options, kills: u64) {
    let mut random = Random::announced("kill");
    let mut broker = options.set(QUEUE, 100_000_000).start();
    let traffic = Traffic::start(broker.mqtt);
    let mut slowest = Duration::ZERO;
    for n in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.within(50..500)));
        broker.kill();
        if random.within(0..5) == 0 {
            // Once more while it recovers.
            broker.spawn();
            std::thread::sleep(Duration::from_millis(random.within(0..60)));
            broker.kill();
        }
        let started = Instant::now();
        broker.start();
        slowest = slowest.max(started.elapsed());
        if n % 10 == 0 {
            println!("{n} kills, {} arrivals, slowest start {slowest:?}", traffic.arrivals());
        }
    }
    traffic.finish().announce(&format!("{kills} kills, slowest start {slowest:?}"));
    assert_eq!(broker.get("/readyz").0, 200);
}
