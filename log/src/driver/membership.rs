//! How a node comes to its place in a cluster before its log opens: it founds one, asks to be let
//! in, or is a member already.

use std::error::Error;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ledgermq_core::offset::Index;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::cluster::peering::Me;
use crate::cluster::{ClusterId, Identity, Join, Members};
use crate::config::ClusterOptions;
use crate::error::OpenError;
use crate::machine::{Membership, describe};
use crate::peers::{
    ClusterDir, JoinError, Joining, Loaded, PeersOptions, Repair, Security, Sockets, join, open,
};

/// So long a node asks to be let in, if nobody answers.
const ASKING_MAX: Duration = Duration::from_secs(60);
const ASKING_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of what peers sent that wait for the log, at most.
const INBOX_BYTES: usize = 16 << 20;

/// A node's place in a cluster.
pub(super) struct Place {
    dir: ClusterDir,
    loaded: Loaded,
    /// The members, as whoever let this node in knew them.
    told: Option<Arc<Members>>,
    /// The members, as an earlier process knew them.
    known: Option<Arc<Members>>,
    /// Why an earlier process left its log behind.
    why: Option<String>,
    options: ClusterOptions,
    listener: TcpListener,
}

/// Where this node stands; `None` if it is alone and nobody is to join it.
pub(super) fn enter(
    options: ClusterOptions,
    node: u64,
    now_s: u64,
) -> Result<Option<Place>, OpenError> {
    let dir = ClusterDir::new(&options.data);
    let loaded = dir.load().map_err(setting)?;
    let config = &options.config;
    if !config.is_open() {
        if loaded.is_some() || !config.join.is_empty() {
            return Err(OpenError::Setting(
                "this node is a member of a cluster, or is to join one: say with --cluster (or \
                 cluster.address) where the other nodes reach it"
                    .to_owned(),
            ));
        }
        return Ok(None);
    }
    let listener = listen(&config.address)?;
    let known = dir.members().map_err(setting)?.map(Arc::new);
    let why = dir.repair().map_err(setting)?.map(|repair| repair.why);
    let (loaded, told) = match loaded {
        Some(loaded) => (loaded, None),
        None if config.join.is_empty() => {
            let cluster = ClusterId(random()?);
            let identity = Identity { cluster, node, generation: 1, start_min: 0 };
            (dir.found(&identity, now_s).map_err(setting)?, None)
        }
        None => {
            options.asking.set(true);
            let asked = ask(&dir, &options, node);
            options.asking.set(false);
            let joined = asked?;
            let loaded = dir.joined(node, &joined).map_err(setting)?;
            dir.set_members(&joined.members).map_err(setting)?;
            (loaded, Some(Arc::new(joined.members)))
        }
    };
    if loaded.identity.node != node {
        return Err(OpenError::Setting(format!(
            "this data directory belongs to node {} of the cluster {}, not to node {node}",
            loaded.identity.node, loaded.identity.cluster
        )));
    }
    Ok(Some(Place { dir, loaded, told, known, why, options, listener }))
}

impl Place {
    /// What is to be noted of this process in the node's files.
    pub(super) fn notes(&self) -> Notes {
        let members = self.known.as_ref().or(self.told.as_ref()).map_or(0, |known| known.index);
        let (dir, identity) = (self.dir.clone(), self.loaded.identity);
        Notes { dir, identity, members, is_repairing: self.why.is_some() }
    }

    /// Opens the sockets, and says what the log has to know.
    pub(super) fn open(self) -> Result<(Membership, Sockets), OpenError> {
        let Self { loaded, told, known, why, options, listener, .. } = self;
        let Loaded { identity, credentials, authority, key } = loaded;
        let address = options.config.reached_at().to_owned();
        let me = Me {
            cluster: identity.cluster,
            generation: identity.generation,
            node: identity.node,
            boot: u128::from_le_bytes(random()?),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: address.clone(),
        };
        let security = match options.config.insecure {
            true => Security::Plain,
            false => Security::Tls(Box::new(credentials)),
        };
        let peers = PeersOptions { me, listener, security, inbox_bytes: INBOX_BYTES };
        let sockets = open(peers).map_err(setting)?;
        let mqtt = options.mqtt;
        let membership = Membership { identity, address, mqtt, key, authority, told, known, why };
        Ok((membership, sockets))
    }
}

/// What a process notes in the files of `cluster/`.
pub(super) struct Notes {
    dir: ClusterDir,
    identity: Identity,
    /// The last change of the members that is noted.
    members: Index,
    /// A log is being replaced.
    is_repairing: bool,
}

impl Notes {
    /// Notes that a log has begun as that start. Should it be lost, an empty one counts from beyond
    /// it; and that of a founder founds no second cluster of the same name, but waits for the others.
    pub(super) fn began(&mut self, start: u64) -> Result<(), OpenError> {
        let start_min = self.identity.start_min.max(start + 1);
        self.identity = Identity { start_min, ..self.identity };
        self.dir.set_identity(&self.identity).map_err(setting)
    }

    /// Notes the number under which the process writes, if it has taken another, the members, if they
    /// are others, and that the log is in place again. What cannot be written is only missed when the
    /// log is lost. Before a change of several votes is finished it takes those as well who voted before:
    /// by the members before it this node can be spared or not.
    pub(super) fn look(
        &mut self,
        members: &Members,
        start: u64,
        is_in_doubt: bool,
        is_joint: bool,
    ) {
        let noted = if start >= self.identity.start_min {
            self.identity.start_min = start + 1;
            self.dir.set_identity(&self.identity)
        } else if members.index > self.members && !is_joint {
            self.members = members.index;
            self.dir.set_members(members)
        } else if self.is_repairing && !is_in_doubt {
            self.is_repairing = false;
            self.dir.set_repair(None)
        } else {
            return;
        };
        if let Err(error) = noted {
            tracing::warn!(error = describe(&error), "not noted");
        }
    }

    /// Notes that the next process must begin without the log of this one, which began as `start` or
    /// an earlier one.
    pub(super) fn give_up(&mut self, why: &str, start: u64) {
        let repair = Repair { why: why.to_owned(), is_moved: false };
        let noted = self.began(start).map_err(|error| describe(&error));
        let noted = noted
            .and_then(|()| self.dir.set_repair(Some(&repair)).map_err(|error| describe(&error)));
        match noted {
            Ok(()) => tracing::error!(why, "the next start begins with an empty log"),
            Err(error) => tracing::error!(error, "the log cannot be given up"),
        }
    }
}

/// Asks to be let in until somebody answers, for a minute at most.
fn ask(
    dir: &ClusterDir,
    options: &ClusterOptions,
    node: u64,
) -> Result<crate::cluster::Joined, OpenError> {
    let ClusterOptions { config, token, mqtt, .. } = options;
    let token = token.clone().ok_or_else(|| {
        OpenError::Setting(
            "to join a cluster takes a token: run `ledgermq cluster token` on a member and hand it \
             over by --join-token, LEDGERMQ_JOIN_TOKEN or cluster.join_token_file"
                .to_owned(),
        )
    })?;
    let key = dir.node_key().map_err(setting)?;
    let joining = Joining {
        addresses: config.join.clone(),
        join: Join {
            token,
            node,
            request: key.request().map_err(setting)?,
            address: config.reached_at().to_owned(),
            mqtt: mqtt.clone(),
            role: config.role,
        },
        is_insecure: config.insecure,
    };
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    let began = Instant::now();
    loop {
        match join(&joining) {
            Ok(joined) => return Ok(joined),
            Err(error @ JoinError::Unanswered(_)) if began.elapsed() < ASKING_MAX => {
                tracing::warn!(error = describe(&error), "asking again to be let in");
                thread::sleep(ASKING_PAUSE);
            }
            Err(error) => return Err(setting(error)),
        }
    }
}

fn listen(address: &str) -> Result<TcpListener, OpenError> {
    let failed = |what: &dyn Error| {
        OpenError::Setting(format!(
            "cluster.address {address:?} cannot be listened on: {}",
            describe(what)
        ))
    };
    let addresses: Vec<SocketAddr> =
        address.to_socket_addrs().map_err(|error| failed(&error))?.collect();
    TcpListener::bind(&addresses[..]).map_err(|error| failed(&error))
}

fn random() -> Result<[u8; 16], OpenError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| OpenError::Setting("the system has no random numbers".to_owned()))?;
    Ok(bytes)
}

fn setting(error: impl Error) -> OpenError {
    OpenError::Setting(describe(&error))
}
