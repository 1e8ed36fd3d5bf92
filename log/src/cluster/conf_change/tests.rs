use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cluster::identity::ClusterId;

fn changes() -> impl Strategy<Value = ConfChangeV2> {
    let singles = proptest::collection::btree_map(1..=u64::MAX, 0..3_u8, 0..5);
    let context = proptest::option::of(vec(any::<u64>(), 0..4));
    (0..3_u8, singles, context).prop_map(|(transition, singles, context)| {
        let mut change = ConfChangeV2::new();
        change.set_transition(match transition {
            0 => ConfChangeTransition::Auto,
            1 => ConfChangeTransition::Implicit,
            _ => ConfChangeTransition::Explicit,
        });
        for (node, kind) in singles {
            let mut single = ConfChangeSingle::new();
            single.node_id = node;
            single.set_change_type(match kind {
                0 => ConfChangeType::AddNode,
                1 => ConfChangeType::RemoveNode,
                _ => ConfChangeType::AddLearnerNode,
            });
            change.mut_changes().push(single);
        }
        if let Some(nodes) = context {
            change.context = MemberChange::Promote { nodes }.encode().into();
        }
        change
    })
}

proptest! {
    #[test]
    fn what_protobuf_writes_is_read(change in changes()) {
        let decoded = decode(&encode(&change)).expect("written by protobuf");
        prop_assert_eq!(decoded.raft, change);
    }

    /// What is read at all is what protobuf would write, and it reads the same.
    #[test]
    fn nothing_else_is_read(
        change in changes(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = encode(&change);
        if bytes.is_empty() {
            return Ok(());
        }
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(decoded) = decode(&bytes) {
            prop_assert_eq!(encode(&decoded.raft), bytes.clone());
            let mut parsed = ConfChangeV2::new();
            parsed.merge_from_bytes(&bytes).expect("protobuf reads what is read here");
            prop_assert_eq!(decoded.raft, parsed);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(decoded) = decode(&bytes) {
            prop_assert_eq!(encode(&decoded.raft), bytes);
        }
    }
}

#[test]
fn anything_that_protobuf_would_not_write_is_refused() {
    let cases: [(&str, &[u8]); 14] = [
        ("a zero transition", &[0x08, 0]),
        ("an unknown transition", &[0x08, 3]),
        ("a transition that is not in its shortest form", &[0x08, 0x82, 0]),
        ("a transition twice", &[0x08, 1, 0x08, 1]),
        ("a transition behind a change", &[0x12, 2, 0x10, 1, 0x08, 1]),
        ("a change without a node", &[0x12, 2, 0x08, 1]),
        ("node 0", &[0x12, 2, 0x10, 0]),
        ("an unknown type", &[0x12, 4, 0x08, 3, 0x10, 1]),
        ("a node twice", &[0x12, 2, 0x10, 1, 0x12, 4, 0x08, 1, 0x10, 1]),
        ("an empty context", &[0x1A, 0]),
        ("a context that is none", &[0x1A, 1, 0xFF]),
        ("an unknown field", &[0x20, 1]),
        ("a number too large", &[0x12, 11, 0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
        ("a cut", &[0x12, 3, 0x10, 1]),
    ];
    for (what, bytes) in cases {
        assert!(decode(bytes).is_err(), "{what}");
    }
    let many: Vec<u8> = (1..=17).flat_map(|node| [0x12, 2, 0x10, node]).collect();
    assert!(decode(&many).is_err(), "too many nodes");
    assert!(decode(&many[..64]).is_ok());
}

#[test]
fn an_empty_entry_leaves_the_joint_configuration() {
    let decoded = decode(&[]).expect("raft writes it");
    assert!(decoded.raft.leave_joint() && decoded.members.is_none());
    let leave = propose(&MemberChange::LeaveJoint, &Members::default());
    assert!(leave.leave_joint());
}

#[test]
fn what_is_proposed_moves_raft_and_the_members_alike() {
    let mut members = Members::default();
    let found = MemberChange::Found {
        cluster: ClusterId([1; 16]),
        generation: 1,
        node: 1,
        address: "a:1".into(),
        mqtt: vec![],
        key: [0; 32],
    };
    assert!(members.apply(1, &found));
    let address = MemberChange::Address { node: 1, address: "b:1".into(), mqtt: vec![] };
    let join_for = MemberChange::JoinFor {
        node: 2,
        address: "c:1".into(),
        mqtt: vec![],
        role: crate::cluster::Role::Log,
        key: [0; 32],
        token: [0; 8],
        expires_s: 1,
        at_s: 0,
        replaces: 1,
    };
    let cases = [
        (join_for, "l2", None),
        (MemberChange::Succeed { node: 2, replaces: 1 }, "r1 v2", Some(false)),
        (MemberChange::Succeed { node: 2, replaces: 3 }, "r3", None),
        (found, "v1", None),
        (address, "v1", None),
        (MemberChange::Promote { nodes: vec![2] }, "v2", None),
        (MemberChange::Promote { nodes: vec![2, 3] }, "v2 v3", Some(false)),
        (MemberChange::Demote { nodes: vec![1] }, "l1", None),
        (MemberChange::Withdraw { node: 2 }, "r2", None),
        (MemberChange::Readmit { node: 2 }, "l2", None),
        (MemberChange::Retire { node: 2 }, "r2", None),
        (MemberChange::LeaveJoint, "", None),
    ];
    for (change, raft, joint) in cases {
        let proposed = propose(&change, &members);
        assert_eq!(written(&proposed), raft, "{change:?}");
        assert_eq!(proposed.enter_joint(), joint, "{change:?}");
        let decoded = decode(&encode(&proposed)).expect("proposed");
        assert_eq!((decoded.raft, decoded.members), (proposed, Some(change)));
    }
}

/// As raft writes them: `v` voter, `l` learner, `r` removed.
fn written(change: &ConfChangeV2) -> String {
    let singles = change.changes.iter().map(|single| {
        let kind = match single.change_type {
            ConfChangeType::AddNode => 'v',
            ConfChangeType::AddLearnerNode => 'l',
            ConfChangeType::RemoveNode => 'r',
        };
        format!("{kind}{}", single.node_id)
    });
    singles.collect::<Vec<_>>().join(" ")
}
