//! Nodes that may meet.

use super::*;
use crate::cluster::frame::{AWAY, Answer, Pulse, RefusalCode};

/// Each speaks to each on every lane.
fn talk(ends: &mut [End]) {
    let nodes: Vec<u64> = ends.iter().map(|end| end.node).collect();
    let others = |end: &End| -> Vec<u64> {
        nodes.iter().copied().filter(|peer| *peer != end.node).collect()
    };
    for end in &mut *ends {
        // They come in any order.
        let mut awaited = others(end);
        while !awaited.is_empty() {
            let peer = end.wait("a connection", |input| match input {
                PeerInput::Connected { peer, hello } if hello.node == peer => Some(peer),
                _ => None,
            });
            awaited.retain(|awaited| *awaited != peer);
        }
    }
    for end in &mut *ends {
        for peer in others(end) {
            let answer = Frame::Answer { id: end.node, answer: Answer::Done };
            for frame in [heartbeat(end.node, peer, 3), forward(end.node, 100), answer] {
                assert_eq!(end.send(peer, &frame), Sent::Taken);
            }
        }
    }
    for end in ends {
        for peer in others(end) {
            let mut wanted = vec![
                heartbeat(peer, end.node, 3),
                forward(peer, 100),
                Frame::Answer { id: peer, answer: Answer::Done },
            ];
            let mut of_others = Vec::new();
            while !wanted.is_empty() {
                let (from, frame) = end.wait("a frame", |input| match input {
                    PeerInput::Frame { from, frame } => Some((from, frame)),
                    _ => None,
                });
                if from == peer {
                    let at = wanted.iter().position(|wanted| *wanted == frame);
                    wanted.remove(at.unwrap_or_else(|| panic!("{frame:?}")));
                } else {
                    of_others.push(PeerInput::Frame { from, frame });
                }
            }
            end.put_back.extend(of_others);
        }
    }
}

#[test]
fn two_nodes_meet_over_tls() {
    talk(&mut cluster(2, true));
}

#[test]
fn three_nodes_meet_over_tls() {
    talk(&mut cluster(3, true));
}

#[test]
fn three_nodes_meet_in_the_clear_where_that_is_wanted() {
    talk(&mut cluster(3, false));
}

/// Without a word of the other end, which waits for it.
#[test]
fn whoever_dials_greets_first() {
    let ((near, one), (far, two)) = (listener(), listener());
    let mut one_end = End::start(1, 1, near, Security::Plain, ROOM);
    one_end.update(&members(&[one, two]));
    let mut lanes: Vec<Lane> = Lane::ALL
        .iter()
        .map(|_| {
            let (mut socket, _) = far.accept().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            match read(&mut socket, &mut Decoder::new(None)) {
                Some(Frame::Hello(hello)) => hello.lane,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    lanes.sort_unstable();
    assert_eq!(lanes, Lane::ALL);
}

#[test]
fn a_node_that_stops_takes_leave() {
    let mut ends = cluster(2, true);
    ends[0].connected(2);
    ends[1].connected(1);
    let two = ends.pop().expect("two nodes");
    drop(two);
    let one = &mut ends[0];
    let refusal = one.wait("a leave", |input| match input {
        PeerInput::Refused { by: 2, refusal } => Some(refusal),
        _ => None,
    });
    assert_eq!(refusal.code, RefusalCode::Stopping);
    one.disconnected(2);
    assert_eq!(one.send(2, &heartbeat(1, 2, 1)), Sent::Down);
}

#[test]
fn a_session_whose_connection_is_cut_ends_and_comes_again() {
    for (has_tls, lane) in [(true, 0), (true, 1), (true, 2), (false, 0)] {
        let ((near, one), (far, two)) = (listener(), listener());
        let proxy = Proxy::new(two);
        let members = members(&[one, proxy.address.clone()]);
        let security = |node| if has_tls { tls(node) } else { Security::Plain };
        let mut one = End::start(1, 1, near, security(1), ROOM);
        let mut two = End::start(2, 2, far, security(2), ROOM);
        one.update(&members);
        two.update(&members);
        one.connected(2);
        two.connected(1);
        proxy.cut(lane);
        one.disconnected(2);
        two.disconnected(1);
        one.connected(2);
        two.connected(1);
        assert_eq!(one.send(2, &heartbeat(1, 2, 7)), Sent::Taken);
        assert_eq!(two.frame(1), heartbeat(1, 2, 7));
    }
}

#[test]
fn a_node_whose_address_changed_dials_itself() {
    let ((near, one), (far, _)) = (listener(), listener());
    // Nobody listens there any more.
    let gone = listener().1;
    let members = members(&[one, gone]);
    let mut one = End::start(1, 1, near, tls(1), ROOM);
    let mut two = End::start(2, 2, far, tls(2), ROOM);
    one.update(&members);
    two.update(&members);
    one.connected(2);
    two.connected(1);
}

#[test]
fn a_node_that_left_is_told_so() {
    let (listeners, addresses): (Vec<_>, Vec<_>) = (0..2).map(|_| listener()).unzip();
    let mut members = members(&addresses);
    let start = |(node, listener)| End::start(node, u128::from(node), listener, tls(node), ROOM);
    let mut ends: Vec<End> = (1..).zip(listeners).map(start).collect();
    ends.iter_mut().for_each(|end| end.update(&members));
    ends[0].connected(2);
    ends[1].connected(1);
    assert!(members.apply(3, &MemberChange::Retire { node: 2 }));
    ends[0].update(&members);
    ends[0].disconnected(2);
    let refusal = ends[1].wait("a refusal", |input| match input {
        PeerInput::Refused { by: 1, refusal } => Some(refusal),
        _ => None,
    });
    assert_eq!(refusal.code, RefusalCode::Retired);
}

/// A listener whose queue is full: the system leaves whoever dials it without an answer.
fn silent_listener() -> (TcpListener, String, Vec<TcpStream>) {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let wait = Duration::from_millis(200);
    let fill = || TcpStream::connect_timeout(&address, wait).ok();
    let queue = std::iter::from_fn(fill).collect();
    (listener, address.to_string(), queue)
}

#[test]
fn a_node_that_does_not_answer_is_dialled_again_and_found_when_it_does() {
    let (silent, silent_address, queue) = silent_listener();
    let (own, own_address) = listener();
    let members = members(&[own_address, silent_address]);
    let mut one = End::start(1, 1, own, Security::Plain, ROOM);
    one.update(&members);
    // All lanes are given up together.
    thread::sleep(Duration::from_millis(2_000));
    drop(queue);
    silent.set_nonblocking(true).unwrap();
    while silent.accept().is_ok() {}
    silent.set_nonblocking(false).unwrap();
    let mut two = End::start(2, 2, silent, Security::Plain, ROOM);
    two.update(&members);
    talk(&mut [one, two]);
}

/// What was lost on the other lanes meanwhile would be sent again after seconds only.
#[test]
fn a_peer_that_is_heard_again_after_a_while_is_dialled_anew() {
    let mut ends = cluster(2, false);
    talk(&mut ends);
    let pulse = Frame::Pulse(Box::default());
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(700));
        assert_eq!(ends[0].send(2, &pulse), Sent::Taken);
        assert_eq!(ends[1].frame(1), pulse);
    }
    // A log thread looks ten times a second: what did not come was not sent, or lost.
    let miss = |ends: &mut [End]| {
        for _ in 0..17 {
            thread::sleep(Duration::from_millis(100));
            ends[1].order(|_| ());
        }
    };
    // Its disk did not answer, and the way is as it was.
    miss(&mut ends);
    let away = Frame::Pulse(Box::new(Pulse { gate: AWAY, ..Pulse::default() }));
    for frame in [heartbeat(1, 2, 3), away, pulse.clone()] {
        assert_eq!(ends[0].send(2, &frame), Sent::Taken);
        assert_eq!(ends[1].frame(1), frame);
    }
    miss(&mut ends);
    assert_eq!(ends[0].send(2, &pulse), Sent::Taken);
    ends[1].disconnected(1);
    talk(&mut ends);
}

/// It would wait for the other lanes of a session that is over.
#[test]
fn a_session_that_ends_before_it_is_up_is_over_at_both_ends() {
    let ((_far, one), (near, two)) = (listener(), listener());
    let mut end = End::start(2, 2, near, Security::Plain, ROOM);
    end.update(&members(&[one, two.clone()]));
    let greet = |lane| {
        let mut bare = Bare::dial(&two);
        bare.send(&Frame::Hello(Box::new(hello(1, 1, 1, lane))));
        assert!(matches!(bare.read(), Some(Frame::Hello(_))));
        bare
    };
    let [first, mut second] = [Lane::Log, Lane::Pulse].map(greet);
    drop(first);
    // A session that does not come up is given up after five.
    second.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert_eq!(second.read(), None);
}
