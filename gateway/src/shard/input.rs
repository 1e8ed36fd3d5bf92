//! Bytes from the transport become packets.

use ledgermq_core::codec::{self, DecodeError};
use ledgermq_core::connection::{Ending, Refusal, State};
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{Packet, ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::shard::client::{Client, Pause};
use crate::shard::table::Token;
use crate::shard::{Shard, Sources, shared, stats};

/// Input buffers up to this size are kept by a connection between packets.
const KEPT_BYTES: usize = 512;
/// Bytes of an unfinished CONNECT that every connection may hold; what is beyond is counted.
const UNFINISHED_BYTES_EACH: usize = 3 << 10;

impl Shard {
    /// Takes bytes that came from `token`. Give nothing more to a connection for which
    /// [`Shard::takes_bytes`] is false: what is left of these bytes waits inside.
    pub fn on_bytes(
        &mut self,
        now: Timestamp,
        token: Token,
        bytes: &[u8],
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        self.stats.bytes_received += bytes.len() as u64;
        if client.input.is_empty() {
            let taken = self.take_packets(now, token, bytes, sources);
            self.keep_rest(now, token, Vec::new(), &bytes[taken..]);
        } else {
            let mut input = std::mem::take(&mut client.input);
            if client.machine.state() == State::Connecting {
                input.reserve_exact(bytes.len());
            }
            input.extend_from_slice(bytes);
            let taken = self.take_packets(now, token, &input, sources);
            input.drain(..taken);
            self.keep_rest(now, token, input, &[]);
        }
        self.bound_unfinished(now, token);
        if self.table.get(token).is_some_and(|client| client.backlog.is_some()) {
            self.drain(now, token, sources);
        }
    }

    /// Whether bytes of `token` may be read now.
    #[must_use]
    pub fn takes_bytes(&self, token: Token) -> bool {
        self.table.get(token).is_some_and(|client| client.pause.is_none() && !client.link.is_ending)
    }

    /// Goes on with the input of a connection that was paused because of `pause`.
    pub(super) fn resume_input(
        &mut self,
        now: Timestamp,
        token: Token,
        pause: Pause,
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get_mut(token) else { return };
        if client.pause != Some(pause) {
            return;
        }
        if client.is_excused() {
            client.machine.excuse_silence(now);
        }
        client.pause = None;
        let mut input = std::mem::take(&mut client.input);
        let taken = self.take_packets(now, token, &input, sources);
        input.drain(..taken);
        self.keep_rest(now, token, input, &[]);
        if self.takes_bytes(token) {
            self.resumed.push(token);
        }
        // An acknowledgement among the packets may have made room.
        if self.table.get(token).is_some_and(|client| client.backlog.is_some()) {
            self.starve(token);
        }
    }

    /// The log takes messages again: goes on with all that waited for it.
    pub fn on_gate_opened(&mut self, now: Timestamp, sources: &mut impl Sources) {
        for token in std::mem::take(&mut self.withheld) {
            self.resume_input(now, token, Pause::Withheld, sources);
        }
    }

    fn keep_rest(&mut self, now: Timestamp, token: Token, mut input: Vec<u8>, rest: &[u8]) {
        let Some(client) = self.table.get_mut(token) else { return };
        if client.link.is_ending {
            client.input = Vec::new();
            return;
        }
        input.extend_from_slice(rest);
        if input.capacity() > KEPT_BYTES && input.capacity() / 8 > input.len() {
            // What came before was long; the next packet may be a short one, or never come whole.
            input.shrink_to(KEPT_BYTES);
        }
        client.input = input;
        self.weigh_held(token);
        self.reserve(now, token);
    }

    /// Gives a connection up whose CONNECT is long and has not come whole, if the shard holds too
    /// much of such ones: who has not said who it is cannot make us keep more.
    fn bound_unfinished(&mut self, now: Timestamp, token: Token) {
        self.count_unfinished(token);
        if self.unfinished_bytes > self.limits.unfinished_bytes_max {
            self.stats.unfinished += 1;
            self.end(now, token, Ending::TransportLost);
            self.closed.push(token);
            self.forget(token);
        }
    }

    /// Counts what `token` holds of its CONNECT beyond what every connection may hold.
    pub(super) fn count_unfinished(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        let is_unfinished = client.machine.state() == State::Connecting && !client.link.is_gone;
        let held = if is_unfinished { client.input.capacity() } else { 0 };
        let beyond = held.saturating_sub(UNFINISHED_BYTES_EACH);
        self.unfinished_bytes = self.unfinished_bytes + beyond - client.unfinished_bytes;
        client.unfinished_bytes = beyond;
    }

    /// Takes whole packets from the front of `bytes`, and says how many bytes they had.
    fn take_packets(
        &mut self,
        now: Timestamp,
        token: Token,
        bytes: &[u8],
        sources: &mut impl Sources,
    ) -> usize {
        let mut at = 0;
        loop {
            let packet_bytes_max = self.settings.packet_bytes_max;
            let Some(client) = self.table.get_mut(token) else { return bytes.len() };
            if client.link.is_ending {
                return bytes.len();
            }
            if !client.machine.takes_input() {
                client.pause = Some(Pause::Opening);
                return at;
            }
            let awaited = u64::from(client.link.subscribing) * self.retained_messages;
            if awaited > self.limits.awaited_messages_max {
                client.pause = Some(Pause::Subscribing);
                return at;
            }
            if self.leaves_answers(token) {
                return at;
            }
            let Some(client) = self.table.get(token) else { return bytes.len() };
            match codec::decode(&bytes[at..], client.link.version, packet_bytes_max) {
                Ok(None) => return at,
                Ok(Some((packet, length))) => {
                    if self.is_withheld(token, &packet) || self.is_throttled(now, token, &packet) {
                        return at;
                    }
                    at += length;
                    self.weigh(&packet, sources);
                    self.take_packet(now, token, &packet, length);
                }
                Err(error) => {
                    self.on_malformed(now, token, error);
                    return bytes.len();
                }
            }
        }
    }

    /// Whether a client is not read for now, since it does not read what it is answered.
    fn leaves_answers(&mut self, token: Token) -> bool {
        let Some(client) = self.table.get(token) else { return false };
        let unwritten = client.link.unwritten().len();
        if unwritten == 0 || unwritten < self.answers_max(&client.link) {
            return false;
        }
        if let Some(client) = self.table.get_mut(token) {
            client.pause = Some(Pause::Answers);
        }
        true
    }

    /// Brings the settings up to what the node has room for, if `packet` asks for some.
    fn weigh(&mut self, packet: &Packet<'_>, sources: &mut impl Sources) {
        if let Some(topic) = retained_topic(packet) {
            let left = self.room.minus(self.stage.under_way.volume());
            self.settings.takes_retained = left.retained_messages > 0 && left.retained_bytes > 0;
            self.is_retained = !self.settings.takes_retained && sources.is_retained(topic);
        }
        if let Packet::Connect(connect) = packet {
            self.weigh_session(connect.client_id, sources);
        }
    }

    /// The same for a session of `client`.
    pub(super) fn weigh_session(&mut self, client: &str, sources: &mut impl Sources) {
        let left = self.room.minus(self.stage.under_way.volume());
        self.settings.takes_persistent = left.sessions > 0;
        self.has_session = !self.settings.takes_persistent && sources.has_session(client);
    }

    fn take_packet(&mut self, now: Timestamp, token: Token, packet: &Packet<'_>, bytes: usize) {
        self.stats.packets_received += 1;
        match packet {
            Packet::Connect(connect) => {
                if let Some(client) = self.table.get_mut(token)
                    && client.machine.state() == State::Connecting
                {
                    client.link.version = connect.version;
                    self.flush_before_takeover(now, connect.client_id);
                }
            }
            Packet::Publish(publish) => {
                self.stats.received[stats::by(publish.qos)] += 1;
                self.stats.payload_bytes_received += publish.payload.len() as u64;
            }
            _ => {}
        }
        self.turn(now, token, |machine, sink, settings| {
            machine.handle(now, packet, settings, sink);
        });
        if let Some(client) = self.table.get_mut(token) {
            client.is_opening |= client.machine.state() == State::Opening;
            let counts = client.link.counts.get_or_insert_default();
            counts.bytes_received += bytes as u64;
            counts.messages_received += u64::from(matches!(packet, Packet::Publish(_)));
        }
        self.log_progress_if_much(now, token);
    }

    /// Whether a packet has to wait. The packet stays in the input, and the client is not read
    /// meanwhile. It is a message of a 3.1.1 client, if the log takes none and there is no way to
    /// refuse it; without a quorum it is whatever else would be refused.
    fn is_withheld(&mut self, token: Token, packet: &Packet<'_>) -> bool {
        let Some(client) = self.table.get_mut(token) else { return false };
        let is_cut_off = self.settings.shortage == Refusal::Quorum;
        let is_withheld = match packet {
            Packet::Publish(_) if self.settings.takes_publishes => false,
            Packet::Publish(publish) => {
                let is_told = client.link.version == ProtocolVersion::V5;
                is_cut_off || !is_told && publish.qos > QoS::AtMostOnce
            }
            Packet::Subscribe(_) => is_cut_off && !self.settings.takes_sessions,
            _ => false,
        };
        if !is_withheld {
            return false;
        }
        client.pause = Some(Pause::Withheld);
        self.withheld.insert(token);
        true
    }

    /// Whether a message of a 3.1.1 client has to wait, since the client is faster than it may be
    /// and there is no way to tell it. The packet stays in the input until [`Shard::tick`] goes on.
    fn is_throttled(&mut self, now: Timestamp, token: Token, packet: &Packet<'_>) -> bool {
        if !self.settings.publish_rate.is_limited() || !matches!(packet, Packet::Publish(_)) {
            return false;
        }
        let Some(client) = self.table.get_mut(token) else { return false };
        if client.link.version == ProtocolVersion::V5 {
            return false;
        }
        let Some(until) = client.machine.publishes_again(now) else { return false };
        client.pause = Some(Pause::Throttled);
        self.throttled.insert((until, token));
        self.stats.throttled += 1;
        true
    }

    /// Goes on with those that were faster than they may be, and waited for it.
    pub(super) fn resume_throttled(&mut self, now: Timestamp, sources: &mut impl Sources) {
        while let Some((until, token)) = self.throttled.first().copied() {
            if until > now {
                return;
            }
            self.throttled.pop_first();
            self.resume_input(now, token, Pause::Throttled, sources);
        }
    }

    fn on_malformed(&mut self, now: Timestamp, token: Token, error: DecodeError) {
        self.stats.malformed += 1;
        let Some(client) = self.table.get_mut(token) else { return };
        let reason = match (error.connect, client.machine.state()) {
            (Some(version), State::Connecting) => {
                client.link.version = version;
                error.reason
            }
            // [MQTT-3.1.0-2]: a second CONNECT, whatever else is wrong with it. The version that it
            // names is not the one in which this connection is answered.
            (Some(_), _) => ReasonCode::ProtocolError,
            (None, _) => error.reason,
        };
        let is_refused = error.connect == Some(ProtocolVersion::V5)
            || error.reason == ReasonCode::UnsupportedProtocolVersion;
        self.turn(now, token, |machine, sink, _| match machine.state() {
            // [MQTT311-3.1.4-1]: 3.1.1 has no code for what is malformed.
            State::Connecting if is_refused => machine.refuse(reason, sink),
            _ => machine.fail(reason, sink),
        });
    }

    /// The same client is about to open its session anew: what its older connection here settled
    /// is logged first, so that the new one does not get it again.
    pub(super) fn flush_before_takeover(&mut self, now: Timestamp, client_id: &str) {
        let Some(older) = self.by_client.get(client_id).copied() else { return };
        self.turn(now, older, |machine, sink, _| machine.flush_progress(sink));
    }

    fn log_progress_if_much(&mut self, now: Timestamp, token: Token) {
        let is_much = |client: &Client| {
            client.machine.unlogged_progress() >= super::PROGRESS_MESSAGES_MAX
                || client.machine.unlogged_shared() >= shared::SETTLED_MAX
        };
        if self.table.get(token).is_some_and(is_much) {
            self.turn(now, token, |machine, sink, _| machine.flush_progress(sink));
        }
    }
}

/// The topic to which `packet` adds a retained message, now or by its will.
fn retained_topic<'a>(packet: &'a Packet<'_>) -> Option<&'a str> {
    match packet {
        Packet::Publish(publish) => publish.retain.then_some(publish.topic),
        Packet::Connect(connect) => {
            connect.will.as_ref().filter(|will| will.retain).map(|will| will.topic)
        }
        _ => None,
    }
}
