//! Nodes that ask to be let in.

use super::*;
use crate::cluster::authority::fingerprint;
use crate::cluster::door::{Door, Entry};
use crate::cluster::frame::{Join, Joined, RefusalCode};
use crate::cluster::members::Standing;
use crate::cluster::token::{Grant, JoinToken};

/// Node 1, a cluster of its own, and a token to join it.
fn founded(has_tls: bool) -> (End, Members, Joining) {
    founded_with(has_tls, ROOM)
}

/// The same with an inbox of that size.
fn founded_with(has_tls: bool, room: usize) -> (End, Members, Joining) {
    let (listener, address) = listener();
    let security = if has_tls { tls(1) } else { Security::Plain };
    let mut one = End::start(1, 1, listener, security, room);
    let members = members(std::slice::from_ref(&address));
    one.update(&members);
    let grant = Grant {
        cluster: CLUSTER,
        id: [5; 8],
        expires_s: now_s() + 60,
        role: Role::Log,
        node: None,
        authority: fingerprint(authority().certificate()),
        addresses: vec![address],
        replaces: None,
    };
    let token = JoinToken::issue(&authority().token_key(), grant).to_string();
    let join = Join {
        token,
        node: 2,
        request: NodeKey::generate().unwrap().request().unwrap(),
        address: "127.0.0.1:1".into(),
        mqtt: vec![],
        role: Role::Log,
    };
    (one, members, Joining { addresses: vec![], join, is_insecure: !has_tls })
}

/// Does with one request what a leader does.
fn serve(one: &mut End, members: &mut Members) {
    let (id, request) = one.wait("a request", |input| match input {
        PeerInput::Join { id, request } => Some((id, request)),
        _ => None,
    });
    let door = Door { authority: authority(), members: &*members, now_s: now_s() };
    let entry = door.check(&request);
    if let Ok(Entry::Propose(change)) = &entry {
        let index = members.index + 1;
        assert!(members.apply(index, change));
    }
    let door = Door { authority: authority(), members: &*members, now_s: now_s() };
    one.answer(id, entry.map(|_| door.joined(&request, 1).unwrap()));
}

#[test]
fn a_node_is_let_in_and_meets_the_others() {
    for has_tls in [true, false] {
        let (mut one, mut members, mut joining) = founded(has_tls);
        let data = tempfile::tempdir().unwrap();
        let dir = ClusterDir::new(data.path());
        let (listener, address) = listener();
        joining.join.address = address;
        joining.join.request = dir.node_key().unwrap().request().unwrap();
        let asking = thread::spawn({
            let joining = joining.clone();
            move || join(&joining).unwrap()
        });
        serve(&mut one, &mut members);
        // It has not heard, and asks again: the answer is the same.
        asking.join().unwrap();
        let asking = thread::spawn(move || join(&joining).unwrap());
        serve(&mut one, &mut members);
        let joined = asking.join().unwrap();
        assert_eq!(joined.members.nodes[&2].standing, Standing::Learner);
        let certificate = authority().issue(2, &public(key(3)), now_s()).unwrap();
        let wrong = Joined { certificate, ..joined.clone() };
        assert!(dir.joined(2, &wrong).unwrap_err().to_string().contains("another key"));
        assert!(!data.path().join("cluster/ca.pem").exists(), "nothing of it was written");
        let loaded = dir.joined(2, &joined).unwrap();
        assert_eq!((loaded.identity.node, loaded.key), (2, members.nodes[&2].key));
        assert!(loaded.authority.is_some(), "it can let in others");
        one.update(&members);
        let security = match has_tls {
            true => Security::Tls(Box::new(loaded.credentials)),
            false => Security::Plain,
        };
        let mut two = End::start(2, 2, listener, security, ROOM);
        two.update(&joined.members);
        one.connected(2);
        two.connected(1);
    }
}

#[test]
fn requests_that_nobody_takes_do_not_pile_up() {
    let (mut one, _, joining) = founded_with(false, 1);
    let address = joining_address(&joining);
    let ask = || {
        let mut bare = Bare::dial(&address);
        bare.send(&Frame::Join(Box::new(joining.join.clone())));
        bare
    };
    // The first one goes away, and its request stays.
    one.set_full(true);
    drop(ask());
    while !one.order(|turning| turning.sockets.has_mail()) {
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..10 {
        assert_eq!(ask().refusal().code, RefusalCode::Busy);
    }
    assert_eq!(one.order(|turning| turning.sockets.drain().count()), 1);
}

#[test]
fn a_refused_node_hears_why() {
    let (mut one, mut members, mut joining) = founded(true);
    joining.join.node = 1;
    let asking = thread::spawn(move || join(&joining).unwrap_err());
    serve(&mut one, &mut members);
    let error = asking.join().unwrap();
    assert!(error.to_string().contains("node 1 is a member already"), "{error}");
}

#[test]
fn who_does_not_lead_names_the_leader() {
    let (mut leader, mut members, mut joining) = founded(true);
    let (listener, follower) = listener();
    let instead = members.nodes[&1].address.clone();
    let mut two = End::start(2, 2, listener, tls(2), ROOM);
    two.update(&members);
    joining.addresses = vec![listener_nobody(), follower];
    joining.join.node = 3;
    let asking = thread::spawn(move || join(&joining).unwrap());
    let id = two.wait("a request", |input| match input {
        PeerInput::Join { id, .. } => Some(id),
        _ => None,
    });
    let refusal = Refusal::new(RefusalCode::NotLeader, "node 2 does not lead");
    two.answer(id, Err(Refusal { instead, ..refusal }));
    serve(&mut leader, &mut members);
    assert!(asking.join().unwrap().members.nodes.contains_key(&3));
}

/// An address where nobody listens.
fn listener_nobody() -> String {
    listener().1
}

#[test]
fn a_node_that_is_not_of_the_cluster_is_not_believed() {
    let (_one, members, mut joining) = founded(true);
    let (listener, address) = listener();
    let stranger = Authority::found(CLUSTER).unwrap();
    let security = Security::Tls(Box::new(credentials(&stranger, 1)));
    let mut false_one = End::start(1, 9, listener, security, ROOM);
    false_one.update(&members);
    // The token's own address is asked, too, so the token must name nobody else.
    let token: JoinToken = joining.join.token.parse().unwrap();
    let grant = Grant { addresses: vec![address], ..token.grant().clone() };
    joining.join.token = JoinToken::issue(&authority().token_key(), grant).to_string();
    let error = join(&joining).unwrap_err();
    assert!(matches!(error, JoinError::Unanswered(_)), "{error}");
    joining.join.token = "lmq1.x".into();
    assert!(matches!(join(&joining), Err(JoinError::Token(_))));
}

#[test]
fn a_node_does_not_ask_itself() {
    let (_one, _, mut joining) = founded(true);
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    own.set_nonblocking(true).unwrap();
    let address = own.local_addr().unwrap().to_string();
    let token: JoinToken = joining.join.token.parse().unwrap();
    let grant = Grant { addresses: vec![address.clone()], ..token.grant().clone() };
    joining.join.token = JoinToken::issue(&authority().token_key(), grant).to_string();
    joining.join.address = address;
    let error = join(&joining).unwrap_err().to_string();
    assert!(error.contains("this node itself"), "{error}");
    assert!(own.accept().is_err(), "nobody came");
}

#[test]
fn before_it_is_let_in_nothing_else_is_heard_of_a_node() {
    let (mut one, _, joining) = founded(false);
    let address = joining_address(&joining);
    let mut bare = Bare::dial(&address);
    bare.send(&Frame::Join(Box::new(joining.join.clone())));
    let is_join = |input| matches!(input, PeerInput::Join { .. }).then_some(());
    one.wait("a request", is_join);
    bare.send(&heartbeat(2, 1, 1));
    assert_eq!(bare.refusal().code, RefusalCode::Malformed);
}

fn joining_address(joining: &Joining) -> String {
    let token: JoinToken = joining.join.token.parse().unwrap();
    token.grant().addresses[0].clone()
}
