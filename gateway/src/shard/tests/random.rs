//! Random interleavings of one publisher and one persistent subscriber, against a naive client:
//! each message of QoS 1 and 2 comes, in order, at most once a connection, and of QoS 2 once.

mod subscriber;

use std::time::Duration;

use ledgermq_core::event::{Event, MessagePublished};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::packet::{Connect, QoS, SubscriptionOptions};
use proptest::prelude::*;

use crate::shard::ShardLimits;

use super::client::{self, V5};
use super::world::{Peer, World};
use subscriber::Subscriber;

/// What may happen next.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    /// The subscriber answers one of the packets it received.
    Answer(usize),
    /// So many bytes reach the subscriber.
    Write(usize),
    /// The subscriber makes its subscription again; nothing is delivered until that is folded.
    Subscribe,
    Commit,
    Feed,
    Fold,
    Notify,
    Retry,
    Wait(u64),
    /// The subscriber leaves by DISCONNECT or is lost, if it is there.
    Leave(bool),
    /// It comes (back), with this Receive Maximum; taking its own connection over if it is there.
    Come(u16),
    /// The node is killed and starts again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0_u8..3).prop_map(Step::Publish),
        12 => (0_usize..8).prop_map(Step::Answer),
        8 => (1_usize..60).prop_map(Step::Write),
        1 => Just(Step::Subscribe),
        6 => Just(Step::Commit),
        8 => Just(Step::Feed),
        8 => Just(Step::Fold),
        4 => Just(Step::Notify),
        2 => Just(Step::Retry),
        1 => (1_u64..300).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Leave),
        2 => (1_u16..8).prop_map(Step::Come),
    ]
}

fn step_or_crash() -> impl Strategy<Value = Step> {
    prop_oneof![60 => step(), 1 => Just(Step::Crash)]
}

fn limits() -> impl Strategy<Value = ShardLimits> {
    (1_usize..200, 1_usize..8, 0_usize..600).prop_map(
        |(output_bytes_max, persistent_messages_max, pinned_bytes_max)| ShardLimits {
            output_bytes_max,
            persistent_messages_max,
            pinned_bytes_max,
            ..ShardLimits::default()
        },
    )
}

struct Run {
    world: World,
    limits: ShardLimits,
    /// Where messages come from: a connection of the shard, or another node.
    publisher: Option<Peer>,
    published: u16,
    subscriber: Subscriber,
    peer: Option<Peer>,
    start: u64,
}

impl Run {
    fn new(limits: ShardLimits, is_local: bool) -> Self {
        let mut world = World::with_limits(limits);
        let peer = world.subscriber(client::persistent("c"), "t", 2);
        let publisher = is_local.then(|| world.open(client::connect(V5, "p")));
        let subscriber = Subscriber::new(1000);
        Self { world, limits, publisher, published: 0, subscriber, peer: Some(peer), start: 1 }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish(qos) => self.publish(qos),
            Step::Answer(which) => self.answer(which),
            Step::Write(bytes) => self.write(bytes),
            Step::Subscribe => self.subscribe(),
            Step::Commit => self.world.commit(),
            Step::Feed => {
                self.world.feed();
            }
            Step::Fold => {
                self.world.fold();
            }
            Step::Notify => self.world.notify(),
            Step::Retry => self.world.retry(),
            Step::Wait(milliseconds) => self.world.wait(Duration::from_millis(milliseconds)),
            Step::Leave(is_clean) => self.leave(is_clean),
            Step::Come(window) => self.come(window),
            Step::Crash => self.crash(),
        }
        self.serve_publisher();
        self.listen();
    }

    fn publish(&mut self, qos: u8) {
        self.published += 1;
        let n = self.published;
        let payload = n.to_string();
        self.subscriber.expect(n, qos);
        if let Some(publisher) = self.publisher {
            return self.world.publish(publisher, qos, if qos == 0 { 0 } else { n }, "t", &payload);
        }
        let qos = QoS::from_bits(qos).unwrap();
        let producer = ProducerId { node: 2, start: 1, local: 0 };
        self.world.commit_from(producer, |events| {
            let message = MessagePublished {
                qos,
                retain: false,
                packet_id: None,
                topic: "t",
                message_expiry_interval: None,
                properties: &[],
                payload: payload.as_bytes(),
            };
            events.publish(None, None, &message);
        });
    }

    fn serve_publisher(&mut self) {
        let Some(publisher) = self.publisher else { return };
        for line in self.world.read(publisher) {
            if let Some(id) = line.strip_prefix("PUBREC ") {
                self.world.send(publisher, &client::pubrel(id.parse().unwrap()));
            }
        }
    }

    /// The subscriber takes in what reached it.
    fn listen(&mut self) {
        let Some(peer) = self.peer else { return };
        for line in self.world.received(peer) {
            self.subscriber.take(&line);
        }
        if self.world.is_closed(peer) {
            self.peer = None;
            self.subscriber.is_away();
        }
    }

    fn answer(&mut self, which: usize) {
        let Some(peer) = self.peer else { return };
        if let Some(packet) = self.subscriber.answer(which) {
            self.world.send(peer, &packet);
        }
    }

    fn subscribe(&mut self) {
        let Some(peer) = self.peer.filter(|_| self.subscriber.is_open()) else { return };
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() };
        self.world.send(peer, &client::subscribe_with(1, &[("t", options)], None));
    }

    fn write(&mut self, bytes: usize) {
        let Some(peer) = self.peer else { return };
        let World { now, shards, rest } = &mut self.world;
        shards[0].write_some(*now, peer.token, bytes, rest);
    }

    fn leave(&mut self, is_clean: bool) {
        let Some(peer) = self.peer.take() else { return };
        if is_clean {
            self.world.send(peer, &client::disconnect());
        } else {
            self.world.lose(peer);
        }
        self.subscriber.is_away();
    }

    fn come(&mut self, window: u16) {
        let connect = Connect { receive_maximum: Some(window), ..client::persistent("c") };
        self.subscriber.is_away();
        self.subscriber.is_back(window);
        self.peer = Some(self.world.begin(0, connect));
    }

    fn crash(&mut self) {
        self.start += 1;
        let (node, start) = (1, self.start);
        let producer = ProducerId { node, start, local: 9 };
        self.world.commit_from(producer, |events| {
            events.push(None, None, &Event::NodeStarted { node, start });
        });
        let seat = self.world.add_shard(start, self.limits);
        self.world.shards.swap(0, seat);
        self.world.shards.truncate(1);
        self.peer = None;
        self.subscriber.is_away();
        self.subscriber.may_repeat();
    }

    /// Everything goes well from here on: all that was published comes.
    fn finish(&mut self) {
        if self.peer.is_none() {
            self.come(3);
        }
        for _ in 0..100_000 {
            self.world.settle();
            self.serve_publisher();
            self.listen();
            let Some(peer) = self.peer else { panic!("the connection ended") };
            let Some(packet) = self.subscriber.answer(0) else { break };
            self.world.send(peer, &packet);
        }
        self.world.settle();
        self.world.wait(Duration::from_secs(1));
        self.world.settle();
        self.subscriber.has_all();
        assert_eq!(self.world.rest.views.session("c").unwrap().owed_messages(), 0);
        assert!(!self.world.shard().is_starving());
    }
}

fn run(limits: ShardLimits, is_local: bool, steps: &[Step]) {
    let mut run = Run::new(limits, is_local);
    steps.iter().for_each(|step| run.step(step));
    run.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// `[MQTT-3.8.4-4]` `[MQTT-4.6.0-5]` `[MQTT311-4.6.0-6]`
    #[test]
    fn every_message_comes_once_and_in_order(
        limits in limits(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        run(limits, true, &steps);
    }

    #[test]
    fn a_crash_repeats_qos_1_at_most(
        limits in limits(),
        steps in prop::collection::vec(step_or_crash(), 1..250),
    ) {
        run(limits, false, &steps);
    }
}
