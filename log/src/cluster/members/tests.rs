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

fn join_for(node: u64, token: u8, replaces: u64) -> MemberChange {
    let MemberChange::Join { node, address, mqtt, role, key, token, expires_s, at_s } =
        join(node, token)
    else {
        unreachable!("a joining")
    };
    MemberChange::JoinFor { node, address, mqtt, role, key, token, expires_s, at_s, replaces }
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
    let mut replacing = three();
    assert!(replacing.apply(4, &MemberChange::Promote { nodes: vec![2, 3] }));
    assert!(replacing.apply(5, &join_for(4, 4, 3)));
    let mut held_back = replacing.clone();
    assert!(held_back.apply(6, &join_for(5, 5, 2)));
    assert!(held_back.apply(7, &MemberChange::Withdraw { node: 5 }));
    let succeed = |node, replaces| MemberChange::Succeed { node, replaces };
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
        (&left, join_for(4, 4, 3), MembersError::Retired(3)),
        (&left, join_for(4, 4, 9), MembersError::Unknown(9)),
        (&left, join_for(4, 4, 4), MembersError::Unknown(4)),
        (&left, join_for(4, 4, 1), MembersError::LastVoter),
        (&left, join_for(2, 4, 1), MembersError::Member(2)),
        (&left, join_for(4, 2, 2), MembersError::Spent),
        (&replacing, join_for(5, 5, 3), MembersError::Replaced { node: 3, by: 4 }),
        (&replacing, succeed(4, 2), MembersError::NoSuccessor(4)),
        (&replacing, succeed(1, 3), MembersError::NoSuccessor(1)),
        (&replacing, succeed(9, 3), MembersError::Unknown(9)),
        (&held_back, succeed(5, 2), MembersError::Standing(5)),
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
    for bytes in [&[][..], &[0], &[1], &[2], &[3], &[4]] {
        assert_eq!(Members::decode(bytes), Err(MembersError::Unreadable));
    }
    let mut both = members;
    both.retired.insert(2);
    assert_eq!(Members::decode(&both.encode()), Err(MembersError::Unreadable));
    let succeed = MemberChange::Succeed { node: 4, replaces: 3 };
    let promote = MemberChange::Promote { nodes: vec![1, 2] };
    for change in [found(), join(2, 3), promote, join_for(4, 4, 3), succeed] {
        assert_eq!(MemberChange::decode(&change.encode()), Ok(change));
    }
    // Whom nobody could replace nobody replaces.
    for replaced in [3, 9] {
        let mut members = three();
        members.nodes.get_mut(&3).unwrap().replaces = Some(replaced);
        assert_eq!(Members::decode(&members.encode()), Err(MembersError::Unreadable));
    }
}

/// What the log of a cluster that was replaced a node has; an update must read it.
#[test]
fn the_form_of_a_replacement_stays() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let join = "09040b6e6f64652d343a37303030000002020202020202020202020202020202020202020202020202020202020202020404040404040404ec07840703";
    assert_eq!(hex(join_for(4, 4, 3).encode()), join);
    assert_eq!(hex(MemberChange::Succeed { node: 4, replaces: 3 }.encode()), "0a0403");
    // Whoever does not know that a node is to be replaced reads it not at all.
    let mut members = three();
    members.nodes.get_mut(&3).unwrap().replaces = Some(2);
    let three = hex(three().encode());
    assert_eq!(hex(members.encode()), format!("03{}010302", &three[2..]));
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

/// 1, 2 and 3 vote; 4 comes for 3.
fn replacing() -> Members {
    let mut members = three();
    assert!(members.apply(4, &MemberChange::Promote { nodes: vec![2, 3] }));
    assert!(members.apply(5, &join_for(4, 4, 3)));
    members
}

#[test]
fn the_vote_of_a_node_that_is_replaced_goes_over() {
    let mut members = replacing();
    assert_eq!((members.successor(3), members.nodes[&4].replaces), (Some(4), Some(3)));
    assert_eq!(Members::decode(&members.encode()), Ok(members.clone()));
    assert!(members.apply(6, &MemberChange::Succeed { node: 4, replaces: 3 }));
    assert_eq!(members.voters().collect::<Vec<_>>(), [1, 2, 4]);
    assert!(members.retired.contains(&3) && members.nodes[&4].replaces.is_none());
    assert!(!members.apply(7, &MemberChange::Succeed { node: 4, replaces: 3 }));
}

/// It gets what the other one has by then, and no more.
#[test]
fn who_had_no_vote_leaves_none() {
    let succeed = MemberChange::Succeed { node: 4, replaces: 3 };
    let mut held = replacing();
    assert!(held.apply(6, &MemberChange::Demote { nodes: vec![3] }));
    assert!(held.apply(7, &succeed));
    assert_eq!((held.nodes[&4].standing, held.nodes[&4].is_held), (Standing::Learner, true));
    let mut away = replacing();
    assert!(away.apply(6, &MemberChange::Withdraw { node: 3 }));
    assert!(away.apply(7, &succeed));
    assert_eq!((away.nodes[&4].standing, away.nodes[&4].is_held), (Standing::Learner, false));
}

#[test]
fn a_node_that_comes_for_another_can_be_replaced_itself() {
    let mut members = replacing();
    assert!(members.apply(6, &join_for(5, 5, 4)));
    assert!(members.apply(7, &MemberChange::Succeed { node: 5, replaces: 4 }));
    assert_eq!((members.successor(3), members.nodes[&5].standing), (Some(5), Standing::Learner));
    assert!(members.apply(8, &MemberChange::Succeed { node: 5, replaces: 3 }));
    assert_eq!(members.voters().collect::<Vec<_>>(), [1, 2, 5]);
    assert_eq!(members.retired.iter().collect::<Vec<_>>(), [&3, &4]);
}

/// Whoever is removed, promoted or demoted by an operator takes nobody's place.
#[test]
fn an_operators_word_ends_a_replacement() {
    let changes = [
        MemberChange::Retire { node: 3 },
        MemberChange::Promote { nodes: vec![4] },
        MemberChange::Demote { nodes: vec![4] },
        MemberChange::Retire { node: 4 },
    ];
    for change in changes {
        let mut members = replacing();
        assert!(members.apply(6, &change), "{change:?}");
        assert_eq!(members.successor(3), None, "{change:?}");
        assert_eq!(members.nodes.contains_key(&3), change != MemberChange::Retire { node: 3 });
    }
    // Repairing its log does not.
    let mut members = replacing();
    assert!(members.apply(6, &MemberChange::Withdraw { node: 4 }));
    assert!(members.apply(7, &MemberChange::Readmit { node: 4 }));
    assert_eq!(members.successor(3), Some(4));
}
