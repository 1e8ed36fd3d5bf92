//! The log's time.

use std::time::Duration;

use ledgermq_log::store::simulated::SimulatedDisk;

use crate::simulated::{FILE, Simulated, config, drain};
use crate::support::{Bell, push};

#[test]
fn the_time_of_an_idle_log_goes_on_and_no_later_batch_is_below_it() {
    let disk = SimulatedDisk::new(3, FILE);
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    let mut tail = log.tail(1);
    log.run(Duration::from_millis(10));
    let began = log.log.time();
    // The wall clock was put back a little: time goes on at half the pace.
    log.set_wall_back(Duration::from_secs(20));
    log.run(Duration::from_secs(10));
    let told = log.log.time();
    assert_eq!(told.since(began), Duration::from_secs(5));
    push(&mut producer, b"later");
    log.turn().expect("the disk is good");
    log.turn().expect("the disk is good");
    let stamped = drain(&mut tail).last().expect("it is committed").time;
    assert!(told <= stamped && stamped.since(told) < Duration::from_millis(100), "{stamped:?}");
}
