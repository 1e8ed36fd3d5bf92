use super::*;

fn found() -> MemberChange {
    MemberChange::Found {
        cluster: ClusterId([7; 16]),
        generation: 1,
        node: 1,
        address: "one:7000".into(),
        mqtt: vec!["one:1883".into()],
        key: [1; 32],
    }
}

fn join(node: u64, token: u8) -> MemberChange {
    MemberChange::Join {
        node,
        address: format!("node-{node}:7000"),
        mqtt: Vec::new(),
        role: Role::Log,
        key: [2; 32],
        token: [token; 8],
        expires_s: 1_000 + u64::from(token),
        at_s: 900,
    }
}

/// A cluster of the voter 1 and the learners 2 and 3.
fn three() -> Members {
    let mut members = Members::default();
    for (index, change) in (1..).zip([found(), join(2, 2), join(3, 3)]) {
        assert!(members.apply(index, &change), "{change:?}");
    }
    members
}

#[test]
fn members_are_the_fold_of_their_changes() {
    let mut members = three();
    assert_eq!(members.voters().collect::<Vec<_>>(), [1]);
    assert!(members.apply(4, &MemberChange::Promote { nodes: vec![2, 3] }));
    assert!(members.apply(5, &MemberChange::LeaveJoint));
    assert_eq!(members.voters().collect::<Vec<_>>(), [1, 2, 3]);
    assert!(members.apply(6, &MemberChange::Withdraw { node: 2 }));
    assert_eq!(members.nodes[&2].standing, Standing::Away);
    assert!(members.apply(7, &MemberChange::Readmit { node: 2 }));
    assert_eq!((members.nodes[&2].standing, members.nodes[&2].joined), (Standing::Learner, 7));
    assert!(members.apply(8, &MemberChange::Retire { node: 1 }));
    assert_eq!(members.voters().collect::<Vec<_>>(), [3]);
    let change = MemberChange::Address { node: 3, address: "new:1".into(), mqtt: vec![] };
    assert!(members.apply(9, &change));
    assert_eq!((members.nodes[&3].address.as_str(), members.index), ("new:1", 9));
}

#[test]
fn a_change_that_does_not_fit_changes_nothing() {
    let mut away = three();
    assert!(away.apply(4, &MemberChange::Withdraw { node: 3 }));
    let mut left = three();
    assert!(left.apply(4, &MemberChange::Retire { node: 3 }));
    let mut held = three();
    assert!(held.apply(4, &MemberChange::Demote { nodes: vec![2] }));
    let none = Members::default();
    let address = |address: &str| MemberChange::Address {
        node: 1,
        address: address.to_owned(),
        mqtt: Vec::new(),
    };
    let cases = [
        (&none, join(2, 2), MembersError::Unfounded),
        (&none, MemberChange::LeaveJoint, MembersError::Unfounded),
        (&away, found(), MembersError::Founded),
        (&away, join(0, 9), MembersError::Nobody),
        (&away, join(2, 9), MembersError::Member(2)),
        (&left, join(3, 9), MembersError::Retired(3)),
        (&left, join(4, 3), MembersError::Spent),
        (&away, address(""), MembersError::Address),
        (&away, address(&"a".repeat(256)), MembersError::Address),
        (&away, address("a b:1"), MembersError::Address),
        (&away, MemberChange::Promote { nodes: vec![] }, MembersError::Nobody),
        (&away, MemberChange::Promote { nodes: vec![1] }, MembersError::Standing(1)),
        (&away, MemberChange::Promote { nodes: vec![3] }, MembersError::Standing(3)),
        (&away, MemberChange::Promote { nodes: vec![2, 2] }, MembersError::Member(2)),
        (&away, MemberChange::Promote { nodes: vec![5] }, MembersError::Unknown(5)),
        (&away, MemberChange::Demote { nodes: vec![1] }, MembersError::LastVoter),
        (&held, MemberChange::Demote { nodes: vec![2] }, MembersError::Standing(2)),
        (&away, MemberChange::Demote { nodes: vec![3] }, MembersError::Standing(3)),
        (&away, MemberChange::Withdraw { node: 1 }, MembersError::LastVoter),
        (&away, MemberChange::Withdraw { node: 3 }, MembersError::Standing(3)),
        (&away, MemberChange::Readmit { node: 2 }, MembersError::Standing(2)),
        (&away, MemberChange::Retire { node: 1 }, MembersError::LastVoter),
        (&left, MemberChange::Retire { node: 3 }, MembersError::Retired(3)),
    ];
    for (members, change, error) in cases {
        assert_eq!(members.check(&change), Err(error), "{change:?}");
        let mut after = members.clone();
        assert!(!after.apply(9, &change));
        assert_eq!(&after, members, "{change:?}");
    }
}

#[test]
fn no_more_nodes_than_there_may_be() {
    let mut members = three();
    for node in 4..=NODES_MAX as u64 {
        assert!(members.apply(node, &join(node, u8::try_from(node).unwrap())));
    }
    assert_eq!(members.check(&join(100, 100)), Err(MembersError::Full));
}

#[test]
fn a_spent_token_is_forgotten_when_it_would_have_expired() {
    let mut members = three();
    let MemberChange::Join { node, address, mqtt, role, key, token, expires_s, .. } = join(4, 4)
    else {
        unreachable!("a joining")
    };
    let late = MemberChange::Join { node, address, mqtt, role, key, token, expires_s, at_s: 1_002 };
    assert!(members.apply(4, &late));
    assert_eq!(members.spent.keys().collect::<Vec<_>>(), [&[3; 8], &[4; 8]]);
}

#[test]
fn members_and_changes_read_back() {
    let members = three();
    assert_eq!(Members::decode(&members.encode()), Ok(members.clone()));
    let mut longer = members.encode();
    longer.push(0);
    assert_eq!(Members::decode(&longer), Err(MembersError::Unreadable));
    for bytes in [&[][..], &[0], &[1], &[2], &[3]] {
        assert_eq!(Members::decode(bytes), Err(MembersError::Unreadable));
    }
    let mut both = members;
    both.retired.insert(2);
    assert_eq!(Members::decode(&both.encode()), Err(MembersError::Unreadable));
    for change in [found(), join(2, 3), MemberChange::Promote { nodes: vec![1, 2] }] {
        assert_eq!(MemberChange::decode(&change.encode()), Ok(change));
    }
}

/// [`three`], as version 1 wrote it.
const THREE_V1: &str = "\
    010707070707070707070707070707070701030301086f6e653a3730303001086f6e653a313838330001010101\
    010101010101010101010101010101010101010101010101010101010101020b6e6f64652d323a373030300000\
    00020202020202020202020202020202020202020202020202020202020202020202030b6e6f64652d333a3730\
    303000000002020202020202020202020202020202020202020202020202020202020202020300020202020202\
    020202ea070303030303030303eb07";
/// And as it is written now.
const THREE_V2: &str = "\
    020707070707070707070707070707070701030301086f6e653a3730303001086f6e653a313838330001010101\
    01010101010101010101010101010101010101010101010101010101010100020b6e6f64652d323a3730303000\
    000002020202020202020202020202020202020202020202020202020202020202020200030b6e6f64652d333a\
    373030300000000202020202020202020202020202020202020202020202020202020202020202030000020202\
    020202020202ea070303030303030303eb07";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_an_earlier_version_wrote_is_read() {
    assert_eq!(three().encode(), bytes(THREE_V2));
    for written in [THREE_V1, THREE_V2] {
        assert_eq!(Members::decode(&bytes(written)), Ok(three()));
    }
}

#[test]
fn a_vote_that_an_operator_took_only_an_operator_gives_back() {
    let mut members = three();
    let both = vec![2, 3];
    assert!(members.apply(4, &MemberChange::Promote { nodes: both.clone() }));
    assert!(members.apply(5, &MemberChange::Demote { nodes: both }));
    assert!(members.nodes[&2].is_held && members.nodes[&3].is_held);
    // Repairing its log does not give it back.
    assert!(members.apply(6, &MemberChange::Withdraw { node: 2 }));
    assert!(members.apply(7, &MemberChange::Readmit { node: 2 }));
    assert!(members.nodes[&2].is_held);
    assert_eq!(Members::decode(&members.encode()), Ok(members.clone()));
    assert!(members.apply(8, &MemberChange::Promote { nodes: vec![2] }));
    assert!(!members.nodes[&2].is_held && members.nodes[&3].is_held);
}
