//! Publishers and subscribers: `pub` and `pubsub`.

mod layout;
mod measured;
mod publisher;

use std::time::Duration;

use ledgermq_core::packet::{Ack, Packet, Publish, QoS};

pub(crate) use layout::Layout;
use layout::Map;
use measured::{Counts, Measured};
use publisher::{Bound, Message, Publisher};

use super::answer::{answer, settled};
use super::clock::Instant;
use super::connection::Output;
use super::effort::{Snapshot, thousandths};
use super::fleet::Fleet;
use super::latency::Latencies;
use super::opening::{Client, Pace, open};
use super::pacer::Schedule;
use super::payload::{HEAD_BYTES, Head, Run};
use super::progress::Progress;
use super::report::Report;
use super::streams::{Arrival, Stream, Tally};
use super::window::Window;
use super::{BenchError, Brokers, float, names};

/// Time for the last messages to arrive, as long as they keep coming.
const TAIL: Duration = Duration::from_secs(2);
/// Silence after which missing messages of QoS 0 are taken for lost.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How publishers and subscribers belong together.
    pub(crate) layout: Layout,
    /// Publishers.
    pub(crate) publishers: usize,
    /// Subscribers; 0 if nobody listens.
    pub(crate) subscribers: usize,
    /// Topics of each publisher, used in turn.
    pub(crate) topics: usize,
    /// Whether subscribers subscribe by one filter with a wildcard, not by one a topic.
    pub(crate) wildcard: bool,
    /// QoS of messages and subscriptions.
    pub(crate) qos: QoS,
    /// Whether messages are retained.
    pub(crate) retain: bool,
    /// Payload in bytes; smaller ones grow to what counting needs.
    pub(crate) payload_bytes: usize,
    /// Messages of one publisher that are not acknowledged (QoS 0: not delivered).
    pub(crate) window: u16,
    /// Messages a second of all publishers together; otherwise flat out.
    pub(crate) rate: Option<f64>,
    /// Time before the measurement.
    pub(crate) warm_up: Duration,
    /// Time of the measurement.
    pub(crate) measured: Duration,
}

/// Runs `plan` and measures.
pub(crate) fn run(brokers: &Brokers, plan: &Plan) -> Result<Report, BenchError> {
    let mut fleet = Fleet::new(brokers)?;
    let mut traffic = Traffic::new(plan);
    traffic.connect(&mut fleet)?;
    let mut progress = Progress::new(brokers.shows_progress);
    let start = Instant::now();
    traffic.schedule = plan.rate.map(|rate| Schedule::new(start, rate));
    fleet.break_silence();
    traffic.load_until(&mut fleet, start.after(plan.warm_up), &mut progress)?;
    let before = Snapshot::take(&brokers.pids);
    let counts = traffic.counts();
    let began = Instant::now();
    traffic.measured = Some(Measured::new(began, began.after(plan.measured)));
    traffic.load_until(&mut fleet, began.after(plan.measured), &mut progress)?;
    let seconds = Instant::now().since(began).as_secs_f64();
    let after = Snapshot::take(&brokers.pids);
    let counts = traffic.counts().since(counts);
    let unsent = traffic.give_up_unsent();
    traffic.finish(&mut fleet)?;
    let measured = traffic.measured.take();
    drop(progress);
    let of_each = if plan.subscribers > 0 { counts.delivered } else { counts.sent };
    let rate = |count| thousandths(float(count) / seconds);
    let percentiles =
        |of: fn(&Measured) -> &Latencies| measured.as_ref().and_then(|m| of(m).percentiles());
    Ok(Report {
        seconds: thousandths(seconds),
        sent: counts.sent,
        acknowledged: counts.acknowledged,
        delivered: counts.delivered,
        sent_per_second: rate(counts.sent),
        acknowledged_per_second: rate(counts.acknowledged),
        delivered_per_second: rate(counts.delivered),
        latency_us: percentiles(|measured| &measured.delivery),
        ack_latency_us: percentiles(|measured| &measured.acknowledgement),
        send_lag_us: percentiles(|measured| &measured.lag),
        unsent,
        lost: traffic.lost(),
        duplicates: traffic.tally.duplicates,
        out_of_order: traffic.map.has_order().then_some(traffic.tally.out_of_order),
        refused: traffic.refused,
        effort: after.since(&before, of_each),
    })
}

struct Traffic<'a> {
    plan: &'a Plan,
    map: Map,
    /// By slot; behind them come the slots of the subscribers.
    publishers: Vec<Publisher>,
    message: Message,
    streams: Vec<Stream>,
    tally: Tally,
    acknowledged: u64,
    refused: u64,
    schedule: Option<Schedule>,
    /// Messages of all publishers that were due so far.
    due: u64,
    /// Publishers that may have something to send.
    listed: Vec<usize>,
    /// When it is looked again for messages that were lost.
    next_look: Instant,
    measured: Option<Measured>,
    run: Run,
    /// When the input that is being taken came.
    now: Instant,
}

impl<'a> Traffic<'a> {
    fn new(plan: &'a Plan) -> Self {
        let run = Run::of_this_process();
        let prefix = names::topic("traffic");
        let map = Map::new(plan.layout, plan.publishers, plan.subscribers, plan.topics, prefix);
        let each = map.receivers() as u64;
        let bound = || match plan.qos {
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                Bound::Acknowledgements(Window::new(plan.window))
            }
            QoS::AtMostOnce if plan.rate.is_none() && each > 0 => {
                let most = u64::from(plan.window) * each;
                Bound::Deliveries { missing: 0, most, each, since: Instant::default() }
            }
            QoS::AtMostOnce => Bound::Socket,
        };
        let publishers = (0..plan.publishers).map(|number| Publisher::new(number, bound()));
        let payload = vec![b'x'; plan.payload_bytes.max(HEAD_BYTES)];
        let topics_each = plan.topics as u64;
        let (qos, retain) = (plan.qos, plan.retain);
        Self {
            plan,
            publishers: publishers.collect(),
            message: Message { run, qos, retain, payload, topics_each },
            streams: vec![Stream::default(); map.counted()],
            map,
            tally: Tally::default(),
            acknowledged: 0,
            refused: 0,
            schedule: None,
            due: 0,
            listed: (0..plan.publishers).collect(),
            next_look: Instant::default(),
            measured: None,
            run,
            now: Instant::now(),
        }
    }

    /// Connects all clients; nothing is sent before all have their answers. Publishers are dealt to
    /// the targets from the first on, subscribers from the second: with several, messages cross.
    fn connect(&mut self, fleet: &mut Fleet<'_>) -> Result<(), BenchError> {
        let client = |id: String, target, filters| Client {
            id,
            target,
            is_clean: true,
            is_kept: false,
            filters,
        };
        let publishers = (0..self.map.publishers())
            .map(|number| client(names::client("p", number), number, Vec::new()));
        let subscribers = (0..self.plan.subscribers).map(|number| {
            let filters = self.map.filters(number, self.plan.wildcard, self.plan.qos);
            client(names::client("s", number), number + 1, filters)
        });
        let clients = publishers.chain(subscribers);
        let opened = open(fleet, clients, Pace::default(), |_, _, _| Ok(()))?;
        for publisher in &mut self.publishers {
            publisher.limit(opened.receive_maximum);
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        Counts {
            sent: self.publishers.iter().map(|publisher| publisher.sent).sum(),
            acknowledged: self.acknowledged,
            delivered: self.tally.delivered,
        }
    }

    /// Keeps the windows full, or sends what is due, for a while.
    fn load_until(
        &mut self,
        fleet: &mut Fleet<'_>,
        end: Instant,
        progress: &mut Progress,
    ) -> Result<(), BenchError> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let next = self.publish(fleet, now)?;
            self.turn(fleet, next.unwrap_or(end).min(end))?;
            self.give_up_lost(now);
            // Asked only then: it looks at every publisher.
            if let Err(silent) = fleet.check_silence("messages are sent")
                && self.is_waiting()
            {
                return Err(silent);
            }
            let listens = self.plan.subscribers > 0;
            let done = if listens { self.tally.delivered } else { self.counts().sent };
            let latencies = self.measured.as_ref().map(|m| &m.delivery);
            progress.show(now, done, if listens { "delivered" } else { "sent" }, || {
                let told = latencies.and_then(Latencies::percentiles);
                told.map_or_else(String::new, |told| format!(", p99 {} us", told.p99))
            });
        }
    }

    /// Lets the last messages arrive.
    fn finish(&mut self, fleet: &mut Fleet<'_>) -> Result<(), BenchError> {
        fleet.break_silence();
        while fleet.silence() < TAIL && (self.lost() > 0 || self.is_waiting()) {
            self.turn(fleet, Instant::now().after(TAIL))?;
        }
        Ok(())
    }

    /// Whether the broker owes an answer.
    fn is_waiting(&self) -> bool {
        self.publishers.iter().any(Publisher::is_waiting)
    }

    /// Messages of the whole run that a receiver has not got, though they were not refused.
    fn lost(&self) -> u64 {
        let each = self.message.topics_each;
        let lost = |(place, stream): (usize, &Stream)| {
            let topic = self.map.stream_at(place);
            let publisher = &self.publishers[self.map.publisher(topic)];
            stream.lost(publisher.sent_to(topic as u64 % each, each))
        };
        let lost: u64 = self.streams.iter().enumerate().map(lost).sum();
        lost.saturating_sub(self.refused * self.map.receivers() as u64)
    }

    /// Lets publishers go on whose messages of QoS 0 were lost.
    fn give_up_lost(&mut self, now: Instant) {
        if self.plan.qos > QoS::AtMostOnce || now < self.next_look {
            return;
        }
        self.next_look = now.after(GIVEN_UP / 4);
        for publisher in 0..self.publishers.len() {
            if self.publishers[publisher].gives_up(now, GIVEN_UP) {
                self.list(publisher);
            }
        }
    }

    /// Counts messages that were due and not sent, as late as they are by now.
    fn give_up_unsent(&mut self) -> u64 {
        let Some(schedule) = self.schedule else { return 0 };
        let (now, publishers) = (Instant::now(), self.publishers.len() as u64);
        let mut unsent = 0;
        for (number, publisher) in self.publishers.iter().enumerate() {
            for nth in publisher.sent..publisher.sent + publisher.due {
                let late = now.since(schedule.due(nth * publishers + number as u64));
                unsent += 1;
                if let Some(measured) = &mut self.measured {
                    measured.lag.record(late);
                    if self.plan.qos > QoS::AtMostOnce {
                        measured.acknowledgement.record(late);
                    }
                    if self.plan.subscribers > 0 {
                        measured.delivery.record(late);
                    }
                }
            }
        }
        unsent
    }

    fn list(&mut self, publisher: usize) {
        if !std::mem::replace(&mut self.publishers[publisher].is_listed, true) {
            self.listed.push(publisher);
        }
    }

    /// Sends what may be sent, and says when there is more if that is known.
    fn publish(
        &mut self,
        fleet: &mut Fleet<'_>,
        now: Instant,
    ) -> Result<Option<Instant>, BenchError> {
        let next = self.schedule.map(|schedule| self.note_due(schedule, now));
        let mut stopped = Vec::new();
        for number in std::mem::take(&mut self.listed) {
            self.publishers[number].is_listed = false;
            self.publish_one(fleet, number, now)?;
            let publisher = &self.publishers[number];
            if !publisher.is_full() && (self.schedule.is_none() || publisher.due > 0) {
                // Its socket may take more before it ever says that it takes nothing.
                stopped.push(number);
            }
        }
        if stopped.is_empty() {
            return Ok(next);
        }
        fleet.flush()?;
        let mut has_room = false;
        for number in stopped {
            has_room |= fleet.client(number).output().waiting() == 0;
            self.list(number);
        }
        Ok(if has_room { Some(now) } else { next })
    }

    /// Gives out what is due, and says when the next message is.
    fn note_due(&mut self, schedule: Schedule, now: Instant) -> Instant {
        loop {
            let due = schedule.due(self.due);
            if due > now {
                return due;
            }
            let number = usize::try_from(self.due % self.publishers.len() as u64).unwrap_or(0);
            self.publishers[number].due += 1;
            self.due += 1;
            self.list(number);
        }
    }

    fn publish_one(
        &mut self,
        fleet: &mut Fleet<'_>,
        number: usize,
        now: Instant,
    ) -> Result<(), BenchError> {
        let publishers = self.publishers.len() as u64;
        let publisher = &mut self.publishers[number];
        let output = fleet.output(number);
        while publisher.may_send(output) {
            let mut at = now;
            if let Some(schedule) = self.schedule {
                if publisher.due == 0 {
                    break;
                }
                publisher.due -= 1;
                at = schedule.due(publisher.sent * publishers + number as u64);
                if let Some(measured) = self.measured.as_mut().filter(|held| held.covers(at)) {
                    measured.lag.record(now.since(at));
                }
            }
            publisher.send(&self.map, &mut self.message, at, output)?;
        }
        Ok(())
    }

    fn turn(&mut self, fleet: &mut Fleet<'_>, until: Instant) -> Result<(), BenchError> {
        let mut last = usize::MAX;
        fleet.turn(Some(until), |slot, packet, output| {
            // What one client's read brought came at one time.
            if slot != last {
                self.now = Instant::now();
                last = slot;
            }
            self.take(slot, packet, output)
        })
    }

    fn take(
        &mut self,
        slot: usize,
        packet: &Packet<'_>,
        output: &mut Output,
    ) -> Result<(), BenchError> {
        if let Packet::Publish(publish) = packet {
            self.deliver(slot, publish);
        } else if let Some(ack) = settled(packet) {
            self.settle(slot, ack);
        }
        answer(packet, output)
    }

    fn settle(&mut self, slot: usize, ack: &Ack<'_>) {
        let Some(publisher) = self.publishers.get_mut(slot) else { return };
        let Some(at) = publisher.settle(ack.packet_id) else { return };
        self.list(slot);
        if ack.reason.is_error() {
            self.refused += 1;
            return;
        }
        self.acknowledged += 1;
        if let Some(measured) = self.measured.as_mut().filter(|measured| measured.covers(at)) {
            measured.acknowledgement.record(self.now.since(at));
        }
    }

    fn deliver(&mut self, slot: usize, publish: &Publish<'_>) {
        let head = Head::read(publish.payload).filter(|head| head.run == self.run);
        let Some(head) = head else { return };
        let stream = head.stream as usize;
        let Some(subscriber) = slot.checked_sub(self.publishers.len()) else { return };
        let Some(place) = self.map.place(subscriber, stream) else { return };
        let arrival = self.streams[place].take(head.number);
        let settled = match arrival {
            // On one connection nothing overtakes: what is skipped will not come.
            Arrival::InOrder { skipped } if self.map.has_order() => skipped + 1,
            Arrival::InOrder { .. } => 1,
            Arrival::Late => u64::from(!self.map.has_order()),
            Arrival::Again => 0,
        };
        let publisher = self.map.publisher(stream);
        self.publishers[publisher].delivered(settled, self.now);
        if !self.publishers[publisher].is_full() {
            self.list(publisher);
        }
        if !self.map.has_order() || publish.dup {
            // Sent again after its first time was lost: that is no disorder.
            self.tally.delivered += u64::from(arrival != Arrival::Again);
            self.tally.duplicates += u64::from(arrival == Arrival::Again);
        } else {
            self.tally.add(arrival);
        }
        if let Some(measured) = self.measured.as_mut().filter(|measured| measured.covers(head.at))
            && arrival != Arrival::Again
        {
            measured.delivery.record(self.now.since(head.at));
        }
    }
}
