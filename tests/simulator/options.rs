//! What a seed expands to: the tunables of the node and the habits of its world.

use std::time::Duration;

use ledgermq_core::access::Rules;
use ledgermq_core::connection::{Authentication, PublishRate, Refusal, Settings};
use ledgermq_gateway::shard::ShardLimits;
use ledgermq_projections::views::Limits;

use crate::rng::Rng;

/// Everything that a seed decides before the first step. Printed when a seed fails.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Steps of the phase with faults.
    pub(crate) steps: u64,
    pub(crate) clients: usize,
    pub(crate) topics: usize,
    /// Workers of the node.
    pub(crate) workers: u16,
    pub(crate) shard: ShardLimits,
    pub(crate) settings: Settings,
    pub(crate) queued: Limits,
    pub(crate) checkpoint_interval: Duration,
    /// Bytes that a socket takes before it blocks.
    pub(crate) socket_bytes: usize,
    /// Bytes of committed batches that a worker takes in one turn.
    pub(crate) committed_bytes: usize,
    /// Entries in the log beyond which the oldest are given up.
    pub(crate) hot_entries: u64,
    /// Bytes of batches that the log keeps in memory.
    pub(crate) ring_bytes: u64,
    /// Bytes of the largest payload.
    pub(crate) payload_bytes: usize,
    /// Access rules change now and then.
    pub(crate) has_rules: bool,
    pub(crate) faults: Faults,
    pub(crate) habits: Habits,
}

/// How often faults come, in a thousand steps of which one is drawn as a fault.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Steps out of ten thousand that are faults at all.
    pub(crate) rate: u32,
    pub(crate) crash: u32,
    pub(crate) sync_error: u32,
    pub(crate) disk_full: u32,
    pub(crate) reset: u32,
    pub(crate) half_open: u32,
    pub(crate) clock_jump: u32,
    pub(crate) store_fails: u32,
    pub(crate) stop: u32,
    pub(crate) rules: u32,
}

/// What clients like to do, in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) publish: u32,
    pub(crate) qos: [u32; 3],
    pub(crate) retain: u32,
    pub(crate) subscribe: u32,
    pub(crate) unsubscribe: u32,
    pub(crate) disconnect: u32,
    pub(crate) close: u32,
    pub(crate) take_over: u32,
    pub(crate) mute: u32,
    pub(crate) clean_start: u32,
    pub(crate) will: u32,
    pub(crate) expiry: u32,
    /// Messages and subscriptions that are for groups.
    pub(crate) share: u32,
    /// Clients that leave a session behind.
    pub(crate) persistent: u32,
}

impl Options {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let is_tight = rng.permille(500);
        let tight = |rng: &mut Rng, small: &[usize], large: usize| {
            if is_tight && rng.permille(600) { *rng.pick(small) } else { large }
        };
        let shard = ShardLimits {
            output_bytes_max: tight(rng, &[64, 300, 2000], 256 << 10),
            backlog_messages_max: tight(rng, &[4, 30, 200], 100_000),
            backlog_bytes_max: tight(rng, &[100, 1000, 20_000], 256 << 20),
            pinned_bytes_max: tight(rng, &[0, 500, 5000], 4 << 20),
            answers_bytes_max: tight(rng, &[100, 2000], 16 << 20),
            awaited_messages_max: tight(rng, &[0, 1, 5], 100_000) as u64,
            unread_messages_max: ShardLimits::default().unread_messages_max,
            persistent_messages_max: tight(rng, &[1, 5, 50], 1024),
            recent_bytes_max: tight(rng, &[0, 300], 1 << 20),
            output_bytes_all_max: tight(rng, &[200, 2000], 1 << 30),
            overdraft_bytes: tight(rng, &[1, 100], 64 << 10),
            references_bytes_max: tight(rng, &[3000, 50_000], 1 << 30),
            pinned_bytes_all_max: tight(rng, &[0, 1000], 1 << 30),
            input_bytes_all_max: tight(rng, &[1, 50_000], 1 << 30),
            unfinished_bytes_max: ShardLimits::default().unfinished_bytes_max,
        };
        let queued = if rng.permille(120) {
            Limits {
                queued_messages: rng.size(3, 40),
                queued_bytes: rng.range(500, 50_000),
                owed_messages: rng.size(10, 400),
            }
        } else {
            Limits::default()
        };
        let settings = Settings {
            // Each node puts its own in.
            node: 0,
            connect_timeout: Duration::from_secs(rng.range(2, 20)),
            server_keep_alive: if rng.permille(200) { rng.small(5, 60) } else { 0 },
            packet_bytes_max: 1 << 20,
            topic_levels_max: 20,
            receive_maximum: rng.small(1, 20),
            inflight_out: *rng.pick(&[1, 2, 5, 20, 1000]),
            topic_aliases: rng.small(0, 3),
            publish_rate: if rng.permille(100) {
                PublishRate { messages: rng.small(5, 50).into(), bytes: rng.range(500, 5000) }
            } else {
                PublishRate::default()
            },
            user_properties_max: 10,
            response_information: "".into(),
            conceals_rules: false,
            shared_subscriptions_max: if rng.permille(100) { 1 } else { 256 },
            subscription_bytes_max: 4 << 20,
            subscriptions_max: if rng.permille(100) { 3 } else { 10_000 },
            authentication: Authentication {
                has_passwords: rng.permille(500),
                takes_anonymous: true,
            },
            rules: Rules::open(),
            elsewhere: None,
            takes_publishes: true,
            takes_sessions: true,
            shortage: Refusal::Storage,
            takes_persistent: true,
            takes_retained: true,
        };
        Self {
            steps: rng.range(1500, 6000),
            clients: rng.size(2, 7),
            topics: rng.size(1, TOPICS.len()),
            workers: rng.small(1, 2),
            shard,
            settings,
            queued,
            checkpoint_interval: Duration::from_millis(rng.range(20, 3000)),
            socket_bytes: tight(rng, &[50, 500, 4000], 64 << 10),
            committed_bytes: tight(rng, &[1, 1000, 20_000], 4 << 20),
            hot_entries: if rng.permille(300) { rng.range(20, 200) } else { u64::MAX },
            ring_bytes: *rng.pick(&[200, 2_000, 1 << 20]),
            payload_bytes: *rng.pick(&[20, 20, 100, 1000, 5000]),
            has_rules: rng.permille(400),
            faults: Faults::draw(rng),
            habits: Habits::draw(rng),
        }
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let mut often = |most: u64| {
            if rng.permille(300) {
                0
            } else {
                u32::try_from(rng.below(most)).expect("rates are small")
            }
        };
        Self {
            rate: [0, 20, 50, 100, 200][often(5000) as usize % 5],
            crash: often(200),
            sync_error: often(60),
            disk_full: often(100),
            reset: often(400),
            half_open: often(200),
            clock_jump: often(100),
            store_fails: often(100),
            stop: often(60),
            rules: often(200),
        }
    }
}

impl Habits {
    fn draw(rng: &mut Rng) -> Self {
        let mut often = |most: u64| u32::try_from(rng.below(most)).expect("rates are small");
        Self {
            publish: 100 + often(600),
            qos: [often(300), 100 + often(500), 100 + often(500)],
            retain: often(300),
            subscribe: 20 + often(100),
            unsubscribe: often(40),
            disconnect: often(20),
            close: often(30),
            take_over: often(20),
            mute: often(40),
            clean_start: often(300),
            will: often(400),
            expiry: often(100),
            share: [0, 0, 50, 300, 600][often(500) as usize % 5],
            persistent: 300 + often(700),
        }
    }
}

/// Topic Names that are published to.
pub(crate) const TOPICS: [&str; 8] = ["a/b", "a/c", "b/c", "a", "d/e/f", "a/b/c", "$x/y", "/"];
/// Topic Names that only groups subscribe to, and the Shared Subscriptions that do.
pub(crate) const SHARED_TOPICS: [&str; 2] = ["$s/a", "$s/b"];
pub(crate) const SHARED_FILTERS: [&str; 3] = ["$share/g/$s/#", "$share/g/$s/a", "$share/h/$s/+"];
/// Access rules that are put in force; clients with an odd number have the user name `odd`.
pub(crate) const RULES: [&str; 5] = [
    "topic #\ntopic $x/#\ntopic $s/#\nuser odd\ntopic #\ntopic $s/#",
    "topic read #\ntopic write a/#\ntopic write $s/#\nuser odd\ntopic write #\ntopic read a/#\ntopic $x/#\ntopic $s/#",
    "topic deny a/b\ntopic #\ntopic $s/#\nuser odd\ntopic deny b/c\ntopic #\ntopic $s/#\ntopic deny $s/a\npattern deny a/c",
    "topic write #\ntopic write $s/#\nuser odd\ntopic read #\ntopic read $s/#",
    "pattern readwrite +/b\npattern readwrite a/#\nuser odd\ntopic deny a",
];
/// Topic Filters that are subscribed to.
pub(crate) const FILTERS: [&str; 14] = [
    "#", "+/c", "a/+", "a/#", "a/b", "a/c", "b/c", "a", "+", "d/+/f", "+/+/+", "$x/#", "/+",
    "+/b/#",
];
