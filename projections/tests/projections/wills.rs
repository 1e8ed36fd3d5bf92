//! Wills fire once or not at all.

use crate::support::World;

fn folded(given: &str) -> World {
    let mut world = World::default();
    world.fold(given);
    world
}

/// `[MQTT-3.1.2-10]` `[MQTT311-3.1.2-10]`
#[test]
fn a_will_without_delay_is_due_at_once_and_fires_once() {
    let mut world = folded("open c will=w\n close c will");
    assert_eq!(world.due(0), "will w of 1:0");
    assert_eq!(world.due(0), "");
    assert_eq!(world.views.pending_wills(), 0);
}

/// `[MQTT-3.1.2-10]`
#[test]
fn a_normal_disconnect_discards_the_will() {
    assert_eq!(folded("open c will=w\n close c").due(1_000), "");
}

/// `[MQTT-3.1.2-8]`
#[test]
fn a_delayed_will_waits_for_the_delay_or_the_end_of_the_session() {
    let mut world = folded("open c expiry=100 will=w delay=30\n close c will");
    assert_eq!(world.due(29), "");
    assert_eq!(world.due(30), "will w of 1:0 delayed");
    let mut world = folded("open c expiry=20 will=w delay=30\n close c will");
    assert_eq!(world.due(20), "will w of 1:0 delayed\nexpired c");
    assert_eq!(world.due(100), "");
    let mut world = folded("open c will=w delay=30\n close c will");
    assert_eq!(world.due(0), "will w of 1:0");
}

/// `[MQTT-3.1.3-9]`
#[test]
fn resuming_the_session_in_time_calls_a_delayed_will_off() {
    let given = "open c expiry=100 will=w delay=30\n close c will\n time 29\n open c expiry=100";
    assert_eq!(folded(given).due(1_000), "");
}

#[test]
fn a_delayed_will_whose_time_has_come_fires_though_the_session_is_resumed() {
    let given = "open c expiry=100 will=w delay=30\n close c will\n time 30\n open c expiry=100";
    assert_eq!(folded(given).due(30), "will w of 1:0");
}

#[test]
fn clean_start_makes_a_delayed_will_due() {
    let given = "open c expiry=100 will=w delay=30\n close c will\n time 3\n open c clean";
    assert_eq!(folded(given).due(3), "will w of 1:0");
}

#[test]
fn a_logged_expiry_makes_a_delayed_will_due() {
    let given = "open c expiry=100 will=w delay=30\n close c will\n time 3\n expire c";
    assert_eq!(folded(given).due(3), "will w of 1:0");
}

#[test]
fn a_takeover_fires_the_will_unless_it_is_delayed_and_the_session_goes_on() {
    let opened = |delay: u32| format!("open c expiry=9 will=w delay={delay}");
    assert_eq!(folded(&format!("{}\n open c expiry=9", opened(0))).due(0), "will w of 1:0");
    assert_eq!(folded(&format!("{}\n open c expiry=9", opened(5))).due(99), "");
    assert_eq!(folded(&format!("{}\n open c clean", opened(5))).due(0), "will w of 1:0");
    assert_eq!(folded("open c will=w delay=5\n open c").due(0), "will w of 1:0");
}

#[test]
fn a_restart_of_the_node_fires_the_wills_of_all_its_sessions() {
    let mut world =
        folded("open a will=x; open b will=y\n open c expiry=9 will=z delay=5\n node 1 2");
    assert_eq!(world.due(0), "will x of 1:0\nwill y of 1:1");
    assert_eq!(world.due(5), "will z of 2:0 delayed");
    assert_eq!(world.due(9), "expired c");
    assert_eq!(world.due(9), "");
}

#[test]
fn wills_of_two_epochs_do_not_mix() {
    let mut world = folded(
        "open c expiry=9 will=x
         close c will
         open c expiry=9 will=y
         close c will",
    );
    assert_eq!(world.due(0), "will x of 1:0\nwill y of 3:0");
    assert_eq!(world.due(0), "");
}
