//! What is full is told, and holds up nobody else.

use super::*;

/// Sends until the lane is full; answers how many were taken.
fn fill(end: &mut End, to: u64, frame: &Frame) -> usize {
    let mut taken = 0;
    loop {
        match end.send(to, frame) {
            Sent::Taken => taken += 1,
            Sent::Full => return taken,
            Sent::Down => panic!("it is connected"),
        }
        assert!(taken < 10_000, "the lane never fills");
    }
}

#[test]
fn a_peer_that_does_not_read_fills_its_lane_and_holds_up_nobody() {
    let ((near, one), (far, three)) = (listener(), listener());
    let nowhere = listener().1;
    let members = members(&[one.clone(), nowhere, three]);
    let mut one_end = End::start(1, 1, near, Security::Plain, ROOM);
    let mut three = End::start(3, 3, far, Security::Plain, ROOM);
    one_end.update(&members);
    three.update(&members);
    one_end.connected(3);
    three.connected(1);
    let mut lanes = bare_node(&one, 2, 2);
    one_end.connected(2);
    let batch = forward(1, 256 << 10);
    let taken = fill(&mut one_end, 2, &batch);
    assert!(taken >= 8, "{taken}");
    assert_eq!(one_end.send(2, &heartbeat(1, 2, 1)), Sent::Taken, "another lane");
    lanes[1].decoder.set_lane(Lane::Pulse);
    assert_eq!(lanes[1].read(), Some(heartbeat(1, 2, 1)));
    for commit in 0..100 {
        assert_eq!(one_end.send(3, &heartbeat(1, 3, commit)), Sent::Taken);
        assert_eq!(three.frame(1), heartbeat(1, 3, commit), "another peer");
    }
    // Everything that was taken comes, whole and in order.
    lanes[0].decoder.set_lane(Lane::Log);
    for _ in 0..taken {
        assert_eq!(lanes[0].read().as_ref(), Some(&batch));
    }
    assert_eq!(one_end.send(2, &batch), Sent::Taken, "there is room again");
}

#[test]
fn a_log_thread_that_takes_nothing_is_not_buried_and_loses_nothing() {
    for has_tls in [true, false] {
        let (listeners, addresses): (Vec<_>, Vec<_>) = (0..2).map(|_| listener()).unzip();
        let members = members(&addresses);
        let start = |(node, listener)| {
            let security = if has_tls { tls(node) } else { Security::Plain };
            let mut end = End::start(node, u128::from(node), listener, security, 1 << 20);
            end.update(&members);
            end
        };
        let mut ends: Vec<End> = (1..).zip(listeners).map(start).collect();
        ends[0].connected(2);
        ends[1].connected(1);
        ends[1].set_full(true);
        let batch = forward(1, 64 << 10);
        let taken = fill(&mut ends[0], 2, &batch);
        assert_eq!(ends[0].send(2, &heartbeat(1, 2, 9)), Sent::Taken);
        ends[1].set_full(false);
        let (mut batches, mut pulses) = (0, 0);
        while batches < taken || pulses == 0 {
            match ends[1].frame(1) {
                frame if frame == batch => batches += 1,
                frame => {
                    assert_eq!(frame, heartbeat(1, 2, 9));
                    pulses += 1;
                }
            }
        }
        assert_eq!((batches, pulses), (taken, 1));
    }
}

#[test]
fn a_large_frame_passes_over_tls() {
    let mut ends = cluster(2, true);
    ends[0].connected(2);
    ends[1].connected(1);
    let Frame::Forward(one) = forward(1, 256 << 10) else { unreachable!("batches") };
    let count = (15 << 20) / one.batches[0].len();
    let batches = one.batches.iter().cycle().take(count).cloned().collect();
    let large = Frame::Forward(Forward { term: 1, batches });
    assert_eq!(ends[0].send(2, &large), Sent::Taken);
    assert_eq!(ends[1].frame(1), large);
}
