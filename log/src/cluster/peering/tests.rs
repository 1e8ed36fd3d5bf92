use std::sync::Arc;

use super::*;
use crate::cluster::members::{MemberChange, Members, Role};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const ZERO: Duration = Duration::ZERO;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn members(nodes: u64) -> Members {
    let mut members = Members::default();
    members.apply(
        1,
        &MemberChange::Found {
            cluster: CLUSTER,
            generation: 1,
            node: 1,
            address: "node-1:7000".into(),
            mqtt: vec![],
            key: [0; 32],
        },
    );
    for node in 2..=nodes {
        let change = MemberChange::Join {
            node,
            address: format!("node-{node}:7000"),
            mqtt: vec![],
            role: Role::Log,
            key: [0; 32],
            token: node.to_le_bytes(),
            expires_s: 1,
            at_s: 0,
        };
        assert!(members.apply(node, &change));
    }
    members
}

fn local(members: Members) -> Local {
    Local {
        members: Arc::new(members),
        start: 5,
        last: (10, 2),
        commit: 9,
        first: 1,
        leaving: [].into(),
        starts: [(1, 5), (2, 5)].into(),
    }
}

/// Node `node` of a cluster of three, process `boot`.
fn node(node: u64, boot: u128) -> Peering {
    let (version, address) = ("0.1.0".into(), format!("node-{node}:7000"));
    let mut peering =
        Peering::new(Me { cluster: CLUSTER, generation: 1, node, boot, version, address });
    assert_eq!(peering.update(ZERO, local(members(3))), []);
    peering
}

/// `dialler` dials `other` and both greet on the lanes; answers whether it is up at both ends.
fn meet(
    now: Duration,
    dialler: &mut Peering,
    other: &mut Peering,
    lanes: &[Lane],
) -> Result<(Greeted, Greeted), Refusal> {
    let peer = other.me.node;
    let dials = dialler.dial(now);
    let dial = dials.iter().find(|dial| dial.peer == peer).expect("it is time to dial");
    let session = dial.session;
    let mut last = None;
    for &lane in lanes {
        let hello = dialler.hello(peer, session, lane).expect("the session is there");
        let theirs = other.greet(now, Way::Accepted, &hello, None)?;
        let answer = other.hello(dialler.me.node, theirs.session, lane).expect("it is there");
        let way = Way::Dialled { peer, session, lane };
        last = Some((dialler.greet(now, way, &answer, None)?, theirs));
    }
    Ok(last.expect("a lane"))
}

#[test]
fn the_lower_number_dials_and_the_higher_one_when_it_has_waited() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let dialled = |peering: &mut Peering, now| -> Vec<u64> {
        peering.dial(now).iter().map(|dial| dial.peer).collect()
    };
    assert_eq!(dialled(&mut one, ZERO), [2, 3]);
    assert_eq!(dialled(&mut one, ZERO), [0_u64; 0], "they are being dialled");
    assert_eq!(dialled(&mut two, ZERO), [3]);
    assert_eq!(two.next(), Some(secs(3)));
    assert_eq!(dialled(&mut two, secs(3)), [1]);
}

#[test]
fn a_session_is_up_when_all_lanes_have_greeted() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let (mine, theirs) = meet(ZERO, &mut one, &mut two, &Lane::ALL[..2]).expect("they may");
    assert!(!mine.is_up && !theirs.is_up && !one.is_up(2));
    let hello = one.hello(2, mine.session, Lane::Bulk).expect("it is there");
    assert_eq!((hello.last, hello.members_index), ((10, 2), 3));
    let theirs = two.greet(ZERO, Way::Accepted, &hello, None).expect("they may");
    assert!(theirs.is_up && theirs.replaced.is_none());
    let again = two.greet(ZERO, Way::Accepted, &hello, None).unwrap_err();
    assert_eq!(again.code, RefusalCode::Busy);
    let answer = two.hello(1, theirs.session, Lane::Bulk).expect("it is there");
    let way = Way::Dialled { peer: 2, session: mine.session, lane: Lane::Bulk };
    assert!(one.greet(ZERO, way, &answer, None).expect("they may").is_up);
    assert!(one.is_up(2) && two.is_up(1));
    let ended = two.lost(ZERO, 1, theirs.session).expect("it was there");
    assert!(ended.was_up && !two.is_up(1));
    assert_eq!(two.lost(ZERO, 1, theirs.session), None);
}

#[test]
fn pauses_grow_and_are_forgotten_when_a_session_has_lasted() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let mut now = ZERO;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let dials = one.dial(now);
        let dial = dials.iter().find(|dial| dial.peer == 2).expect("it is time");
        one.lost(now, 2, dial.session).expect("it was there");
        let next = one.peers[&2].next_dial;
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses.is_sorted() && pauses[0] < secs(1) && pauses[9] < secs(2), "{pauses:?}");
    assert!(pauses[9] >= secs(1));
    // One that breaks right after it came up is as bad as none.
    let (mine, theirs) = meet(now, &mut one, &mut two, &Lane::ALL).expect("they may");
    now += secs(1);
    one.lost(now, 2, mine.session).expect("it was there");
    two.lost(now, 1, theirs.session).expect("it was there");
    assert!(one.peers[&2].next_dial - now >= secs(1));
    now = one.peers[&2].next_dial;
    let (mine, _) = meet(now, &mut one, &mut two, &Lane::ALL).expect("they may");
    now += STABLE;
    one.lost(now, 2, mine.session).expect("it was there");
    assert!(one.peers[&2].next_dial - now < secs(1));
}

#[test]
fn who_is_refused_for_what_will_hold_asks_rarely() {
    for (code, is_long) in [
        (RefusalCode::Retired, true),
        (RefusalCode::RolledBack, true),
        (RefusalCode::Busy, false),
        (RefusalCode::Cloned, false),
        (RefusalCode::Stopping, false),
    ] {
        let mut one = node(1, 1);
        let dials = one.dial(ZERO);
        let dial = dials.iter().find(|dial| dial.peer == 2).expect("it is time");
        one.refused(2, code);
        one.lost(ZERO, 2, dial.session).expect("it was there");
        let next = one.peers[&2].next_dial;
        assert_eq!(next >= REFUSED_PAUSE, is_long, "{code:?}: {next:?}");
        // It is asked again all the same, and the next reason counts by itself.
        let dials = one.dial(next);
        let dial = dials.iter().find(|dial| dial.peer == 2).expect("it is time");
        one.lost(next, 2, dial.session).expect("it was there");
        assert!(one.peers[&2].next_dial - next < secs(6));
    }
}

#[test]
fn a_session_that_does_not_come_up_is_given_up() {
    let mut one = node(1, 1);
    let dials = one.dial(ZERO);
    assert_eq!(one.overdue(secs(4)), []);
    assert_eq!(one.next(), Some(secs(5)));
    let overdue = one.overdue(secs(5));
    assert_eq!(overdue.len(), 2);
    assert!(overdue[0].session == dials[0].session && !overdue[0].was_up);
}

/// What a changed greeting of node 2 is told by node 1, which has no session with it.
fn greet(change: impl FnOnce(&mut Hello)) -> Result<Greeted, Refusal> {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let dials = two.dial(secs(3));
    let dial = dials.iter().find(|dial| dial.peer == 1).expect("it has waited");
    let mut hello = two.hello(1, dial.session, Lane::Log).expect("it is there");
    change(&mut hello);
    one.greet(ZERO, Way::Accepted, &hello, Some(Shown { cluster: CLUSTER, node: 2, key: [0; 32] }))
}

#[test]
fn each_check_of_a_greeting_has_a_code_and_a_text_of_its_own() {
    assert!(greet(|_| {}).is_ok());
    type Case = (fn(&mut Hello), RefusalCode, &'static str);
    let cases: [Case; 6] = [
        (|hello| hello.cluster = ClusterId([9; 16]), RefusalCode::Cluster, "this is cluster 0101"),
        (|hello| hello.generation = 2, RefusalCode::Generation, "restored from a backup"),
        (|hello| hello.node = 3, RefusalCode::Certificate, "the certificate is for node 2"),
        (|hello| hello.start = 4, RefusalCode::RolledBack, "the log knows its start 5"),
        (|hello| hello.node = 1, RefusalCode::Certificate, "the certificate is for node 2"),
        (|hello| hello.node = 9, RefusalCode::Certificate, "not for node 9"),
    ];
    for (change, code, text) in cases {
        let refusal = greet(change).expect_err(text);
        assert!(refusal.code == code && refusal.text.contains(text), "{refusal:?}");
    }
    let plain = |number, index| {
        let mut one = node(1, 1);
        let mut retired = members(3);
        assert!(retired.apply(4, &MemberChange::Retire { node: 3 }));
        one.update(ZERO, local(retired));
        let mut two = node(2, 2);
        let session = two.dial(secs(3))[0].session;
        let mut hello = two.hello(1, session, Lane::Log).expect("it is there");
        (hello.node, hello.members_index) = (number, index);
        one.greet(ZERO, Way::Accepted, &hello, None)
    };
    assert_eq!(plain(1, 4).unwrap_err().code, RefusalCode::Cloned);
    assert_eq!(plain(3, 4).unwrap_err().code, RefusalCode::Retired);
    assert_eq!(plain(9, 4).unwrap_err().code, RefusalCode::Unknown);
    assert!(plain(9, 5).is_ok(), "it knows of members that are not known here");
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let stolen = Some(Shown { cluster: CLUSTER, node: 2, key: [1; 32] });
    let session =
        two.dial(secs(3)).iter().find(|dial| dial.peer == 1).expect("it has waited").session;
    let hello = two.hello(1, session, Lane::Log).expect("it is there");
    let refusal = one.greet(ZERO, Way::Accepted, &hello, stolen).unwrap_err();
    assert!(
        refusal.code == RefusalCode::Certificate && refusal.text.contains("key"),
        "{refusal:?}"
    );
}

#[test]
fn who_is_unknown_is_not_let_in_while_a_member_could_tell_of_it() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    meet(ZERO, &mut one, &mut two, &Lane::ALL).expect("they may");
    let mut three = node(3, 3);
    let session = three.dial(secs(3))[0].session;
    let mut hello = three.hello(1, session, Lane::Log).expect("it is there");
    (hello.node, hello.members_index) = (9, 1_000);
    let refusal = one.greet(secs(3), Way::Accepted, &hello, None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unknown);
    let mut silent = Peering::new(one.me.clone());
    assert_eq!(
        silent.greet(ZERO, Way::Accepted, &hello, None).unwrap_err().code,
        RefusalCode::Busy
    );
}

#[test]
fn a_second_process_of_a_live_node_is_refused_until_the_first_is_silent() {
    let (mut one, mut two, mut clone) = (node(1, 1), node(2, 2), node(2, 22));
    meet(ZERO, &mut one, &mut two, &Lane::ALL).expect("they may");
    one.heard(secs(9), 2);
    let greet = |one: &mut Peering, clone: &mut Peering, now| {
        let dials = clone.dial(now);
        let session = dials.iter().find(|dial| dial.peer == 1).expect("it has waited").session;
        let hello = clone.hello(1, session, Lane::Log).expect("it is there");
        let greeted = one.greet(now, Way::Accepted, &hello, None);
        clone.lost(now, 1, session);
        greeted
    };
    let refusal = greet(&mut one, &mut clone, secs(10)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Cloned);
    assert!(one.is_up(2));
    let refusal = greet(&mut one, &mut clone, secs(20)).unwrap_err();
    assert!(refusal.text.contains("cloned"), "the first is silent: {refusal}");
    clone.local.start = 4;
    let refusal = greet(&mut one, &mut clone, secs(30)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::RolledBack);
    clone.local.start = 6;
    let greeted = greet(&mut one, &mut clone, secs(40)).expect("it began later");
    assert!(greeted.replaced.expect("the first session").was_up);
}

#[test]
fn a_dialler_that_comes_again_replaces_its_session() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let (mine, theirs) = meet(ZERO, &mut one, &mut two, &Lane::ALL).expect("they may");
    let old = one.hello(2, mine.session, Lane::Log).expect("it is there");
    one.lost(ZERO, 2, mine.session).expect("it was there");
    let (_, again) = meet(secs(1), &mut one, &mut two, &Lane::ALL[..1]).expect("they may");
    let replaced = again.replaced.expect("the other end had not noticed");
    assert!(again.session != theirs.session && replaced.session == theirs.session);
    let late = two.greet(secs(1), Way::Accepted, &old, None).unwrap_err();
    assert_eq!(late.code, RefusalCode::Busy, "a greeting of the old session");
}

#[test]
fn when_both_dial_one_session_stays() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let mine = one.dial(ZERO)[0].session;
    let dials = two.dial(secs(3));
    let theirs = dials.iter().find(|dial| dial.peer == 1).expect("it has waited").session;
    // The lower number's was answered on one lane when the other's comes.
    let hello = one.hello(2, mine, Lane::Log).expect("it is there");
    let greeted = two.greet(secs(3), Way::Accepted, &hello, None).expect("it gives way");
    assert_eq!(greeted.replaced.expect("its own").session, theirs);
    let answer = two.hello(1, greeted.session, Lane::Log).expect("it is there");
    let way = Way::Dialled { peer: 2, session: mine, lane: Lane::Log };
    one.greet(secs(3), way, &answer, None).expect("they may");
    let late = Hello { session: 77, lane: Lane::Log, ..answer };
    let refusal = one.greet(secs(3), Way::Accepted, &late, None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
    assert_eq!(two.hello(1, theirs, Lane::Log), None, "its own is over");
}

/// As after a partition: both have said hello before they hear the other.
#[test]
fn when_both_greet_before_they_hear_the_other_one_session_stays() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let mine = one.dial(ZERO)[0].session;
    let dials = two.dial(secs(3));
    let theirs = dials.iter().find(|dial| dial.peer == 1).expect("it has waited").session;
    let now = Duration::from_millis(2_900);
    let of_one = Lane::ALL.map(|lane| one.hello(2, mine, lane).expect("it is there"));
    let of_two = two.hello(1, theirs, Lane::Log).expect("it is there");
    let refusal = one.greet(now, Way::Accepted, &of_two, None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
    for (lane, hello) in Lane::ALL.into_iter().zip(&of_one) {
        let greeted = two.greet(now, Way::Accepted, hello, None).expect("it gives way");
        let answer = two.hello(1, greeted.session, lane).expect("it is there");
        one.greet(now, Way::Dialled { peer: 2, session: mine, lane }, &answer, None)
            .expect("they may");
    }
    assert!(one.is_up(2) && two.is_up(1));
}

/// Its way to the other one may be broken, and not the way back.
#[test]
fn a_dialler_that_could_not_say_a_word_gives_way_and_one_that_is_not_answered_does_in_time() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let mine = one.dial(ZERO)[0].session;
    let theirs = two.dial(secs(3)).into_iter().find(|dial| dial.peer == 1).expect("it has waited");
    let hello = two.hello(1, theirs.session, Lane::Log).expect("it is there");
    let greeted = one.greet(secs(1), Way::Accepted, &hello, None).expect("it gives way");
    assert_eq!(greeted.replaced.expect("its own").session, mine);
    one.lost(secs(1), 2, greeted.session).expect("it was there");

    let at = one.peers[&2].next_dial;
    let dials = one.dial(at);
    let mine = dials.iter().find(|dial| dial.peer == 2).expect("it is time").session;
    one.hello(2, mine, Lane::Log).expect("it is there");
    let code = |answer: Result<Greeted, Refusal>| answer.map_err(|refusal| refusal.code);
    let soon = one.greet(at + ALIVE / 2, Way::Accepted, &hello, None);
    assert_eq!(code(soon), Err(RefusalCode::Busy));
    let later = one.greet(at + ALIVE, Way::Accepted, &hello, None).expect("nobody answers");
    assert_eq!(later.replaced.expect("its own").session, mine);
}

#[test]
fn an_answer_to_another_greeting_is_refused() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    let session = one.dial(ZERO)[0].session;
    let hello = one.hello(2, session, Lane::Log).expect("it is there");
    let theirs = two.greet(ZERO, Way::Accepted, &hello, None).expect("they may").session;
    let good = two.hello(1, theirs, Lane::Log).expect("it is there");
    let mut answer = |change: fn(&mut Hello)| {
        let mut hello = good.clone();
        change(&mut hello);
        one.greet(ZERO, Way::Dialled { peer: 2, session, lane: Lane::Log }, &hello, None)
    };
    let code = |answer: Result<Greeted, Refusal>| answer.map_err(|refusal| refusal.code);
    assert_eq!(code(answer(|hello| hello.node = 3)), Err(RefusalCode::Certificate));
    assert_eq!(code(answer(|hello| hello.lane = Lane::Bulk)), Err(RefusalCode::Malformed));
    assert_eq!(code(answer(|hello| hello.session += 1)), Err(RefusalCode::Malformed));
    assert!(answer(|_| {}).is_ok());
}

#[test]
fn the_address_that_a_node_names_itself_is_tried_as_well() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    two.me.address = "moved:7000".into();
    let (mine, _) = meet(ZERO, &mut one, &mut two, &Lane::ALL).expect("they may");
    one.lost(STABLE, 2, mine.session).expect("it was there");
    let address = |one: &mut Peering, now| {
        let dials = one.dial(now);
        let dial = dials.iter().find(|dial| dial.peer == 2).expect("it is time").clone();
        one.lost(now, 2, dial.session).expect("it was there");
        dial.address
    };
    let tried = [address(&mut one, secs(11)), address(&mut one, secs(12))];
    assert_eq!(tried, ["node-2:7000", "moved:7000"]);
}

#[test]
fn sessions_with_nodes_that_left_end() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    meet(ZERO, &mut one, &mut two, &Lane::ALL).expect("they may");
    let mut left = members(3);
    assert!(left.apply(4, &MemberChange::Retire { node: 2 }));
    let ended = one.update(ZERO, local(left));
    assert!(ended.len() == 1 && ended[0].peer == 2 && ended[0].was_up);
    assert!(!one.dial(secs(60)).iter().any(|dial| dial.peer == 2));
}

/// Else the change by which it leaves would never be finished, where the others are no quorum.
#[test]
fn who_leaves_is_spoken_with_until_it_is_needed_no_more() {
    let (mut one, mut two) = (node(1, 1), node(2, 2));
    meet(ZERO, &mut one, &mut two, &Lane::ALL).expect("they may");
    let mut left = members(3);
    assert!(left.apply(4, &MemberChange::Retire { node: 2 }));
    let leaving = Local { leaving: [2].into(), ..local(left.clone()) };
    assert_eq!(one.update(ZERO, leaving.clone()), []);
    assert!(one.is_up(2));
    // So it is by whoever starts in the middle of it, and does not know it any more; others may be up.
    let (mut again, mut two) = (node(1, 3), node(2, 2));
    assert_eq!(again.update(ZERO, leaving).len(), 0);
    meet(ZERO, &mut again, &mut node(3, 1), &Lane::ALL).expect("it is a member");
    let session = two.dial(secs(3)).iter().find(|dial| dial.peer == 1).expect("time").session;
    let mut hello = two.hello(1, session, Lane::Log).expect("it is there");
    hello.members_index = 3;
    assert!(again.greet(ZERO, Way::Accepted, &hello, None).is_ok());
    assert_eq!(one.update(ZERO, local(left)).len(), 1);
    assert!(!one.is_up(2));
}
