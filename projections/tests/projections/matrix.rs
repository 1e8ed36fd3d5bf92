//! What each event changes: event x view, as one table.

use std::collections::BTreeSet;

use ledgermq_projections::checkpoint::Table;

use crate::support::{World, trim};

/// The tables that `event` changes in a world with a bit of everything.
fn changed(event: &str) -> String {
    let mut world = World::default();
    world.fold(
        "open c expiry=100 will=w delay=9
         sub c # qos=2
         pub p a 1 qos=2 retain
         pub c b 1 qos=2 id=1
         start c 1=3:0
         open d expiry=100 will=w delay=9
         close d will
         pub p r 1 retain qos=1
         open e expiry=100
         sub e r qos=1
         open f
         sub f $share/g/s qos=2
         pub p s 1 qos=1
         pub p s 1 qos=2",
    );
    world.views.changes();
    world.fold(event);
    let changes = world.views.changes();
    let tables: BTreeSet<Table> = changes.rows.iter().map(|(table, ..)| *table).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name()).collect();
    format!("{event:<22} {}", names.join(" "))
}

#[test]
fn each_event_changes_what_the_table_says() {
    let events = [
        "node 1 2",
        "open n",
        "open c expiry=100",
        "open d expiry=100",
        "open d clean",
        "close c will",
        "close c expiry=0",
        "expire d",
        "sub c a qos=1",
        "sub e # qos=1",
        "unsub c #",
        "release c 1",
        "start c 2=4:0",
        "receive c 1",
        "progress c 4:0",
        "drop c 4:0 4:0 full",
        "pub p a 1 qos=1",
        "pub p a 1",
        "pub p n 1",
        "pub p a empty retain",
        "pub c x 1 qos=2 id=2",
        "pub - w 1 cause=6:0",
        "sub e $share/h/s qos=1",
        "sub c $share/g/s qos=0",
        "unsub f $share/g/s",
        "pub p s 1 qos=1",
        "pub p s 1",
        "settle f 13:0.g0",
        "start f 4=14:0.g0",
        "drop f 13:0.g0 13:0.g0 large",
        "sdrop $share/g/s 14:0",
        "sdrop $share/g/s 14:0 expired",
        "close f",
        "rules read:a,write:#",
        "rules open",
    ];
    let table: Vec<String> = events.into_iter().map(changed).collect();
    assert_eq!(trim(&table.join("\n")), trim(EXPECTED));
}

const EXPECTED: &str = "
    node 1 2               sessions subscriptions wills counters nodes groups group_owed group_held
    open n                 sessions counters
    open c expiry=100      sessions counters
    open d expiry=100      sessions wills counters
    open d clean           sessions wills counters
    close c will           sessions wills counters
    close c expiry=0       sessions subscriptions owed counters
    expire d               sessions wills counters
    sub c a qos=1          subscriptions owed answers counters
    sub e # qos=1          subscriptions owed answers counters
    unsub c #              subscriptions counters
    release c 1            sessions counters
    start c 2=4:0          sessions counters
    receive c 1            sessions owed counters
    progress c 4:0         sessions owed counters
    drop c 4:0 4:0 full    sessions owed counters
    pub p a 1 qos=1        owed rates counters
    pub p a 1              rates counters
    pub p n 1              topics rates counters
    pub p a empty retain   retained rates counters
    pub c x 1 qos=2 id=2   sessions owed topics rates counters
    pub - w 1 cause=6:0    wills topics rates counters
    sub e $share/h/s qos=1 subscriptions counters groups
    sub c $share/g/s qos=0 subscriptions counters
    unsub f $share/g/s     subscriptions counters groups group_owed group_held
    pub p s 1 qos=1        owed rates counters groups group_owed group_held
    pub p s 1              rates counters groups
    settle f 13:0.g0       counters group_owed group_held
    start f 4=14:0.g0      counters group_held
    drop f 13:0.g0 13:0.g0 large counters group_owed group_held
    sdrop $share/g/s 14:0  counters
    sdrop $share/g/s 14:0 expired counters
    close f                sessions subscriptions counters groups group_owed group_held
    rules read:a,write:#   counters access
    rules open             counters access
";
