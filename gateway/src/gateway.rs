//! The gateway as a component: workers and listeners, and the handle that stops them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ledgermq_core::access::Rules;
use ledgermq_core::connection::{Authentication, PublishRate, Refusal, Settings};
use ledgermq_core::identity::ClientId;
use ledgermq_log::{Log, Producer, Wake};
use ledgermq_projections::notice::NoticeSink;
use ledgermq_projections::reader::Reader;
use mio::{Poll, Waker};
use uuid::Uuid;

use crate::authenticator::{Authenticator, AuthenticatorStats, PasswordsError};
use crate::census::Census;
pub use crate::census::{FAILURES, Pressure};
use crate::certificates::Certificates;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::control::{ControlAnswers, ControlDoor};
use crate::counts::CountsReader;
use crate::entrance::Entrance;
use crate::inbox::{Inbound, Inbox, Inboxes};
use crate::listener::{Acceptor, StopAccepting};
use crate::notices::Notices;
use crate::shard::{Shard, ShardLimits, ShardStats, Stage, SysValue, Volume};
use crate::sources::LogSources;
use crate::upgrade::Upgrade;
use crate::worker::sockets::WAKER;
use crate::worker::{Lag, NODE_LOST, Quorum, Worker, WorkerError};

/// Bytes of a reference in the owed view.
const OWED_BYTES: u64 = 16;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened at.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A listener's certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] ConfigError),
    /// The password file cannot be used.
    #[error(transparent)]
    Passwords(#[from] PasswordsError),
    /// The operating system refused a thread or a poll.
    #[error("cannot start a worker")]
    Thread(#[from] io::Error),
}

/// A file that cannot be used when it is read again.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A listener's certificates.
    #[error(transparent)]
    Certificates(#[from] ConfigError),
    /// The passwords.
    #[error(transparent)]
    Passwords(#[from] PasswordsError),
}

/// The workers' places, made before the projections start, so that these can send notices.
pub struct Seats {
    seats: Vec<Seat>,
    inboxes: Inboxes,
    census: Arc<Census>,
    authenticator: Arc<OnceLock<Authenticator>>,
    log: Log,
    node_lost: Duration,
    control: Option<ControlDoor>,
}

struct Seat {
    poll: Poll,
    inbox: Arc<Inbox>,
    producer: Producer,
    stats: Arc<Mutex<ShardStats>>,
}

impl Seats {
    /// Makes places for `config.workers` workers (0: one for each core but one, at least 1).
    ///
    /// # Errors
    ///
    /// If the operating system refuses a poll.
    pub fn new(config: &Config, log: &Log) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = match config.workers {
            0 => cores.saturating_sub(1).max(1),
            workers => usize::from(workers),
        };
        let mut seats = Vec::with_capacity(workers);
        for _ in 0..workers {
            let poll = Poll::new()?;
            let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), WAKER)?));
            let producer = log.producer(Arc::clone(&inbox) as Arc<dyn Wake>);
            seats.push(Seat { poll, inbox, producer, stats: Arc::default() });
        }
        let inboxes = seats.iter().map(|seat| (seat.producer.id().local, Arc::clone(&seat.inbox)));
        let inboxes = Inboxes::new(inboxes);
        let census = Arc::new(Census::new(&config.limits));
        let (authenticator, log) = (Arc::default(), log.clone());
        Ok(Self { seats, inboxes, census, authenticator, log, node_lost: NODE_LOST, control: None })
    }

    /// After this time without contact the others give a node up (10 seconds, unless said
    /// otherwise). Clients of a node that is cut off are sent away after half of it.
    #[must_use]
    pub fn with_node_lost(mut self, node_lost: Duration) -> Self {
        self.node_lost = node_lost;
        self
    }

    /// What clients ask under `$CONTROL` goes through `door`; without one, nobody answers it.
    #[must_use]
    pub fn with_control(mut self, door: ControlDoor) -> Self {
        self.control = Some(door);
        self
    }

    /// The way back for the answers.
    #[must_use]
    pub fn control_answers(&self) -> ControlAnswers {
        ControlAnswers { inboxes: self.inboxes.clone() }
    }

    /// A handle for reading the counts of the gateway that will start here.
    #[must_use]
    pub fn stats_reader(&self) -> StatsReader {
        let workers = self.seats.iter().map(|seat| Arc::clone(&seat.stats)).collect();
        let authenticator = Arc::clone(&self.authenticator);
        StatsReader { census: Arc::clone(&self.census), authenticator, workers }
    }

    /// A handle for reading the counts of the connections that will be here.
    #[must_use]
    pub fn counts_reader(&self) -> CountsReader {
        CountsReader { inboxes: self.inboxes.clone(), census: Arc::clone(&self.census) }
    }

    /// Answers HTTP requests for MQTT over WebSocket, wherever the node mounts it; before the
    /// gateway starts here and when it drains, with 503.
    #[must_use]
    pub fn upgrade(&self, config: &Config) -> Upgrade {
        Upgrade {
            inboxes: self.inboxes.clone(),
            census: Arc::clone(&self.census),
            packet_bytes_max: config.limits.packet_bytes.0,
            origins: config.websocket_origins.clone().into(),
        }
    }

    /// Where the projections send their notices.
    #[must_use]
    pub fn notice_sink(&self) -> Box<dyn NoticeSink> {
        Box::new(Notices { inboxes: self.inboxes.clone(), log: self.log.clone() })
    }
}

/// Counts of the whole gateway.
#[derive(Clone, Debug, Default)]
pub struct GatewayStats {
    /// Open connections.
    pub connections: usize,
    /// Connections beyond the limits of their number and rate.
    pub connections_refused: u64,
    /// Connections that failed below MQTT, by the place of their reason in [`FAILURES`].
    pub connections_failed: [u64; FAILURES.len()],
    /// Passwords that were compared.
    pub passwords: AuthenticatorStats,
    /// Counts of each worker.
    pub workers: Vec<ShardStats>,
}

/// Reads the counts of a gateway; a cheap clone.
#[derive(Clone)]
pub struct StatsReader {
    census: Arc<Census>,
    authenticator: Arc<OnceLock<Authenticator>>,
    workers: Vec<Arc<Mutex<ShardStats>>>,
}

impl StatsReader {
    /// Counts up to the workers' last turns.
    #[must_use]
    pub fn read(&self) -> GatewayStats {
        let read =
            |stats: &Arc<Mutex<ShardStats>>| *stats.lock().unwrap_or_else(PoisonError::into_inner);
        GatewayStats {
            connections: self.census.connections(),
            connections_refused: self.census.refused(),
            connections_failed: self.census.failed(),
            passwords: self.authenticator.get().map(Authenticator::stats).unwrap_or_default(),
            workers: self.workers.iter().map(read).collect(),
        }
    }
}

/// A running gateway.
pub struct Gateway {
    inboxes: Inboxes,
    stop_accepting: StopAccepting,
    acceptor: JoinHandle<()>,
    workers: Vec<JoinHandle<Result<(), WorkerError>>>,
    readers: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    certificates: Vec<Arc<Certificates>>,
    census: Arc<Census>,
    authenticator: Option<Authenticator>,
}

impl Gateway {
    /// Binds the listeners and starts the workers. `on_stopped` is called by a worker that stops by
    /// itself, with the reason: the node must stop.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound or a thread cannot be started.
    pub fn start(
        config: &Config,
        node: u64,
        seats: Seats,
        log: &Log,
        views: &Reader,
        on_stopped: impl Fn(&WorkerError) + Clone + Send + 'static,
    ) -> Result<Self, StartError> {
        let census = seats.census;
        let authenticator = match &config.password_file {
            file if file.as_os_str().is_empty() => None,
            file => Some(Authenticator::start(file.clone())?),
        };
        if let Some(authenticator) = &authenticator {
            let _ = seats.authenticator.set(authenticator.clone());
        }
        let (entrances, certificates) = entrances(config)?;
        let bound = Acceptor::bind(entrances, seats.inboxes.clone(), Arc::clone(&census));
        let (acceptor, stop_accepting, addresses) =
            bound.map_err(|(address, source)| StartError::Bind { address, source })?;
        let workers_count = seats.seats.len().max(1) as u64;
        let mut workers = Vec::new();
        let mut readers = Vec::new();
        for (number, seat) in seats.seats.into_iter().enumerate() {
            let inbox = Arc::clone(&seat.inbox);
            let (sources, reader) = LogSources::start(views.clone(), log.clone(), inbox, number)?;
            readers.push(reader);
            let mut worker =
                worker(config, node, seat, log, sources, Arc::clone(&census), workers_count);
            worker.authenticator.clone_from(&authenticator);
            worker.quorum = Quorum::new(seats.node_lost);
            worker.control.clone_from(&seats.control);
            let on_stopped = on_stopped.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker.run().inspect_err(|error| on_stopped(error)))?;
            workers.push(thread);
        }
        let acceptor =
            thread::Builder::new().name("acceptor".to_owned()).spawn(move || acceptor.run())?;
        let inboxes = seats.inboxes;
        census.is_open.store(true, Ordering::Relaxed);
        Ok(Self {
            inboxes,
            stop_accepting,
            acceptor,
            workers,
            readers,
            addresses,
            certificates,
            authenticator,
            census,
        })
    }

    /// The addresses at which clients connect, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Reads the files of the configuration again, for what comes from now on; answers with what
    /// could not be used, of which the old stays in force. Clients stay connected.
    #[must_use]
    pub fn reload(&self) -> Vec<ReloadError> {
        let certificates = self.reload_certificates().into_iter().map(ReloadError::from);
        let passwords = self.authenticator.as_ref().and_then(|held| held.reload().err());
        certificates.chain(passwords.map(ReloadError::from)).collect()
    }

    /// Reads the listeners' certificates again, for connections that come from now on.
    fn reload_certificates(&self) -> Vec<ConfigError> {
        self.certificates.iter().filter_map(|held| held.reload().err()).collect()
    }

    /// From now on as much is taken as `pressure` says.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.census.set_pressure(pressure);
        // Those that are left unread sleep.
        self.inboxes.iter().for_each(Wake::wake);
    }

    /// Publishes the node's own values to its clients ([`Shard::on_sys`]).
    pub fn publish_sys(&self, values: &Arc<[SysValue]>) {
        self.inboxes.iter().for_each(|inbox| inbox.push(Inbound::Sys(Arc::clone(values))));
    }

    /// Which of the gateway's threads has ended, if one has: it panicked, or said why by
    /// `on_stopped`. The others go on, but the node must stop.
    #[must_use]
    pub fn ended(&self) -> Option<&str> {
        let mut threads = self.workers.iter().map(|worker| (worker.is_finished(), worker.thread()));
        let acceptor = (self.acceptor.is_finished(), self.acceptor.thread());
        let mut readers = self.readers.iter().map(|reader| (reader.is_finished(), reader.thread()));
        let ended = |(is_finished, _): &(bool, _)| *is_finished;
        let (_, thread) = threads
            .find(ended)
            .or_else(|| Some(acceptor).filter(ended))
            .or_else(|| readers.find(ended))
            .or_else(|| self.authenticator.as_ref()?.ended().map(|thread| (true, thread)))?;
        Some(thread.name().unwrap_or("a thread"))
    }

    /// Takes no new connection, ends all with DISCONNECT 0x8B, and returns when their last events
    /// are committed and what was sent is written, at most 10 seconds later.
    ///
    /// # Errors
    ///
    /// The first reason for which a worker had stopped before.
    pub fn drain(self) -> Result<(), WorkerError> {
        self.census.is_open.store(false, Ordering::Relaxed);
        self.stop_accepting.stop();
        let _ = self.acceptor.join();
        self.inboxes.iter().for_each(|inbox| inbox.push(Inbound::Drain));
        let mut result = Ok(());
        for worker in self.workers {
            result = result.and(worker.join().unwrap_or(Err(WorkerError::Panicked)));
        }
        result
    }
}

/// What the listeners' connections go through, by address, and the certificates among it.
#[expect(clippy::type_complexity, reason = "named at its one caller")]
fn entrances(
    config: &Config,
) -> Result<(Vec<(SocketAddr, Entrance)>, Vec<Arc<Certificates>>), ConfigError> {
    let mut entrances = Vec::new();
    for (number, listener) in config.listeners().iter().enumerate() {
        entrances.push((listener.address, Entrance::open(config, number, listener)?));
    }
    let certificates = entrances.iter().filter_map(|(_, entrance)| entrance.certificates());
    let certificates = certificates.collect();
    Ok((entrances, certificates))
}

fn worker(
    config: &Config,
    node: u64,
    seat: Seat,
    log: &Log,
    sources: LogSources,
    census: Arc<Census>,
    workers: u64,
) -> Worker {
    let Seat { poll, inbox, producer, stats } = seat;
    let clock = Clock::start();
    // The rules are those of the views, so everything that they have not applied is read.
    let (applied, rules) = sources.rules();
    let position = applied + 1;
    let tail = log.tail_gapless(position, Arc::clone(&inbox) as Arc<dyn Wake>);
    let share = |bytes: u64| usize::try_from(bytes / workers).unwrap_or(usize::MAX);
    let names = Box::new(|| ClientId::from(format!("auto-{}", Uuid::now_v7()).as_str()));
    let shard = Shard::new(
        producer.id(),
        settings(config, node, rules),
        ShardLimits {
            backlog_messages_max: usize::try_from(config.limits.queued_messages)
                .unwrap_or(usize::MAX),
            backlog_bytes_max: usize::try_from(config.limits.queued_bytes.0).unwrap_or(usize::MAX),
            output_bytes_all_max: share(config.limits.output_bytes.0),
            references_bytes_max: share(config.limits.waiting_reference_bytes.0),
            pinned_bytes_all_max: share(config.limits.waiting_bytes.0),
            input_bytes_all_max: share(config.limits.input_bytes.0),
            ..ShardLimits::default()
        },
        Stage::new(producer.builder(), names),
        position,
        clock.now(),
    );
    let volume_max = Volume {
        sessions: config.limits.sessions,
        retained_messages: config.limits.retained_messages,
        retained_bytes: config.limits.retained_bytes.0,
    };
    let log = log.clone();
    Worker {
        poll,
        inbox,
        log,
        producer,
        tail,
        shard,
        sources,
        clock,
        census,
        stats,
        volume_max,
        charged: Volume::default(),
        lag: Lag::new(config.limits.owed_reference_bytes.0 / OWED_BYTES),
        quorum: Quorum::new(NODE_LOST),
        authenticator: None,
        control: None,
    }
}

fn settings(config: &Config, node: u64, rules: Rules) -> Settings {
    let limits = &config.limits;
    Settings {
        node,
        connect_timeout: limits.connect_timeout.0,
        server_keep_alive: u16::try_from(config.server_keep_alive.0.as_secs()).unwrap_or(u16::MAX),
        packet_bytes_max: u32::try_from(limits.packet_bytes.0).unwrap_or(u32::MAX),
        topic_levels_max: usize::from(limits.topic_levels),
        receive_maximum: limits.receive_maximum,
        inflight_out: limits.inflight_out,
        topic_aliases: limits.topic_aliases,
        subscriptions_max: usize::try_from(limits.subscriptions_per_client).unwrap_or(usize::MAX),
        shared_subscriptions_max: usize::from(limits.shared_subscriptions_per_client),
        subscription_bytes_max: usize::try_from(limits.subscription_bytes_per_client.0)
            .unwrap_or(usize::MAX),
        publish_rate: PublishRate { messages: limits.publish_rate, bytes: limits.publish_bytes.0 },
        user_properties_max: usize::from(limits.user_properties),
        response_information: config.response_information.as_str().into(),
        conceals_rules: config.conceal_access_rules,
        authentication: Authentication {
            has_passwords: !config.password_file.as_os_str().is_empty(),
            takes_anonymous: config.allow_anonymous,
        },
        rules,
        elsewhere: None,
        takes_publishes: true,
        takes_sessions: true,
        shortage: Refusal::Storage,
        takes_persistent: true,
        takes_retained: true,
    }
}
