//! The composition of a node: the one file that names every room.
//!
//! The main thread runs a current-thread tokio runtime for signals, timers and HTTP; the log, the
//! projections and the workers of the gateway are threads of their own, joined by the channels
//! that are handed over here.

mod access;
mod admin;
mod control;
mod counts;
mod data_dir;
mod descriptors;
mod gauges;
mod health;
mod memory;
mod quorum;
mod sys;
mod tokens;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use ledgermq_api::metrics::{InstallError, Metrics};
use ledgermq_api::server::{BindError, Server, Sources};
use ledgermq_api::v1::{Node, Rooms};
use ledgermq_core::access::RuleList;
use ledgermq_gateway::authenticator::PasswordsError;
use ledgermq_gateway::gateway::{Gateway, Seats, StartError};
use ledgermq_gateway::worker::WorkerError;
use ledgermq_log::cluster::members::MQTT_ADDRESSES_MAX;
use ledgermq_log::{Asking, ClusterOptions, Gate, Log, LogThread};
use ledgermq_projections::driver::{self, Driver};
use ledgermq_projections::projector;
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::Limits;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use access::{AclFileError, Warnings};
use data_dir::DataDir;
use descriptors::Descriptors;
use gauges::Gauges;
use memory::{Level, Watch};
use sys::Sys;

/// Bytes of a reference to a message that is owed.
const OWED_BYTES: u64 = 16;
/// Time between two checkpoints of the projections.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(3);
/// How often to look whether the log's tail is folded at the start.
const READY_POLL: Duration = Duration::from_millis(5);
/// So long a node that stops waits for another one to lead.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// How often to look at the memory of the process.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);
/// How often to look whether a room failed.
const FAILURE_POLL: Duration = Duration::from_millis(200);

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Another process works on the data directory.
    #[error("{} is in use by another ledgermq process{}", dir.display(), holder.as_ref().map_or(String::new(), |pid| format!(" (process {pid})")))]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Process number of the holder, if it can be told.
        holder: Option<u32>,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] ledgermq_log::OpenError),
    /// The projections cannot be opened.
    #[error(transparent)]
    Projections(#[from] projector::OpenError),
    /// The access rules cannot be used.
    #[error(transparent)]
    Acl(#[from] AclFileError),
    /// The passwords cannot be used.
    #[error(transparent)]
    Passwords(#[from] PasswordsError),
    /// The gateway cannot be started.
    #[error(transparent)]
    Gateway(#[from] StartError),
    /// A room stopped by itself, and the node with it.
    #[error("the node stopped: {0}")]
    Failed(String),
    /// The log is not what this node promised to others: the next process begins with an empty one,
    /// which the others fill.
    #[error("the node has to begin again: {0}")]
    Again(String),
    /// HTTP has no address.
    #[error(transparent)]
    Api(#[from] BindError),
    /// The metrics of the process are taken.
    #[error(transparent)]
    Metrics(#[from] InstallError),
    /// The process may not have the file descriptors that the configuration needs.
    #[error("{0}")]
    Descriptors(String),
    /// The operating system refused something that every node needs.
    #[error("cannot run")]
    Runtime(#[from] io::Error),
}

/// Runs a node until SIGTERM or SIGINT, and stops it in order.
pub(crate) fn run(config: &Config) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let given_up = || ledgermq_log::given_up(&config.node.data_dir);
    // One that began so and did not get as far as to open its log would begin again for ever.
    let was_given_up = given_up().is_some();
    let has_opened = Cell::new(false);
    runtime.block_on(serve(config, &has_opened)).map_err(|error| match given_up() {
        Some(why) if has_opened.get() || !was_given_up => NodeError::Again(why),
        _ => error,
    })
}

async fn serve(config: &Config, has_opened: &Cell<bool>) -> Result<(), NodeError> {
    let mut config = config.clone();
    let descriptors = Descriptors::claim(&config.log, config.gateway.limits.connections)?;
    config.gateway.limits.connections = descriptors.connections;
    let config = &config;
    let _data_dir = DataDir::open(&config.node.data_dir)?;
    let token = admin::token(&config.node.data_dir)?;
    let metrics = Metrics::install()?;
    let mut signals = Signals::new()?;
    let api = Server::bind(&config.api)?;

    let Some((mut parts, seats)) = open(config, &mut signals).await? else { return Ok(()) };
    has_opened.set(true);
    let level = parts.level.clone();
    let (door, questions) = control::door();
    let seats = seats.with_control(door);
    let tokens = tokens::maker(&config.cluster, &config.node.data_dir, parts.log.clone());
    let ha = control::Ha::new(parts.log.clone()).with(parts.views.clone(), tokens.clone());
    tokio::spawn(control::serve(questions, seats.control_answers(), ha));
    let stats = seats.stats_reader();
    let gauges = Gauges::new(parts.log.clone(), parts.views.clone(), stats, level.clone());
    let gauges = if config.api.vendor_metrics { gauges.with_vendor() } else { gauges };
    let (log, views, warnings) = (parts.log.clone(), parts.views.clone(), parts.warnings.clone());
    let node = Node {
        id: config.node.id.get(),
        version: env!("CARGO_PKG_VERSION"),
        started: log.status().time,
    };
    let counts = counts::asking(seats.counts_reader());
    let rooms = Rooms { log: log.clone(), views: views.clone(), node, counts, tokens };
    let is_insecure = config.cluster.is_open() && config.cluster.insecure;
    admin::write_address(&config.node.data_dir, api.address());
    let sources = Sources {
        rooms,
        token,
        metrics_open: config.api.metrics_open,
        checks: Box::new(move || {
            health::checks(&log, &views, descriptors, &warnings, &level, is_insecure)
        }),
        gather: gauges::gatherer(gauges),
        metrics,
    };
    let api = match config.api.mqtt {
        true => api.mount("/mqtt", seats.upgrade(&config.gateway)),
        false => api,
    };
    tracing::info!(address = %api.address(), "HTTP");
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let api = tokio::spawn(api.run(sources, async {
        let _ = api_stopped.await;
    }));

    let outcome = parts.run(config, seats, &mut signals).await;
    tracing::info!("stopping");
    let _ = stop_api.send(());
    let _ = api.await;
    let stopped = tokio::task::spawn_blocking(move || parts.stop()).await;
    let stopped = stopped.unwrap_or_else(|_| Err(NodeError::Failed("a thread panicked".into())));
    outcome?;
    tracing::info!("stopped");
    stopped
}

/// Opens the rooms, on a thread of its own so that signals are heard meanwhile. None if the node was
/// asked to stop: at once while it asks to be let into a cluster, in order as soon as it can else.
async fn open(config: &Config, signals: &mut Signals) -> Result<Option<(Parts, Seats)>, NodeError> {
    let asking = Asking::default();
    let (opened, mut opening) = oneshot::channel();
    thread::Builder::new().name("open".to_owned()).spawn({
        let (config, asking) = (config.clone(), asking.clone());
        move || {
            let _ = opened.send(Parts::open(&config, asking));
        }
    })?;
    let (mut is_stopping, mut is_reload_due) = (false, false);
    loop {
        if is_stopping && asking.is_under_way() {
            return Ok(None);
        }
        tokio::select! {
            opened = &mut opening => {
                let panicked = |_| NodeError::Failed("a thread panicked".into());
                let (mut parts, seats) = opened.map_err(panicked)??;
                if !is_stopping {
                    parts.is_reload_due = is_reload_due;
                    return Ok(Some((parts, seats)));
                }
                return parts.stop().map(|()| None);
            }
            asked = signals.asked() => match asked {
                Asked::Stop => is_stopping = true,
                Asked::Reload => is_reload_due = true,
            },
            () = tokio::time::sleep(READY_POLL), if is_stopping => {}
        }
    }
}

/// The running rooms of a node, in the order of their start.
struct Parts {
    log: Log,
    log_thread: LogThread,
    projections: Driver,
    views: Reader,
    gateway: Option<Gateway>,
    /// The access rules of the file, until they are those of the log.
    rules: Option<RuleList>,
    warnings: Warnings,
    /// How short of memory the node is.
    level: Level,
    /// The files are to be read again as soon as clients come in.
    is_reload_due: bool,
}

impl Parts {
    /// Opens the log (which recovers) and lets the projections fold its tail: each room is given
    /// the handles of those before it.
    fn open(config: &Config, asking: Asking) -> Result<(Self, Seats), NodeError> {
        let node = config.node.id.get();
        let dir = &config.node.data_dir;
        let rules = access::rules(config)?;
        access::check_passwords(config)?;
        access::advise(config, rules.as_ref());
        let mut options = ledgermq_log::Options::new(dir.join("log"), node);
        options.config = config.log.clone();
        options.seed = process::id().into();
        options.cluster = Some(place(config, asking));
        // The views of a log that makes way for an empty one would be ahead of it.
        let views_file = dir.join("projections.redb");
        options.derived = vec![views_file.clone()];
        let (log, log_thread) = ledgermq_log::open(options)?;
        if log.status().unclean {
            tracing::warn!(
                "the last process was cut off with log.durability = \"os-cache\": what it \
                 acknowledged in its last 50 ms may be lost"
            );
        }
        let seats = Seats::new(&config.gateway, &log)?.with_node_lost(config.cluster.node_lost.0);
        let limits = &config.gateway.limits;
        let mut projections = driver::open(
            views_file,
            projector::Options {
                node,
                start: log.start(),
                limits: Limits {
                    queued_messages: usize::try_from(limits.queued_messages).unwrap_or(usize::MAX),
                    queued_bytes: limits.queued_bytes.0,
                    owed_messages: usize::try_from(limits.owed_reference_bytes.0 / OWED_BYTES)
                        .unwrap_or(usize::MAX),
                },
                checkpoint_interval: CHECKPOINT_INTERVAL,
            },
            &log,
        )?;
        projections.start_rules(rules.clone());
        let views = projections.reader();
        let projections = projections.start(seats.notice_sink());
        let warnings = Warnings::default();
        let parts = Self {
            log,
            log_thread,
            projections,
            views,
            gateway: None,
            rules,
            warnings,
            level: Level::default(),
            is_reload_due: false,
        };
        Ok((parts, seats))
    }

    /// Lets clients in when the log is folded, and returns when the node was asked to stop.
    ///
    /// # Errors
    ///
    /// If a room cannot start or stopped by itself; all of them are to be stopped in either case.
    async fn run(
        &mut self,
        config: &Config,
        seats: Seats,
        signals: &mut Signals,
    ) -> Result<(), NodeError> {
        // Nobody comes in before the rules are in force: of the only member its file's, of several
        // the log's, if it has some.
        let rules = self.rules.take();
        while !self.views.is_ready()
            || !access::are_in_force(&self.views, rules.as_ref(), self.log.is_sole_member())
        {
            self.check()?;
            tokio::select! {
                asked = signals.asked() => match asked {
                    Asked::Stop => return Ok(()),
                    Asked::Reload => self.is_reload_due = true,
                },
                () = tokio::time::sleep(READY_POLL) => {}
            }
        }
        if let Some(warning) = access::difference(&self.views, rules.as_ref()) {
            tracing::warn!("{warning}");
            self.warnings.set(vec![warning]);
        }
        let (failed, mut failures) = mpsc::channel(1);
        let on_stopped = move |error: &WorkerError| {
            // One reason is enough to stop for.
            let _ = failed.try_send(error.to_string());
        };
        let mut sys = Sys::new(self.log.clone(), self.views.clone(), seats.stats_reader());
        let mut watch = Watch::new(
            config.limits.memory_max.0,
            self.log.clone(),
            self.views.clone(),
            seats.stats_reader(),
            self.level.clone(),
        );
        let node = config.node.id.get();
        let gateway =
            Gateway::start(&config.gateway, node, seats, &self.log, &self.views, on_stopped)?;
        for address in gateway.addresses() {
            tracing::info!(%address, "MQTT");
        }
        gateway.publish_sys(&sys.read());
        self.gateway = Some(gateway);
        eprintln!("ready");
        let mut sys_due = tokio::time::interval(sys::INTERVAL);
        sys_due.reset();
        let mut memory_due = tokio::time::interval(MEMORY_INTERVAL);
        if self.is_reload_due {
            self.reload(config);
        }
        loop {
            tokio::select! {
                _ = sys_due.tick() => {
                    if let Some(gateway) = &self.gateway {
                        gateway.publish_sys(&sys.read());
                    }
                }
                _ = memory_due.tick() => {
                    if let (Some(gateway), Some(pressure)) = (&self.gateway, watch.look()) {
                        gateway.set_pressure(pressure);
                    }
                }
                asked = signals.asked() => match asked {
                    Asked::Stop => return Ok(()),
                    Asked::Reload => self.reload(config),
                },
                Some(reason) = failures.recv() => return Err(NodeError::Failed(reason)),
                () = tokio::time::sleep(FAILURE_POLL) => self.check()?,
            }
        }
    }

    /// Looks whether a room stopped by itself: the node must not go on without it.
    fn check(&self) -> Result<(), NodeError> {
        let failed = |reason: &str| Err(NodeError::Failed(reason.to_owned()));
        if let Gate::Stopped { reason } = self.log.gate() {
            // The projections stop the log when they fail.
            return failed(self.views.failure().unwrap_or(&reason));
        }
        if let Some(failure) = self.views.failure() {
            return failed(failure);
        }
        if self.projections.is_finished() {
            return failed("the projection thread ended");
        }
        match self.gateway.as_ref().and_then(Gateway::ended) {
            Some(thread) => failed(&format!("the thread {thread} of the gateway ended")),
            None => Ok(()),
        }
    }

    /// Reads again what may change while the node runs; what cannot be used leaves the old in force,
    /// and is said aloud.
    fn reload(&self, config: &Config) {
        tracing::info!("reading files again");
        let errors = self.gateway.iter().flat_map(Gateway::reload);
        let mut warnings: Vec<String> = errors.map(|error| error.to_string()).collect();
        match access::rules(config) {
            // Another member has the file; to read certificates again is not to lift its rules.
            Ok(None) if !self.log.is_sole_member() => {}
            Ok(rules) => {
                access::advise(config, rules.as_ref());
                self.projections.set_rules(rules);
            }
            Err(error) => warnings.push(error.to_string()),
        }
        for error in &warnings {
            tracing::error!(%error, "not reloaded, the old stays in force");
        }
        tracing::info!(errors = warnings.len(), "files were read again");
        self.warnings.set(warnings);
    }

    /// Stops in the reverse order: the gateway drains, the projections write their checkpoint, the
    /// log closes.
    fn stop(self) -> Result<(), NodeError> {
        hand_over(&self.log);
        let drained = self.gateway.map_or(Ok(()), Gateway::drain);
        self.projections.stop();
        let projected = self.projections.join();
        self.log.stop();
        let logged = self.log_thread.join();
        logged.map_err(|error| NodeError::Failed(error.to_string()))?;
        projected.map_err(|error| NodeError::Failed(error.to_string()))?;
        drained.map_err(|error| NodeError::Failed(error.to_string()))
    }
}

/// Lets another node lead before this one goes, so that publishers elsewhere need not wait for an
/// election. Waits for it, for a second at most.
fn hand_over(log: &Log) {
    log.hand_over();
    for _ in 0..HAND_OVER_MAX.as_millis() / READY_POLL.as_millis() {
        if log.leading().is_none() || log.cluster_status().online <= 1 {
            return;
        }
        thread::sleep(READY_POLL);
    }
}

/// What the log has to know of the node's place in a cluster.
fn place(config: &Config, asking: Asking) -> ClusterOptions {
    let listeners = config.gateway.listeners();
    let host = config.cluster.reached_at().rsplit_once(':').map(|(host, _)| host);
    ClusterOptions {
        asking,
        config: config.cluster.clone(),
        data: config.node.data_dir.clone(),
        token: config.join_token.as_ref().map(ToString::to_string),
        mqtt: listeners
            .iter()
            .take(MQTT_ADDRESSES_MAX)
            .map(|listener| reached_at(listener.address, host))
            .collect(),
    }
}

/// Where clients reach a listener. One on every address is reached on the host that the other nodes
/// are told, if they are told one.
fn reached_at(listener: SocketAddr, host: Option<&str>) -> String {
    match host {
        Some(host) if listener.ip().is_unspecified() => format!("{host}:{}", listener.port()),
        _ => listener.to_string(),
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Stop,
    /// To read the files of the configuration again.
    Reload,
}

/// The signals that ask the node for something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns at the next signal, with what it asks for.
    async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
